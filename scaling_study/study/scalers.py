"""The scalers: affine ones as two numbers per feature, any other as transformed arrays.

An affine scaler maps x to ``(x - centre) / divisor``. It is fitted here in float64, to any number
of data sets at once, in canonical coordinates, where neither a unit nor an offset costs digits;
it is tested against scikit-learn's own transformer, which fits one data set at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.errors import StudyError
from scaling_study.study.canonical import canonical
from scaling_study.study.component import Component
from scaling_study.study.values import error_context

Array = NDArray[np.float64]
EPS = np.finfo(np.float64).eps
AFFINE_WITHIN = 1e-9  # of a deviation: how far from an affine map a transformer may be


# To add an affine scaler, write a function of columns ``x = unit (values + offset)`` that returns
# a location and a divisor in that unit, ``z = (values - location) / divisor``, and list it in
# `AFFINE`. A divisor of 0, of a column without spread, means that x is divided by 1.


def none(values: Array, offset: Array) -> tuple[Array, Array]:
    """Leave the columns as they are."""
    return -offset, np.zeros_like(offset)


def minmax(values: Array, offset: Array) -> tuple[Array, Array]:
    """Subtract the minimum, divide by the range: `sklearn.preprocessing.MinMaxScaler`."""
    low = values.min(axis=-2)
    return low, values.max(axis=-2) - low


def standard(values: Array, offset: Array) -> tuple[Array, Array]:
    """Subtract the mean, divide by the standard deviation: `sklearn.preprocessing.StandardScaler`.

    Examples
    --------
    >>> x = np.array([[1.0], [3.0]])
    >>> affine("standard", x)
    (array([2.]), array([1.]))
    """
    return values.mean(axis=-2), values.std(axis=-2)


def center(values: Array, offset: Array) -> tuple[Array, Array]:
    """Subtract the mean: `sklearn.preprocessing.StandardScaler` with ``with_std=False``."""
    return values.mean(axis=-2), np.zeros_like(offset)


def robust(values: Array, offset: Array) -> tuple[Array, Array]:
    """Subtract the median, divide by the interquartile range: scikit-learn's `RobustScaler`."""
    quarter, median, three_quarters = np.percentile(values, [25, 50, 75], axis=-2)
    return median, three_quarters - quarter


def maxabs(values: Array, offset: Array) -> tuple[Array, Array]:
    """Divide by the largest absolute value: `sklearn.preprocessing.MaxAbsScaler`."""
    return -offset, np.abs(values + offset[..., None, :]).max(axis=-2)


def quantile(*, n_quantiles: int = 100, **parameters: Any) -> Any:
    """Map to uniform ranks: `sklearn.preprocessing.QuantileTransformer`, at most 100 quantiles."""
    from sklearn.preprocessing import QuantileTransformer

    return QuantileTransformer(n_quantiles=n_quantiles, **parameters)


def power(**parameters: Any) -> Any:
    """Make columns closer to normal, then standardise: `sklearn.preprocessing.PowerTransformer`."""
    from sklearn.preprocessing import PowerTransformer

    return PowerTransformer(**parameters)


def normalizer(**parameters: Any) -> Any:
    """Scale each row to unit norm: `sklearn.preprocessing.Normalizer`."""
    from sklearn.preprocessing import Normalizer

    return Normalizer(**parameters)


AFFINE = {scaler.__name__: scaler for scaler in (none, minmax, standard, center, robust, maxabs)}
TRANSFORMERS = {scaler.__name__: scaler for scaler in (quantile, power, normalizer)}
SCALERS: dict[str, Callable[..., Any]] = {**AFFINE, **TRANSFORMERS}


class Fitted(NamedTuple):
    """An affine scaler, fitted to columns ``x = unit · values + offset``; arrays (..., d)."""

    feature_scale: Array  # z = feature_scale · values + feature_shift
    feature_shift: Array
    divisor: Array  # z = (x - centre) / divisor
    centre: Array


def is_affine(scaler: Component) -> bool:
    """Say whether a scaler is one shift and one divisor per feature."""
    return scaler.name in AFFINE


def fit(
    name: str, values: Array, unit: Array, offset: Array, columns: Sequence[bool] = ()
) -> Fitted:
    """Return an affine scaler fitted to columns ``x = unit · values + offset``.

    The values, (..., n_samples, d), should be near 1, as canonical coordinates are; unit and
    offset have shape (..., d). ``columns`` says which are scaled, by default all of them.
    """
    if len(columns) and not all(columns) and name != "none":
        chosen, raw = (fit(each, values, unit, offset) for each in (name, "none"))
        mask = np.asarray(columns)
        return Fitted(*(np.where(mask, *pair) for pair in zip(chosen, raw, strict=True)))
    size, sign = np.abs(unit), np.sign(unit)
    # Conditions share their values, unless one of them reverses a column.
    oriented = values if (sign > 0).all() else sign[..., None, :] * values
    location, divisor = AFFINE[name](oriented, offset / size)
    undivided = divisor < 10 * EPS  # relative to x, as in scikit-learn
    unmoved = location == -offset / size
    scale = np.where(undivided, size, 1 / np.where(undivided, 1.0, divisor))
    return Fitted(
        feature_scale=sign * scale,
        # A column that is neither moved nor divided keeps its offset to the bit.
        feature_shift=np.where(undivided & unmoved, offset, -location * scale),
        divisor=np.where(undivided, 1.0, divisor * size),
        centre=np.where(unmoved, 0.0, offset + size * location),
    )


