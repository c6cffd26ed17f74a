"""One chunk of a study, from its identity to its bytes.

    run_chunk(study_text, chunk_id) -> bytes

is a pure function: a device, a process or another machine that is given the same study text
and chunk returns the same rows.
"""

import hashlib
import logging
import re
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from scaling_study.engine import evaluate, importance, objective, optimizers, program, watch
from scaling_study.engine.cache import without_unreadable
from scaling_study.engine.record import failed, to_parquet, to_table, with_failures
from scaling_study.engine.tiles import Tiles
from scaling_study.engine.train import Data, Loop, Training
from scaling_study.errors import CodeError, Stopped, StudyError
from scaling_study.experiment import draws
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
from scaling_study.experiment.study import parse
from scaling_study.identity import made_by

log = logging.getLogger(__name__)
PREPARED_NUMBERS = 2**22  # numbers of prepared batches that are held at once
# XLA keeps to 256 bits where a processor has 512; with all of them a run is 1.25 times as fast.
OnDevice = Callable[[], AbstractContextManager[Any]]
COMPILER_OPTIONS = {"cpu": {"xla_cpu_prefer_vector_width": 512}}


class Program(NamedTuple):
    """A group's compiled functions on one device.

    Attributes
    ----------
    blank : callable
        ``() -> Trace``, for ``first`` to write into.
    first : callable
        ``(trace, seeds, data, order, count) -> Training``: begin, and train the first epochs.
    more : callable or None
        ``(training, data, order, count) -> Training``: train further epochs, if there are.
    memory_bytes : int
        What ``first`` holds at once: inputs, outputs and temporaries.
    digest : str
        Twelve hexadecimal digits of what was compiled, as StableHLO.
    spare : list of Trace
        Written before and not needed any more: memory that need not be asked for again.
    """

    blank: Callable[[], watch.Trace]
    first: Callable[..., Training]
    more: Callable[..., Training] | None
    memory_bytes: int
    digest: str
    spare: list[watch.Trace]


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
        A Parquet file whose metadata say who made it, see `scaling_study.identity`.

    Raises
    ------
    CodeError
        If code that the study names is not to be had here.
    Stopped
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
    made = made_by(jax.default_backend(), own.components())
    return to_parquet(table, {**made, "program": digest})


def described() -> tuple[str, str]:
    """Return the platform and the kind of the device that computes here."""
    return jax.default_backend(), jax.devices()[0].device_kind


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
            digest = compiled(own, record)[0].digest
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
            error = again
    why = reason_of(own, error)
    return failed(own, chunk, features, {c.id: reasons.get(c.id, why) for c in members}), ""


def _raise_what_is_no_data(own: Group, error: Exception) -> None:
    """Raise what is not a condition's fault: code or memory that is not to be had."""
    if isinstance(error, CodeError | Stopped):
        raise error
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        runs = own.shape.conditions * own.shape.seeds
        raise Stopped(
            f"blocks.{own.conditions[0].block}: not enough memory for a chunk of {runs:,} runs;"
            f" try --chunk-size {max(1, runs // 2)}, which needs another folder or --overwrite"
        ) from error


def _failing(own: Group, chunk: Chunk) -> dict[str, str]:
    """Return why each condition of a chunk fails whose data cannot be made, by its id."""
    reasons = {}
    for condition in own.members(chunk):
        try:
            draws.encode(own.static, draws.draw(own.static, own.seeds(chunk)), [condition])
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
        inputs = _inputs(own, _members_of(own, chunk.condition_block), own.seeds(chunk))
    with on_device():
        training = jax.block_until_ready(_train(own, chunk, record, inputs))
        whole = _whole(training, own) if wanted else None
        compiled(own, record)[0].spare.append(training.trace)
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
) -> tuple[Training, draws.Encoding]:
    """Train every run of a chunk, on the default device of ``on_device``.

    Returns
    -------
    training : Training
        NumPy arrays ending in (C, S), the chunk's conditions (padded) and seeds; no trace
        where no seed of the chunk is traced.
    encoding : Encoding
        What the runs were trained on.
    """
    members = _members_of(own, chunk.condition_block)
    with _preparing:
        inputs = _inputs(own, members, own.seeds(chunk))
    with on_device():
        training = jax.block_until_ready(_train(own, chunk, record, inputs))
        if own.seeds(chunk).start >= TRACED_SEEDS:
            compiled(own, record)[0].spare.append(training.trace)
            training = training._replace(trace=None)
    return _whole(training, own), inputs.distinct.take(members.kinds.rows)


