"""Groups of numbers by natural breaks."""

import numpy as np
from numpy.typing import NDArray


def natural_breaks(values: NDArray[np.float64], count: int) -> list[int]:
    """Return the group of each value, from 1, such that the squares within groups are least.

    The exact partition of Fisher (1958), by dynamic programming; also known as Jenks' breaks.

    Parameters
    ----------
    values : array of shape (n,)
    count : int
        Number of groups, at most n.

    Returns
    -------
    list of int
        Empty if equal values would be in two groups, or a value is NaN.

    Examples
    --------
    >>> natural_breaks(np.array([0.9, 0.1, 0.85, 0.2, 0.5]), 3)
    [3, 1, 3, 1, 2]
    """
    order = np.argsort(values, kind="stable")
    x = values[order] - np.mean(values)
    n, sums, squares = len(x), np.cumsum([0.0, *x]), np.cumsum([0.0, *x**2])
    size = np.arange(n + 1) - np.arange(n + 1)[:, None]
    within = np.where(
        size > 0,
        squares - squares[:, None] - (sums - sums[:, None]) ** 2 / np.maximum(size, 1),
        np.inf,
    )  # [i, j]: of the values from i up to but not including j
    least, starts = within[0], []
    for _ in range(count - 1):
        every = least[:, None] + within
        starts.append(every.argmin(axis=0))  # where the last group begins
        least = every.min(axis=0)
    ends = [n]
    for start in reversed(starts):
        ends.append(start[ends[-1]])
    borders = ends[:0:-1]
    if not np.isfinite(least[n]) or any(x[i - 1] == x[i] for i in borders):
        return []
    found = np.empty(n, int)
    found[order] = 1 + np.searchsorted(borders, np.arange(n), side="right")
    return found.tolist()