def affine(name: str, x: Array) -> tuple[Array, Array]:
    """Return shift and divisor of an affine scaler for columns x (..., n_samples, d)."""
    values, mean, unit = canonical(x)
    fitted = fit(name, values, unit, mean)
    return fitted.centre, fitted.divisor


def slope_between(values: Array, others: Array) -> Array:
    """Return 1 or -1, (..., d), where canonical columns are affine maps of each other, else NaN.

    NaN for all columns of a data set if one is not; constant columns are maps of each other.
    """
    sign = np.where((values * others).sum(axis=-2) < 0, -1.0, 1.0)
    far = np.abs(others - sign[..., None, :] * values).max(axis=-2)
    return np.where((far <= AFFINE_WITHIN).all(axis=-1, keepdims=True), sign, np.nan)


def check(
    scaler: Component, x: Array, *, held_out: bool = False, columns: Sequence[bool] = ()
) -> None:
    """Raise a `StudyError` unless the scaler takes its parameters and scales x (n_samples, d).

    ``held_out`` says whether rows that the scaler was not fitted to must be scaled, too.
    """
    if is_affine(scaler):
        if scaler.parameters:
            raise StudyError(f"scaler {scaler.name!r} takes no parameters")
        return
    # scikit-learn looks at parameters only when it fits.
    transform(scaler, x[None], columns=columns)
    if held_out:
        transform(scaler, x[None], x[None], columns=columns)


def transform(
    scaler: Component, x: Array, new: Array | None = None, columns: Sequence[bool] = ()
) -> Array:
    """Return each data set of a stack (..., n_samples, d) transformed by itself.

    If ``new``, another stack of as many data sets, is given, it is transformed by what was
    fitted to x. Column j of the result is feature j, also where a transformer such as
    scikit-learn's `ColumnTransformer` changes the order, as its `get_feature_names_out` tells.
    ``columns`` says which are transformed, by default all of them.

    Raises
    ------
    StudyError
        If the scaler fails, returns another number of rows or columns, or returns numbers that
        are not finite for the data that it is fitted to.
    """
    if len(columns) and not all(columns):
        mask = np.asarray(columns)
        found = (x if new is None else new).copy()
        if mask.any():
            parts = x[..., mask], None if new is None else new[..., mask]
            found[..., mask] = transform(scaler, *parts)
        return found
    stack = x.reshape(-1, *x.shape[-2:])
    others = [None] * len(stack) if new is None else new.reshape(-1, *new.shape[-2:])
    transformers = [scaler.build("scaler", SCALERS) for _ in stack]
    with error_context(f"scaler {scaler.name!r}", Exception):
        tables = [_transformed(*each) for each in zip(transformers, stack, others, strict=True)]
        return np.array(tables).reshape((x if new is None else new).shape)


def _transformed(transformer: Any, data: Array, new: Array | None) -> Array:
    """Return ``new``, or the data, transformed by what was fitted to the data."""
    if isinstance(getattr(transformer, "n_quantiles", None), int):
        # scikit-learn does the same, with a warning for every data set.
        transformer.n_quantiles = min(transformer.n_quantiles, len(data))
    if new is not None:
        return _table(transformer, transformer.fit(data).transform(new), new.shape)
    table = _table(transformer, transformer.fit_transform(data), data.shape)
    bad = ~np.isfinite(table)
    if bad.any():
        column = int(np.argmax(bad.any(axis=0)))
        count = f"{bad[:, column].sum()} of {len(table)} rows"
        raise StudyError(f"returns NaN or infinity in {count} of column {column}")
    return table


def _table(transformer: Any, found: Any, shape: tuple[int, ...]) -> Array:
    """Return the result of a transformer as an array, its columns in the order of the features."""
    if hasattr(found, "toarray"):  # a sparse matrix
        found = found.toarray()
    table = np.asarray(found, dtype=np.float64)
    if table.ndim != 2:
        raise StudyError(f"returns an array of shape {table.shape}, not {shape}")
    for what, has, wanted in zip(("rows", "columns"), table.shape, shape, strict=True):
        if has != wanted:
            raise StudyError(
                f"returns {has} {what} for {wanted}; a scaler returns as many rows and columns as"
                " it is given"
            )
    order = _order(transformer, shape[1])
    return table if order is None else table[:, order]


def _order(transformer: Any, features: int) -> list[int] | None:
    """Return the column of each feature, or None where the transformer does not name them."""
    wanted = [f"x{feature}" for feature in range(features)]
    try:
        # After the last "__" of ColumnTransformer's "name__x0" is the feature's own name.
        names = [str(name).rpartition("__")[2] for name in transformer.get_feature_names_out()]
    except Exception as error:  # it has no names, or a part of it has none
        if _reorders(transformer):
            raise StudyError(
                "does not say which of its columns is which feature, as get_feature_names_out"
                f" fails ({error}); give FunctionTransformer feature_names_out='one-to-one'"
            ) from None
        return None
    missing = [name for name in wanted if name not in names]
    if not missing:
        return [names.index(name) for name in wanted]
    if set(names) < set(wanted):
        raise StudyError(f"returns no column for feature {missing[0][1:]}, and another one twice")
    return None


def _reorders(transformer: Any) -> bool:
    """Say whether a transformer contains a `ColumnTransformer`, which moves columns."""
    parts = getattr(transformer, "get_params", dict)().values()
    return any(type(part).__name__ == "ColumnTransformer" for part in (transformer, *parts))
