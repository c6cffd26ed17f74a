"""The importance that a trained run gives each feature: shares of what one method says.

Each method is a pure function of one run, in training units, and is mapped over all runs of a
chunk. A share is ``importance_j / sum of |importance|``; only permutation importance and signed
attributions can be negative. Of these, |W|, Garson, Olden and gradient change with the unit of a
feature, whatever the network computes; the others do not.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import models
from scaling_study.engine.objective import assemble
from scaling_study.engine.train import Training
from scaling_study.experiment import draws
from scaling_study.experiment.conditions import Chunk, Group, problem_of
from scaling_study.experiment.importance import permutations_of, true_shares

Array = jax.Array
STEPS, STEPS_OF_KINKS = 128, 1024  # from the mean to a row, of the integral
# The activations whose slope has no kink: that of elu, celu and soft_sign has one at 0.
SMOOTH = ("gelu", "identity", "log_sigmoid", "sigmoid", "silu", "softplus", "swish", "tanh")
FLAT = 1e-3  # relative change of slope over a step, below which rounding would place a switch


class Rows(NamedTuple):
    """What importance is measured on.

    Attributes
    ----------
    trained : Array of shape (N, d)
        Training inputs.
    inputs, target : Array of shape (M, d) and (M,)
        Held-out rows.
    order : Array of int, shape (PERMUTATIONS, M)
        Permutations of the held-out rows.
    """

    trained: Array
    inputs: Array
    target: Array
    order: Array


def weight(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the sum of |w| that leaves each feature."""
    return jnp.abs(models.first_kernel(parameters, rows.inputs.shape[-1])).sum(axis=-1)


