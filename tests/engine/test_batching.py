"""Batching: two views of the same batches, as rows and as shares of the samples."""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
import pytest

from scaling_study.engine.batching import Batching

SEEDS, EPOCHS = 2, 3
# Samples and batch size: one of either, batches that fit or do not, by one or by many, or hold all.
SIZES = [(1, 1), (1, 9), (2, 1), (6, 2), (7, 2), (7, 6), (7, 7), (7, 8), (12, 5), (12, 11)]
ONCE = [Batching(*sizes) for sizes in SIZES]
DRAWN = [Batching(*sizes, replacement=True) for sizes in SIZES]


def order_of(batching: Batching) -> np.ndarray:
    random = np.random.default_rng(0)
    if batching.replacement:
        shape = SEEDS, EPOCHS, batching.batches * batching.batch_size
        return random.integers(batching.samples, size=shape, dtype=np.int32)
    places = np.arange(batching.samples, dtype=np.int32)
    return random.permuted(np.tile(places, (SEEDS, EPOCHS, 1)), axis=-1)


@lru_cache
def views(batching: Batching) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, the share of each, and the shares of all samples."""
    order = order_of(batching)
    rows = np.asarray(batching.rows(jnp.asarray(order)))
    own = np.arange(batching.batch_size) < batching.sizes[:, None]
    return (
        rows,
        own / batching.sizes[:, None],
        np.asarray(batching.weights(jnp.asarray(order), np.float32)),
    )


@pytest.mark.parametrize("batching", [*ONCE, *DRAWN], ids=str)
def test_rows_and_shares_are_two_views_of_the_same_batches(batching):
    rows, of_rows, shares = views(batching)
    expected = np.zeros((SEEDS, EPOCHS, batching.batches, batching.samples))
    for s, k, b, i in np.ndindex(rows.shape):
        expected[s, k, b, rows[s, k, b, i]] += of_rows[b, i]
    np.testing.assert_allclose(shares, expected, atol=1e-6)


@pytest.mark.parametrize("batching", [*ONCE, *DRAWN], ids=str)
def test_every_batch_is_a_mean(batching):
    _, of_rows, shares = views(batching)
    np.testing.assert_allclose(of_rows.sum(axis=-1), 1)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("batching", ONCE, ids=str)
def test_every_sample_is_in_one_batch_of_an_epoch(batching):
    order = order_of(batching)
    _, _, shares = views(batching)
    assert ((shares > 0).sum(axis=2) == 1).all()
    np.testing.assert_array_equal(np.argmax(shares > 0, axis=2), order // batching.batch_size)


@pytest.mark.parametrize("batching", ONCE, ids=str)
def test_rows_come_in_the_order_of_their_places(batching):
    order = order_of(batching)
    rows, of_rows, _ = views(batching)
    real = rows.reshape(SEEDS, EPOCHS, -1)[..., of_rows.ravel() > 0]
    in_order = np.take_along_axis(order, real, axis=-1)
    np.testing.assert_array_equal(
        in_order, np.broadcast_to(np.arange(batching.samples), real.shape)
    )


@pytest.mark.parametrize("batching", DRAWN, ids=str)
def test_with_replacement_rows_are_the_samples_drawn(batching):
    order = order_of(batching)
    rows, of_rows, _ = views(batching)
    np.testing.assert_array_equal(rows.reshape(order.shape), order)
    np.testing.assert_allclose(of_rows, 1 / batching.batch_size)


@pytest.mark.parametrize("batching", [*ONCE, *DRAWN], ids=str)
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
    _, _, shares = views(batching)
    assert batching.batches == 1
    np.testing.assert_allclose(shares, 1 / 7, rtol=1e-6)
