"""Messages on standard error."""

import logging
import sys
from typing import NoReturn

USAGE, FAILED = 2, 1


def say(message: str) -> None:
    """Print a message as one line on standard error."""
    sys.stderr.write(f"scaling-study: {' '.join(message.split())}\n")  # whole, from any thread
    sys.stderr.flush()


def fail(message: str, status: int) -> NoReturn:
    """Print a message and exit."""
    say(message)
    raise SystemExit(status)


def log(verbose: bool) -> None:
    """Log warnings or, where asked for, information."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s"
    )
