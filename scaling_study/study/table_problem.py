"""A data frame as a problem: what is fitted to the training rows of a seed's split alone.

    frame ─► split by seed ─► impute, encode (fitted to the training rows) ─► float64

The transformers are scikit-learn's. A seed names a split. The law of the target is unknown, so
that only design U is defined, as for the data sets of `scaling_study.study.datasets`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.errors import StudyError, unknown
from scaling_study.study.columns import MOST_FEATURES, Column, Columns, read_columns
from scaling_study.study.datasets import TEST_SHARE, of_unknown_law, split
from scaling_study.study.problems import Problem, Rows

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Split = Callable[[int], tuple[Index, Index]]
MISSING = "missing"  # the category of a missing one
SHUFFLED = "shuffled "  # begins the name of the control column
CONTROL_STREAM, GROUP_STREAM = 10, 11
KEPT_SPLITS = 32


class Feature(NamedTuple):
    """One input of a model."""

    name: str
    column: str  # of the table; empty for an indicator of missing values
    is_number: bool


def of_frame(
    frame: pd.DataFrame,
    *,
    target: str,
    task: str | None = None,
    scale: Sequence[str] = (),
    drop: Sequence[str] = (),
    groups: str | None = None,
    time: str | None = None,
    test_share: float = TEST_SHARE,
    rows: int | None = None,
    scaled_feature: str | None = None,
    control: str | None = None,
) -> Problem:
    """Return the problem of predicting a column of a frame from the others.

    Parameters are those of `Problem.from_frame`, and ``control``, a column of numbers of which a
    shuffled copy, which is irrelevant, is added as a feature.
    """
    aside = [name for name in (groups, time) if name is not None and name != target]
    columns = read_columns(frame, target, task, list(dict.fromkeys([*drop, *aside])))
    features = features_of(columns.features, control)
    place = _place(features, scaled_feature)
    y = labels_of(frame[target], columns)
    share = values_of(frame, columns)
    splits = _limited(_splits(frame, y, columns, groups, time, test_share), rows)
    if control is not None:
        columns = columns._replace(
            features=(*columns.features, _copy_of(columns.features, control))
        )

    @lru_cache(maxsize=KEPT_SPLITS)
    def halves(seed: int) -> tuple[Rows, Rows]:
        trained, tested = splits(seed)
        table = share if control is None else _with_control(share, control, seed)
        u, new = encode(columns.features, table, trained, tested)
        for part in (u, new):
            part.flags.writeable = False
        return (u, y[trained]), (new, y[tested])

    trained, tested = splits(0)
    return of_unknown_law(
        halves,
        len(features),
        place,
        classes=len(columns.target.labels),
        columns=tuple(feature.name for feature in features),
        scaled=_scaled(features, columns, scale),
        overlap=len(tested) / len(trained),
        notes=tuple(columns.notes()),
        warnings=columns.warnings,
    )


# Columns to features --------------------------------------------------------------------------


def features_of(columns: Sequence[Column], control: str | None = None) -> list[Feature]:
    """Return the features of columns, in the order of `encode`."""
    if control is not None:
        columns = [*columns, _copy_of(columns, control)]
    numbers = [column for column in columns if column.is_number]
    found = [Feature(column.name, column.name, True) for column in numbers]
    for column in columns:
        kept = categories_of(column)
        kept = kept[1:] if len(kept) == 2 else kept
        found += [Feature(f"{column.name}={value}", column.name, False) for value in kept]
    found += [Feature(f"{c.name} {MISSING}", "", False) for c in numbers if c.missing]
    if len(found) > MOST_FEATURES:
        raise StudyError(
            f"{len(found):,} features with one for each category; at most {MOST_FEATURES:,} can"
            " be trained on"
        )
    name, count = Counter(feature.name for feature in found).most_common(1)[0]
    if count > 1:
        raise StudyError(f"the feature {name!r} would occur twice; rename a column")
    return found


def categories_of(column: Column) -> tuple[str, ...]:
    """Return the categories of a column with that of missing values, none of a number."""
    lost = column.missing and column.categories and MISSING not in column.categories
    return (*column.categories, MISSING) if lost else column.categories


def _copy_of(columns: Sequence[Column], control: str) -> Column:
    known = {column.name: column for column in columns if column.is_number}
    if control not in known:
        raise unknown("column of numbers", control, known)
    return Column(SHUFFLED + control, (), known[control].missing)


def _place(features: Sequence[Feature], name: str | None) -> int:
    names = [feature.name for feature in features]
    if name is None:
        return 0
    if name not in names:
        raise unknown("scaled_feature", name, names)
    return names.index(name)


def _scaled(
    features: Sequence[Feature], columns: Columns, scale: Sequence[str]
) -> tuple[bool, ...]:
    """Return which features a scaler scales: numbers, or those of the columns that are named."""
    if not scale:
        return tuple(feature.is_number for feature in features)
    known = [column.name for column in columns.features]
    for name in scale:
        if name not in known:
            raise unknown("scale", name, known)
    return tuple(feature.column.removeprefix(SHUFFLED) in scale for feature in features)


# Rows to numbers ------------------------------------------------------------------------------


def labels_of(column: pd.Series, columns: Columns) -> Array:
    """Return the target as float64: the quantity, or the number of its class."""
    labels = columns.target.labels
    if not labels:
        return column.to_numpy(np.float64)
    codes = {label: float(code) for code, label in enumerate(labels)}
    return np.array([codes[value] for value in column.tolist()])


def values_of(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the columns that are trained on: float64, and text of categories."""
    parts = {}
    for column in columns.features:
        values = frame[column.name]
        if column.is_number:
            parts[column.name] = values.to_numpy(np.float64, na_value=np.nan)
        else:
            parts[column.name] = values.astype(object).where(values.isna(), values.astype(str))
    return pd.DataFrame(parts)


