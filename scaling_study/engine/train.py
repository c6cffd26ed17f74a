"""Training as pure functions: a `State` is carried from update to update.

A block of C conditions × S seeds trains together, on N rows of d features. The arrays of runs end
in the axes (C, S), so that loops read contiguous memory. Runs are independent of each other, and a
run that has diverged is frozen.

The inputs are canonical: columns of mean 0 and standard deviation 1, which `AffineMaps` map to the
training units of each run. Conditions share them unless a transformer is not affine.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import models
from scaling_study.engine import monitor as monitoring
from scaling_study.engine.models import Parameters
from scaling_study.engine.monitor import Criterion, Info, Monitor, Trace
from scaling_study.engine.objective import AffineMaps, Array, Objective
from scaling_study.engine.optimizers import BlockOptimizer
from scaling_study.engine.single_runs import over_runs, rows_of_runs, runs_first, runs_last

NEVER = np.int32(2**31 - 1)


class PenalisedOptimum(NamedTuple):
    """The minimum of the penalised loss of a linear model, arrays (d, C, S)."""

    coefficient: Array  # per canonical input, as `AffineMaps.ols_coefficient`
    weight: Array  # in training units


class FunctionStart(NamedTuple):
    """The maps that initial parameters undo, (d, C, S): 1 and 0 where a run keeps them."""

    feature_scale: Array
    feature_shift: Array


class Data(NamedTuple):
    """The data and hyperparameters of a block of runs."""

    inputs: Array  # ([C, ]S, N, d), canonical inputs; (1, N, d) where all runs share them
    # ([C, ]S, N), residual of the target's least-squares fit, or the class; where single runs are
    # trained the target of each, (C, S, N), as of `PerSample`.
    residual: Array
    maps: AffineMaps
    learning_rate: Array  # (C, 1)
    convergence_target: monitoring.Target
    l1: Any = 0.0  # (C, 1), penalty on the sum of |weight|
    l2: Any = 0.0  # (C, 1), penalty on the sum of weight squared
    penalised_optimum: Any = None  # `PenalisedOptimum` of a linear model with penalties
    start: Any = None  # `FunctionStart` where a run of the group starts from a function
    rows: Any = None  # `RowsOfRun` where single runs are trained, made from the residual


class State(NamedTuple):
    """What one update carries to the next."""

    parameters: Parameters
    optimizer: Any
    diverged_at: Array


class Training(NamedTuple):
    """Everything that is carried; its arrays are the record of the runs.

    The trace is the whole chunk's: a tile writes its points in place from ``first_trace_point``.
    """

    state: State
    initial: Parameters
    monitor: Monitor
    trace: Trace
    first_trace_point: Array
    epoch: Array


class Budget(NamedTuple):
    """How long a training is, and how often it is traced."""

    epochs: int
    batches: int  # updates per epoch
    features: int
    trace_epochs: int  # epochs per point of a trace; the last of them is written
    curves: bool  # keep every epoch's loss and gradient norms of all runs, and nothing else

    @property
    def trace_points(self) -> int:
        """Number of points of a trace."""
        return -(-self.epochs // self.trace_epochs)

    @property
    def trace_updates(self) -> np.ndarray:
        """Number of updates done at each point of a trace."""
        last = self.trace_epochs * np.arange(1, self.trace_points + 1)
        return np.minimum(last, self.epochs) * self.batches


@dataclass(frozen=True)
class Update:
    """One update of a block of runs."""

    objective: Objective
    optimizer: BlockOptimizer
    penalised: bool = False  # whether the penalties of `Data` are part of what is minimised

    def init(self, parameters: Parameters, data: Data) -> State:
        """Return the state before the first update."""
        never = jnp.full(data.maps.intercept.shape, NEVER)
        return State(parameters, self.optimizer.init(data.learning_rate, parameters), never)

    def step(
        self, state: State, data: Data, batch: Any, divergence_threshold: Any, step: Any
    ) -> tuple[State, Info, Array]:
        """Return the state after an update, its `Info`, and which runs are active."""
        before = state.parameters
        loss, gradient = self.objective.value_and_gradient(before, data.maps, batch)
        healthy = loss <= divergence_threshold  # false for NaN
        active = healthy & (state.diverged_at == NEVER)
        diverged_at = jnp.where(healthy, state.diverged_at, jnp.minimum(state.diverged_at, step))
        penalised = _with_penalty(gradient, before, data) if self.penalised else gradient
        hessian = None
        if self.optimizer.needs_hessian:
            hessian = _hessian(self.objective, before, data, batch)
        after, optimizer = self.optimizer.update(
            data.learning_rate, penalised, state.optimizer, before, hessian
        )
        kept = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, before)
        norm = monitoring.feature_norms(gradient, len(data.maps.feature_shift))
        return State(kept, optimizer, diverged_at), Info(loss, norm), active


@dataclass(frozen=True)
class Trainer:
    """A whole training of a block of runs."""

    update: Update
    budget: Budget
    single_unit: bool  # whether the model is a single unit; its weights are traced and monitored
    single_run: bool = False  # whether functions of one run are mapped over the runs of a tile

    @property
    def objective(self) -> Objective:
        """The objective without penalties."""
        return self.update.objective

    def init(
        self, parameters: Parameters, data: Data, trace: Trace, first_trace_point: Array
    ) -> Training:
        """Return the training before its first update."""
        full_batch = self.objective.full_batch(data.inputs, data.residual)
        begin = self._over_runs(self._begin)
        state, monitor = begin(parameters, self._of_runs(data), full_batch)
        return Training(state, parameters, monitor, trace, first_trace_point, jnp.int32(0))

    def run(self, training: Training, data: Data, batches: Any, count: Array) -> Training:
        """Train ``count`` epochs; no batches are full batches.

        Ends early only when all runs have diverged, so that no run depends on its neighbours.
        """
        full_batch = self.objective.full_batch(data.inputs, data.residual)
        data, last = self._of_runs(data), training.epoch + count
        target = data.convergence_target
        has_convergence_target = jnp.isfinite(target.loss).any()
        if self.single_unit:  # whose weights have targets of their own
            has_convergence_target |= jnp.isfinite(target.distance).any()

        def is_running(now: Training) -> Array:
            return (now.epoch < last) & jnp.any(now.state.diverged_at == NEVER)

        def body(now: Training) -> Training:
            index = now.epoch - training.epoch
            of_epoch = jax.tree.map(lambda x: x[index], batches)
            return self.epoch(now, data, of_epoch, full_batch, has_convergence_target)

        done = jax.lax.while_loop(is_running, body, training)
        if self.budget.curves:
            return done
        evaluate_final = self._over_runs(self._evaluate_final)
        step = done.epoch * self.budget.batches
        monitor = evaluate_final((done.state.parameters, done.monitor), data, full_batch, step)
        return done._replace(monitor=monitor)

    def epoch(
        self,
        training: Training,
        data: Data,
        batches: Any,
        full_batch: Any,
        has_convergence_target: Array,
    ) -> Training:
        """Return the training after one more epoch."""
        epoch, apart = training.epoch, self.budget.trace_epochs
        advance = self._over_runs(self._epoch)
        is_traced = ((epoch + 1) % apart == 0) | (epoch + 1 == self.budget.epochs)
        state, monitor, point = advance(
            (training.state, training.monitor),
            data,
            full_batch,
            batches,
            epoch,
            has_convergence_target | is_traced,
        )
        place = training.first_trace_point + epoch // apart
        trace = monitoring.write(training.trace, self.runs_last(point), place)
        return training._replace(state=state, monitor=monitor, trace=trace, epoch=epoch + 1)

    def runs_first(self, tree: Any) -> Any:
        """Return arrays of runs (..., C, S) as they are trained: (C, S, ...) for single runs."""
        return runs_first(tree) if self.single_run else tree

    def runs_last(self, tree: Any) -> Any:
        """Undo `runs_first`."""
        return runs_last(tree) if self.single_run else tree

    def _of_runs(self, data: Data) -> Data:
        """Return the data without rows, in the form of `runs_first`."""
        inputs, residual = data.inputs, data.residual
        data = data._replace(inputs=None, residual=None)  # type: ignore[arg-type]
        if not self.single_run:
            return data
        runs = data.maps.intercept.shape
        first = self.runs_first(
            jax.tree.map(lambda x: jnp.broadcast_to(x, (*jnp.shape(x)[:-2], *runs)), data)
        )
        return first._replace(rows=rows_of_runs(inputs, residual))

    def _over_runs(self, function: Any) -> Any:
        """Map a function of one run over the runs of a tile, if single runs are trained."""
        return over_runs(function) if self.single_run else function

    def _rows(self, data: Data, full_batch: Any, batch: Any = None) -> Any:
        """Return the rows of a batch, or all."""
        if self.single_run:
            return self.objective.rows(full_batch, data.rows, batch)  # type: ignore[union-attr]
        return full_batch if batch is None else batch

    def _begin(self, parameters: Parameters, data: Data, full_batch: Any) -> tuple[State, Monitor]:
        full_batch = self._rows(data, full_batch)
        loss, gradient = self.objective.value_and_gradient(parameters, data.maps, full_batch)
        norm = monitoring.feature_norms(gradient, self.budget.features)
        if self.budget.curves:  # which keep no norm of the start, so that it is not computed
            norm = jax.tree.map(jnp.zeros_like, norm)
        now = self._criterion(parameters, data, full_batch)
        monitor = monitoring.start(now, Info(loss, norm), data.convergence_target)
        if not self.objective.judged_each_update:
            monitor = self._judged(monitor, now, jnp.int32(0))
        return self.update.init(parameters, data), monitor

    def _epoch(
        self,
        run: tuple[State, Monitor],
        data: Data,
        full_batch: Any,
        batches: Any,
        epoch: Array,
        is_judged: Array,
    ) -> tuple[State, Monitor, Trace]:
        """Return state and monitor after one more epoch, and the epoch's point of the trace."""
        (state, monitor), count = run, self.budget.batches
        zero = Info(jnp.zeros_like(monitor.loss), jax.tree.map(jnp.zeros_like, monitor.norm_sum))
        steps = epoch * count + jnp.arange(count, dtype=jnp.int32)
        constants = monitor, data, full_batch
        (state, last_above, total), _ = jax.lax.scan(
            lambda carry, x: (self._batch(*constants, *carry, *x), None),
            (state, monitor.last_above, zero),
            (batches, steps),
        )
        mean = jax.tree.map(lambda x: x / count, total)
        monitor = monitor._replace(last_above=last_above)
        monitor = monitoring.add_epoch(monitor, epoch, total.gradient_norm, mean.gradient_norm)
        if self.budget.curves:
            return state, monitor, Trace(mean, None, [])
        if self.objective.judged_each_update:
            loss = self.objective.monitored_loss(state.parameters, data.maps, full_batch)
        else:
            ended = (epoch + 1) * count
            monitor, loss = jax.lax.cond(
                is_judged,
                lambda: self._at_end_of_epoch(state.parameters, monitor, data, full_batch, ended),
                lambda: (monitor, monitor.loss),
            )
        weights = []
        if self.single_unit:
            weights = monitoring.weights_of(state.parameters, self.budget.features)
        return state, monitor, Trace(mean, loss, weights)

    def _batch(
        self,
        monitor: Monitor,
        data: Data,
        full_batch: Any,
        state: State,
        last_above: Criterion,
        total: Info,
        batch: Any,
        step: Array,
    ) -> tuple[State, Criterion, Info]:
        """Return state, criterion and sums of the epoch after one more batch."""
        batch = self._rows(data, full_batch, batch)
        new, info, active = self.update.step(state, data, batch, monitor.divergence_threshold, step)
        total = jax.tree.map(lambda sum_, x: sum_ + jnp.where(active, x, 0), total, info)
        if not self.budget.curves and self.objective.judged_each_update:
            now = self._criterion(state.parameters, data, full_batch)
            target = monitor.convergence_target
            last_above = monitoring.update(last_above, target, now, step, active)
        return new, last_above, total

    def _at_end_of_epoch(
        self, parameters: Parameters, monitor: Monitor, data: Data, full_batch: Any, ended: Array
    ) -> tuple[Monitor, Array]:
        """Return the monitor after an epoch, ``ended`` updates in all, and the loss to trace."""
        full_batch = self._rows(data, full_batch)
        now = self._criterion(parameters, data, full_batch)
        loss = now.loss
        if data.penalised_optimum is not None:
            loss = self.objective.monitored_loss(parameters, data.maps, full_batch)
        return self._judged(monitor, now, ended), loss

    def _judged(self, monitor: Monitor, now: Criterion, done: Array) -> Monitor:
        """Return the monitor after ``done`` updates; runs are judged again an epoch later."""
        next_time = done + self.budget.batches
        target = monitor.convergence_target
        last_above = monitoring.update(monitor.last_above, target, now, next_time - 1)
        return monitor._replace(last_above=last_above)

    def _evaluate_final(
        self, run: tuple[Parameters, Monitor], data: Data, full_batch: Any, step: Array
    ) -> Monitor:
        """Return the monitor with the criterion of the final parameters."""
        parameters, monitor = run
        now = self._criterion(parameters, data, self._rows(data, full_batch))
        if self.objective.judged_each_update:
            target = monitor.convergence_target
            last_above = monitoring.update(monitor.last_above, target, now, step)
            monitor = monitor._replace(last_above=last_above)
        return monitor._replace(loss=now.loss)

    def _criterion(self, parameters: Parameters, data: Data, full_batch: Any) -> Criterion:
        loss = _monitored_loss(self.objective, parameters, data, full_batch)
        return monitoring.criterion(
            parameters, data.convergence_target, loss, single_unit=self.single_unit
        )


