"""The package in a process of its own, as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def python(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run an interpreter that imports this checkout, in a folder of its own."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        **more,
    )


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``scaling-study`` with these arguments."""
    return python("-m", "scaling_study", *arguments, cwd=cwd)
