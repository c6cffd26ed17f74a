"""Theory of a linear model under squared error, to compare with what was measured.

NumPy in float64. With inputs z of mean μ and covariance Σ (over the rows, divisor n) and
parameters θ = (w, b), the loss is quadratic with Hessian H = 2 [[Σ + μμᵀ, μ], [μᵀ, 1]]. Formulas
without a source follow from there in a line or two.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling_study.study import draws
from scaling_study.study.canonical import canonical, orthogonal
from scaling_study.study.component import Component
from scaling_study.study.conditions import Condition, split
from scaling_study.study.encoding import Encoding, encode

Array = NDArray[np.float64]

# A shared learning rate η acts on u = s w as η times s to this power.
EXPONENTS = {"sgd": 2, "momentum": 2, "adam": 1, "rmsprop": 1, "newton": 0}
SEARCH_LIMIT = 1e18  # updates
SINGULAR = 1e-13  # deviation of a column from the others' span, below which it is in it


class Quadratic(NamedTuple):
    """A linear model's loss around its minimum, for data sets of leading shape (...)."""

    #: Of the Hessian, in descending order, shape (..., d + 1).
    eigenvalues: Array
    #: Eigenvectors as rows, shape (..., d + 1, d + 1).
    directions: Array
    #: Least-squares weights and bias, in training units, shape (..., d + 1).
    minimum: Array
    #: Loss at the minimum, and how far it lies below that of the best constant, shape (...).
    loss_ols: Array
    loss_explained: Array

    @property
    def condition_number(self) -> Array:
        """κ = λmax / λmin."""
        return self.eigenvalues[..., 0] / self.eigenvalues[..., -1]

    @property
    def stability_limit(self) -> Array:
        """Learning rate 2 / λmax, from which gradient descent diverges."""
        return 2 / self.eigenvalues[..., 0]

    @property
    def best_learning_rate(self) -> Array:
        """2 / (λmax + λmin): contracts by (κ - 1) / (κ + 1) an update (Polyak 1987)."""
        return 2 / (self.eigenvalues[..., 0] + self.eigenvalues[..., -1])

    def components(self, start: ArrayLike) -> Array:
        """Return the components c of θ_0 - θ* along the eigenvectors, shape (..., d + 1)."""
        away = np.asarray(start, np.float64) - self.minimum
        return (self.directions @ away[..., None])[..., 0]


def spectrum(z: ArrayLike) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors of the Hessian, from the training inputs.

    From z of shape (..., n_samples, d): eigenvalues (..., d + 1), descending, NaN if inputs are not
    finite; eigenvectors as rows (..., d + 1, d + 1).
    """
    z = np.asarray(z, np.float64)
    finite = np.isfinite(z).all(axis=(-2, -1))
    values, mean, unit = canonical(np.where(finite[..., None, None], z, 0.0))
    roots, directions = _singular(orthogonal(values)[1], unit, mean)
    with np.errstate(over="ignore"):
        return np.where(finite[..., None], roots**2, np.nan), directions


def _singular(factor: Array, gain: Array, shift: Array) -> tuple[Array, Array]:
    """Return the square roots of the Hessian's eigenvalues, descending, and eigenvectors as rows.

    With inputs ``gain u + shift`` and ``u = q r`` the Hessian is A'A, with A = √2 ((r gain, 0),
    (shift, 1)). The large singular values are taken from A, the small ones from its inverse, which
    has a closed form without cancellation. Each has the digits that the other loses, so that even
    a condition number of 1e30 has some.
    """
    d = gain.shape[-1]
    block = factor * gain[..., None, :]
    _, large, rows = np.linalg.svd(_bordered(block, shift) * 2**0.5)
    diagonal = np.abs(np.diagonal(factor, axis1=-2, axis2=-1))
    regular = (diagonal > SINGULAR).all(axis=-1)[..., None, None]
    inverse = np.linalg.inv(np.where(regular, block, np.eye(d)))
    below = -(shift[..., None, :] @ inverse)[..., 0, :]
    columns, small, _ = np.linalg.svd(_bordered(inverse, below) / 2**0.5)
    small, others = 1 / small[..., ::-1], np.swapaxes(columns[..., ::-1], -1, -2)
    first = large >= np.sqrt(large[..., :1] * np.where(regular[..., 0], small[..., -1:], 0.0))
    return np.where(first, large, small), np.where(first[..., None], rows, others)


def _bordered(block: Array, last: Array) -> Array:
    """Return ((block, 0), (last, 1)), of shape (..., d + 1, d + 1)."""
    d = last.shape[-1]
    whole = np.zeros((*last.shape[:-1], d + 1, d + 1))
    whole[..., :d, :d], whole[..., d, :d], whole[..., d, d] = block, last, 1.0
    return whole


def training_inputs(condition: Condition, seeds: Sequence[int]) -> Array:
    """Return the rows z that a condition's runs see, shape (n_seeds, n_samples, d)."""
    encoding = _encoded(condition, seeds)
    # With a transformer that is not affine each condition has its own inputs.
    u = encoding.u[0] if encoding.u.ndim == 4 else encoding.u
    gain, shift = (
        _features_last(x)[:, None] for x in (encoding.feature_scale, encoding.feature_shift)
    )
    return gain * u + shift


