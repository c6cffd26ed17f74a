"""The lock of a results folder: one process writes at a time, and readers can tell that it does."""

import fcntl
import os
import socket
from pathlib import Path

from scaling_study.errors import StudyError
from scaling_study.storage.schema import LOCK


def lock(folder: Path) -> int:
    """Return a file descriptor that holds a folder's lock until it is closed."""
    file = folder / LOCK
    while True:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise StudyError(f"{file}: not a regular file; remove it or choose another folder")
        # Following a link would truncate another file.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _acquire(folder, descriptor)
            if _is_current(file, descriptor):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _acquire(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 200).decode(errors="replace").strip()
        raise StudyError(
            f"{folder}: in use by another run ({owner or 'just started'}); wait for it, or choose"
            " another folder"
        ) from None


def _is_current(file: Path, descriptor: int) -> bool:
    """Whether an open file still has its name: the previous owner may have removed it."""
    try:
        return os.stat(file).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def is_locked(folder: Path) -> bool:
    """Whether a run is writing to a folder."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
