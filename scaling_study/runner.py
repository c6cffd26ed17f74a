"""Running a study: plan, minus what is done, to devices, to the store. The only writer."""

import os
import platform
import queue
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from scaling_study import store
from scaling_study.errors import StudyError
from scaling_study.experiment.conditions import (
    TRACED_SEEDS,
    Chunk,
    Condition,
    Group,
    batches_per_epoch,
    expand,
    group,
    problem_of,
    shape_of,
    trace_points,
)
from scaling_study.experiment.study import Study, read_study
from scaling_study.experiment.values import told

# Measured on two cores; `plan` says so where it uses them.
TYPICAL_UPDATES_PER_SECOND = {"moments": 2e8, "samples": 5e6}
COMPILE_SECONDS = 1.5
BYTES_PER_RUN = 80


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

    def _padded_runs(self) -> int:
        return sum(
            len(self.groups[c.group].members(c)) * self.groups[c.group].shape.seeds
            for c in self.chunks
        )

    def _seconds(self, own: Group) -> float:
        chunks = sum(chunk.group == own.index for chunk in self.chunks)
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
        traced = runs * min(TRACED_SEEDS, own.shape.tile_seeds) / own.shape.tile_seeds
        slots = min(epochs, trace_points(len(own.conditions)))
        traces = 2 * traced * slots * (2 + 2 * features)  # before and after
        prepared = {
            "moments": batches * samples,
            "samples": 2 * batches * own.static.batch_size * (features + 2),
        }[own.static.objective]
        held = min(epochs, 200)
        batches_held = held * (own.shape.tile_seeds * prepared + own.shape.seeds * samples)
        return int(size * (state + traces + batches_held))


def plan(study: Study, chunk_runs: int | None = None) -> Plan:
    """Return what a study comes to; nothing runs, and JAX is not imported."""
    conditions = expand(study)
    groups = group(conditions, chunk_runs)
    chunks = [chunk for own in groups for chunk in own.chunks(study.seeds)]
    seeds = study.seeds[1] - study.seeds[0]
    updates = seeds * sum(condition.updates for condition in conditions)
    return Plan(study, conditions, groups, chunks, seeds * len(conditions), updates, chunk_runs)


@dataclass
class Progress:
    """How far a run has come, as told to a progress bar."""

    runs_done: int
    runs: int
    seconds: float


def run(
    study: Study | str | Path | dict[str, Any],
    *,
    seeds: str | tuple[int, int] | None = None,
    settings: list[str] | None = None,
    output_dir: str | Path | None = None,
    overwrite: bool = False,
    devices: int | None = None,
    chunk_size: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_curves: Callable[[Sequence[Condition], range, Any], None] | None = None,
) -> store.Results:
    """Train every run of a study that is not stored yet, and return the stored results.

    Parameters
    ----------
    study : Study, str, Path or dict
        A study, the name of a preset, the path of a TOML file, or a mapping like one.
    seeds : str or (int, int), optional
        ``"A:B"``: from A, up to but without B. The study's own by default.
    settings : list of str, optional
        ``key=value`` overrides, as ``--set`` on the command line.
    output_dir : path, optional
        ``results/<name>`` by default.
    overwrite : bool
        Remove what another study left in the folder.
    devices : int, optional
        How many local devices to use; all by default, on a CPU as many as there are cores.
    chunk_size : int, optional
        Upper bound on the runs of a chunk. Recorded: bits are promised for one chunk size.
    on_progress : callable
        Called after each chunk.
    on_curves : callable, optional
        With ``record = "curves"``, called from a device's thread as each chunk ends, with its
        conditions, its seeds and their `scaling_study.engine.chunk.Curves`, which are kept
        nowhere else.

    Returns
    -------
    Results
        As from `scaling_study.load`; ``.manifest["summary"]`` has the timings.

    Raises
    ------
    StudyError
        If the study, the seeds or the folder are not right. Nothing has been written then.
    """
    start = time.perf_counter()
    resolved = read_study(study, settings or []).with_seeds(seeds)
    planned = plan(resolved, chunk_size)
    _check_claims(resolved)
    pool = local_devices(devices)  # before anything starts JAX with the devices it would choose
    _check_engine(planned)
    folder = Path(output_dir or Path("results") / resolved.name)
    identity = store.identity(pool[0].platform, chunk_size, planned.groups)
    kept = store.Store(folder, resolved, identity, overwrite=overwrite)
    todo = [chunk for chunk in planned.chunks if not kept.has(chunk)]
    kept.begin(planned.conditions)
    _cache_programs()
    estimator_seconds = _fit_estimators(resolved, kept)
    compile_seconds, run_seconds = train(
        planned,
        todo,
        pool,
        kept.put,
        on_progress=on_progress,
        on_curves=on_curves,
    )
    manifest = _manifest(planned, pool, compile_seconds, run_seconds)
    if resolved.estimators:
        manifest["estimator_seconds"] = round(estimator_seconds, 3)
    kept.finish(manifest)
    results = store.load(folder)
    failures = [*results.failures(), *_of_no_use(results)]
    new = _runs_of(planned, todo)
    manifest["summary"] = {
        "study": resolved.name,
        "output_dir": str(folder),
        "runs": planned.runs,
        "runs_trained": new,
        "groups": len(planned.groups),
        "chunks": len(planned.chunks),
        "devices": len(pool),
        "platform": pool[0].platform,
        "compile_seconds": round(compile_seconds, 3),
        "run_seconds": round(run_seconds, 3),
        "total_seconds": round(time.perf_counter() - start, 3),
        "runs_per_second": round(new / run_seconds, 1) if todo else None,
        "updates_per_second": round(_updates_of(planned, todo) / run_seconds, 1) if todo else None,
        "peak_memory_bytes": peak_memory(),
        "statuses": results.statuses,
        "failures": failures,
    }
    kept.finish(manifest)
    return store.load(folder)


