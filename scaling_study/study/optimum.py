"""The least loss of a linear model: least squares, ridge, and logistic regression.

In canonical coordinates (`scaling_study.study.canonical`), in which columns have mean 0 and
standard deviation 1, so that neither units nor offsets cost digits. NumPy in float64 throughout.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

Array = NDArray[np.float64]
MOST_STEPS = 100  # of Newton's method, which needs about ten where there is a minimum
SHORTEST = 1e-9  # Newton's step at a minimum, relative to the coefficients
FLATTEST = 1e-10  # least curvature of a minimum, in uncorrelated columns of unit variance


class Fit(NamedTuple):
    """A linear model at its least loss, ``intercept + values · slope``."""

    slope: Array  # (..., d)
    error: Array  # (..., d), standard errors; NaN where they are not defined
    intercept: Array  # (...)
    residual: Array  # (..., n_samples)


def least_squares(values: Array, y: Array) -> Fit:
    """Return the least-squares fit of each data set, of columns of mean 0.

    Collinear columns share their coefficient: the solution of least norm, whose error is NaN.
    Shapes are (..., n_samples, d) and (..., n_samples).
    """
    n, d = values.shape[-2:]
    inverse = np.linalg.pinv(values, rcond=max(n, d) * np.finfo(np.float64).eps)
    intercept = y.mean(axis=-1)
    left = y - intercept[..., None]
    slope = np.zeros((*left.shape[:-1], d))
    for _ in range(2):  # the second pass removes the rounding error of the first
        step = (inverse @ left[..., None])[..., 0]
        slope = slope + step
        left = left - (values @ step[..., None])[..., 0]
    mean = left.mean(axis=-1)
    left = left - mean[..., None]
    free = n - d - 1
    if free > 0:
        variance = (left**2).sum(axis=-1) / free
        error = np.sqrt(variance[..., None] * (inverse**2).sum(axis=-1))
    else:
        error = np.full_like(slope, np.nan)
    lost = np.abs(inverse @ values - np.eye(d)).max(axis=-1) > 1e-6  # not of full rank
    return Fit(slope, np.where(lost, np.nan, error), intercept + mean, left)


def ridge(factor: Array, slope: Array, strength: Array) -> Array:
    """Return the coefficients a that minimise ``mean((values · (a - slope))²) + Σ strength a²``.

    ``factor`` (..., k, d) is the triangle r of `orthogonal` with ``values = q r``, ``slope``
    (..., d) the least-squares solution, and ``strength`` (..., d) at least 0.
    """
    lead, (k, d) = slope.shape[:-1], factor.shape[-2:]
    rows = np.broadcast_to(factor, (*lead, k, d))
    penalty = np.sqrt(strength)[..., None] * np.eye(d)
    right = np.concatenate([(rows @ slope[..., None])[..., 0], np.zeros((*lead, d))], axis=-1)
    return (np.linalg.pinv(np.concatenate([rows, penalty], axis=-2)) @ right[..., None])[..., 0]


class Logistic(NamedTuple):
    """Logistic regression of one data set, for two classes or more, with k logits."""

    slope: Array  # (d, k): for two classes k is 1; else one logit a class, with mean 0
    intercept: Array  # (k,)
    error: Array  # (d,), standard errors of the slopes of two classes; NaN for more
    loss: float  # mean log-loss in nats; NaN if a hyperplane separates classes: no minimum exists


def logistic(values: Array, labels: Array, classes: int) -> Logistic:
    """Return the maximum-likelihood fit of a linear classifier, by Newton's method.

    The columns, (n_samples, d), have mean 0 and standard deviation 1; labels are 0 to
    ``classes - 1``.
    """
    n, d = values.shape
    rows, back = _whitened(np.column_stack([values, np.ones(n)]))
    target = np.eye(classes)[labels.astype(np.intp)]
    # Two classes have one free logit, more have one less than classes: the first one's is 0.
    theta = np.zeros((rows.shape[1], classes - 1))
    loss = log_loss(_logits(rows, theta), labels)
    for _ in range(MOST_STEPS):
        share = softmax(_logits(rows, theta), axis=-1)
        gradient = rows.T @ (share - target)[:, 1:] / n
        curvature = _curvature(rows, share)
        if np.linalg.eigvalsh(curvature)[0] < FLATTEST:
            break
        step = np.linalg.solve(curvature, gradient.T.ravel()).reshape(classes - 1, -1).T
        if np.abs(step).max() <= SHORTEST * (1 + np.abs(theta).max()):
            return _minimum(theta - step, curvature, back, loss, n)
        theta, loss = _descend(rows, labels, theta, step, loss)
        if _separates(_logits(rows, theta), labels):
            break
    nothing = np.full((d + 1, 1 if classes == 2 else classes), np.nan)
    return Logistic(nothing[:-1], nothing[-1], np.full(d, np.nan), np.nan)


def _whitened(rows: Array) -> tuple[Array, Array]:
    """Return uncorrelated columns that span the same, and the map back of their coefficients."""
    left, values, directions = np.linalg.svd(rows, full_matrices=False)
    kept = values > max(rows.shape) * np.finfo(np.float64).eps * values[0]
    root = len(rows) ** 0.5
    return left[:, kept] * root, (directions[kept] / values[kept, None]).T * root


def log_loss(logits: Array, labels: Array) -> float:
    """Return the mean log-loss of logits (n_samples, classes), in nats."""
    chosen = np.take_along_axis(
        log_softmax(logits, axis=-1), labels.astype(np.intp)[:, None], axis=-1
    )
    return float(-chosen.mean())


def entropy(labels: Array, classes: int) -> float:
    """Return the log-loss of the best constant prediction: the entropy of the frequencies."""
    share = np.bincount(labels.astype(np.intp), minlength=classes) / len(labels)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def _logits(rows: Array, theta: Array) -> Array:
    return np.column_stack([np.zeros(len(rows)), rows @ theta])


def _curvature(rows: Array, share: Array) -> Array:
    """Return the Hessian of the mean log-loss, blocks of the free logits."""
    free = share[:, 1:]
    k, width = free.shape[1], rows.shape[1]
    found = np.empty((k, width, k, width))
    for i in range(k):
        for j in range(i, k):
            weight = free[:, i] * ((i == j) - free[:, j]) / len(rows)
            found[i, :, j] = found[j, :, i] = rows.T @ (weight[:, None] * rows)
    return found.reshape(k * width, k * width)


def _descend(
    rows: Array, labels: Array, theta: Array, step: Array, loss: float
) -> tuple[Array, float]:
    """Take Newton's step, or the largest part of it that does not raise the loss."""
    for halvings in range(40):
        tried = theta - 0.5**halvings * step
        found = log_loss(_logits(rows, tried), labels)
        if found <= loss:
            return tried, found
    return theta, loss


def _separates(logits: Array, labels: Array) -> bool:
    """Say whether every row has its own class's logit above all others."""
    correct = np.take_along_axis(logits, labels.astype(np.intp)[:, None], axis=-1)
    return bool(((logits >= correct).sum(axis=-1) == 1).all())


def _minimum(theta: Array, curvature: Array, back: Array, loss: float, n: int) -> Logistic:
    found = back @ theta
    if theta.shape[1] == 1:
        error = np.sqrt(np.diag(back @ np.linalg.inv(curvature) @ back.T) / n)[:-1]
        return Logistic(found[:-1], found[-1], error, loss)
    whole = np.column_stack([np.zeros(len(found)), found])
    whole = whole - whole.mean(axis=1, keepdims=True)
    return Logistic(whole[:-1], whole[-1], np.full(len(found) - 1, np.nan), loss)
