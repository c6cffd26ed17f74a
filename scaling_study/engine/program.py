"""A group's program: the tiles of a chunk, one after the other, from initial parameters on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import models, monitor, optimizers
from scaling_study.engine.batching import Batching
from scaling_study.engine.models import Parameters
from scaling_study.engine.monitor import Trace
from scaling_study.engine.objective import Objective, PerSample, SecondMoments, of_moments, unstack
from scaling_study.engine.optimizers import BlockOptimizer
from scaling_study.engine.tiles import Tiles
from scaling_study.engine.train import Budget, Data, Trainer, Training, Update
from scaling_study.study.chunk_shapes import FEW_FEATURES, SMALL_NETWORK, Static
from scaling_study.study.component import Component
from scaling_study.study.conditions import TRACED_SEEDS, WRITTEN_OUT, Group, problem_of, shape_of

TILE_BYTES = 2**20  # of parameters, gradients and optimizer state, in a core's second cache
FEWEST_RUNS = 4  # of a tile, even if they are larger: an update's operations cost time of their own


def maps_single_runs(group: Group) -> bool:
    """Return whether a group's layers are matrix products with the run as a batch dimension.

    Otherwise the runs lie side by side in the last axis, row by row on a CPU, which is faster for
    tiny networks of many runs (measured in bench/network.py). This choice depends on the group
    and the kind of device alone, and changes bits.
    """
    static = group.static
    if static.objective == "moments" or _needs_hessian(static.optimizer, static.framework):
        return False
    if jax.default_backend() != "cpu":
        return True
    if static.problem.is_table:  # few runs of many columns, which are slow to compile otherwise
        return True
    few = shape_of(static.problem)[1] <= FEW_FEATURES
    small = few and parameters_of(static) <= SMALL_NETWORK
    return not (small and isinstance(model_of(static), models.MLP))


def is_by_row(group: Group) -> bool:
    """Return whether a group's runs lie side by side, in loops over the rows of a batch."""
    on_cpu = jax.default_backend() == "cpu" and group.static.objective == "samples"
    return on_cpu and not maps_single_runs(group) and isinstance(model_of(group.static), models.MLP)


@lru_cache(maxsize=256)
def _needs_hessian(optimizer: Component, framework: str) -> bool:
    return optimizers.needs_hessian(optimizers.build(optimizer, framework))


def model_of(static: Static) -> nn.Module:
    """Return the model of a group."""
    return models.build(static.model, problem_of(static.problem).classes)