def peak_memory() -> int:
    """Return the peak resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _check_engine(planned: Plan) -> None:
    """Build every model and optimizer once, so that a wrong one is told before any work.

    One that only fails when it is called is data, unless nothing else is left to run.
    """
    from scaling_study.engine import models, optimizers

    reasons = []
    for own in planned.groups:
        with told(f"blocks.{own.conditions[0].block}"):
            if planned.study.record == "importances" and problem_of(own.static.problem).classes:
                raise StudyError("record = 'importances' is of quantities, not of classes")
            models.build(own.static.model)
            factory = optimizers.build(own.static.optimizer, own.static.dialect)
            try:
                optimizers.check(factory)
            except Exception as error:
                reasons.append(_failure(own, error))
    if reasons and len(reasons) == len(planned.groups):
        raise StudyError(reasons[0])


def _failure(own: Group, error: Exception) -> str:
    """Say in a line what of a group cannot be trained, and why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = f"{type(error).__name__}: {' '.join(lines[:2])}" if lines else type(error).__name__
    block = own.conditions[0].block
    return f"blocks.{block}: {own.static.model} with {own.static.optimizer} fails: {why}"


def _of_no_use(results: store.Results) -> list[str]:
    """Name each optimizer of a user's own whose every run is lost at its first update."""
    lines = []
    for name, last in results.last_divergence().items():
        if ":" in name and last <= 1:
            lines.append(f"optimizer {name}: every run has a non-finite loss after one update")
    return lines


def _fit_estimators(study: Study, kept: store.Store) -> float:
    """Fit the study's estimators on the seeds that are not kept, and return the seconds."""
    if not study.estimators:
        return 0.0
    from scaling_study.engine.estimators import fit_all

    start = time.perf_counter()
    done = kept.estimators()
    seeds = sorted(set(range(*study.seeds)) - set(done["seed"]))
    if seeds:
        rows = [*done.to_dict("records"), *fit_all(study, seeds)]
        kept.put_estimators(pd.DataFrame(rows))
    return time.perf_counter() - start


def _check_claims(study: Study) -> None:
    """Read what the study claims, so that a wrong claim is told before any work."""
    if study.claims:
        from scaling_study.analysis.claims import read_claims

        read_claims(study)


def local_devices(count: int | None = None) -> list[Any]:
    """Return the devices to use, making CPU devices first where nobody else decided.

    Parameters
    ----------
    count : int, optional
        How many; all by default.
    """
    import jax

    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not asked and jax.config.jax_num_cpu_devices in (None, -1):
        with suppress(RuntimeError):  # the backend has started; what it has is what there is
            jax.config.update("jax_num_cpu_devices", max(count or 1, os.cpu_count() or 1))
    devices = jax.local_devices()
    if count is None:
        return devices
    if not 1 <= count <= len(devices):
        raise StudyError(f"--devices {count}: between 1 and {len(devices)} are here")
    return devices[:count]


