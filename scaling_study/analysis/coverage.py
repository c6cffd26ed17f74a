"""Whether the intervals that reports show hold what they promise: studies of a known truth."""

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
# Values are skewed on purpose, as losses and times are: an exponential, median ln 2, mean 1.
REACHED = 0.7  # share of the seeds that reach their target in time
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
    # Each seed splits one data set, whose rows have an error each however training goes: so
    # little may training vary for the interval not to be wider than it need be.
    rows = generator.exponential(size=TRAIN_ROWS + TEST_ROWS)
    splits = generator.permuted(np.tile(rows, (len(values), 1)), axis=1)
    scores = splits[:, :TEST_ROWS].mean(axis=1)
    return resampled_mean(scores, TRAIN_ROWS, TEST_ROWS), 1.0


def _slope(values: Array, generator: np.random.Generator) -> tuple[Estimate, float]:
    # Each seed has a level and a slope of its own, common to its three runs.
    n = len(values)
    own = -1 + 0.5 * (values - 1)
    noise = 0.1 * generator.standard_normal((n, 3))
    y = generator.standard_normal(n)[:, None] + own[:, None] * LEVELS + noise
    seeds = np.repeat(np.arange(n), 3)
    return slope(np.tile(LEVELS, n), y.ravel(), seeds), -1.0


INTERVALS: dict[str, Callable[[Array, np.random.Generator], tuple[Estimate, float]]] = {
    "mean, Student's t": _mean,
    "proportion, Wilson": _proportion,
    "median, order statistics": _median,
    "censored median, order statistics": _censored,
    "slope, clustered by seed": _slope,
    "mean over splits of one data set, Nadeau and Bengio": _resampled,
}


def coverage(n: int, studies: int, *, generator: np.random.Generator) -> pd.DataFrame:
    """Return how often each 95 % interval held the truth, over simulated studies.

    Parameters
    ----------
    n : int
        Seeds, or splits, in each study; values are exponential, so skewed.
    studies : int
        How many.
    generator : numpy.random.Generator
        Draws the studies.

    Returns
    -------
    DataFrame
        One row per interval: ``interval, n, studies``, and ``coverage`` with ``low`` and
        ``high``, Wilson's interval for what was seen.
    """
    rows = []
    for name, interval in INTERVALS.items():
        held = 0
        for _ in range(studies):
            found, truth = interval(generator.exponential(size=n), generator)
            held += bool(found.low <= truth <= found.high)
        share = proportion(held, studies)
        rows.append(
            {"interval": name, "n": n, "studies": studies, "coverage": share.value,
             "low": share.low, "high": share.high}
        )  # fmt: skip
    return pd.DataFrame(rows)