def _with_control(table: pd.DataFrame, control: str, seed: int) -> pd.DataFrame:
    order = np.random.default_rng([CONTROL_STREAM, seed]).permutation(len(table))
    return table.assign(**{SHUFFLED + control: table[control].to_numpy()[order]})


def encode(
    columns: Sequence[Column], table: pd.DataFrame, trained: Index, tested: Index
) -> tuple[Array, Array]:
    """Return training and held-out rows as numbers, by what is fitted to the training rows.

    A category that no training row has is as if it were unknown: its feature is 0.
    """
    transformer = transformer_of(columns)
    u = np.array(transformer.fit_transform(table.iloc[trained]), np.float64)
    new = np.array(transformer.transform(table.iloc[tested]), np.float64)
    first = sum(column.is_number for column in columns)
    new[:, first:] *= u[:, first:].any(axis=0)
    return u, new


def transformer_of(columns: Sequence[Column]) -> Any:
    """Return scikit-learn's transformer of columns to features, not fitted."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import MissingIndicator, SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    numbers = [column.name for column in columns if column.is_number]
    texts = [column for column in columns if not column.is_number]
    lost = [column.name for column in columns if column.is_number and column.missing]
    categories: Any = [list(categories_of(column)) for column in texts]
    encoder = OneHotEncoder(
        categories=categories,
        drop="if_binary",
        sparse_output=False,
    )
    fill = SimpleImputer(strategy="constant", fill_value=MISSING, missing_values=np.nan)
    parts: list[Any] = [
        ("numbers", SimpleImputer(strategy="median", keep_empty_features=True), numbers),
        ("categories", make_pipeline(fill, encoder), [column.name for column in texts]),
        ("missing", MissingIndicator(features="all"), lost),
    ]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)


# Splits ---------------------------------------------------------------------------------------


def _splits(
    frame: pd.DataFrame,
    y: Array,
    columns: Columns,
    groups: str | None,
    time: str | None,
    test_share: float,
) -> Split:
    """Return the training and held-out rows of a seed, as many for every seed."""
    for name in (groups, time):
        if name is not None and name not in frame:
            raise unknown("column", name, frame.columns)
    if groups is not None and time is not None:
        raise StudyError("split by groups or by time, not by both")
    if groups is not None:
        return _by_group(frame[groups].astype(str).to_numpy(), test_share)
    if time is not None:
        order = np.argsort(frame[time].to_numpy(), kind="stable")
        first = len(y) - max(1, round(test_share * len(y)))
        return lambda seed: (order[:first], order[first:])
    counts = Counter(y.tolist()).values() if columns.target.labels else [0]
    tested = max(1, round(test_share * len(y)))
    if min(counts) >= 2 and tested >= len(counts):
        return lambda seed: _stratified(y, tested, seed)
    return lambda seed: split(seed, len(y), test_share)


def _stratified(y: Array, tested: int, seed: int) -> tuple[Index, Index]:
    from sklearn.model_selection import StratifiedShuffleSplit

    splitter = StratifiedShuffleSplit(n_splits=1, test_size=tested, random_state=seed)
    return next(splitter.split(y, y))


def _by_group(groups: NDArray[Any], test_share: float) -> Split:
    """Return splits in which no group is both trained on and held out.

    Every seed has as many rows: some rows are left out where groups differ in size.
    """
    names, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rows = len(groups)
    tested = max(1, round(test_share * rows))
    trained = rows - tested - int(sizes.max()) + 1
    if len(names) < 2 or trained < tested:
        raise StudyError(
            f"{len(names)} groups, the largest of {sizes.max()} of {rows} rows, are too few to"
            " hold some out"
        )

    def of_seed(seed: int) -> tuple[Index, Index]:
        random = np.random.default_rng([GROUP_STREAM, seed])
        order = random.permutation(len(names))
        held = order[: np.searchsorted(np.cumsum(sizes[order]), tested) + 1]
        is_held = np.isin(codes, held)
        shuffled = random.permutation(rows)
        return shuffled[~is_held[shuffled]][:trained], shuffled[is_held[shuffled]][:tested]

    return of_seed


def _limited(splits: Split, rows: int | None) -> Split:
    """Return splits of at most so many training rows, and held-out rows in proportion."""
    if rows is None:
        return splits

    def of_seed(seed: int) -> tuple[Index, Index]:
        trained, tested = splits(seed)
        kept = min(1.0, rows / len(trained))
        return trained[: round(kept * len(trained))], tested[: max(1, round(kept * len(tested)))]

    return of_seed
