"""Running a study: plan, minus what is done, to an executor, to the store. The only writer."""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from scaling_study.errors import CodeError, RunInterrupted, StudyError
from scaling_study.execution import signals
from scaling_study.execution.executors import Executor, LocalDevices, RemoteExecutor, in_order
from scaling_study.storage import writer as store
from scaling_study.storage.provenance import versions
from scaling_study.storage.reader import seeds_to_fit
from scaling_study.storage.results import Results
from scaling_study.storage.schema import members_of
from scaling_study.study.conditions import Chunk, Condition, problem_of, shape_of
from scaling_study.study.plan import Plan, plan
from scaling_study.study.study import Study, read_study
from scaling_study.study.values import error_context


@dataclass
class Progress:
    """How far a run has come, as told to a progress bar.

    Attributes
    ----------
    runs_done, runs_trained, runs : int
        Trainings that are stored, those of them that this run has trained, and those asked for.
    seconds : float
        Since the first chunk was sent.
    failures : list of str
        Why runs of the last chunk failed, each reason once.
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
    seeds: str | tuple[int, int] | None = None,
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
    client : object, optional
        What computes in place of local devices: anything whose ``submit(function, *arguments)``
        returns a future, such as a `distributed.Client`. This process alone writes.
    chunk_size : int, optional
        Upper bound on the runs of a chunk. Recorded: bits are promised for one chunk size.
    fail_fast : bool
        Stop at the first condition that fails, instead of storing its runs as failed and
        going on. Its chunk is stored.
    allow_code : bool
        Whether code that a study *file* names, ``module:name``, may be imported.
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
    RunInterrupted
        If memory, the disk or a worker gave out, or ``fail_fast`` asked for it. What is stored
        is whole, and the same call continues.
    """
    start = time.perf_counter()
    _check_path(output_dir)
    planned = read_plan(study, seeds, settings, chunk_size, allow_code=allow_code)
    if client is not None and planned.study.record == "curves":
        raise StudyError("record = 'curves' is kept in this process's memory; use local devices")
    check_address_space()
    # Before anything starts JAX with the devices it would choose.
    executor = LocalDevices(devices) if client is None else RemoteExecutor(client)
    try:
        check(planned)
        if client is None:
            _check_memory(planned)
        folder = Path(output_dir or Path("results") / planned.study.name)
        identity = store.identity(executor.platform, planned, executor.environment)
        with store.Store(folder, planned.study, identity, overwrite=overwrite) as kept:
            if kept.study.seeds != planned.study.seeds:  # what the folder held stays promised
                planned = plan(kept.study, chunk_size)
            training = {"fail_fast": fail_fast, "on_progress": on_progress, "on_curves": on_curves}
            _fill(kept, planned, executor, start, training)
    finally:
        executor.close()
    return Results(folder, allow_code=True)


def _fill(
    kept: store.Store, planned: Plan, executor: Executor, start: float, training: dict[str, Any]
) -> None:
    """Train and store what a folder lacks of a plan, and write how it went."""
    todo = kept.begin(planned)
    fitting = _fit_estimators(planned.study, kept)
    with signals.noticed():
        compiling, running = train(planned, todo, executor, kept.put, **training)
        signals.check()
    manifest = _manifest(planned, executor, compiling, running)
    if planned.study.estimators:
        manifest["estimator_seconds"] = round(fitting, 3)
    kept.finish(manifest)
    results = Results(kept.folder, allow_code=True)
    manifest["summary"] = _summary(planned, todo, executor, results, kept.damaged, start)
    kept.finish(manifest)


def read_plan(
    study: Study | str | Path | dict[str, Any],
    seeds: str | tuple[int, int] | None = None,
    settings: list[str] | None = None,
    chunk_size: int | None = None,
    *,
    allow_code: bool = False,
) -> Plan:
    """Return what `run` would do with the same arguments, which `check` looks at more closely.

    Raises
    ------
    StudyError
        If the study or the seeds are not right.
    CodeError
        If a file names code that its user has not allowed.
    """
    resolved = read_study(study, settings or [], allow_code=allow_code).with_seeds(seeds)
    _check_code(resolved)
    return plan(resolved, chunk_size)


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
    """Have an executor train chunks, and put their rows while it trains the next.

    Parameters
    ----------
    planned : Plan
    todo : sequence of Chunk
        Those of the plan that are not done.
    executor : Executor
    put : callable
        Called in this thread with each chunk and its rows; returns why runs of it failed.
    fail_fast, on_progress, on_curves
        As of `run`.

    Returns
    -------
    compile_seconds, run_seconds : float
        Of all chunks. On local devices compiling is over before a group's first chunk begins;
        elsewhere it is part of running.

    Raises
    ------
    RunInterrupted
        If ``fail_fast`` asks for it.
    """
    from scaling_study.engine.chunk import run_chunk, run_curves

    record, text = planned.study.record, planned.study.to_toml()

    def submit(chunk: Chunk) -> Any:
        if record == "curves":
            return executor.submit(run_curves, text, str(chunk), planned.chunk_runs, on_curves)
        return executor.submit(run_chunk, text, str(chunk), planned.chunk_runs)

    compiling = running = 0.0
    stored, trained = planned.runs - planned.runs_of(todo), 0
    start = time.perf_counter()
    for chunks in executor.batches(todo):
        begun = time.perf_counter()
        executor.prepare(planned.groups[chunks[0].group], record, len(chunks))
        prepared = time.perf_counter()
        for chunk, rows in in_order(executor, chunks, submit):
            signals.check()
            failures = [] if rows is None else put(chunk, rows)
            trained += planned.runs_of([chunk])
            seconds = time.perf_counter() - start
            on_progress(Progress(stored + trained, trained, planned.runs, seconds, failures))
            if failures and fail_fast:
                raise RunInterrupted(f"--fail-fast: {failures[0]}")
        compiling += prepared - begun
        running += time.perf_counter() - prepared
    return compiling, running


