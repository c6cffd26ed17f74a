"""The networks: Flax Linen modules, and where a feature enters one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Array

from scaling_study.engine import elementary
from scaling_study.engine.split_module import SplitModule, makes_nnx
from scaling_study.errors import StudyError, unknown
from scaling_study.study.component import Component
from scaling_study.study.conditions import WRITTEN_OUT

Parameters = Any  # a pytree of arrays, as Flax makes it

ELEMENTWISE = (
    *("celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu"),
    *("log_sigmoid", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softplus", "swish"),
    "tanh",
)
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    **{name: getattr(nn, name) for name in ELEMENTWISE},
}
# The same functions for `forward`, in which runs lie side by side.
VECTORISED = {
    name: getattr(elementary, name)
    for name in ("elu", "gelu", "log_sigmoid", "selu", "softplus", "tanh")
} | {"celu": elementary.elu}
# Activations of `flax.linen` that are not elementwise; the last axis is that of the runs here.
ACROSS_AN_AXIS = ("glu", "log_softmax", "logsumexp", "normalize", "softmax", "standardize")
INITIALIZERS: dict[str, Callable[[], Any]] = {
    "glorot_uniform": nn.initializers.glorot_uniform,
    "glorot_normal": nn.initializers.glorot_normal,
    "lecun_normal": nn.initializers.lecun_normal,
    "he_normal": nn.initializers.he_normal,
    "zeros": lambda: nn.initializers.zeros,
}
NORMS = ("batch", "layer")
NORM_EPS = 1e-5  # added to a variance, as in Flax and PyTorch


class MLP(nn.Module):
    """A multilayer perceptron; without hidden layers, a linear model.

    Parameters
    ----------
    hidden : sequence of int
        Width of each hidden layer.
    activation : str
        A key of `ACTIVATIONS`, applied after each hidden layer.
    kernel_init : str
        A key of `INITIALIZERS`; biases start from zero.
    classes : int
        0 for one output, a quantity; 2 for one logit, that of class 1; else a logit a class.
    """

    hidden: Sequence[int] = ()
    activation: str = "relu"
    kernel_init: str = "glorot_uniform"
    classes: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (..., n_features) to (...), or to (..., classes) where they are more than two."""
        initializer = INITIALIZERS[self.kernel_init]()
        for width in self.hidden:
            x = ACTIVATIONS[self.activation](nn.Dense(width, kernel_init=initializer)(x))
        if self.classes > 2:
            return nn.Dense(self.classes, kernel_init=initializer)(x)
        return nn.Dense(1, kernel_init=initializer)(x)[..., 0]


class NormalizedMLP(nn.Module):
    """A perceptron whose inputs are normalised inside the network, then scaled and shifted.

    A pure function of its parameters and the rows it is given, without running statistics:
    ``batch`` normalisation (Ioffe and Szegedy 2015) has the mean and variance of each feature over
    these rows, which are a batch in training and all rows of a set when it is evaluated; ``layer``
    normalisation (Ba, Kiros and Hinton 2016) those of each row over its features. A batch that is
    padded has the padding in its statistics, so that a batch size should divide the rows.

    Parameters
    ----------
    norm : {"batch", "layer"}
    hidden, activation, kernel_init, classes
        As of `MLP`.
    """

    norm: str = "batch"
    hidden: Sequence[int] = (16,)
    activation: str = "relu"
    kernel_init: str = "glorot_uniform"
    classes: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (n_rows, n_features) to (n_rows,), or to (n_rows, n_classes)."""
        axis = -2 if self.norm == "batch" else -1
        mean, variance = x.mean(axis=axis, keepdims=True), x.var(axis=axis, keepdims=True)
        z = (x - mean) * jax.lax.rsqrt(variance + NORM_EPS)
        width = x.shape[-1:]
        z = z * self.param("scale", nn.initializers.ones, width)
        z = z + self.param("bias", nn.initializers.zeros, width)
        inner = MLP(self.hidden, self.activation, self.kernel_init, self.classes)
        return inner(z)


def linear(*, kernel_init: str = "glorot_uniform") -> nn.Module:
    """Return one Dense unit, by default with Keras' default initialisation."""
    return MLP(kernel_init=_known("kernel_init", kernel_init, INITIALIZERS))


