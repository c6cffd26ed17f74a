"""The batch orders of later segments: drawn ahead, the same as in turn."""

import threading

import pytest

from scaling_study.engine.inputs import ahead


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
