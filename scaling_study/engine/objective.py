"""The objective: mean loss of a batch, squared error or cross-entropy, for a block of runs.

Arrays of a block of runs end in two axes, conditions C and seeds S, the longer one last so that
loops read contiguous memory: (C, S) below stands for either order. An array that all conditions
of a seed share has an axis of 1 in place of C. The inputs are canonical, and the map to a run's
training inputs, ``z = feature_scale u + feature_shift``, is part of its first layer, so that no
large offset has to cancel.

`PerSample`
    evaluates the model on the rows of the batch; for any Flax module and any data. It also is
    the objective of one run, whose arrays lack the two axes: mapped over runs that lead, its
    layers are matrix products with the run as a batch dimension.
`SecondMoments`
    needs only the second moments of the batch; for a linear model, squared error and an affine
    scaler. With ``u = q r``, q orthonormal over all data, ``z = (q, 1, residual)`` and ``v`` the
    parameters' distance from the least-squares solution in q's units, followed by that of the
    bias and by -residual_scale, the error of a row is ``v · z`` and the loss is ``v' M v`` with
    ``M = mean z z'``. M is (d+2)² numbers per batch, whatever the batch's size, and all
    conditions of a seed share it. `MomentMatrices` is the same for more than a few features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from scaling_study.engine import elementary, models
from scaling_study.engine.batching import Batching
from scaling_study.engine.models import Parameters
from scaling_study.study.conditions import WRITTEN_OUT

Array = jax.Array


class AffineMaps(NamedTuple):
    """The maps from canonical coordinates to training units, `scaling_study.study.encoding`.

    For `SecondMoments`, ``feature_scale`` is the triangle ``r feature_scale``, of shape
    (d (d + 1) / 2, C, S) row by row, and ``ols_coefficient`` is multiplied by r.
    """

    feature_scale: Array  # (d, C, S)
    feature_shift: Array  # (d, C, S)
    ols_coefficient: Array  # (d, C, S)
    intercept: Array  # (C, S)
    residual_scale: Array  # (C, S)


class Rows(NamedTuple):
    """The rows of a batch: R places, of which the first ``size`` hold a row."""

    inputs: Array  # (R, d, C or 1, S)
    residual: Array  # (R, C or 1, S); of one run (R,), its target as of `PerSample`
    size: Array


class Places(NamedTuple):
    """Which rows are in a batch, for the runs of each seed."""

    rows: Array  # (S, R)
    size: Array


class RowsOfRun(NamedTuple):
    """Which of the rows of a tile are those of one run, and its target."""

    target: Array  # (N,), as of `PerSample`
    dataset: Array  # the place of its inputs
    seed: Array  # the place of its batches


@dataclass(frozen=True)
class PerSample:
    """The objective that evaluates the model on the rows of each batch.

    Two classes have one logit and a logistic loss, more a softmax over one logit each, in nats.
    The class of a row is its residual. Row by row, the activations of a tile stay in a core's
    first cache. For one run, `prepare` and `full_batch` return what the runs of a tile share, and
    `rows` those of the run. Its target is in training units, less the intercept, and of a linear
    model less the prediction of least squares.
    """

    model: nn.Module  # maps (n_rows, n_features) to (n_rows,) or (n_rows, n_classes)
    batching: Batching
    classes: int = 0  # 0 where the target is a quantity
    seeds_last: bool = True  # whether blocks are (C, S) or (S, C)
    by_row: bool = False  # evaluate one row after the other, not all of a batch at once
    single_run: bool = False  # whether the arrays of a run lack the axes of a block
    judged_each_update = False  # all rows cost more than an update: at the end of each epoch

    @cached_property
    def _linear(self) -> bool:
        return models.is_linear(self.model) and not self.classes

    def prepare(self, inputs: Array, residual: Array, order: Array) -> Rows | Places:
        """Return the rows of each batch; arrays lead with (n_epochs, n_batches)."""
        index = self.batching.rows(order)
        size = jnp.broadcast_to(jnp.asarray(self.batching.sizes, jnp.int32), index.shape[1:3])
        if self.single_run:
            return Places(jnp.moveaxis(index, 0, 2), size)
        take = jax.vmap(lambda data, rows: data[rows])  # over seeds
        take = take if residual.ndim == 2 else jax.vmap(take, in_axes=(0, None))
        inputs, residual = take(inputs, index), take(residual, index)
        return Rows(self._runs_last(inputs, 4), self._runs_last(residual, 3), size)

    def full_batch(self, inputs: Array, residual: Array) -> Any:
        """Return all rows as one batch; for one run, the inputs of each data set, (K, N, d)."""
        if self.single_run:
            return inputs.reshape(-1, *inputs.shape[-2:])
        size = jnp.int32(self.batching.samples)
        return Rows(self._runs_last(inputs, 2), self._runs_last(residual, 1), size)

    def rows(self, inputs: Array, of_run: RowsOfRun, batch: Places | None) -> Rows:
        """Return the rows of a run's batch, or all; they are copied for it alone."""
        if batch is None:
            return Rows(inputs[of_run.dataset], of_run.target, jnp.int32(self.batching.samples))
        index = batch.rows[of_run.seed]
        own, target = (
            x.get(mode="promise_in_bounds")
            for x in (inputs.at[of_run.dataset, index], of_run.target.at[index])
        )
        return Rows(own, target, batch.size)

    def value_and_gradient(self, parameters: Parameters, maps: AffineMaps, rows: Any) -> Any:
        """Return the loss (C, S) of a batch and its gradient, of each run by itself."""
        folded, unfold = jax.vjp(lambda p: self._fold(p, maps), parameters)

        def of_some(rows: Rows, weight: Array) -> tuple[Array, Parameters]:
            # Runs do not meet in the loss, so one pull-back of ones is every run's gradient.
            value, pull_back = jax.vjp(
                lambda p: jnp.sum(weight * self._losses(p, maps, rows), axis=0), folded
            )
            return value, pull_back(jnp.ones_like(value))[0]

        total = self._sum_over(rows, of_some)
        value, gradient = jax.tree.map(lambda part: part / rows.size, total)
        return value, unfold(gradient)[0]

    def monitored_loss(self, parameters: Parameters, maps: AffineMaps, rows: Any) -> Array:
        """Return the full-data loss (C, S) by which convergence is judged.

        For a linear model under squared error, its excess over least squares, without
        subtracting two near-equal numbers; else the loss itself.
        """
        if self._linear:  # whose target is the residual
            # Least-squares residuals are orthogonal to every affine function of the inputs.
            rows = rows._replace(residual=jnp.zeros_like(rows.residual))
        folded = self._fold(parameters, maps)
        total = self._sum_over(
            rows, lambda some, weight: jnp.sum(weight * self._losses(folded, maps, some), axis=0)
        )
        return total / rows.size

    def _runs_last(self, data: Array, lead: int) -> Array:
        """Move the axes of seeds, and of conditions where there is one, to the end."""
        has_conditions = data.ndim == lead + 2
        data = jnp.moveaxis(data, 1 if has_conditions else 0, -1)
        data = jnp.moveaxis(data, 0, -1) if has_conditions else data[..., None]
        return jnp.swapaxes(data, -1, -2) if self.seeds_last else data

    def _fold(self, parameters: Parameters, maps: AffineMaps) -> Parameters:
        """Return the parameters of the same function of canonical inputs, if they are known.

        For a linear model, less the parameters of least squares.
        """
        if not models.can_fold(self.model):
            return parameters
        folded = models.fold(
            self.model, parameters, maps.feature_scale, maps.feature_shift, maps.intercept
        )
        if not self._linear:
            return folded
        layer = folded["params"]["Dense_0"]
        kernel = layer["kernel"] - maps.ols_coefficient[:, None]
        return {"params": {"Dense_0": {**layer, "kernel": kernel}}}

    def _predict(self, folded: Parameters, maps: AffineMaps, inputs: Array) -> Array:
        """Return predictions in training units, less the target's intercept."""
        forward: Any = self.model.apply if self.single_run else models.forward(self.model)
        if models.can_fold(self.model):
            return forward(folded, inputs)
        return forward(folded, inputs * maps.feature_scale + maps.feature_shift) - maps.intercept

    def _losses(self, folded: Parameters, maps: AffineMaps, rows: Rows) -> Array:
        """Return the loss of each row, (R, C, S)."""
        outputs = self._predict(folded, maps, rows.inputs)
        if self.classes == 2:
            return elementary.sigmoid_cross_entropy(outputs, rows.residual)
        if self.classes:
            classes = jnp.arange(self.classes).reshape(-1, *[1] * (rows.residual.ndim - 1))
            one_hot = (rows.residual[:, None] == classes).astype(outputs.dtype)
            return optax.softmax_cross_entropy(outputs, one_hot, axis=1)
        if self.single_run:
            return (outputs - rows.residual) ** 2
        target = rows.residual * maps.residual_scale
        if not self._linear:
            target += jnp.sum(rows.inputs * maps.ols_coefficient, axis=1)
        return (outputs - target) ** 2

    def _sum_over(self, rows: Rows, function: Callable[[Rows, Array], Any]) -> Any:
        """Add up what a function returns for some rows and their weights, 1 or 0."""
        if not self.by_row:
            weight = (jnp.arange(len(rows.inputs)) < rows.size).astype(rows.inputs.dtype)
            return function(rows, weight.reshape(-1, *[1] * (rows.residual.ndim - 1)))

        def one(place: Any) -> Any:
            inputs, residual = (
                jax.lax.dynamic_slice_in_dim(x, place, 1) for x in (rows.inputs, rows.residual)
            )
            return function(Rows(inputs, residual, rows.size), jnp.ones((), inputs.dtype))

        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, 0))
        return jax.lax.fori_loop(
            0, rows.size, lambda place, total: jax.tree.map(jnp.add, total, one(place)), zeros
        )


