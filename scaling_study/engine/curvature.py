"""Where a network that was trained on the full batch ended: gradient and curvature of its loss.

They are with respect to the parameters of the same function of canonical inputs, so that raw and
scaled inputs are judged alike; at a stationary point the signs of the curvatures depend on no unit.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from scaling_study.engine import evaluate, models
from scaling_study.engine.train import Training
from scaling_study.study import draws
from scaling_study.study.chunk_shapes import Static
from scaling_study.study.conditions import Chunk, Group, problem_of
from scaling_study.study.encoding import Encoding

Array = jax.Array
MOST_PARAMETERS = 200  # of a network whose whole Hessian is made


def applies(static: Static) -> bool:
    """Return whether a group's runs come to rest, and are small networks of a quantity."""
    problem = problem_of(static.problem)
    if static.sampling != "full" or problem.classes or static.model.name == "linear":
        return False
    return models.can_fold(models.build(static.model))


def ends(
    group: Group, chunk: Chunk, training: Training, unique_data: Encoding
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return columns of the runs (C, S) and of the features (d, C, S).

    ``gradient_norm``; ``curvature_least`` and ``curvature_most``, the extreme eigenvalues of the
    Hessian of the mean squared error (none of a network of more than `MOST_PARAMETERS`); and
    ``share_curvature``, each feature's share of the Hessian's diagonal over the first kernel, in
    training units.
    """
    static = group.static
    drawn = draws.draw(static, group.seeds(chunk))
    known = evaluate.evaluation_of(group, chunk, training, unique_data, drawn)
    measure = _measure(models.build(static.model))
    with jax.enable_x64(static.dtype == "float64"):
        chosen = known.place, known.dataset
        runs = known.parameters, known.feature_scale
        found = jax.device_get(measure(runs, known.inputs, known.targets, chosen))
    share = np.moveaxis(found.pop("share_curvature"), -1, 0)
    return found, {"share_curvature": share}


@lru_cache(maxsize=64)
def _measure(model: nn.Module) -> Callable[..., Any]:
    def of_run(run: Any, inputs: Array, target: Array) -> dict[str, Array]:
        parameters, feature_scale = run
        return of_one(model, parameters, feature_scale, inputs, target)

    return jax.jit(
        lambda p, inputs, y, chosen: evaluate.over_runs(of_run, p, inputs, y, (), chosen)
    )


def of_one(
    model: nn.Module, parameters: Any, feature_scale: Array, inputs: Array, target: Array
) -> dict[str, Array]:
    """Return where one run ended; ``feature_scale`` is training units per unit of the inputs."""
    flat, unravel = ravel_pytree(parameters)

    def loss(flat: Array) -> Array:
        outputs: Any = model.apply(unravel(flat), inputs)
        return jnp.mean((outputs - target) ** 2)

    gradient, hessian = jax.grad(loss)(flat), jax.hessian(loss)(flat)
    eigenvalues = jnp.full(2, jnp.nan)
    if flat.size <= MOST_PARAMETERS:
        clean = jnp.where(jnp.isfinite(hessian).all(), hessian, jnp.zeros_like(hessian))
        found = jnp.linalg.eigvalsh(clean)
        eigenvalues = jnp.where(jnp.isfinite(hessian).all(), found[jnp.array([0, -1])], jnp.nan)
    diagonal = models.first_kernel(unravel(jnp.diagonal(hessian)), inputs.shape[-1])
    by_feature = diagonal.mean(axis=1) * feature_scale**2
    return {
        "gradient_norm": jnp.linalg.norm(gradient),
        "curvature_least": eigenvalues[0],
        "curvature_most": eigenvalues[1],
        "share_curvature": by_feature / jnp.abs(by_feature).sum(),
    }
