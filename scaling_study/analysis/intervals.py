"""Point estimates with confidence intervals, over the seeds of a study.

Every function returns an `Estimate` in the unit of the sample and takes ``confidence``, the
coverage of the interval (the minimum coverage, for medians). NaN and infinity raise ValueError:
the caller states which runs are averaged, and counts diverged runs as a proportion. There are two
exceptions: `mean_by` omits NaN and returns the number of values left; `censored_median` takes NaN
for times beyond the budget.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A point estimate, its interval and the sample size.

    Attributes
    ----------
    value, low, high : float
        ``low == high == value`` if the sample has no spread; NaN ends if it is too small for an
        interval; a NaN value if it is empty.
    n : int
        Number of seeds.
    """

    value: float
    low: float
    high: float
    n: int


UNKNOWN = Estimate(np.nan, np.nan, np.nan, 0)


def mean(sample: ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean and Student's t interval, ``mean ± t(n - 1) sd / sqrt(n)``.

    Booleans count as 0 and 1.
    """
    values = _finite(sample)
    return _student(values, 1 / max(1, len(values)), confidence)


def resampled_mean(
    sample: ArrayLike, train_rows: int, test_rows: int, *, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the mean over random splits of one data set, with Nadeau and Bengio's interval.

    Splits of the same rows overlap, so their results are not independent, and Student's interval
    would shrink to zero with their number. The corrected interval is
    ``mean ± t(n - 1) sd sqrt(1/n + test_rows/train_rows)`` (Nadeau and Bengio 2003, "Inference
    for the generalization error", Machine Learning 52, section 3.1).
    """
    values = _finite(sample)
    if min(train_rows, test_rows) < 1:
        raise ValueError(f"a split needs training and test rows, not {train_rows} and {test_rows}")
    return _student(values, 1 / max(1, len(values)) + test_rows / train_rows, confidence)


def mean_by(frame: pd.DataFrame, by: list[str], *, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Return the mean of column ``value`` in each group of a frame, NaN omitted.

    Parameters
    ----------
    frame : DataFrame
        With ``value``, one number a seed. If it has a column ``overlap`` (test rows over training
        rows of splits of one data set, constant in a group), the interval is that of
        `resampled_mean`; without it, or where it is 0, that of `mean`.
    by : list of str
        Columns that identify a group.

    Returns
    -------
    DataFrame
        ``by``, ``value, low, high, n``; no row for a group without values.
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
    """Return a proportion and its score interval (Wilson 1927).

    With p = successes / n and z the normal quantile, the interval is
    ``(p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n)``. It stays inside [0, 1] and has a
    positive width also at 0 and n successes.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is not a proportion")
    if n == 0:
        return UNKNOWN
    share = successes / n
    z = _normal_quantile(confidence)
    centre = share + z**2 / (2 * n)
    reach = z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)
    # At the edges the formula gives 0 and 1 up to rounding.
    low, high = 0.0 if successes == 0 else low, 1.0 if successes == n else high
    return Estimate(share, float(low), float(high), n)


def median(sample: ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return the median with the distribution-free interval of `censored_median`.

    A bootstrap would assume a smoothness that a median does not have. A sample too small for an
    interval has NaN ends.
    """
    values = _finite(sample)
    if (exact := _without_spread(values)) is not None:
        return exact
    low, high = _order_interval(np.sort(values), confidence)
    return Estimate(float(np.median(values)), low, high, len(values))


def censored_median(times: ArrayLike, budget: float, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return the median of times of which some lie beyond a common budget.

    A censored time sorts above every observed one, so the order statistics up to the budget are
    known. The interval is ``(x_(k), x_(n - k + 1))`` with k the binomial(n, 1/2) quantile of
    (1 - confidence)/2 (Conover 1999, section 3.2).

    Parameters
    ----------
    times : array-like of shape (n_seeds,)
        In updates, in [0, budget]; NaN for a seed that did not reach its target.
    budget : float
        In updates.

    Returns
    -------
    Estimate
        Infinity means "beyond the budget". A sample too small for an interval has 0 and infinity
        as its ends.
    """
    values = np.asarray(times, dtype=np.float64)
    censored = np.isnan(values)
    if np.any((values[~censored] < 0) | (values[~censored] > budget)):
        raise ValueError(f"times must lie in [0, {budget}], and be NaN where not reached")
    n = len(values)
    if n == 0:
        return UNKNOWN
    ordered = np.sort(np.where(censored, np.inf, values))
    middle = ordered[(n - 1) // 2], ordered[n // 2]
    value = float(np.mean(middle)) if np.isfinite(middle).all() else np.inf
    low, high = _order_interval(ordered, confidence)
    return Estimate(value, 0.0, np.inf, n) if np.isnan(low) else Estimate(value, low, high, n)


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the mean over seeds of ``first - second``, with the interval of `mean`.

    Both are of the same seeds in the same order. Conditions share their random numbers, so the
    difference within a seed varies less than the values do.
    """
    one, other = _finite(first), _finite(second)
    if one.shape != other.shape:
        raise ValueError(f"{len(one)} and {len(other)} values cannot be paired by seed")
    return mean(one - other, confidence=confidence)


def slope(
    x: ArrayLike, y: ArrayLike, seeds: ArrayLike, *, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the least-squares slope of y on x, with an interval clustered by seed.

    Runs of a seed share data, initialization and batch order, so they are not independent. The
    variance sums residuals within each seed before squaring (Liang and Zeger 1986), and Student's
    t has n_seeds - 1 degrees of freedom.
    ``n`` is the number of seeds; the rest is NaN if x does not vary, and the interval of one seed
    or of two points, which a line always fits.
    """
    at, values = _finite(x), _finite(y)
    clusters, cluster = np.unique(np.asarray(seeds), return_inverse=True)
    n = len(clusters)
    if len(at) == 0 or np.ptp(at) == 0:
        return UNKNOWN._replace(n=n)
    design = np.column_stack([np.ones_like(at), at])
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ values
    value = float(coefficients[1])
    if n == 1 or len(at) == 2:
        return UNKNOWN._replace(value=value, n=n)
    # As statsmodels' OLS with cov_type "cluster", to the bit, at half its time.
    scores = design * (values - design @ coefficients)[:, None]
    sums = np.column_stack([np.bincount(cluster, column) for column in scores.T])
    bread = inverse @ inverse.T
    correction = n / (n - 1.0) * ((len(at) - 1.0) / (len(at) - 2))
    variance = (bread @ (sums.T @ sums) @ bread * correction)[1, 1]
    reach = float(np.sqrt(variance)) * _t_quantile(n - 1, confidence)
    return Estimate(value, value - reach, value + reach, n)


# SciPy takes 0.1 ms for a quantile, and a report asks for a hundred thousand of the same few.
@cache
def _normal_quantile(confidence: float) -> float:
    return float(stats.norm.ppf((1 + confidence) / 2))


@cache
def _t_quantile(degrees: int, confidence: float) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, degrees))


@cache
def _rank(n: int, confidence: float) -> int:
    """Return which order statistic of n values is the lower end of the median's interval."""
    return int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))


def _order_interval(ordered: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the order statistics around the median, NaN if there are too few values."""
    n = len(ordered)
    k = _rank(n, confidence)
    return (np.nan, np.nan) if k == 0 else (float(ordered[k - 1]), float(ordered[n - k]))


def _finite(sample: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(sample, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"a sample has one value a seed, not the shape {values.shape}")
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{bad} of {len(values)} values are not finite; count those runs apart")
    return values


def _without_spread(values: NDArray[np.float64]) -> Estimate | None:
    """Return the estimate of an empty, single-valued or constant sample, else None."""
    if len(values) == 0:
        return UNKNOWN
    value, n = float(values[0]), len(values)
    if n == 1:
        return Estimate(value, np.nan, np.nan, 1)
    return None if np.any(values != values[0]) else Estimate(value, value, value, n)


def _student(values: NDArray[np.float64], variance_factor: float, confidence: float) -> Estimate:
    """Return the mean and t interval; its variance is the factor times the sample variance."""
    if (exact := _without_spread(values)) is not None:
        return exact
    n, value = len(values), float(values.mean())
    reach = _t_quantile(n - 1, confidence) * float(values.std(ddof=1)) * variance_factor**0.5
    return Estimate(value, value - reach, value + reach, n)
