"""Which seeds tune, and which of several scores is the best."""

import numpy as np
import pytest

from scaling_study.analysis.tuning import best, halves


@pytest.mark.parametrize(
    ("seeds", "tuning"),
    [
        ([0, 1, 2, 3], [True, True, False, False]),
        ([3, 0, 3, 1, 2], [False, True, False, True, False]),
        ([10, 11, 12], [True, False, False]),
        ([5], [False]),
    ],
)
def test_the_smaller_half_of_the_seeds_tunes(seeds, tuning):
    assert halves(seeds).tolist() == tuning


@pytest.mark.parametrize(
    ("scores", "place"),
    [
        ([0.1, 0.9, 0.2], 1),
        ([0.0, 0.0, 0.0], 1),  # a tie of all is not at an edge
        ([0.0, 1.0, 1.0 - 1e-12, 1.0, 0.5], 2),
        ([1.0, 1.0, 0.0], 0),
        ([1.0, 0.0, 0.0, 1.0], 0),  # the nearest to the middle of those alike, the smaller
    ],
)
def test_the_best_is_the_middle_of_those_alike(scores, place):
    assert best(scores) == place


def test_the_best_goes_along_the_last_axis():
    assert best(np.eye(3)).tolist() == [0, 1, 2]
