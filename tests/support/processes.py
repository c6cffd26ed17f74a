"""Processes that run the package as a user does."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRESS = re.compile(r"scaling-study: .*, \d+ s\n")  # lines of a command that takes long
PROGRAMS = ROOT / ".pytest_cache" / "programs"  # compiled, of this suite and of earlier ones


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which this checkout is imported."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "PYTHONPATH": path, "JAX_ENABLE_COMPILATION_CACHE": "true"}
    return variables | dict(more or {})


def call(
    *words: str, cwd: Path, env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program, and return its exit code and output without lines of progress."""
    done = subprocess.run(
        words,
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        check=False,
        **more,
    )
    done.stderr = PROGRESS.sub("", done.stderr)
    return done


def python(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run an interpreter that imports this checkout."""
    return call(sys.executable, *arguments, cwd=cwd, env=env, **more)


def command(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``scaling-study`` with these arguments."""
    return python("-m", "scaling_study", *arguments, cwd=cwd, env=env)


def start_python(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start an interpreter that imports this checkout, and do not wait for it."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def has_signal(pid: int, mask: str, number: int) -> bool:
    """Whether a process has a signal in a mask of Linux's ``/proc/PID/status``."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
    bits = next(line.split()[1] for line in text.splitlines() if line.startswith(mask))
    return bool(int(bits, 16) >> (number - 1) & 1)
