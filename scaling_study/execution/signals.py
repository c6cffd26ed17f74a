"""Signals that end a run: noticed whatever the process is doing, acted on between chunks.

An exception raised by a handler is lost where a callback ignores it, as JAX's at a garbage
collection does. A handler here raises nothing: it is noted that a signal came, whoever waits
for a chunk looks, and a thread ends the process if nobody does. Files are written whole or
not at all, so that a process may end anywhere.
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

CONTINUE = "interrupted; what is stored is whole, run the same command again to continue"
INTERRUPTED = 130
GRACE = 1.0  # seconds in which the main thread may end by itself
POLL = 0.1  # seconds between two looks of whoever waits
ENDING = (signal.SIGINT, signal.SIGTERM)

_received = threading.Event()
_leaving = threading.Lock()


def install() -> None:
    """Have SIGINT and SIGTERM end this process with exit code 130, a second one at once.

    A signal that the process was started to ignore stays ignored.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    for kind in ENDING:
        if signal.getsignal(kind) != signal.SIG_IGN:
            signal.signal(kind, _note)
    # The system's own handler writes there, also while the main thread runs no Python.
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), name="signals", daemon=True).start()


def check() -> None:
    """Raise a `KeyboardInterrupt` if a signal came.

    Raises
    ------
    KeyboardInterrupt
    """
    if _received.is_set():
        raise KeyboardInterrupt


def leave(message: str = CONTINUE) -> None:
    """End the process at once: threads that compute would hold it for as long as they do."""
    if not _leaving.acquire(blocking=False):
        time.sleep(60)  # another thread is about to end it
    with suppress(Exception):
        print(f"scaling-study: {message}", file=sys.stderr, flush=True)
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(INTERRUPTED)


@contextmanager
def noticed() -> Iterator[None]:
    """Note an interruption from the keyboard, as `check` tells, in place of raising it anywhere.

    A second one raises at once. Outside of a process's main thread, and where somebody else
    handles the signal, nothing is changed.
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
    """End the process some time after its first signal, or at its second."""
    _next_signal(read, None)
    _received.set()
    _next_signal(read, GRACE)
    leave()


def _next_signal(read: int, seconds: float | None) -> None:
    """Wait until a signal comes that is to end the process, or for so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        if not select.select([read], [], [], left)[0]:
            return
        if os.read(read, 1)[0] in ENDING:
            return