def _summary(
    planned: Plan,
    todo: Sequence[Chunk],
    executor: Executor,
    results: Results,
    damaged: list[str],
    start: float,
) -> dict[str, Any]:
    """Return what a run came to, for people and for ``--json``."""
    manifest = results.manifest
    seconds, trained = manifest["run_seconds"], planned.runs_of(todo)
    rates = {"runs_per_second": trained, "updates_per_second": planned.updates_of(todo)}
    return {
        "study": planned.study.name,
        "output_dir": str(results.folder),
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
        "peak_memory_bytes": peak_memory(),
        "statuses": results.statuses,
        "failures": [*results.failures(), *_of_no_use(results)],
    }


def peak_memory() -> int:
    """Return the peak resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def check(planned: Plan) -> None:
    """Refuse a study that cannot be run or judged, before any work.

    Every model and optimizer is built once. One that only fails when it is called is data,
    unless nothing else is left to run.

    Raises
    ------
    StudyError
        If a claim, a model or an optimizer is not right.
    """
    check_address_space()
    from scaling_study.engine.cache import without_unreadable
    from scaling_study.engine.environment import check_platform, pinned

    _check_claims(planned.study)
    check_platform()
    with pinned():
        without_unreadable(lambda: _check_engine(planned))


def _check_engine(planned: Plan) -> None:
    from scaling_study.engine import models, optimizers
    from scaling_study.engine.chunk import reason_of

    reasons = []
    for own in planned.groups:
        with error_context(f"blocks.{own.conditions[0].block}"):
            classes = problem_of(own.static.problem).classes
            model = models.build(own.static.model, classes)
            factory = optimizers.build(own.static.optimizer, own.static.dialect)
            try:
                models.check(model, shape_of(own.static.problem)[1], classes)
                optimizers.check(factory)
            except Exception as error:
                reasons.append(reason_of(own, error))
    if reasons and len(reasons) == len(planned.groups):
        raise StudyError(reasons[0])


def _of_no_use(results: Results) -> list[str]:
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
    seeds = seeds_to_fit(study, done)
    if seeds:
        rows = [*done.to_dict("records"), *fit_all(study, seeds)]
        kept.put_estimators(pd.DataFrame(rows))
    return time.perf_counter() - start


def _check_claims(study: Study) -> None:
    """Read what the study claims, so that a wrong claim is told before any work."""
    if study.claims:
        from scaling_study.analysis.claims import read_claims

        read_claims(study)


def check_address_space() -> None:
    """Refuse to start JAX where a limit (``ulimit -v``) would have it abort."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    need = JAX_ADDRESSES + (os.cpu_count() or 1) * CORE_ADDRESSES
    if limit != resource.RLIM_INFINITY and limit < need:
        raise StudyError(
            f"this process may have {limit / 1e9:.1f} GB of addresses (ulimit -v), and JAX needs"
            f" some {need / 1e9:.1f} on this machine; raise the limit"
        )


# Reserved, not used, and measured on two cores: 2.9 GB.
JAX_ADDRESSES, CORE_ADDRESSES = 2_400_000_000, 250_000_000


def _check_path(output_dir: str | Path | None) -> None:
    """Refuse a path that could not be printed when all is done."""
    try:
        str(output_dir).encode("utf-8")
    except UnicodeEncodeError:
        raise StudyError(f"output_dir {str(output_dir)!r} is not in UTF-8") from None


def _check_memory(planned: Plan) -> None:
    """Refuse a chunk that this machine could not hold: a system may end processes for less."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    have = have if limit == resource.RLIM_INFINITY else min(have, limit)
    for own in planned.groups:
        need = planned.memory_of(own)
        if need > have:
            raise StudyError(
                f"blocks.{own.conditions[0].block}: a chunk would need some {need / 1e9:,.0f} GB,"
                f" and this machine has {have / 1e9:,.0f}; ask for a smaller batch_size, or try"
                f" --chunk-size {max(1, own.shape.conditions * own.shape.seeds // 2)}"
            )


def _check_code(study: Study) -> None:
    """Refuse code that a study file names, and that its user has not allowed, before any work."""
    for component in study.components():
        if not component.allowed:
            raise CodeError(
                f"{study.origin}: {component.name!r} is code that the file names; say --allow-code"
                " (allow_code=True) if you trust it"
            )


def _manifest(
    planned: Plan, executor: Executor, compile_seconds: float, run_seconds: float
) -> dict[str, Any]:
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
        "groups": [
            {
                **{k: str(v) for k, v in own.static._asdict().items()},
                "shape": list(own.shape),
                "conditions": len(own.conditions),
                "members": members_of(own),
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


__all__ = ["Plan", "Progress", "check", "plan", "read_plan", "run", "train"]
