"""One chunk of a study, from its identity to its bytes.

    run_chunk(study_text, chunk) -> bytes

is a pure function: a device, a process or another machine that is given the same study text
and chunk returns the same rows.
"""

import threading
import time
import tomllib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import models, objective, optimizers, train, watch
from scaling_study.engine.batching import Batching
from scaling_study.engine.record import to_parquet
from scaling_study.engine.train import Data, Loop, Training
from scaling_study.engine.watch import Trace
from scaling_study.experiment import draws
from scaling_study.experiment.conditions import (
    Chunk,
    Condition,
    Group,
    Static,
    batches_per_epoch,
    expand,
    group,
    shape_of,
)
from scaling_study.experiment.study import parse

TRACE_SLOTS = 25, 200  # fewest and most points of a trace
TRACE_POINTS = 12_800  # of a seed's conditions together, where the fewest allow
PREPARED_NUMBERS = 2**22  # numbers of prepared batches that are held at once
# XLA keeps to 256 bits where a processor has 512; a run is 1.25 times as fast with all of them.
COMPILER_OPTIONS = {"cpu": {"xla_cpu_prefer_vector_width": 512}}


class Program(NamedTuple):
    """A group's compiled functions on one device, and what compiling them took.

    Attributes
    ----------
    first : callable
        ``(seeds, data, order, count) -> Training``: begin, and train the first epochs.
    more : callable
        ``(training, data, order, count) -> Training``: train further epochs.
    compile_seconds : float
    """

    first: Callable[..., Training]
    more: Callable[..., Training]
    compile_seconds: float


@lru_cache(maxsize=8)
def groups_of(study_text: str, chunk_runs: int | None = None) -> tuple[list[Group], str]:
    """Return the groups of a study's text, and what it records."""
    study = parse(tomllib.loads(study_text))
    return group(expand(study), chunk_runs), study.record


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


def run_chunk(study_text: str, chunk: Chunk, chunk_runs: int | None = None) -> bytes:
    """Train every run of a chunk and return its rows as a Parquet file.

    Parameters
    ----------
    study_text : str
        The resolved study, `Study.to_toml`.
    chunk : Chunk
        Which conditions and seeds.
    chunk_runs : int, optional
        The chunk size that was asked for, if any.
    """
    groups, record = groups_of(study_text, chunk_runs)
    own = groups[chunk.group]
    training, encoding = train_chunk(own, chunk, record)
    return to_parquet(own, chunk, training, encoding, loop_of(own, record))


def run_curves(
    study_text: str,
    chunk: Chunk,
    chunk_runs: int | None = None,
    on_curves: Callable[[Sequence[Condition], range, Curves], None] | None = None,
) -> None:
    """Train every run of a chunk and hand its curves to a function, if there is one."""
    groups, record = groups_of(study_text, chunk_runs)
    own = groups[chunk.group]
    training, _ = _train(own, chunk, record)
    jax.block_until_ready(training)
    if on_curves is not None:
        members = own.members(chunk)
        mean = _whole(jax.device_get(training), own).trace.mean
        norm = watch.to_array(mean.gradient_norm)
        curves = Curves(mean.loss[:, : len(members)], norm[:, :, : len(members)])
        on_curves(members, own.seeds(chunk), curves)


def train_chunk(own: Group, chunk: Chunk, record: str) -> tuple[Training, draws.Encoding]:
    """Train every run of a chunk on the default device.

    Returns
    -------
    training : Training
        NumPy arrays ending in (C, S), the chunk's conditions (padded) and seeds.
    encoding : Encoding
        What the runs were trained on.
    """
    training, encoding = _train(own, chunk, record)
    return _whole(jax.device_get(training), own), encoding


def _train(own: Group, chunk: Chunk, record: str) -> tuple[Training, draws.Encoding]:
    """Return a chunk's training as it leaves the device, tiled, before it is waited for."""
    static, seeds = own.static, own.seeds(chunk)
    members = own.members(chunk)
    padded = [*members, *[members[-1]] * (own.shape.conditions - len(members))]
    with jax.enable_x64(static.dtype == "float64"):
        encoding = draws.encode(static, draws.draw(static, seeds), padded)
        data = _blocks(data_of(static.dtype, encoding, padded), own)
        program = compiled(own, record)
        training = None
        for order, count in _segments(own, seeds):
            if training is None:
                training = program.first(_init_seeds(static, seeds), data, order, count)
            else:
                training = program.more(training, data, order, count)
        assert training is not None  # a budget is at least one epoch
        return training, encoding


