"""Batching: two views of the same batches, as rows and as shares of the samples."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_study.engine.batching import Batching

SEEDS, EPOCHS = 2, 3
few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
batchings = st.builds(
    Batching,
    samples=st.integers(1, 12),
    batch_size=st.integers(1, 15),
    replacement=st.booleans(),
)


def order_of(batching: Batching, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if batching.replacement:
        shape = SEEDS, EPOCHS, batching.batches * batching.batch_size
        return random.integers(batching.samples, size=shape, dtype=np.int32)
    places = np.arange(batching.samples, dtype=np.int32)
    return random.permuted(np.tile(places, (SEEDS, EPOCHS, 1)), axis=-1)


def views(batching: Batching, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, the share of each, and the shares of all samples."""
    rows = np.asarray(batching.rows(jnp.asarray(order)))
    own = np.arange(batching.batch_size) < batching.sizes[:, None]
    return (
        rows,
        own / batching.sizes[:, None],
        np.asarray(batching.weights(jnp.asarray(order), np.float32)),
    )


@few
@given(batching=batchings)
def test_rows_and_shares_are_two_views_of_the_same_batches(batching):
    rows, of_rows, shares = views(batching, order_of(batching))
    expected = np.zeros((SEEDS, EPOCHS, batching.batches, batching.samples))
    for s, k, b, i in np.ndindex(rows.shape):
        expected[s, k, b, rows[s, k, b, i]] += of_rows[b, i]
    np.testing.assert_allclose(shares, expected, atol=1e-6)


@few
@given(batching=batchings)
def test_every_batch_is_a_mean(batching):
    _, of_rows, shares = views(batching, order_of(batching))
    np.testing.assert_allclose(of_rows.sum(axis=-1), 1)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-6)


@few
@given(batching=batchings.filter(lambda b: not b.replacement))
def test_every_sample_is_in_one_batch_of_an_epoch(batching):
    order = order_of(batching)
    _, _, shares = views(batching, order)
    assert ((shares > 0).sum(axis=2) == 1).all()
    np.testing.assert_array_equal(np.argmax(shares > 0, axis=2), order // batching.batch_size)


@few
@given(batching=batchings.filter(lambda b: not b.replacement))
def test_rows_come_in_the_order_of_their_places(batching):
    order = order_of(batching)
    rows, of_rows, _ = views(batching, order)
    real = rows.reshape(SEEDS, EPOCHS, -1)[..., of_rows.ravel() > 0]
    in_order = np.take_along_axis(order, real, axis=-1)
    np.testing.assert_array_equal(
        in_order, np.broadcast_to(np.arange(batching.samples), real.shape)
    )


@few
@given(batching=batchings.filter(lambda b: b.replacement))
def test_with_replacement_rows_are_the_samples_drawn(batching):
    order = order_of(batching)
    rows, of_rows, _ = views(batching, order)
    np.testing.assert_array_equal(rows.reshape(order.shape), order)
    np.testing.assert_allclose(of_rows, 1 / batching.batch_size)


@few
@given(batching=batchings)
def test_sizes_are_those_of_the_data_cut_into_batches(batching):
    sizes = batching.sizes
    assert len(sizes) == batching.batches
    assert (sizes[:-1] == batching.batch_size).all()
    assert 1 <= sizes[-1] <= batching.batch_size
    if not batching.replacement:
        assert sizes.sum() == batching.samples


def test_the_articles_epoch_is_three_batches_of_32_and_one_of_4():
    assert Batching(100, 32).sizes.tolist() == [32, 32, 32, 4]
    assert Batching(100, 32, replacement=True).sizes.tolist() == [32, 32, 32, 32]


@pytest.mark.parametrize("batch_size", [7, 8, 1000])
def test_a_batch_of_all_is_the_mean_of_the_data(batch_size):
    batching = Batching(7, batch_size)
    _, _, shares = views(batching, order_of(batching))
    assert batching.batches == 1
    np.testing.assert_allclose(shares, 1 / 7, rtol=1e-6)
