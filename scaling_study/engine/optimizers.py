"""The optimizers: Optax factories, and the defaults of each framework."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from optax import contrib

from scaling_study.errors import StudyError, unknown
from scaling_study.study.component import Component, check_arguments

Factory = Callable[..., optax.GradientTransformation]

NONE: Mapping[str, Any] = MappingProxyType({})
EPS: dict[str, Any] = {"keras": {"eps": 1e-7}, "torch": {"eps": 1e-8}}
RMSPROP: dict[str, Any] = {
    "keras": {"decay": 0.9, "eps": 1e-7, "eps_in_sqrt": True},
    "torch": {"decay": 0.99, "eps": 1e-8, "eps_in_sqrt": False},
}


class Optimizer(NamedTuple):
    """An Optax factory, and the defaults of Keras and PyTorch that differ from Optax'."""

    factory: Factory
    keras: Mapping[str, Any] = NONE
    torch: Mapping[str, Any] = NONE
    optax: Mapping[str, Any] = NONE


# Framework defaults set hyperparameters; they do not change a rule. Keras' and PyTorch's Nadam
# decay their momentum, and Adafactor and LAMB differ between papers: here they are Optax'.
OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Optimizer(optax.adam, **EPS),
    "adamw": Optimizer(
        optax.adamw,
        keras={"eps": 1e-7, "weight_decay": 4e-3},
        torch={"eps": 1e-8, "weight_decay": 1e-2},
    ),
    "nadam": Optimizer(optax.nadam),
    "amsgrad": Optimizer(optax.amsgrad, **EPS),
    "adamax": Optimizer(optax.adamax, **EPS),
    "radam": Optimizer(optax.radam),
    "yogi": Optimizer(optax.yogi),
    "adabelief": Optimizer(optax.adabelief),
    "adan": Optimizer(optax.adan),
    "sgd": Optimizer(optax.sgd),
    "momentum": Optimizer(partial(optax.sgd, momentum=0.9)),
    "nesterov": Optimizer(partial(optax.sgd, momentum=0.9, nesterov=True)),
    "rmsprop": Optimizer(optax.rmsprop, **RMSPROP),
    "rmsprop_centred": Optimizer(partial(optax.rmsprop, centered=True), **RMSPROP),
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


def build(component: Component, framework: str) -> Factory:
    """Return ``factory(learning_rate)`` with every other hyperparameter bound.

    Parameters
    ----------
    component : Component
        The optimizer's name, or ``module:factory``, and its hyperparameters in Optax's terms.
    framework : {"keras", "torch", "optax"}
        The framework whose defaults apply to hyperparameters that are not given.

    Raises
    ------
    StudyError
        If the optimizer is unknown or does not take a hyperparameter.
    """
    factories = {name: entry.factory for name, entry in OPTIMIZERS.items()}
    factory = component.resolve("optimizer", factories)
    defaults = (
        getattr(OPTIMIZERS[component.name], framework) if component.name in OPTIMIZERS else {}
    )
    arguments = {**defaults, **dict(component.parameters)}
    if "learning_rate" in arguments:
        raise StudyError(f"optimizer {component.name!r}: learning_rate is an axis of its own")
    check_arguments(f"optimizer {component.name!r}", factory, arguments)
    return partial(factory, **arguments)


def describe(name: str) -> str:
    """Return an optimizer's factory and its defaults by framework, in one line."""
    entry = OPTIMIZERS[name]
    factory, bound = entry.factory, ""
    if isinstance(factory, partial):
        bound = "(" + ", ".join(f"{k}={v}" for k, v in factory.keywords.items()) + ")"
        factory = factory.func
    home = "optax.contrib" if "contrib" in factory.__module__ else "optax"
    frameworks = [
        f"{framework}: " + ", ".join(f"{key}={value}" for key, value in defaults.items())
        for framework in ("keras", "torch", "optax")
        if (defaults := getattr(entry, framework))
    ]
    return "; ".join([f"{home}.{factory.__name__}{bound}", *frameworks])


def check(factory: Factory) -> None:
    """Trace an update of a small layer, and check the shapes of the updates.

    Raises
    ------
    ValueError
        If the updates are not of the parameters' shapes.
    """
    optimizer = factory(1e-3)
    layer = {"params": {"Dense_0": {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)}}}
    more = {"hessian": jnp.eye(3)} if needs_hessian(factory) else {}

    updates = jax.eval_shape(
        lambda: optimizer.update(layer, optimizer.init(layer), layer, **more)[0]
    )
    found, right = (str(jax.tree.map(jnp.shape, tree)) for tree in (updates, layer))
    if found != right:
        raise ValueError(f"returns updates of shapes {found} for parameters of {right}")


def needs_hessian(factory: Factory) -> bool:
    """Return whether an optimizer's ``update`` has a keyword ``hessian``.

    It is given that of the batch's loss, in the order of `jax.flatten_util.ravel_pytree`.
    """
    return "hessian" in inspect.signature(factory(1.0).update).parameters


