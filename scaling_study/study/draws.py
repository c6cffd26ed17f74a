"""The random numbers of a seed: data and batch orders, in NumPy and float64.

The same seed gives the same numbers on every platform and JAX version. A seed names three
independent streams: data, initialisation and batch order; all conditions of a seed share them
(common random numbers).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.study import checks
from scaling_study.study.checks import HELD_OUT
from scaling_study.study.chunk_shapes import Static
from scaling_study.study.component import Component
from scaling_study.study.conditions import batches_per_epoch, problem_of, shape_of
from scaling_study.study.values import error_context

Array = NDArray[np.float64]
ORDER_STREAM = 3


class Draw(NamedTuple):
    """The data of several seeds, in canonical units; a read-only view where they share them."""

    u: Array  # (n_seeds, n_samples, n_features)
    noise: Array  # (n_seeds, n_samples)

    @property
    def shared(self) -> bool:
        """Whether all seeds have the same data, which are kept once."""
        return len(self.u) > 1 and self.u.strides[0] == 0


def draw(static: Static, seeds: Sequence[int]) -> Draw:
    """Return the training data of each seed; those of one seed if the data stream is fixed."""
    return rows_of(static.problem, static.data_seed, seeds)


def held_out(static: Static, seeds: Sequence[int]) -> Draw:
    """Return the held-out rows of each seed, in canonical units."""
    return rows_of(static.problem, static.data_seed, seeds, "held_out")


def rows_of(
    component: Component, data_seed: int | str, seeds: Sequence[int], name: str = "draw"
) -> Draw:
    """Return the rows of each seed, or raise a `DataError` with what is wrong with them.

    ``name`` is "draw" for the training rows, or "held_out".
    """
    problem, trained = problem_of(component), name == "draw"
    distinct = list(seeds) if data_seed == "vary" else [int(data_seed)]
    if name == "held_out" and problem.held_out is None:
        name, distinct = "draw", [HELD_OUT + seed for seed in distinct]
    shape = shape_of(component) if name == "draw" else None
    with error_context(f"problem {component.name!r}"):
        parts = checks.stack(
            problem, getattr(problem, name), distinct, shape, name=name, trained=trained
        )
    return Draw(*(np.broadcast_to(part, (len(seeds), *part.shape[1:])) for part in parts))


def orders(static: Static, seeds: Sequence[int], epochs: int) -> Iterator[NDArray[np.int32]]:
    """Yield the order of the data, at most ``epochs`` epochs at a time.

    Each seed keeps its generator from block to block, so that the numbers do not depend on the
    size of the blocks. Yields the place of each sample in the epoch, (n_seeds, n_epochs,
    n_samples), or with replacement the samples that are drawn, the batches end to end:
    (n_seeds, n_epochs, n_batches · batch_size).
    """
    samples, _ = shape_of(static.problem)
    streams = seeds if static.order_seed == "vary" else [int(static.order_seed)] * len(seeds)
    generators = [np.random.default_rng([ORDER_STREAM, seed]) for seed in streams]
    per_epoch = batches_per_epoch(static)
    left = static.updates // per_epoch
    while left > 0:
        count = min(epochs, left)
        if static.sampling == "reshuffled":
            yield permutations(generators, count, samples)
        else:
            shape = count, per_epoch * static.batch_size
            drawn = [rng.integers(samples, size=shape, dtype=np.int32) for rng in generators]
            yield np.stack(drawn)
        left -= count


def permutations(
    generators: Sequence[np.random.Generator], count: int, samples: int
) -> NDArray[np.int32]:
    """Return ``count`` permutations from each generator, (n_generators, count, samples).

    Sorts random keys whose lowest bits hold the sample's index: six times as fast as
    `numpy.random.Generator.permuted`, and uniform where keys are distinct. Two given samples of at
    most 1,024 share the random bits of their keys, 22 or more, in one of four million epochs, and
    then keep their order; some two of 100 samples in one of 6,800, of 1,024 in one of 8. Keys of
    64 bits take ten times as long to sort.
    """
    dtype = np.dtype(np.uint32 if samples <= 1024 else np.uint64)
    most, low = np.iinfo(dtype).max, dtype.type(2 ** int(samples - 1).bit_length() - 1)
    keys = np.empty((len(generators), count, samples), dtype)
    for block, rng in zip(keys, generators, strict=True):
        block[...] = rng.integers(most, size=block.shape, dtype=dtype, endpoint=True)
    keys &= ~low
    keys |= np.arange(samples, dtype=dtype)
    keys.sort(axis=-1)
    keys &= low
    return keys.astype(np.int32)