def mlp(
    *,
    hidden: int | Sequence[int] = 16,
    activation: str = "relu",
    kernel_init: str = "glorot_uniform",
) -> nn.Module:
    """Return a perceptron with hidden layers of the given widths."""
    widths = tuple(hidden) if isinstance(hidden, Sequence) else (hidden,)
    if not widths or any(not isinstance(w, int) or isinstance(w, bool) or w < 1 for w in widths):
        raise StudyError(f"hidden must hold whole numbers above 0, not {hidden!r}")
    if activation in ACROSS_AN_AXIS:
        raise StudyError(
            f"activation {activation!r} acts across the units of a layer, and here it must act on"
            f" each by itself; known: {', '.join(sorted(ACTIVATIONS))}"
        )
    return MLP(
        hidden=widths,
        activation=_known("activation", activation, ACTIVATIONS),
        kernel_init=_known("kernel_init", kernel_init, INITIALIZERS),
    )


def normalized_mlp(*, norm: str = "batch", **parameters: Any) -> nn.Module:
    """Return a perceptron with a normalising input layer, batch or layer normalisation.

    Not in the registry, because it is not a function of each row by itself; a study names it as
    ``scaling_study.engine.models:normalized_mlp``. Further parameters are those of `mlp`.
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    inner: Any = mlp(**parameters)
    return NormalizedMLP(norm, inner.hidden, inner.activation, inner.kernel_init)


MODELS: dict[str, Callable[..., nn.Module]] = {"linear": linear, "mlp": mlp}


def build(component: Component, classes: int = 0) -> nn.Module:
    """Return the module that a component names; one of NNX as a `SplitModule`.

    Parameters
    ----------
    component : Component
    classes : int
        Number of classes, as in `MLP`; a user's own module is returned as it is.

    Raises
    ------
    StudyError
        If there is none, or it is not a Flax module.
    """
    factory: Any = component.resolve("model", MODELS)
    if makes_nnx(factory):
        return SplitModule(factory, component.parameters)  # type: ignore[return-value]
    model = component.build("model", MODELS)
    if not isinstance(model, nn.Module):
        raise StudyError(f"model {str(component)!r} makes no flax.linen.Module or flax.nnx.Module")
    ours = isinstance(model, MLP | NormalizedMLP)
    return model.clone(classes=classes) if ours and classes else model


def forward(model: nn.Module) -> Callable[[Parameters, Array], Array]:
    """Return ``f(parameters, x) -> y`` over a block of runs.

    Parameters end in a block's two axes; x is (n_rows, n_features, ...) with the same two
    axes, or 1 in place of one that shares its rows; y is (n_rows, ...), or
    (n_rows, n_classes, ...).

    The layers of an `MLP` are written so that every operation is elementwise along the runs.
    Any other module is mapped over the runs.
    """
    if isinstance(model, MLP):
        return partial(_forward_dense, model)
    return partial(_forward_mapped, model)


def can_fold(model: nn.Module) -> bool:
    """Return whether a model's first and last layers are known, so that `fold` applies."""
    return isinstance(model, MLP)


