"""The objective: mean squared error of a batch, for a block of runs at once.

Arrays of a block of runs end in two axes, conditions C and seeds S, the longer one last so
that loops read contiguous memory: (C, S) below stands for either order. What all conditions
of a seed share has an axis of 1 in place of C. Two ways to compute the same number:

`samples`
    visits the rows of the batch through the model; for any Flax module and any data.
`moments`
    needs only second moments of the batch; for a linear model and an affine scaler. With
    ``z = (u, 1, residual)`` and ``v`` the parameters' distance from the least-squares
    solution in u's units, followed by the bias' and by -1 / target_divisor, the error of a
    row is ``v · z`` and the loss is ``v' M v`` with ``M = mean z z'``. M is (d+2)² numbers a
    batch, whatever the batch's size, and every condition of a seed shares it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling_study.engine import models
from scaling_study.engine.batching import Batching
from scaling_study.engine.models import Parameters

Array = jax.Array


class Numbers(NamedTuple):
    """What distinguishes the runs of a block; see `experiment.draws.Encoding`.

    Attributes
    ----------
    gain, shift, slope : Array of shape (d, C, S)
    intercept, target_divisor, loss_ols : Array of shape (C, S)
    """

    gain: Array
    shift: Array
    slope: Array
    intercept: Array
    target_divisor: Array
    loss_ols: Array


class Objective(NamedTuple):
    """Pure functions of a block of runs.

    Attributes
    ----------
    prepare : callable
        ``prepare(u, residual, order) -> batches``: what the loss needs of each batch; leads
        with (n_epochs, n_batches). An order is what `Batching` says.
    whole : callable
        ``whole(u, residual) -> batch``: the batch that is all of the data.
    value_and_gradient : callable
        ``(parameters, numbers, batch) -> loss (C, S), gradient`` of each run by itself.
    excess : callable
        ``(parameters, numbers, whole) -> (C, S)``: the full-data loss above the least-squares
        loss; for a linear model without subtracting two near-equal numbers.
    """

    prepare: Callable[[Array, Array, Array], Any]
    whole: Callable[[Array, Array], Any]
    value_and_gradient: Callable[[Parameters, Numbers, Any], tuple[Array, Parameters]]
    excess: Callable[[Parameters, Numbers, Any], Array]


def samples(
    model: nn.Module, batching: Batching, *, seeds_last: bool, transformed: bool = False
) -> Objective:
    """Return the objective that visits the rows of each batch.

    Parameters
    ----------
    model : flax.linen.Module
        Maps (n_rows, n_features) to (n_rows,).
    batching : Batching
        How an order becomes batches.
    seeds_last : bool
        Whether blocks are (C, S) or (S, C).
    transformed : bool
        Whether each condition has data of its own, u of shape (C, S, N, d).
    """

    def prepare(u: Array, residual: Array, order: Array) -> Any:
        rows, shares = batching.rows(order)
        gather = jax.vmap(lambda data, rows: data[rows])
        if transformed:
            gather = jax.vmap(gather, in_axes=(0, None))
        axes = (2, 3) if transformed else (1, 2)
        u, residual = (jnp.moveaxis(gather(data, rows), axes, (0, 1)) for data in (u, residual))
        shares = jnp.asarray(shares, residual.dtype)
        return u, residual, jnp.broadcast_to(shares, (u.shape[0], *shares.shape))

    def whole(u: Array, residual: Array) -> Any:
        return u, residual, jnp.full(residual.shape[-1], 1 / residual.shape[-1], residual.dtype)

    def over_runs(function: Callable[..., Any]) -> Callable[..., Any]:
        of_condition = (0, 0, None) if transformed else None
        of_seed = (1, 1, None) if transformed else (0, 0, None)
        seeds = -1 if seeds_last else -2
        over_conditions = jax.vmap(function, in_axes=(-1, -1, of_condition), out_axes=-1)
        return jax.vmap(over_conditions, in_axes=(seeds, seeds, of_seed), out_axes=seeds)

    def errors(parameters: Parameters, numbers: Numbers, u: Array, residual: Any) -> Array:
        target = u @ numbers.slope + numbers.intercept + residual / numbers.target_divisor
        return model.apply(parameters, u * numbers.gain + numbers.shift) - target

    def loss(parameters: Parameters, numbers: Numbers, batch: Any) -> Array:
        u, residual, weights = batch
        return jnp.sum(weights * errors(parameters, numbers, u, residual) ** 2)

    def excess(parameters: Parameters, numbers: Numbers, batch: Any) -> Array:
        if not models.is_linear(model):
            return loss(parameters, numbers, batch) - numbers.loss_ols
        # Least-squares residuals are orthogonal to every affine function of the inputs.
        u, _, weights = batch
        return jnp.sum(weights * errors(parameters, numbers, u, 0.0) ** 2)

    return Objective(prepare, whole, over_runs(jax.value_and_grad(loss)), over_runs(excess))


def moments(features: int, batching: Batching, *, seeds_last: bool) -> Objective:
    """Return the objective of a linear model that needs only second moments of each batch.

    It reads kernel and bias by index and computes with arrays of shape (C, S), so that a
    run's parameters may lie in one array, or each in an array of its own (`explode`).

    Parameters
    ----------
    features : int
        Number of features d.
    batching : Batching
        How an order becomes batches.
    seeds_last : bool
        Whether blocks are (C, S) or (S, C).
    """
    conditions = -2 if seeds_last else -1
    pairs = [(i, j) for i in range(features + 2) for j in range(i, features + 2)]

    def products(u: Array, residual: Array) -> Array:
        z = [*jnp.moveaxis(u, -1, 0), jnp.ones_like(residual), residual]
        return jnp.stack([z[i] * z[j] for i, j in pairs], axis=-1)

    def prepare(u: Array, residual: Array, order: Array) -> Array:
        shares = batching.shares(order, residual.dtype)
        moments = jnp.einsum("skbn,snp->kbps", shares, products(u, residual), precision="highest")
        return jnp.expand_dims(moments, conditions)

    def whole(u: Array, residual: Array) -> Array:
        return jnp.expand_dims(jnp.mean(products(u, residual), axis=1).T, conditions)

    def quadratic(vector: list[Any], moments: Array) -> Array:
        return sum(
            (1 if i == j else 2) * moments[p] * (vector[i] * vector[j])
            for p, (i, j) in enumerate(pairs)
            if i < len(vector) and j < len(vector)
        )  # type: ignore[return-value]

    def distance(parameters: Parameters, numbers: Numbers) -> list[Array]:
        kernel = models.first_kernel(parameters, features)
        weights = [kernel[j][0] for j in range(features)]
        bias = parameters["params"]["Dense_0"]["bias"][0]
        moved = sum(weight * numbers.shift[j] for j, weight in enumerate(weights))
        return [
            *(weight * numbers.gain[j] - numbers.slope[j] for j, weight in enumerate(weights)),
            bias + moved - numbers.intercept,
        ]

    def loss(parameters: Parameters, numbers: Numbers, moments: Array) -> Array:
        return quadratic([*distance(parameters, numbers), -1 / numbers.target_divisor], moments)

    def value_and_gradient(parameters: Parameters, numbers: Numbers, moments: Array) -> Any:
        # Runs do not meet in the loss, so one pull-back of ones is every run's own gradient.
        value, pull_back = jax.vjp(lambda p: loss(p, numbers, moments), parameters)
        # The barrier keeps XLA from computing both again inside each of their many readers.
        return jax.lax.optimization_barrier((value, pull_back(jnp.ones_like(value))[0]))

    def excess(parameters: Parameters, numbers: Numbers, moments: Array) -> Array:
        return quadratic(distance(parameters, numbers), moments)

    return Objective(prepare, whole, value_and_gradient, excess)


def explode(tree: Parameters) -> Parameters:
    """Return the tree with each array (..., C, S) as nested lists of arrays (C, S).

    An array a number keeps XLA's loops over runs contiguous and fused: no slice of a kernel
    has to be taken apart and put together again.
    """
    return jax.tree.map(_nested, tree)


def assemble(tree: Parameters) -> Parameters:
    """Undo `explode`; a tree that was not exploded is returned as it is."""
    return jax.tree.map(_stacked, tree, is_leaf=lambda node: isinstance(node, list))


def _nested(array: Array) -> Any:
    return array if array.ndim == 2 else [_nested(part) for part in array]


def _stacked(node: Any) -> Array:
    return jnp.stack([_stacked(part) for part in node]) if isinstance(node, list) else node