def compiled(own: Group, record: str) -> Program:
    """Return the group's program on the default device, compiled the first time it is asked."""
    device = jax.config.jax_default_device or jax.devices()[0]
    key = (own.static, own.shape, record, device)
    with _lock_of(key):
        if key not in _programs:
            _programs[key] = _compile(own, record)
        return _programs[key]


_programs: dict[Any, Program] = {}
_locks: dict[Any, threading.Lock] = {}
_locks_lock = threading.Lock()


def _lock_of(key: Any) -> threading.Lock:
    with _locks_lock:
        return _locks.setdefault(key, threading.Lock())


def loop_of(own: Group, record: str) -> Loop:
    """Return the shape of a group's budget."""
    static, curves = own.static, record == "curves"
    batches = batches_per_epoch(static)
    epochs = static.updates // batches
    fewest, most = TRACE_SLOTS
    points = max(fewest, min(most, TRACE_POINTS // len(own.conditions)))
    slots = epochs if curves else min(epochs, points)
    return Loop(epochs, batches, shape_of(static.problem)[1], slots, curves)


def objective_of(own: Group, model: Any) -> objective.Objective:
    """Return the objective that a group's conditions are trained on."""
    static = own.static
    samples, features = shape_of(static.problem)
    batching = Batching(samples, static.batch_size, static.sampling == "replacement")
    if static.objective == "moments":
        return objective.moments(features, batching, seeds_last=own.shape.seeds_last)
    return objective.samples(
        model, batching, seeds_last=own.shape.seeds_last, transformed=static.transformed
    )


def _compile(own: Group, record: str) -> Program:
    first, more = functions(own, record)
    static, seeds = own.static, range(own.shape.seeds)
    members = [own.conditions[0]] * own.shape.conditions
    encoding = draws.encode(static, draws.draw(static, seeds), members)
    data = _blocks(data_of(static.dtype, encoding, members), own)
    order, count = next(_segments(own, seeds))
    start = time.perf_counter()
    arguments = (_init_seeds(static, seeds), data, order, count)
    options = COMPILER_OPTIONS.get(jax.default_backend())
    program = jax.jit(first).lower(*arguments).compile(options)
    training = jax.eval_shape(first, *arguments)
    if static.sampling != "full" and _segment_epochs(own) < static.updates // batches_per_epoch(
        static
    ):
        again = jax.jit(more, donate_argnums=0).lower(training, data, order, count).compile(options)
    else:
        again = more
    return Program(program, again, time.perf_counter() - start)


def functions(own: Group, record: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the pure functions ``first`` and ``more`` of a `Program`, not yet compiled."""
    static, loop = own.static, loop_of(own, record)
    model = models.build(static.model)
    factory = optimizers.build(static.optimizer, static.dialect)
    loss = objective_of(own, model)
    begin, advance = train.make_train(model, loss, factory, loop)
    exploded = static.objective == "moments" and optimizers.is_elementwise(factory)

    def prepared(data: Data, order: Any) -> Any:
        return None if order is None else loss.prepare(data.u, data.residual, order)

    def by_tile(
        train_tile: Callable[..., Training], data: Data, order: Any, carried: Any, trace: Trace
    ) -> Training:
        """Train tile by tile; all write into one trace, so that it is never copied."""
        tiles = data if static.transformed else data._replace(u=None, residual=None)
        shared = None if static.transformed else prepared(data, order)

        def body(trace: Trace, x: Any) -> tuple[Trace, Training]:
            tile, *rest = x
            if not static.transformed:
                tile = tile._replace(u=data.u, residual=data.residual)
            batches = prepared(tile, order) if static.transformed else shared
            training = train_tile(tile, batches, trace, *rest)
            return training.trace, training._replace(trace=None)

        trace, training = jax.lax.scan(body, trace, (tiles, *carried))
        return training._replace(trace=trace)

    def first(seeds: Any, data: Data, order: Any, count: Any) -> Training:
        drawn = train.initial_parameters(model, seeds, loop.features, static.dtype)
        tiles, *runs = data.numbers.intercept.shape
        conditions = -2 if own.shape.seeds_last else -1

        def train_tile(data: Data, batches: Any, trace: Trace, first_slot: Any) -> Training:
            parameters = jax.tree.map(
                lambda x: jnp.broadcast_to(jnp.expand_dims(x, conditions), (*x.shape[:-1], *runs)),
                drawn,
            )
            parameters = objective.explode(parameters) if exploded else parameters
            return advance(begin(parameters, data, trace, first_slot), data, batches, count)

        trace = watch.empty_trace(
            tiles * loop.slots,
            _traced(runs, own, loop),
            loop.features,
            static.dtype,
            linear=models.is_linear(model),
            curves=loop.curves,
        )
        first_slots = loop.slots * jnp.arange(tiles, dtype=jnp.int32)
        return by_tile(train_tile, data, order, (first_slots,), trace)

    def more(training: Training, data: Data, order: Any, count: Any) -> Training:
        def train_tile(data: Data, batches: Any, trace: Trace, before: Training) -> Training:
            return advance(before._replace(trace=trace), data, batches, count)

        rest = training._replace(trace=None)
        return by_tile(train_tile, data, order, (rest,), training.trace)

    return first, more


def data_of(dtype: str, encoding: draws.Encoding, members: Sequence[Condition]) -> Data:
    """Return what a block (C, S) is trained on, NumPy arrays of the given dtype."""

    def cast(array: Any) -> Any:
        return np.asarray(array, dtype=dtype)

    targets = np.array([np.nan if c.target_loss == "none" else c.target_loss for c in members])
    return Data(
        u=cast(encoding.u),
        residual=cast(encoding.residual),
        numbers=objective.Numbers(
            *(cast(getattr(encoding, name)) for name in objective.Numbers._fields)
        ),
        learning_rate=cast([[c.learning_rate] for c in members]),
        tolerance=cast([[c.tolerance] for c in members]),
        target_excess=cast(targets[:, None] - encoding.loss_ols),
    )


def _tile(own: Group) -> int:
    """Return how many conditions train at once: a cache's worth, or all of them."""
    return own.shape.tile if jax.default_backend() == "cpu" else own.shape.conditions


def _traced(runs: Sequence[int], own: Group, loop: Loop) -> tuple[int, ...]:
    """Return the shape of the runs of a tile that are traced."""
    seeds = own.shape.seeds if loop.curves else min(own.shape.seeds, watch.TRACED_SEEDS)
    return (runs[0], seeds) if own.shape.seeds_last else (seeds, runs[1])


def _blocks(data: Data, own: Group) -> Data:
    """Cut arrays of runs (C, S) into tiles, and lay the longer axis last."""
    width = _tile(own)

    def cut(array: np.ndarray) -> np.ndarray:
        *lead, conditions, last = array.shape
        tiles = array.reshape(*lead, conditions // width, width, last)
        tiles = np.moveaxis(tiles, -3, 0)
        return tiles if own.shape.seeds_last else tiles.swapaxes(-1, -2)

    cut_data = jax.tree.map(cut, data._replace(u=None, residual=None))
    if not own.static.transformed:
        return cut_data._replace(u=data.u, residual=data.residual)
    u, residual = (x.reshape(-1, width, *x.shape[1:]) for x in (data.u, data.residual))
    return cut_data._replace(u=u, residual=residual)


def _whole(training: Training, own: Group) -> Training:
    """Undo `_blocks`: arrays of runs end in (C, S) again; what is not of runs is all the same."""

    def join(array: np.ndarray) -> np.ndarray:
        if array.ndim < 3:
            return array[0]
        tiles = array if own.shape.seeds_last else array.swapaxes(-1, -2)
        tiles = np.moveaxis(tiles, 0, -3)
        return tiles.reshape(*tiles.shape[:-3], -1, tiles.shape[-1])

    tiles = training.first_slot.shape[0]
    trace = jax.tree.map(lambda x: x.reshape(tiles, -1, *x.shape[1:]), training.trace)
    return jax.tree.map(join, training._replace(trace=trace))


def _init_seeds(static: Static, seeds: range) -> Any:
    held = static.init_seed
    return np.asarray([seed if held == "vary" else int(held) for seed in seeds], np.uint32)


def _segment_epochs(own: Group) -> int:
    """Return how many epochs' batches are prepared at once: a bound that the budget ignores."""
    static = own.static
    features = shape_of(static.problem)[1]
    batches = batches_per_epoch(static)
    per_seed = {
        "moments": batches * (features + 2) * (features + 3) // 2,
        "samples": batches * static.batch_size * (features + 1),
    }[static.objective]
    return max(1, PREPARED_NUMBERS // (per_seed * own.shape.seeds))


def _segments(own: Group, seeds: range) -> Any:
    """Yield the batch orders of the budget's segments, all of one shape, and their epochs."""
    static = own.static
    epochs = static.updates // batches_per_epoch(static)
    if static.sampling == "full":
        yield None, np.int32(epochs)
        return
    length = min(epochs, _segment_epochs(own))
    for order in draws.orders(static, seeds, length):
        missing = length - order.shape[1]
        padded = np.pad(order, ((0, 0), (0, missing), (0, 0))) if missing else order
        yield padded, np.int32(order.shape[1])
