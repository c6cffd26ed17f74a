"""Estimates against closed forms, and what they refuse."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from scaling_study.analysis.intervals import (
    censored_median,
    mean,
    mean_by,
    median,
    paired_difference,
    proportion,
    resampled_mean,
    slope,
)


def generator() -> np.random.Generator:
    return np.random.default_rng(20250130)


def test_mean_has_the_t_interval() -> None:
    # t(3) at 97.5 % is 3.182446; the sample's sd is sqrt(5/3).
    found = mean([1.0, 2.0, 3.0, 4.0])
    reach = 3.1824463 * np.sqrt(5 / 3) / 2
    assert found.value == 2.5
    assert found.low == pytest.approx(2.5 - reach, rel=1e-7)
    assert found.high == pytest.approx(2.5 + reach, rel=1e-7)
    assert found.n == 4


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # The first four: Newcombe (1998), Statistics in Medicine 17, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_proportion_has_wilsons_interval(successes: int, n: int, low: float, high: float) -> None:
    found = proportion(successes, n)
    assert found.value == successes / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.n == n


@pytest.mark.parametrize("successes", [-1, 4])
def test_proportion_refuses_what_is_none(successes: int) -> None:
    with pytest.raises(ValueError, match="is not a proportion"):
        proportion(successes, 3)


@pytest.mark.parametrize("n", [2, 7, 1_500])
def test_a_constant_sample_is_exact(n: int) -> None:
    sample = np.full(n, 0.1)
    for found in (mean(sample), median(sample)):
        assert found == (0.1, 0.1, 0.1, n)


def test_one_seed_has_a_value_and_no_interval() -> None:
    for found in (mean([3.0]), median([3.0])):
        assert found.value == 3.0
        assert np.isnan([found.low, found.high]).all()


def test_no_seed_is_no_value() -> None:
    for found in (mean([]), proportion(0, 0), median([])):
        assert np.isnan(found.value)
        assert found.n == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_never_dropped(bad: float) -> None:
    sample = [1.0, bad, 2.0]
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        mean(sample)
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        median(sample)
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        paired_difference(sample, [1.0, 2.0, 3.0])


def test_intervals_cover() -> None:
    """Of 400 samples about 380 hold the truth; 360 is four standard errors below."""
    random = generator()
    covered = np.zeros(3, int)
    for _ in range(400):
        sample = random.normal(1.0, 2.0, size=20)
        hits = int((sample > 1).sum())
        times = np.where(random.random(41) < 0.7, random.integers(1, 100, 41) * 1.0, np.nan)
        truth = 100 * 0.5 / 0.7  # the median of times of which 70 % are uniform below 100
        for place, (found, value) in enumerate(
            [
                (mean(sample), 1.0),
                (proportion(hits, 20), 0.5),
                (censored_median(times, 100), truth),
            ]
        ):
            covered[place] += found.low <= value <= found.high
    assert (covered >= 360).all()
    assert covered[0] < 396


def test_median_with_everything_reached_is_the_median() -> None:
    assert censored_median(np.arange(1.0, 42.0), 50) == (21, 14, 28, 41)


def test_median_is_censored_when_fewer_than_half_arrive() -> None:
    found = censored_median([10.0] * 4 + [np.nan] * 6, 800)
    assert found.value == np.inf
    assert found.low == 10
    assert found.high == np.inf


def test_median_of_times_refuses_what_lies_beyond_the_budget() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        censored_median([801.0], 800)


def test_paired_difference_uses_the_pairing() -> None:
    seeds = generator().normal(0, 100, size=30)
    found = paired_difference(seeds + 1 + np.tile([0.1, -0.1], 15), seeds)
    assert found.value == pytest.approx(1)
    assert found.high - found.low < 0.1
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference([1.0, 2.0], [1.0])


def test_the_medians_ends_are_order_statistics() -> None:
    # P(X <= 13) and P(X >= 28) of a binomial(41, 1/2) are 1.4 % each, one further 3.0 %.
    assert median(np.arange(1.0, 42.0)) == (21, 14, 28, 41)
    assert np.isnan(median([1.0, 2.0, 3.0]).low)


def test_a_slope_takes_a_seed_as_one_however_many_runs_it_has() -> None:
    random = generator()
    seeds, x = np.repeat(np.arange(30), 3), np.tile([0.0, 1.0, 2.0], 30)
    y = random.normal(size=30)[seeds] - 2 * x + random.normal(size=30)[seeds] * x
    once = slope(x, y, seeds)
    each = [np.polyfit([0, 1, 2], y[seeds == seed], 1)[0] for seed in range(30)]
    assert once.value == pytest.approx(np.mean(each))
    # Alike designs: the clustered interval is that of the seeds' own slopes.
    assert once.high - once.value == pytest.approx(mean(each).high - np.mean(each), rel=0.02)
    again = slope(np.tile(x, 5), np.tile(y, 5), np.tile(seeds, 5))
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.02)
    assert again.n == once.n == 30


def test_a_slope_needs_something_to_lean_on() -> None:
    assert np.isnan(slope([1.0, 1.0], [0.0, 1.0], [0, 1]).value)
    assert slope([0.0, 1.0], [0.0, 3.0], [0, 0])[:1] == pytest.approx((3.0,))
    assert np.isnan(slope([0.0, 1.0], [0.0, 3.0], [0, 0]).low)
    two = slope([0.0, 1.0], [0.0, 3.0], [0, 1])  # a line through two points leaves no residual
    assert (two.value, two.n) == (pytest.approx(3.0), 2)
    assert np.isnan([two.low, two.high]).all()
    with pytest.raises(ValueError, match="finite"):
        slope([0.0, 1.0], [np.nan, 0.0], [0, 1])


def test_splits_of_the_same_rows_have_an_interval_that_stays_wide():
    # By hand: mean 0.6, sd 0.1, t(2) = 4.302653, sqrt(1/3 + 1/2) = 0.912871.
    value, low, high, n = resampled_mean([0.5, 0.6, 0.7], 100, 50)
    assert (value, n) == (pytest.approx(0.6), 3)
    reach = 0.1 * 4.302653 * 0.912871
    assert [high - value, value - low] == pytest.approx([reach, reach], rel=1e-5)
    few, many = (
        resampled_mean(np.random.default_rng(0).normal(size=size), 100, 50)
        for size in (100, 10_000)
    )
    assert (many.high - many.low) / (few.high - few.low) == pytest.approx(1, abs=0.2)
    assert resampled_mean([0.5, 0.5], 100, 50)[:3] == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="a split needs"):
        resampled_mean([0.5, 0.6], 0, 50)


def test_means_of_groups_have_the_interval_of_their_rows() -> None:
    values = [0.5, 0.6, 0.7]
    frame = pd.DataFrame(
        {"data": ["same"] * 3 + ["new"] * 3, "value": values * 2, "overlap": [0.5] * 3 + [0.0] * 3}
    )
    found = mean_by(frame, ["data"]).set_index("data")
    assert found.loc["same"].tolist() == pytest.approx(resampled_mean(values, 100, 50))
    assert found.loc["new"].tolist() == pytest.approx(mean(values))
    plain = mean_by(frame.drop(columns="overlap"), ["data"]).set_index("data")
    assert plain.loc["same"].tolist() == pytest.approx(mean(values))


@given(st.integers(2, 30), st.integers(2, 4), st.integers(0, 99))
def test_a_slope_is_that_of_statsmodels_to_the_bit(seeds, levels, number) -> None:
    random = np.random.default_rng(number)
    x = np.tile(random.normal(size=levels), seeds)
    y, cluster = random.normal(size=len(x)), np.repeat(np.arange(seeds), levels)
    model = sm.OLS(y, sm.add_constant(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": cluster}, use_t=True)
    reach = float(fit.bse[1]) * float(scipy.stats.t.ppf(0.975, seeds - 1))
    value = float(fit.params[1])
    assert slope(x, y, cluster) == (value, value - reach, value + reach, seeds)