@lru_cache(maxsize=256)
def parameters_of(static: Static) -> int:
    """Return the number of parameters of a run."""
    rows = jax.ShapeDtypeStruct((1, shape_of(static.problem)[1]), jnp.float32)
    shapes = jax.eval_shape(model_of(static).init, jax.random.key(0), rows)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def tiles_of(group: Group) -> Tiles:
    """Return the tiles of a group's chunks."""
    if not maps_single_runs(group):
        return Tiles.of(group.shape)
    per_run = 4 * np.dtype(group.static.dtype).itemsize * parameters_of(group.static)
    return Tiles.of(group.shape, max(FEWEST_RUNS, TILE_BYTES // per_run))


def shares_inputs(group: Group) -> bool:
    """Return whether all runs of a group have one array of inputs."""
    static = group.static
    return static.data_seed != "vary" and not static.transformed and maps_single_runs(group)


def starts_from_function(group: Group) -> bool:
    """Return whether runs of a group start from the same function in every unit."""
    return any(condition.start == "function" for condition in group.conditions)


def objective_of(group: Group, model: nn.Module, *, seeds_last: bool) -> Objective:
    """Return the objective of a group's conditions."""
    static, problem = group.static, problem_of(group.static.problem)
    samples, features = shape_of(static.problem)
    batching = Batching(samples, static.batch_size, static.sampling == "replacement")
    if static.objective == "moments":
        return of_moments(features, batching, seeds_last)
    return PerSample(
        model,
        batching,
        problem.classes,
        seeds_last,
        by_row=is_by_row(group),
        single_run=maps_single_runs(group),
    )


@dataclass(frozen=True)
class ChunkProgram:
    """The pure functions of a chunk's training."""

    group: Group
    budget: Budget
    tiles: Tiles

    @cached_property
    def model(self) -> nn.Module:
        """The model that is trained."""
        return model_of(self.group.static)

    @cached_property
    def trainer(self) -> Trainer:
        """The training of a tile."""
        static = self.group.static
        objective = objective_of(self.group, self.model, seeds_last=self.tiles.seeds_last)
        single_run = isinstance(objective, PerSample) and objective.single_run
        factory = optimizers.build(static.optimizer, static.framework)
        update = Update(objective, BlockOptimizer(factory, single_run), static.penalised)
        return Trainer(update, self.budget, models.is_single_unit(self.model), single_run)

    def blank_trace(self) -> Trace:
        """Return a trace of the whole chunk, for `begin` to write into."""
        tiles, shape = self.tiles, self.group.shape
        traced = tiles.seeds if self.budget.curves else min(tiles.seeds, TRACED_SEEDS)
        runs = (tiles.conditions, traced) if tiles.seeds_last else (traced, tiles.conditions)
        lead = shape.seeds // tiles.seeds, shape.conditions // tiles.conditions
        return monitor.empty_trace(
            (*lead, self.budget.trace_points),
            runs,
            self.budget.features,
            self.group.static.dtype,
            linear=self.trainer.single_unit,
            curves=self.budget.curves,
            as_list=not self.trainer.single_run and self.budget.features <= WRITTEN_OUT,
        )

    def begin(self, trace: Trace, initial: Parameters, data: Data) -> Training:
        """Return the training before its first update, from `initial_of`'s parameters.

        It is written over the trace; points after the end of a tile keep their old values.
        """
        return self.train(trace, initial, data, None, None)

    def train(
        self, trace: Trace, initial: Parameters, data: Data, order: Any, count: Any
    ) -> Training:
        """Begin, and train ``count`` epochs, which is faster than both apart."""
        outer, inner = data.maps.intercept.shape[:2]
        points = self.budget.trace_points * jnp.arange(outer * inner, dtype=jnp.int32)
        carried = points.reshape(outer, inner), initial
        return self._train_tiles(self._begin_tile, data, order, count, carried, trace)

    def resume(self, training: Training, data: Data, order: Any, count: Any) -> Training:
        """Train ``count`` epochs more."""
        carried = training._replace(trace=None), None
        return self._train_tiles(self._resume_tile, data, order, count, carried, training.trace)

    def _begin_tile(
        self, data: Data, trace: Trace, first_trace_point: Any, initial: Any
    ) -> Training:
        runs = data.maps.intercept.shape
        conditions = -2 if self.tiles.seeds_last else -1
        parameters = jax.tree.map(
            lambda x: jnp.broadcast_to(jnp.expand_dims(x, conditions), (*x.shape[:-1], *runs)),
            initial,
        )
        if data.start is not None:
            parameters = models.undo_maps(parameters, *data.start)
        update = self.trainer.update
        if isinstance(update.objective, SecondMoments) and update.optimizer.elementwise:
            parameters = unstack(parameters)
        return self.trainer.init(
            self.trainer.runs_first(parameters), data, trace, first_trace_point
        )

    def _resume_tile(self, data: Data, trace: Trace, before: Training, initial: None) -> Training:
        return self._with_runs(before, self.trainer.runs_first)._replace(trace=trace)

    def _with_runs(self, training: Training, move: Callable[[Any], Any]) -> Training:
        names = ("state", "initial", "monitor")
        return training._replace(**{name: move(getattr(training, name)) for name in names})

    def _train_tiles(
        self,
        start: Callable[..., Training],
        data: Data,
        order: Any,
        count: Any,
        carried: Any,
        trace: Trace,
    ) -> Training:
        """Train ``count`` epochs or none, tile by tile; all write into one trace, never copied.

        ``start(data, trace, carried, initial) -> Training`` begins or resumes a tile.
        """
        inputs, initial = carried
        lead = jax.tree.leaves(trace)[0].shape[:3]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), trace)
        flat, training = jax.lax.scan(
            partial(self._seed_tile, start, count), flat, (data, order, inputs, initial)
        )
        trace = jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), flat)
        return training._replace(trace=trace)

    def _seed_tile(
        self, start: Callable[..., Training], count: Any, trace: Trace, x: Any
    ) -> tuple[Trace, Training]:
        """Train the tiles of a block of seeds, which share data, orders and batches."""
        data, order, carried, initial = x
        names: tuple[str, ...] = ("inputs",) if self.trainer.single_run else ("inputs", "residual")
        if self.group.static.transformed:
            names = ()
        shared = {name: getattr(data, name) for name in names}
        batches = self._prepare(data, order) if shared and count is not None else None

        def tile(trace: Trace, x: Any) -> tuple[Trace, Training]:
            data, carried = x
            data = data._replace(**shared)
            training = start(data, trace, carried, initial)
            if count is not None:
                prepared = batches if shared else self._prepare(data, order)
                training = self.trainer.run(training, data, prepared, count)
            trace = training.trace
            return trace, self._with_runs(training._replace(trace=None), self.trainer.runs_last)

        return jax.lax.scan(tile, trace, (data._replace(**dict.fromkeys(names)), carried))

    def _prepare(self, data: Data, order: Any) -> Any:
        if order is None:
            return None
        return self.trainer.objective.prepare(data.inputs, data.residual, order)
