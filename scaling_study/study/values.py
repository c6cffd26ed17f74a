"""Readers of single values: each returns the value, or raises a `StudyError` of one line."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from scaling_study.errors import StudyError, unknown

Reader = Callable[[Any], Any]
MOST = 2**31 - 1  # seeds, sizes and updates are counted in 32 bits
LARGEST = sys.float_info.max


@contextmanager
def error_context(
    where: object, *also: type[Exception], raises: type[StudyError] = StudyError
) -> Iterator[None]:
    """Prefix the message of a `StudyError` with a place, and keep it to one line.

    Exceptions of the types ``also`` can only mean bad input here: they become ``raises``.

    Examples
    --------
    >>> with error_context("my.toml"), error_context("epochs"):
    ...     whole(0)
    Traceback (most recent call last):
    scaling_study.errors.StudyError: my.toml: epochs: must be a whole number ..., not 0
    """
    try:
        yield
    except (StudyError, *also) as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        line = " ".join(f"{where}: {what}".splitlines())
        if isinstance(error, StudyError):
            raise type(error)(line) from None
        raise raises(line) from error


def number(
    value: Any,
    least: float = -LARGEST,
    what: str = "a finite number",
    most: float = LARGEST,
) -> float:
    """Return a finite number from ``least`` to ``most`` as a float."""
    return float(_in_range(value, int | float, least, most, what))


def positive(value: Any) -> float:
    """Return a finite number above 0 as a float."""
    return number(value, math.ulp(0.0), "a finite number above 0")


def not_negative(value: Any) -> float:
    """Return a finite number of at least 0 as a float."""
    return number(value, 0, "a finite number of at least 0")


def whole(value: Any, least: int = 1) -> int:
    """Return a whole number of at least ``least`` that fits 32 bits."""
    return _in_range(value, int, least, MOST, f"a whole number from {least} to {MOST}")


def _in_range(value: Any, kind: Any, least: float, most: float, what: str) -> Any:
    # A truth value is an int to Python; NaN is within nothing.
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        raise StudyError(f"must be {what}, not {value!r}")
    return value


def of_type(kind: type, what: str) -> Reader:
    """Return a reader of values of a type."""

    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise StudyError(f"must be {what}, not {value!r}")
        return value

    return read


text = of_type(str, "text")
truth = of_type(bool, "true or false")


def one_of(choices: Iterable[str], kind: str = "value") -> Callable[[Any], str]:
    """Return a reader of one of some names."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise unknown(kind, value, choices)
        return value

    return read


def read_known(raw: Mapping[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Return the values of the keys that have a reader, each read by it."""
    values = {}
    for key in raw:
        if key in readers:
            with error_context(key):
                values[key] = readers[key](raw[key])
    return values


def check_keys(raw: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first key that is not known."""
    for key in raw:
        if key not in known:
            raise unknown("key", key, known)


def listed(value: Any) -> list[Any]:
    """Return the values of a grid axis, which may be written as one without a list."""
    if not isinstance(value, list):
        return [value]
    if not value:
        raise StudyError("an empty list; give at least one value")
    return value
