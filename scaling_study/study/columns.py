"""What the columns of a table hold: numbers, categories, or what cannot be trained on.

Pure functions of a data frame. A column that carries no information, such as a constant or a row
number, is left out and named; one that a model could read in more than one way, such as a date or
free text, is refused, because the choice is its owner's.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api import types

from scaling_study.errors import StudyError, unknown

FEWEST_ROWS = 8
MOST_FEATURES = 1_000
MOST_CATEGORIES = 50
MOST_CLASSES = 100
MOST_NUMBERED = 10  # classes that are written as whole numbers
ROWS_A_CLASS = 5  # mean, from which on few whole numbers are taken for classes
COPY = 1e-9  # 1 - |correlation| of a column that is the target in another unit
TASKS = ("regression", "classification")
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}([./-])\d{1,2}\2\d{2,4}([ T].*)?")
_IDENTIFIER = re.compile(r"(^|[ _.-])(id|uuid|guid|index|key|unnamed: \d+)$", re.IGNORECASE)


class Column(NamedTuple):
    """A column that is trained on."""

    name: str
    categories: tuple[str, ...] = ()  # sorted; empty for a number
    missing: int = 0  # rows without a value

    @property
    def is_number(self) -> bool:
        """Whether it holds numbers."""
        return not self.categories


class Target(NamedTuple):
    """The column that is predicted."""

    name: str
    labels: tuple[Any, ...]  # of the classes 0, 1, ..., sorted; empty for a quantity
    inferred: bool  # whether the task was not stated


class Columns(NamedTuple):
    """What a table is read as."""

    features: tuple[Column, ...]
    target: Target
    left_out: Mapping[str, str]  # columns that are not used, and why
    warnings: tuple[str, ...]

    def notes(self) -> list[str]:
        """Return what was inferred and left out, one line each."""
        labels = self.target.labels
        task = f"{len(labels)} classes of {self.target.name!r}" if labels else "regression of "
        task = task if labels else f"{task}{self.target.name!r}"
        other = TASKS[0] if labels else TASKS[1]
        lines = [f"task: {task}"]
        if self.target.inferred:
            lines[0] += f" (inferred; task = {other!r} would change it)"
        return lines + [f"left out: {name!r}, {why}" for name, why in self.left_out.items()]


def read_columns(
    frame: pd.DataFrame, target: str, task: str | None = None, drop: Sequence[str] = ()
) -> Columns:
    """Return what the columns of a table are read as.

    Parameters
    ----------
    frame : DataFrame
        With unique names of columns.
    target : str
        The column to predict.
    task : {"regression", "classification"}, optional
        By default, classes are texts, truth values, two distinct numbers, and at most ten whole
        numbers that occur five times each on average.
    drop : sequence of str
        Columns to leave out.

    Raises
    ------
    StudyError
        If the table cannot be trained on as it is, with the column and what to do.
    """
    names = [str(name) for name in frame.columns]
    for name in (target, *drop):
        if name not in names:
            raise unknown("column", name, names)
    if len(frame) < FEWEST_ROWS:
        rows = "row" if len(frame) == 1 else "rows"
        raise StudyError(
            f"{len(frame)} {rows}; at least {FEWEST_ROWS} are needed to train and test"
        )
    if len(names) > MOST_FEATURES:
        raise StudyError(f"{len(names):,} columns; at most {MOST_FEATURES:,} can be trained on")
    y = _target(frame[target], target, task)
    left_out = dict.fromkeys(drop, "as asked")
    features = []
    for name in names:
        if name == target or name in left_out:
            continue
        found = _column(frame[name], name)
        if isinstance(found, str):
            left_out[name] = found
        else:
            features.append(found)
    if not features:
        raise StudyError("no column is left to train on")
    return Columns(tuple(features), y, left_out, tuple(_copies(frame, features, y)))


# The target -----------------------------------------------------------------------------------


def _target(column: pd.Series, name: str, task: str | None) -> Target:
    missing, rows = int(column.isna().sum()), len(column)
    if missing:
        raise StudyError(
            f"target {name!r} is missing in {missing:,} of {rows:,} rows; remove these rows"
        )
    values, inferred = column.unique(), task is None
    if len(values) == 1:
        raise StudyError(f"target {name!r} is {values[0]} in every row; it must vary")
    number = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    if task is None:
        task = TASKS[1] if not number or _are_classes(values, rows) else TASKS[0]
    if task == TASKS[0]:
        if not number:
            raise StudyError(f"target {name!r} is not a number; a regression needs one")
        _refuse_infinite(column, f"target {name!r}")
        return Target(name, (), inferred)
    if types.is_datetime64_any_dtype(column):
        raise StudyError(f"target {name!r} holds dates; predict a number or a label")
    if len(values) > MOST_CLASSES:
        kind = "number" if number else "label"
        raise StudyError(
            f"target {name!r} has {len(values):,} distinct {kind}s, and at most {MOST_CLASSES}"
            f" classes are trained{'; write task = ' + repr(TASKS[0]) if number else ''}"
        )
    if len(values) > rows / 2:
        raise StudyError(
            f"target {name!r} has {len(values):,} distinct labels in {rows:,} rows; a class needs"
            " several rows to be learned and tested"
        )
    labels = sorted(values.tolist(), key=lambda v: v if number else str(v))
    return Target(name, tuple(labels), inferred)


def _are_classes(values: Any, rows: int) -> bool:
    whole = np.equal(np.mod(values.astype(float), 1), 0).all()
    few = len(values) <= MOST_NUMBERED and rows >= ROWS_A_CLASS * len(values)
    return len(values) == 2 or bool(whole and few)


# The features ---------------------------------------------------------------------------------


def _column(column: pd.Series, name: str) -> Column | str:
    """Return how a column is trained on, or why it is left out."""
    missing, rows = int(column.isna().sum()), len(column)
    known = column.dropna()
    if known.empty:
        return "missing in every row"
    distinct = known.nunique()
    if distinct == 1:
        return f"constant, {known.iloc[0]}"
    if types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
        raise _refusal(name, "holds dates")
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        if _is_row_number(known, name) and not missing:
            return "an identifier, another whole number in every row"
        _refuse_infinite(known, f"column {name!r}")
        return Column(name, (), missing)
    texts = known.astype(str)
    if texts.str.fullmatch(_DATE).mean() > 0.9:
        raise _refusal(name, f"holds dates, such as {texts.iloc[0]}")
    unlike = distinct > MOST_CATEGORIES or (distinct > rows / 2 and distinct > 10)
    if unlike and distinct == len(known) and not texts.str.contains(" ").any():
        return f"an identifier, another text in every row, such as {_short(texts.iloc[0])}"
    if unlike:
        raise _refusal(
            name, f"holds free text: {distinct:,} distinct texts, such as {_short(texts.iloc[0])}"
        )
    return Column(name, tuple(sorted(texts.unique().tolist())), missing)


def _is_row_number(known: pd.Series, name: str) -> bool:
    values = known.to_numpy(float)
    if known.nunique() < len(known) or not np.equal(np.mod(values, 1), 0).all():
        return False
    counts = values.min() in (0, 1) and np.ptp(values) == len(values) - 1
    return bool(counts or _IDENTIFIER.search(name))


def _refusal(name: str, what: str) -> StudyError:
    return StudyError(
        f"column {name!r} {what}; turn it into numbers or categories, or leave it out with"
        f" drop = [{name!r}]"
    )


def _refuse_infinite(column: pd.Series, what: str) -> None:
    count = int(np.isinf(column.to_numpy(float, na_value=np.nan)).sum())
    if count:
        raise StudyError(f"{what} is infinite in {count:,} of {len(column):,} rows")


def _short(text: str) -> str:
    return repr(text if len(text) <= 30 else f"{text[:27]}...")


# Leaks ----------------------------------------------------------------------------------------


def _copies(frame: pd.DataFrame, features: Sequence[Column], target: Target) -> list[str]:
    """Return a warning for each column that is the target in another form."""
    copies = [column.name for column in features if _is_copy(frame, column, target)]
    return [
        f"column {name!r} is the target {target.name!r} in another form; held-out scores mean"
        f" nothing with it, leave it out with drop = [{name!r}]"
        for name in copies
    ]


def _is_copy(frame: pd.DataFrame, column: Column, target: Target) -> bool:
    pair = frame[[column.name, target.name]].dropna()
    if len(pair) < FEWEST_ROWS:
        return False
    x, y = pair[column.name], pair[target.name]
    if not target.labels:
        if not column.is_number:
            return False
        a, b = (v.to_numpy(float) - v.to_numpy(float).mean() for v in (x, y))
        size = np.sqrt((a @ a) * (b @ b))
        return bool(size > 0 and abs(a @ b) >= (1 - COPY) * size)
    pairs = pair.astype(str).drop_duplicates()
    return len(pairs) == x.nunique() == y.nunique() == len(target.labels)