def _encoded(condition: Condition, seeds: Sequence[int]) -> Encoding:
    static = split(condition)
    return encode(static, _drawn(static.problem, static.data_seed, tuple(seeds)), [condition])


# Many conditions share their data, of which a report asks in turn.
@lru_cache(maxsize=8)
def _drawn(problem: Component, data_seed: int | str, seeds: tuple[int, ...]) -> draws.Draw:
    return draws.rows_of(problem, data_seed, seeds)


def _features_last(values: Array) -> Array:
    """Return values of shape (d, 1, S) as (S, d)."""
    return np.moveaxis(values[:, 0], 0, -1)


def quadratic(condition: Condition, seeds: Sequence[int]) -> Quadratic:
    """Return the loss that a linear condition's runs minimize, with leading shape (n_seeds,)."""
    encoding = _encoded(condition, seeds)
    gain, shift, slope = map(
        _features_last, (encoding.feature_scale, encoding.feature_shift, encoding.ols_coefficient)
    )
    factor = np.moveaxis(encoding.factor[:, :, 0], (0, 1), (-2, -1))
    roots, directions = _singular(factor, gain, shift)
    weight = slope / gain
    bias = encoding.intercept[0] - (weight * shift).sum(axis=-1)
    minimum = np.concatenate([weight, bias[:, None]], axis=-1)
    losses = encoding.loss_least[0], encoding.loss_explained[0]
    return Quadratic(roots**2, directions, minimum, *losses)


def excess_loss(
    eigenvalues: ArrayLike, components: ArrayLike, learning_rate: ArrayLike, updates: ArrayLike
) -> Array:
    """Return gradient descent's loss above its minimum, ``½ Σ λ c² (1 - ηλ)^(2t)``.

    Parameters
    ----------
    eigenvalues, components : array-like of shape (..., d + 1)
    learning_rate, updates : array-like of shape (...)
    """
    values, c, rate, t = _floats(eigenvalues, components, learning_rate, updates)
    rate, t = rate[..., None], t[..., None]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        # (1 - ηλ)^(2t) by its logarithm: t may be 1e18, and ηλ far below 1.
        step = rate * values
        log_factor = np.where(step < 1, np.log1p(-step), np.log(step - 1))
        kept = np.where(t == 0, 1.0, np.exp(2 * t * log_factor))
        return 0.5 * (values * c**2 * kept).sum(axis=-1)


