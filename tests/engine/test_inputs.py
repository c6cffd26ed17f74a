"""What a chunk is trained on: shared data encoded once, later orders drawn ahead."""

import threading

import numpy as np
import pytest
from tiny_block import groups_of

from scaling_study.engine import inputs
from scaling_study.engine.inputs import ahead
from scaling_study.study import conditions, draws, encoding


def test_segments_drawn_ahead_are_those_drawn_in_turn():
    assert list(ahead(iter(range(1, 9)))) == list(range(1, 9))
    assert list(ahead(iter([]))) == []


def test_the_next_segment_is_drawn_while_the_last_is_used():
    drawn = [threading.Event() for _ in range(3)]

    def draw():
        for event in drawn:
            event.set()
            yield event

    later = ahead(draw())
    assert drawn[0].wait(10)
    next(later)
    assert drawn[1].wait(10)
    assert not drawn[2].is_set()


def test_a_segment_that_cannot_be_drawn_raises_where_it_is_asked_for():
    def draw():
        yield 1
        raise ValueError("no more")

    later = ahead(draw())
    assert next(later) == 1
    with pytest.raises(ValueError, match="no more"):
        next(later)


def test_data_that_all_seeds_share_are_encoded_once_and_are_those_of_each_seed(monkeypatch):
    axes = {"problem": {"name": "gaussian", "samples": 12}, "scaler": ["none", "standard"]}
    (group,) = groups_of(**axes, data_seed=3, epochs=1)
    drawn = []
    original = draws.draw
    monkeypatch.setattr(draws, "draw", lambda *a: drawn.append(a) or original(*a))
    inputs._encoded_once.cache_clear()
    count = group.shape.seeds
    parts = range(count), range(count, 2 * count)
    found = [inputs.inputs_of(group, 0, seeds).unique_data for seeds in parts]
    assert len(drawn) == 1
    arrays = inputs.arrays_of(group, 0)
    problem = conditions.problem_of(group.static.problem)
    plain = original(group.static, parts[1])
    expected = encoding.encode_unique(problem, plain, arrays.datasets, False)
    for name in expected._fields:
        for one in found:
            np.testing.assert_array_equal(getattr(one, name), getattr(expected, name), name)
