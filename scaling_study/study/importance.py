"""The true importance of each feature, from the law of a problem."""

import numpy as np
from numpy.typing import NDArray

from scaling_study.study.problems import Problem

Array = NDArray[np.float64]
PERMUTATIONS = 20
PERMUTATION_STREAM = 6


def permutations_of(seed: int, rows: int) -> NDArray[np.int32]:
    """Return a seed's permutations of held-out rows, (PERMUTATIONS, rows)."""
    random = np.random.default_rng([PERMUTATION_STREAM, seed])
    return np.stack([random.permutation(rows) for _ in range(PERMUTATIONS)]).astype(np.int32)


def true_shares(problem: Problem, u: Array, orders: NDArray[np.int32]) -> Array:
    """Return each feature's share of permutation importance under the law itself.

    The error of the law is its noise. So permuting a feature adds the mean square of the change
    in the law's value, which does not depend on the unit of the feature. NaN where the law is
    constant, as for a real data set, whose law is unknown.

    Parameters
    ----------
    problem : Problem
    u : ndarray of shape (M, d)
        Held-out rows, in canonical units.
    orders : ndarray of shape (P, M)
        Permutations of the rows.
    """
    value, parts = problem.law(u), np.zeros(u.shape[1])
    for feature in range(u.shape[1]):
        for order in orders:
            permuted = u.copy()
            permuted[:, feature] = u[order, feature]
            parts[feature] += ((problem.law(permuted) - value) ** 2).mean()
    with np.errstate(invalid="ignore"):
        return parts / parts.sum()
