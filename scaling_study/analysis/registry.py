"""The registry of measures: their functions, what they require, and the values they can have."""

from collections.abc import Callable

import numpy as np

from scaling_study.analysis.confidence import WIDEST
from scaling_study.analysis.requirements import Requirement
from scaling_study.analysis.run_table import Array, Table
from scaling_study.study.conditions import Condition

Measure = Callable[[Table], Array]
Bounds = tuple[float, float]

MEASURES: dict[str, Measure] = {}
REQUIREMENTS: dict[str, Requirement] = {}
BOUNDS: dict[str, Bounds] = {}
# Values are 0, ½ or 1: the mean over seeds is a proportion.
SHARES: set[str] = set()


def measure(
    requires: Requirement | None = None, *, share: bool = False, bounds: Bounds = WIDEST
) -> Callable[[Measure], Measure]:
    """Return a decorator that registers a measure under its function's name.

    Parameters
    ----------
    requires : Requirement, optional
        Of the conditions that it fits.
    share : bool
        Whether it says that something did or did not happen, 0, ½ or 1.
    bounds : tuple of float
        The least and the largest value that it can have.
    """

    def add(function: Measure) -> Measure:
        name = getattr(function, "__name__", "")
        MEASURES[name] = function
        BOUNDS[name] = (0.0, 1.0) if share else bounds
        if share:
            SHARES.add(name)
        if requires is not None:
            REQUIREMENTS[name] = requires
        return function

    return add


def register(
    name: str,
    function: Measure,
    doc: str,
    requires: Requirement | None = None,
    *,
    bounds: Bounds = WIDEST,
) -> None:
    """Register one of a family of measures, which have no functions of their own."""
    function.__name__, function.__doc__ = name, doc
    measure(requires, bounds=bounds)(function)


def unfit(name: str, condition: Condition, record: str) -> str:
    """Return why a measure does not fit the runs of a condition; empty if it does.

    The name is a key of `MEASURES`, with or without a minus sign; ``record`` is what the study
    records.
    """
    requirement = REQUIREMENTS.get(name.removeprefix("-"))
    return requirement(condition, record) if requirement else ""


def column(table: Table, name: str) -> Array:
    """Return a numeric column, NaN if the results do not have it."""
    return table[name] if name in table else np.full(len(table), np.nan)


def log(values: Array) -> Array:
    """Return log10, NaN where it is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log10(values)
    return np.where(np.isfinite(found), found, np.nan)


def log_ratio(values: Array, others: Array) -> Array:
    """Return log10 of a ratio, NaN where it is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return log(values / others)


def log_time(updates: Array) -> Array:
    """Return log10 of a number of updates, infinite where it is NaN, -infinity where it is 0."""
    with np.errstate(divide="ignore"):
        return np.log10(np.where(np.isnan(updates), np.inf, updates))
