"""The scalers: affine ones as two numbers per feature, any other as transformed arrays.

A scaler maps x to ``(x - shift) / divisor``. The affine ones are fitted here in float64, for
any number of data sets at once, in canonical coordinates, where neither a unit nor an offset
costs digits; tests compare them with scikit-learn's own transformers, which fit one data set at
a time.
"""

from collections.abc import Callable
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


# Of columns ``x = unit (values + offset)``, each returns a location and a divisor in that unit:
# ``z = (values - location) / divisor``. Divisor 0, of a column without spread, stands for an x of
# 1, as in scikit-learn.


def none(values: Array, offset: Array) -> tuple[Array, Array]:
    """Leave the columns as they are."""
    return -offset, np.zeros_like(offset)


def minmax(values: Array, offset: Array) -> tuple[Array, Array]:
    """Subtract the minimum, divide by the range: `sklearn.preprocessing.MinMaxScaler`."""
    low = values.min(axis=-2)
    return low, values.max(axis=-2) - low


def standard(values: Array, offset: Array) -> tuple[Array, Array]:
    """Subtract the mean, divide by the deviation: `sklearn.preprocessing.StandardScaler`."""
    return values.mean(axis=-2), values.std(axis=-2)


def center(values: Array, offset: Array) -> tuple[Array, Array]:
    """Subtract the mean: `sklearn.preprocessing.StandardScaler` with ``with_std=False``."""
    return values.mean(axis=-2), np.zeros_like(offset)


def robust(values: Array, offset: Array) -> tuple[Array, Array]:
    """Subtract the median, divide by the quartiles' distance: `RobustScaler` of scikit-learn."""
    quarter, median, three_quarters = np.percentile(values, [25, 50, 75], axis=-2)
    return median, three_quarters - quarter


def maxabs(values: Array, offset: Array) -> tuple[Array, Array]:
    """Divide by the largest magnitude: `sklearn.preprocessing.MaxAbsScaler`."""
    return -offset, np.abs(values + offset[..., None, :]).max(axis=-2)


class Fitted(NamedTuple):
    """An affine scaler, fitted to columns ``x = unit · values + offset``; shapes (..., d).

    Attributes
    ----------
    gain, shift : ndarray
        ``z = gain · values + shift``.
    divisor, centre : ndarray
        ``z = (x - centre) / divisor``.
    """

    gain: Array
    shift: Array
    divisor: Array
    centre: Array


def fit(name: str, values: Array, unit: Array, offset: Array) -> Fitted:
    """Return an affine scaler fitted to columns ``x = unit · values + offset``.

    Parameters
    ----------
    name : str
        A key of `AFFINE`.
    values : ndarray of shape (..., n_samples, d)
        Of a size near 1, such as canonical coordinates.
    unit, offset : ndarray of shape (..., d)
    """
    size, sign = np.abs(unit), np.sign(unit)
    # Conditions share their values, unless one of them turns a column round.
    turned = values if (sign > 0).all() else sign[..., None, :] * values
    location, divisor = AFFINE[name](turned, offset / size)
    plain = divisor < 10 * EPS  # as it is divided by an x of 1
    gain = np.where(plain, size, 1 / np.where(plain, 1.0, divisor))
    return Fitted(
        gain=sign * gain,
        # What is not moved keeps its offset to the bit.
        shift=np.where(plain & (location == -offset / size), offset, -location * gain),
        divisor=np.where(plain, 1.0, divisor * size),
        centre=np.where(location == -offset / size, 0.0, offset + size * location),
    )


def affine(name: str, x: Array) -> tuple[Array, Array]:
    """Return shift and divisor of an affine scaler for columns x (..., n_samples, d)."""
    fitted = fit(name, *_columns(x))
    return fitted.centre, fitted.divisor


def _columns(x: Array) -> tuple[Array, Array, Array]:
    values, mean, unit = canonical(x)
    return values, unit, mean


def slope_between(values: Array, others: Array) -> Array:
    """Return 1 or -1 where canonical columns are each other's affine maps, else NaN.

    Parameters
    ----------
    values, others : ndarray of shape (..., n_samples, d)
        Of mean 0 and standard deviation 1; columns of zeros are maps of each other.

    Returns
    -------
    ndarray of shape (..., d)
        NaN for all columns of a data set of which one is not.
    """
    sign = np.where((values * others).sum(axis=-2) < 0, -1.0, 1.0)
    far = np.abs(others - sign[..., None, :] * values).max(axis=-2)
    return np.where((far <= AFFINE_WITHIN).all(axis=-1, keepdims=True), sign, np.nan)


def quantile(**parameters: Any) -> Any:
    """Return `sklearn.preprocessing.QuantileTransformer`, at most 100 quantiles by default."""
    from sklearn.preprocessing import QuantileTransformer

    return QuantileTransformer(**{"n_quantiles": 100, **parameters})


