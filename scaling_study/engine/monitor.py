"""Summaries of a run that are updated while it trains and do not grow with the updates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import models
from scaling_study.engine.models import Parameters
from scaling_study.engine.objective import Array
from scaling_study.study.conditions import WRITTEN_OUT

PerFeature = Any  # a list of an array of runs for each feature; of many features, one array

DIVERGED_ABOVE = 1e6  # times the initial loss, or that of the best constant


class Info(NamedTuple):
    """What one update emits: the batch's loss before it, and each feature's gradient norm."""

    loss: Array
    gradient_norm: PerFeature


class Criterion(NamedTuple):
    """The quantities by which convergence is judged, arrays (C, S)."""

    loss: Array  # full-data `monitored_loss`, with the penalties that are minimised
    distance: PerFeature  # for a single unit, of each weight from its best value


class Target(NamedTuple):
    """Upper bounds for a converged run, NaN where there are none; and what they refer to."""

    loss: Array  # (C, S), bound on `Criterion.loss`
    distance: Array  # (d, C, S), bound on `Criterion.distance`
    weight: Array  # (d, C, S), best: least squares, or maximum likelihood for two classes
    null: Array  # (C, S), loss of the best constant prediction


class Monitor(NamedTuple):
    """Running summaries of a block of runs, arrays (C, S)."""

    divergence_threshold: Array  # loss above which a run has diverged
    convergence_target: Criterion  # upper bounds for a converged run, and for each of its features
    # Last update at which the bound was exceeded, int32; -1 if never. Where runs are judged at the
    # end of each epoch, the last one before they were judged again: at most that of another epoch.
    last_above: Criterion
    initial_loss: Array  # `Criterion.loss` at the start
    loss: Array  # and at the end
    norm_init: PerFeature  # gradient norm on the full data at the start
    norm_first_epoch: PerFeature  # its mean over the first epoch's updates
    norm_sum: PerFeature  # its sum over all updates


class Trace(NamedTuple):
    """Thinned histories of the first T seeds, arrays (n_points, C, T) or (n_points, T, C)."""

    mean: Info  # over the epoch's updates
    loss: Array | None  # full-data `monitored_loss` after the epoch
    weight: PerFeature  # for a single unit, after the epoch


def feature_norms(gradient: Parameters, features: int) -> PerFeature:
    """Return the norm of the first kernel's gradient row of each feature."""
    kernel = models.first_kernel(gradient, features)
    if is_array(kernel, features):
        return jnp.sqrt(jnp.sum(jnp.square(kernel), axis=1))
    if len(kernel[0]) == 1:
        return [jnp.abs(kernel[j][0]) for j in range(features)]
    return [jnp.sqrt(jnp.sum(jnp.square(kernel[j]), axis=0)) for j in range(features)]


def weights_of(parameters: Parameters, features: int) -> PerFeature:
    """Return the weights of a linear model."""
    kernel = models.first_kernel(parameters, features)
    return kernel[:, 0] if is_array(kernel, features) else [kernel[j][0] for j in range(features)]


def is_array(kernel: Any, features: int) -> bool:
    """Return whether what is kept of each feature is one array: of one run, or many features."""
    return not isinstance(kernel, list) and (kernel.ndim == 2 or features > WRITTEN_OUT)


def distance(weights: PerFeature, best: Array) -> PerFeature:
    """Return the difference of each weight from its best value, (d, C, S)."""
    if isinstance(weights, list):
        return [w - best[j] for j, w in enumerate(weights)]
    return weights - best


def criterion(
    parameters: Parameters, target: Target, loss: Array, *, single_unit: bool
) -> Criterion:
    """Return the criterion of a block of runs from their parameters and monitored loss."""
    if not single_unit:
        return Criterion(loss, [])
    weights = weights_of(parameters, len(target.weight))
    return Criterion(loss, jax.tree.map(jnp.abs, distance(weights, target.weight)))


def start(now: Criterion, full: Info, target: Target) -> Monitor:
    """Return the monitor before the first update, from the full-data loss and gradient."""
    zeros = jax.tree.map(jnp.zeros_like, full.gradient_norm)
    # An infinite initial loss exceeds every threshold, so that the run ends there.
    threshold = DIVERGED_ABOVE * jnp.maximum(full.loss, target.null)
    threshold = jnp.minimum(threshold, jnp.finfo(full.loss.dtype).max)
    bound = target.distance
    if isinstance(now.distance, list):
        bound = [bound[j] for j in range(len(now.distance))]
    return Monitor(
        divergence_threshold=jnp.where(jnp.isfinite(full.loss), threshold, jnp.nan),
        convergence_target=Criterion(target.loss, bound),
        last_above=jax.tree.map(lambda x: jnp.full(x.shape, -1, jnp.int32), now),
        initial_loss=now.loss,
        loss=now.loss,
        norm_init=full.gradient_norm,
        norm_first_epoch=zeros,
        norm_sum=zeros,
    )


def update(
    last_above: Criterion, target: Criterion, now: Criterion, step: Array, active: Any = True
) -> Criterion:
    """Return ``last_above`` after an update; NaN exceeds every bound."""
    return jax.tree.map(
        lambda last, bound, value: jnp.where(active & ~(value <= bound), step, last),
        last_above,
        target,
        now,
    )


def add_epoch(monitor: Monitor, epoch: Array, total: PerFeature, mean: PerFeature) -> Monitor:
    """Return the monitor with the gradient norms of another epoch."""
    return monitor._replace(
        norm_first_epoch=jax.tree.map(
            lambda first, now: jnp.where(epoch == 0, now, first), monitor.norm_first_epoch, mean
        ),
        norm_sum=jax.tree.map(jnp.add, monitor.norm_sum, total),
    )


def empty_trace(
    points: tuple[int, ...],
    runs: tuple[int, ...],
    features: int,
    dtype: Any,
    *,
    linear: bool,
    curves: bool,
    as_list: bool = True,
) -> Trace:
    """Return a trace of zeros; ``curves`` has no full-data loss."""
    run = jnp.zeros((*points, *runs), dtype)
    each = [run] * features if as_list else jnp.zeros((*points, features, *runs), dtype)
    if curves:
        return Trace(Info(run, each), None, [])
    return Trace(Info(run, each), run, each if linear else [])


def write(trace: Trace, now: Trace, point: Array) -> Trace:
    """Return the trace with the traced runs of ``now`` written at a point."""
    outer, inner = trace.mean.loss.shape[-2:]
    return jax.tree.map(
        lambda buffer, value: jax.lax.dynamic_update_index_in_dim(
            buffer, value[..., :outer, :inner], point, axis=0
        ),
        trace,
        now,
    )


def to_array(features: Any) -> np.ndarray:
    """Return the arrays of each feature as one, the feature's axis before (C, S)."""
    return np.stack(features, axis=-3) if isinstance(features, list) else features
