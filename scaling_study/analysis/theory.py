"""What mathematics says of a linear model under squared error, to lay over what was measured.

NumPy in float64 throughout. With inputs z of mean μ and covariance Σ (over the rows, divisor n)
and parameters θ = (w, b), the loss is quadratic with Hessian H = 2 [[Σ + μμᵀ, μ], [μᵀ, 1]].
Formulas without a source are a line or two of calculus from there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling_study.study import draws
from scaling_study.study.canonical import canonical, orthogonal
from scaling_study.study.conditions import Condition, split
from scaling_study.study.encoding import Encoding, encode

Array = NDArray[np.float64]

# How a shared learning rate acts on u = s w: as rate times s to this power.
EXPONENTS = {"sgd": 2, "momentum": 2, "adam": 1, "rmsprop": 1, "newton": 0}
SEARCH_LIMIT = 1e18  # updates
SINGULAR = 1e-13  # deviation of a column beside the others, below which it is one of them


class Quadratic(NamedTuple):
    """A linear model's loss around its minimum, for data sets of leading shape (...).

    Attributes
    ----------
    eigenvalues : ndarray of shape (..., d + 1)
        Of the Hessian, in descending order; loss per unit of parameter squared.
    directions : ndarray of shape (..., d + 1, d + 1)
        Eigenvectors as rows.
    minimum : ndarray of shape (..., d + 1)
        Weights and bias of least squares, in training units.
    loss_ols : ndarray of shape (...)
        Loss there.
    loss_explained : ndarray of shape (...)
        How far it lies below the loss of the best constant prediction.
    """

    eigenvalues: Array
    directions: Array
    minimum: Array
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
        """Return the eigendirections' shares c of θ_0 - θ*, shape (..., d + 1)."""
        away = np.asarray(start, np.float64) - self.minimum
        return (self.directions @ away[..., None])[..., 0]


def spectrum(z: ArrayLike) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors of the Hessian, from the inputs themselves.

    Parameters
    ----------
    z : array-like of shape (..., n_samples, d)

    Returns
    -------
    eigenvalues : ndarray of shape (..., d + 1)
        Descending; NaN where inputs are not finite.
    directions : ndarray of shape (..., d + 1, d + 1)
        Eigenvectors as rows.
    """
    z = np.asarray(z, np.float64)
    finite = np.isfinite(z).all(axis=(-2, -1))
    values, mean, unit = canonical(np.where(finite[..., None, None], z, 0.0))
    roots, directions = _singular(orthogonal(values)[1], unit, mean)
    with np.errstate(over="ignore"):
        return np.where(finite[..., None], roots**2, np.nan), directions


def _singular(factor: Array, gain: Array, shift: Array) -> tuple[Array, Array]:
    """Return the roots of the Hessian's eigenvalues, descending, and its eigenvectors as rows.

    With inputs ``gain u + shift`` and ``u = q r`` the Hessian is A'A, for A the root of 2 times
    ((r gain, 0), (shift, 1)). Its large singular values are those of A, and its small ones the
    inverses of those of A's inverse, which is written down without cancellation. Each half has
    the digits that the other loses, so that a condition number of 1e30 still has some.
    """
    d = gain.shape[-1]
    block = factor * gain[..., None, :]
    last = np.concatenate([shift, np.ones((*shift.shape[:-1], 1))], axis=-1)[..., None, :]
    zeros = np.zeros((*shift.shape[:-1], d, 1))
    whole = np.concatenate([np.concatenate([block, zeros], axis=-1), last], axis=-2)
    _, large, rows = np.linalg.svd(whole * 2**0.5)
    diagonal = np.abs(np.diagonal(factor, axis1=-2, axis2=-1))
    regular = (diagonal > SINGULAR).all(axis=-1)[..., None, None]
    inverse = np.linalg.inv(np.where(regular, block, np.eye(d)))
    below = np.concatenate([-(shift[..., None, :] @ inverse), np.ones_like(last[..., :1])], axis=-1)
    undone = np.concatenate([np.concatenate([inverse, zeros], axis=-1), below], axis=-2)
    columns, small, _ = np.linalg.svd(undone / 2**0.5)
    small, others = 1 / small[..., ::-1], np.swapaxes(columns[..., ::-1], -1, -2)
    first = large >= np.sqrt(large[..., :1] * np.where(regular[..., 0], small[..., -1:], 0.0))
    return np.where(first, large, small), np.where(first[..., None], rows, others)


def training_inputs(condition: Condition, seeds: Sequence[int]) -> Array:
    """Return the rows z that a condition's runs see, shape (n_seeds, n_samples, d)."""
    own = _encoded(condition, seeds)
    u = own.u[0] if own.u.ndim == 4 else own.u  # each condition's own where one is transformed
    gain, shift = (np.moveaxis(x[:, 0], 0, -1)[:, None] for x in (own.gain, own.shift))
    return gain * u + shift


