"""What is watched of a run while it trains: summaries that do not grow with the updates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import models
from scaling_study.engine.models import Parameters
from scaling_study.engine.objective import Array

Features = list[Array]  # a number of each run for each feature

DIVERGED_ABOVE = 1e6  # times the initial loss, or that of the best constant


class Info(NamedTuple):
    """What one update emits: the batch's loss before it, and each feature's gradient norm."""

    loss: Array
    gradient_norm: Features


class Gauge(NamedTuple):
    """What convergence is judged by.

    Attributes
    ----------
    loss : Array of shape (C, S)
        Full-data loss, as `Objective.monitored` has it, with the penalties that are minimised.
    distance : list of Array
        For a single unit, each weight's distance from its best value.
    """

    loss: Array
    distance: list[Array]


class Target(NamedTuple):
    """What a run must come below to have converged; NaN where nothing is asked.

    Attributes
    ----------
    loss : Array of shape (C, S)
        In the terms of `Gauge`.
    distance : Array of shape (d, C, S)
        Of each weight from its best value.
    weight : Array of shape (d, C, S)
        The best weights: least squares, or for two classes maximum likelihood.
    null : Array of shape (C, S)
        Loss of the best constant prediction.
    """

    loss: Array
    distance: Array
    weight: Array
    null: Array


class Watch(NamedTuple):
    """Running summaries of a block of runs.

    Attributes
    ----------
    ceiling : Array of shape (C, S)
        Loss above which a run has diverged.
    target : Gauge
        What a run, and each of its features, must come below to have converged.
    above : Gauge of int32
        Last update at which it was not below; -1 if never.
    initial_loss, loss : Array of shape (C, S)
        Full-data loss at the start, and at the end, in the terms of `Gauge`.
    norm_init, norm_first_epoch, norm_sum : Features
        Gradient norms: on the full data at the start; mean over the first epoch; sum over
        all updates.
    """

    ceiling: Array
    target: Gauge
    above: Gauge
    initial_loss: Array
    loss: Array
    norm_init: Features
    norm_first_epoch: Features
    norm_sum: Features


class Trace(NamedTuple):
    """Thinned histories, arrays (n_slots, C, T), or (n_slots, T, C), of the first T seeds.

    Attributes
    ----------
    mean : Info
        Mean over the epoch's updates.
    loss : Array or None
        Full-data loss after the epoch, as `Objective.monitored` has it.
    weight : list of Array
        For a linear model, its weights after the epoch.
    """

    mean: Info
    loss: Array | None
    weight: list[Array]


def feature_norms(gradient: Parameters, features: int) -> Features:
    """Return the norm of the first kernel's gradient row of each feature."""
    kernel = models.first_kernel(gradient, features)
    if len(kernel[0]) == 1:
        return [jnp.abs(kernel[j][0]) for j in range(features)]
    return [jnp.sqrt(jnp.sum(jnp.square(kernel[j]), axis=0)) for j in range(features)]


def weights_of(parameters: Parameters, features: int) -> list[Array]:
    """Return the weights of a linear model, one array (C, S) each."""
    kernel = models.first_kernel(parameters, features)
    return [kernel[j][0] for j in range(features)]


def gauge(parameters: Parameters, target: Target, loss: Array, unit: bool) -> Gauge:
    """Return where a block of runs stands; ``unit`` says whether each is a single unit."""
    if not unit:
        return Gauge(loss, [])
    weights = weights_of(parameters, len(target.weight))
    return Gauge(loss, [jnp.abs(w - target.weight[j]) for j, w in enumerate(weights)])


def begin(now: Gauge, full: Info, target: Target) -> Watch:
    """Return the summaries of runs that have not been trained yet.

    Parameters
    ----------
    now : Gauge
        Where the runs start.
    full : Info
        Loss and gradient norms on the full data.
    target : Target
    """
    zeros = jax.tree.map(jnp.zeros_like, full.gradient_norm)
    # An infinite loss is above every ceiling, and a run that begins there ends there.
    most = DIVERGED_ABOVE * jnp.maximum(full.loss, target.null)
    most = jnp.minimum(most, jnp.finfo(full.loss.dtype).max)
    return Watch(
        ceiling=jnp.where(jnp.isfinite(full.loss), most, jnp.nan),
        target=Gauge(target.loss, [target.distance[j] for j in range(len(now.distance))]),
        above=jax.tree.map(lambda x: jnp.full(x.shape, -1, jnp.int32), now),
        initial_loss=now.loss,
        loss=now.loss,
        norm_init=full.gradient_norm,
        norm_first_epoch=zeros,
        norm_sum=zeros,
    )


def observe(above: Gauge, target: Gauge, now: Gauge, number: Array, alive: Any = True) -> Gauge:
    """Note the update at which a run that is alive stands above its target; NaN is above."""
    return jax.tree.map(
        lambda last, bound, value: jnp.where(alive & ~(value <= bound), number, last),
        above,
        target,
        now,
    )


def empty_trace(
    slots: tuple[int, ...],
    runs: tuple[int, ...],
    features: int,
    dtype: Any,
    *,
    linear: bool,
    curves: bool,
) -> Trace:
    """Return a trace of runs with nothing written; ``curves`` has no full-data loss."""
    run = jnp.zeros((*slots, *runs), dtype)
    each = [run] * features
    if curves:
        return Trace(Info(run, each), None, [])
    return Trace(Info(run, each), run, each if linear else [])


def write(trace: Trace, now: Trace, slot: Array) -> Trace:
    """Return the trace with the traced runs of ``now`` in a slot, over an earlier epoch's."""
    outer, inner = trace.mean.loss.shape[-2:]
    return jax.tree.map(
        lambda buffer, value: jax.lax.dynamic_update_index_in_dim(
            buffer, value[..., :outer, :inner], slot, axis=0
        ),
        trace,
        now,
    )


def to_array(features: Any) -> np.ndarray:
    """Return the arrays of each feature as one, the feature's axis before (C, S)."""
    return np.stack(features, axis=-3)