def fold(
    model: nn.Module, parameters: Parameters, feature_scale: Any, feature_shift: Any, intercept: Any
) -> Parameters:
    """Return the parameters of the same function of canonical inputs u.

    It is ``f(feature_scale u + feature_shift) - intercept``.

    Parameters
    ----------
    model : flax.linen.Module
        For which `can_fold` is true.
    parameters : pytree of arrays of shape (..., C, S)
        Arrays of one run lack the axes C and S.
    feature_scale, feature_shift : array of shape (d, C, S)
    intercept : array of shape (C, S)
    """
    assert isinstance(model, MLP)
    layers = dict(parameters["params"])
    kernel, bias = layers["Dense_0"]["kernel"], layers["Dense_0"]["bias"]
    if kernel.ndim == 2:  # of one run, for which this is the fastest form
        moved = bias + feature_shift @ kernel
    else:
        moved = bias + (kernel * feature_shift[:, None]).sum(axis=0)
    layers["Dense_0"] = {"kernel": kernel * feature_scale[:, None], "bias": moved}
    last = f"Dense_{len(model.hidden)}"
    layers[last] = {**layers[last], "bias": layers[last]["bias"] - intercept}
    return {"params": layers}


def undo_maps(parameters: Parameters, feature_scale: Any, feature_shift: Any) -> Parameters:
    """Return the parameters whose function of z is that of the given ones of canonical inputs u.

    With ``z = feature_scale u + feature_shift``: the reverse of `fold`, with its shapes.
    """
    layers = dict(parameters["params"])
    kernel = layers["Dense_0"]["kernel"] / feature_scale[:, None]
    moved = layers["Dense_0"]["bias"] - (kernel * feature_shift[:, None]).sum(axis=0)
    return {"params": {**layers, "Dense_0": {"kernel": kernel, "bias": moved}}}


def _forward_dense(model: MLP, parameters: Parameters, x: Array) -> Array:
    activation = VECTORISED.get(model.activation, ACTIVATIONS[model.activation])
    for i in range(len(model.hidden) + 1):
        layer = parameters["params"][f"Dense_{i}"]
        inputs = len(layer["kernel"])
        fused = i == 0 and inputs <= WRITTEN_OUT
        written = len(x) == 1 and not fused and inputs <= UNROLLED and not _at_once.get()
        x = (_written_out if written else contract)(x, layer["kernel"]) + layer["bias"]
        if i < len(model.hidden):
            x = activation(x)
    return x if model.classes > 2 else x[:, 0]


UNROLLED = 40  # terms up to which a layer's sums are written out


def contract(x: Array, kernel: Array) -> Array:
    """Return sum_j x[:, j] kernel[j], with x (n_rows, n_in, ...) and kernel (n_in, n_out, ...).

    XLA's loops for a CPU do not run along the runs inside a reduction that is fused with other
    work, which made a layer 20 times as slow; so one row's sums are a loop of their own.
    """
    inputs = len(kernel)
    if inputs <= WRITTEN_OUT:
        return sum(x[:, j, None] * kernel[j] for j in range(inputs))  # type: ignore[return-value]
    if len(x) > 1 or _at_once.get():
        return jnp.sum(x[:, :, None] * kernel, axis=1)
    return _contract_in_loop(x, kernel)


