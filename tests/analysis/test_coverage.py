"""Coverage: at n = 200 the intervals hold what they promise; at n = 10 some do not."""

import numpy as np

from scaling_study.analysis.coverage import INTERVALS, TEST_ROWS, TRAIN_ROWS, coverage
from scaling_study.analysis.intervals import mean


def test_intervals_cover_at_200_seeds():
    found = coverage(200, 2000, generator=np.random.default_rng(1)).set_index("interval")
    assert found["coverage"].between(0.93, 0.97).all(), found["coverage"]


def test_too_few_seeds_of_a_skewed_law_are_noticed():
    found = coverage(5, 400, generator=np.random.default_rng(1)).set_index("interval")
    assert found.loc["mean, Student's t", "high"] < 0.95
    assert found.loc["median, order statistics", "coverage"] == 0  # no ends at all


def test_a_wrong_truth_would_be_noticed(monkeypatch):
    name = "mean, Student's t"

    def shifted(values, generator):
        found, truth = INTERVALS[name](values, generator)
        return found, truth + 0.2

    monkeypatch.setattr("scaling_study.analysis.coverage.INTERVALS", {name: shifted})
    assert coverage(200, 200, generator=np.random.default_rng(1))["coverage"].item() < 0.6


def test_a_plain_interval_of_splits_of_one_data_set_would_not_cover(monkeypatch):
    rows = TRAIN_ROWS + TEST_ROWS

    def plain(values, generator):
        splits = generator.permuted(
            np.tile(generator.exponential(size=rows), (len(values), 1)), axis=1
        )
        return mean(splits[:, :TEST_ROWS].mean(axis=1)), 1.0

    monkeypatch.setattr("scaling_study.analysis.coverage.INTERVALS", {"plain": plain})
    assert coverage(200, 200, generator=np.random.default_rng(1))["coverage"].item() < 0.4