def power(**parameters: Any) -> Any:
    """Return `sklearn.preprocessing.PowerTransformer`."""
    from sklearn.preprocessing import PowerTransformer

    return PowerTransformer(**parameters)


def normalizer(**parameters: Any) -> Any:
    """Return `sklearn.preprocessing.Normalizer`, which scales each row to unit norm."""
    from sklearn.preprocessing import Normalizer

    return Normalizer(**parameters)


AFFINE: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    "none": none,
    "minmax": minmax,
    "standard": standard,
    "center": center,
    "robust": robust,
    "maxabs": maxabs,
}
TRANSFORMERS: dict[str, Callable[..., Any]] = {
    "quantile": quantile,
    "power": power,
    "normalizer": normalizer,
}
SCALERS: dict[str, Callable[..., Any]] = {**AFFINE, **TRANSFORMERS}


def is_affine(scaler: Component) -> bool:
    """Say whether a scaler is one shift and one divisor per feature."""
    return scaler.name in AFFINE


def check(scaler: Component, x: Array, *, held_out: bool = False) -> None:
    """Raise a `StudyError` unless the scaler exists, takes its parameters and scales x.

    Parameters
    ----------
    scaler : Component
    x : ndarray of shape (n_samples, n_features)
        A data set of the problem that is to be scaled.
    held_out : bool
        Whether rows that the scaler was not fitted to are to be scaled, too.
    """
    if not is_affine(scaler):
        # scikit-learn looks at parameters only when it fits.
        transform(scaler, x[None])
        if held_out:
            transform(scaler, x[None], x[None])
    elif scaler.parameters:
        raise StudyError(f"scaler {scaler.name!r} takes no parameters")


def transform(scaler: Component, x: Array, new: Array | None = None) -> Array:
    """Return each data set of a stack (..., n_samples, n_features) transformed by itself.

    Column j of the result is feature j, also where a transformer such as scikit-learn's
    `ColumnTransformer` has another order, which its `get_feature_names_out` tells.

    Where ``new`` is given, another stack of as many data sets, it is what is transformed, by
    what was fitted to x.

    Raises
    ------
    StudyError
        If the scaler fails, or returns another number of rows or columns, or numbers that are
        not finite for the data that it is fitted to.
    """
    stack = x.reshape(-1, *x.shape[-2:])
    others = [None] * len(stack) if new is None else new.reshape(-1, *new.shape[-2:])
    transformers = [scaler.build("scaler", SCALERS) for _ in stack]
    with error_context(f"scaler {scaler.name!r}", Exception):
        fitted = []
        for transformer, data, other in zip(transformers, stack, others, strict=True):
            if isinstance(getattr(transformer, "n_quantiles", None), int):
                # As scikit-learn does, which warns of it for every data set.
                transformer.n_quantiles = min(transformer.n_quantiles, len(data))
            if other is None:
                table = _table(transformer, transformer.fit_transform(data), data.shape)
                _check_finite(table)
            else:
                found = transformer.fit(data).transform(other)
                table = _table(transformer, found, other.shape)
            fitted.append(table)
        return np.array(fitted).reshape((x if new is None else new).shape)


def _table(transformer: Any, found: Any, shape: tuple[int, ...]) -> Array:
    """Return what a transformer has returned as an array, its columns in the features' order."""
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
    """Return where each feature's column is, or None where nothing says that it has moved."""
    wanted = [f"x{feature}" for feature in range(features)]
    try:
        # After the last "__" of ColumnTransformer's "name__x0" is the feature's own name.
        names = [str(name).rpartition("__")[2] for name in transformer.get_feature_names_out()]
    except Exception as error:  # there are none, or a part of it has none
        if _reorders(transformer):
            raise StudyError(
                "does not say which of its columns is which feature, as get_feature_names_out"
                f" fails ({error}); give FunctionTransformer feature_names_out='one-to-one'"
            ) from None
        return None
    place = {name: column for column, name in enumerate(names)}
    if place.keys() == set(wanted):
        return [place[name] for name in wanted]
    if set(names) < set(wanted):
        lost = next(name for name in wanted if name not in names)
        raise StudyError(f"returns no column for feature {lost[1:]}, and another one twice")
    return None


def _reorders(transformer: Any) -> bool:
    """Say whether a transformer has a `ColumnTransformer` in it, which moves columns."""
    parts = getattr(transformer, "get_params", dict)().values()
    return any(type(part).__name__ == "ColumnTransformer" for part in (transformer, *parts))


def _check_finite(table: Array) -> None:
    bad = ~np.isfinite(table)
    if bad.any():
        column = int(np.flatnonzero(bad.any(axis=0))[0])
        raise StudyError(
            f"returns NaN or infinity in {bad[:, column].sum()} of {len(table)} rows of column"
            f" {column}"
        )
