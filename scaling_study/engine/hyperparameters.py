"""Hyperparameters beside the learning rate, from one quasi-random list for every optimizer.

A tuning budget is a number of trials. Each trial of `TRIALS` is a learning rate with decay rates,
an epsilon and a weight decay, spread over the ranges by Sobol's sequence (as in AlgoPerf, Dahl et
al. 2023), and every optimizer takes from it what it has.
"""

import inspect
from collections.abc import Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import qmc

from scaling_study.engine.optimizers import OPTIMIZERS
from scaling_study.errors import unknown

COUNT = 24  # trials
# The ends of each range, over which the logarithm is uniform; of a decay rate, those of 1 - rate.
RANGES = {
    "learning_rate": (1e-5, 10.0),
    "first": (0.01, 1.0),
    "second": (1e-3, 0.3),
    "eps": (1e-10, 1e-2),
    "weight_decay": (1e-6, 1e-2),
}
# The arguments of Optax' factories that each stands for.
ARGUMENTS = {
    **dict.fromkeys(("b1", "momentum", "beta"), "first"),
    **dict.fromkeys(("b2", "decay", "rho", "decay_rate"), "second"),
    "eps": "eps",
    "weight_decay": "weight_decay",
}


class Trials(NamedTuple):
    """The list, arrays of shape (COUNT,) in ascending order of the learning rate."""

    learning_rate: np.ndarray
    first: np.ndarray  # decay rate of a mean of gradients, or momentum
    second: np.ndarray  # second decay rate, mostly of a mean of squares
    eps: np.ndarray
    weight_decay: np.ndarray


@cache
def trials() -> Trials:
    """Return the list of trials, numbers of three digits."""
    points = qmc.Sobol(len(RANGES), scramble=False).random_base2(5)[1 : COUNT + 1]
    low, high = np.log(np.array(list(RANGES.values()))).T
    values = np.exp(low + points * (high - low))
    values[:, 1:3] = 1 - values[:, 1:3]
    rounded = np.vectorize(lambda x: float(f"{x:.3g}"))(values)
    return Trials(*rounded[np.argsort(rounded[:, 0])].T)


def listed(learning_rate: Any, *, rule: str) -> optax.GradientTransformation:
    """Return an optimizer with the hyperparameters that the list has at a learning rate.

    Not in the registry, because it is an optimizer with a way to tune it; a study names it as
    ``scaling_study.engine.hyperparameters:listed``, with the learning rates of `trials`.

    Parameters
    ----------
    learning_rate : float
        One of the list; at another, the other hyperparameters are those of the nearest.
    rule : str
        Name of an optimizer. Arguments that no trial has, such as adan's ``b3``, stay at Optax'
        defaults.
    """
    if rule not in OPTIMIZERS:
        raise unknown("rule", rule, OPTIMIZERS)
    rates = np.log(trials().learning_rate)
    distance = jnp.abs(jnp.log(jnp.asarray(learning_rate))[..., None] - rates)
    place = distance.argmin(axis=-1)

    def value(name: str) -> Any:
        return jnp.asarray(getattr(trials(), name), jnp.float32)[place]

    arguments = {
        name: (value("first"), value("second")) if name == "betas" else value(ARGUMENTS[name])
        for name in taken(rule)
    }
    return OPTIMIZERS[rule].factory(learning_rate, **arguments)


def taken(rule: str) -> list[str]:
    """Return the arguments of an optimizer that a trial sets: those with a float as default."""
    factory = OPTIMIZERS[rule].factory
    bound: Mapping[str, Any] = factory.keywords if isinstance(factory, partial) else {}
    made = factory.func if isinstance(factory, partial) else factory
    parameters = inspect.signature(made).parameters
    defaults = {name: bound.get(name, own.default) for name, own in parameters.items()}
    numbers = [
        n for n, default in defaults.items() if n in ARGUMENTS and isinstance(default, float)
    ]
    return [*numbers, *(["betas"] if "betas" in defaults else [])]
