"""Messages on standard error, and the progress bar of a run."""

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from scaling_study.execution.runner import Progress

USAGE, FAILED = 2, 1


def say(message: str) -> None:
    """Print a message as one line on standard error."""
    print(f"scaling-study: {' '.join(message.split())}", file=sys.stderr, flush=True)


def fail(message: str, status: int) -> NoReturn:
    """Print a message and exit."""
    say(message)
    raise SystemExit(status)


def log(verbose: bool) -> None:
    """Log warnings or, where asked for, information."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s"
    )


class ProgressBar:
    """A progress bar if standard error is a terminal; failures are printed in any case."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.printed: set[str] = set()
        self.watch: Callable[..., None] = lambda **_: None  # called after each chunk
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} runs"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet or not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("training", total=None, rate="", visible=False)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def __call__(self, progress: "Progress") -> None:
        """Show the progress, and print reasons for failed runs once."""
        self.print(progress.failures)
        self.watch()
        rate = f"{progress.runs_trained / progress.seconds:,.0f} runs/s"
        self.bar.update(
            self.task, completed=progress.runs_done, total=progress.runs, rate=rate, visible=True
        )

    def print(self, reasons: list[str]) -> None:
        """Print those of the reasons that have not been printed."""
        for reason in reasons:
            if reason not in self.printed:
                say(reason)
                self.printed.add(reason)
