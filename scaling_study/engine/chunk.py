"""One chunk of a study, from its identity to its bytes.

    run_chunk(study_text, chunk_id) -> bytes

is a pure function: a device, a process or another machine that is given the same study text
and chunk returns the same rows.
"""

import logging
import re
import threading
import tomllib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import jax
import numpy as np

from scaling_study.engine import curvature, evaluate, importance, monitor
from scaling_study.engine.cache import without_unreadable
from scaling_study.engine.compiling import budget_of, compiled
from scaling_study.engine.environment import environment, with_pinned
from scaling_study.engine.initial import initial_of
from scaling_study.engine.inputs import Inputs, ahead, inputs_of
from scaling_study.engine.program import tiles_of
from scaling_study.engine.record import failed, to_parquet, to_table, with_failures
from scaling_study.engine.train import Budget, Training
from scaling_study.errors import CodeError, DataError, RunInterrupted, StudyError
from scaling_study.storage.provenance import provenance
from scaling_study.study import draws
from scaling_study.study.conditions import (
    TRACED_SEEDS,
    Chunk,
    Condition,
    Group,
    expand,
    group,
    problem_of,
    shape_of,
)
from scaling_study.study.encoding import Encoding, encode
from scaling_study.study.study import parse

log = logging.getLogger(__name__)
OnDevice = Callable[[], AbstractContextManager[Any]]


class Curves(NamedTuple):
    """The curves of C conditions and S seeds over E epochs, for ``record = "curves"``.

    Means over the epoch's updates of the batch's loss before the update, and of the norm of each
    feature's gradient.
    """

    loss: np.ndarray  # (E, C, S)
    gradient_norm: np.ndarray  # (E, d, C, S)


@lru_cache(maxsize=8)
def groups_of(study_text: str, chunk_runs: int | None = None) -> tuple[list[Group], str]:
    """Return the groups of a study's text, and what it records."""
    study = parse(tomllib.loads(study_text))
    return group(expand(study), chunk_runs), study.record


@with_pinned
def run_chunk(
    study_text: str,
    chunk_id: str,
    chunk_runs: int | None = None,
    *,
    on_device: OnDevice = nullcontext,
) -> bytes:
    """Train every run of a chunk and return its rows as a Parquet file.

    A condition that raises is data: its rows are failed, with the reason, and those of the
    chunk's other conditions are what they would be without it.

    Parameters
    ----------
    study_text : str
        The resolved study, `Study.to_toml`. Code that it names is imported.
    chunk_id : str
        The text of a `Chunk`.
    chunk_runs : int, optional
        The chunk size that was asked for, if any.
    on_device : callable
        Returns a context manager that is entered while a device is needed, which it is not to
        draw inputs and to write rows. By default the default device.

    Returns
    -------
    bytes
        A Parquet file with provenance in its metadata, see `scaling_study.storage.provenance`.

    Raises
    ------
    CodeError
        If code that the study names cannot be imported here.
    DataError
        If the data of a seed cannot be trained on.
    RunInterrupted
        If there is not enough memory, with the chunk size to try.
    """
    groups, record = groups_of(study_text, chunk_runs)
    chunk = Chunk.parse(chunk_id)
    group = groups[chunk.group]
    try:
        table, digest = without_unreadable(lambda: _rows(group, chunk, record, on_device))
    except Exception as error:
        _raise_unless_condition_fails(group, error)
        log.info("chunk %s", chunk, exc_info=True)
        table, digest = _rows_with_failures(group, chunk, record, on_device, error)
    made = provenance(jax.default_backend(), group.components(), environment())
    return to_parquet(table, {**made, "program": digest})


def describe_device() -> tuple[str, str, dict[str, str]]:
    """Return the platform, the kind of device and the settings of this process."""
    return jax.default_backend(), jax.devices()[0].device_kind, environment()


def _rows(
    group: Group, chunk: Chunk, record: str, on_device: OnDevice, names: Group | None = None
) -> tuple[Any, str]:
    """Return a chunk's rows, and the digest of the program that trained them."""
    # A number too large for its type ends a run, which its row says.
    with np.errstate(all="ignore"):
        training, unique_data = train_chunk(group, chunk, record, on_device)
        with on_device() if problem_of(group.static.problem).held_out else nullcontext():
            scores = evaluate.scores(group, chunk, training, unique_data)
        shares: dict[str, np.ndarray] = {}
        with on_device():
            if methods := importance.methods_of(record, group.static):
                shares, fit = importance.shares(group, chunk, training, unique_data, methods)
                scores |= fit
            if record == "networks" and curvature.applies(group.static):
                found, by_feature = curvature.ends(group, chunk, training, unique_data)
                scores, shares = scores | found, shares | by_feature
            digest = compiled(group, record).digest
        budget = budget_of(group, record)
        table = to_table(group, chunk, training, unique_data, budget, scores, shares, names)
        return table, digest


def _rows_with_failures(
    group: Group, chunk: Chunk, record: str, on_device: OnDevice, error: Exception
) -> tuple[Any, str]:
    """Return a chunk's rows, failed for conditions that raise, and the program's digest."""
    features, members = shape_of(group.static.problem)[1], group.members(chunk)
    reasons = _failing(group, chunk)
    good = [condition for condition in members if condition.id not in reasons]
    if reasons and good:
        # Another condition replaces one that fails, so that the shape stays the same.
        others = tuple(good[0] if c.id in reasons else c for c in group.conditions)
        try:
            table, digest = _rows(
                replace(group, conditions=others), chunk, record, on_device, names=group
            )
            return with_failures(table, group, chunk, reasons), digest
        except Exception as again:
            _raise_unless_condition_fails(group, again)
            error = again
    reason = reason_of(group, error)
    return failed(group, chunk, features, {c.id: reasons.get(c.id, reason) for c in members}), ""


