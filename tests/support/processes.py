"""The package in a process of its own, as a user starts it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHARED_CACHE = "SCALING_STUDY_TESTS_CACHE"  # names a folder, while the suite runs


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which this checkout is what is imported."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = {**os.environ, "PYTHONPATH": path}
    if SHARED_CACHE in own:
        own |= {"JAX_COMPILATION_CACHE_DIR": own[SHARED_CACHE]}
        own |= {"JAX_ENABLE_COMPILATION_CACHE": "true"}
    return own | dict(more or {})


def python(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run an interpreter that imports this checkout, in a folder of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        check=False,
        **more,
    )


def command(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``scaling-study`` with these arguments."""
    return python("-m", "scaling_study", *arguments, cwd=cwd, env=env)
