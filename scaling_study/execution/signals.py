"""Signals that end a run: they set a flag, which is checked between chunks.

An exception raised by a handler would be lost where a callback ignores it, as JAX's does during
a garbage collection. The code that waits for a chunk checks the flag, and a thread ends the
process if it does not. No file is ever incomplete, so the process may end at any point.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from scaling_study.errors import CONTINUE

INTERRUPTED = 130
GRACE = 1.0  # seconds in which the main thread may end by itself
SHOW_CURSOR = "\r\x1b[K\x1b[?25h"  # which a bar or a spinner hides, on a line of its own
POLL = 0.1  # seconds between two checks while waiting
ENDING = (signal.SIGINT, signal.SIGTERM)

_received = threading.Event()
_leaving = threading.Lock()


def install() -> None:
    """Make SIGINT and SIGTERM end this process with exit code 130, and a second one at once.

    A signal that the process was started to ignore stays ignored.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    for kind in ENDING:
        if signal.getsignal(kind) != signal.SIG_IGN:
            signal.signal(kind, _note)
    # Python writes to this pipe even while the main thread runs no Python code.
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), name="signals", daemon=True).start()


def check() -> None:
    """Raise a `KeyboardInterrupt` if there was a signal."""
    if _received.is_set():
        raise KeyboardInterrupt


def leave() -> None:
    """End the process at once, without waiting for threads that compute."""
    if not _leaving.acquire(blocking=False):
        time.sleep(60)  # another thread is about to end it
    with suppress(Exception):
        stream: Any = sys.__stderr__  # a bar or a spinner takes the place of sys.stderr
        shown = SHOW_CURSOR if stream.isatty() else ""
        print(f"{shown}scaling-study: interrupted; {CONTINUE}", file=stream, flush=True)
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(INTERRUPTED)


@contextmanager
def noticed() -> Iterator[None]:
    """Make an interruption from the keyboard set the flag that `check` reads.

    A second one raises at once. Outside the main thread, and where the caller handles the
    signal, nothing is changed.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    signal.signal(signal.SIGINT, _note_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _received.clear()


def _note(*_: Any) -> None:
    _received.set()


def _note_once(number: int, frame: Any) -> None:
    if _received.is_set():
        signal.default_int_handler(number, frame)
    _received.set()


def _watch(read: int) -> None:
    """End the process a second after the first signal, or at the second signal."""
    _next_signal(read, None)
    _received.set()
    _next_signal(read, GRACE)
    leave()


def _next_signal(read: int, seconds: float | None) -> None:
    """Wait for a signal in ``ENDING``, for at most so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        if not select.select([read], [], [], left)[0]:
            return
        if os.read(read, 1)[0] in ENDING:
            return
