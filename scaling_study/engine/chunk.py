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
from typing import Any, NamedTuple

import jax
import numpy as np

from scaling_study.engine import evaluate, importance, watch
from scaling_study.engine.cache import without_unreadable
from scaling_study.engine.compiling import compiled, loop_of
from scaling_study.engine.environment import environment, with_pinned
from scaling_study.engine.inputs import Inputs, init_seeds, inputs_of, members_of
from scaling_study.engine.record import failed, to_parquet, to_table, with_failures
from scaling_study.engine.tiles import Tiles
from scaling_study.engine.train import Loop, Training
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
    """What ``record = "curves"`` keeps of C conditions and S seeds, over E epochs.

    Attributes
    ----------
    loss : ndarray of shape (E, C, S)
        Mean over the epoch's updates of the batch's loss before the update.
    gradient_norm : ndarray of shape (E, d, C, S)
        The same mean, for each feature, of the norm of its gradient.
    """

    loss: np.ndarray
    gradient_norm: np.ndarray


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
        Which conditions and seeds: the text of a `Chunk`.
    chunk_runs : int, optional
        The chunk size that was asked for, if any.
    on_device : callable
        Returns a context manager, entered while a device is needed: not while its inputs are
        drawn, and not while its rows are written. The default device where nothing is said.

    Returns
    -------
    bytes
        A Parquet file whose metadata say who made it, see `scaling_study.storage.provenance`.

    Raises
    ------
    CodeError
        If code that the study names is not to be had here.
    DataError
        If the data of a seed cannot be trained on.
    RunInterrupted
        If there is not enough memory, with the chunk size to try.
    """
    groups, record = groups_of(study_text, chunk_runs)
    chunk = Chunk.parse(chunk_id)
    own = groups[chunk.group]
    try:
        table, digest = without_unreadable(lambda: _rows(own, chunk, record, on_device))
    except Exception as error:
        _raise_what_is_no_data(own, error)
        log.info("chunk %s", chunk, exc_info=True)
        table, digest = _rows_that_do_not_fail(own, chunk, record, on_device, error)
    made = provenance(jax.default_backend(), own.components(), environment())
    return to_parquet(table, {**made, "program": digest})


def described() -> tuple[str, str, dict[str, str]]:
    """Return the platform, the kind of device and the settings with which is computed here."""
    return jax.default_backend(), jax.devices()[0].device_kind, environment()


def _rows(
    own: Group, chunk: Chunk, record: str, on_device: OnDevice, names: Group | None = None
) -> tuple[Any, str]:
    """Return a chunk's rows, and the digest of the program that trained them."""
    # A number too large for its type is the end of a run, which its row says.
    with np.errstate(all="ignore"):
        training, encoding = train_chunk(own, chunk, record, on_device)
        with on_device() if problem_of(own.static.problem).held_out else nullcontext():
            scores = evaluate.scores(own, chunk, training, encoding)
        shares: dict[str, np.ndarray] = {}
        with on_device():
            if record == "importances":
                shares, fit = importance.shares(own, chunk, training, encoding)
                scores |= fit
            digest = compiled(own, record).digest
        loop = loop_of(own, record)
        return to_table(names or own, chunk, training, encoding, loop, scores, shares), digest


def _rows_that_do_not_fail(
    own: Group, chunk: Chunk, record: str, on_device: OnDevice, error: Exception
) -> tuple[Any, str]:
    """Return a chunk's rows, those of whatever raises failed, and the program's digest."""
    features, members = shape_of(own.static.problem)[1], own.members(chunk)
    reasons = _failing(own, chunk)
    good = [condition for condition in members if condition.id not in reasons]
    if reasons and good:
        # Another condition stands in for one that fails, so that the shape is what it was.
        stand_in = tuple(good[0] if c.id in reasons else c for c in own.conditions)
        try:
            table, digest = _rows(
                replace(own, conditions=stand_in), chunk, record, on_device, names=own
            )
            return with_failures(table, own, chunk, reasons), digest
        except Exception as again:
            _raise_what_is_no_data(own, again)
            error = again
    why = reason_of(own, error)
    return failed(own, chunk, features, {c.id: reasons.get(c.id, why) for c in members}), ""


def _raise_what_is_no_data(own: Group, error: Exception) -> None:
    """Raise what is not a condition's fault: bad data, or code or memory that is missing."""
    if isinstance(error, CodeError | DataError | RunInterrupted):
        raise error
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        runs = own.shape.conditions * own.shape.seeds
        raise RunInterrupted(
            f"blocks.{own.conditions[0].block}: not enough memory for a chunk of {runs:,} runs;"
            f" try --chunk-size {max(1, runs // 2)}, which needs another folder or --overwrite"
        ) from error