@dataclass(frozen=True)
class SecondMoments:
    """The objective of a linear model that needs only the second moments of each batch.

    Of a batch, 2 M is kept, so that ``2 M v``, the gradient, is one product. The inputs are q, the
    orthonormal columns of `canonical.orthogonal`. Kernel and bias are read by index, in arrays of
    shape (C, S), so that a run's parameters may be one array, or one array each (`unstack`).
    """

    features: int
    batching: Batching
    seeds_last: bool = True  # whether blocks are (C, S) or (S, C)
    judged_each_update = True

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        size = self.features + 2
        return [(i, j) for i in range(size) for j in range(i, size)]

    def prepare(self, q: Array, residual: Array, order: Array) -> Array:
        """Return the moments of each batch; arrays lead with (n_epochs, n_batches)."""
        weights = self.batching.weights(order, residual.dtype)
        products = self._products(q, residual)
        moments = jnp.einsum("skbn,snp->kbps", weights, products, precision="highest")
        return self._with_conditions(2 * moments)

    def full_batch(self, q: Array, residual: Array) -> Array:
        """Return the moments of all rows."""
        return self._with_conditions(2 * jnp.mean(self._products(q, residual), axis=1).T)

    def value_and_gradient(self, parameters: Parameters, maps: AffineMaps, moments: Any) -> Any:
        """Return the loss (C, S) of a batch and its gradient, of each run by itself."""
        distance, pull_back = jax.vjp(lambda p: self._distance(p, maps), parameters)
        vector = [*distance, -maps.residual_scale]
        place = {pair: number for number, pair in enumerate(self._pairs)}
        products = [  # 2 M v, the gradient of v' M v
            sum(moments[place[min(i, j), max(i, j)]] * x for j, x in enumerate(vector))
            for i in range(len(vector))
        ]
        value = sum(x * product for x, product in zip(vector, products, strict=True)) / 2
        gradient = pull_back(products[:-1])[0]
        # The barrier keeps XLA from computing both again inside each of their many readers.
        return jax.lax.optimization_barrier((value, gradient))

    def monitored_loss(self, parameters: Parameters, maps: AffineMaps, moments: Any) -> Array:
        """Return the full-data excess loss (C, S) over least squares."""
        return sum(part * part for part in self._distance(parameters, maps))  # type: ignore[return-value]

    def _with_conditions(self, moments: Array) -> Array:
        return jnp.expand_dims(moments, -2 if self.seeds_last else -1)

    def _products(self, q: Array, residual: Array) -> Array:
        z = [*jnp.moveaxis(q, -1, 0), jnp.ones_like(residual), residual]
        return jnp.stack([z[i] * z[j] for i, j in self._pairs], axis=-1)

    def _distance(self, parameters: Parameters, maps: AffineMaps) -> list[Array]:
        """Return the distance from least squares of each weight, in q's units, and the bias."""
        features = range(self.features)
        kernel = models.first_kernel(parameters, self.features)
        weights = [kernel[j][0] for j in features]
        bias = parameters["params"]["Dense_0"]["bias"][0]
        shift = sum(weight * maps.feature_shift[j] for j, weight in enumerate(weights))
        distance = [-maps.ols_coefficient[j] for j in features]
        triangle = [(i, j) for i in features for j in features[i:]]
        for number, (i, j) in enumerate(triangle):
            distance[i] += weights[j] * maps.feature_scale[number]
        return [*distance, bias + shift - maps.intercept]


