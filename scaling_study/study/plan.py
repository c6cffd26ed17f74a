"""What a study comes to, before anything runs: counts, and estimates of memory and time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scaling_study.errors import StudyError
from scaling_study.study.conditions import (
    TRACED_SEEDS,
    Chunk,
    Condition,
    Group,
    batches_per_epoch,
    expand,
    group,
    segment_epochs,
    shape_of,
    trace_epochs,
)
from scaling_study.study.study import Study

# Measured on two cores; `plan` says so where it uses them.
TYPICAL_UPDATES_PER_SECOND = {"moments": 2e8, "samples": 5e6}
COMPILE_SECONDS = 1.5
BYTES_PER_RUN = 80
MOST_CHUNKS = 1_000_000  # a folder with more files than that is of no use
MOST_FITS = 10_000_000


@dataclass(frozen=True)
class Plan:
    """What a study comes to, before anything runs.

    Attributes
    ----------
    study : Study
    conditions : list of Condition
    groups : list of Group
    chunks : list of Chunk
    runs, updates : int
        Trainings asked for, and their updates together.
    chunk_runs : int or None
        The chunk size that was asked for, if any.
    """

    study: Study
    conditions: list[Condition]
    groups: list[Group]
    chunks: list[Chunk]
    runs: int
    updates: int
    chunk_runs: int | None = None

    def summary(self) -> dict[str, Any]:
        """Return the plan in numbers, estimates of memory, disk and time among them."""
        seconds = sum(self._seconds(own) for own in self.groups)
        return {
            "study": self.study.name,
            "conditions": len(self.conditions),
            "groups": len(self.groups),
            "chunks": len(self.chunks),
            "runs": self.runs,
            "updates": self.updates,
            "memory_bytes": max(self.memory_of(own) for own in self.groups),
            "disk_bytes": self._padded_runs() * BYTES_PER_RUN,
            "seconds": round(COMPILE_SECONDS * len(self.groups) + seconds, 1),
        }

    def runs_of(self, chunks: Sequence[Chunk]) -> int:
        """Return how many of the runs asked for these chunks hold."""
        first, last = self.study.seeds
        total = 0
        for chunk in chunks:
            own = self.groups[chunk.group]
            seeds = own.seeds(chunk)
            total += len(own.members(chunk)) * (min(last, seeds.stop) - max(first, seeds.start))
        return total

    def updates_of(self, chunks: Sequence[Chunk]) -> int:
        """Return how many updates the runs asked for of these chunks do."""
        return sum(
            self.runs_of([chunk]) * self.groups[chunk.group].static.updates for chunk in chunks
        )

    def _padded_runs(self) -> int:
        return sum(
            len(own.conditions) * own.shape.seeds * own.seed_blocks(self.study.seeds)
            for own in self.groups
        )

    def _seconds(self, own: Group) -> float:
        chunks = own.chunk_count(self.study.seeds)
        updates = chunks * own.shape.conditions * own.shape.seeds * own.static.updates
        return updates / TYPICAL_UPDATES_PER_SECOND[own.static.objective]

    def memory_of(self, own: Group) -> int:
        """Return the bytes of a chunk: data, orders, state and traces of its runs."""
        size = 8 if own.static.dtype == "float64" else 4
        samples, features = shape_of(own.static.problem)
        runs = own.shape.conditions * own.shape.seeds
        batches = batches_per_epoch(own.static)
        epochs = own.static.updates // batches
        hidden = dict(own.static.model.parameters).get("hidden", ())
        widths = [features, *([hidden] if isinstance(hidden, int) else hidden), 1]
        parameters = sum(a * b + b for a, b in pairwise(widths))
        state = runs * (6 * parameters + 20 * features)
        if self.study.record == "curves":
            traces = 2 * runs * epochs * (1 + features)  # before and after
        else:
            traced = runs * min(TRACED_SEEDS, own.shape.tile_seeds) / own.shape.tile_seeds
            points = -(-epochs // trace_epochs(epochs, len(own.conditions)))
            traces = 2 * traced * points * (2 + 2 * features)
        replaced = own.static.sampling == "replacement"
        rows = own.static.batch_size if replaced else min(own.static.batch_size, samples)
        prepared = {
            "moments": batches * samples,
            "samples": 2 * batches * rows * (features + 2),
        }[own.static.objective]
        # Where every batch is all of the data, one is prepared for all epochs.
        held = 1 if own.static.sampling == "full" else next(segment_epochs(own))
        order = own.shape.seeds * (batches * rows if replaced else samples)
        batches_held = held * (own.shape.tile_seeds * prepared + order)
        return int(size * (state + traces + batches_held))


def check_size(groups: Sequence[Group], seeds: tuple[int, int]) -> None:
    """Raise a `StudyError` if there would be more chunks than a folder may hold."""
    count = sum(own.chunk_count(seeds) for own in groups)
    if count > MOST_CHUNKS:
        raise StudyError(
            f"seeds {seeds[0]}:{seeds[1]} make {count:,} chunks, and a folder holds at most"
            f" {MOST_CHUNKS:,}; ask for fewer seeds, or for a larger --chunk-size"
        )


def plan(study: Study, chunk_runs: int | None = None) -> Plan:
    """Return what a study comes to; nothing runs, and JAX is not imported."""
    conditions = expand(study)
    groups = group(conditions, chunk_runs)
    check_size(groups, study.seeds)
    fits = (study.seeds[1] - study.seeds[0]) * len(study.estimators)
    if fits > MOST_FITS:
        raise StudyError(f"{study.origin}: {fits:,} fits of estimators, at most {MOST_FITS:,}")
    chunks = [chunk for own in groups for chunk in own.chunks(study.seeds)]
    seeds = study.seeds[1] - study.seeds[0]
    updates = seeds * sum(condition.updates for condition in conditions)
    return Plan(study, conditions, groups, chunks, seeds * len(conditions), updates, chunk_runs)
