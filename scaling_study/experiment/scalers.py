"""The scalers: affine ones as two numbers per feature, any other as transformed arrays.

A scaler maps x to ``(x - shift) / divisor``. The affine ones are fitted here in float64, for
any number of data sets at once; tests hold them to scikit-learn's own transformers, which
fit one data set at a time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling_study.errors import StudyError
from scaling_study.experiment.component import Component
from scaling_study.experiment.values import told

Array = NDArray[np.float64]
EPS = np.finfo(np.float64).eps


def none(x: Array) -> tuple[Array, Array]:
    """Return shift 0 and divisor 1."""
    return np.zeros_like(x[..., 0, :]), np.ones_like(x[..., 0, :])


def minmax(x: Array) -> tuple[Array, Array]:
    """Return the minimum and the range, as `sklearn.preprocessing.MinMaxScaler`."""
    low = x.min(axis=-2)
    return low, _not_zero(x.max(axis=-2) - low)


def standard(x: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation, as `sklearn.preprocessing.StandardScaler`.

    A column counts as constant if its variance is within the error bound of the two-pass
    algorithm (Chan, Golub and LeVeque 1983), as in scikit-learn.
    """
    n = x.shape[-2]
    mean = x.mean(axis=-2)
    centred = x - mean[..., None, :]
    variance = ((centred**2).sum(axis=-2) - centred.sum(axis=-2) ** 2 / n) / n
    constant = variance <= n * EPS * variance + (n * mean * EPS) ** 2
    return mean, np.sqrt(np.where(constant, 1.0, variance))


def center(x: Array) -> tuple[Array, Array]:
    """Return mean and 1, as `sklearn.preprocessing.StandardScaler` with ``with_std=False``."""
    return x.mean(axis=-2), np.ones_like(x[..., 0, :])


def robust(x: Array) -> tuple[Array, Array]:
    """Return median and interquartile range, as `sklearn.preprocessing.RobustScaler`."""
    quarter, median, three_quarters = np.percentile(x, [25, 50, 75], axis=-2)
    return median, _not_zero(three_quarters - quarter)


def maxabs(x: Array) -> tuple[Array, Array]:
    """Return 0 and the largest magnitude, as `sklearn.preprocessing.MaxAbsScaler`."""
    return np.zeros_like(x[..., 0, :]), _not_zero(np.abs(x).max(axis=-2))


def _not_zero(divisor: Array) -> Array:
    return np.where(divisor < 10 * EPS, 1.0, divisor)


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


AFFINE: dict[str, Callable[[Array], tuple[Array, Array]]] = {
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
    with told(f"scaler {scaler.name!r}", Exception):
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
