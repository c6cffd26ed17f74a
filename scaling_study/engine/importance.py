"""The importance of each feature to a trained run, by several methods, as shares.

Each method is a pure function of one run and is mapped over all runs of a chunk. A share is
``importance_j / sum of |importance|``; only permutation importance can be negative. |W|, Garson,
Olden and gradient change with the unit of a feature, whatever the network computes; the others
do not. The attributions of a classifier of more than two classes are the mean over its logits,
each less their mean, which a softmax does not depend on.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import evaluate, models
from scaling_study.engine.train import Training
from scaling_study.study import draws
from scaling_study.study.chunk_shapes import Static
from scaling_study.study.conditions import Chunk, Group, problem_of
from scaling_study.study.draws import Draw
from scaling_study.study.encoding import Encoding
from scaling_study.study.importance import permutations_of, true_shares

Array = jax.Array
STEPS, STEPS_OF_KINKS = 128, 1024  # of the integral from the mean to a row
# The activations whose derivative has no kink: that of elu, celu and soft_sign has one at 0.
SMOOTH = ("gelu", "identity", "log_sigmoid", "sigmoid", "silu", "softplus", "swish", "tanh")
MOST_ROWS = 512  # training rows, and held-out rows, on which importance is measured
FLAT = 1e-3  # relative change of gradient over a step, below which rounding would hide a switch


class Rows(NamedTuple):
    """The rows on which importance is measured, in the units of `evaluate.Evaluation`."""

    trained: Array  # (N, d), training inputs
    inputs: Array  # (M, d), held out
    target: Array  # (M,), held out
    order: Array  # (PERMUTATIONS, M), permutations of the held-out rows
    feature_scale: Any = 1.0  # (d,), training units per unit of the inputs
    classes: int = 0  # number of classes, 0 where the target is a quantity


def weight(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the sum of |w| that leaves each feature."""
    kernel = models.first_kernel(parameters, rows.inputs.shape[-1])
    return jnp.abs(kernel).sum(axis=-1) / jnp.abs(rows.feature_scale)