def _cache_programs() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was told another way."""
    import jax

    told = jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache
    if not told:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "scaling-study" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def train(
    planned: Plan,
    todo: Sequence[Chunk],
    devices: Sequence[Any],
    put: Callable[[Chunk, bytes], None],
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_curves: Callable[[Sequence[Condition], range, Any], None] | None = None,
) -> tuple[float, float]:
    """Train chunks on all devices at once, group by group.

    Parameters
    ----------
    planned : Plan
    todo : sequence of Chunk
        Those of the plan that are not done.
    devices : sequence of jax.Device
        Each gets whole chunks.
    put : callable
        Called in this thread with each chunk and its rows, while others train.
    on_progress, on_curves : callable
        As of `run`.

    Returns
    -------
    compile_seconds, run_seconds : float
        Of all groups; compiling is over before a group's first chunk begins. The runs of a
        group that cannot be compiled are put as failed, with the reason.
    """
    import jax

    from scaling_study.engine.chunk import compiled, run_chunk, run_curves
    from scaling_study.engine.record import failed

    record, text = planned.study.record, planned.study.to_toml()
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for device in devices:
        free.put(device)

    def compile_on(device: Any, own: Group) -> None:
        with jax.default_device(device):
            compiled(own, record)

    @contextmanager
    def on_device() -> Iterator[None]:
        device = free.get()
        try:
            with jax.default_device(device):
                yield
        finally:
            free.put(device)

    def train_chunk(chunk: Chunk) -> tuple[Chunk, bytes | None]:
        if record == "curves":
            return chunk, run_curves(text, chunk, planned.chunk_runs, on_curves, on_device)
        return chunk, run_chunk(text, chunk, planned.chunk_runs, on_device)

    compile_seconds = run_seconds = 0.0
    done = planned.runs - _runs_of(planned, todo)
    start = time.perf_counter()
    # A second thread for each device draws and writes while the first computes. One CPU device
    # is one core, and whoever asks for it wants the others for something else.
    alone = len(devices) == 1 and devices[0].platform == "cpu"
    threads = 1 if alone else 2 * len(devices)
    with ThreadPoolExecutor(threads) as workers:
        for own in planned.groups:
            chunks = [chunk for chunk in todo if chunk.group == own.index]
            if not chunks:
                continue
            begin = time.perf_counter()
            used = devices[: len(chunks)]
            try:
                list(workers.map(lambda device, own=own: compile_on(device, own), used))
            except Exception as error:
                reason = _failure(own, error)
                for chunk in chunks if record != "curves" else ():
                    put(chunk, failed(own, chunk, shape_of(own.static.problem)[1], reason))
                continue
            compiled_at = time.perf_counter()
            for chunk, rows in _completed(workers, train_chunk, chunks, 2 * threads):
                if rows is not None:
                    put(chunk, rows)
                done += _runs_of(planned, [chunk])
                on_progress(Progress(done, planned.runs, time.perf_counter() - start))
            compile_seconds += compiled_at - begin
            run_seconds += time.perf_counter() - compiled_at
    return compile_seconds, run_seconds


def _completed(
    workers: ThreadPoolExecutor, function: Callable[..., Any], items: list[Any], ahead: int
) -> Iterator[Any]:
    """Yield results as they complete, with a bounded number of items under way."""
    waiting, pending = iter(items), set[Future[Any]]()
    for item in waiting:
        pending.add(workers.submit(function, item))
        if len(pending) < ahead:
            continue
        finished, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in finished)
    while pending:
        finished, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in finished)


def _runs_of(planned: Plan, chunks: Sequence[Chunk]) -> int:
    """Return how many of the runs asked for these chunks hold."""
    first, last = planned.study.seeds
    total = 0
    for chunk in chunks:
        own = planned.groups[chunk.group]
        seeds = own.seeds(chunk)
        total += len(own.members(chunk)) * (min(last, seeds.stop) - max(first, seeds.start))
    return total


def _updates_of(planned: Plan, chunks: Sequence[Chunk]) -> int:
    return sum(
        _runs_of(planned, [chunk]) * planned.groups[chunk.group].static.updates for chunk in chunks
    )


def _manifest(
    planned: Plan, devices: list[Any], compile_seconds: float, run_seconds: float
) -> dict[str, Any]:
    return {
        "study": planned.study.name,
        "seeds": list(planned.study.seeds),
        "packages": store.versions(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "devices": [str(device) for device in devices],
        "device_kind": devices[0].device_kind,
        "git_commit": _commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "compile_seconds": round(compile_seconds, 3),
        "run_seconds": round(run_seconds, 3),
        "groups": [
            {
                **{k: str(v) for k, v in own.static._asdict().items()},
                "shape": list(own.shape),
                "conditions": len(own.conditions),
            }
            for own in planned.groups
        ],
    }


def _commit() -> str | None:
    """Return the commit of the source that ran, None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


__all__ = ["Plan", "Progress", "local_devices", "plan", "run", "train"]
