"""What a sample says of an effect: confidence that it is at most, or at least, some value.

A `Confidence` is a mixture. A cell whose learning rate is tuned has a part for each choice of the
rate that resampled tuning seeds make, weighted by how often they make it, so that its intervals
cover the choice; any other cell has one part. A part is one of

- a share: the exact limits of Clopper and Pearson 1934 (beta quantiles), also with ties of ½;
- a mean or a slope: Student's t;
- a constant sample of a bounded quantity, of which n values say no more than that other values
  are rare: at the exact limit of their share, these lie at the bound.

The confidence that the effect is at most x is the one-sided p-value of "the effect is at most x".
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import brentq

from scaling_study.analysis.intervals import CONFIDENCE, Estimate

Array = NDArray[np.float64]
WIDEST = (-np.inf, np.inf)


class Share(NamedTuple):
    """The sum of n values between 0 and 1."""

    total: float
    n: int

    def at_most(self, x: float) -> float:
        """Return the confidence that the share is at most x."""
        if self.total <= 0 or x >= 1:
            return 1.0
        return float(special.betainc(self.total, self.n - self.total + 1, max(x, 0.0)))

    def at_least(self, x: float) -> float:
        """Return the confidence that the share is at least x."""
        if self.total >= self.n or x <= 0:
            return 1.0
        return float(special.betaincc(self.total + 1, self.n - self.total, min(x, 1.0)))

    def ends(self, tail: float) -> tuple[float, float]:
        """Return where the confidences are ``tail``."""
        k, n = self.total, self.n
        low = 0.0 if k <= 0 else float(special.betaincinv(k, n - k + 1, tail))
        return low, 1.0 if k >= n else float(special.betaincinv(k + 1, n - k, 1 - tail))


class Mean(NamedTuple):
    """A mean or a slope with its standard error and degrees of freedom."""

    centre: float
    error: float
    degrees: int

    def at_most(self, x: float) -> float:
        """Return the confidence that the mean is at most x."""
        return float(special.stdtr(self.degrees, (x - self.centre) / self.error))

    def at_least(self, x: float) -> float:
        """Return the confidence that the mean is at least x."""
        return float(special.stdtr(self.degrees, (self.centre - x) / self.error))

    def ends(self, tail: float) -> tuple[float, float]:
        """Return where the confidences are ``tail``."""
        reach = -float(special.stdtrit(self.degrees, tail)) * self.error
        return self.centre - reach, self.centre + reach


class Constant(NamedTuple):
    """The mean of a quantity within bounds, of which n values were all alike."""

    value: float
    n: int
    bounds: tuple[float, float]

    def at_most(self, x: float) -> float:
        """Return the confidence that the mean is at most x."""
        return self._other(self.value - x, self.value - self.bounds[0])

    def at_least(self, x: float) -> float:
        """Return the confidence that the mean is at least x."""
        return self._other(x - self.value, self.bounds[1] - self.value)

    def _other(self, distance: float, most: float) -> float:
        """Return the chance of no other value, were their share what this distance needs."""
        if distance <= 0:
            return 1.0
        return 0.0 if distance >= most else float((1 - distance / most) ** self.n)

    def ends(self, tail: float) -> tuple[float, float]:
        """Return where the confidences are ``tail``."""
        share, (low, high) = 1 - tail ** (1 / self.n), self.bounds
        return self.value - share * (self.value - low), self.value + share * (high - self.value)


Part = Share | Mean | Constant


class Confidence(NamedTuple):
    """A point estimate, and the parts of its distribution with weights that add up to 1."""

    value: float
    n: int
    parts: tuple[Part, ...]
    weights: tuple[float, ...]

    def at_most(self, x: float) -> float:
        """Return the confidence that the effect is at most x; 1 if nothing is known."""
        return self._mixed([part.at_most(x) for part in self.parts])

    def at_least(self, x: float) -> float:
        """Return the confidence that the effect is at least x; 1 if nothing is known."""
        return self._mixed([part.at_least(x) for part in self.parts])

    def _mixed(self, confidences: Sequence[float]) -> float:
        return float(np.dot(self.weights, confidences)) if confidences else 1.0

    def estimate(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the value with its interval, NaN ends if nothing is known."""
        if not self.parts:
            return Estimate(self.value, np.nan, np.nan, self.n)
        tail = (1 - confidence) / 2
        lows, highs = zip(*(part.ends(tail) for part in self.parts), strict=True)
        low = _root(lambda x: self.at_most(x) - tail, lows)
        high = _root(lambda x: tail - self.at_least(x), highs)
        return Estimate(self.value, low, high, self.n)


def _root(function, ends: Sequence[float]) -> float:
    """Return where a rising function is zero, between the least and the largest end."""
    low, high = min(ends), max(ends)
    if not low < high or not np.isfinite([low, high]).all():
        return low if low == high else np.nan
    if function(low) >= 0 or function(high) <= 0:  # the parts agree up to rounding
        return low if function(low) >= 0 else high
    found: Any = brentq(function, low, high, xtol=1e-12)
    return float(found)


def part_of(sample: Array, *, share: bool, bounds: tuple[float, float] = WIDEST) -> Part | None:
    """Return what a sample, one finite value a seed, says of its mean.

    Parameters
    ----------
    sample : ndarray of shape (n_seeds,)
    share : bool
        Whether values lie between 0 and 1 and their mean is a share.
    bounds : tuple of float
        The least and the largest value that the quantity can have.

    Returns
    -------
    Part or None
        None of a sample that is empty, or has one value of a quantity that is no share.
    """
    n = len(sample)
    if n == 0:
        return None
    if share:
        return Share(float(sample.sum()), n)
    if not np.ptp(sample) > 0:
        return Constant(float(sample[0]), n, bounds) if n > 1 else None
    return Mean(float(sample.mean()), float(sample.std(ddof=1)) / n**0.5, n - 1)


def part_of_slope(slope: Estimate) -> Part | None:
    """Return what an estimate of a slope, clustered by seed, says of it."""
    if slope.n < 2 or not np.isfinite(slope.low):
        return None
    quantile = -float(special.stdtrit(slope.n - 1, (1 - CONFIDENCE) / 2))
    error = (slope.high - slope.low) / 2 / quantile
    # Rounding may leave no spread at all.
    return Mean(slope.value, max(error, np.finfo(float).tiny), slope.n - 1)
