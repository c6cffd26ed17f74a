"""The optimizers: Optax factories, and each framework's defaults for them."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from optax import contrib

from scaling_study.errors import StudyError
from scaling_study.study.component import Component, check_arguments

Factory = Callable[..., optax.GradientTransformation]

NONE: Mapping[str, Any] = MappingProxyType({})


class Optimizer(NamedTuple):
    """An Optax factory, and what Keras and PyTorch set where Optax sets something else."""

    factory: Factory
    keras: Mapping[str, Any] = NONE
    torch: Mapping[str, Any] = NONE
    optax: Mapping[str, Any] = NONE


# A dialect sets hyperparameters; it does not change a rule. Keras' and PyTorch's Nadam decay
# their momentum, and Adafactor and LAMB differ between papers: those are Optax' in each.
OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Optimizer(optax.adam, keras={"eps": 1e-7}, torch={"eps": 1e-8}),
    "adamw": Optimizer(
        optax.adamw,
        keras={"eps": 1e-7, "weight_decay": 4e-3},
        torch={"eps": 1e-8, "weight_decay": 1e-2},
    ),
    "nadam": Optimizer(optax.nadam),
    "amsgrad": Optimizer(optax.amsgrad, keras={"eps": 1e-7}, torch={"eps": 1e-8}),
    "adamax": Optimizer(optax.adamax, keras={"eps": 1e-7}, torch={"eps": 1e-8}),
    "radam": Optimizer(optax.radam),
    "yogi": Optimizer(optax.yogi),
    "adabelief": Optimizer(optax.adabelief),
    "adan": Optimizer(optax.adan),
    "sgd": Optimizer(optax.sgd),
    "momentum": Optimizer(partial(optax.sgd, momentum=0.9)),
    "nesterov": Optimizer(partial(optax.sgd, momentum=0.9, nesterov=True)),
    "rmsprop": Optimizer(
        optax.rmsprop,
        keras={"decay": 0.9, "eps": 1e-7, "eps_in_sqrt": True},
        torch={"decay": 0.99, "eps": 1e-8, "eps_in_sqrt": False},
    ),
    "rmsprop_centred": Optimizer(
        partial(optax.rmsprop, centered=True),
        keras={"decay": 0.9, "eps": 1e-7, "eps_in_sqrt": True},
        torch={"decay": 0.99, "eps": 1e-8, "eps_in_sqrt": False},
    ),
    "adagrad": Optimizer(
        optax.adagrad,
        keras={"initial_accumulator_value": 0.1, "eps": 1e-7},
        torch={"initial_accumulator_value": 0.0, "eps": 1e-10},
    ),
    "adadelta": Optimizer(
        optax.adadelta, keras={"rho": 0.95, "eps": 1e-7}, torch={"rho": 0.9, "eps": 1e-6}
    ),
    "adafactor": Optimizer(optax.adafactor),
    "sm3": Optimizer(optax.sm3),
    "novograd": Optimizer(optax.novograd),
    "lion": Optimizer(optax.lion, keras={"b2": 0.99, "weight_decay": 0.0}),
    "sign_sgd": Optimizer(optax.sign_sgd),
    "rprop": Optimizer(optax.rprop),
    "lamb": Optimizer(optax.lamb),
    "lars": Optimizer(optax.lars),
    "muon": Optimizer(contrib.muon),
    "prodigy": Optimizer(contrib.prodigy),
    "dadapt_adamw": Optimizer(contrib.dadapt_adamw),
    "dowg": Optimizer(contrib.dowg),
    "cocob": Optimizer(contrib.cocob),
    "ademamix": Optimizer(contrib.ademamix),
    "acprop": Optimizer(contrib.acprop),
    "schedule_free_adamw": Optimizer(contrib.schedule_free_adamw),
    "schedule_free_sgd": Optimizer(contrib.schedule_free_sgd),
}


def build(component: Component, dialect: str) -> Factory:
    """Return ``factory(learning_rate)`` with every other hyperparameter bound.

    Parameters
    ----------
    component : Component
        The optimizer's name, or ``module:factory``, and its hyperparameters in Optax's terms.
    dialect : {"keras", "torch", "optax"}
        Whose defaults hold for the hyperparameters that are not given.

    Raises
    ------
    StudyError
        If the optimizer is unknown or does not take a hyperparameter.
    """
    factories = {name: entry.factory for name, entry in OPTIMIZERS.items()}
    factory = component.resolve("optimizer", factories)
    defaults = getattr(OPTIMIZERS[component.name], dialect) if component.name in OPTIMIZERS else {}
    arguments = {**defaults, **dict(component.parameters)}
    if "learning_rate" in arguments:
        raise StudyError(f"optimizer {component.name!r}: learning_rate is an axis of its own")
    check_arguments(f"optimizer {component.name!r}", factory, arguments)
    return partial(factory, **arguments)


def describe(name: str) -> str:
    """Return an optimizer's factory and its defaults by dialect, in a line."""
    entry = OPTIMIZERS[name]
    factory, bound = entry.factory, ""
    if isinstance(factory, partial):
        bound = "(" + ", ".join(f"{k}={v}" for k, v in factory.keywords.items()) + ")"
        factory = factory.func
    home = "optax.contrib" if "contrib" in factory.__module__ else "optax"
    dialects = [
        f"{dialect}: " + ", ".join(f"{key}={value}" for key, value in defaults.items())
        for dialect in ("keras", "torch", "optax")
        if (defaults := getattr(entry, dialect))
    ]
    return "; ".join([f"{home}.{factory.__name__}{bound}", *dialects])


