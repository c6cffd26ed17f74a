"""Checks of a problem and its rows: finite numbers, valid labels, and a target that varies.

    draw(seed) ─► with_numbers (float64) ─► stack (values checked) ─► encode

A study checks a few of its seeds when it is expanded, so that bad data are refused before
anything is trained; every other seed is checked when its rows are drawn.
"""

import numbers
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling_study.errors import DataError, StudyError, unknown
from scaling_study.study.problems import Problem, Rows
from scaling_study.study.values import error_context

Array = NDArray[np.float64]
Draw = Callable[[int], Rows]
HELD_OUT = 1_000_000  # offset of the seeds of held-out rows from those that are trained on
MISSING = ("NAType", "NaTType")  # pandas' missing values, by the name of their type
ROUNDING = 4 * np.finfo(np.float64).eps  # of a target's magnitude, within which it is constant


# From whatever a problem returns to float64 ---------------------------------------------------


def with_numbers(problem: Problem) -> Problem:
    """Return a problem whose rows are float64 arrays of the right shapes, or a `DataError`."""

    def converted(function: Draw, name: str) -> Draw:
        return lambda seed: _as_numbers(problem, function(seed), f"{name}({seed})")

    held_out = problem.held_out and converted(problem.held_out, "held_out")
    place: Any = problem.scaled_feature
    if isinstance(place, str):
        if place not in problem.columns:
            raise unknown("scaled_feature", place, problem.columns)
        place = problem.columns.index(place)
    draw = converted(problem.draw, "draw")
    return problem._replace(draw=draw, held_out=held_out, scaled_feature=place)


def _as_numbers(problem: Problem, rows: Any, call: str) -> Rows:
    """Return rows as float64 arrays (n_samples, n_features) and (n_samples,).

    Accepts arrays, lists, data frames, sparse matrices and masked arrays of integers, truth
    values, floats or other real numbers. Missing values become NaN, which `stack` refuses.
    """
    if not isinstance(rows, tuple | list) or len(rows) != 2:
        what = f"{len(rows)} values" if isinstance(rows, tuple | list) else type(rows).__name__
        raise DataError(f"{call} returns {what}, not the pair u, noise")
    names = problem.columns or tuple(map(str, getattr(rows[0], "columns", ())))
    u, noise = (_array(x, f"{call}: {name}") for x, name in zip(rows, ("u", "noise"), strict=True))
    _check_shapes(u, noise, call)
    if u.dtype != np.float64:
        columns = [_numbers(column, column_of(names, j), call) for j, column in enumerate(u.T)]
        u = np.stack(columns, axis=-1)
    if len(names) > len(problem.columns):  # names that only this frame knows
        _check_finite(names, u, call)
    return u, _numbers(noise, "target", call)


def column_of(names: Sequence[str], column: int) -> str:
    """Return how a message names a column: by its name, or by its number, counted from 0."""
    return f"column {names[column]!r}" if column < len(names) else f"column {column}"


def _array(values: Any, what: str) -> NDArray[Any]:
    if hasattr(values, "toarray"):  # a sparse matrix
        values = values.toarray()
    if isinstance(values, np.ma.MaskedArray):
        values = np.where(np.ma.getmaskarray(values), None, values.data.astype(object))
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise DataError(f"{what} is not an array of numbers: {error}") from None
    # In an array of a list, one text would turn every number into text.
    return np.asarray(values, object) if isinstance(values, list | tuple) else array


def _check_shapes(u: NDArray[Any], noise: NDArray[Any], call: str) -> None:
    if u.ndim != 2:
        raise DataError(f"{call}: u has shape {u.shape}, not (samples, d)")
    for what, count in zip(("rows", "columns"), u.shape, strict=True):
        if not count:
            raise DataError(f"{call}: u has shape {u.shape}, so that no {what} are left")
    if noise.ndim != 1:
        raise DataError(f"{call}: noise has shape {noise.shape}, not ({len(u)},)")
    if len(noise) != len(u):
        raise DataError(f"{call}: u has {len(u)} rows and noise has {len(noise)}")


