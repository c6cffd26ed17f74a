"""A group's program: its chunk's tiles, one after the other, from initial parameters on."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from scaling_study.engine import models, objective, optimizers, train, watch
from scaling_study.engine.batching import Batching
from scaling_study.engine.tiles import Tiles
from scaling_study.engine.train import Data, Loop, Training
from scaling_study.engine.watch import Trace
from scaling_study.study.conditions import TRACED_SEEDS, Group, problem_of, shape_of

LONG_EPOCH = 8  # batches; a visit to all rows would cost more than the update beside it


def objective_of(own: Group, model: Any, seeds_last: bool) -> objective.Objective:
    """Return the objective that a group's conditions are trained on."""
    static = own.static
    samples, features = shape_of(static.problem)
    batching = Batching(samples, static.batch_size, static.sampling == "replacement")
    if static.objective == "moments":
        return objective.moments(features, batching, seeds_last=seeds_last)
    by_row = jax.default_backend() == "cpu" and isinstance(model, models.MLP)
    problem = problem_of(static.problem)
    visit = partial(objective.cross_entropy, classes=problem.classes)
    visit = visit if problem.classes else objective.samples
    loss = visit(model, batching, seeds_last=seeds_last, by_row=by_row)
    # All rows are many times a batch there; other problems keep the bits they had.
    return loss._replace(spared=problem.held_out is not None or batching.batches >= LONG_EPOCH)


def functions(
    own: Group, loop: Loop, tiles: Tiles
) -> tuple[Callable[[], Trace], Callable[..., Training], Callable[..., Training]]:
    """Return the pure functions of a chunk's training, tile by tile.

    Returns
    -------
    blank : callable
        ``() -> Trace`` of the whole chunk.
    first : callable
        ``(trace, seeds, data, order, count) -> Training``: begin, and train ``count`` epochs,
        writing over the trace; points after a tile has ended are as they were.
    more : callable
        ``(training, data, order, count) -> Training``: train ``count`` epochs more.
    """
    static = own.static
    model = models.build(static.model, problem_of(static.problem).classes)
    factory = optimizers.build(static.optimizer, static.dialect)
    loss = objective_of(own, model, tiles.seeds_last)
    begin, advance = train.make_train(model, loss, factory, loop, penalised=static.penalised)
    exploded = static.objective == "moments" and optimizers.is_elementwise(factory)
    shared = () if static.transformed else ("u", "residual")

    def by_tile(
        start: Callable[..., Training],
        data: Data,
        order: Any,
        count: Any,
        carried: Any,
        trace: Trace,
    ) -> Training:
        """Train tile by tile; all write into one trace, so that it is never copied.

        ``start(data, trace, carried, of_seeds) -> Training`` is how a tile begins.
        """

        def seed_tile(trace: Trace, x: Any) -> tuple[Trace, Training]:
            data, order, carried, of_seeds = x
            of_all = {name: getattr(data, name) for name in shared}
            batches = None
            if order is not None and shared:
                batches = loss.prepare(data.u, data.residual, order)

            def tile(trace: Trace, x: Any) -> tuple[Trace, Training]:
                data, carried = x
                data, own_batches = data._replace(**of_all), batches
                if order is not None and not shared:
                    own_batches = loss.prepare(data.u, data.residual, order)
                begun = start(data, trace, carried, of_seeds)
                training = advance(begun, data, own_batches, count)
                return training.trace, training._replace(trace=None)

            own_data = data._replace(**dict.fromkeys(shared))
            return jax.lax.scan(tile, trace, (own_data, carried))

        inputs, of_seeds = carried
        lead = jax.tree.leaves(trace)[0].shape[:3]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), trace)
        flat, training = jax.lax.scan(seed_tile, flat, (data, order, inputs, of_seeds))
        trace = jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), flat)
        return training._replace(trace=trace)

    def blank() -> Trace:
        traced = tiles.seeds if loop.curves else min(tiles.seeds, TRACED_SEEDS)
        wide = own.shape.conditions // tiles.conditions
        runs = (tiles.conditions, traced) if tiles.seeds_last else (traced, tiles.conditions)
        return watch.empty_trace(
            (own.shape.seeds // tiles.seeds, wide, loop.slots),
            runs,
            loop.features,
            static.dtype,
            linear=models.is_unit(model),
            curves=loop.curves,
        )

    def first(trace: Trace, seeds: Any, data: Data, order: Any, count: Any) -> Training:
        outer, inner, *runs = data.numbers.intercept.shape
        conditions = -2 if tiles.seeds_last else -1

        def start(data: Data, trace: Trace, first_slot: Any, seeds: Any) -> Training:
            drawn = train.initial_parameters(model, seeds, loop.features, static.dtype)
            parameters = jax.tree.map(
                lambda x: jnp.broadcast_to(jnp.expand_dims(x, conditions), (*x.shape[:-1], *runs)),
                drawn,
            )
            parameters = objective.explode(parameters) if exploded else parameters
            return begin(parameters, data, trace, first_slot)

        slots = loop.slots * jnp.arange(outer * inner, dtype=jnp.int32).reshape(outer, inner)
        return by_tile(start, data, order, count, (slots, seeds), trace)

    def more(training: Training, data: Data, order: Any, count: Any) -> Training:
        def start(data: Data, trace: Trace, before: Training, _: Any) -> Training:
            return before._replace(trace=trace)

        carried = (training._replace(trace=None), None)
        return by_tile(start, data, order, count, carried, training.trace)

    return blank, first, more
