"""Running a study: an executor computes the chunks that are not stored yet, and a store writes."""

import os
import platform
import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from scaling_study.errors import RunInterrupted, StudyError
from scaling_study.execution import preflight, signals
from scaling_study.execution.executors import (
    COMPILERS,
    Executor,
    LocalDevices,
    RemoteExecutor,
    in_order,
    wait_for_result,
)
from scaling_study.storage.contents import manifest_groups
from scaling_study.storage.provenance import versions
from scaling_study.storage.reader import seeds_to_fit
from scaling_study.storage.results import Results
from scaling_study.storage.writer import Store, identity
from scaling_study.study.conditions import Chunk, Condition
from scaling_study.study.plan import Plan, plan
from scaling_study.study.study import Study


@dataclass
class Progress:
    """The progress of a run.

    Attributes
    ----------
    runs_done, runs_trained, runs : int
        Number of runs that are stored, that this call has trained, and that were asked for.
    seconds : float
        Since the first chunk was submitted.
    failures : list of str
        The distinct reasons why runs of the last chunk failed.
    """

    runs_done: int
    runs_trained: int
    runs: int
    seconds: float
    failures: list[str] = field(default_factory=list)


OnProgress = Callable[[Progress], None]
OnCurves = Callable[[Sequence[Condition], range, Any], None]


def run(
    study: Study | str | Path | dict[str, Any],
    *,
    seeds: str | int | range | tuple[int, int] | None = None,
    settings: list[str] | None = None,
    output_dir: str | Path | None = None,
    overwrite: bool = False,
    devices: int | None = None,
    client: Any = None,
    chunk_size: int | None = None,
    fail_fast: bool = False,
    allow_code: bool = False,
    on_progress: OnProgress = lambda progress: None,
    on_curves: OnCurves | None = None,
) -> Results:
    """Train every run of a study that is not stored yet, and return the stored results.

    Parameters
    ----------
    study : Study, str, Path or dict
        A study, the name of a preset, the path of a TOML file, or a mapping like one.
    seeds : str, int, range or (int, int), optional
        ``"A:B"``, from A to B - 1, or ``range(A, B)``; a number of seeds from 0. The study's own
        by default.
    settings : list of str, optional
        ``key=value`` overrides, as ``--set`` on the command line.
    output_dir : str or Path, optional
        ``results/<name>`` by default.
    overwrite : bool
        Whether to delete another study's results in the folder.
    devices : int, optional
        Number of local devices; all by default, on a CPU as many as there are cores.
    client : object, optional
        Computes in place of local devices: has ``submit(function, *arguments)``, as Dask's.
    chunk_size : int, optional
        Upper bound on the runs of a chunk, recorded because it changes bits.
    allow_code : bool
        Whether code that a study *file* names, ``module:name``, may be imported.
    fail_fast, on_progress, on_curves
        As of `train`.

    Raises
    ------
    StudyError
        If the study, the seeds or the folder are invalid. Nothing has been written then.
    RunInterrupted
        If memory, the disk or a worker failed, or by ``fail_fast``. The same call continues.
    """
    start = time.perf_counter()
    planned = preflight.read_plan(study, seeds, settings, chunk_size, allow_code=allow_code)
    folder = Path(output_dir or Path("results") / planned.study.name)
    options = {"fail_fast": fail_fast, "on_progress": on_progress, "on_curves": on_curves}
    executor = _executor(planned, devices, client)
    planned = preflight.for_device(planned, executor.memory, None if overwrite else folder)
    with closing(executor):
        preflight.check(planned, local=client is None)
        with _store(planned, folder, executor, overwrite) as store:
            _fill(store, planned, executor, start, options)
    return Results(folder, allow_code=True)


def _store(planned: Plan, folder: Path, executor: Executor, overwrite: bool) -> Store:
    preflight.check_path(folder)
    shared = identity(executor.platform, planned, executor.environment)
    return Store(folder, planned.study, shared, overwrite=overwrite)


def _executor(planned: Plan, devices: int | None, client: Any) -> Executor:
    """Return the executor, before anything else starts JAX with devices of its choice."""
    if client is not None and planned.study.record == "curves":
        raise StudyError("record = 'curves' is kept in this process's memory; use local devices")
    preflight.check_address_space()
    return LocalDevices(devices) if client is None else RemoteExecutor(client)


def _fill(
    store: Store, planned: Plan, executor: Executor, start: float, training: dict[str, Any]
) -> None:
    """Compute and store what a folder lacks of a plan, and write the manifest."""
    if store.study.seeds != planned.study.seeds:  # extended by those that are stored
        planned = plan(store.study, planned.chunk_runs)
    todo = store.begin(planned)
    fit_seconds = _fit_estimators(planned.study, store)
    with signals.noticed():
        compile_seconds, run_seconds = train(planned, todo, executor, store.put, **training)
        signals.check()
    manifest = _manifest(planned, executor, compile_seconds, run_seconds)
    if planned.study.estimators:
        manifest["estimator_seconds"] = round(fit_seconds, 3)
    store.finish(manifest)
    results = Results(store.folder, allow_code=True)
    manifest["summary"] = _summary(planned, todo, executor, results, store.damaged, start)
    store.finish(manifest)


