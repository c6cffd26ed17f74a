"""Reading files that somebody else may have made: only regular ones, so that nothing blocks."""

import hashlib
import os
import stat
from pathlib import Path

from scaling_study.errors import NotRegularError

CHECKSUM = 16  # hexadecimal digits
STREAMS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")  # what a shell passes for `<(command)`


def read_bytes(file: str | Path) -> bytes:
    """Return the content of a regular file, or of a stream that the shell passes.

    A named pipe is refused: reading it would wait for a writer that may never come.

    Raises
    ------
    OSError
        If it cannot be read.
    NotRegularError
        If it exists and is not a regular file.
    """
    if str(file).startswith(STREAMS):
        return Path(file).read_bytes()
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise NotRegularError("is not a regular file")
        return opened.read()


def read_text(file: str | Path) -> str:
    """Return the text of a regular file in UTF-8; see `read_bytes`."""
    return read_bytes(file).decode("utf-8")


def checksum_of(data: bytes) -> str:
    """Return the first hexadecimal digits of the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()[:CHECKSUM]
