"""Messages on standard error."""

import logging
import sys
from typing import NoReturn

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
