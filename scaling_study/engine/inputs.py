"""What a chunk is trained on: data, batch orders and constants of runs, in tiles; NumPy only."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from scaling_study.engine import models
from scaling_study.engine.monitor import Target
from scaling_study.engine.objective import AffineMaps
from scaling_study.engine.program import (
    maps_single_runs,
    shares_inputs,
    starts_from_function,
    tiles_of,
)
from scaling_study.engine.train import Data, FunctionStart, PenalisedOptimum
from scaling_study.study import draws, encoding, optimum
from scaling_study.study.conditions import (
    WRITTEN_OUT,
    Chunk,
    Condition,
    Group,
    problem_of,
    segment_epochs,
)
from scaling_study.study.encoding import Encoding

FEATURE_TOLERANCE = 0.1  # relative distance of a converged weight from its best value
SIGNIFICANT_T = 2.0  # t statistic below which a best weight is not a target


class ConditionArrays(NamedTuple):
    """The numbers of C conditions that no seed changes, arrays (C, 1)."""

    datasets: encoding.UniqueDatasets
    learning_rate: np.ndarray
    tolerance: np.ndarray
    l1: np.ndarray
    l2: np.ndarray
    target_loss: np.ndarray  # NaN where there is none
    from_function: np.ndarray  # whether a run starts from the same function in every unit
    linear: bool  # whether their model is linear

    @classmethod
    def of(cls, conditions: Sequence[Condition]) -> "ConditionArrays":
        """Return the arrays of some conditions, all of one model."""
        return cls(
            encoding.unique_datasets(conditions),
            np.array([[c.learning_rate] for c in conditions]),
            np.array([[c.tolerance] for c in conditions]),
            np.array([[c.l1_penalty] for c in conditions]),
            np.array([[c.l2_penalty] for c in conditions]),
            np.array([[np.nan if c.target_loss == "none" else c.target_loss] for c in conditions]),
            np.array([[c.start == "function"] for c in conditions]),
            models.is_linear(models.build(conditions[0].model)),
        )

    def first(self, count: int) -> "ConditionArrays":
        """Return the arrays of the first conditions, without padding."""
        datasets = self.datasets._replace(inverse=self.datasets.inverse[:count])
        numbers = [getattr(self, name)[:count] for name in self._fields[1:-1]]
        parts = dict(zip(self._fields[1:-1], numbers, strict=True))
        return self._replace(datasets=datasets, **parts)


@lru_cache(maxsize=64)
def arrays_of(group: Group, block: int) -> ConditionArrays:
    """Return the arrays of a block of a group's conditions, padded to the chunk's shape."""
    return ConditionArrays.of(group.padded(Chunk(group.index, block, 0)))


class Goal(NamedTuple):
    """The least loss of runs, and their targets, arrays (C, S) in float64 and training units."""

    least: np.ndarray  # of what is minimised; NaN where it is not known
    explained: np.ndarray  # loss of the best constant prediction, less the least loss
    floor: np.ndarray  # is subtracted from the loss that is monitored
    target: np.ndarray  # monitored loss of a converged run; NaN where there is none
    coefficient: np.ndarray | None  # (d, C, S), least penalised loss, per canonical input


def goal_of(unique_data: Encoding, arrays: ConditionArrays, classes: int) -> Goal:
    """Return the least loss of each run, where it is known, and its target.

    The target is ``least + tolerance (null - least)``, the same for every scaler, start and
    optimizer, unless the study gives a ``target_loss``. The least loss is that of least squares,
    ridge or logistic regression. It is not known for a network, with an L1 penalty, for a
    penalised classifier, and for classes that a hyperplane separates.
    """
    rows = arrays.datasets.inverse
    least, explained = unique_data.loss_least[rows], unique_data.loss_explained[rows]
    penalised = (arrays.l1 + arrays.l2) > 0
    squared, coefficient = arrays.linear and not classes, None
    if squared and penalised.any():
        l2 = np.where(arrays.l1 > 0, 0.0, arrays.l2)
        coefficient, excess = _ridge(unique_data.take(rows), l2)
        least, explained = least + excess, explained - excess
    floor = least if squared else np.zeros_like(least)
    unknown = (arrays.l1 > 0) | (bool(classes) & penalised) | (not arrays.linear)
    if unknown.any():
        least, explained = (np.where(unknown, np.nan, part) for part in (least, explained))
    target = least - floor + arrays.tolerance * explained
    target[~(explained > 0)] = np.nan
    if not np.isnan(arrays.target_loss).all():
        explicit = arrays.target_loss - floor
        target = np.where(np.isnan(explicit), target, explicit)
    return Goal(least, explained, floor, target, coefficient)


def _ridge(encoding: Encoding, l2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ridge coefficients (d, C, S), and how far their penalised loss lies above OLS."""
    factor = np.moveaxis(encoding.factor, (0, 1), (-2, -1))
    ols, scale = (
        np.moveaxis(part, 0, -1) for part in (encoding.ols_coefficient, encoding.feature_scale)
    )
    strength = l2[..., None] / scale**2
    best = optimum.ridge(factor, ols, strength)
    missed = (factor @ (best - ols)[..., None])[..., 0]
    return np.moveaxis(best, -1, 0), (missed**2 + strength * best**2).sum(axis=-1)


