"""What truly matters: the importance that a problem's own law gives each feature."""

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

    The error of the law is its noise, so that what permuting adds is the mean square of how far
    the law's value moves: no unit enters.

    Parameters
    ----------
    problem : Problem
        Whose law is a function of u, or linear.
    u : ndarray of shape (M, d)
        Held-out rows, in canonical units.
    orders : ndarray of shape (P, M)
        Permutations of the rows.

    Returns
    -------
    ndarray of shape (d,)
        NaN where the law does not move at all, as that of a real data set, which nobody knows.
    """

    def law(rows: Array) -> Array:
        if problem.signal is not None:
            return problem.signal(rows)
        return rows @ (problem.coefficients * problem.reference_scale)

    value, parts = law(u), np.zeros(u.shape[1])
    for feature in range(u.shape[1]):
        for order in orders:
            moved = u.copy()
            moved[:, feature] = u[order, feature]
            parts[feature] += ((law(moved) - value) ** 2).mean()
    with np.errstate(invalid="ignore"):
        return parts / parts.sum()
