"""Reading regular files; a named pipe, which could block, is refused."""

import hashlib
import os
import stat
from pathlib import Path

from scaling_study.errors import NotRegularError

CHECKSUM = 16  # hexadecimal digits


def read_bytes(file: str | Path) -> bytes:
    """Return the bytes of a regular file.

    A named pipe is refused, because reading it would wait for a writer. One that a shell passes
    as ``/dev/fd/63`` or ``/dev/stdin`` has a writer, and is read.

    Raises
    ------
    OSError
        If it cannot be read.
    NotRegularError
        If it exists and is not a regular file.
    """
    if str(file).startswith(("/dev/fd/", "/dev/stdin", "/proc/self/fd/")):
        return Path(file).read_bytes()
    held = os.open(file, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(held, "rb") as opened:
        kind = os.fstat(opened.fileno()).st_mode
        if not stat.S_ISREG(kind):
            raise NotRegularError("is not a regular file")
        return opened.read()


def read_text(file: str | Path) -> str:
    """Return the text of a regular file in UTF-8; see `read_bytes`."""
    return read_bytes(file).decode("utf-8")


def checksum_of(data: bytes) -> str:
    """Return sixteen hexadecimal digits that identify these bytes."""
    return hashlib.sha256(data).hexdigest()[:CHECKSUM]
