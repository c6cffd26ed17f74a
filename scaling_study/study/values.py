"""What a single value may be, and how a wrong one is told: in one line, with its place."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scaling_study.errors import StudyError

MOST = 2**31 - 1  # seeds, sizes and updates are counted in 32 bits
LARGEST = sys.float_info.max


@contextmanager
def error_context(
    where: object, *also: type[Exception], raises: type[StudyError] = StudyError
) -> Iterator[None]:
    """Put a place in front of what a `StudyError` says, and keep it to one line.

    Parameters
    ----------
    where : object
        The file, block or key that is being read.
    *also : type of Exception
        What else can only mean bad input here; it becomes a `StudyError` too.
    raises : type of StudyError
        Which one.
    """
    try:
        yield
    except (StudyError, *also) as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        line = " ".join(f"{where}: {what}".splitlines())
        if isinstance(error, StudyError):
            raise type(error)(line) from None
        raise raises(line) from error


def number(value: Any, least: float = -LARGEST, what: str = "a finite number") -> float:
    """Return a finite number of at least ``least`` as a float."""
    return float(_within(value, int | float, least, LARGEST, what))


def positive(value: Any) -> float:
    """Return a finite number above 0 as a float."""
    return number(value, math.ulp(0.0), "a finite number above 0")


def whole(value: Any, least: int = 1) -> int:
    """Return a whole number of at least ``least`` that fits 32 bits."""
    return _within(value, int, least, MOST, f"a whole number from {least} to {MOST}")


def listed(value: Any) -> list[Any]:
    """Return the values of a grid axis, which may be written as one without a list."""
    if not isinstance(value, list):
        return [value]
    if not value:
        raise StudyError("an empty list; give at least one value")
    return value


def _within(value: Any, kind: Any, least: float, most: float, what: str) -> Any:
    # A truth value is an int to Python; NaN is within nothing.
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        raise StudyError(f"must be {what}, not {value!r}")
    return value
