"""Replacing a folder: at any moment, the old or the new folder is there, and is complete."""

import ctypes
import fcntl
import glob
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BUILT, REPLACED = "report-new", "report-old"


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield an empty folder, which replaces the target unless an exception is raised."""
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    building, held = _begin(target)
    try:
        yield building
        _put_in_place(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        os.close(held)


def tidy(target: Path) -> None:
    """Remove the folders that a killed process left beside a target, or move the old one back."""
    target = target.resolve()
    for old in sorted(target.parent.glob(f".{glob.escape(target.name)}.{REPLACED}-*")):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)
    for left in sorted(target.parent.glob(f".{glob.escape(target.name)}.{BUILT}-*")):
        with suppress(OSError):
            held = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; return False where the system cannot."""
    swap = 2
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        call, arguments = getattr(libc, "renamex_np", None), (*paths, swap)
    else:
        here = -100  # AT_FDCWD
        call = getattr(libc, "renameat2", None)
        arguments = here, paths[0], here, paths[1], swap
    return call is not None and call(*arguments) == 0


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{what}-{secrets.token_hex(4)}")


def _begin(target: Path) -> tuple[Path, int]:
    """Make a folder beside the target, and lock it: folders without a lock are left over."""
    while True:
        building = _beside(target, BUILT)
        building.mkdir()
        held = os.open(building, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        if building.exists():
            return building, held
        os.close(held)  # another process tidied in between


def _put_in_place(building: Path, target: Path) -> None:
    if not target.exists():
        building.rename(target)
    elif not exchange(building, target):
        old = _beside(target, REPLACED)
        target.rename(old)
        try:
            building.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
