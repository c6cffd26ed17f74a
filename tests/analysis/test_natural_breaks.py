"""Natural breaks: the least of every partition, and never between equal values."""

import itertools

import numpy as np
import pytest

from scaling_study.analysis.natural_breaks import natural_breaks


def test_natural_breaks_are_those_of_every_partition_tried():
    random = np.random.default_rng(0)
    for count, size in ((1, 1), (1, 4), (2, 5), (3, 7), (4, 8), (5, 5)):
        values = random.normal(size=size)
        ordered = np.sort(values)
        best = min(
            sum(part.var() * len(part) for part in np.split(ordered, cuts))
            for cuts in itertools.combinations(range(1, size), count - 1)
        )
        found = np.array(natural_breaks(values, count))
        parts = [values[found == group] for group in range(1, count + 1)]
        assert sum(part.var() * len(part) for part in parts) == pytest.approx(best)
        assert all(one.max() < other.min() for one, other in itertools.pairwise(parts))


def test_equal_values_are_never_in_two_groups():
    assert natural_breaks(np.array([0.5, 0.5]), 2) == []
    assert natural_breaks(np.array([0.5, 0.1, 0.5]), 3) == []
    assert natural_breaks(np.array([0.5, 0.1, 0.5]), 2) == [2, 1, 2]
    assert natural_breaks(np.array([0.5, np.nan, 0.1]), 2) == []