def _numbers(column: NDArray[Any], what: str, call: str) -> Array:
    """Return a column as float64, or raise with the count of its values that are not numbers."""
    if column.dtype.kind in "biuf":
        return column.astype(np.float64, copy=False)
    values = [_number(value) for value in column]
    wrong = [value for value, found in zip(column, values, strict=True) if found is None]
    if wrong:
        first, count = wrong[0], f"{len(wrong)} of {len(column)} rows of {call}"
        kind = "text" if isinstance(first, str | bytes) else type(first).__name__
        example = repr(str(first)) if isinstance(first, str) else str(first)
        raise DataError(
            f"{what}: {kind} in {count}, such as {example[:40]}; every column must be numeric"
        )
    return np.array(values, np.float64)


def _number(value: Any) -> float | None:
    """Return a value as a float, NaN if it is missing, or None if it is not a real number."""
    if value is None or type(value).__name__ in MISSING:
        return np.nan
    if not isinstance(value, numbers.Real | np.bool_ | Decimal):
        return None
    try:
        return float(value)
    except OverflowError:
        return np.inf


# Values ---------------------------------------------------------------------------------------


def stack(
    problem: Problem,
    rows: Draw,
    seeds: Sequence[int],
    shape: tuple[int, int] | None = None,
    *,
    name: str = "draw",
    trained: bool = True,
) -> Rows:
    """Return the rows of several seeds, (S, N, d) and (S, N), after checking every value.

    ``rows(seed)`` is a function of a problem from `with_numbers`, which messages call ``name``.
    Every seed must have the same shape, that of the first seed if none is given. Rows that are
    held out, not trained on, may be of one class.

    Raises
    ------
    DataError
        With the seed, the column and the count of rows that are wrong.
    """
    pairs = [rows(seed) for seed in seeds]
    shape = shape or pairs[0][0].shape
    for seed, (u, _) in zip(seeds, pairs, strict=True):
        if u.shape != shape:
            raise DataError(
                f"{name}({seed}) has {u.shape[0]} rows of {u.shape[1]} columns, not {shape[0]} of"
                f" {shape[1]} as another seed; every seed must have as many"
            )
    u, noise = np.stack([u for u, _ in pairs]), np.stack([noise for _, noise in pairs])
    if not _valid(problem, u, noise, trained):
        for seed, pair in zip(seeds, pairs, strict=True):
            _check_values(problem, *pair, f"{name}({seed})", trained)
    return u, noise


def _valid(problem: Problem, u: Array, noise: Array, trained: bool) -> bool:
    """Say of a stack of data sets at once what `_check_values` says of each of them."""
    if not (np.isfinite(u).all() and np.isfinite(noise).all()):
        return False
    y = _target(problem, u, noise)
    if not np.isfinite(y).all() or (problem.classes and not _is_label(y, problem.classes).all()):
        return False
    return bool(_varies(y).all()) or bool(problem.classes and not trained)


def _check_values(problem: Problem, u: Array, noise: Array, call: str, trained: bool) -> None:
    """Raise a `DataError` with the column and the count, unless the rows can be learned from."""
    _check_finite(problem.columns, u, call)
    _check_column(noise, "target", call)
    y = _target(problem, u, noise)
    _check_column(y, "target, signal(u) + noise", call)
    rows, classes = len(y), problem.classes
    wrong = y[~_is_label(y, classes)] if classes else y[:0]
    if len(wrong):
        raise DataError(
            f"target: no label from 0 to {classes - 1} in {len(wrong)} of {rows} rows of {call},"
            f" such as {wrong[0]:g}; labels must be 0 to classes - 1"
        )
    if not _varies(y) and (trained or not classes):
        what = f"class {y[0]:g}" if classes else f"the same value, {y[0]:g},"
        raise DataError(f"target: {what} in {rows} of {rows} rows of {call}; it must vary")


def _target(problem: Problem, u: Array, noise: Array) -> Array:
    with np.errstate(all="ignore"):
        return problem.law(u) + noise


def _is_label(y: Array, classes: int) -> NDArray[np.bool_]:
    return (y == np.floor(y)) & (y >= 0) & (y < classes)


def _varies(y: Array) -> NDArray[np.bool_]:
    low, high = y.min(axis=-1), y.max(axis=-1)
    return high - low > ROUNDING * np.maximum(np.abs(low), np.abs(high))


def _check_finite(names: Sequence[str], u: Array, call: str) -> None:
    bad = np.flatnonzero(~np.isfinite(u).all(axis=0))
    if len(bad):
        others = len(bad) - 1
        more = f" (and in {others} more column{'s' * (others > 1)})" if others else ""
        _check_column(u[:, bad[0]], column_of(names, int(bad[0])), call, more)