def steps_to_target(
    eigenvalues: ArrayLike, components: ArrayLike, learning_rate: ArrayLike, target: ArrayLike
) -> Array:
    """Return the first update after which gradient descent's loss stays below its target.

    The excess loss of a stable descent decreases monotonically; bisection finds the update.

    Parameters
    ----------
    eigenvalues, components : array-like of shape (..., d + 1)
    learning_rate, target : array-like of shape (...)
        Target as a loss above least squares.

    Returns
    -------
    ndarray of shape (...)
        Whole numbers; infinite if the descent is not stable or needs more than 1e18 updates.
    """
    values, c = np.broadcast_arrays(*_floats(eigenvalues, components))
    rate, target = _floats(learning_rate, target)
    rate = np.broadcast_to(rate, values.shape[:-1])
    bound = np.broadcast_to(target, rate.shape)

    def reached(t: Array) -> NDArray[np.bool_]:
        return excess_loss(values, c, rate, t) <= bound

    low, high = np.zeros(rate.shape), np.full(rate.shape, SEARCH_LIMIT)
    reachable = (rate * values[..., 0] < 2) & reached(high)
    for _ in range(128):
        middle = np.floor(low + (high - low) / 2)
        done = reached(middle)
        low, high = np.where(done, low, middle), np.where(done, middle, high)
        if (high - low <= np.maximum(1, 1e-15 * high)).all():
            break
    return np.where(reachable, np.where(reached(low), low, high), np.inf)


def sgd_floor(
    eigenvalues: ArrayLike, learning_rate: ArrayLike, batch_size: int, loss_ols: ArrayLike
) -> Array:
    """Return the stationary excess loss of SGD, rows drawn with replacement.

    ``(η σ² / B) Σ λ / (2 - ηλ)`` with σ² the least-squares loss: the stationary variance along
    each eigenvector under gradient noise of covariance 2 σ² H / B (residuals independent of the
    inputs). It does not apply to reshuffled epochs.

    Parameters
    ----------
    eigenvalues : array-like of shape (..., d + 1)
    learning_rate, loss_ols : array-like of shape (...)
    batch_size : int
    """
    values, rate, loss = _floats(eigenvalues, learning_rate, loss_ols)
    return rate * loss / batch_size * (values / (2 - rate[..., None] * values)).sum(axis=-1)


def covariance(u: ArrayLike) -> Array:
    """Return the covariance of features over the rows, divisor n, shape (..., d, d)."""
    u = np.asarray(u, np.float64)
    centred = u - u.mean(axis=-2, keepdims=True)
    return np.swapaxes(centred, -1, -2) @ centred / u.shape[-2]


def permutation_importance(
    weight: ArrayLike, weight_ols: ArrayLike, covariance: ArrayLike
) -> Array:
    """Return the expected increase of a linear model's loss by permuting each feature.

    ``Δ_j = 2 w_j² Var(x_j) + 2 w_j Cov(x_j, e)`` with e = y - ŷ. On the rows of the fit
    Cov(x_j, e) = Σ_k Cov(x_j, x_k) (ols_k - w_k), zero at least squares.

    Parameters
    ----------
    weight, weight_ols : array-like of shape (..., d)
        Per unit of x.
    covariance : array-like of shape (..., d, d)
        Of x, divisor n.
    """
    w, ols, sigma = _floats(weight, weight_ols, covariance)
    residual_covariance = (sigma @ (ols - w)[..., None])[..., 0]
    return 2 * w**2 * np.diagonal(sigma, axis1=-2, axis2=-1) + 2 * w * residual_covariance


def ridge(weight_ols: ArrayLike, variance: ArrayLike, strength: ArrayLike) -> Array:
    """Return the weight that minimizes loss + λ w² on one feature: ols · v / (v + λ)."""
    ols, v, strength = _floats(weight_ols, variance, strength)
    return ols * v / (v + strength)


def lasso(weight_ols: ArrayLike, variance: ArrayLike, strength: ArrayLike) -> Array:
    r"""Return the weight that minimizes loss + λ\|w\|: sign(ols) max(\|ols\| - λ/2v, 0)."""
    ols, v, strength = _floats(weight_ols, variance, strength)
    return np.sign(ols) * np.maximum(np.abs(ols) - strength / (2 * v), 0)


def decoupled_decay(weight_ols: ArrayLike, decay: ArrayLike) -> Array:
    """Return the weight at which Adam's step balances weight decay: ols, but at most 1/decay.

    Weights decay by η·decay·w an update (Loshchilov and Hutter 2019); Adam's step on a steady sign
    is at most η, so the size of a weight cannot exceed 1/decay.
    """
    ols, decay = _floats(weight_ols, decay)
    return np.clip(ols, -1 / decay, 1 / decay)


def _floats(*arrays: ArrayLike) -> list[Array]:
    return [np.asarray(array, np.float64) for array in arrays]
