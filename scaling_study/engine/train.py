"""One training, as pure functions: a `State` carried from update to update.

A block of C × S runs trains together: every array of a run ends in these two axes, so that
loops read contiguous memory. No run reads another, and a run that has diverged is frozen
where it did.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import models, objective
from scaling_study.engine.models import Parameters
from scaling_study.engine.objective import Array, Numbers, Objective
from scaling_study.engine.optimizers import Factory, is_elementwise

NEVER = np.int32(2**31 - 1)
DIVERGED_ABOVE = 1e6  # times the initial loss
FEATURE_TOLERANCE = 0.1  # share of the initial distance to the least-squares weight
TRACED_SEEDS = 8


class Data(NamedTuple):
    """What a block of runs is trained on.

    Attributes
    ----------
    u, residual : Array of shape ([C, ]S, N, d) and ([C, ]S, N)
    numbers : Numbers
    learning_rate : Array of shape (C, 1)
    tolerance : Array of shape (C, 1)
        Share of the initial excess loss.
    target_excess : Array of shape (C, S)
        Explicit target, above the least-squares loss; NaN where the tolerance holds.
    """

    u: Array
    residual: Array
    numbers: Numbers
    learning_rate: Array
    tolerance: Array
    target_excess: Array


class Info(NamedTuple):
    """What one update emits: the batch's loss before it, and each feature's gradient norm."""

    loss: Array
    gradient_norm: Array


class State(NamedTuple):
    """What one update carries to the next."""

    parameters: Parameters
    optimizer: Any
    diverged_at: Array


class Watch(NamedTuple):
    """Running summaries, so that memory does not grow with the number of updates.

    Attributes
    ----------
    ceiling, target : Array of shape (C, S)
        Loss above which a run has diverged; excess loss below which it has converged.
    feature_target : Array of shape (d, C, S)
        Distance from the least-squares weight below which a feature has converged.
    above, feature_above : Array of int32
        Last update at which the run, or its feature, was not within its target; -1 if never.
    initial_excess, excess : Array of shape (C, S)
        Full-data loss above least squares at the start, and now.
    norm_init, norm_first_epoch, norm_sum : Array of shape (d, C, S)
        Gradient norm of each feature: on the full data at the start; mean over the first
        epoch; sum over all updates.
    """

    ceiling: Array
    target: Array
    feature_target: Array
    above: Array
    feature_above: Array
    initial_excess: Array
    excess: Array
    norm_init: Array
    norm_first_epoch: Array
    norm_sum: Array


class Trace(NamedTuple):
    """Thinned histories: slots × the first seeds of the block (all runs for ``curves``).

    Attributes
    ----------
    loss : Array of shape (n_slots, C, T)
        Mean loss of the epoch's batches.
    gradient_norm : Array of shape (n_slots, d, C, T)
        Mean gradient norm of the epoch's updates.
    excess : Array of shape (n_slots, C, T) or (0,)
        Full-data loss above least squares, after the epoch.
    weight : Array of shape (n_slots, d, C, T) or (0,)
        Weights of a linear model after the epoch.
    """

    loss: Array
    gradient_norm: Array
    excess: Array
    weight: Array


class Training(NamedTuple):
    """Everything that is carried; its arrays are the record of the runs."""

    state: State
    initial: Parameters
    watch: Watch
    trace: Trace
    epoch: Array


class Loop(NamedTuple):
    """The budget's shape.

    Attributes
    ----------
    epochs, batches, batch_size, rows : int
        Budget in epochs; updates an epoch, rows a batch, rows an epoch.
    samples, features : int
        Size of the data.
    slots : int
        Points kept of each trace.
    curves : bool
        Keep every epoch's loss and gradient norms of all runs, and nothing else.
    """

    epochs: int
    batches: int
    batch_size: int
    rows: int
    samples: int
    features: int = 0
    slots: int = 0
    curves: bool = False

    @classmethod
    def of(cls, samples: int, batch_size: int, epochs: int, **more: Any) -> "Loop":
        """Return the loop over reshuffled epochs; an epoch's last batch is what is left."""
        return cls(epochs, -(-samples // batch_size), batch_size, samples, samples, **more)

    def cut(self, rows: Array) -> tuple[Array, np.ndarray]:
        """Cut epochs (S, n_epochs, n_rows) into batches, and say what each row weighs.

        Returns
        -------
        rows : Array of shape (S, n_epochs, n_batches, B)
            The last batch of an epoch is padded where the rows run out.
        weights : ndarray of shape (n_batches, B)
            Each row's share of its batch's mean; padding weighs nothing.
        """
        width = self.batches * self.batch_size
        padded = jnp.pad(rows, ((0, 0), (0, 0), (0, width - self.rows)))
        real = (np.arange(width) < self.rows).reshape(self.batches, self.batch_size)
        weights = real / real.sum(axis=1, keepdims=True)
        return padded.reshape(*rows.shape[:2], self.batches, self.batch_size), weights


def make_update(loss: Objective, factory: Factory) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the two pure functions of a training: ``initialise`` and ``update``.

    Parameters
    ----------
    loss : Objective
        What is minimised.
    factory : callable
        ``factory(learning_rate) -> optax.GradientTransformation``.

    Returns
    -------
    initialise : callable
        ``(parameters, data) -> State``.
    update : callable
        ``(state, data, batch, ceiling, number) -> State, Info, alive``.
    """
    start, step = _optimize(factory)

    def initialise(parameters: Parameters, data: Data) -> State:
        runs = data.numbers.intercept.shape
        return State(parameters, start(parameters, data), jnp.full(runs, NEVER))

    def update(state: State, data: Data, batch: Any, ceiling: Array, number: Array) -> Any:
        value, gradient = loss.value_and_gradient(state.parameters, data.numbers, batch)
        healthy = value <= ceiling  # false for NaN
        alive = healthy & (state.diverged_at == NEVER)
        diverged_at = jnp.where(healthy, state.diverged_at, jnp.minimum(state.diverged_at, number))
        parameters, optimizer = step(gradient, state.optimizer, state.parameters, data)
        kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), parameters,
                            state.parameters)
        norm = feature_norms(gradient, data.numbers.gain.shape[0])
        return State(kept, optimizer, diverged_at), Info(value, norm), alive

    return initialise, update


def make_train(
    model: nn.Module, loss: Objective, factory: Factory, loop: Loop
) -> tuple[Callable[..., Training], Callable[..., Training]]:
    """Return the two pure functions of a whole training: ``begin`` and ``advance``.

    Parameters
    ----------
    model : flax.linen.Module
        Whose parameters are trained.
    loss : Objective
        What is minimised.
    factory : callable
        ``factory(learning_rate) -> optax.GradientTransformation``.
    loop : Loop
        The budget's shape.

    Returns
    -------
    begin : callable
        ``(parameters, data) -> Training``, nothing trained yet.
    advance : callable
        ``(training, data, batches, count) -> Training`` after ``count`` more epochs. The
        batches are those of `Objective.prepare`; None where every batch is all of the data.
    """
    initialise, update = make_update(loss, factory)
    linear = models.is_linear(model)

    def whole(data: Data) -> Any:
        seeds = data.numbers.intercept.shape[-1]
        rows = jnp.broadcast_to(jnp.arange(loop.samples), (seeds, 1, 1, loop.samples))
        weights = jnp.full((1, loop.samples), 1 / loop.samples, data.residual.dtype)
        return jax.tree.map(lambda x: x[0, 0], loss.prepare(data.u, data.residual, rows, weights))

    def distances(parameters: Parameters, data: Data) -> Array:
        kernel = models.first_kernel(parameters, loop.features)
        numbers = data.numbers
        return jnp.stack([
            jnp.abs(kernel[j][0] - numbers.slope[j] / numbers.gain[j])
            for j in range(loop.features)
        ])

    def begin(parameters: Parameters, data: Data) -> Training:
        state = initialise(parameters, data)
        full = whole(data)
        value, gradient = loss.value_and_gradient(parameters, data.numbers, full)
        norm = feature_norms(gradient, loop.features)
        excess = loss.excess(parameters, data.numbers, full)
        explicit = jnp.isfinite(data.target_excess)
        by_tolerance = data.tolerance * excess if linear else jnp.full_like(excess, jnp.nan)
        watch = Watch(
            ceiling=DIVERGED_ABOVE * value,
            target=jnp.where(explicit, data.target_excess, by_tolerance),
            feature_target=FEATURE_TOLERANCE * distances(parameters, data)
            if linear else jnp.full_like(norm, jnp.nan),
            above=jnp.full(excess.shape, -1, jnp.int32),
            feature_above=jnp.full(norm.shape, -1, jnp.int32),
            initial_excess=excess,
            excess=excess,
            norm_init=norm,
            norm_first_epoch=jnp.zeros_like(norm),
            norm_sum=jnp.zeros_like(norm),
        )
        return Training(state, parameters, watch, _empty_trace(loop, norm, linear), jnp.int32(0))

    def train_epoch(training: Training, data: Data, batches: Any, full: Any) -> Training:
        watch = training.watch
        first_number = training.epoch * loop.batches

        def train_batch(carry: Any, step: Any) -> tuple[Any, None]:
            state, above, feature_above, info = carry
            batch, number = step
            new, now, alive = update(state, data, batch, watch.ceiling, number)
            if not loop.curves:
                within = loss.excess(state.parameters, data.numbers, full) <= watch.target
                above = jnp.where(alive & ~within, number, above)
                if linear:
                    near = distances(state.parameters, data) <= watch.feature_target
                    feature_above = jnp.where(alive & ~near, number, feature_above)
            info = Info(
                info.loss + jnp.where(alive, now.loss, 0),
                info.gradient_norm + jnp.where(alive, now.gradient_norm, 0),
            )
            return (new, above, feature_above, info), None

        zero = Info(jnp.zeros_like(watch.excess), jnp.zeros_like(watch.norm_sum))
        numbers = first_number + jnp.arange(loop.batches, dtype=jnp.int32)
        (state, above, feature_above, total), _ = jax.lax.scan(
            train_batch,
            (training.state, watch.above, watch.feature_above, zero),
            (batches, numbers),
        )
        mean = jax.tree.map(lambda x: x / loop.batches, total)
        watch = watch._replace(
            above=above,
            feature_above=feature_above,
            norm_first_epoch=jnp.where(
                training.epoch == 0, mean.gradient_norm, watch.norm_first_epoch
            ),
            norm_sum=watch.norm_sum + total.gradient_norm,
        )
        trace = _write(training.trace, loop, training.epoch, mean, state, data, full, loss)
        return Training(state, training.initial, watch, trace, training.epoch + 1)

    def advance(training: Training, data: Data, batches: Any, count: Array) -> Training:
        full = whole(data)
        last = training.epoch + count

        def going(now: Training) -> Array:
            # Only when all of its runs have diverged: no run depends on its neighbours.
            return (now.epoch < last) & jnp.any(now.state.diverged_at == NEVER)

        def body(now: Training) -> Training:
            if batches is None:
                return train_epoch(now, data, jax.tree.map(lambda x: x[None], full), full)
            index = now.epoch - training.epoch
            return train_epoch(now, data, jax.tree.map(lambda x: x[index], batches), full)

        done = jax.lax.while_loop(going, body, training)
        return done if loop.curves else done._replace(watch=settle(done, data, full))

    def settle(done: Training, data: Data, full: Any) -> Watch:
        """Judge the last parameters, which no further update looks at."""
        watch, parameters = done.watch, done.state.parameters
        number = done.epoch * loop.batches
        excess = loss.excess(parameters, data.numbers, full)
        above = jnp.where(excess <= watch.target, watch.above, number)
        feature_above = jnp.full_like(watch.feature_above, number)
        if linear:
            near = distances(parameters, data) <= watch.feature_target
            feature_above = jnp.where(near, watch.feature_above, number)
        return watch._replace(excess=excess, above=above, feature_above=feature_above)

    return begin, advance


def feature_norms(gradient: Parameters, features: int) -> Array:
    """Return the norm of the first kernel's gradient row of each feature; (d, C, S)."""
    kernel = models.first_kernel(gradient, features)
    if len(kernel[0]) == 1:
        return jnp.stack([jnp.abs(kernel[j][0]) for j in range(features)])
    return jnp.sqrt(jnp.sum(jnp.square(kernel), axis=1))


def initial_parameters(model: nn.Module, seeds: Array, features: int, dtype: Any) -> Parameters:
    """Return each seed's initial parameters, arrays of shape (..., S).

    Drawn in float32 whatever the training's dtype, so that runs in both start alike.
    """

    def of_seed(seed: Array) -> Parameters:
        return model.init(jax.random.key(seed), jnp.zeros((1, features), jnp.float32))

    drawn = jax.vmap(of_seed, out_axes=-1)(seeds)
    return jax.tree.map(lambda x: x.astype(dtype), drawn)


def _optimize(factory: Factory) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return Optax' ``init`` and ``update`` followed by `apply`, over a block of runs."""
    import optax

    if is_elementwise(factory):
        # Arrays of runs are updated as they are; the step count stays one number for all.
        def start(parameters: Parameters, data: Data) -> Any:
            return factory(data.learning_rate).init(parameters)

        def step(gradient: Any, state: Any, parameters: Parameters, data: Data) -> Any:
            updates, state = factory(data.learning_rate).update(gradient, state, parameters)
            return optax.apply_updates(parameters, updates), state

        return start, step

    def of_run(learning_rate: Array, gradient: Any, state: Any, parameters: Parameters) -> Any:
        updates, state = factory(learning_rate).update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state

    def over_runs(function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(jax.vmap(function, -1, -1), -1, -1)

    def rates(data: Data) -> Array:
        return jnp.broadcast_to(data.learning_rate, data.numbers.intercept.shape)

    return (
        lambda parameters, data: over_runs(lambda lr, p: factory(lr).init(p))(
            rates(data), parameters
        ),
        lambda gradient, state, parameters, data: over_runs(of_run)(
            rates(data), gradient, state, parameters
        ),
    )


def _empty_trace(loop: Loop, norm: Array, linear: bool) -> Trace:
    features, conditions, seeds = norm.shape
    kept = seeds if loop.curves else min(seeds, TRACED_SEEDS)

    def empty(*shape: int) -> Array:
        return jnp.zeros((loop.slots, *shape, conditions, kept), norm.dtype)

    nothing = jnp.zeros((0,), norm.dtype)
    excess = nothing if loop.curves else empty()
    weight = empty(features) if linear and not loop.curves else nothing
    return Trace(empty(), empty(features), excess, weight)


def _write(
    trace: Trace, loop: Loop, epoch: Array, mean: Info, state: State, data: Data, full: Any,
    loss: Objective,
) -> Trace:
    """Return the trace with the epoch written into its slot, over an earlier epoch's."""
    kept = trace.loss.shape[-1]
    slot = epoch * loop.slots // loop.epochs

    def put(buffer: Array, value: Array) -> Array:
        return jax.lax.dynamic_update_index_in_dim(buffer, value[..., :kept], slot, axis=0)

    trace = trace._replace(
        loss=put(trace.loss, mean.loss), gradient_norm=put(trace.gradient_norm, mean.gradient_norm)
    )
    if trace.excess.size:
        excess = loss.excess(state.parameters, data.numbers, full)
        trace = trace._replace(excess=put(trace.excess, excess))
    if trace.weight.size:
        kernel = models.first_kernel(objective.assemble(state.parameters), loop.features)
        trace = trace._replace(weight=put(trace.weight, kernel[:, 0]))
    return trace
