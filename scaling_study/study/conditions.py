"""The conditions of a study, the groups that share a program, and the chunks of work.

    study ─► conditions ─► groups ─► chunks

Everything here is a pure function of the study, so that any process knows what to compute from
the study's text and the identity of a chunk.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache, cached_property
from operator import attrgetter
from typing import Any, NamedTuple

from scaling_study.errors import StudyError, unknown
from scaling_study.study import scalers
from scaling_study.study.axes import LATER_AXES
from scaling_study.study.chunk_shapes import FEW_FEATURES, ChunkShape, Static, chunk_shape
from scaling_study.study.component import Component
from scaling_study.study.sources import check_data, check_scalers, problem_of, shape_of
from scaling_study.study.study import Study
from scaling_study.study.values import error_context, whole

TRACED_SEEDS = 8
TRACE_SLOTS = 25, 200  # fewest and most points of a trace
TRACE_POINTS = 12_800  # of a seed's conditions together, where the fewest allow
WRITTEN_OUT = 4  # features up to which sums over them are written out, fused with what follows
DENSE_MODELS = "linear", "mlp"
PREPARED_NUMBERS = 2**22  # numbers of prepared batches that are held at once
TABLE_PREPARED = 4  # times as many of a user's table, so that few budgets need another program


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
    framework: str
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
    start: str

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits, a hash of the axes; of `LATER_AXES` only other values."""
        values = ((name, getattr(self, name)) for name in _SORTED_AXES)
        texts = (
            f'"{name}":{_canonical(value)}'
            for name, value in values
            if LATER_AXES.get(name) != value
        )
        return hashlib.sha256(f"{{{','.join(texts)}}}".encode()).hexdigest()[:12]

    def row(self) -> dict[str, Any]:
        """Return every axis as one flat row, hyperparameters as ``optimizer.eps``."""
        row: dict[str, Any] = {"condition": self.id}
        for axis in fields(self):
            value = getattr(self, axis.name)
            row[axis.name] = str(value) if isinstance(value, Component) else value
            if isinstance(value, Component):
                row |= {f"{axis.name}.{key}": item for key, item in value.parameters}
        return row


_SORTED_AXES = tuple(sorted(axis.name for axis in fields(Condition)))


def _canonical(value: Any) -> str:
    return value.canonical if isinstance(value, Component) else json.dumps(value)


class Chunk(NamedTuple):
    """The identity of a unit of work: a block of a group's conditions and a block of seeds."""

    group: int
    condition_block: int
    seed_block: int

    def __str__(self) -> str:
        return f"{self.group:03d}-{self.condition_block:04d}-{self.seed_block:06d}"

    @classmethod
    def parse(cls, text: str) -> "Chunk":
        """Return the chunk that `str` has written."""
        return cls(*map(int, text.split("-")))