def _encoded(condition: Condition, seeds: Sequence[int]) -> Encoding:
    static = split(condition)
    return encode(static, draws.draw(static, seeds), [condition])


def quadratic(condition: Condition, seeds: Sequence[int]) -> Quadratic:
    """Return the loss that a condition's runs are trained on, for each seed.

    Parameters
    ----------
    condition : Condition
        Of a linear model.
    seeds : sequence of int

    Returns
    -------
    Quadratic
        Leading shape (n_seeds,).
    """
    own = _encoded(condition, seeds)
    gain, shift, slope = (np.moveaxis(x[:, 0], 0, -1) for x in (own.gain, own.shift, own.slope))
    factor = np.moveaxis(own.factor[:, :, 0], (0, 1), (-2, -1))
    roots, directions = _singular(factor, gain, shift)
    weight = slope / gain
    bias = own.intercept[0] - (weight * shift).sum(axis=-1)
    minimum = np.concatenate([weight, bias[:, None]], axis=-1)
    return Quadratic(roots**2, directions, minimum, own.loss_least[0], own.loss_explained[0])


def excess_loss(
    eigenvalues: ArrayLike, components: ArrayLike, learning_rate: ArrayLike, updates: ArrayLike
) -> Array:
    """Return gradient descent's loss above its minimum, ``½ Σ λ c² (1 - ηλ)^(2t)``.

    Parameters
    ----------
    eigenvalues, components : array-like of shape (..., d + 1)
    learning_rate, updates : array-like of shape (...)
    """
    values, c = np.asarray(eigenvalues, np.float64), np.asarray(components, np.float64)
    rate = np.asarray(learning_rate, np.float64)[..., None]
    t = np.asarray(updates, np.float64)[..., None]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        # (1 - ηλ)^(2t) by its logarithm: t may be 1e18, and ηλ far below 1.
        step = rate * values
        log_factor = np.where(step < 1, np.log1p(-step), np.log(step - 1))
        kept = np.exp(2 * t * log_factor)
        kept = np.where(t == 0, 1.0, kept)
        return 0.5 * (values * c**2 * kept).sum(axis=-1)


def steps_to_target(
    eigenvalues: ArrayLike, components: ArrayLike, learning_rate: ArrayLike, target: ArrayLike
) -> Array:
    """Return gradient descent's first update from which the loss is below its target, for good.

    The excess loss falls at every update of a stable descent, so the first time is for good,
    and bisection finds it.

    Parameters
    ----------
    eigenvalues, components : array-like of shape (..., d + 1)
    learning_rate, target : array-like of shape (...)
        Target as a loss above least squares.

    Returns
    -------
    ndarray of shape (...)
        Updates, whole numbers; infinite where the descent is not stable, or would take more
        than 1e18.
    """
    values, c = np.broadcast_arrays(
        np.asarray(eigenvalues, np.float64), np.asarray(components, np.float64)
    )
    rate = np.broadcast_to(np.asarray(learning_rate, np.float64), values.shape[:-1])
    bound = np.broadcast_to(np.asarray(target, np.float64), rate.shape)

    def there(t: Array) -> NDArray[np.bool_]:
        return excess_loss(values, c, rate, t) <= bound

    low, high = np.zeros(rate.shape), np.full(rate.shape, SEARCH_LIMIT)
    reachable = (rate * values[..., 0] < 2) & there(high)
    for _ in range(128):
        middle = np.floor(low + (high - low) / 2)
        done = there(middle)
        low, high = np.where(done, low, middle), np.where(done, middle, high)
        if (high - low <= np.maximum(1, 1e-15 * high)).all():
            break
    return np.where(reachable, np.where(there(low), low, high), np.inf)


