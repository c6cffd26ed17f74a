"""What the command line shows: lines on standard error, and how far a run has come."""

import logging
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from scaling_study.execution.runner import Progress

USAGE, FAILED = 2, 1


def say(message: str) -> None:
    print(f"scaling-study: {' '.join(message.split())}", file=sys.stderr, flush=True)


def fail(message: str, status: int) -> None:
    say(message)
    raise SystemExit(status)


class ProgressBar:
    """A progress bar, where standard error is a terminal; failures are told as they happen."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.told: set[str] = set()
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
        """Show how far the run has come, and what of it has failed."""
        for reason in progress.failures:
            if reason not in self.told:
                say(reason)
                self.told.add(reason)
        rate = f"{progress.runs_trained / progress.seconds:,.0f} runs/s"
        self.bar.update(
            self.task, completed=progress.runs_done, total=progress.runs, rate=rate, visible=True
        )


def log(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s"
    )
