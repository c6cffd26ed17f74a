"""What a chunk is trained on: data, batch orders and numbers, in tiles; NumPy, no device."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from scaling_study.engine import objective
from scaling_study.engine.tiles import Tiles
from scaling_study.engine.train import Best, Data
from scaling_study.engine.watch import Target
from scaling_study.study import draws, encoding, optimum
from scaling_study.study.conditions import (
    Chunk,
    Condition,
    Group,
    problem_of,
    segment_epochs,
)
from scaling_study.study.encoding import Encoding

FEATURE_TOLERANCE = 0.1  # share of the best weight that a weight may be away from it
SIGNIFICANT_T = 2.0  # standard errors from 0, below which a best weight is no target


class Members(NamedTuple):
    """A block of C conditions, in numbers that no seed changes.

    Attributes
    ----------
    kinds : Kinds
        What they see.
    learning_rate, tolerance, l1, l2, target_loss : ndarray of shape (C, 1)
        NaN where there is no target loss.
    linear : bool
        Whether their model is linear.
    """

    kinds: encoding.Kinds
    learning_rate: np.ndarray
    tolerance: np.ndarray
    l1: np.ndarray
    l2: np.ndarray
    target_loss: np.ndarray
    linear: bool

    @classmethod
    def of(cls, conditions: Sequence[Condition]) -> "Members":
        """Return what some conditions, all of one model, are in numbers."""
        return cls(
            encoding.kinds_of(conditions),
            np.array([[c.learning_rate] for c in conditions]),
            np.array([[c.tolerance] for c in conditions]),
            np.array([[c.l1_penalty] for c in conditions]),
            np.array([[c.l2_penalty] for c in conditions]),
            np.array([[np.nan if c.target_loss == "none" else c.target_loss] for c in conditions]),
            conditions[0].model.name == "linear",
        )

    def first(self, count: int) -> "Members":
        """Return the first conditions, without what they are padded with."""
        kinds = self.kinds._replace(rows=self.kinds.rows[:count])
        numbers = [getattr(self, name)[:count] for name in self._fields[1:-1]]
        return self._replace(kinds=kinds, **dict(zip(self._fields[1:-1], numbers, strict=True)))


@lru_cache(maxsize=64)
def members_of(own: Group, block: int) -> Members:
    return Members.of(own.padded(Chunk(own.index, block, 0)))


class Goal(NamedTuple):
    """What a block of runs is to reach, in float64 and training units.

    Attributes
    ----------
    least, reach : ndarray of shape (C, S)
        Least value of what is minimised, and how far the best constant prediction lies above
        it; NaN where it is not known.
    floor : ndarray of shape (C, S)
        Where the loss that is monitored is measured from.
    target : ndarray of shape (C, S)
        Monitored loss that has converged; NaN where nothing is asked.
    best : ndarray of shape (d, C, S) or None
        Slope of the least penalised loss of linear models, per unit of u.
    """

    least: np.ndarray
    reach: np.ndarray
    floor: np.ndarray
    target: np.ndarray
    best: np.ndarray | None


def goal_of(known: Encoding, members: Members, classes: int, rows: np.ndarray) -> Goal:
    """Return the least loss of each run, where one is known, and its target.

    The target is ``least + tolerance (null - least)``, the same for every scaler, start and
    optimizer, unless the study gives a ``target_loss``. The least loss is that of least squares,
    ridge or logistic regression. It is not known of a network, with an L1 penalty, of a penalised
    classifier, and of classes that a hyperplane separates.

    Parameters
    ----------
    known : Encoding
    members : Members
    classes : int
        Number of classes, 0 where the target is a quantity.
    rows : ndarray of int, shape (C,)
        Where the encoding of each condition is.
    """
    ols, explained = (part[rows] for part in (known.loss_least, known.loss_explained))
    squared, penalised = members.linear and not classes, (members.l1 + members.l2) > 0
    best, more = None, np.zeros_like(ols)
    if squared and penalised.any():
        best, more = _ridge(known.take(rows), np.where(members.l1 > 0, 0.0, members.l2))
    least, reach, floor = ols + more, explained - more, ols + more
    unknown = (members.l1 > 0) | (bool(classes) & penalised) | (not members.linear)
    if unknown.any():
        least, reach = (np.where(unknown, np.nan, part) for part in (least, reach))
    floor = floor if squared else np.zeros_like(floor)
    target = np.where(reach > 0, least - floor + members.tolerance * reach, np.nan)
    explicit = members.target_loss - floor
    return Goal(least, reach, floor, np.where(np.isnan(explicit), target, explicit), best)


def _ridge(own: Encoding, l2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes (d, C, S) of the least penalised loss, and how far it lies above OLS."""
    factor = np.moveaxis(own.factor, (0, 1), (-2, -1))
    slope, gain = (np.moveaxis(part, 0, -1) for part in (own.slope, own.gain))
    strength = l2[..., None] / gain**2
    best = optimum.ridge(factor, slope, strength)
    missed = (factor @ (best - slope)[..., None])[..., 0]
    return np.moveaxis(best, -1, 0), (missed**2 + strength * best**2).sum(axis=-1)


