"""The objective: mean loss of a batch, squared error or cross-entropy, for a block of runs.

Arrays of a block of runs end in two axes, conditions C and seeds S, the longer one last so
that loops read contiguous memory: (C, S) below stands for either order. What all conditions
of a seed share has an axis of 1 in place of C. Inputs are in canonical coordinates u, and the
map to a run's training inputs, ``z = gain u + shift``, is part of its first layer, so that no
large offset is left to cancel. Two ways to compute the squared error, and a third loss:

`samples`
    visits the rows of the batch through the model; for any Flax module and any data.
`moments`
    needs only second moments of the batch; for a linear model and an affine scaler. With
    ``u = q r``, q orthonormal over all data, ``z = (q, 1, residual)`` and ``v`` the parameters'
    distance from the least-squares solution in q's units, followed by the bias' and by
    -residual_scale, the error of a row is ``v · z`` and the loss is ``v' M v`` with
    ``M = mean z z'``. M is (d+2)² numbers a batch, whatever the batch's size, and every condition
    of a seed shares it.
`cross_entropy`
    visits the rows likewise, where the target is a class.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from scaling_study.engine import models
from scaling_study.engine.batching import Batching
from scaling_study.engine.models import Parameters

Array = jax.Array


class Numbers(NamedTuple):
    """What distinguishes the runs of a block; see `scaling_study.study.encoding.Encoding`.

    Attributes
    ----------
    gain, shift, slope : Array of shape (d, C, S)
        For `moments`, gain is the triangle ``r gain`` of shape (d (d + 1) / 2, C, S), row by
        row, and slope is ``r slope``.
    intercept, residual_scale : Array of shape (C, S)
    """

    gain: Array
    shift: Array
    slope: Array
    intercept: Array
    residual_scale: Array


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
    monitored : callable
        ``(parameters, numbers, whole) -> (C, S)``: the full-data loss that convergence is judged
        by. Of a linear model under squared error, how far it lies above least squares, without
        subtracting two near-equal numbers; else the loss itself.
    spared : bool
        Whether the monitored loss, which visits all rows, is left out between updates where no
        run of a tile has a target.
    """

    prepare: Callable[[Array, Array, Array], Any]
    whole: Callable[[Array, Array], Any]
    value_and_gradient: Callable[[Parameters, Numbers, Any], tuple[Array, Parameters]]
    monitored: Callable[[Parameters, Numbers, Any], Array]
    spared: bool = False


class Rows(NamedTuple):
    """The rows of a batch: R places, of which the first ``size`` hold a row.

    Attributes
    ----------
    u : Array of shape (R, d, C or 1, S)
    residual : Array of shape (R, C or 1, S)
    size : Array
        Number of rows.
    """

    u: Array
    residual: Array
    size: Array


