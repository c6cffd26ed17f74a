"""Half of the seeds tunes, the other half is reported on: what both halves and the best are."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

ALIKE = 1e-9  # scores nearer to each other than this are a tie


def halves(seeds: ArrayLike) -> NDArray[np.bool_]:
    """Return which seeds tune: the smaller half, and one fewer where their number is odd.

    Parameters
    ----------
    seeds : array-like of int, shape (n,)
        In any order; a seed may be there many times.

    Returns
    -------
    ndarray of bool, shape (n,)
        The others are reported on.
    """
    own = np.asarray(seeds)
    return own < np.median(np.unique(own))


def best(scores: ArrayLike) -> Any:
    """Return the place of the best score along the last axis, the middle one of those alike.

    Many rates may go all the way; the middle one is a cautious choice and is not at the edge
    merely through a tie.

    Parameters
    ----------
    scores : array-like of shape (..., n)
        Finite; the larger the better.

    Returns
    -------
    ndarray of int, shape (...)
        Places, from 0.
    """
    own = np.asarray(scores, np.float64)
    places = np.arange(own.shape[-1])
    alike = own >= own.max(axis=-1, keepdims=True) - ALIKE
    middle = (places * alike).sum(axis=-1) / alike.sum(axis=-1)
    distance = np.where(alike, np.abs(places - middle[..., None]), np.inf)
    return distance.argmin(axis=-1)
