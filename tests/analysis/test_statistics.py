"""Estimates against closed forms, and what they refuse."""

import numpy as np
import pytest

from scaling_study.analysis.statistics import (
    BATCHES,
    bootstrap,
    censored_median,
    mean,
    median,
    paired_difference,
    proportion,
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
    for found in (mean(sample), median(sample, generator=generator())):
        assert found == (0.1, 0.1, 0.1, n)


def test_one_seed_has_a_value_and_no_interval() -> None:
    for found in (mean([3.0]), median([3.0], generator=generator())):
        assert found.value == 3.0
        assert np.isnan([found.low, found.high]).all()


def test_no_seed_is_no_value() -> None:
    for found in (mean([]), proportion(0, 0), median([], generator=generator())):
        assert np.isnan(found.value)
        assert found.n == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_never_dropped(bad: float) -> None:
    sample = [1.0, bad, 2.0]
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        mean(sample)
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        median(sample, generator=generator())
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        paired_difference(sample, [1.0, 2.0, 3.0])


def test_bootstrap_repeats_with_its_generator() -> None:
    sample = generator().standard_normal(50)
    first, again = (median(sample, generator=np.random.default_rng(1)) for _ in range(2))
    other = median(sample, generator=np.random.default_rng(2))
    assert first == again
    assert first != other
    assert first.low < np.median(sample) < first.high


def test_bootstrap_of_a_mean_is_near_the_t_interval() -> None:
    sample = generator().standard_normal(400)
    found, exact = bootstrap(sample, np.mean, generator=generator()), mean(sample)
    assert found[:3] == pytest.approx(exact[:3], abs=0.02)


def test_a_jackknife_without_variation_falls_back() -> None:
    # Leaving one of six ones out never moves the median, so BCa has no acceleration.
    found = median([1.0] * 6 + [2.0] * 2, generator=generator())
    assert np.isfinite(found[:3]).all()


def test_large_samples_go_by_batches() -> None:
    sample = generator().exponential(size=5_000)
    found = median(sample, generator=generator())
    batches = [np.median(part) for part in np.array_split(sample, BATCHES)]
    reach = 1.9842170 * np.std(batches, ddof=1) / 10  # t(99) at 97.5 %
    assert found.value == np.median(sample)
    assert found.high - found.value == pytest.approx(reach, rel=1e-6)


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