@dataclass(frozen=True)
class MomentMatrices:
    """`SecondMoments` of more features: arrays and loops, which compile fast at any width.

    Of a batch, M itself is kept.

    ``AffineMaps.feature_scale`` is the whole matrix, (d, d, C, S), transposed: an axis of columns
    of r, then one of its rows.
    """

    features: int
    batching: Batching
    seeds_last: bool = True  # whether blocks are (C, S) or (S, C)
    judged_each_update = True

    def prepare(self, q: Array, residual: Array, order: Array) -> Array:
        """Return the moments of each batch; arrays lead with (n_epochs, n_batches)."""
        index, size = self.batching.rows(order), self.batching.sizes[:, None]
        weight = jnp.asarray((np.arange(index.shape[-1]) < size) / size, residual.dtype)
        rows = jax.vmap(lambda data, places: data[places])(_columns(q, residual), index)
        return self._mean(rows * weight[..., None], rows, "skbri,skbrj->kbijs")

    def full_batch(self, q: Array, residual: Array) -> Array:
        """Return the moments of all rows."""
        z = _columns(q, residual)
        return self._mean(z / z.shape[1], z, "sni,snj->ijs")

    def value_and_gradient(self, parameters: Parameters, maps: AffineMaps, moments: Any) -> Any:
        """Return the loss (C, S) of a batch and its gradient, of each run by itself."""
        vector = jnp.concatenate([self._distance(parameters, maps), -maps.residual_scale[None]])
        product = models.contract(vector[None], moments)[0]  # M v, half of the gradient
        of_weights, of_bias = 2 * product[:-2], 2 * product[-2]
        kernel = models.contract(of_weights[None], jnp.swapaxes(maps.feature_scale, 0, 1))[0]
        layer = {
            "kernel": (kernel + maps.feature_shift * of_bias)[:, None],
            "bias": of_bias[None],
        }
        return models.add_up(vector * product), {"params": {"Dense_0": layer}}

    def monitored_loss(self, parameters: Parameters, maps: AffineMaps, moments: Any) -> Array:
        """Return the full-data excess loss (C, S) over least squares."""
        return models.add_up(jnp.square(self._distance(parameters, maps)))

    def _mean(self, weighted: Array, z: Array, axes: str) -> Array:
        moments = jnp.einsum(axes, weighted, z, precision="highest")
        return jnp.expand_dims(moments, -2 if self.seeds_last else -1)

    def _distance(self, parameters: Parameters, maps: AffineMaps) -> Array:
        """Return the distance from least squares of each weight, in q's units, and the bias."""
        layer = parameters["params"]["Dense_0"]
        kernel = layer["kernel"][:, 0]
        weights = models.contract(kernel[None], maps.feature_scale)[0] - maps.ols_coefficient
        bias = layer["bias"][0] + models.add_up(kernel * maps.feature_shift) - maps.intercept
        return jnp.concatenate([weights, bias[None]])