def _failing(own: Group, chunk: Chunk) -> dict[str, str]:
    """Return why each condition of a chunk fails whose data cannot be made, by its id."""
    reasons = {}
    for condition in own.members(chunk):
        try:
            with np.errstate(all="ignore"):
                encode(own.static, draws.draw(own.static, own.seeds(chunk)), [condition])
        except Exception as error:
            reasons[condition.id] = reason_of(own, error)
    return reasons


def reason_of(own: Group, error: Exception) -> str:
    """Say in a line what of a group cannot be trained, and why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = f"{type(error).__name__}: {' '.join(lines[:2])}" if lines else type(error).__name__
    block = own.conditions[0].block
    line = f"blocks.{block}: {own.static.model} with {own.static.optimizer} fails: {why}"
    return re.sub(r"0x[0-9a-f]+", "0x...", line)  # an address is another in each process


@with_pinned
def run_curves(
    study_text: str,
    chunk_id: str,
    chunk_runs: int | None = None,
    on_curves: Callable[[Sequence[Condition], range, Curves], None] | None = None,
    *,
    on_device: OnDevice = nullcontext,
) -> None:
    """Train every run of a chunk and hand its curves to a function, if there is one.

    Raises
    ------
    StudyError
        If the chunk's conditions cannot be trained: nothing is stored that could say so.
    """
    groups, record = groups_of(study_text, chunk_runs)
    chunk = Chunk.parse(chunk_id)
    own = groups[chunk.group]
    try:
        with np.errstate(all="ignore"):
            curves = _curves(own, chunk, record, on_curves is not None, on_device)
    except Exception as error:
        _raise_what_is_no_data(own, error)
        raise StudyError(reason_of(own, error)) from error
    if on_curves is not None and curves is not None:
        on_curves(own.members(chunk), own.seeds(chunk), curves)


def _curves(
    own: Group, chunk: Chunk, record: str, wanted: bool, on_device: OnDevice
) -> Curves | None:
    """Train every run of a chunk and return its curves, if they are wanted."""
    with _preparing:
        inputs = inputs_of(own, members_of(own, chunk.condition_block), own.seeds(chunk))
    with on_device():
        training = jax.block_until_ready(_train(own, chunk, record, inputs))
        whole = _whole(training, own) if wanted else None
        compiled(own, record).spare.append(training.trace)
    if whole is None:
        return None
    return curves_of(whole, loop_of(own, record), len(own.members(chunk)))


def curves_of(training: Training, loop: Loop, members: int) -> Curves:
    """Return the curves of a training's first conditions, NaN from where a run diverged."""
    over = loop.trace_updates[:, None, None] > np.asarray(training.state.diverged_at)
    loss, norm = training.trace.mean
    loss = np.where(over, np.nan, np.asarray(loss))
    norm = np.where(over[:, None], np.nan, watch.to_array(norm))
    return Curves(loss[:, :members], norm[:, :, :members])


def train_chunk(
    own: Group, chunk: Chunk, record: str, on_device: OnDevice = nullcontext
) -> tuple[Training, Encoding]:
    """Train every run of a chunk, on the default device of ``on_device``.

    Returns
    -------
    training : Training
        NumPy arrays ending in (C, S), the chunk's conditions (padded) and seeds; no trace
        where no seed of the chunk is traced.
    encoding : Encoding
        What the runs were trained on.
    """
    members = members_of(own, chunk.condition_block)
    with _preparing:
        inputs = inputs_of(own, members, own.seeds(chunk))
    with on_device():
        training = jax.block_until_ready(_train(own, chunk, record, inputs))
        if own.seeds(chunk).start >= TRACED_SEEDS:
            compiled(own, record).spare.append(training.trace)
            training = training._replace(trace=None)
    return _whole(training, own), inputs.distinct.take(members.kinds.rows)


# Two threads that draw at once take turns at Python's lock, and both are ready late.
_preparing = threading.Lock()


def _train(own: Group, chunk: Chunk, record: str, inputs: Inputs) -> Training:
    """Return a chunk's training as it leaves the device, in tiles, before it is waited for."""
    data, seeds = inputs.data, init_seeds(own, own.seeds(chunk))
    run = compiled(own, record, inputs)
    with jax.enable_x64(own.static.dtype == "float64"):
        trace = run.spare.pop() if run.spare else run.blank()
        training = run.first(trace, seeds, data, *inputs.order)
        for order, count in inputs.later:
            assert run.more is not None
            training = run.more(training, data, order, count)
    return training


def _whole(training: Training, own: Group) -> Training:
    """Fetch a training and undo its tiling: arrays of runs end in (C, S)."""
    return jax.tree.map(Tiles.of(own.shape).join, jax.device_get(training))