# Matrices of a chunk are small and many: with a thread for each core BLAS waits for its threads
# at each of them, up to a hundred times as long where chunks keep the cores busy.
@threadpool_limits.wrap(limits=1, user_api="blas")
def train(
    planned: Plan,
    todo: Sequence[Chunk],
    executor: Executor,
    put: Callable[[Chunk, bytes], list[str]],
    *,
    fail_fast: bool = False,
    on_progress: OnProgress = lambda progress: None,
    on_curves: OnCurves | None = None,
) -> tuple[float, float]:
    """Train chunks with an executor, and store the rows of each while it trains the next.

    Parameters
    ----------
    planned : Plan
    todo : sequence of Chunk
        Chunks of the plan.
    executor : Executor
    put : callable
        Called in this thread with each chunk and its rows; returns why runs of it failed.
    fail_fast : bool
        Stop at the first condition that fails, once its chunk is stored, instead of going on.
    on_progress : callable
        Called after each chunk.
    on_curves : callable, optional
        With ``record = "curves"``, called from a device's thread after each chunk with its
        conditions, its seeds and their `scaling_study.engine.chunk.Curves`, which are not stored.

    Returns
    -------
    compile_seconds, run_seconds : float
        Of all chunks. Remote workers compile during ``run_seconds``.
    """
    submit = _submitter(planned, executor, on_curves)
    programs = _Programs(planned, todo, executor)
    stored, trained = planned.runs - planned.runs_of(todo), 0
    start = time.perf_counter()

    def submit_compiled(chunk: Chunk) -> Any:
        programs.wait_for(chunk.group)
        return submit(chunk)

    for chunk, rows in in_order(executor, todo, submit_compiled):
        signals.check()
        failures = [] if rows is None else put(chunk, rows)
        trained += planned.runs_of([chunk])
        seconds = time.perf_counter() - start
        on_progress(Progress(stored + trained, trained, planned.runs, seconds, failures))
        if failures and fail_fast:
            raise RunInterrupted(f"--fail-fast: {failures[0]}")
    return programs.seconds, time.perf_counter() - start - programs.seconds


class _Programs:
    """The programs of the groups of some chunks: the next are compiled while one is used."""

    def __init__(self, planned: Plan, todo: Sequence[Chunk], executor: Executor) -> None:
        self.seconds = 0.0  # waited for a program
        self._begin = lambda index: executor.compile(planned.groups[index], planned.study.record)
        self._later = deque(dict.fromkeys(chunk.group for chunk in todo))
        self._begun: dict[int, Any] = {}

    def wait_for(self, group: int) -> None:
        """Wait until the program of a group is compiled; groups are asked for in their order."""
        for index in [index for index in self._begun if index < group]:
            del self._begun[index]
        while self._later and len(self._begun) <= COMPILERS:
            index = self._later.popleft()
            self._begun[index] = self._begin(index)
        future = self._begun[group]
        if future is not None:
            begun = time.perf_counter()
            wait_for_result(future)
            self.seconds += time.perf_counter() - begun


def _submitter(
    planned: Plan, executor: Executor, on_curves: OnCurves | None
) -> Callable[[Chunk], Any]:
    """Return a function that submits a chunk."""
    from scaling_study.engine.chunk import run_chunk, run_curves

    text, size = planned.study.to_toml(), planned.chunk_runs
    if planned.study.record == "curves":
        return lambda chunk: executor.submit(run_curves, text, str(chunk), size, on_curves)
    return lambda chunk: executor.submit(run_chunk, text, str(chunk), size)


def _fit_estimators(study: Study, store: Store) -> float:
    """Fit the study's estimators on the seeds that are not stored, and return the seconds."""
    if not study.estimators:
        return 0.0
    from scaling_study.engine.estimators import fit_all

    start = time.perf_counter()
    done = store.estimators()
    seeds = seeds_to_fit(study, done)
    if seeds:
        rows = [*done.to_dict("records"), *fit_all(study, seeds)]
        store.put_estimators(pd.DataFrame(rows))
    return time.perf_counter() - start


def _summary(
    planned: Plan,
    todo: Sequence[Chunk],
    executor: Executor,
    results: Results,
    damaged: list[str],
    start: float,
) -> dict[str, Any]:
    """Return the summary of a run, as printed and as ``--json``."""
    manifest = results.manifest
    seconds, trained = manifest["run_seconds"], planned.runs_of(todo)
    rates = {"runs_per_second": trained, "updates_per_second": planned.updates_of(todo)}
    return {
        "study": planned.study.name,
        "runs": planned.runs,
        "runs_trained": trained,
        "groups": len(planned.groups),
        "chunks": len(planned.chunks),
        "chunks_damaged": len(damaged),
        "devices": len(executor.names),
        "platform": executor.platform,
        "compile_seconds": manifest["compile_seconds"],
        "run_seconds": seconds,
        "total_seconds": round(time.perf_counter() - start, 3),
        **{key: round(count / seconds, 1) if seconds else None for key, count in rates.items()},
        "peak_memory_bytes": _peak_memory(),
        "statuses": results.statuses,
        "failures": [
            *results.failures(),
            *(
                f"optimizer {name}: every run has a non-finite loss after one update"
                for name, last in results.last_divergence().items()
                if ":" in name and last <= 1  # a user's own
            ),
        ],
    }


def _peak_memory() -> int:
    """Return the peak resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _manifest(
    planned: Plan, executor: Executor, compile_seconds: float, run_seconds: float
) -> dict[str, Any]:
    from scaling_study.analysis.claims import digest

    return {
        "study": planned.study.name,
        "seeds": list(planned.study.seeds),
        "packages": versions(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "devices": executor.names,
        "device_kind": executor.kind,
        "git_commit": _commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "compile_seconds": round(compile_seconds, 3),
        "run_seconds": round(run_seconds, 3),
        "groups": manifest_groups(planned.groups),
        **({"claims": digest(planned.study)} if planned.study.claims else {}),
    }


def _commit() -> str | None:
    """Return the commit of the source that ran, None outside a checkout."""
    folder = str(Path(__file__).resolve().parent)
    command = ["git", "-C", folder, "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
