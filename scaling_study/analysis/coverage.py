"""Simulated coverage of the 95 % intervals that reports show."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis.intervals import (
    Estimate,
    censored_median,
    mean,
    median,
    proportion,
    resampled_mean,
    slope,
)

Array = NDArray[np.float64]
# Values are exponential, of median ln 2 and mean 1: skewed as losses and times are.
REACHED = 0.7  # share of the seeds that reach their target within the budget
LEVELS = np.log10([1.0, 10.0, 100.0])
TRAIN_ROWS, TEST_ROWS = 150, 50


def _mean(values: Array, _: np.random.Generator) -> tuple[Estimate, float]:
    return mean(values), 1.0


def _proportion(values: Array, _: np.random.Generator) -> tuple[Estimate, float]:
    return proportion(int((values < 0.2).sum()), len(values)), 1 - np.exp(-0.2)


def _median(values: Array, _: np.random.Generator) -> tuple[Estimate, float]:
    return median(values), np.log(2)


def _censored(values: Array, _: np.random.Generator) -> tuple[Estimate, float]:
    budget = -np.log(1 - REACHED)
    return censored_median(np.where(values <= budget, values, np.nan), budget), np.log(2)


def _resampled(values: Array, generator: np.random.Generator) -> tuple[Estimate, float]:
    # Seeds split one data set; each row has the same error in every training, the case in which
    # the interval is least conservative.
    rows = generator.exponential(size=TRAIN_ROWS + TEST_ROWS)
    splits = generator.permuted(np.tile(rows, (len(values), 1)), axis=1)
    scores = splits[:, :TEST_ROWS].mean(axis=1)
    return resampled_mean(scores, TRAIN_ROWS, TEST_ROWS), 1.0


def _slope(values: Array, generator: np.random.Generator) -> tuple[Estimate, float]:
    # The three runs of a seed share an intercept and a slope.
    n = len(values)
    slopes = -1 + 0.5 * (values - 1)
    noise = 0.1 * generator.standard_normal((n, 3))
    y = generator.standard_normal(n)[:, None] + slopes[:, None] * LEVELS + noise
    return slope(np.tile(LEVELS, n), y.ravel(), np.repeat(np.arange(n), 3)), -1.0


INTERVALS: dict[str, Callable[[Array, np.random.Generator], tuple[Estimate, float]]] = {
    "mean, Student's t": _mean,
    "proportion, Wilson": _proportion,
    "median, order statistics": _median,
    "censored median, order statistics": _censored,
    "slope, clustered by seed": _slope,
    "mean over splits of one data set, Nadeau and Bengio": _resampled,
}


def coverage(n: int, studies: int, *, generator: np.random.Generator) -> pd.DataFrame:
    """Return how often each 95 % interval contains the true value, over simulated studies.

    Parameters
    ----------
    n : int
        Seeds, or splits, in each study.
    studies : int
    generator : numpy.random.Generator

    Returns
    -------
    DataFrame
        One row an interval: ``interval, n, studies``, and ``coverage`` with ``low`` and ``high``,
        Wilson's interval.
    """
    rows = []
    for name, interval in INTERVALS.items():
        contained = 0
        for _ in range(studies):
            found, truth = interval(generator.exponential(size=n), generator)
            contained += bool(found.low <= truth <= found.high)
        value, low, high, _ = proportion(contained, studies)
        counts = {"interval": name, "n": n, "studies": studies}
        rows.append(counts | {"coverage": value, "low": low, "high": high})
    return pd.DataFrame(rows)
