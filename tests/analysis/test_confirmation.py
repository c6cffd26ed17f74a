"""Claims on fresh seeds: flips are found, and estimates that differ are counted."""

from dataclasses import replace

import numpy as np
import pytest
from made_claims import CLAIM, judged

from scaling_study.analysis.confirmation import compare
from scaling_study.errors import StudyError


def test_the_same_seeds_differ_in_nothing():
    own = judged(0, [2, 2])
    found = compare([own], [own])
    assert len(found.flips) == len(found.outside) == 0
    assert found.lines() == [
        "0 of 1 verdicts differ; 0 of 2 estimates (0.0%) are outside the interval of the"
        " difference, 5% are expected"
    ]


def test_a_flip_and_what_moved_are_named():
    found = compare([judged(0, [3, 3])], [judged(1, [3, -3])])
    flip, moved, counts = found.lines()
    assert flip == "T1 (linear): supported, on fresh seeds refuted"
    assert moved.startswith("T1 (linear), cell 1: ")
    assert counts.startswith("1 of 1 verdicts differ; 1 of 2 estimates")


def test_only_chance_leaves_the_interval_of_the_difference():
    first, second = judged(2, np.zeros(1000)), judged(3, np.zeros(1000))
    share = compare([first], [second]).cells["outside"].mean()
    assert share == pytest.approx(0.05, abs=0.02)


def test_other_claims_are_refused():
    with pytest.raises(StudyError, match="other claims"):
        compare([judged(0, [1])], [judged(0, [1], replace(CLAIM, smallest=0.1))])