def data_of(
    dtype: str, distinct: Encoding, members: Members, classes: int = 0, *, moments: bool = False
) -> Data:
    """Return what a block (C, S) is trained on, NumPy arrays of the given dtype.

    Parameters
    ----------
    dtype : str
    distinct : Encoding
        Of each kind of condition, `encoding.encode_kinds`.
    members : Members
    classes : int
        Number of classes, 0 where the target is a quantity.
    moments : bool
        Whether it is for `objective.moments`, in q's coordinates in place of u's.
    """
    rows = members.kinds.rows
    goal = goal_of(distinct, members, classes, rows)
    known = np.abs(distinct.best) >= SIGNIFICANT_T * distinct.error
    weight = distinct.best / distinct.gain
    numbers = {name: getattr(distinct, name) for name in objective.Numbers._fields}
    slope = goal.best
    if moments:
        factor, (row, column) = distinct.factor, np.triu_indices(len(distinct.factor))
        numbers["gain"] = factor[row, column] * distinct.gain[column]
        numbers["slope"] = (factor * distinct.slope[None]).sum(axis=1)
        slope = slope if slope is None else (factor * slope[None]).sum(axis=1)

    def cast(array: Any) -> Any:
        return np.asarray(array, dtype=dtype)

    def of_data(array: np.ndarray, lead: int) -> Any:
        return cast(array)[rows] if array.ndim > lead else cast(array)

    best = goal.best
    return Data(
        u=of_data(distinct.q if moments else distinct.u, 3),
        residual=of_data(distinct.residual, 2),
        numbers=objective.Numbers(**{n: cast(part)[..., rows, :] for n, part in numbers.items()}),
        learning_rate=cast(members.learning_rate),
        target=Target(
            loss=cast(goal.target),
            distance=cast(np.where(known, FEATURE_TOLERANCE * np.abs(weight), np.nan))[:, rows],
            weight=cast(weight)[:, rows],
            null=cast(distinct.loss_null)[rows],
        ),
        l1=cast(members.l1),
        l2=cast(members.l2),
        best=None if best is None else Best(cast(slope), cast(best / distinct.gain[:, rows])),
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
    distinct: Encoding


def inputs_of(own: Group, members: Members, seeds: range) -> Inputs:
    """Return what conditions and seeds are trained on; NumPy, no device is needed."""
    static, tiles = own.static, Tiles.of(own.shape)
    problem, drawn = problem_of(static.problem), draws.draw(static, seeds)
    distinct = encoding.encode_kinds(problem, drawn, members.kinds, static.transformed)
    data = data_of(
        static.dtype, distinct, members, problem.classes, moments=static.objective == "moments"
    )
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
