"""Compiled programs: one per group and device, made at the first call and kept."""

import hashlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from scaling_study.engine import monitor, optimizers
from scaling_study.engine.cache import without_unreadable
from scaling_study.engine.environment import with_pinned
from scaling_study.engine.initial import shapes_of
from scaling_study.engine.inputs import Inputs, inputs_of
from scaling_study.engine.models import MODELS
from scaling_study.engine.program import (
    ChunkProgram,
    is_by_row,
    shares_inputs,
    starts_from_function,
    tiles_of,
)
from scaling_study.engine.train import Budget, Training
from scaling_study.study.chunk_shapes import ChunkShape, Static
from scaling_study.study.component import Component
from scaling_study.study.conditions import (
    Group,
    batches_per_epoch,
    problem_of,
    segment_epochs,
    shape_of,
    trace_epochs,
)

# By default XLA uses vectors of 256 bits; with 512, where the CPU has them, a run takes 0.8 of the
# time.
COMPILER_OPTIONS = {"cpu": {"xla_cpu_prefer_vector_width": 512}}
# At this level compiling takes half to two thirds of the time, and training as long, except for
# runs that are evaluated row by row, which take two to eight times as long.
FAST_OPTIONS = {"cpu": {"xla_backend_optimization_level": 1}}
LONG_CHUNK = 10_000_000  # updates of a chunk's runs together, above which training takes longer


class Program(NamedTuple):
    """A group's compiled functions on one device; see `ChunkProgram`.

    A budget of one segment is trained by one function, ``train``. One of more is begun and then
    resumed, so that the loop of a training is compiled once.
    """

    blank_trace: Callable[[], monitor.Trace]
    train: Callable[..., Training] | None
    begin: Callable[..., Training] | None
    resume: Callable[..., Training] | None
    memory_bytes: int  # of the loop: inputs, outputs and temporaries
    digest: str  # twelve hexadecimal digits of what was compiled, as StableHLO
    free_traces: list[monitor.Trace]  # no longer needed; their memory can be written over

    def take_trace(self) -> monitor.Trace:
        """Return a trace that may be written over."""
        try:
            return self.free_traces.pop()
        except IndexError:
            return self.blank_trace()


class ProgramKey(NamedTuple):
    """What a program depends on: groups with the same key share one.

    Data, initial parameters and seeds are arguments of a program, not part of it.
    """

    static: Static  # without the problem, the model and the seeds
    model: Component  # without its initial kernel, if it is of the registry
    data_shape: tuple[int, int]
    classes: int
    is_table: bool
    chunk_shape: ChunkShape
    budget: Budget
    starts_from_function: bool
    shares_inputs: bool
    device: Any

    @classmethod
    def of(cls, group: Group, record: str) -> "ProgramKey":
        """Return the key of a group's program on the default device."""
        static, model = group.static, group.static.model
        problem = problem_of(static.problem)
        if model.name in MODELS:
            kept = tuple(p for p in model.parameters if p[0] != "kernel_init")
            model = Component(model.name, kept)
        return cls(
            static=static._replace(
                problem=None, model=None, data_seed=0, init_seed=0, order_seed=0
            ),
            model=model,
            data_shape=shape_of(static.problem),
            classes=problem.classes,
            is_table=static.problem.is_table,
            chunk_shape=group.shape,
            budget=budget_of(group, record),
            starts_from_function=starts_from_function(group),
            shares_inputs=shares_inputs(group),
            device=jax.config.jax_default_device or jax.devices()[0],
        )


@with_pinned
def compiled(group: Group, record: str, inputs: Inputs | None = None) -> Program:
    """Return the group's program on the default device, compiled at the first call.

    Parameters
    ----------
    group : Group
    record : str
        What the study records: "curves", "standard" or more.
    inputs : Inputs, optional
        Of any chunk of the group, all of which have one shape; by default of the first.

    Raises
    ------
    Exception
        If compiling fails; the error is kept and raised again at each call.
    """
    key = ProgramKey.of(group, record)
    with _lock_of(key):
        found = _programs.get(key)
        if found is None:
            with np.errstate(all="ignore"):
                sample = inputs or inputs_of(group, 0, range(group.shape.seeds))
            try:
                with jax.enable_x64(group.static.dtype == "float64"):
                    found = without_unreadable(lambda: _compile(group, record, sample))
            except Exception as error:
                found = error
            _programs[key] = found
            for old in list(_programs)[:-MAX_PROGRAMS]:
                _programs.pop(old, None)
        if isinstance(found, Exception):
            raise found
        return found


# Each program holds memory mappings, of which Linux gives a process 65,530.
MAX_PROGRAMS = 64
_programs: dict[ProgramKey, Program | Exception] = {}
_locks: dict[ProgramKey, threading.Lock] = {}
_locks_lock = threading.Lock()


def _lock_of(key: ProgramKey) -> threading.Lock:
    with _locks_lock:
        return _locks.setdefault(key, threading.Lock())


def _compile(group: Group, record: str, inputs: Inputs) -> Program:
    optimizers.check(optimizers.build(group.static.optimizer, group.static.framework))
    functions = ChunkProgram(group, budget_of(group, record), tiles_of(group))
    options = _options(group)
    blank_trace = jax.jit(functions.blank_trace).lower().compile()
    data, segment = inputs.data, inputs.order
    begun = jax.eval_shape(functions.blank_trace), shapes_of(group), data

    def lowered(function: Callable[..., Training], *arguments: Any) -> Any:
        return jax.jit(function, donate_argnums=0).lower(*arguments)

    if len(list(segment_epochs(group))) == 1:
        parts = {"train": lowered(functions.train, *begun, *segment)}
    else:
        training = jax.eval_shape(functions.begin, *begun)
        parts = {
            "begin": lowered(functions.begin, *begun),
            "resume": lowered(functions.resume, training, data, *segment),
        }
    compiled = {name: part.compile(options) for name, part in parts.items()}
    memory = (compiled.get("train") or compiled["resume"]).memory_analysis()
    sizes = ("argument", "output", "temp")
    return Program(
        blank_trace,
        *map(compiled.get, ("train", "begin", "resume")),
        memory_bytes=sum(getattr(memory, f"{size}_size_in_bytes", 0) for size in sizes),
        digest=_digest("".join(part.as_text() for part in parts.values())),
        free_traces=[],
    )


def _options(group: Group) -> dict[str, Any]:
    """Return the compiler's options for a group, which depend on it and the device alone."""
    backend, shape = jax.default_backend(), group.shape
    options = COMPILER_OPTIONS.get(backend, {})
    updates = shape.conditions * shape.seeds * group.static.updates
    is_long = updates > LONG_CHUNK and not group.static.problem.is_table
    return options if is_long or is_by_row(group) else options | FAST_OPTIONS.get(backend, {})


def budget_of(group: Group, record: str) -> Budget:
    """Return the budget of a group's trainings."""
    batches = batches_per_epoch(group.static)
    epochs = group.static.updates // batches
    curves = record == "curves"
    apart = 1 if curves else trace_epochs(epochs, len(group.conditions))
    return Budget(epochs, batches, shape_of(group.static.problem)[1], apart, curves)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