Objective = PerSample | SecondMoments | MomentMatrices


def of_moments(
    features: int, batching: Batching, seeds_last: bool = True
) -> SecondMoments | MomentMatrices:
    """Return the objective that needs only second moments."""
    form = SecondMoments if features <= WRITTEN_OUT else MomentMatrices
    return form(features, batching, seeds_last)


def _columns(q: Array, residual: Array) -> Array:
    """Return z = (q, 1, residual), (S, N, d + 2)."""
    return jnp.concatenate([q, jnp.ones_like(q[..., :1]), residual[..., None]], axis=-1)


def unstack(tree: Parameters) -> Parameters:
    """Return the tree with each array (..., C, S) as nested lists of arrays (C, S).

    One array per parameter keeps XLA's loops over runs contiguous and fused.
    """
    return jax.tree.map(_nested, tree)


def stack(tree: Parameters, xp: Any = jnp) -> Parameters:
    """Undo `unstack`; a tree of arrays is returned as it is. ``xp`` is NumPy or its like."""

    def stacked(node: Any) -> Any:
        return xp.stack([stacked(part) for part in node]) if isinstance(node, list) else node

    return jax.tree.map(stacked, tree, is_leaf=lambda node: isinstance(node, list))


def _nested(array: Array) -> Any:
    return array if array.ndim == 2 else [_nested(part) for part in array]
