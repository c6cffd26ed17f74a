"""The random numbers of a seed: data and batch orders.

NumPy in float64 throughout, so that the same seed names the same numbers on every platform
and JAX version. A seed names three independent streams: data, initialisation and batch
order; every condition of a seed shares them (common random numbers).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.experiment.conditions import (
    Static,
    batches_per_epoch,
    problem_of,
    shape_of,
)

Array = NDArray[np.float64]
ORDER_STREAM = 3
HELD_OUT = 1_000_000  # seeds of held-out rows lie so far from those that are trained on


class Draw(NamedTuple):
    """The data of several seeds, in canonical units.

    Attributes
    ----------
    u : ndarray of shape (n_seeds, n_samples, n_features)
    noise : ndarray of shape (n_seeds, n_samples)
    """

    u: Array
    noise: Array


def draw(static: Static, seeds: Sequence[int]) -> Draw:
    """Return the data of each seed, or of the one seed that the data stream is held at."""
    return _stacked(problem_of(static.problem).draw, static, seeds)


def held_out(static: Static, seeds: Sequence[int]) -> Draw:
    """Return rows of each seed that it is not trained on, in canonical units."""
    problem = problem_of(static.problem)
    rows = problem.held_out or (lambda seed: problem.draw(HELD_OUT + seed))
    return _stacked(rows, static, seeds)


def _stacked(
    rows: Callable[[int], tuple[Array, Array]], static: Static, seeds: Sequence[int]
) -> Draw:
    if static.data_seed == "vary":
        pairs = [rows(seed) for seed in seeds]
    else:
        pairs = [rows(int(static.data_seed))] * len(seeds)
    return Draw(np.stack([u for u, _ in pairs]), np.stack([noise for _, noise in pairs]))


def orders(static: Static, seeds: Sequence[int], epochs: int) -> Iterator[NDArray[np.int32]]:
    """Yield the order of the data, ``epochs`` epochs at a time.

    Each seed keeps its own generator from block to block, so that the numbers do not depend
    on how the budget is cut.

    Yields
    ------
    ndarray of shape (n_seeds, n_epochs, n_samples)
        The place of each sample in the epoch. With replacement, the samples drawn instead,
        the batches end to end: (n_seeds, n_epochs, n_batches · batch_size).
    """
    samples, _ = shape_of(static.problem)
    held = static.order_seed
    generators = [
        np.random.default_rng([ORDER_STREAM, seed if held == "vary" else int(held)])
        for seed in seeds
    ]
    per_epoch = batches_per_epoch(static)
    left = static.updates // per_epoch
    while left > 0:
        count = min(epochs, left)
        if static.sampling == "reshuffled":
            yield permutations(generators, count, samples)
        else:
            shape = (count, per_epoch * static.batch_size)
            yield np.stack(
                [rng.integers(samples, size=shape, dtype=np.int32) for rng in generators]
            )
        left -= count


def permutations(
    generators: Sequence[np.random.Generator], count: int, samples: int
) -> NDArray[np.int32]:
    """Return ``count`` permutations from each generator.

    Sorts random keys that hold the sample's number in their lowest bits, six times as fast as
    `numpy.random.Generator.permuted` and as uniform as keys are distinct: two of 100 samples
    share the 25 bits of their keys in one of 6,800 epochs, and keep their order then.

    Returns
    -------
    ndarray of shape (n_generators, count, samples)
    """
    dtype = np.dtype(np.uint32 if samples <= 128 else np.uint64)
    most, low = np.iinfo(dtype).max, dtype.type(2 ** int(samples - 1).bit_length() - 1)
    keys = np.empty((len(generators), count, samples), dtype)
    for own, rng in zip(keys, generators, strict=True):
        own[...] = rng.integers(most, size=own.shape, dtype=dtype, endpoint=True)
    keys &= ~low
    keys |= np.arange(samples, dtype=dtype)
    keys.sort(axis=-1)
    keys &= low
    return keys.astype(np.int32)
