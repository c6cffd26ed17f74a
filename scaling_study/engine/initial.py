"""The initial parameters of a chunk's seeds.

They are drawn apart from the program that trains them, so that programs that differ in their
starts alone are one, and a start is the same whatever it is compiled with.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import Array

from scaling_study.engine.cache import without_unreadable
from scaling_study.engine.models import Parameters
from scaling_study.engine.program import model_of, tiles_of
from scaling_study.study.chunk_shapes import Static
from scaling_study.study.conditions import Group, shape_of


def initial_of(group: Group, seeds: range) -> Parameters:
    """Return each seed's initial parameters, leaves (n_seed_tiles, ..., n_seeds of a tile)."""
    return without_unreadable(lambda: _draw(group.static)(seeds_of(group, seeds)))


def shapes_of(group: Group) -> Parameters:
    """Return the shapes and dtypes of `initial_of`, for all seeds of a chunk."""
    return jax.eval_shape(_draw(group.static), seeds_of(group, range(group.shape.seeds)))


def seeds_of(group: Group, seeds: range) -> np.ndarray:
    """Return the seeds of the initial parameters, in tiles."""
    held = group.static.init_seed
    init = [seed if held == "vary" else int(held) for seed in seeds]
    return tiles_of(group).cut_seeds(np.asarray(init, np.uint32))


def _draw(static: Static) -> Callable[[np.ndarray], Parameters]:
    return _drawing(model_of(static), shape_of(static.problem)[1], static.dtype)


@lru_cache(maxsize=64)
def _drawing(model: nn.Module, features: int, dtype: str) -> Callable[[np.ndarray], Parameters]:
    def of_tile(seeds: Array) -> Parameters:
        return initial_parameters(model, seeds, features, dtype)

    return jax.jit(jax.vmap(of_tile))


def initial_parameters(model: nn.Module, seeds: Array, features: int, dtype: Any) -> Parameters:
    """Return each seed's initial parameters, arrays of shape (..., S).

    Drawn in float32 whatever the dtype of the training, so that both dtypes start alike.
    """

    def of_seed(seed: Array) -> Parameters:
        return model.init(jax.random.key(seed), jnp.zeros((1, features), jnp.float32))

    drawn = jax.vmap(of_seed, out_axes=-1)(seeds)
    return jax.tree.map(lambda x: x.astype(dtype), drawn)