def compiled(own: Group, record: str, inputs: "Inputs | None" = None) -> tuple[Program, float]:
    """Return the group's program on the default device, and the seconds it took to compile.

    Compiled the first time it is asked for; every device needs its own.

    Parameters
    ----------
    own : Group
    record : str
    inputs : Inputs, optional
        Of any chunk of the group, all of which are of one shape; those of its first otherwise.

    Raises
    ------
    Exception
        What compiling raised, again each time that the program is asked for.
    """
    device = jax.config.jax_default_device or jax.devices()[0]
    key = (own.static, own.shape, loop_of(own, record), device)
    with _lock_of(key):
        start = time.perf_counter()
        found = _programs.get(key)
        if found is None:
            with np.errstate(all="ignore"):
                sample = inputs or _inputs(own, _members_of(own, 0), range(own.shape.seeds))
            try:
                with jax.enable_x64(own.static.dtype == "float64"):
                    found = without_unreadable(lambda: _compile(own, record, sample))
            except Exception as error:
                found = error
            _programs[key] = found
            for old in list(_programs)[:-MOST_PROGRAMS]:
                _programs.pop(old, None)
        if isinstance(found, Exception):
            raise found
        return found, time.perf_counter() - start


# Each program holds memory maps, of which an operating system gives a process 65,530.
MOST_PROGRAMS = 64
_programs: dict[Any, Program | Exception] = {}
_locks: dict[Any, threading.Lock] = {}
_locks_lock = threading.Lock()


def _lock_of(key: Any) -> threading.Lock:
    with _locks_lock:
        return _locks.setdefault(key, threading.Lock())


def _compile(own: Group, record: str, inputs: "Inputs") -> Program:
    optimizers.check(optimizers.build(own.static.optimizer, own.static.dialect))
    blank, first, more = program.functions(own, loop_of(own, record), Tiles.of(own.shape))
    options = COMPILER_OPTIONS.get(jax.default_backend())
    data, (order, count) = inputs.data, inputs.order
    seeds = _init_seeds(own, range(own.shape.seeds))
    arguments = (jax.eval_shape(blank), seeds, data, order, count)
    new = jax.jit(blank).lower().compile()
    lowered = jax.jit(first, donate_argnums=0).lower(*arguments)
    text = lowered.as_text()
    begun = lowered.compile(options)
    memory = begun.memory_analysis()
    sizes = ("argument", "output", "temp")
    held = sum(getattr(memory, f"{size}_size_in_bytes", 0) for size in sizes)
    if len(list(_segment_epochs(own))) == 1:
        return Program(new, begun, None, held, _digest(text), [])
    training = jax.eval_shape(first, *arguments)
    lowered = jax.jit(more, donate_argnums=0).lower(training, data, order, count)
    text += lowered.as_text()
    return Program(new, begun, lowered.compile(options), held, _digest(text), [])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def loop_of(own: Group, record: str) -> Loop:
    """Return the shape of a group's budget."""
    batches = batches_per_epoch(own.static)
    epochs = own.static.updates // batches
    curves = record == "curves"
    slots = epochs if curves else min(epochs, trace_points(len(own.conditions)))
    return Loop(epochs, batches, shape_of(own.static.problem)[1], slots, curves)


class Members(NamedTuple):
    """A block of C conditions, in numbers that no seed changes.

    Attributes
    ----------
    kinds : Kinds
        What they see.
    learning_rate, tolerance, l1, l2, target_loss : ndarray of shape (C, 1)
        NaN where there is no target loss; no tolerance where a penalty moves the minimum.
    """

    kinds: draws.Kinds
    learning_rate: np.ndarray
    tolerance: np.ndarray
    l1: np.ndarray
    l2: np.ndarray
    target_loss: np.ndarray

    @classmethod
    def of(cls, conditions: Sequence[Condition]) -> "Members":
        """Return what some conditions are in numbers."""
        return cls(
            draws.kinds_of(conditions),
            np.array([[c.learning_rate] for c in conditions]),
            np.array(
                [[np.nan if c.l1_penalty or c.l2_penalty else c.tolerance] for c in conditions]
            ),
            np.array([[c.l1_penalty] for c in conditions]),
            np.array([[c.l2_penalty] for c in conditions]),
            np.array([[np.nan if c.target_loss == "none" else c.target_loss] for c in conditions]),
        )


@lru_cache(maxsize=64)
def _members_of(own: Group, block: int) -> Members:
    return Members.of(own.padded(Chunk(own.index, block, 0)))


