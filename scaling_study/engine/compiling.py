"""Compiled programs: one a group and device, made when it is first asked for, and kept."""

import hashlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from scaling_study.engine import optimizers, program, watch
from scaling_study.engine.cache import without_unreadable
from scaling_study.engine.environment import with_pinned
from scaling_study.engine.inputs import Inputs, init_seeds, inputs_of, members_of
from scaling_study.engine.tiles import Tiles
from scaling_study.engine.train import Loop, Training
from scaling_study.study.conditions import (
    Group,
    batches_per_epoch,
    segment_epochs,
    shape_of,
    trace_epochs,
)

# XLA keeps to 256 bits where a processor has 512; with all of them a run is 1.25 times as fast.
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


@with_pinned
def compiled(own: Group, record: str, inputs: Inputs | None = None) -> Program:
    """Return the group's program on the default device.

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
        found = _programs.get(key)
        if found is None:
            with np.errstate(all="ignore"):
                sample = inputs or inputs_of(own, members_of(own, 0), range(own.shape.seeds))
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
        return found


# Each program holds memory maps, of which an operating system gives a process 65,530.
MOST_PROGRAMS = 64
_programs: dict[Any, Program | Exception] = {}
_locks: dict[Any, threading.Lock] = {}
_locks_lock = threading.Lock()


def _lock_of(key: Any) -> threading.Lock:
    with _locks_lock:
        return _locks.setdefault(key, threading.Lock())


def _compile(own: Group, record: str, inputs: Inputs) -> Program:
    optimizers.check(optimizers.build(own.static.optimizer, own.static.dialect))
    blank, first, more = program.functions(own, loop_of(own, record), Tiles.of(own.shape))
    options = COMPILER_OPTIONS.get(jax.default_backend())
    data, (order, count) = inputs.data, inputs.order
    seeds = init_seeds(own, range(own.shape.seeds))
    arguments = (jax.eval_shape(blank), seeds, data, order, count)
    new = jax.jit(blank).lower().compile()
    lowered = jax.jit(first, donate_argnums=0).lower(*arguments)
    text = lowered.as_text()
    begun = lowered.compile(options)
    memory = begun.memory_analysis()
    sizes = ("argument", "output", "temp")
    held = sum(getattr(memory, f"{size}_size_in_bytes", 0) for size in sizes)
    if len(list(segment_epochs(own))) == 1:
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
    apart = 1 if curves else trace_epochs(epochs, len(own.conditions))
    return Loop(epochs, batches, shape_of(own.static.problem)[1], apart, curves)
