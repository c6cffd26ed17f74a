"""Draws: common random numbers, and what they mean under each condition."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_study.study import draws
from scaling_study.study.chunk_shapes import Static
from scaling_study.study.conditions import batches_per_epoch, expand, split
from scaling_study.study.problems import PROBLEMS
from scaling_study.study.study import parse

SEEDS = range(3)
LINEAR = [name for name, factory in PROBLEMS.items() if factory().signal is None]
# What may differ between conditions that are compared, yet must not touch what is drawn.
HOW = [
    {"scaler": "standard"},
    {"scaler": "quantile"},
    {"model": "mlp"},
    {"optimizer": "sgd"},
    {"learning_rate": 0.5},
    {"dtype": "float64"},
    {"objective": "samples"},
    {"framework": "torch"},
    {"design": "U"},
    {"offset": 1e8},
    {"init_seed": 7},
]


def static_of(**axes: Any) -> Static:
    return split(expand(parse(axes))[0])


def all_orders(static: Static, seeds, epochs: int) -> np.ndarray:
    return np.concatenate(list(draws.orders(static, seeds, epochs)), axis=1)


# Common random numbers ----------------------------------------------------------------------


@pytest.mark.parametrize("axes", HOW, ids=str)
def test_every_condition_of_a_seed_has_the_same_data(axes):
    one, other = draws.draw(static_of(), SEEDS), draws.draw(static_of(**axes), SEEDS)
    np.testing.assert_array_equal(one.u, other.u)
    np.testing.assert_array_equal(one.noise, other.noise)


@pytest.mark.parametrize("axes", [*HOW, {"data_seed": 7}, {"batch_size": 10}], ids=str)
def test_every_condition_of_a_seed_has_the_same_orders(axes):
    one, other = (all_orders(static_of(epochs=3, **more), SEEDS, 3) for more in ({}, axes))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", PROBLEMS)
@given(seeds=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4))
def test_data_do_not_depend_on_which_other_seeds_are_drawn(name, seeds):
    static = static_of(problem=name, design="U")
    u, noise = draws.draw(static, seeds)
    for row, seed in enumerate(seeds):
        alone = draws.draw(static, [seed])
        np.testing.assert_array_equal(u[row], alone.u[0])
        np.testing.assert_array_equal(noise[row], alone.noise[0])


@pytest.mark.parametrize("sampling", ["reshuffled", "replacement"])
@given(seeds=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4))
def test_orders_do_not_depend_on_which_other_seeds_are_drawn(sampling, seeds):
    static = static_of(sampling=sampling, epochs=2)
    together = all_orders(static, seeds, 2)
    for row, seed in enumerate(seeds):
        np.testing.assert_array_equal(together[row], all_orders(static, [seed], 2)[0])


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_held_data_stream_is_one_seed_for_all(name):
    held = draws.draw(static_of(problem=name, design="U", data_seed=42), SEEDS)
    alone = draws.draw(static_of(problem=name, design="U"), [42])
    for seed in SEEDS:
        np.testing.assert_array_equal(held.u[seed], alone.u[0])
        np.testing.assert_array_equal(held.noise[seed], alone.noise[0])


@pytest.mark.parametrize("sampling", ["reshuffled", "replacement"])
def test_a_held_order_stream_is_one_seed_for_all(sampling):
    held = all_orders(static_of(sampling=sampling, epochs=2, order_seed=42), SEEDS, 2)
    alone = all_orders(static_of(sampling=sampling, epochs=2), [42], 2)
    np.testing.assert_array_equal(held, np.broadcast_to(alone, held.shape))


def test_holding_one_stream_leaves_the_others_alone():
    vary, held = static_of(epochs=2), static_of(epochs=2, order_seed=42)
    np.testing.assert_array_equal(draws.draw(vary, SEEDS).u, draws.draw(held, SEEDS).u)
    held = static_of(epochs=2, data_seed=42)
    np.testing.assert_array_equal(all_orders(vary, SEEDS, 2), all_orders(held, SEEDS, 2))


def test_seeds_differ_in_data_and_in_order():
    static = static_of(epochs=1)
    u, _ = draws.draw(static, SEEDS)
    orders = all_orders(static, SEEDS, 1)
    for other in SEEDS[1:]:
        assert not np.isin(u[0], u[other]).any()
        assert (orders[0] != orders[other]).any()


# Orders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["reshuffled", "replacement"])
@given(epochs=st.integers(1, 12), cut=st.integers(1, 15))
def test_orders_do_not_depend_on_how_the_budget_is_cut(sampling, epochs, cut):
    static = static_of(sampling=sampling, epochs=epochs)
    blocks = list(draws.orders(static, SEEDS, cut))
    assert all(block.shape[1] == cut for block in blocks[:-1])
    whole = all_orders(static, SEEDS, epochs)
    assert whole.shape[1] == epochs
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


@pytest.mark.parametrize("sampling", ["reshuffled", "replacement"])
def test_a_longer_budget_begins_like_a_shorter_one(sampling):
    short = all_orders(static_of(sampling=sampling, epochs=3), SEEDS, 3)
    long = all_orders(static_of(sampling=sampling, epochs=8), SEEDS, 8)
    np.testing.assert_array_equal(long[:, :3], short)


@pytest.mark.parametrize("samples", [2, 7, 100])
def test_a_reshuffled_epoch_is_a_permutation(samples):
    static = static_of(problem={"name": "article", "samples": samples}, epochs=5)
    orders = all_orders(static, SEEDS, 5)
    assert orders.shape == (3, 5, samples)
    np.testing.assert_array_equal(
        np.sort(orders, axis=-1), np.broadcast_to(np.arange(samples), orders.shape)
    )


def test_a_reshuffled_sample_is_anywhere_alike():
    places = all_orders(static_of(epochs=2000), [0], 2000)[0, :, 0]
    counts = np.histogram(places, bins=10, range=(0, 100))[0]
    assert (np.abs(counts - 200) < 5 * np.sqrt(200)).all()


@given(samples=st.integers(2, 50), batch_size=st.integers(1, 40))
def test_drawing_with_replacement_fills_every_batch(samples, batch_size):
    static = static_of(
        problem={"name": "article", "samples": samples},
        sampling="replacement",
        batch_size=batch_size,
        epochs=2,
    )
    orders = all_orders(static, SEEDS, 2)
    assert orders.shape == (3, 2, batches_per_epoch(static) * batch_size)
    assert orders.min() >= 0
    assert orders.max() < samples


def test_rows_are_held_out() -> None:
    own = split(expand(parse({"problem": "uniform"}))[0])
    trained, fresh = draws.draw(own, [0, 1]).u, draws.held_out(own, [0, 1]).u
    assert trained.shape == fresh.shape
    assert not np.intersect1d(trained, fresh).size
    held = split(expand(parse({"problem": "uniform", "data_seed": 3}))[0])
    first, second = draws.held_out(held, [0, 1]).u
    assert np.array_equal(first, second)
