"""The conditions of a study, the groups that share a program, and the chunks of work.

    study ─► conditions ─► groups ─► chunks

Everything here is a pure function of the study, so that any process, given the study's text
and a chunk's identity, knows what to compute.
"""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

from scaling_study.errors import StudyError, unknown
from scaling_study.study import scalers
from scaling_study.study.component import FEWER_CONDITIONS, MOST_CONDITIONS, Component
from scaling_study.study.sources import check_data, check_scalers, problem_of, shape_of
from scaling_study.study.study import Study
from scaling_study.study.values import error_context, whole

TRACED_SEEDS = 8
TRACE_SLOTS = 25, 200  # fewest and most points of a trace
TRACE_POINTS = 12_800  # of a seed's conditions together, where the fewest allow
PREPARED_NUMBERS = 2**22  # numbers of prepared batches that are held at once


@dataclass(frozen=True)
class Condition:
    """One cell of a study's grid; the axes are those of `scaling_study.study.study.AXES`.

    The budget is in updates, whether the study gave epochs or updates.
    """

    block: str
    problem: Component
    design: str
    scale_factor: float
    offset: float
    scaler: Component
    target_scaler: Component
    model: Component
    dialect: str
    optimizer: Component
    learning_rate: float
    l1_penalty: float
    l2_penalty: float
    batch_size: int
    sampling: str
    updates: int
    dtype: str
    objective: str
    data_seed: int | str
    init_seed: int | str
    order_seed: int | str
    tolerance: float
    target_loss: float | str

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits that name the condition by what it is.

        Whether its code may be imported here is no part of that.
        """
        texts = (f'"{name}":{_canonical(getattr(self, name))}' for name in _SORTED_AXES)
        return hashlib.sha256(f"{{{','.join(texts)}}}".encode()).hexdigest()[:12]

    def row(self) -> dict[str, Any]:
        """Return every axis as one flat row, hyperparameters under ``optimizer.eps``."""
        row: dict[str, Any] = {"condition": self.id}
        for axis in fields(self):
            value = getattr(self, axis.name)
            if isinstance(value, Component):
                row[axis.name] = str(value)
                row |= {f"{axis.name}.{key}": item for key, item in value.parameters}
            else:
                row[axis.name] = value
        return row


_SORTED_AXES = tuple(sorted(axis.name for axis in fields(Condition)))


def _canonical(value: Any) -> str:
    return value.canonical if isinstance(value, Component) else json.dumps(value)


class Static(NamedTuple):
    """What conditions must share to be trained by one compiled program."""

    problem: Component
    model: Component
    dialect: str
    optimizer: Component
    batch_size: int
    sampling: str
    updates: int
    dtype: str
    objective: str
    transformed: bool
    penalised: bool
    data_seed: int | str
    init_seed: int | str
    order_seed: int | str


class ChunkShape(NamedTuple):
    """How many conditions and seeds a chunk holds, and how many of them a tile."""

    conditions: int
    seeds: int
    tile_conditions: int
    tile_seeds: int


@dataclass(frozen=True, eq=False)
class Group:
    """The conditions that share one compiled program.

    Parameters
    ----------
    index : int
        Its place among the study's groups.
    static : Static
        What they share.
    conditions : tuple of Condition
        In the order of the study.
    shape : ChunkShape
        The shape of each of its chunks, a function of the group alone.
    """

    index: int
    static: Static
    conditions: tuple[Condition, ...]
    shape: ChunkShape

    def chunks(self, seeds: tuple[int, int]) -> Iterator["Chunk"]:
        """Yield the chunks that hold the group's conditions for seeds in [first, last)."""
        width = self.shape.seeds
        for seed_block in range(seeds[0] // width, -(-seeds[1] // width)):
            for block in range(-(-len(self.conditions) // self.shape.conditions)):
                yield Chunk(self.index, block, seed_block)

    def chunk_count(self, seeds: tuple[int, int]) -> int:
        """Return how many chunks there are, without making them."""
        return self.seed_blocks(seeds) * -(-len(self.conditions) // self.shape.conditions)

    def seed_blocks(self, seeds: tuple[int, int]) -> int:
        """Return how many blocks of seeds hold the seeds in [first, last)."""
        return -(-seeds[1] // self.shape.seeds) - seeds[0] // self.shape.seeds

    def members(self, chunk: "Chunk") -> tuple[Condition, ...]:
        """Return the chunk's conditions, without the padding."""
        first = chunk.condition_block * self.shape.conditions
        return self.conditions[first : first + self.shape.conditions]

    def components(self) -> list[Component]:
        """Return every component that the group's conditions name."""
        static = self.static
        scalers_of = [part for c in self.conditions for part in (c.scaler, c.target_scaler)]
        return [static.problem, static.model, static.optimizer, *dict.fromkeys(scalers_of)]

    def padded(self, chunk: "Chunk") -> tuple[Condition, ...]:
        """Return the chunk's conditions, the last repeated until it is full."""
        members = self.members(chunk)
        return members + members[-1:] * (self.shape.conditions - len(members))

    def seeds(self, chunk: "Chunk") -> range:
        """Return the absolute seeds of a chunk."""
        first = chunk.seed_block * self.shape.seeds
        return range(first, first + self.shape.seeds)


class Chunk(NamedTuple):
    """The identity of a unit of work: a block of a group's conditions and of the seeds."""

    group: int
    condition_block: int
    seed_block: int

    def __str__(self) -> str:
        return f"{self.group:03d}-{self.condition_block:04d}-{self.seed_block:06d}"

    @classmethod
    def parse(cls, text: str) -> "Chunk":
        """Return the chunk that `str` has written."""
        return cls(*map(int, text.split("-")))


def expand(study: Study) -> list[Condition]:
    """Return the conditions of a study, block by block, the last axis varying fastest.

    Raises
    ------
    StudyError
        If a condition makes no sense, or stands in its block twice.
    """
    count = sum(math.prod(map(len, grid.values())) for grid in study.blocks.values())
    if count > MOST_CONDITIONS:
        raise StudyError(f"{study.origin}: {count:,} conditions; {FEWER_CONDITIONS}")
    conditions = []
    for block, grid in study.blocks.items():
        with error_context(f"{study.origin}: blocks.{block}"):
            cells = itertools.product(*grid.values())
            checked: dict[Any, int] = {}
            named = (dict(zip(grid, cell, strict=True)) for cell in cells)
            own = [_condition(study, block, cell, checked) for cell in named]
            if len(grid["epochs"]) * len(grid["updates"]) > 1:
                _refuse_twice(own)
            check_scalers((c.scaler, c.problem, c.scale_factor, c.offset) for c in own)
            conditions += own
    return conditions


def _refuse_twice(conditions: list[Condition]) -> None:
    """Refuse budgets that are one: the values of every other axis differ."""
    ((condition, count),) = Counter(conditions).most_common(1)
    if count > 1:
        raise StudyError(
            f"epochs and updates give the same budget, {condition.updates} updates,"
            " more than once; keep one of the two"
        )


def group(conditions: list[Condition], chunk_runs: int | None = None) -> list[Group]:
    """Return the conditions by the program they share, in the order of their first member.

    Parameters
    ----------
    conditions : list of Condition
        From `expand`.
    chunk_runs : int, optional
        Upper bound on the runs of a chunk; chosen by `chunk_shape` when not given.
    """
    if chunk_runs is not None:
        with error_context("chunk size"):
            whole(chunk_runs)
    members: dict[Static, list[Condition]] = {}
    known: dict[Any, Static] = {}  # conditions that differ in numbers alone are split once
    for condition in conditions:
        key = _compiled_in(condition)
        static = known.get(key)
        if static is None:
            static = known[key] = split(condition)
        members.setdefault(static, []).append(condition)
    return [
        Group(index, static, tuple(own), chunk_shape(static, len(own), chunk_runs))
        for index, (static, own) in enumerate(members.items())
    ]


def _compiled_in(condition: Condition) -> tuple[Any, ...]:
    """Return what `split` reads of a condition."""
    penalised = condition.l1_penalty > 0 or condition.l2_penalty > 0
    return penalised, condition.scaler, *_compiled_axes(condition)


_compiled_axes = attrgetter(
    *("problem", "model", "dialect", "optimizer", "batch_size", "sampling", "updates", "dtype"),
    *("objective", "data_seed", "init_seed", "order_seed"),
)


def split(condition: Condition) -> Static:
    """Return the part of a condition that is compiled in; all else rides along as numbers."""
    affine = scalers.is_affine(condition.scaler)
    objective = condition.objective
    classes = problem_of(condition.problem).classes
    applies = condition.model.name == "linear" and affine and not classes
    if objective == "moments" and not applies:
        of_classes = " of classes" if classes else ""
        raise StudyError(
            f"blocks.{condition.block}: objective moments is for a linear model and an affine"
            f" scaler, not {condition.model.name!r}{of_classes} and {condition.scaler.name!r};"
            " write objective = 'samples'"
        )
    if objective == "auto":
        objective = "moments" if applies and _moments_pay(condition) else "samples"
    return Static(
        **{
            name: getattr(condition, name)
            for name in Static._fields
            if name not in ("objective", "transformed", "penalised")
        },
        objective=objective,
        transformed=not affine,
        penalised=condition.l1_penalty > 0 or condition.l2_penalty > 0,
    )


def _moments_pay(condition: Condition) -> bool:
    samples, features = shape_of(condition.problem)
    rows = samples if condition.sampling == "full" else min(condition.batch_size, samples)
    return features + 1 < rows


def chunk_shape(static: Static, conditions: int, chunk_runs: int | None = None) -> ChunkShape:
    """Return the shape of a group's chunks, from what the group is and nothing else.

    A tile is what trains at once and should stay in a core's first cache, its longer axis a
    few vector registers long: in moment form a run is some forty numbers, per sample some
    hundreds. A chunk is as many tiles as make the work between chunks small beside theirs.

    Parameters
    ----------
    static : Static
        What the group's conditions share.
    conditions : int
        Number of the group's conditions.
    chunk_runs : int, optional
        Most runs in a chunk; also raises a chunk's seeds, for a device that wants more.
    """
    moments, many = static.objective == "moments", conditions >= 64
    if moments:
        seeds, tile_conditions, tile_seeds = (16, 128, 4) if many else (256, 4, 256)
    else:
        seeds, tile_conditions, tile_seeds = (4, 128, 1) if many else (32, 2, 32)
    most = 1024 if moments else 128
    if chunk_runs is not None:
        seeds = min(seeds, 2 ** (chunk_runs.bit_length() - 1))
        most = chunk_runs // seeds
        while 2 * seeds * min(most, conditions) <= chunk_runs:
            seeds *= 2
    wanted = min(conditions, most)
    tiles = -(-wanted // tile_conditions)
    tile_conditions = -(-wanted // tiles)
    tiles = min(tiles, most // tile_conditions)
    return ChunkShape(
        conditions=tile_conditions * tiles,
        seeds=seeds,
        tile_conditions=tile_conditions,
        tile_seeds=min(tile_seeds, seeds),
    )


def trace_epochs(epochs: int, conditions: int) -> int:
    """Return how many epochs lie between two points of a trace, more where a group is large."""
    fewest, most = TRACE_SLOTS
    return -(-epochs // max(fewest, min(most, TRACE_POINTS // conditions)))


def segment_epochs(own: Group) -> Iterator[int]:
    """Yield the epochs of each segment: batches are prepared a bounded number at a time."""
    static = own.static
    features = shape_of(static.problem)[1]
    batches = batches_per_epoch(static)
    left = static.updates // batches
    if static.sampling == "full":
        yield left
        return
    per_epoch = {
        "moments": batches * (features + 2) * (features + 3) // 2,
        "samples": batches * static.batch_size * (features + 1),
    }[static.objective]
    runs = own.shape.seeds * (own.shape.conditions if static.transformed else 1)
    length = max(1, PREPARED_NUMBERS // (per_epoch * runs))
    while left > 0:
        yield min(length, left)
        left -= length


def _seeds_to_check(study: Study, data_seed: int | str) -> tuple[int, ...]:
    """Return the seeds whose data are looked at before anything is trained."""
    first, last = study.seeds
    held = [first, min(first + 1, last - 1), last - 1] if data_seed == "vary" else [int(data_seed)]
    return tuple(sorted({0, *held}))


def batches_per_epoch(static: Static | Condition) -> int:
    """Return how many updates an epoch takes."""
    if static.sampling == "full":
        return 1
    return -(-shape_of(static.problem)[0] // static.batch_size)


def _condition(
    study: Study, block: str, cell: dict[str, Any], checked: dict[Any, int]
) -> Condition:
    """Return a cell of a block's grid as a condition, whose budget is in updates.

    Parameters
    ----------
    study : Study
    block : str
    cell : dict
    checked : dict
        The budgets of those cells that are known to make sense, by what that depends on.
    """
    key = tuple(cell[name] for name in CHECKED)
    updates = checked.get(key)
    if updates is None:
        updates = checked[key] = _checked_updates(study, block, cell)
    budgetless = {name: value for name, value in cell.items() if name not in ("epochs", "updates")}
    return Condition(block=block, updates=updates, **budgetless)


CHECKED = (
    *("problem", "design", "scaler", "target_scaler", "batch_size", "sampling"),
    *("epochs", "updates", "data_seed"),
)


def _checked_updates(study: Study, block: str, cell: dict[str, Any]) -> int:
    """Return a cell's budget in updates, or refuse what makes no sense in it."""
    cell = dict(cell)
    epochs, updates = cell.pop("epochs"), cell.pop("updates")
    condition = Condition(block=block, updates=1, **cell)
    problem = problem_of(condition.problem)
    seeds = _seeds_to_check(study, condition.data_seed)
    check_data(condition.problem, seeds, study.record == "importances")
    condition.scaler.resolve("scaler", scalers.SCALERS)  # before anything that is cached
    if not scalers.is_affine(condition.target_scaler):
        raise unknown("target_scaler", condition.target_scaler.name, scalers.AFFINE)
    if condition.target_scaler.parameters:
        raise StudyError(f"target_scaler {condition.target_scaler.name!r} takes no parameters")
    if condition.design == "F" and problem.signal is not None:
        raise StudyError(
            f"problem {condition.problem.name!r} has no coefficients to fix; use design U"
        )
    if problem.classes and condition.target_scaler.name != "none":
        raise StudyError(
            f"problem {condition.problem.name!r} has classes, which no target_scaler scales;"
            " write target_scaler = 'none'"
        )
    per_epoch = batches_per_epoch(condition)
    if updates == "none":
        updates = epochs * per_epoch
    elif updates % per_epoch:
        below = updates - updates % per_epoch
        right = f"{below} or {below + per_epoch}" if below else str(per_epoch)
        raise StudyError(
            f"updates = {updates} is not a whole number of epochs of {per_epoch} updates;"
            f" write {right}"
        )
    with error_context("updates"):
        return whole(updates)
