"""Confidence in an effect: exact limits, Student's t, constant samples, and their mixtures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from scaling_study.analysis import intervals
from scaling_study.analysis.confidence import (
    Confidence,
    Constant,
    Mean,
    Share,
    part_of,
    part_of_slope,
)


def alone(part) -> Confidence:
    return Confidence(0.0, 10, (part,), (1.0,))


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 40), (3, 40), (20, 40), (40, 40)])
def test_a_share_has_the_limits_of_clopper_and_pearson(k, n):
    low, high = proportion_confint(k, n, 0.05, method="beta")
    found = alone(Share(k, n)).estimate()
    assert found.low == pytest.approx(low, abs=1e-12)
    assert found.high == pytest.approx(high, abs=1e-12)
    for x in (0.01, 0.3, 0.5, 0.99):
        greater = stats.binomtest(k, n, x, alternative="greater").pvalue
        less = stats.binomtest(k, n, x, alternative="less").pvalue
        assert Share(k, n).at_most(x) == pytest.approx(greater)
        assert Share(k, n).at_least(x) == pytest.approx(less)


def test_a_mean_has_students_interval():
    sample = np.random.default_rng(0).normal(1, 2, 30)
    part = part_of(sample, share=False)
    found, t = alone(part).estimate(), intervals.mean(sample)
    assert (found.low, found.high) == pytest.approx((t.low, t.high))
    assert part is not None
    assert part.at_most(0.5) == pytest.approx(
        stats.ttest_1samp(sample, 0.5, alternative="greater").pvalue
    )


def test_a_constant_sample_has_an_interval_of_some_width():
    part = part_of(np.full(100, 0.25), share=False, bounds=(-1.0, 1.0))
    assert isinstance(part, Constant)
    found = alone(part).estimate()
    rare = 1 - 0.025 ** (1 / 100)  # the exact limit of a share of 0 of 100
    assert found.low == pytest.approx(0.25 - rare * 1.25)
    assert found.high == pytest.approx(0.25 + rare * 0.75)
    assert part.at_most(found.low) == pytest.approx(0.025)
    assert part.at_most(0.25) == 1
    assert part.at_most(-1.5) == 0


def test_a_constant_sample_without_bounds_says_nothing():
    part = part_of(np.zeros(100), share=False)
    assert part is not None
    assert part.at_most(-5.0) == part.at_least(5.0) == 1
    assert not np.isfinite(alone(part).estimate().low)


def test_nothing_known_is_nothing_decided():
    nothing = Confidence(np.nan, 0, (), ())
    assert nothing.at_most(0) == nothing.at_least(0) == 1
    assert np.isnan(nothing.estimate().low)
    assert part_of(np.empty(0), share=True) is None
    assert part_of(np.ones(1), share=False) is None


PARTS = st.one_of(
    st.builds(Share, st.integers(0, 20), st.just(20)),
    st.builds(Mean, st.floats(-2, 2), st.floats(0.01, 1), st.integers(3, 50)),
    st.builds(Constant, st.floats(-1, 1), st.integers(2, 50), st.just((-1.0, 1.0))),
)


@settings(deadline=None, derandomize=True, database=None)
@given(parts=st.lists(PARTS, min_size=1, max_size=4), data=st.data())
def test_a_mixture_covers_its_parts_by_their_weights(parts, data):
    raw = np.array([data.draw(st.floats(0.05, 1)) for _ in parts])
    whole = Confidence(0.0, 10, tuple(parts), tuple(raw / raw.sum()))
    found = whole.estimate()
    ends = [part.ends(0.025) for part in parts]
    assert min(low for low, _ in ends) - 1e-9 <= found.low
    assert found.high <= max(high for _, high in ends) + 1e-9
    assert found.low <= found.high
    xs = np.linspace(-3, 3, 25)
    rising = [whole.at_most(x) for x in xs]
    assert np.all(np.diff(rising) >= -1e-12)
    assert np.all(np.diff([whole.at_least(x) for x in xs]) <= 1e-12)


def test_a_slope_keeps_its_clustered_interval():
    random = np.random.default_rng(1)
    x = np.tile([0.0, 1.0, 2.0], 20)
    y = 2 * x + random.normal(size=60)
    estimate = intervals.slope(x, y, np.repeat(np.arange(20), 3))
    part = part_of_slope(estimate)
    found = alone(part).estimate()
    assert (found.low, found.high) == pytest.approx((estimate.low, estimate.high))


def test_exact_shares_cover_at_least_what_they_promise():
    random = np.random.default_rng(2)
    for share in (0.02, 0.5, 0.9):
        totals = random.binomial(30, share, 500)
        covered = [low <= share <= high for low, high in (Share(k, 30).ends(0.025) for k in totals)]
        assert np.mean(covered) >= 0.94
