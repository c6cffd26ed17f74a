"""What a command is doing: a bar or a spinner on a terminal, lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from scaling_study.cli.console import say

if TYPE_CHECKING:
    from scaling_study.execution.runner import Progress

FIRST, APART = 2.0, 30.0  # seconds before the first line, and at most between two


@contextmanager
def busy(what: str, quiet: bool) -> Iterator[None]:
    """Say what is being done, on standard error, for as long as it takes."""
    if quiet:
        yield
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(what):
            yield
    else:
        with Lines(what):
            yield


class Lines:
    """Prints what is being done after two seconds, and then every thirty."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._start = time.monotonic()
        self._next = self._start + FIRST
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def begun(self) -> bool:
        """Whether enough time has passed for a line."""
        return time.monotonic() - self._start >= FIRST

    def print(self) -> None:
        """Print a line now."""
        now = time.monotonic()
        self._next = now + APART
        with suppress(OSError, ValueError):  # nobody reads them: a run goes on
            say(f"{self.what}, {now - self._start:.0f} s")

    def _watch(self) -> None:
        while not self._ended.wait(max(0.0, self._next - time.monotonic())):
            if time.monotonic() >= self._next:
                self.print()


class RunProgress:
    """The progress of a run, called after each chunk; failures are printed in any case.

    On a terminal it is a bar. Elsewhere it is a line after two seconds, and then at each tenth of
    the runs or every thirty seconds.
    """

    def __init__(self, quiet: bool) -> None:
        terminal = sys.stderr.isatty()
        self.watch: Callable[..., None] = lambda **_: None  # called after each chunk
        self._printed: set[str] = set()
        self._bar = _bar() if terminal and not quiet else None
        self._lines = None if terminal or quiet else Lines("reading, planning and compiling")
        self._tenth = 0

    def __enter__(self) -> Self:
        for shown in (self._bar, self._lines):
            if shown is not None:
                shown.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for shown in (self._bar, self._lines):
            if shown is not None:
                shown.__exit__(None, None, None)

    def __call__(self, progress: "Progress") -> None:
        """Show the progress, and print reasons for failed runs once."""
        self.print(progress.failures)
        self.watch()
        done, runs = progress.runs_done, progress.runs
        rate = f"{progress.runs_trained / progress.seconds:,.0f} runs/s"
        text, tenth = f"{done:,} of {runs:,} runs, {rate}", 10 * done // runs
        if self._bar is not None:
            (task,) = self._bar.task_ids
            self._bar.update(task, completed=done, total=runs, description=text)
        if self._lines is not None:
            self._lines.what = text
            if tenth != self._tenth and self._lines.begun:
                self._lines.print()
            self._tenth = tenth

    def print(self, reasons: list[str]) -> None:
        """Print those of the reasons that have not been printed."""
        for reason in reasons:
            if reason not in self._printed:
                say(reason)
                self._printed.add(reason)


def _bar() -> Any:
    from rich import progress
    from rich.console import Console

    columns = progress.BarColumn(), progress.TimeElapsedColumn(), progress.TimeRemainingColumn()
    text = progress.TextColumn("{task.description}")
    bar = progress.Progress(text, *columns, console=Console(stderr=True))
    bar.add_task("compiling", total=None)
    return bar