def data_of(
    dtype: str,
    unique_data: Encoding,
    arrays: ConditionArrays,
    classes: int = 0,
    *,
    moments: bool = False,
) -> Data:
    """Return what a block (C, S) is trained on, NumPy arrays of the given dtype.

    ``unique_data`` is the encoding of each unique data set; with ``moments`` the data are for
    `SecondMoments`, whose inputs are q in place of u.
    """
    rows, goal = arrays.datasets.inverse, goal_of(unique_data, arrays, classes)
    scale, ols, best = unique_data.feature_scale, unique_data.ols_coefficient, goal.coefficient
    weight = unique_data.best / scale
    known = np.abs(unique_data.best) >= SIGNIFICANT_T * unique_data.error
    distance = np.where(known, FEATURE_TOLERANCE * np.abs(weight), np.nan)
    penalised = None if best is None else best / scale[:, rows]
    if moments:
        factor, (row, column) = unique_data.factor, np.triu_indices(len(unique_data.factor))
        triangle = factor[row, column] * scale[column]
        many = len(factor) > WRITTEN_OUT
        scale = np.swapaxes(factor * scale[None], 0, 1) if many else triangle
        ols = (factor * ols[None]).sum(axis=1)
        best = None if best is None else (factor * best[None]).sum(axis=1)

    cast = partial(_cast, dtype=dtype)

    def of_data(array: np.ndarray, lead: int) -> Any:
        return cast(array)[rows] if array.ndim > lead else cast(array)

    maps = scale, unique_data.feature_shift, ols, unique_data.intercept, unique_data.residual_scale
    return Data(
        inputs=of_data(unique_data.q if moments else unique_data.u, 3),
        residual=of_data(unique_data.residual, 2),
        maps=AffineMaps(*(cast(part)[..., rows, :] for part in maps)),
        learning_rate=cast(arrays.learning_rate),
        convergence_target=Target(
            loss=cast(goal.target),
            distance=cast(distance)[:, rows],
            weight=cast(weight)[:, rows],
            null=cast(unique_data.loss_null)[rows],
        ),
        l1=cast(arrays.l1),
        l2=cast(arrays.l2),
        penalised_optimum=None if best is None else PenalisedOptimum(cast(best), cast(penalised)),
    )


def target_of(unique_data: Encoding, *, linear: bool) -> np.ndarray:
    """Return the target of each unique data set, (K, S, N), as of `PerSample`, or its class."""
    target = unique_data.residual_scale[..., None] * unique_data.residual
    if linear:
        return target
    # A product for each data set, so that its bits do not depend on the others.
    ols = np.moveaxis(unique_data.ols_coefficient, 0, -1)
    return target + (unique_data.u @ ols[..., None])[..., 0]


def start_of(dtype: str, unique_data: Encoding, arrays: ConditionArrays) -> FunctionStart:
    """Return the maps that the initial parameters of a block (C, S) undo."""
    rows, undone = arrays.datasets.inverse, arrays.from_function
    scale = np.where(undone, unique_data.feature_scale[:, rows], 1.0)
    shift = np.where(undone, unique_data.feature_shift[:, rows], 0.0)
    cast = partial(_cast, dtype=dtype)
    return FunctionStart(cast(scale), cast(shift))


def _cast(array: Any, dtype: str) -> Any:
    """Return an array in a dtype; what is repeated along an axis is converted once."""
    array = np.asarray(array)
    once = tuple(slice(0, 1 if step == 0 else None) for step in array.strides)
    return np.broadcast_to(array[once].astype(dtype), array.shape)


