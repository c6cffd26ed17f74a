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
import optax

from scaling_study.engine import models, watch
from scaling_study.engine.models import Parameters
from scaling_study.engine.objective import Array, Numbers, Objective
from scaling_study.engine.optimizers import Factory, is_elementwise, takes_hessian
from scaling_study.engine.watch import Info, Trace, Watch

NEVER = np.int32(2**31 - 1)


class Best(NamedTuple):
    """Where the penalised loss of a linear model is least, arrays (d, C, S).

    Attributes
    ----------
    slope : Array
        In the terms of `Numbers`.
    weight : Array
        In training units.
    """

    slope: Array
    weight: Array


class Data(NamedTuple):
    """What a block of runs is trained on.

    Attributes
    ----------
    u, residual : Array of shape ([C, ]S, N, d) and ([C, ]S, N)
    numbers : Numbers
    learning_rate : Array of shape (C, 1)
    target : Target
        What a run must come below to have converged.
    l1, l2 : Array of shape (C, 1)
        Penalties on the sum of |weight| and of weight squared.
    best : Best or None
        Of a linear model with penalties, where its penalised loss is least.
    """

    u: Array
    residual: Array
    numbers: Numbers
    learning_rate: Array
    target: watch.Target
    l1: Any = 0.0
    l2: Any = 0.0
    best: Any = None


class State(NamedTuple):
    """What one update carries to the next."""

    parameters: Parameters
    optimizer: Any
    diverged_at: Array


class Training(NamedTuple):
    """Everything that is carried; its arrays are the record of the runs.

    The trace is the whole chunk's: a tile writes from ``first_slot`` on, in place.
    """

    state: State
    initial: Parameters
    watch: Watch
    trace: Trace
    first_slot: Array
    epoch: Array


