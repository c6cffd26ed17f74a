"""The importance that a trained run gives each feature: shares of what one method says.

Each method is a pure function of one run and is mapped over all runs of a chunk. A share is
``importance_j / sum of |importance|``; only permutation importance can be negative. Of these,
|W|, Garson, Olden and gradient change with the unit of a feature, whatever the network computes;
the others do not. A classifier of more than two classes has several outputs: its attributions are
the mean over its logits, each less their mean, since a softmax does not see what they share.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import evaluate, models
from scaling_study.engine.train import Training
from scaling_study.study import draws
from scaling_study.study.conditions import Chunk, Group, problem_of
from scaling_study.study.encoding import Encoding
from scaling_study.study.importance import permutations_of, true_shares

Array = jax.Array
STEPS, STEPS_OF_KINKS = 128, 1024  # from the mean to a row, of the integral
# The activations whose slope has no kink: that of elu, celu and soft_sign has one at 0.
SMOOTH = ("gelu", "identity", "log_sigmoid", "sigmoid", "silu", "softplus", "swish", "tanh")
FLAT = 1e-3  # relative change of slope over a step, below which rounding would place a switch


class Rows(NamedTuple):
    """What importance is measured on, in the units of `evaluate.Functions`.

    Attributes
    ----------
    trained : Array of shape (N, d)
        Training inputs.
    inputs, target : Array of shape (M, d) and (M,)
        Held-out rows.
    order : Array of int, shape (PERMUTATIONS, M)
        Permutations of the held-out rows.
    gain : Array of shape (d,)
        Training units per unit of the inputs.
    classes : int
        Number of classes, 0 where the target is a quantity.
    """

    trained: Array
    inputs: Array
    target: Array
    order: Array
    gain: Any = 1.0
    classes: int = 0


def weight(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the sum of |w| that leaves each feature."""
    kernel = models.first_kernel(parameters, rows.inputs.shape[-1])
    return jnp.abs(kernel).sum(axis=-1) / jnp.abs(rows.gain)