@dataclass(frozen=True, eq=False)
class Group:
    """The conditions that share one compiled program."""

    index: int  # its place among the study's groups
    static: Static
    conditions: tuple[Condition, ...]  # in the order of the study
    shape: ChunkShape  # of every chunk, a function of the group alone

    def chunks(self, seeds: tuple[int, int]) -> Iterator[Chunk]:
        """Yield the chunks that hold the group's conditions for seeds in [first, last)."""
        first = seeds[0] // self.shape.seeds
        for seed_block in range(first, first + self.seed_blocks(seeds)):
            for block in range(self._condition_blocks()):
                yield Chunk(self.index, block, seed_block)

    def chunk_count(self, seeds: tuple[int, int]) -> int:
        """Return the number of chunks, without making them."""
        return self.seed_blocks(seeds) * self._condition_blocks()

    def _condition_blocks(self) -> int:
        return -(-len(self.conditions) // self.shape.conditions)

    def seed_blocks(self, seeds: tuple[int, int]) -> int:
        """Return the number of blocks of seeds that hold the seeds in [first, last)."""
        return -(-seeds[1] // self.shape.seeds) - seeds[0] // self.shape.seeds

    def members(self, chunk: Chunk) -> tuple[Condition, ...]:
        """Return the chunk's conditions, without the padding."""
        first = chunk.condition_block * self.shape.conditions
        return self.conditions[first : first + self.shape.conditions]

    def padded(self, chunk: Chunk) -> tuple[Condition, ...]:
        """Return the chunk's conditions, the last repeated until the chunk is full."""
        members = self.members(chunk)
        return members + members[-1:] * (self.shape.conditions - len(members))

    def seeds(self, chunk: Chunk) -> range:
        """Return the absolute seeds of a chunk."""
        first = chunk.seed_block * self.shape.seeds
        return range(first, first + self.shape.seeds)

    def components(self) -> list[Component]:
        """Return every component that the group's conditions name."""
        static = self.static
        scalers_of = [part for c in self.conditions for part in (c.scaler, c.target_scaler)]
        return [static.problem, static.model, static.optimizer, *dict.fromkeys(scalers_of)]


# From a study to its conditions ---------------------------------------------------------------


def expand(study: Study) -> list[Condition]:
    """Return the conditions of a study, block by block, the last axis varying fastest.

    Raises
    ------
    StudyError
        If a condition is not valid, or occurs twice in its block.
    """
    conditions = []
    for name, grid in study.blocks.items():
        with error_context(f"{study.origin}: blocks.{name}"):
            block = _block(study, name, grid)
            if len(grid["epochs"]) * len(grid["updates"]) > 1:
                _refuse_equal_budgets(block)
            check_scalers((c.scaler, c.problem, c.scale_factor, c.offset) for c in block)
            conditions += block
    return conditions


def _block(study: Study, name: str, grid: Any) -> list[Condition]:
    """Return the cells of a block's grid as conditions."""
    # The check of a cell is slow, and depends on few of its axes.
    updates_of = cache(lambda *key: _checked_updates(study, **dict(zip(CHECKED, key, strict=True))))
    if "function" in grid["start"]:
        _check_function_start(grid)
    conditions = []
    for values in itertools.product(*grid.values()):
        cell: dict[str, Any] = dict(zip(grid, values, strict=True))
        cell["updates"] = updates_of(*(cell[axis] for axis in CHECKED))
        del cell["epochs"]
        conditions.append(Condition(block=name, **cell))
    return conditions


def _check_function_start(grid: Any) -> None:
    """Refuse what has no initial function to keep: one of inputs that no affine map gives."""
    for model in grid["model"]:
        if model.name not in DENSE_MODELS:
            raise StudyError(
                f"start = 'function' is for {' and '.join(DENSE_MODELS)}, whose first layer can"
                f" undo a unit, not {model.name!r}; write start = 'parameters'"
            )
    for scaler in grid["scaler"]:
        if not scalers.is_affine(scaler):
            raise StudyError(
                f"start = 'function' is for an affine scaler, not {scaler.name!r};"
                " write start = 'parameters', or put that scaler in a block of its own"
            )


def _refuse_equal_budgets(conditions: list[Condition]) -> None:
    ((condition, count),) = Counter(conditions).most_common(1)
    if count > 1:
        raise StudyError(
            f"epochs and updates give the same budget, {condition.updates} updates,"
            " more than once; keep one of the two"
        )


CHECKED = (
    *("problem", "design", "scaler", "target_scaler", "batch_size", "sampling"),
    *("epochs", "updates", "data_seed"),
)


def _checked_updates(study: Study, problem: Component, design: str, **cell: Any) -> int:
    """Return the budget of a condition in updates, or refuse axes that do not fit each other."""
    built, target_scaler = problem_of(problem), cell["target_scaler"]
    check_data(
        problem,
        _seeds_to_check(study, cell["data_seed"]),
        study.record in ("importances", "networks"),
    )
    cell["scaler"].resolve("scaler", scalers.SCALERS)  # before anything that is cached
    if not scalers.is_affine(target_scaler):
        raise unknown("target_scaler", target_scaler.name, scalers.AFFINE)
    if target_scaler.parameters:
        raise StudyError(f"target_scaler {target_scaler.name!r} takes no parameters")
    if design == "F" and built.signal is not None:
        raise StudyError(f"problem {problem.name!r} has no coefficients to fix; use design U")
    if built.classes and target_scaler.name != "none":
        raise StudyError(
            f"problem {problem.name!r} has classes, which no target_scaler scales;"
            " write target_scaler = 'none'"
        )
    per_epoch, updates = _batches(problem, cell["batch_size"], cell["sampling"]), cell["updates"]
    if updates == "none":
        updates = cell["epochs"] * per_epoch
    elif updates % per_epoch:
        below = updates - updates % per_epoch
        right = f"{below} or {below + per_epoch}" if below else str(per_epoch)
        raise StudyError(
            f"updates = {updates} is not a whole number of epochs of {per_epoch} updates;"
            f" write {right}"
        )
    with error_context("updates"):
        return whole(updates)


def _seeds_to_check(study: Study, data_seed: int | str) -> tuple[int, ...]:
    """Return the seeds whose data are checked before anything is trained."""
    first, last = study.seeds
    seeds = [first, min(first + 1, last - 1), last - 1] if data_seed == "vary" else [int(data_seed)]
    return tuple(sorted({0, *seeds}))


def _batches(problem: Component, batch_size: int, sampling: str) -> int:
    return 1 if sampling == "full" else -(-shape_of(problem)[0] // batch_size)


def batches_per_epoch(static: Static | Condition) -> int:
    """Return the number of updates of an epoch."""
    return _batches(static.problem, static.batch_size, static.sampling)


# From conditions to groups --------------------------------------------------------------------


def group(conditions: list[Condition], chunk_runs: int | None = None) -> list[Group]:
    """Return the conditions by the program they share, in the order of their first member.

    ``chunk_runs`` is an upper bound on the runs of a chunk; see `chunk_shape`.
    """
    if chunk_runs is not None:
        with error_context("chunk size"):
            whole(chunk_runs)
    members: dict[Static, list[Condition]] = {}
    known: dict[Any, Static] = {}  # conditions that differ only in numbers are split once
    for condition in conditions:
        key = _penalised(condition), condition.scaler, _shared_axes(condition)
        if key not in known:
            known[key] = split(condition)
        members.setdefault(known[key], []).append(condition)
    return [
        Group(index, static, tuple(group), chunk_shape(static, len(group), chunk_runs))
        for index, (static, group) in enumerate(members.items())
    ]


def _penalised(condition: Condition) -> bool:
    return condition.l1_penalty > 0 or condition.l2_penalty > 0


SHARED = tuple(name for name in Static._fields if name not in ("transformed", "penalised"))
_shared_axes = attrgetter(*SHARED)


def split(condition: Condition) -> Static:
    """Return the part of a condition that is compiled in; all else is passed as numbers."""
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
    shared: dict[str, Any] = dict(zip(SHARED, _shared_axes(condition), strict=True)) | {
        "objective": objective
    }
    return Static(**shared, transformed=not affine, penalised=_penalised(condition))


def _moments_pay(condition: Condition) -> bool:
    samples, features = shape_of(condition.problem)
    rows = samples if condition.sampling == "full" else min(condition.batch_size, samples)
    return features + 1 < rows


def numbers_of_moments(features: int) -> int:
    """Return how many numbers the second moments of a batch are kept as."""
    size = features + 2
    return size * (size + 1) // 2 if features <= WRITTEN_OUT else size**2


def columns_copied(static: Static) -> int:
    """Return how many columns of a batch's rows are copied at most before they are trained on.

    Single runs gather their rows by index. The smallest networks do not, which have few features,
    nor do optimizers that take a Hessian, all of which a study names as code.
    """
    features = shape_of(static.problem)[1]
    return features if static.optimizer.is_code else min(features, FEW_FEATURES)


def trace_epochs(epochs: int, conditions: int) -> int:
    """Return the epochs between two points of a trace, more where a group is large."""
    fewest, most = TRACE_SLOTS
    return -(-epochs // max(fewest, min(most, TRACE_POINTS // conditions)))


def segment_epochs(group: Group) -> Iterator[int]:
    """Yield the epochs of each segment: a bounded number of batches is prepared at a time."""
    static, shape = group.static, group.shape
    batches = batches_per_epoch(static)
    left = static.updates // batches
    if static.sampling == "full":
        yield left
        return
    per_epoch = {
        "moments": batches * numbers_of_moments(shape_of(static.problem)[1]),
        "samples": batches * static.batch_size * (columns_copied(static) + 1),
    }[static.objective]
    runs = shape.seeds * (shape.conditions if static.transformed else 1)
    most = PREPARED_NUMBERS * (TABLE_PREPARED if static.problem.is_table else 1)
    length = max(1, most // (per_epoch * runs))
    while left > 0:
        yield min(length, left)
        left -= length
