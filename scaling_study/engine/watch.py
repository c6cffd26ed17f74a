"""What is watched of a run while it trains: summaries that do not grow with the updates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import models
from scaling_study.engine.models import Parameters
from scaling_study.engine.objective import Array, Numbers

Features = list[Array]  # a number of each run for each feature

DIVERGED_ABOVE = 1e6  # times the initial loss
FEATURE_TOLERANCE = 0.1  # share of the initial distance to the least-squares weight


class Info(NamedTuple):
    """What one update emits: the batch's loss before it, and each feature's gradient norm."""

    loss: Array
    gradient_norm: Features


class Gauge(NamedTuple):
    """What convergence is judged by.

    Attributes
    ----------
    excess : Array of shape (C, S)
        Full-data loss above least squares.
    distance : list of Array
        For a linear model, each weight's distance from the least-squares weight.
    """

    excess: Array
    distance: list[Array]


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
    initial_excess, excess : Array of shape (C, S)
        Full-data loss above least squares at the start, and at the end.
    norm_init, norm_first_epoch, norm_sum : Features
        Gradient norms: on the full data at the start; mean over the first epoch; sum over
        all updates.
    """

    ceiling: Array
    target: Gauge
    above: Gauge
    initial_excess: Array
    excess: Array
    norm_init: Features
    norm_first_epoch: Features
    norm_sum: Features


class Trace(NamedTuple):
    """Thinned histories, arrays (n_slots, C, T), or (n_slots, T, C), of the first T seeds.

    Attributes
    ----------
    mean : Info
        Mean over the epoch's updates.
    excess : Array or None
        Full-data loss above least squares, after the epoch.
    weight : list of Array
        For a linear model, its weights after the epoch.
    """

    mean: Info
    excess: Array | None
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


def gauge(parameters: Parameters, numbers: Numbers, excess: Array, linear: bool) -> Gauge:
    """Return where a block of runs stands."""
    if not linear:
        return Gauge(excess, [])
    weights = weights_of(parameters, numbers.gain.shape[0])
    return Gauge(
        excess,
        [jnp.abs(w - numbers.slope[j] / numbers.gain[j]) for j, w in enumerate(weights)],
    )


def begin(now: Gauge, full: Info, tolerance: Array, target_excess: Array) -> Watch:
    """Return the summaries of runs that have not been trained yet.

    Parameters
    ----------
    now : Gauge
        Where the runs start.
    full : Info
        Loss and gradient norms on the full data.
    tolerance : Array of shape (C, 1)
        Share of the initial excess loss that is the target of a linear model.
    target_excess : Array of shape (C, S)
        Explicit target; NaN where there is none.
    """
    known = tolerance * now.excess if now.distance else jnp.full_like(now.excess, jnp.nan)
    target = jnp.where(jnp.isfinite(target_excess), target_excess, known)
    zeros = jax.tree.map(jnp.zeros_like, full.gradient_norm)
    # An infinite loss is above every ceiling, and a run that begins there ends there.
    most = jnp.minimum(DIVERGED_ABOVE * full.loss, jnp.finfo(full.loss.dtype).max)
    return Watch(
        ceiling=jnp.where(jnp.isfinite(full.loss), most, jnp.nan),
        target=Gauge(target, [FEATURE_TOLERANCE * distance for distance in now.distance]),
        above=jax.tree.map(lambda x: jnp.full(x.shape, -1, jnp.int32), now),
        initial_excess=now.excess,
        excess=now.excess,
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