def garson(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the share of every unit's |incoming weights| that a feature has, passed on.

    Garson 1991, "Interpreting neural network connection weights", for any depth: each layer's
    magnitudes are divided by the sums that enter a unit, and multiplied through.
    """
    *hidden, last = [jnp.abs(kernel) for kernel in _kernels(model, parameters)]
    passed = jnp.eye(rows.inputs.shape[-1])
    for kernel in hidden:
        passed = passed @ (kernel / kernel.sum(axis=0))
    return (passed @ last)[:, 0]


def olden(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return |sum over paths of the products of weights| (Olden and Jackson 2002)."""
    product = jnp.eye(rows.inputs.shape[-1])
    for kernel in _kernels(model, parameters):
        product = product @ kernel
    return jnp.abs(product[:, 0])


def gradient(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |∂f/∂z| over the training rows."""
    return jnp.abs(_slopes(model, parameters, rows.trained)).mean(axis=0)


def gradient_input(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |(z - mean) ∂f/∂z| over the training rows.

    From the mean, as the other methods have it: an offset of the unit is no importance.
    """
    z = rows.trained
    return jnp.abs((z - z.mean(axis=0)) * _slopes(model, parameters, z)).mean(axis=0)


def integrated_gradients(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |integrated gradients| from the mean training row."""
    return jnp.abs(attributions(model, parameters, rows.trained)).mean(axis=0)


def attributions(model: nn.Module, parameters: Any, z: Array) -> Array:
    """Return integrated gradients of rows (N, d) from their mean.

    They add up to f(z) - f(mean) (Sundararajan, Taly and Yan 2017, completeness). A rectified
    network's gradient jumps where a unit switches, and no rule that only looks at gradients is
    better than its step there. So a step's gradient is the mean of those at its ends, each
    weighted by how far it holds, which how far f rises over the step gives away: exact where
    one unit switches within a step, and of second order where nothing jumps. The weights stay
    within [0, 1]. Beyond, the parts would add up whatever they were, and be further from the
    integral's.
    """
    steps, start = steps_of(model), z.mean(axis=0)
    way = (z - start) / steps

    def step(carry: Any, share: Array) -> tuple[Any, None]:
        value, slope, total = carry
        new, after = _values_and_slopes(model, parameters, start + share * (z - start))
        drop = (way * (slope - after)).sum(axis=-1)
        even = jnp.abs(drop) <= FLAT * jnp.abs(way * slope).sum(axis=-1)
        held = (new - value - (way * after).sum(axis=-1)) / jnp.where(even, 1, drop)
        held = jnp.where(even, 0.5, jnp.clip(held, 0, 1))[:, None]
        return (new, after, total + held * slope + (1 - held) * after), None

    shares = jnp.arange(1, steps + 1, dtype=z.dtype) / steps
    begin = _values_and_slopes(model, parameters, jnp.broadcast_to(start, z.shape))
    (_, _, total), _ = jax.lax.scan(step, (*begin, jnp.zeros_like(z)), shares)
    return way * total


def steps_of(model: nn.Module) -> int:
    """Return the steps after which attributions are complete to a thousandth of the target's sd.

    A row may pass two switches of rectified units within one step, so there are more of them.
    """
    smooth = isinstance(model, models.MLP) and (not model.hidden or model.activation in SMOOTH)
    return STEPS if smooth else STEPS_OF_KINKS


def permutation(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean rise of the held-out squared error when a feature is permuted.

    As `sklearn.inspection.permutation_importance` with the negative mean squared error; every
    feature is permuted alike. Negative where permuting happens to help.
    """

    def error(z: Array) -> Array:
        return jnp.mean((_predict(model, parameters, z) - rows.target) ** 2)

    def risen(feature: Array, order: Array) -> Array:
        column = jnp.take(rows.inputs, feature, axis=1)
        return error(rows.inputs.at[:, feature].set(column[order])) - error(rows.inputs)

    features = jnp.arange(rows.inputs.shape[-1])
    return jax.lax.map(lambda j: jax.vmap(partial(risen, j))(rows.order).mean(), features)


def linear_shap(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |w (z - mean z)|: Shapley values of a linear model.

    Lundberg and Lee 2017, corollary 1 (features taken as independent).
    """
    slope = models.first_kernel(parameters, rows.trained.shape[-1])[:, 0]
    return jnp.abs(slope * (rows.trained - rows.trained.mean(axis=0))).mean(axis=0)


class Method(NamedTuple):
    """A method, and which models it can read: any, an `MLP`'s layers, or a linear one's."""

    of: Callable[[nn.Module, Any, Rows], Array]
    reads: Callable[[nn.Module], bool]


def _any(model: nn.Module) -> bool:
    return True


def _layered(model: nn.Module) -> bool:
    return isinstance(model, models.MLP)


METHODS: dict[str, Method] = {
    "weight": Method(weight, _any),
    "garson": Method(garson, _layered),
    "olden": Method(olden, _layered),
    "gradient": Method(gradient, _any),
    "gradient_input": Method(gradient_input, _any),
    "integrated_gradients": Method(integrated_gradients, _any),
    "permutation": Method(permutation, _any),
    "linear_shap": Method(linear_shap, models.is_linear),
}


def shares(
    own: Group, chunk: Chunk, training: Training, encoding: draws.Encoding
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return what a chunk's runs hold for important, and how well they fit held-out rows.

    Parameters
    ----------
    own, chunk : Group, Chunk
        Whose runs they are.
    training : Training
        NumPy arrays ending in (C, S), of the padded chunk.
    encoding : Encoding
        What the runs were trained on.

    Returns
    -------
    features : dict of str to ndarray of shape (d, C, S)
        ``share_<method>``, NaN where a method cannot read the model; ``share_true``, that of
        the law, where only the unit changes.
    runs : dict of str to ndarray of shape (C, S)
        ``r2_held_out``.
    """
    static, seeds = own.static, own.seeds(chunk)
    problem, kinds = problem_of(static.problem), draws.kinds_of(own.padded(chunk))
    distinct = encoding.take(np.unique(kinds.rows, return_index=True)[1])
    drawn, fresh = draws.draw(static, seeds), draws.held_out(static, seeds)
    new = draws.encode_held_out(problem, drawn, fresh, kinds, distinct)
    old = draws.encode_held_out(problem, drawn, drawn, kinds, distinct)
    orders = np.stack([permutations_of(seed, new.target.shape[-1]) for seed in seeds])
    model = models.build(static.model)
    with jax.enable_x64(static.dtype == "float64"):
        numbers = (np.asarray(x, static.dtype) for x in (old.inputs, new.inputs, new.target))
        found, fit = jax.device_get(
            _measure(model)(assemble(training.state.parameters), *numbers, orders, kinds.rows)
        )
    nothing = np.full_like(next(iter(found.values())), np.nan)
    whole = {name: found.get(name, nothing) for name in METHODS}
    truth = [true_shares(problem, u, order) for u, order in zip(fresh.u, orders, strict=True)]
    unit_changes = [[[condition.design == "U"]] for condition in own.padded(chunk)]
    whole["true"] = np.where(unit_changes, np.stack(truth), np.nan)
    return {f"share_{n}": np.moveaxis(x, -1, 0) for n, x in whole.items()}, {"r2_held_out": fit}


@lru_cache(maxsize=64)
def _measure(model: nn.Module) -> Callable[..., Any]:
    """Return a compiled function of all runs: shares (C, S, d) by method, and R² (C, S)."""

    def of_run(parameters: Any, *data: Array) -> tuple[dict[str, Array], Array]:
        rows = Rows(*data)
        missed = jnp.mean((_predict(model, parameters, rows.inputs) - rows.target) ** 2)
        return of_one(model, parameters, rows), 1 - missed / jnp.var(rows.target)

    over_seeds = jax.vmap(of_run, in_axes=(-1, 0, 0, 0, 0))

    @jax.jit
    def measure(parameters: Any, old: Array, new: Array, target: Array, order: Any, kind: Any):
        by_condition = jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), parameters)
        return jax.lax.map(
            lambda run: over_seeds(run[0], old[run[1]], new[run[1]], target[run[1]], order),
            (by_condition, kind),
        )

    return measure


def of_one(model: nn.Module, parameters: Any, rows: Rows) -> dict[str, Array]:
    """Return the shares (d,) of one run by each method that can read its model."""
    found = {
        name: method.of(model, parameters, rows)
        for name, method in METHODS.items()
        if method.reads(model)
    }
    return {name: parts / jnp.abs(parts).sum() for name, parts in found.items()}


def _kernels(model: nn.Module, parameters: Any) -> list[Array]:
    assert isinstance(model, models.MLP)
    return [parameters["params"][f"Dense_{i}"]["kernel"] for i in range(len(model.hidden) + 1)]


def _predict(model: nn.Module, parameters: Any, z: Array) -> Array:
    outputs: Any = model.apply(parameters, z)
    return outputs


def _slopes(model: nn.Module, parameters: Any, z: Array) -> Array:
    """Return ∂f/∂z of each row: rows do not meet, so one gradient of their sum is all."""
    return _values_and_slopes(model, parameters, z)[1]


def _values_and_slopes(model: nn.Module, parameters: Any, z: Array) -> tuple[Array, Array]:
    def summed(rows: Array) -> tuple[Array, Array]:
        values = _predict(model, parameters, rows)
        return values.sum(), values

    slopes, values = jax.grad(summed, has_aux=True)(z)
    return values, slopes