def samples(
    model: nn.Module, batching: Batching, *, seeds_last: bool, by_row: bool = False
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
    by_row : bool
        Visit one row after the other, not all of a batch at once: the activations of a tile
        stay in a core's first cache then.
    """
    linear = models.is_linear(model)
    folded, predict = _predicting(model)

    def distance(parameters: Parameters, numbers: Numbers) -> Parameters:
        """Return folded parameters; of a linear model, less those of least squares."""
        own = folded(parameters, numbers)
        if not linear:
            return own
        layer = own["params"]["Dense_0"]
        return {
            "params": {"Dense_0": {**layer, "kernel": layer["kernel"] - numbers.slope[:, None]}}
        }

    def squares(parameters: Parameters, numbers: Numbers, rows: Rows) -> Array:
        target = rows.residual * numbers.residual_scale
        if not linear:
            target += jnp.sum(rows.u * numbers.slope, axis=1)
        return (predict(parameters, numbers, rows.u) - target) ** 2

    return _visiting(
        distance, squares, batching, seeds_last=seeds_last, by_row=by_row, linear=linear
    )


def cross_entropy(
    model: nn.Module, batching: Batching, classes: int, *, seeds_last: bool, by_row: bool = False
) -> Objective:
    """Return the mean cross-entropy of a batch, in nats; parameters are those of `samples`.

    Two classes have one logit and a logistic loss, more a softmax over a logit each. The class
    is a row's residual.
    """
    folded, predict = _predicting(model)

    def entropies(parameters: Parameters, numbers: Numbers, rows: Rows) -> Array:
        logits = predict(parameters, numbers, rows.u)
        if classes == 2:
            return optax.sigmoid_binary_cross_entropy(logits, rows.residual)
        named = rows.residual[:, None] == jnp.arange(classes)[:, None, None]
        return optax.softmax_cross_entropy(logits, named.astype(logits.dtype), axis=1)

    return _visiting(
        folded, entropies, batching, seeds_last=seeds_last, by_row=by_row, linear=False
    )


def _predicting(model: nn.Module) -> tuple[Callable[..., Parameters], Callable[..., Array]]:
    """Return ``fold(parameters, numbers)``, and ``predict(folded, numbers, u)``.

    Predictions are in training units, less the target's intercept. The map from u to the training
    inputs is part of the first layer where that is known, and a step before the model otherwise.
    """
    forward = models.forward(model)
    if models.can_fold(model):
        return (
            lambda parameters, numbers: models.fold(
                model, parameters, numbers.gain, numbers.shift, numbers.intercept
            ),
            lambda folded, numbers, u: forward(folded, u),
        )

    def predict(parameters: Parameters, numbers: Numbers, u: Array) -> Array:
        return forward(parameters, u * numbers.gain + numbers.shift) - numbers.intercept

    return lambda parameters, numbers: parameters, predict


def _visiting(
    folded: Callable[[Parameters, Numbers], Parameters],
    losses: Callable[[Parameters, Numbers, Rows], Array],
    batching: Batching,
    *,
    seeds_last: bool,
    by_row: bool,
    linear: bool,
) -> Objective:
    """Return the mean over rows of what ``losses`` says of each, an array (R, C, S).

    ``folded`` are the parameters as ``losses`` takes them.
    """

    def of_runs(data: Array, lead: int) -> Array:
        """Move the axes of seeds, and of conditions where there is one, to the end."""
        has_conditions = data.ndim == lead + 2
        data = jnp.moveaxis(data, 1 if has_conditions else 0, -1)
        data = jnp.moveaxis(data, 0, -1) if has_conditions else data[..., None]
        return jnp.swapaxes(data, -1, -2) if seeds_last else data

    def prepare(u: Array, residual: Array, order: Array) -> Rows:
        index = batching.rows(order)
        take = jax.vmap(lambda data, rows: data[rows])  # over seeds
        take = take if residual.ndim == 2 else jax.vmap(take, in_axes=(0, None))
        size = jnp.broadcast_to(jnp.asarray(batching.sizes, jnp.int32), index.shape[1:3])
        return Rows(of_runs(take(u, index), 4), of_runs(take(residual, index), 3), size)

    def whole(u: Array, residual: Array) -> Rows:
        return Rows(of_runs(u, 2), of_runs(residual, 1), jnp.int32(batching.samples))

    def sum_over(rows: Rows, function: Callable[[Rows, Array], Any]) -> Any:
        """Add up what a function returns for some rows and their weights, 1 or 0."""
        if not by_row:
            weight = (jnp.arange(len(rows.u)) < rows.size).astype(rows.u.dtype)
            return function(rows, weight[:, None, None])

        def one(place: Any) -> Any:
            u, residual = (
                jax.lax.dynamic_slice_in_dim(x, place, 1) for x in (rows.u, rows.residual)
            )
            return function(Rows(u, residual, rows.size), jnp.ones((), u.dtype))

        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, 0))
        return jax.lax.fori_loop(
            0, rows.size, lambda place, total: jax.tree.map(jnp.add, total, one(place)), nothing
        )

    def value_and_gradient(parameters: Parameters, numbers: Numbers, rows: Rows) -> Any:
        own, unfold = jax.vjp(lambda p: folded(p, numbers), parameters)

        def of_some(rows: Rows, weight: Array) -> tuple[Array, Parameters]:
            # Runs do not meet in the loss, so one pull-back of ones is every run's gradient.
            value, pull_back = jax.vjp(
                lambda p: jnp.sum(weight * losses(p, numbers, rows), axis=0), own
            )
            return value, pull_back(jnp.ones_like(value))[0]

        value, gradient = jax.tree.map(lambda total: total / rows.size, sum_over(rows, of_some))
        return value, unfold(gradient)[0]

    def monitored(parameters: Parameters, numbers: Numbers, rows: Rows) -> Array:
        if linear:
            # Least-squares residuals are orthogonal to every affine function of the inputs.
            rows = rows._replace(residual=jnp.zeros_like(rows.residual))
        own = folded(parameters, numbers)
        total = sum_over(rows, lambda some, w: jnp.sum(w * losses(own, numbers, some), axis=0))
        return total / rows.size

    return Objective(prepare, whole, value_and_gradient, monitored)


def moments(features: int, batching: Batching, *, seeds_last: bool) -> Objective:
    """Return the objective of a linear model that needs only second moments of each batch.

    In place of u it takes q, the orthonormal columns of `canonical.orthogonal`. It reads kernel
    and bias by index and computes with arrays of shape (C, S), so that a
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
    place = {pair: number for number, pair in enumerate(pairs)}
    triangle = [(i, j) for i in range(features) for j in range(i, features)]

    def products(q: Array, residual: Array) -> Array:
        z = [*jnp.moveaxis(q, -1, 0), jnp.ones_like(residual), residual]
        return jnp.stack([z[i] * z[j] for i, j in pairs], axis=-1)

    def prepare(u: Array, residual: Array, order: Array) -> Array:
        shares = batching.shares(order, residual.dtype)
        moments = jnp.einsum("skbn,snp->kbps", shares, products(u, residual), precision="highest")
        return jnp.expand_dims(moments, conditions)

    def whole(u: Array, residual: Array) -> Array:
        return jnp.expand_dims(jnp.mean(products(u, residual), axis=1).T, conditions)

    def distance(parameters: Parameters, numbers: Numbers) -> list[Array]:
        kernel = models.first_kernel(parameters, features)
        weights = [kernel[j][0] for j in range(features)]
        bias = parameters["params"]["Dense_0"]["bias"][0]
        moved = sum(weight * numbers.shift[j] for j, weight in enumerate(weights))
        away = [-numbers.slope[j] for j in range(features)]
        for number, (i, j) in enumerate(triangle):
            away[i] += weights[j] * numbers.gain[number]
        return [*away, bias + moved - numbers.intercept]

    def value_and_gradient(parameters: Parameters, numbers: Numbers, moments: Array) -> Any:
        away, pull_back = jax.vjp(lambda p: distance(p, numbers), parameters)
        vector = [*away, -numbers.residual_scale]
        slopes = [  # M v, half of the gradient of v' M v
            sum(moments[place[min(i, j), max(i, j)]] * x for j, x in enumerate(vector))
            for i in range(len(vector))
        ]
        value = sum(x * slope for x, slope in zip(vector, slopes, strict=True))
        # The barrier keeps XLA from computing both again inside each of their many readers.
        return jax.lax.optimization_barrier((value, pull_back([2 * x for x in slopes[:-1]])[0]))

    def monitored(parameters: Parameters, numbers: Numbers, moments: Array) -> Array:
        return sum(part * part for part in distance(parameters, numbers))  # type: ignore[return-value]

    return Objective(prepare, whole, value_and_gradient, monitored)


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