class Inputs(NamedTuple):
    """What a chunk is trained on, in tiles."""

    data: Data
    order: tuple[Any, np.int32]  # batch orders of the first segment, and its number of epochs
    later: Iterator[tuple[Any, np.int32]]  # the same of each later segment, drawn lazily
    unique_data: Encoding  # of each unique data set, from which `data` are made


def inputs_of(group: Group, block: int, seeds: range) -> Inputs:
    """Return what a block of conditions and seeds are trained on; NumPy, no device is needed."""
    static, tiles, arrays = group.static, tiles_of(group), arrays_of(group, block)
    problem = problem_of(static.problem)
    # A user's code may change while a process runs, and is called again.
    if static.data_seed == "vary" or any(part.is_code for part in group.components()):
        unique_data = _encoded(group, block, seeds)
    else:
        unique_data = _encoded_once(group, block).for_seeds(len(seeds))
    moments = static.objective == "moments"
    data = data_of(static.dtype, unique_data, arrays, problem.classes, moments=moments)
    if starts_from_function(group):
        data = data._replace(start=start_of(static.dtype, unique_data, arrays))
    lead = group.shape.seeds // tiles.seeds, group.shape.conditions // tiles.conditions

    def tiled(array: np.ndarray) -> np.ndarray:
        parts = tiles.cut(array)
        return np.ascontiguousarray(np.broadcast_to(parts, (*lead, *parts.shape[2:])))

    of_runs = jax.tree.map(tiled, data._replace(inputs=None, residual=None))
    inputs, residual = _rows_of_tiles(group, data, unique_data, arrays)
    segments = _segments(group, seeds)
    # Contiguous, so that they are not transposed while a device is given them.
    inputs, residual = np.ascontiguousarray(inputs), np.ascontiguousarray(residual)
    data = of_runs._replace(inputs=inputs, residual=residual)
    return Inputs(data, next(segments), segments, unique_data)


def _rows_of_tiles(
    group: Group, data: Data, unique_data: Encoding, arrays: ConditionArrays
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and the residuals of a chunk in tiles; of single runs the targets."""
    static, tiles = group.static, tiles_of(group)
    cut = tiles.cut_data if static.transformed else tiles.cut_seeds
    if not maps_single_runs(group):
        return cut(np.asarray(data.inputs)), cut(np.asarray(data.residual))
    least_squares = arrays.linear and not problem_of(static.problem).classes
    target = target_of(unique_data, linear=least_squares).astype(static.dtype)
    targets = tiles.cut_data(target[arrays.datasets.inverse])
    if shares_inputs(group):
        one = np.asarray(data.inputs)[:1]
        return np.broadcast_to(one, (len(targets), *one.shape)), targets
    return cut(np.asarray(data.inputs)), targets


def _encoded(group: Group, block: int, seeds: range) -> Encoding:
    """Return the encoding of each unique data set of a block of conditions."""
    static, datasets = group.static, arrays_of(group, block).datasets
    drawn = draws.draw(static, seeds)
    return encoding.encode_unique(problem_of(static.problem), drawn, datasets, static.transformed)


@lru_cache(maxsize=4)
def _encoded_once(group: Group, block: int) -> Encoding:
    """Return the encoding of the data that all seeds share, for one of them."""
    return _encoded(group, block, range(1))


def ahead(segments: Iterator[Any]) -> Iterator[Any]:
    """Return an iterator that draws the next segment in a thread while the last is trained.

    A program whose loops may end early keeps the thread that calls it until it is done. Where no
    thread can start, as while the interpreter ends, segments are drawn in turn.
    """
    thread = ThreadPoolExecutor(1)

    def begin() -> Future[Any]:
        try:
            return thread.submit(next, segments, None)
        except RuntimeError:
            drawn: Future[Any] = Future()
            drawn.set_result(next(segments, None))
            return drawn

    def each(following: Future[Any]) -> Iterator[Any]:
        with thread:
            while (segment := following.result()) is not None:
                following = begin()
                yield segment

    return each(begin())


def _segments(group: Group, seeds: range) -> Iterator[tuple[Any, np.int32]]:
    """Yield the batch orders of the budget's segments, all of one shape, and their epochs."""
    cut = tiles_of(group).cut_seeds
    lengths = list(segment_epochs(group))
    if group.static.sampling == "full":
        yield None, np.int32(lengths[0])
        return
    orders = draws.orders(group.static, seeds, lengths[0])
    for length, order in zip(lengths, orders, strict=True):
        missing = lengths[0] - length
        padded = np.pad(order, ((0, 0), (0, missing), (0, 0))) if missing else order
        yield cut(padded), np.int32(length)
