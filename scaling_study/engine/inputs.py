"""What a chunk is trained on: data, batch orders and numbers, in tiles; NumPy, no device."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from scaling_study.engine import objective
from scaling_study.engine.tiles import Tiles
from scaling_study.engine.train import Data
from scaling_study.experiment import draws
from scaling_study.experiment.conditions import (
    Chunk,
    Condition,
    Group,
    problem_of,
    segment_epochs,
)


class Members(NamedTuple):
    """A block of C conditions, in numbers that no seed changes.

    Attributes
    ----------
    kinds : Kinds
        What they see.
    learning_rate, tolerance, l1, l2, target_loss : ndarray of shape (C, 1)
        NaN where there is no target loss; no tolerance where a penalty moves the minimum.
    """

    kinds: draws.Kinds
    learning_rate: np.ndarray
    tolerance: np.ndarray
    l1: np.ndarray
    l2: np.ndarray
    target_loss: np.ndarray

    @classmethod
    def of(cls, conditions: Sequence[Condition]) -> "Members":
        """Return what some conditions are in numbers."""
        return cls(
            draws.kinds_of(conditions),
            np.array([[c.learning_rate] for c in conditions]),
            np.array(
                [[np.nan if c.l1_penalty or c.l2_penalty else c.tolerance] for c in conditions]
            ),
            np.array([[c.l1_penalty] for c in conditions]),
            np.array([[c.l2_penalty] for c in conditions]),
            np.array([[np.nan if c.target_loss == "none" else c.target_loss] for c in conditions]),
        )


@lru_cache(maxsize=64)
def members_of(own: Group, block: int) -> Members:
    return Members.of(own.padded(Chunk(own.index, block, 0)))


def data_of(dtype: str, distinct: draws.Encoding, members: Members) -> Data:
    """Return what a block (C, S) is trained on, NumPy arrays of the given dtype.

    Parameters
    ----------
    dtype : str
    distinct : Encoding
        Of each kind of condition, `draws.encode_kinds`.
    members : Members
    """
    rows = members.kinds.rows
    own = rows if distinct.u.ndim == 4 else slice(None)

    def cast(array: Any) -> Any:
        return np.asarray(array, dtype=dtype)

    return Data(
        u=cast(distinct.u)[own],
        residual=cast(distinct.residual)[own],
        numbers=objective.Numbers(
            *(cast(getattr(distinct, name))[..., rows, :] for name in objective.Numbers._fields)
        ),
        learning_rate=cast(members.learning_rate),
        tolerance=cast(members.tolerance),
        l1=cast(members.l1),
        l2=cast(members.l2),
        target_excess=cast(members.target_loss - distinct.loss_ols[rows]),
    )


class Inputs(NamedTuple):
    """What a chunk is trained on, in tiles.

    Attributes
    ----------
    data : Data
    order : tuple
        The batch orders of the first segment, and its epochs.
    later : iterator of tuple
        The same of each later segment, drawn when it is asked for.
    distinct : Encoding
        Of each kind of condition, which the data come from.
    """

    data: Data
    order: tuple[Any, np.int32]
    later: Iterator[tuple[Any, np.int32]]
    distinct: draws.Encoding


def inputs_of(own: Group, members: Members, seeds: range) -> Inputs:
    """Return what conditions and seeds are trained on; NumPy, no device is needed."""
    static, tiles = own.static, Tiles.of(own.shape)
    problem, drawn = problem_of(static.problem), draws.draw(static, seeds)
    distinct = draws.encode_kinds(problem, drawn, members.kinds, static.transformed)
    data = data_of(static.dtype, distinct, members)
    cut = tiles.cut_data if static.transformed else tiles.cut_seeds
    lead = own.shape.seeds // tiles.seeds, own.shape.conditions // tiles.conditions

    def tiled(array: np.ndarray) -> np.ndarray:
        parts = tiles.cut(array)
        return np.broadcast_to(parts, (*lead, *parts.shape[2:]))

    of_runs = jax.tree.map(tiled, data._replace(u=None, residual=None))
    u, residual = cut(np.asarray(data.u)), cut(np.asarray(data.residual))
    segments = _segments(own, seeds)
    return Inputs(of_runs._replace(u=u, residual=residual), next(segments), segments, distinct)


def init_seeds(own: Group, seeds: range) -> np.ndarray:
    held = own.static.init_seed
    names = [seed if held == "vary" else int(held) for seed in seeds]
    return Tiles.of(own.shape).cut_seeds(np.asarray(names, np.uint32))


def _segments(own: Group, seeds: range) -> Iterator[tuple[Any, np.int32]]:
    """Yield the batch orders of the budget's segments, all of one shape, and their epochs."""
    cut = Tiles.of(own.shape).cut_seeds
    lengths = list(segment_epochs(own))
    if own.static.sampling == "full":
        yield None, np.int32(lengths[0])
        return
    orders = draws.orders(own.static, seeds, lengths[0])
    for length, order in zip(lengths, orders, strict=True):
        missing = lengths[0] - length
        padded = np.pad(order, ((0, 0), (0, missing), (0, 0))) if missing else order
        yield cut(padded), np.int32(length)