def _check_column(values: Array, what: str, call: str, more: str = "") -> None:
    counts = {"NaN": int(np.isnan(values).sum()), "infinity": int(np.isinf(values).sum())}
    found = [f"{kind} in {count}" for kind, count in counts.items() if count]
    if found:
        raise DataError(
            f"{what}: {' and '.join(found)} of {len(values)} rows of {call}{more};"
            " every value must be a finite number"
        )


# Before anything is trained -------------------------------------------------------------------


def check_parts(problem: Problem) -> tuple[int, int]:
    """Return the number of samples and of features of a problem, or refuse a part of it."""
    u, _ = tried(problem.draw, "draw")(0)
    samples, features = u.shape
    _check_vector(problem, "reference_scale", features, "finite and above 0", least=0)
    if problem.signal is None:
        _check_vector(problem, "coefficients", features, "finite where there is no signal")
    else:
        _check_shape("coefficients", problem.coefficients, (features,))
        with np.errstate(all="ignore"):  # values that are not finite are counted by `stack`
            y = problem.law(np.stack([u, u]))
        _check_shape("signal(u) for u of (2, samples, d)", y, (2, samples))
    _check_counts(problem, features)
    return samples, features


def _check_vector(
    problem: Problem, name: str, features: int, rule: str, least: float = -np.inf
) -> None:
    _check_shape(name, getattr(problem, name), (features,))
    with error_context(name, TypeError, ValueError):
        values = np.asarray(getattr(problem, name), np.float64)
        for feature in np.flatnonzero(~(np.isfinite(values) & (values > least))):
            raise StudyError(f"must be {rule}, not {values[feature]:g} of feature {feature}")


def _check_shape(what: str, values: Any, shape: tuple[int, ...]) -> None:
    if np.shape(values) != shape:
        raise StudyError(f"{what} has shape {np.shape(values)}, not {shape}")


def _check_counts(problem: Problem, features: int) -> None:
    place, classes, columns = problem.scaled_feature, problem.classes, problem.columns
    if not _is_whole(place) or place not in range(features):
        raise StudyError(f"scaled_feature is {place!r}, of {features} features, counted from 0")
    if not _is_whole(classes) or classes < 0 or classes == 1:
        raise StudyError(
            f"classes is {classes!r}; write the number of classes, at least 2, or 0 for a quantity"
        )
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise StudyError(f"columns must be a tuple of text, not {columns!r}")
    if columns and len(columns) != features:
        raise StudyError(f"columns has {len(columns)} names, for {features} features")
    if problem.scaled and len(problem.scaled) != features:
        raise StudyError(f"scaled has {len(problem.scaled)} values, for {features} features")
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise StudyError(f"columns has the name {twice[0]!r} more than once")


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_seeds(problem: Problem, seeds: Sequence[int], *, importances: bool = False) -> None:
    """Raise a `DataError` unless these seeds' rows can be trained on and scored.

    ``importances`` says whether a problem without `held_out` must draw fresh rows.
    """
    draw = tried(problem.draw, "draw")
    u, noise = stack(problem, draw, seeds)
    again = draw(seeds[0])
    if not all(map(np.array_equal, again, (u[0], noise[0]))):
        raise DataError(
            f"draw({seeds[0]}) returns other rows each time that it is called; it must be a"
            " function of its seed, such as of numpy.random.default_rng(seed)"
        )
    if problem.held_out is not None:
        held_out = tried(problem.held_out, "held_out")
        found, _ = stack(problem, held_out, seeds, name="held_out", trained=False)
        if found.shape[-1] != u.shape[-1]:
            raise DataError(
                f"held_out({seeds[0]}) has {found.shape[-1]} columns, and draw has {u.shape[-1]}"
            )
    elif importances and all(map(np.array_equal, draw(HELD_OUT + seeds[0]), again)):
        raise DataError(
            "draw returns the same rows for every seed, so that none are held out; importances"
            " need Problem(held_out=...)"
        )


def tried(rows: Draw, name: str) -> Draw:
    """Return a function of the seed that turns any exception of ``rows`` into a `DataError`."""

    def call(seed: int) -> Rows:
        try:
            return rows(seed)
        except StudyError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            raise DataError(f"{name}({seed}) raises {what}") from error

    return call