def data_of(dtype: str, distinct: draws.Encoding, members: Members) -> Data:
    """Return what a block (C, S) is trained on, NumPy arrays of the given dtype.

    Parameters
    ----------
    dtype : str
    distinct : Encoding
        Of each kind of condition, `draws.encode_kinds`.
    members : Members
    """
    rows = members.kinds.rows
    own = rows if distinct.u.ndim == 4 else slice(None)

    def cast(array: Any) -> Any:
        return np.asarray(array, dtype=dtype)

    return Data(
        u=cast(distinct.u)[own],
        residual=cast(distinct.residual)[own],
        numbers=objective.Numbers(
            *(cast(getattr(distinct, name))[..., rows, :] for name in objective.Numbers._fields)
        ),
        learning_rate=cast(members.learning_rate),
        tolerance=cast(members.tolerance),
        l1=cast(members.l1),
        l2=cast(members.l2),
        target_excess=cast(members.target_loss - distinct.loss_ols[rows]),
    )


# Two threads that draw at once take turns at Python's lock, and both are ready late.
_preparing = threading.Lock()


class Inputs(NamedTuple):
    """What a chunk is trained on, in tiles.

    Attributes
    ----------
    data : Data
    order : tuple
        The batch orders of the first segment, and its epochs.
    later : iterator of tuple
        The same of each later segment, drawn when it is asked for.
    distinct : Encoding
        Of each kind of condition, which the data come from.
    """

    data: Data
    order: tuple[Any, np.int32]
    later: Iterator[tuple[Any, np.int32]]
    distinct: draws.Encoding


def _train(own: Group, chunk: Chunk, record: str, inputs: Inputs) -> Training:
    """Return a chunk's training as it leaves the device, in tiles, before it is waited for."""
    data, seeds = inputs.data, _init_seeds(own, own.seeds(chunk))
    run, _ = compiled(own, record, inputs)
    with jax.enable_x64(own.static.dtype == "float64"):
        trace = run.spare.pop() if run.spare else run.blank()
        training = run.first(trace, seeds, data, *inputs.order)
        for order, count in inputs.later:
            assert run.more is not None
            training = run.more(training, data, order, count)
    return training


def _inputs(own: Group, members: Members, seeds: range) -> Inputs:
    """Return what conditions and seeds are trained on; NumPy, no device is needed."""
    static, tiles = own.static, Tiles.of(own.shape)
    problem, drawn = problem_of(static.problem), draws.draw(static, seeds)
    distinct = draws.encode_kinds(problem, drawn, members.kinds, static.transformed)
    data = data_of(static.dtype, distinct, members)
    cut = tiles.cut_data if static.transformed else tiles.cut_seeds
    lead = own.shape.seeds // tiles.seeds, own.shape.conditions // tiles.conditions

    def tiled(array: np.ndarray) -> np.ndarray:
        parts = tiles.cut(array)
        return np.broadcast_to(parts, (*lead, *parts.shape[2:]))

    of_runs = jax.tree.map(tiled, data._replace(u=None, residual=None))
    u, residual = cut(np.asarray(data.u)), cut(np.asarray(data.residual))
    segments = _segments(own, seeds)
    return Inputs(of_runs._replace(u=u, residual=residual), next(segments), segments, distinct)


def _whole(training: Training, own: Group) -> Training:
    """Fetch a training and undo its tiling: arrays of runs end in (C, S)."""
    return jax.tree.map(Tiles.of(own.shape).join, jax.device_get(training))


def _init_seeds(own: Group, seeds: range) -> np.ndarray:
    held = own.static.init_seed
    names = [seed if held == "vary" else int(held) for seed in seeds]
    return Tiles.of(own.shape).cut_seeds(np.asarray(names, np.uint32))


def _segment_epochs(own: Group) -> Iterator[int]:
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


def _segments(own: Group, seeds: range) -> Iterator[tuple[Any, np.int32]]:
    """Yield the batch orders of the budget's segments, all of one shape, and their epochs."""
    cut = Tiles.of(own.shape).cut_seeds
    lengths = list(_segment_epochs(own))
    if own.static.sampling == "full":
        yield None, np.int32(lengths[0])
        return
    orders = draws.orders(own.static, seeds, lengths[0])
    for length, order in zip(lengths, orders, strict=True):
        missing = lengths[0] - length
        padded = np.pad(order, ((0, 0), (0, missing), (0, 0))) if missing else order
        yield cut(padded), np.int32(length)