_at_once: ContextVar[bool] = ContextVar("_at_once", default=False)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Trace sums of many terms without the loops of `contract`, which have reverse mode alone."""
    token = _at_once.set(True)
    try:
        yield
    finally:
        _at_once.reset(token)


def add_up(terms: Array) -> Array:
    """Return the sum over the first axis, in a loop for the reason given in `contract`."""
    return jax.lax.fori_loop(1, len(terms), lambda j, total: total + terms[j], terms[0])


@jax.custom_vjp
def _written_out(x: Array, kernel: Array) -> Array:
    """Return `contract` of one row, term by term, for the layers of a small network.

    The barriers keep XLA from computing the terms of ``x`` again for each output. Networks of two
    hidden layers train twice to three times as fast as with loops.
    """
    x = jax.lax.optimization_barrier(x)
    return sum(x[:, j, None] * kernel[j] for j in range(len(kernel)))  # type: ignore[return-value]


def _written_out_forward(x: Array, kernel: Array) -> Any:
    return _written_out(x, kernel), (x, kernel)


def _written_out_backward(residuals: Any, gradient: Array) -> Any:
    x, kernel = residuals
    gradient = jax.lax.optimization_barrier(gradient)
    of_x = sum(gradient[:, k, None] * kernel[:, k] for k in range(kernel.shape[1]))
    return _over_shared(of_x, x), x[0, :, None] * gradient[0]


_written_out.defvjp(_written_out_forward, _written_out_backward)


def _over_shared(gradient: Any, x: Array) -> Array:
    """Return the sum over the axes of runs that share x."""
    shared = [axis for axis in (-2, -1) if x.shape[axis] < gradient.shape[axis]]
    return gradient.sum(axis=shared, keepdims=True)


@jax.custom_vjp
def _contract_in_loop(x: Array, kernel: Array) -> Array:
    def add(j: Any, total: Array) -> Array:
        return total + jax.lax.dynamic_index_in_dim(x, j, axis=1) * jax.lax.dynamic_index_in_dim(
            kernel, j, axis=0
        )

    runs = jnp.broadcast_shapes(x.shape[2:], kernel.shape[2:])
    zeros = jnp.zeros((len(x), kernel.shape[1], *runs), kernel.dtype)
    return jax.lax.fori_loop(0, len(kernel), add, zeros)


def _contract_forward(x: Array, kernel: Array) -> Any:
    return _contract_in_loop(x, kernel), (x, kernel)


def _contract_backward(residuals: Any, gradient: Array) -> Any:
    x, kernel = residuals
    of_x = _contract_in_loop(gradient, jnp.swapaxes(kernel, 0, 1))
    return _over_shared(of_x, x), jnp.sum(x[:, :, None] * gradient[:, None], axis=0)


_contract_in_loop.defvjp(_contract_forward, _contract_backward)


def _forward_mapped(model: nn.Module, parameters: Parameters, x: Array) -> Array:
    runs, function = jax.tree.leaves(parameters)[0].shape, model.apply
    shared = [axis for axis in (-2, -1) if x.shape[axis] == 1 < runs[axis]]
    for axis in (-2, -1):  # the inner map first
        of_x = None if axis in shared else -1
        function = jax.vmap(function, in_axes=(-1, of_x), out_axes=-1)
    return function(parameters, jnp.squeeze(x, shared))


def check(model: nn.Module, features: int, classes: int = 0) -> None:
    """Trace a module on some rows, and check the shape of its output.

    Raises
    ------
    ValueError
        Unless (..., n_features) is mapped to (...), or to (..., n_classes) for more than two
        classes.
    """
    rows = jnp.zeros((3, features))
    found: Any = jax.eval_shape(lambda: model.apply(model.init(jax.random.key(0), rows), rows))
    wanted = (3, classes) if classes > 2 else (3,)
    if found.shape != wanted:
        hint = "; return it without the last axis, [..., 0]" if found.shape == (3, 1) else ""
        raise ValueError(f"maps {rows.shape} to {found.shape}, which must be {wanted}{hint}")


def is_linear(model: nn.Module) -> bool:
    """Return whether the model is a linear regression."""
    return is_single_unit(model) and not model.classes  # type: ignore[attr-defined]


def is_single_unit(model: nn.Module) -> bool:
    """Return whether the model is a single unit: one output or logit, one weight per feature."""
    return isinstance(model, MLP) and not model.hidden and model.classes <= 2


def first_kernel(parameters: Parameters, features: int) -> Any:
    """Return the first kernel with one row per feature, of parameters or their gradients."""
    leaves = jax.tree_util.tree_leaves_with_path(parameters, is_leaf=lambda x: isinstance(x, list))
    for path, leaf in leaves:
        if getattr(path[-1], "key", None) == "kernel" and len(leaf) == features:
            return leaf
    raise StudyError(f"the model has no kernel with {features} rows, one for each feature")


def _known(kind: str, name: str, registry: dict[str, Any]) -> str:
    if name not in registry:
        raise unknown(kind, name, registry)
    return name