def _raise_unless_condition_fails(group: Group, error: Exception) -> None:
    """Raise an error for bad data, or for code or memory that is missing."""
    if isinstance(error, CodeError | DataError | RunInterrupted):
        raise error
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        runs = group.shape.conditions * group.shape.seeds
        raise RunInterrupted(
            f"blocks.{group.conditions[0].block}: not enough memory for a chunk of {runs:,} runs;"
            f" try --chunk-size {max(1, runs // 2)}, which needs another folder or --overwrite"
        ) from error


def _failing(group: Group, chunk: Chunk) -> dict[str, str]:
    """Return, by its id, why the data of a condition of a chunk cannot be made."""
    reasons = {}
    for condition in group.members(chunk):
        try:
            with np.errstate(all="ignore"):
                encode(group.static, draws.draw(group.static, group.seeds(chunk)), [condition])
        except Exception as error:
            reasons[condition.id] = reason_of(group, error)
    return reasons


def reason_of(group: Group, error: Exception) -> str:
    """Return in one line what of a group cannot be trained, and why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = f"{type(error).__name__}: {' '.join(lines[:2])}" if lines else type(error).__name__
    static, block = group.static, group.conditions[0].block
    line = f"blocks.{block}: {static.model} with {static.optimizer} fails: {why}"
    return re.sub(r"0x[0-9a-f]+", "0x...", line)  # addresses differ between processes


@with_pinned
def run_curves(
    study_text: str,
    chunk_id: str,
    chunk_runs: int | None = None,
    on_curves: Callable[[Sequence[Condition], range, Curves], None] | None = None,
    *,
    on_device: OnDevice = nullcontext,
) -> None:
    """Train every run of a chunk and pass its curves to a function, if there is one.

    Raises
    ------
    StudyError
        If the chunk's conditions cannot be trained.
    """
    groups, record = groups_of(study_text, chunk_runs)
    chunk = Chunk.parse(chunk_id)
    group = groups[chunk.group]
    try:
        with np.errstate(all="ignore"):
            curves = _curves(group, chunk, record, on_curves is not None, on_device)
    except Exception as error:
        _raise_unless_condition_fails(group, error)
        raise StudyError(reason_of(group, error)) from error
    if on_curves is not None and curves is not None:
        on_curves(group.members(chunk), group.seeds(chunk), curves)


def _curves(
    group: Group, chunk: Chunk, record: str, wanted: bool, on_device: OnDevice
) -> Curves | None:
    """Train every run of a chunk and return its curves, if they are wanted."""
    inputs = _inputs(group, chunk)
    with on_device():
        training = jax.block_until_ready(_train(group, chunk, record, inputs))
        fetched = _fetch(training, group) if wanted else None
        compiled(group, record).free_traces.append(training.trace)
    if fetched is None:
        return None
    return curves_of(fetched, budget_of(group, record), len(group.members(chunk)))


def curves_of(training: Training, budget: Budget, members: int) -> Curves:
    """Return the curves of a training's first conditions, NaN from where a run diverged."""
    over = budget.trace_updates[:, None, None] > np.asarray(training.state.diverged_at)
    loss, norm = training.trace.mean
    loss = np.where(over, np.nan, np.asarray(loss))
    norm = np.where(over[:, None], np.nan, monitor.to_array(norm))
    return Curves(loss[:, :members], norm[:, :, :members])


def train_chunk(
    group: Group, chunk: Chunk, record: str, on_device: OnDevice = nullcontext
) -> tuple[Training, Encoding]:
    """Train every run of a chunk, on the default device of ``on_device``.

    Returns the training, NumPy arrays ending in (C, S) of the padded chunk, without a trace where
    no seed is traced; and the encoding of each unique data set, `ConditionArrays.datasets`.
    """
    inputs = _inputs(group, chunk)
    with on_device():
        training = jax.block_until_ready(_train(group, chunk, record, inputs))
        if group.seeds(chunk).start >= TRACED_SEEDS:
            compiled(group, record).free_traces.append(training.trace)
            training = training._replace(trace=None)
    return _fetch(training, group), inputs.unique_data


# Two threads that draw at once wait for each other at Python's lock, and both are late.
_drawing = threading.Lock()


def _inputs(group: Group, chunk: Chunk) -> Inputs:
    with _drawing:
        return inputs_of(group, chunk.condition_block, group.seeds(chunk))


def _train(group: Group, chunk: Chunk, record: str, inputs: Inputs) -> Training:
    """Return a chunk's training, in tiles and on the device, before it is waited for."""
    program = compiled(group, record, inputs)
    with jax.enable_x64(group.static.dtype == "float64"):
        trace, data = program.take_trace(), jax.device_put(inputs.data)
        initial = initial_of(group, group.seeds(chunk))
        if program.train is not None:
            return program.train(trace, initial, data, *inputs.order)
        assert program.begin is not None
        assert program.resume is not None
        later = ahead(inputs.later)
        training = program.begin(trace, initial, data)
        for order, count in chain([inputs.order], later):
            training = program.resume(training, data, order, count)
    return training


def _fetch(training: Training, group: Group) -> Training:
    """Fetch a training and join its tiles: arrays of runs end in (C, S)."""
    return jax.tree.map(tiles_of(group).join, jax.device_get(training))