def _monitored_loss(
    objective: Objective, parameters: Parameters, data: Data, full_batch: Any
) -> Array:
    """Return the full-data loss by which convergence is judged.

    For a linear model with an L2 penalty, the penalised loss above its own minimum: the loss of
    the distance from there, and the penalty on that distance.
    """
    best = data.penalised_optimum
    if best is None:
        return objective.monitored_loss(parameters, data.maps, full_batch)
    weights = monitoring.weights_of(parameters, len(best.weight))
    maps = data.maps._replace(ols_coefficient=best.coefficient)
    l2 = jnp.where(data.l1 > 0, 0, data.l2)  # with an L1 penalty no least loss is known
    loss = objective.monitored_loss(parameters, maps, full_batch)
    return loss + l2 * sum(part**2 for part in monitoring.distance(weights, best.weight))


def _with_penalty(gradient: Parameters, parameters: Parameters, data: Data) -> Parameters:
    """Return the gradient of loss + l1 sum |w| + l2 sum w², over every weight and no bias."""

    def of(path: Any, slope: Array, weight: Array) -> Array:
        if jax.tree_util.DictKey("kernel") not in path:
            return slope
        return slope + data.l1 * jnp.sign(weight) + 2 * data.l2 * weight

    return jax.tree_util.tree_map_with_path(of, gradient, parameters)


def _hessian(objective: Objective, parameters: Parameters, data: Data, batch: Any) -> Array:
    """Return the Hessian of each run's loss on a batch, (p, p, C, S), columns by `jax.jvp`."""
    leaves, tree = jax.tree.flatten(parameters)
    runs = leaves[0].shape[-2:]
    ends = np.cumsum([leaf[..., 0, 0].size for leaf in leaves])

    def gradient(p: Parameters) -> Array:
        parts = jax.tree.leaves(objective.value_and_gradient(p, data.maps, batch)[1])
        return jnp.concatenate([part.reshape(-1, *runs) for part in parts])

    def column(direction: Array) -> Array:
        parts = jnp.split(jnp.broadcast_to(direction[:, None, None], (ends[-1], *runs)), ends[:-1])
        tangent = jax.tree.unflatten(
            tree, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        )
        return jax.jvp(gradient, (parameters,), (tangent,))[1]

    with models.twice_differentiable():
        return jax.vmap(column)(jnp.eye(ends[-1], dtype=leaves[0].dtype))