def sgd_floor(
    eigenvalues: ArrayLike, learning_rate: ArrayLike, batch_size: int, loss_ols: ArrayLike
) -> Array:
    """Return the excess loss at which SGD stays, rows drawn with replacement.

    ``(η σ² / B) Σ λ / (2 - ηλ)`` with σ² the least-squares loss: the stationary variance of
    each eigendirection under gradient noise of covariance 2 σ² H / B (residuals taken as
    independent of the inputs). Epochs that are reshuffled lie elsewhere.

    Parameters
    ----------
    eigenvalues : array-like of shape (..., d + 1)
    learning_rate, loss_ols : array-like of shape (...)
    batch_size : int
    """
    values = np.asarray(eigenvalues, np.float64)
    rate = np.asarray(learning_rate, np.float64)
    total = (values / (2 - rate[..., None] * values)).sum(axis=-1)
    return rate * np.asarray(loss_ols, np.float64) / batch_size * total


def covariance(u: ArrayLike) -> Array:
    """Return the covariance of features over the rows, divisor n, shape (..., d, d)."""
    u = np.asarray(u, np.float64)
    centred = u - u.mean(axis=-2, keepdims=True)
    return np.swapaxes(centred, -1, -2) @ centred / u.shape[-2]


def permutation_importance(
    weight: ArrayLike, weight_ols: ArrayLike, covariance: ArrayLike
) -> Array:
    """Return the loss that permuting each feature adds, for a linear model, in expectation.

    ``Δ_j = 2 w_j² Var(x_j) + 2 w_j Cov(x_j, e)`` with e = y - ŷ on the rows permuted, which
    here are those of the fit: there Cov(x_j, e) = Σ_k Cov(x_j, x_k) (ols_k - w_k), zero at
    least squares itself.

    Parameters
    ----------
    weight, weight_ols : array-like of shape (..., d)
        Per unit of x.
    covariance : array-like of shape (..., d, d)
        Of x, divisor n.
    """
    w, ols = np.asarray(weight, np.float64), np.asarray(weight_ols, np.float64)
    sigma = np.asarray(covariance, np.float64)
    missed = (sigma @ (ols - w)[..., None])[..., 0]
    variance = np.diagonal(sigma, axis1=-2, axis2=-1)
    return 2 * w**2 * variance + 2 * w * missed


def ridge(weight_ols: ArrayLike, variance: ArrayLike, strength: ArrayLike) -> Array:
    """Return the weight that minimises loss + λ w² on a feature of its own: ols · v / (v + λ)."""
    v = np.asarray(variance, np.float64)
    return np.asarray(weight_ols, np.float64) * v / (v + np.asarray(strength, np.float64))


def lasso(weight_ols: ArrayLike, variance: ArrayLike, strength: ArrayLike) -> Array:
    """Return the weight that minimises loss + λ|w|: sign(ols) max(|ols| - λ/2v, 0)."""
    ols = np.asarray(weight_ols, np.float64)
    threshold = np.asarray(strength, np.float64) / (2 * np.asarray(variance, np.float64))
    return np.sign(ols) * np.maximum(np.abs(ols) - threshold, 0)


def decoupled_decay(weight_ols: ArrayLike, decay: ArrayLike) -> Array:
    """Return the weight at which Adam's unit step balances decay: ols, but at most 1/decay.

    Loshchilov and Hutter (2019) decay w by η·decay·w an update, which a step of η, Adam's
    largest on a steady sign, cannot outdo beyond |w| = 1/decay.
    """
    ols, bound = np.asarray(weight_ols, np.float64), 1 / np.asarray(decay, np.float64)
    return np.clip(ols, -bound, bound)
