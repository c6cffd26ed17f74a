"""A module of Flax NNX as a pure function of its parameters, with the methods of a Linen one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from scaling_study.errors import StudyError


@dataclass(frozen=True)
class SplitModule:
    """An NNX module that `flax.nnx.split` takes apart.

    Parameters
    ----------
    make : callable
        ``make(n_features, rngs=...) -> nnx.Module``, such as the module's class.
    parameters : tuple of (str, value)
        Further arguments of it.
    """

    make: Callable[..., nnx.Module]
    parameters: tuple[tuple[str, Any], ...] = ()

    def _split(self, key: jax.Array, features: int) -> Any:
        module = self.make(features, rngs=nnx.Rngs(key), **dict(self.parameters))
        graph, parameters, other = nnx.split(module, nnx.Param, ...)
        if jax.tree.leaves(other):
            kinds = {type(variable).__name__ for _, variable in nnx.to_flat_state(other)}
            raise ValueError(f"has a state beside its parameters ({', '.join(sorted(kinds))})")
        return graph, parameters, other

    def init(self, key: jax.Array, x: jax.Array) -> dict[str, Any]:
        """Return the initial parameters for rows x, (..., n_features)."""
        return {"params": nnx.to_pure_dict(self._split(key, x.shape[-1])[1])}

    def apply(self, variables: dict[str, Any], x: jax.Array) -> Any:
        """Return the module's outputs of rows x."""
        graph, parameters, other = self._split(jax.random.key(0), x.shape[-1])
        nnx.replace_by_pure_dict(parameters, variables["params"])
        module: Any = nnx.merge(graph, parameters, other)
        return module(x)


def makes_nnx(factory: Any) -> bool:
    """Return whether a factory makes a module of NNX, which it does with ``rngs``.

    Raises
    ------
    StudyError
        If it is a module that is made already.
    """
    if isinstance(factory, nnx.Module):
        raise StudyError(
            f"an NNX module has its initial parameters already, which differ between seeds; give"
            f" its class, or lambda features, rngs: {type(factory).__name__}(features, rngs=rngs)"
        )
    if isinstance(factory, type):
        return issubclass(factory, nnx.Module)
    try:
        return "rngs" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False
