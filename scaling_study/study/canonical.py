"""Canonical coordinates: columns of mean 0 and standard deviation 1, ``u = mean + unit · values``.

A column with a large mean loses the digits of its variation as soon as it is squared, multiplied
or cast to float32. So the columns and the target of a seed are centred and scaled once, in
float64, before anything else; units, offsets and scalers are affine maps from there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
EPS = np.finfo(np.float64).eps


class Canonical(NamedTuple):
    """Columns in canonical coordinates."""

    values: Array  # (..., n_samples, d), mean 0 and standard deviation 1; 0 if constant
    mean: Array  # (..., d)
    unit: Array  # (..., d), the standard deviation; 1 for a constant column

    def of(self, u: Array) -> Array:
        """Return other rows of the same columns in these coordinates."""
        return (u - self.mean[..., None, :]) / self.unit[..., None, :]


def canonical(u: Array) -> Canonical:
    """Return columns (..., n_samples, d) in canonical coordinates.

    A column counts as constant if its standard deviation is within the error bound of its own
    rounding, ``n eps |mean|``, as in `sklearn.preprocessing.StandardScaler`.
    """
    # Divided by their magnitude first, so that neither sums nor squares overflow or vanish.
    size = np.abs(u).max(axis=-2, keepdims=True)
    size = np.where(size > 0, size, 1.0)
    mean, centred = _centred(u / size)
    largest = np.abs(centred).max(axis=-2, keepdims=True)
    constant = largest == 0
    scaled = centred / np.where(constant, 1.0, largest)
    deviation = largest * np.sqrt((scaled**2).mean(axis=-2, keepdims=True))
    constant |= deviation <= u.shape[-2] * EPS * np.abs(mean)
    values = np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))
    unit = np.where(constant, 1.0, size * deviation)
    return Canonical(values, (size * mean)[..., 0, :], unit[..., 0, :])


def _centred(u: Array) -> tuple[Array, Array]:
    """Return mean and deviations; the second pass removes the rounding error of the mean."""
    mean = u.mean(axis=-2, keepdims=True)
    rest = (u - mean).mean(axis=-2, keepdims=True)
    return mean + rest, (u - mean) - rest


def orthogonal(values: Array) -> tuple[Array, Array]:
    """Return orthonormal columns q of mean 0, and the triangle r with ``values = q r``.

    Products of nearly collinear columns keep few digits of their differences; those of q keep
    them all. The columns of ``values`` (..., n_samples, d) have mean 0; in q, ``mean(q_i q_j)`` is
    1 for i = j and 0 otherwise, and columns beyond the rank that n_samples allows are 0.
    """
    n, d = values.shape[-2:]
    ones = np.ones((*values.shape[:-1], 1))
    q, r = np.linalg.qr(np.concatenate([ones, values], axis=-1))
    q, r = q[..., 1:] * n**0.5, r[..., 1:, 1:] / n**0.5
    missing = d - q.shape[-1]
    lead = [(0, 0)] * (q.ndim - 2)
    return np.pad(q, [*lead, (0, 0), (0, missing)]), np.pad(r, [*lead, (0, missing), (0, 0)])