class Loop(NamedTuple):
    """The budget's shape.

    Attributes
    ----------
    epochs, batches : int
        Budget in epochs, and updates an epoch.
    features : int
        Number of features.
    trace_epochs : int
        Epochs from one point of a trace to the next; each point is written by the last of them.
    curves : bool
        Keep every epoch's loss and gradient norms of all runs, and nothing else.
    """

    epochs: int
    batches: int
    features: int
    trace_epochs: int
    curves: bool

    @property
    def slots(self) -> int:
        """Points kept of each trace."""
        return -(-self.epochs // self.trace_epochs)

    @property
    def trace_updates(self) -> np.ndarray:
        """Number of updates done at each point of a trace."""
        last = self.trace_epochs * np.arange(1, self.slots + 1)
        return np.minimum(last, self.epochs) * self.batches


def make_update(
    loss: Objective, factory: Factory, *, penalised: bool = False
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the two pure functions of a training: ``initialise`` and ``update``.

    Parameters
    ----------
    loss : Objective
        What is minimised.
    factory : callable
        ``factory(learning_rate) -> optax.GradientTransformation``.
    penalised : bool
        Whether the penalties are part of what is minimised.

    Returns
    -------
    initialise : callable
        ``(parameters, data) -> State``.
    update : callable
        ``(state, data, batch, ceiling, number) -> State, Info, alive``.
    """
    start, step = _optimize(factory)
    second_order = takes_hessian(factory)

    def initialise(parameters: Parameters, data: Data) -> State:
        never = jnp.full(data.numbers.intercept.shape, NEVER)
        return State(parameters, start(parameters, data), never)

    def update(state: State, data: Data, batch: Any, ceiling: Array, number: Array) -> Any:
        before = state.parameters
        value, gradient = loss.value_and_gradient(before, data.numbers, batch)
        healthy = value <= ceiling  # false for NaN
        alive = healthy & (state.diverged_at == NEVER)
        diverged_at = jnp.where(healthy, state.diverged_at, jnp.minimum(state.diverged_at, number))
        slope = _with_penalty(gradient, before, data) if penalised else gradient
        curvature = _hessian(loss, before, data, batch) if second_order else None
        after, optimizer = step(slope, state.optimizer, before, data, curvature)
        kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, before)
        norm = watch.feature_norms(gradient, len(data.numbers.shift))
        return State(kept, optimizer, diverged_at), Info(value, norm), alive

    return initialise, update


def make_train(
    model: nn.Module,
    loss: Objective,
    factory: Factory,
    loop: Loop,
    *,
    penalised: bool = False,
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
    penalised : bool
        Whether the penalties are part of what is minimised.

    Returns
    -------
    begin : callable
        ``(parameters, data, trace, first_slot) -> Training``, nothing trained yet.
    advance : callable
        ``(training, data, batches, count) -> Training`` after ``count`` more epochs. The
        batches are those of `Objective.prepare`; None where every batch is all of the data.
    """
    initialise, update = make_update(loss, factory, penalised=penalised)
    unit = models.is_unit(model)

    def gauge(parameters: Parameters, data: Data, full: Any) -> watch.Gauge:
        value = _monitored(loss, parameters, data, full)
        return watch.gauge(parameters, data.target, value, unit)

    def begin(parameters: Parameters, data: Data, trace: Trace, first_slot: Array) -> Training:
        full = loss.whole(data.u, data.residual)
        value, gradient = loss.value_and_gradient(parameters, data.numbers, full)
        norm = watch.feature_norms(gradient, loop.features)
        return Training(
            state=initialise(parameters, data),
            initial=parameters,
            watch=watch.begin(gauge(parameters, data, full), Info(value, norm), data.target),
            trace=trace,
            first_slot=first_slot,
            epoch=jnp.int32(0),
        )

    def observe(above: Any, seen: Watch, parameters: Parameters, *rest: Any) -> watch.Gauge:
        data, full, number, alive = rest

        def look() -> watch.Gauge:
            return watch.observe(above, seen.target, gauge(parameters, data, full), number, alive)

        if not loss.spared:
            return look()
        return jax.lax.cond(jnp.isfinite(seen.target.loss).any(), look, lambda: above)

    def train_batch(data: Data, full: Any, seen: Watch, carry: Any, step: Any) -> Any:
        state, above, total = carry
        batch, number = step
        new, info, alive = update(state, data, batch, seen.ceiling, number)
        if not loop.curves:
            above = observe(above, seen, state.parameters, data, full, number, alive)
        total = jax.tree.map(lambda sum_, x: sum_ + jnp.where(alive, x, 0), total, info)
        return (new, above, total), None

    def train_epoch(training: Training, data: Data, batches: Any, full: Any) -> Training:
        seen, epoch = training.watch, training.epoch
        zero = Info(jnp.zeros_like(seen.loss), jax.tree.map(jnp.zeros_like, seen.norm_sum))
        numbers = epoch * loop.batches + jnp.arange(loop.batches, dtype=jnp.int32)
        (state, above, total), _ = jax.lax.scan(
            lambda carry, step: train_batch(data, full, seen, carry, step),
            (training.state, seen.above, zero),
            (batches, numbers),
        )
        mean = jax.tree.map(lambda x: x / loop.batches, total)
        seen = seen._replace(
            above=above,
            norm_first_epoch=jax.tree.map(
                lambda first, now: jnp.where(epoch == 0, now, first),
                seen.norm_first_epoch,
                mean.gradient_norm,
            ),
            norm_sum=jax.tree.map(jnp.add, seen.norm_sum, total.gradient_norm),
        )
        now = Trace(mean, None, [])
        if not loop.curves:
            weights = watch.weights_of(state.parameters, loop.features) if unit else []
            now = Trace(mean, loss.monitored(state.parameters, data.numbers, full), weights)
        slot = training.first_slot + epoch // loop.trace_epochs
        trace = watch.write(training.trace, now, slot)
        return training._replace(state=state, watch=seen, trace=trace, epoch=epoch + 1)

    def advance(training: Training, data: Data, batches: Any, count: Array) -> Training:
        full = loss.whole(data.u, data.residual)
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
        now, seen = gauge(done.state.parameters, data, full), done.watch
        above = watch.observe(seen.above, seen.target, now, done.epoch * loop.batches)
        return seen._replace(loss=now.loss, above=above)

    return begin, advance


def initial_parameters(model: nn.Module, seeds: Array, features: int, dtype: Any) -> Parameters:
    """Return each seed's initial parameters, arrays of shape (..., S).

    Drawn in float32 whatever the training's dtype, so that runs in both start alike.
    """

    def of_seed(seed: Array) -> Parameters:
        return model.init(jax.random.key(seed), jnp.zeros((1, features), jnp.float32))

    drawn = jax.vmap(of_seed, out_axes=-1)(seeds)
    return jax.tree.map(lambda x: x.astype(dtype), drawn)


def _monitored(loss: Objective, parameters: Parameters, data: Data, full: Any) -> Array:
    """Return the full-data loss that convergence is judged by.

    With a penalty on the squared weights of a linear model it is the penalised loss above its
    own minimum, which is as quadratic as the loss itself: its distance from there, and the
    penalty on that distance.
    """
    if data.best is None:
        return loss.monitored(parameters, data.numbers, full)
    weights = watch.weights_of(parameters, len(data.best.weight))
    away = [w - data.best.weight[j] for j, w in enumerate(weights)]
    own = data.numbers._replace(slope=data.best.slope)
    l2 = jnp.where(data.l1 > 0, 0, data.l2)  # with an L1 penalty no least loss is known
    return loss.monitored(parameters, own, full) + l2 * sum(part**2 for part in away)


def _with_penalty(gradient: Parameters, parameters: Parameters, data: Data) -> Parameters:
    """Return the gradient of loss + l1 sum |w| + l2 sum w², over every weight and no bias."""

    def of(path: Any, slope: Array, weight: Array) -> Array:
        if jax.tree_util.DictKey("kernel") not in path:
            return slope
        return slope + data.l1 * jnp.sign(weight) + 2 * data.l2 * weight

    return jax.tree_util.tree_map_with_path(of, gradient, parameters)


def _optimize(factory: Factory) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return Optax' ``init`` and ``update`` followed by `apply`, over a block of runs."""
    if is_elementwise(factory):
        # Arrays of runs are updated as they are; the step count stays one number for all.
        def start(parameters: Parameters, data: Data) -> Any:
            return factory(data.learning_rate).init(parameters)

        def step(gradient: Any, state: Any, parameters: Parameters, data: Data, _: Any) -> Any:
            updates, state = factory(data.learning_rate).update(gradient, state, parameters)
            return optax.apply_updates(parameters, updates), state

        return start, step

    def of_run(rate: Array, gradient: Any, state: Any, parameters: Parameters, matrix: Any) -> Any:
        more = {} if matrix is None else {"hessian": matrix}
        updates, state = factory(rate).update(gradient, state, parameters, **more)
        return optax.apply_updates(parameters, updates), state

    def over_runs(function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(jax.vmap(function, -1, -1), -1, -1)

    def rates(data: Data) -> Array:
        return jnp.broadcast_to(data.learning_rate, data.numbers.intercept.shape)

    return (
        lambda parameters, data: over_runs(lambda lr, p: factory(lr).init(p))(
            rates(data), parameters
        ),
        lambda gradient, state, parameters, data, matrix: over_runs(of_run)(
            rates(data), gradient, state, parameters, matrix
        ),
    )


def _hessian(loss: Objective, parameters: Parameters, data: Data, batch: Any) -> Array:
    """Return the Hessian of each run's loss on a batch, (p, p, C, S), columns by `jax.jvp`."""
    leaves, tree = jax.tree.flatten(parameters)
    runs = leaves[0].shape[-2:]
    ends = np.cumsum([leaf[..., 0, 0].size for leaf in leaves])

    def flat(tree: Parameters) -> Array:
        return jnp.concatenate([leaf.reshape(-1, *runs) for leaf in jax.tree.leaves(tree)])

    def column(direction: Array) -> Array:
        parts = jnp.split(jnp.broadcast_to(direction[:, None, None], (ends[-1], *runs)), ends[:-1])
        tangent = jax.tree.unflatten(
            tree, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        )

        def slope(p: Parameters) -> Array:
            return flat(loss.value_and_gradient(p, data.numbers, batch)[1])

        return jax.jvp(slope, (parameters,), (tangent,))[1]

    return jax.vmap(column)(jnp.eye(ends[-1], dtype=leaves[0].dtype))