def check(factory: Factory) -> None:
    """Trace an update of a small layer, and raise whatever that raises.

    Raises
    ------
    ValueError
        If the updates are not of the parameters' shapes.
    """
    optimizer = factory(1e-3)
    layer = {"params": {"Dense_0": {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)}}}
    more = {"hessian": jnp.eye(3)} if takes_hessian(factory) else {}

    updates = jax.eval_shape(
        lambda: optimizer.update(layer, optimizer.init(layer), layer, **more)[0]
    )
    found, right = (str(jax.tree.map(jnp.shape, tree)) for tree in (updates, layer))
    if found != right:
        raise ValueError(f"returns updates of shapes {found} for parameters of {right}")


def takes_hessian(factory: Factory) -> bool:
    """Say whether an optimizer's ``update`` has a keyword ``hessian``, and so is given it.

    It is that of the batch's loss, a matrix in the order of `jax.flatten_util.ravel_pytree`.
    """
    return "hessian" in inspect.signature(factory(1.0).update).parameters


def is_elementwise(factory: Factory) -> bool:
    """Say whether an optimizer treats every number of a parameter alike and apart.

    Then many runs' parameters can lie side by side in one array and be updated in one go;
    otherwise (a norm over a layer, a matrix product) each run is updated by itself. Decided
    by tracing an update: no operation may change a shape or look along an axis, and no number
    that all runs would share may come to depend on their learning rates.
    """
    if takes_hessian(factory):
        return False
    layer = {"kernel": jnp.zeros((3, 5)), "bias": jnp.zeros(7)}
    example = {"params": {"Dense_0": layer, "Dense_1": layer}}
    optimizer = factory(jnp.zeros(()))
    state = optimizer.init(example)
    jaxpr = jax.make_jaxpr(optimizer.update)(example, state, example).jaxpr
    apart = all(_is_elementwise_equation(equation) for equation in jaxpr.eqns)
    return apart and _keeps_its_shape(factory)


def _keeps_its_shape(factory: Factory) -> bool:
    """Say whether an optimizer's state stays as it is where each run has a rate of its own."""
    run = {"params": {"Dense_0": {"kernel": jnp.zeros((3, 5)), "bias": jnp.zeros((3, 5))}}}
    optimizer = factory(jnp.zeros((3, 1)))
    before = jax.eval_shape(optimizer.init, run)
    after = jax.eval_shape(optimizer.update, run, before, run)[1]
    return jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, after)


_ALONG_AN_AXIS = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort", "rev"}
_CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"}


def _is_elementwise_equation(equation: Any) -> bool:
    name = equation.primitive.name
    if name in _CALLS:
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        return all(_is_elementwise_equation(e) for e in inner.jaxpr.eqns)
    shapes = {v.aval.shape for v in equation.invars if v.aval.shape}
    return name not in _ALONG_AN_AXIS and (
        shapes <= {v.aval.shape for v in equation.outvars} or not shapes
    )


def newton(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    """Return Newton's method: the update of a weight on s u is that on u, divided by s.

    So it is exactly equivariant to units, which is what a measure of sensitivity to them can be
    tested by. Not in the registry: it needs a Hessian that is positive definite, as a linear
    model's is. A study names it as ``scaling_study.engine.optimizers:newton``.

    Parameters
    ----------
    learning_rate : float
        1 goes to the minimum of the batch's loss.
    """

    def update(updates: Any, state: Any, params: Any = None, *, hessian: Any) -> Any:
        slope, unravel = ravel_pytree(updates)
        # Powers of the units leave the matrix before float32 is asked to invert it.
        unit = jax.lax.rsqrt(jnp.diagonal(hessian))
        way = unit * jnp.linalg.solve(unit[:, None] * hessian * unit, unit * slope)
        return unravel(-learning_rate * way), state

    def init(params: Any) -> optax.OptState:
        return optax.EmptyState()

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


def adam_rescaled(
    learning_rate: Any,
    *,
    factor: float = 1.0,
    feature: int = 1,
    gradient: bool = True,
    update: bool = True,
    eps: float = 1e-7,
) -> optax.GradientTransformation:
    """Return Adam that undoes a factor on one feature: exactly invariant to it.

    Not in the registry, because it has to be told the factor; a study names it as
    ``scaling_study.engine.optimizers:adam_rescaled``.

    A weight w/s on a feature s u is w on u, and its gradient s times as large. Adam on that
    gradient divided by s, and its update divided by s, is Adam on w, from a start at w_0/s.

    Parameters
    ----------
    learning_rate : float
    factor : float
        What the feature was multiplied by.
    feature : int
        Which one, counted from 0.
    gradient, update : bool
        Whether to divide each: without the first, eps is in effect eps/s; without the second,
        the feature's rate is in effect s times as large.
    eps : float
        Of Adam.
    """

    def divide(tree: Any) -> Any:
        def of(path: Any, array: Any) -> Any:
            first = jax.tree_util.DictKey("Dense_0") in path
            if not (first and jax.tree_util.DictKey("kernel") in path):
                return array
            return array.at[feature].divide(factor)

        return jax.tree_util.tree_map_with_path(of, tree)

    none = optax.identity()
    undo = optax.stateless(lambda updates, _: divide(updates))
    return optax.chain(
        undo if gradient else none, optax.adam(learning_rate, eps=eps), undo if update else none
    )
