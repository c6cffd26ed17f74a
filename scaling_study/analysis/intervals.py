"""Estimates with intervals: what is believed of a population of seeds, from a sample of them.

A sample that holds NaN or infinity is refused: runs that diverged are counted and reported as
a proportion, and whoever averages says over which runs. `mean_by` alone leaves NaN out, and its
``n`` says how many values are left; times beyond a budget are `censored_median`'s.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A value, the ends of its interval, and the number of seeds it rests on.

    Attributes
    ----------
    value, low, high : float
        In the unit of the sample. ``low == high == value`` is exact; NaN ends mean that the
        sample is too small for an interval, and a NaN value that it is empty.
    n : int
        Number of seeds.
    """

    value: float
    low: float
    high: float
    n: int


def mean(sample: ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean and Student's t interval, ``mean ± t(n - 1) sd / sqrt(n)``.

    Parameters
    ----------
    sample : array-like of shape (n_seeds,)
        One finite value a seed, in any unit; booleans count as 0 and 1.
    confidence : float
        Coverage of the interval.

    Returns
    -------
    Estimate
        In the unit of the sample.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    values = _finite(sample)
    settled = _without_spread(values)
    if settled is not None:
        return settled
    return _student(values, 1 / len(values), confidence)


def resampled_mean(
    sample: ArrayLike, train_rows: int, test_rows: int, *, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the mean over random splits of one data set, with Nadeau and Bengio's interval.

    Splits of the same rows overlap, so that their results are not independent, and Student's
    interval would shrink to nothing with their number. The corrected one is
    ``mean ± t(n - 1) sd sqrt(1/n + test_rows/train_rows)`` (Nadeau and Bengio 2003, "Inference
    for the generalization error", Machine Learning 52, section 3.1): however many splits, it
    stays as wide as the data's own size leaves it.

    Parameters
    ----------
    sample : array-like of shape (n_splits,)
        One finite value a split, in any unit.
    train_rows, test_rows : int
        Of each split.
    confidence : float
        Coverage of the interval.

    Returns
    -------
    Estimate
        In the unit of the sample; its ``n`` is the number of splits.

    Raises
    ------
    ValueError
        If a value is not finite, or there are no rows of a kind.
    """
    values = _finite(sample)
    if min(train_rows, test_rows) < 1:
        raise ValueError(f"{train_rows} rows to train on and {test_rows} to test are no split")
    settled = _without_spread(values)
    if settled is not None:
        return settled
    return _student(values, 1 / len(values) + test_rows / train_rows, confidence)


def mean_by(frame: pd.DataFrame, by: list[str], *, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Return the mean of each group of a frame's column ``value``, missing values left out.

    Parameters
    ----------
    frame : DataFrame
        With ``value``, one finite number, or NaN, a seed. Where it has ``overlap``, test rows
        over training rows of splits of one data set, the interval is that of `resampled_mean`;
        with an overlap of 0, and without the column, that of `mean`.
    by : list of str
        Columns that name a group; ``overlap`` is the same throughout a group.
    confidence : float
        Coverage of the interval.

    Returns
    -------
    DataFrame
        ``by``, then ``value, low, high, n``; groups without a value are not there.
    """
    known = frame.dropna(subset=["value"])
    known = known if "overlap" in known else known.assign(overlap=0.0)
    grouped = known.groupby(by, sort=False, observed=True)
    found = grouped["value"].agg(["mean", "std", "count"]).reset_index()
    overlap = grouped["overlap"].first().to_numpy(np.float64)
    degrees = np.maximum(found["count"] - 1, 1)
    spread = found["std"] * (1 / found["count"] + overlap) ** 0.5
    reach = stats.t.ppf((1 + confidence) / 2, degrees) * spread
    ends = {"low": found["mean"] - reach, "high": found["mean"] + reach}
    return found[by].assign(value=found["mean"], **ends, n=found["count"])


def proportion(successes: int, n: int, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return a proportion and its Wilson (1927) score interval.

    With p = successes / n and z the normal quantile, the interval is
    ``(p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n)``. It stays inside [0, 1], and at
    0 or n successes it still has a width, because never seeing an event does not prove that it
    cannot happen.

    Parameters
    ----------
    successes, n : int
        How many seeds of how many.
    confidence : float
        Coverage of the interval.

    Returns
    -------
    Estimate
        Unit-free, in [0, 1].

    Raises
    ------
    ValueError
        Unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not a proportion")
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    share = successes / n
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = share + z**2 / (2 * n)
    reach = z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)
    # At the edges the formula gives 0 and 1 up to rounding.
    low, high = 0.0 if successes == 0 else low, 1.0 if successes == n else high
    return Estimate(share, float(low), float(high), n)


def median(sample: ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return the median with the distribution-free interval of `censored_median`.

    Order statistics cover whatever the distribution; a bootstrap leans on a smoothness that a
    median does not have, and costs a thousand medians.

    Parameters
    ----------
    sample : array-like of shape (n_seeds,)
        One finite value a seed, in any unit.
    confidence : float
        Least coverage of the interval.

    Returns
    -------
    Estimate
        In the unit of the sample; a sample too small for an end has NaN there.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    values = _finite(sample)
    settled = _without_spread(values)
    if settled is not None:
        return settled
    low, high = _order_interval(np.sort(values), confidence)
    return Estimate(float(np.median(values)), low, high, len(values))


def censored_median(times: ArrayLike, budget: float, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return the median of times of which some lie beyond a common budget.

    A time that is not reached sorts above every time that is, so the order statistics, and
    with them the median and its distribution-free interval, are known as far as the budget:
    ``(x_(k), x_(n - k + 1))`` with k the binomial(n, 1/2) quantile of (1 - confidence)/2
    (Conover 1999, section 3.2).

    Parameters
    ----------
    times : array-like of shape (n_seeds,)
        In updates, 0 where a seed began there; NaN for one that did not get there.
    budget : float
        In updates; no time may lie beyond it.
    confidence : float
        Least coverage of the interval.

    Returns
    -------
    Estimate
        In updates. Infinity stands for "beyond the budget", in the value and in the ends; a
        sample too small for an end has 0 or infinity there.

    Raises
    ------
    ValueError
        If a time is infinite, negative, or beyond the budget.
    """
    values = np.asarray(times, dtype=np.float64)
    missed = np.isnan(values)
    if np.any((values[~missed] < 0) | (values[~missed] > budget)):
        raise ValueError(f"times must lie in [0, {budget}], and be NaN where not reached")
    n = len(values)
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    ordered = np.sort(np.where(missed, np.inf, values))
    middle = ordered[(n - 1) // 2], ordered[n // 2]
    value = float(np.mean(middle)) if np.isfinite(middle).all() else np.inf
    low, high = _order_interval(ordered, confidence)
    if np.isnan(low):
        return Estimate(value, 0.0, np.inf, n)
    return Estimate(value, low, high, n)


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the mean over seeds of ``first - second`` with Student's t interval.

    Conditions share their random numbers, so their difference within a seed varies less than
    the values do.

    Parameters
    ----------
    first, second : array-like of shape (n_seeds,)
        Finite values of the same seeds in the same order; booleans count as 0 and 1.
    confidence : float
        Coverage of the interval.

    Returns
    -------
    Estimate
        In the unit of the samples.

    Raises
    ------
    ValueError
        If the shapes differ or a value is not finite.
    """
    one, other = _finite(first), _finite(second)
    if one.shape != other.shape:
        raise ValueError(f"{len(one)} and {len(other)} values cannot be paired by seed")
    return mean(one - other, confidence=confidence)


def slope(
    x: ArrayLike, y: ArrayLike, seeds: ArrayLike, *, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the least-squares slope of y on x, with an interval clustered by seed.

    The runs of a seed share data, initialisation and order, and are no independent points:
    the variance sums their residuals within each seed before squaring (Liang and Zeger 1986),
    and Student's t has n_seeds - 1 degrees of freedom.

    Parameters
    ----------
    x, y : array-like of shape (n_runs,)
        Finite; the slope is in y's unit per unit of x.
    seeds : array-like of int, shape (n_runs,)
        Which seed each run is of.
    confidence : float
        Coverage of the interval.

    Returns
    -------
    Estimate
        Its ``n`` is the number of seeds; NaN throughout if x does not vary.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    from statsmodels.regression.linear_model import OLS

    at, values, cluster = _finite(x), _finite(y), np.asarray(seeds)
    n = len(np.unique(cluster))
    if len(at) == 0 or np.ptp(at) == 0:
        return Estimate(np.nan, np.nan, np.nan, n)
    design = np.column_stack([np.ones_like(at), at])
    if n == 1:
        return Estimate(float(OLS(values, design).fit().params[1]), np.nan, np.nan, 1)
    fit = OLS(values, design).fit(cov_type="cluster", cov_kwds={"groups": cluster}, use_t=True)
    with np.errstate(invalid="ignore"):
        reach = float(fit.bse[1]) * float(stats.t.ppf((1 + confidence) / 2, n - 1))
    value = float(fit.params[1])
    return Estimate(value, value - reach, value + reach, n)


def _order_interval(ordered: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the order statistics that hold the median, NaN where there are too few."""
    n = len(ordered)
    k = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))
    return (np.nan, np.nan) if k == 0 else (float(ordered[k - 1]), float(ordered[n - k]))


def _finite(sample: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(sample, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"a sample has one value a seed, not the shape {values.shape}")
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ValueError(
            f"{bad} of {len(values)} values are not finite; count those runs apart instead"
        )
    return values


def _without_spread(values: NDArray[np.float64]) -> Estimate | None:
    """Return the estimate from a sample that has no spread to estimate, else None."""
    if len(values) == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    if len(values) > 1 and np.any(values != values[0]):
        return None
    value = float(values[0])
    end = value if len(values) > 1 else np.nan
    return Estimate(value, end, end, len(values))


def _student(values: NDArray[np.float64], share: float, confidence: float) -> Estimate:
    """Return the mean and Student's interval, its variance that share of the sample's."""
    n, value = len(values), float(values.mean())
    quantile = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    reach = quantile * float(values.std(ddof=1)) * share**0.5
    return Estimate(value, value - reach, value + reach, n)