def garson(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return each feature's share of the |weights| that enter every unit, passed to the output.

    Garson 1991, "Interpreting neural network connection weights", for any depth: each layer's
    magnitudes are divided by their sums over a unit's inputs, and multiplied through.
    """
    *hidden, last = [jnp.abs(kernel) for kernel in _kernels(model, parameters, rows.feature_scale)]
    passed = jnp.eye(rows.inputs.shape[-1])
    for kernel in hidden:
        passed = passed @ (kernel / kernel.sum(axis=0))
    return (passed @ last).sum(axis=1)


def olden(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return |sum over paths of the products of weights| (Olden and Jackson 2002)."""
    product = jnp.eye(rows.inputs.shape[-1])
    for kernel in _kernels(model, parameters, rows.feature_scale):
        product = product @ kernel
    return jnp.abs(product).sum(axis=1)


def gradient(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |∂f/∂z| over the training rows."""
    found = _over_outputs(
        model, parameters, rows.trained, lambda f: jnp.abs(_gradients(f, rows.trained)).mean(axis=0)
    )
    return found / jnp.abs(rows.feature_scale)


def gradient_input(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |(z - mean) ∂f/∂z| over the training rows.

    From the mean, as in the other methods, so that an offset has no importance.
    """
    z = rows.trained
    centred = z - z.mean(axis=0)
    return _over_outputs(
        model, parameters, z, lambda f: jnp.abs(centred * _gradients(f, z)).mean(axis=0)
    )


def integrated_gradients(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |integrated gradients| from the mean training row."""
    z, steps = rows.trained, steps_of(model)
    return _over_outputs(
        model, parameters, z, lambda f: jnp.abs(integrated(f, z, steps)).mean(axis=0)
    )


def attributions(model: nn.Module, parameters: Any, z: Array) -> Array:
    """Return integrated gradients of a model with one output, of rows (N, d) from their mean."""
    return integrated(partial(_predict, model, parameters), z, steps_of(model))


def integrated(function: Callable[[Array], Array], z: Array, steps: int) -> Array:
    """Return integrated gradients of rows (N, d) from their mean.

    They add up to f(z) - f(mean) (Sundararajan, Taly and Yan 2017, completeness). The gradient of
    a rectified network jumps where a unit switches, and a rule that uses gradients alone has an
    error of the order of its step there. So the gradient of a step is a weighted mean of those at
    its ends; the weights are found from the rise of f over the step. It is exact where one unit
    switches within a step, and of second order where nothing jumps. The weights are clipped to
    [0, 1]: beyond, the parts would add up, and be further from the integral.
    """
    start = z.mean(axis=0)
    path = (z - start) / steps

    def step(carry: Any, share: Array) -> tuple[Any, None]:
        value, before, total = carry
        new, after = _values_and_gradients(function, start + share * (z - start))
        change = (path * (before - after)).sum(axis=-1)
        flat = jnp.abs(change) <= FLAT * jnp.abs(path * before).sum(axis=-1)
        weight = (new - value - (path * after).sum(axis=-1)) / jnp.where(flat, 1, change)
        weight = jnp.where(flat, 0.5, jnp.clip(weight, 0, 1))[:, None]
        return (new, after, total + weight * before + (1 - weight) * after), None

    shares = jnp.arange(1, steps + 1, dtype=z.dtype) / steps
    begin = _values_and_gradients(function, jnp.broadcast_to(start, z.shape))
    (_, _, total), _ = jax.lax.scan(step, (*begin, jnp.zeros_like(z)), shares)
    return path * total


def steps_of(model: nn.Module) -> int:
    """Return the steps that make attributions complete to a thousandth of the target's sd.

    More for rectified units, of which two may switch within one step.
    """
    smooth = isinstance(model, models.MLP) and (not model.hidden or model.activation in SMOOTH)
    return STEPS if smooth else STEPS_OF_KINKS


def permutation(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean rise of the held-out loss when a feature is permuted.

    As `sklearn.inspection.permutation_importance` with the negative mean squared error, or the
    negative log-loss; the permutations of all features are the same. It can be negative.
    """

    def loss(outputs: Array) -> Array:
        if rows.classes:
            return evaluate.log_losses(outputs, rows.target, rows.classes).mean()
        return jnp.mean((outputs - rows.target) ** 2)

    return _mean_rise(model, parameters, rows, loss)


def permutation_accuracy(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean fall of the held-out accuracy when a feature is permuted."""

    def wrong(outputs: Array) -> Array:
        return 1 - evaluate.is_correct(outputs, rows.target, rows.classes).mean()

    return _mean_rise(model, parameters, rows, wrong)


def _mean_rise(
    model: nn.Module, parameters: Any, rows: Rows, loss: Callable[[Array], Array]
) -> Array:
    """Return the mean rise of a loss when a feature is permuted."""
    before = loss(_predict(model, parameters, rows.inputs))

    def rise(feature: Array, order: Array) -> Array:
        column = jnp.take(rows.inputs, feature, axis=1)
        permuted = rows.inputs.at[:, feature].set(column[order])
        return loss(_predict(model, parameters, permuted)) - before

    features = jnp.arange(rows.inputs.shape[-1])
    return jax.lax.map(lambda j: jax.vmap(partial(rise, j))(rows.order).mean(), features)


def linear_shap(model: nn.Module, parameters: Any, rows: Rows) -> Array:
    """Return the mean of |w (z - mean z)|: Shapley values of a linear model.

    Lundberg and Lee 2017, corollary 1, for independent features.
    """
    kernel = models.first_kernel(parameters, rows.trained.shape[-1])
    if kernel.shape[1] > 1:
        kernel = kernel - kernel.mean(axis=1, keepdims=True)
    centred = rows.trained - rows.trained.mean(axis=0)
    return jnp.abs(centred[:, :, None] * kernel).mean(axis=(0, 2))


class Method(NamedTuple):
    """A method and the models to which it applies; ``of_classes`` is for classifiers only."""

    of: Callable[[nn.Module, Any, Rows], Array]
    applies_to: Callable[[nn.Module], bool]
    of_classes: bool = False


def _any(model: nn.Module) -> bool:
    return True


def _independent_rows(model: nn.Module) -> bool:
    return not isinstance(model, models.NormalizedMLP)


def _layered(model: nn.Module) -> bool:
    return isinstance(model, models.MLP)


def _without_layers(model: nn.Module) -> bool:
    return isinstance(model, models.MLP) and not model.hidden


METHODS: dict[str, Method] = {
    "weight": Method(weight, _any),
    "garson": Method(garson, _layered),
    "olden": Method(olden, _layered),
    "gradient": Method(gradient, _independent_rows),
    "gradient_input": Method(gradient_input, _any),
    "integrated_gradients": Method(integrated_gradients, _any),
    "permutation": Method(permutation, _any),
    "permutation_accuracy": Method(permutation_accuracy, _any, of_classes=True),
    "linear_shap": Method(linear_shap, _without_layers),
}


# What ``record = "networks"`` keeps of networks: few methods, which take little time.
OF_NETWORKS = ("weight", "gradient", "permutation")


def methods_of(record: str, static: Static) -> tuple[str, ...]:
    """Return the methods by which the runs of a group are recorded; none of most studies."""
    if record == "importances":
        return tuple(METHODS)
    if record != "networks" or static.model.name == "linear":
        return ()
    return () if problem_of(static.problem).held_out else OF_NETWORKS


def shares(
    group: Group,
    chunk: Chunk,
    training: Training,
    unique_data: Encoding,
    methods: tuple[str, ...] = tuple(METHODS),
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return columns of the features (d, C, S) and of the runs (C, S).

    ``share_<method>``, NaN where a method does not apply to the model, and ``share_true``, that
    of the law where only the unit changes; ``r2_held_out`` or ``accuracy_held_out``.
    """
    static, seeds, problem = group.static, group.seeds(chunk), problem_of(group.static.problem)
    drawn, fresh = draws.draw(static, seeds), draws.held_out(static, seeds)
    some = (Draw(*(part[:, :MOST_ROWS] for part in rows)) for rows in (drawn, fresh))
    known = evaluate.evaluation_of(group, chunk, training, unique_data, *some)
    orders = np.stack([permutations_of(seed, known.targets[1].shape[-1]) for seed in seeds])
    measure = _measure(models.build(static.model, problem.classes), problem.classes, methods)
    with jax.enable_x64(static.dtype == "float64"):
        found, fit = jax.device_get(
            measure(
                (known.parameters, known.feature_scale),
                known.inputs,
                (known.targets[1],),
                (orders,),
                (known.place, known.dataset),
            )
        )
    nothing = np.full_like(next(iter(found.values())), np.nan)
    names = [name for name in methods if problem.classes or not METHODS[name].of_classes]
    by_method = {name: found.get(name, nothing) for name in names}
    rows = fresh.u[:, :MOST_ROWS]
    truth = [true_shares(problem, u, order) for u, order in zip(rows, orders, strict=True)]
    unit_changes = [[[condition.design == "U"]] for condition in group.padded(chunk)]
    by_method["true"] = np.where(unit_changes, np.stack(truth), np.nan)
    name = "accuracy_held_out" if problem.classes else "r2_held_out"
    return {f"share_{n}": np.moveaxis(x, -1, 0) for n, x in by_method.items()}, {name: fit}


@lru_cache(maxsize=64)
def _measure(model: nn.Module, classes: int, methods: tuple[str, ...]) -> Callable[..., Any]:
    """Return a compiled function of all runs: shares (C, S, d) by method, and the fit (C, S)."""

    def of_run(run: Any, *data: Array) -> tuple[dict[str, Array], Array]:
        parameters, scale = run
        rows = Rows(*data, feature_scale=scale, classes=classes)
        outputs = _predict(model, parameters, rows.inputs)
        if classes:
            fit = evaluate.is_correct(outputs, rows.target, classes).mean()
        else:
            fit = evaluate.regression_scores(outputs, rows.target)["r2"]
        return of_one(model, parameters, rows, methods), fit

    return jax.jit(lambda *arguments: evaluate.over_runs(of_run, *arguments))


def of_one(
    model: nn.Module, parameters: Any, rows: Rows, methods: Iterable[str] = tuple(METHODS)
) -> dict[str, Array]:
    """Return the shares (d,) of one run by each method that applies to its model."""
    found = {
        name: method.of(model, parameters, rows)
        for name, method in METHODS.items()
        if name in methods and method.applies_to(model)
        if rows.classes or not method.of_classes
    }
    return {name: parts / jnp.abs(parts).sum() for name, parts in found.items()}


def _kernels(model: nn.Module, parameters: Any, feature_scale: Any) -> list[Array]:
    assert isinstance(model, models.MLP)
    layers = [parameters["params"][f"Dense_{i}"] for i in range(len(model.hidden) + 1)]
    first, *others = [layer["kernel"] for layer in layers]
    return [first / jnp.reshape(feature_scale, (-1, 1)), *others]


def _predict(model: nn.Module, parameters: Any, z: Array) -> Array:
    outputs: Any = model.apply(parameters, z)
    return outputs


def _over_outputs(
    model: nn.Module,
    parameters: Any,
    z: Array,
    attribute: Callable[[Callable[[Array], Array]], Array],
) -> Array:
    """Return the attributions of a model's output, or their mean over its centred logits."""
    predict = partial(_predict, model, parameters)
    shape = jax.eval_shape(predict, z).shape
    if len(shape) == 1:
        return attribute(predict)

    def logit(k: Array, z: Array) -> Array:
        logits = predict(z)
        return jnp.take(logits, k, axis=-1) - logits.mean(axis=-1)

    return jax.vmap(lambda k: attribute(partial(logit, k)))(jnp.arange(shape[1])).mean(axis=0)


def _gradients(function: Callable[[Array], Array], z: Array) -> Array:
    """Return ∂f/∂z of each row, which is the gradient of the sum over independent rows."""
    return _values_and_gradients(function, z)[1]


def _values_and_gradients(function: Callable[[Array], Array], z: Array) -> tuple[Array, Array]:
    def summed(rows: Array) -> tuple[Array, Array]:
        values = function(rows)
        return values.sum(), values

    gradients, values = jax.grad(summed, has_aux=True)(z)
    return values, gradients
