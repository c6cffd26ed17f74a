"""Tiles: what is cut is put together again, and a tile holds the runs it should."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_study.engine.tiles import Tiles
from scaling_study.study.chunk_shapes import ChunkShape

few = settings(max_examples=60, deadline=None, derandomize=True, database=None)
sizes = st.tuples(*[st.integers(1, 4)] * 4)
leads = st.lists(st.integers(1, 3), max_size=2)


@few
@given(sizes=sizes, lead=leads)
def test_join_undoes_cut(sizes, lead):
    outer, conditions, across, seeds = sizes
    tiles = Tiles(conditions, seeds, seeds >= conditions)
    array = np.random.default_rng(0).random((*lead, outer * conditions, across * seeds))
    cut = tiles.cut(array)
    if across * seeds > 1:
        assert cut.shape[:2] == (across, outer)
    assert cut.shape[-1] == max(conditions, seeds)
    np.testing.assert_array_equal(tiles.join(cut), array)


@few
@given(sizes=sizes)
def test_a_tile_holds_neighbouring_conditions_and_seeds(sizes):
    outer, conditions, across, seeds = sizes
    tiles = Tiles(conditions, seeds, seeds >= conditions)
    total = outer * conditions, across * seeds
    place = np.stack(np.meshgrid(*map(np.arange, total), indexing="ij"))
    cut = np.broadcast_to(tiles.cut(place), (across, outer, *tiles.cut(place).shape[2:]))
    of_seeds = tiles.cut_seeds(np.arange(total[1]))
    for s, c in np.ndindex(across, outer):
        assert set(cut[s, c][0].ravel()) == set(range(c * conditions, (c + 1) * conditions))
        assert set(cut[s, c][1].ravel()) == set(of_seeds[s])


@few
@given(sizes=sizes)
def test_data_of_a_condition_are_cut_as_its_runs_are(sizes):
    outer, conditions, across, seeds = sizes
    tiles = Tiles(conditions, seeds, seeds >= conditions)
    data = np.random.default_rng(0).random((outer * conditions, across * seeds, 5))
    cut = tiles.cut_data(data)
    assert cut.shape == (across, outer, conditions, seeds, 5)
    for s, c in np.ndindex(across, outer):
        rows = slice(c * conditions, (c + 1) * conditions), slice(s * seeds, (s + 1) * seeds)
        np.testing.assert_array_equal(cut[s, c], data[rows])


def test_what_is_not_of_runs_is_taken_from_one_tile():
    assert Tiles(2, 3).join(np.full((4, 5), 7)) == 7


@pytest.mark.parametrize(("platform", "expected"), [("cpu", (2, 4)), ("gpu", (6, 8))])
def test_a_device_with_threads_to_fill_takes_a_chunk_at_once(platform, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert Tiles.of(ChunkShape(6, 8, 2, 4))[:2] == expected


@pytest.mark.parametrize(
    ("runs", "expected"), [(1, (1, 1)), (7, (1, 4)), (16, (2, 8)), (99, (6, 8))]
)
def test_a_tile_of_so_many_runs_divides_the_chunk(runs, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert Tiles.of(ChunkShape(6, 8, 2, 4), runs) == (*expected, True)