def is_elementwise(factory: Factory) -> bool:
    """Return whether an optimizer updates every element of a parameter independently.

    Then the parameters of many runs can be one array and are updated at once; otherwise (a norm
    over a layer, a matrix product) each run is updated by itself. Decided by tracing an update:
    no operation may change a shape or act along an axis, and no number that all runs share may
    come to depend on their learning rates.
    """
    if needs_hessian(factory):
        return False
    layer = {"kernel": jnp.zeros((3, 5)), "bias": jnp.zeros(7)}
    example = {"params": {"Dense_0": layer, "Dense_1": layer}}
    optimizer = factory(jnp.zeros(()))
    state = optimizer.init(example)
    jaxpr = jax.make_jaxpr(optimizer.update)(example, state, example).jaxpr
    independent = all(_is_elementwise_equation(equation) for equation in jaxpr.eqns)
    return independent and _keeps_its_shape(factory)


def _keeps_its_shape(factory: Factory) -> bool:
    """Return whether the state keeps its shapes when each run has its own learning rate."""
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


@dataclass(frozen=True)
class BlockOptimizer:
    """An Optax optimizer of a block of runs, whose arrays end in (C, S)."""

    factory: Factory  # ``factory(learning_rate) -> optax.GradientTransformation``
    single_run: bool = False  # whether the arrays of a run lack the axes of a block

    @cached_property
    def elementwise(self) -> bool:
        """Whether parameters of many runs are updated as one array."""
        return self.single_run or is_elementwise(self.factory)

    @cached_property
    def needs_hessian(self) -> bool:
        """Whether `update` needs the Hessian of the batch's loss."""
        return needs_hessian(self.factory)

    def init(self, learning_rate: Any, parameters: Any) -> Any:
        """Return the initial state; the learning rate is (C, 1), or (C, S) if not elementwise."""
        if self.elementwise:
            return self.factory(learning_rate).init(parameters)
        return _over_runs(lambda rate, p: self.factory(rate).init(p))(
            _of_runs(learning_rate, parameters), parameters
        )

    def update(
        self, learning_rate: Any, gradient: Any, state: Any, parameters: Any, hessian: Any = None
    ) -> tuple[Any, Any]:
        """Return new parameters and state."""
        if self.elementwise:  # the step count stays one number for all runs
            return self._apply(learning_rate, gradient, state, parameters, hessian)
        rates = _of_runs(learning_rate, parameters)
        return _over_runs(self._apply)(rates, gradient, state, parameters, hessian)

    def _apply(self, rate: Any, gradient: Any, state: Any, parameters: Any, hessian: Any) -> Any:
        extra = {} if hessian is None else {"hessian": hessian}
        updates, state = self.factory(rate).update(gradient, state, parameters, **extra)
        return optax.apply_updates(parameters, updates), state


def _over_runs(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.vmap(jax.vmap(function, -1, -1), -1, -1)


def _of_runs(learning_rate: Any, parameters: Any) -> Any:
    return jnp.broadcast_to(learning_rate, jax.tree.leaves(parameters)[0].shape[-2:])


def newton(learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    """Return Newton's method: the update of a weight on s u is that on u, divided by s.

    It is exactly equivariant to units, so that a measure of sensitivity to them can be tested
    with it. Not in the registry, because it needs a positive definite Hessian, as that of a
    linear model. A study names it as ``scaling_study.engine.optimizers:newton``.

    Parameters
    ----------
    learning_rate : float
        1 steps to the minimum of the batch's loss.
    """

    def update(updates: Any, state: Any, params: Any = None, *, hessian: Any) -> Any:
        gradient, unravel = ravel_pytree(updates)
        # Powers of the units leave the matrix before it is inverted in float32.
        unit = jax.lax.rsqrt(jnp.diagonal(hessian))
        step = unit * jnp.linalg.solve(unit[:, None] * hessian * unit, unit * gradient)
        return unravel(-learning_rate * step), state

    def init(params: Any) -> optax.OptState:
        return optax.EmptyState()

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


def clipped(
    learning_rate: Any, *, rule: str = "adam", max_norm: float = 1.0, warmup: int = 100
) -> optax.GradientTransformation:
    """Return SGD or Adam with clipped gradients and a linear warm-up of the learning rate.

    Not in the registry, because it is two remedies in one; a study names it as
    ``scaling_study.engine.optimizers:clipped``.

    Parameters
    ----------
    learning_rate : float
        After the warm-up.
    rule : {"adam", "sgd"}
    max_norm : float
        Largest norm of the gradient of all parameters together (Pascanu, Mikolov and Bengio 2013).
    warmup : int
        Updates over which the learning rate rises to its value.
    """
    rules = {"adam": partial(optax.scale_by_adam, eps=1e-7), "sgd": optax.identity}
    if rule not in rules:
        raise unknown("rule", rule, rules)

    def rate(count: Any) -> Any:
        return -learning_rate * jnp.minimum(1.0, (count + 1) / warmup)

    return optax.chain(
        optax.clip_by_global_norm(max_norm), rules[rule](), optax.scale_by_schedule(rate)
    )


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

    Not in the registry, because it needs the factor; a study names it as
    ``scaling_study.engine.optimizers:adam_rescaled``.

    A weight w/s on a feature s u is w on u, and its gradient s times as large. Adam on that
    gradient divided by s, and its update divided by s, is Adam on w, from a start at w_0/s.

    Parameters
    ----------
    learning_rate : float
    factor : float
        The factor s of the feature.
    feature : int
        Index of the feature.
    gradient, update : bool
        Whether to divide each: without the first, eps is in effect eps/s; without the second,
        the feature's learning rate is in effect s times as large.
    eps : float
        Adam's eps.
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