def garson(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the share of every unit's |incoming weights| that a feature has, passed on.

    Garson 1991, "Interpreting neural network connection weights", for any depth: each layer's
    magnitudes are divided by the sums that enter a unit, and multiplied through.
    """
    *hidden, last = [jnp.abs(kernel) for kernel in _kernels(model, parameters, rows.gain)]
    passed = jnp.eye(rows.inputs.shape[-1])
    for kernel in hidden:
        passed = passed @ (kernel / kernel.sum(axis=0))
    return (passed @ last).sum(axis=1)


def olden(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return |sum over paths of the products of weights| (Olden and Jackson 2002)."""
    product = jnp.eye(rows.inputs.shape[-1])
    for kernel in _kernels(model, parameters, rows.gain):
        product = product @ kernel
    return jnp.abs(product).sum(axis=1)


def gradient(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |∂f/∂z| over the training rows."""
    found = _over_outputs(
        model, parameters, rows.trained, lambda f: jnp.abs(_slopes(f, rows.trained)).mean(axis=0)
    )
    return found / jnp.abs(rows.gain)


def gradient_input(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |(z - mean) ∂f/∂z| over the training rows.

    From the mean, as the other methods have it: an offset of the unit is no importance.
    """
    z = rows.trained
    away = z - z.mean(axis=0)
    return _over_outputs(model, parameters, z, lambda f: jnp.abs(away * _slopes(f, z)).mean(axis=0))


def integrated_gradients(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |integrated gradients| from the mean training row."""
    z, steps = rows.trained, steps_of(model)
    return _over_outputs(
        model, parameters, z, lambda f: jnp.abs(integrated(f, z, steps)).mean(axis=0)
    )


def attributions(model: nn.Module, parameters: Any, z: Array) -> Array:
    """Return integrated gradients of a model's one output, of rows (N, d) from their mean."""
    return integrated(partial(_predict, model, parameters), z, steps_of(model))


def integrated(function: Callable[[Array], Array], z: Array, steps: int) -> Array:
    """Return integrated gradients of rows (N, d) from their mean.

    They add up to f(z) - f(mean) (Sundararajan, Taly and Yan 2017, completeness). A rectified
    network's gradient jumps where a unit switches, and no rule that only looks at gradients is
    better than its step there. So a step's gradient is the mean of those at its ends, each
    weighted by how far it holds, which how far f rises over the step gives away: exact where
    one unit switches within a step, and of second order where nothing jumps. The weights stay
    within [0, 1]. Beyond, the parts would add up whatever they were, and be further from the
    integral's.
    """
    start = z.mean(axis=0)
    way = (z - start) / steps

    def step(carry: Any, share: Array) -> tuple[Any, None]:
        value, slope, total = carry
        new, after = _values_and_slopes(function, start + share * (z - start))
        drop = (way * (slope - after)).sum(axis=-1)
        even = jnp.abs(drop) <= FLAT * jnp.abs(way * slope).sum(axis=-1)
        held = (new - value - (way * after).sum(axis=-1)) / jnp.where(even, 1, drop)
        held = jnp.where(even, 0.5, jnp.clip(held, 0, 1))[:, None]
        return (new, after, total + held * slope + (1 - held) * after), None

    shares = jnp.arange(1, steps + 1, dtype=z.dtype) / steps
    begin = _values_and_slopes(function, jnp.broadcast_to(start, z.shape))
    (_, _, total), _ = jax.lax.scan(step, (*begin, jnp.zeros_like(z)), shares)
    return way * total


def steps_of(model: nn.Module) -> int:
    """Return the steps after which attributions are complete to a thousandth of the target's sd.

    A row may pass two switches of rectified units within one step, so there are more of them.
    """
    smooth = isinstance(model, models.MLP) and (not model.hidden or model.activation in SMOOTH)
    return STEPS if smooth else STEPS_OF_KINKS


def permutation(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean rise of the held-out loss when a feature is permuted.

    As `sklearn.inspection.permutation_importance` with the negative mean squared error, or the
    negative log-loss; every feature is permuted alike. Negative where permuting happens to help.
    """

    def loss(outputs: Array) -> Array:
        if rows.classes:
            return evaluate.log_losses(outputs, rows.target, rows.classes).mean()
        return jnp.mean((outputs - rows.target) ** 2)

    return _risen(model, parameters, rows, loss)


def permutation_accuracy(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean fall of the held-out accuracy when a feature is permuted."""

    def wrong(outputs: Array) -> Array:
        return 1 - evaluate.named_rightly(outputs, rows.target, rows.classes).mean()

    return _risen(model, parameters, rows, wrong)


def _risen(model: nn.Module, parameters: Any, rows: Rows, loss: Callable[[Array], Array]) -> Array:
    before = loss(_predict(model, parameters, rows.inputs))

    def risen(feature: Array, order: Array) -> Array:
        column = jnp.take(rows.inputs, feature, axis=1)
        moved = rows.inputs.at[:, feature].set(column[order])
        return loss(_predict(model, parameters, moved)) - before

    features = jnp.arange(rows.inputs.shape[-1])
    return jax.lax.map(lambda j: jax.vmap(partial(risen, j))(rows.order).mean(), features)


def linear_shap(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |w (z - mean z)|: Shapley values of a linear model.

    Lundberg and Lee 2017, corollary 1 (features taken as independent).
    """
    slopes = models.first_kernel(parameters, rows.trained.shape[-1])
    if slopes.shape[1] > 1:
        slopes = slopes - slopes.mean(axis=1, keepdims=True)
    away = rows.trained - rows.trained.mean(axis=0)
    return jnp.abs(away[:, :, None] * slopes).mean(axis=(0, 2))


class Method(NamedTuple):
    """A method, and which models it can read: any, an `MLP`'s layers, or a linear one's.

    ``of_classes`` says that only a target of classes has such a thing.
    """

    of: Callable[[nn.Module, Any, Rows], Array]
    reads: Callable[[nn.Module], bool]
    of_classes: bool = False


def _any(model: nn.Module) -> bool:
    return True


def _layered(model: nn.Module) -> bool:
    return isinstance(model, models.MLP)


def _without_layers(model: nn.Module) -> bool:
    return isinstance(model, models.MLP) and not model.hidden


METHODS: dict[str, Method] = {
    "weight": Method(weight, _any),
    "garson": Method(garson, _layered),
    "olden": Method(olden, _layered),
    "gradient": Method(gradient, _any),
    "gradient_input": Method(gradient_input, _any),
    "integrated_gradients": Method(integrated_gradients, _any),
    "permutation": Method(permutation, _any),
    "permutation_accuracy": Method(permutation_accuracy, _any, of_classes=True),
    "linear_shap": Method(linear_shap, _without_layers),
}


def shares(
    own: Group, chunk: Chunk, training: Training, encoding: Encoding
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the importance of each feature to a chunk's runs, and how they fit held-out rows.

    Parameters
    ----------
    own, chunk, training, encoding
        As for `evaluate.functions_of`.

    Returns
    -------
    features : dict of str to ndarray of shape (d, C, S)
        ``share_<method>``, NaN where a method cannot read the model; ``share_true``, that of
        the law, where only the unit changes.
    runs : dict of str to ndarray of shape (C, S)
        ``r2_held_out``, or ``accuracy_held_out``.
    """
    static, seeds, problem = own.static, own.seeds(chunk), problem_of(own.static.problem)
    drawn, fresh = draws.draw(static, seeds), draws.held_out(static, seeds)
    seen = evaluate.functions_of(own, chunk, training, encoding, drawn, fresh)
    orders = np.stack([permutations_of(seed, seen.targets[1].shape[-1]) for seed in seeds])
    measure = _measure(models.build(static.model, problem.classes), problem.classes)
    with jax.enable_x64(static.dtype == "float64"):
        found, fit = jax.device_get(
            measure(
                (seen.parameters, seen.gain),
                (*seen.inputs, seen.targets[1], orders),
                (seen.place, seen.kind),
            )
        )
    nothing = np.full_like(next(iter(found.values())), np.nan)
    asked = [name for name, method in METHODS.items() if problem.classes or not method.of_classes]
    whole = {name: found.get(name, nothing) for name in asked}
    truth = [true_shares(problem, u, order) for u, order in zip(fresh.u, orders, strict=True)]
    unit_changes = [[[condition.design == "U"]] for condition in own.padded(chunk)]
    whole["true"] = np.where(unit_changes, np.stack(truth), np.nan)
    name = "accuracy_held_out" if problem.classes else "r2_held_out"
    return {f"share_{n}": np.moveaxis(x, -1, 0) for n, x in whole.items()}, {name: fit}


@lru_cache(maxsize=64)
def _measure(model: nn.Module, classes: int) -> Callable[..., Any]:
    """Return a compiled function of all runs: shares (C, S, d) by method, and the fit (C, S)."""

    def of_run(own: Any, *data: Array) -> tuple[dict[str, Array], Array]:
        parameters, gain = own
        rows = Rows(*data, gain=gain, classes=classes)
        outputs = _predict(model, parameters, rows.inputs)
        if classes:
            fit = evaluate.named_rightly(outputs, rows.target, classes).mean()
        else:
            fit = evaluate.predicted(outputs, rows.target)["r2"]
        return of_one(model, parameters, rows), fit

    over_seeds = jax.vmap(of_run, in_axes=(-1, 0, 0, 0, 0))

    @jax.jit
    def measure(own: Any, rows: Any, places: Any) -> Any:
        by_condition = jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), own)
        old, new, target, order = rows
        return jax.lax.map(
            lambda run: over_seeds(run[0], old[run[1]], new[run[1]], target[run[2]], order),
            (by_condition, *places),
        )

    return measure


def of_one(model: nn.Module, parameters: Any, rows: Rows) -> dict[str, Array]:
    """Return the shares (d,) of one run by each method that can read its model."""
    found = {
        name: method.of(model, parameters, rows)
        for name, method in METHODS.items()
        if method.reads(model) and (rows.classes or not method.of_classes)
    }
    return {name: parts / jnp.abs(parts).sum() for name, parts in found.items()}


def _kernels(model: nn.Module, parameters: Any, gain: Any) -> list[Array]:
    assert isinstance(model, models.MLP)
    layers = [parameters["params"][f"Dense_{i}"] for i in range(len(model.hidden) + 1)]
    first, *others = [layer["kernel"] for layer in layers]
    return [first / jnp.reshape(gain, (-1, 1)), *others]


def _predict(model: nn.Module, parameters: Any, z: Array) -> Array:
    outputs: Any = model.apply(parameters, z)
    return outputs


def _over_outputs(
    model: nn.Module,
    parameters: Any,
    z: Array,
    attribute: Callable[[Callable[[Array], Array]], Array],
) -> Array:
    """Return what is attributed of a model's output, or on average of its centred logits."""
    predict = partial(_predict, model, parameters)
    shape = jax.eval_shape(predict, z).shape
    if len(shape) == 1:
        return attribute(predict)

    def logit(k: Array, z: Array) -> Array:
        logits = predict(z)
        return jnp.take(logits, k, axis=-1) - logits.mean(axis=-1)

    return jax.vmap(lambda k: attribute(partial(logit, k)))(jnp.arange(shape[1])).mean(axis=0)


def _slopes(function: Callable[[Array], Array], z: Array) -> Array:
    """Return ∂f/∂z of each row: rows do not meet, so one gradient of their sum is all."""
    return _values_and_slopes(function, z)[1]


def _values_and_slopes(function: Callable[[Array], Array], z: Array) -> tuple[Array, Array]:
    def summed(rows: Array) -> tuple[Array, Array]:
        values = function(rows)
        return values.sum(), values

    slopes, values = jax.grad(summed, has_aux=True)(z)
    return values, slopes
