"""The size of a study before anything runs: counts, and estimates of memory, disk and time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scaling_study.errors import StudyError
from scaling_study.study.chunk_shapes import estimated_parameters, hidden_of
from scaling_study.study.conditions import (
    TRACED_SEEDS,
    Chunk,
    Condition,
    Group,
    batches_per_epoch,
    columns_copied,
    expand,
    group,
    segment_epochs,
    shape_of,
    trace_epochs,
)
from scaling_study.study.importance import PERMUTATIONS
from scaling_study.study.study import Study

# CPU seconds, measured on two cores (bench/NOTES.md): of a program, of a chunk's data and rows,
# and of an update of a run, the latter with a part for each row of a batch and parameter.
CORES = 2
START_SECONDS = 3.0  # of wall: imports, the plan, the first chunk
COMPILE_SECONDS = {"moments": 1.3, "samples": 3.0}
CHUNK_SECONDS = 0.1
UPDATE_SECONDS = {"moments": 1e-8, "samples": 1e-7}
ROW_PARAMETER_SECONDS = {"moments": 0.0, "samples": 2.5e-10}
# Of importances: the program, a run's evaluation by row and parameter, how often all rows are
# evaluated apart from the permutations, and how many rows that is at most.
IMPORTANCE_COMPILE, IMPORTANCE_SECONDS, IMPORTANCE_PASSES, IMPORTANCE_ROWS = 4.0, 3e-10, 300, 1024
FIT_SECONDS = 0.25  # of an estimator on a seed's split, the mean of those in `published`
BYTES_PER_RUN = 80
MOST_CHUNKS = 1_000_000  # files of a folder
MOST_FITS = 10_000_000


@dataclass(frozen=True)
class Plan:
    """The work of a study, before anything runs."""

    study: Study
    conditions: list[Condition]
    groups: list[Group]
    chunks: list[Chunk]
    runs: int  # requested trainings
    updates: int  # of all these runs together
    chunk_runs: int | None = None  # the requested chunk size

    def summary(self) -> dict[str, Any]:
        """Return the plan in numbers, with estimates of memory, disk and time."""
        return {
            "study": self.study.name,
            "conditions": len(self.conditions),
            "groups": len(self.groups),
            "chunks": len(self.chunks),
            "runs": self.runs,
            "updates": self.updates,
            "memory_bytes": max(map(self.memory_of, self.groups)),
            "disk_bytes": self._padded_runs() * BYTES_PER_RUN,
            "seconds": round(START_SECONDS + self._all_cpu_seconds() / CORES, 1),
        }

    def runs_of(self, chunks: Sequence[Chunk]) -> int:
        """Return the number of requested runs in these chunks."""
        first, last = self.study.seeds
        total = 0
        for chunk in chunks:
            group = self.groups[chunk.group]
            seeds = group.seeds(chunk)
            total += len(group.members(chunk)) * (min(last, seeds.stop) - max(first, seeds.start))
        return total

    def updates_of(self, chunks: Sequence[Chunk]) -> int:
        """Return the number of updates of the requested runs in these chunks."""
        return sum(self.runs_of([c]) * self.groups[c.group].static.updates for c in chunks)

    def _padded_runs(self) -> int:
        seeds = self.study.seeds
        return sum(len(g.conditions) * g.shape.seeds * g.seed_blocks(seeds) for g in self.groups)

    def _all_cpu_seconds(self) -> float:
        """Return an estimate of the CPU time of all groups, and of the estimators to fit."""
        fits = self.study.n_seeds * sum(len(c.scalers) for c in self.study.comparisons())
        return sum(map(self._cpu_seconds, self.groups)) + FIT_SECONDS * fits

    def _cpu_seconds(self, group: Group) -> float:
        """Return an estimate of a group's CPU time: its chunks, and a program that it may share."""
        static, shape = group.static, group.shape
        samples, _ = shape_of(static.problem)
        rows = samples if static.sampling == "full" else min(static.batch_size, samples)
        update = UPDATE_SECONDS[static.objective]
        update += ROW_PARAMETER_SECONDS[static.objective] * rows * estimated_parameters(static)
        run = static.updates * update
        program = COMPILE_SECONDS[static.objective]
        if self.study.record == "importances":
            run += self._importance_seconds(group)
            program += IMPORTANCE_COMPILE
        chunk = CHUNK_SECONDS + shape.conditions * shape.seeds * run
        return program + group.chunk_count(self.study.seeds) * chunk

    def _importance_seconds(self, group: Group) -> float:
        """Return an estimate of the CPU time in which a run's importances are computed."""
        samples, features = shape_of(group.static.problem)
        passes = IMPORTANCE_PASSES + PERMUTATIONS * features
        rows = min(IMPORTANCE_ROWS, 2 * samples)
        return IMPORTANCE_SECONDS * rows * estimated_parameters(group.static) * passes

    def memory_of(self, group: Group) -> int:
        """Return the bytes of a chunk: data, orders, state and traces of its runs."""
        static, shape = group.static, group.shape
        samples, features = shape_of(static.problem)
        batches = batches_per_epoch(static)
        state = shape.conditions * shape.seeds * (6 * estimated_parameters(static) + 20 * features)
        replaced = static.sampling == "replacement"
        rows = static.batch_size if replaced else min(static.batch_size, samples)
        targets = shape.conditions if static.objective == "samples" else 1
        inputs = features * (shape.conditions if static.transformed else 1)
        data = shape.seeds * samples * (inputs + targets)
        copied = 2 * batches * rows * (columns_copied(static) + 2)
        prepared = {"moments": batches * samples, "samples": copied}
        # If every batch is all of the data, one is prepared for all epochs.
        held = 1 if static.sampling == "full" else next(segment_epochs(group))
        order = shape.seeds * (batches * rows if replaced else samples)
        batches_held = held * (shape.tile_seeds * prepared[static.objective] + order)
        size = 8 if static.dtype == "float64" else 4
        return int(size * (state + self._trace_numbers(group, features) + data + batches_held))

    def memory_at_once(self, group: Group) -> int:
        """Return the bytes of a chunk whose runs all train at once, as on a GPU.

        To `memory_of` it adds all rows and their hidden layers, forward and backward.
        """
        static, shape = group.static, group.shape
        samples, features = shape_of(static.problem)
        units = 0 if static.objective == "moments" else features + sum(hidden_of(static))
        size = 8 if static.dtype == "float64" else 4
        rows = shape.conditions * shape.seeds * samples
        return self.memory_of(group) + 2 * size * rows * units

    def _trace_numbers(self, group: Group, features: int) -> float:
        """Return how many numbers the traces of a chunk hold, before and after."""
        shape, epochs = group.shape, group.static.updates // batches_per_epoch(group.static)
        runs = shape.conditions * shape.seeds
        if self.study.record == "curves":
            return 2 * runs * epochs * (1 + features)
        traced = runs * min(TRACED_SEEDS, shape.tile_seeds) / shape.tile_seeds
        points = -(-epochs // trace_epochs(epochs, len(group.conditions)))
        return 2 * traced * points * (2 + 2 * features)


def check_size(groups: Sequence[Group], seeds: tuple[int, int]) -> None:
    """Raise a `StudyError` if there would be more chunks than a folder may hold."""
    count = sum(group.chunk_count(seeds) for group in groups)
    if count > MOST_CHUNKS:
        raise StudyError(
            f"seeds {seeds[0]}:{seeds[1]} make {count:,} chunks, and a folder holds at most"
            f" {MOST_CHUNKS:,}; ask for fewer seeds, or for a larger --chunk-size"
        )


def plan(study: Study, chunk_runs: int | None = None) -> Plan:
    """Return the plan of a study; nothing runs, and JAX is not imported."""
    conditions = expand(study)
    groups = group(conditions, chunk_runs)
    check_size(groups, study.seeds)
    fits = study.n_seeds * len(study.estimators)
    if fits > MOST_FITS:
        raise StudyError(f"{study.origin}: {fits:,} fits of estimators, at most {MOST_FITS:,}")
    chunks = [chunk for one in groups for chunk in one.chunks(study.seeds)]
    updates = study.n_seeds * sum(condition.updates for condition in conditions)
    runs = study.n_seeds * len(conditions)
    return Plan(study, conditions, groups, chunks, runs, updates, chunk_runs)
