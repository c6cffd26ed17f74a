"""Functions of one run, mapped over the runs of a tile, whose arrays lead with (C, S)."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from scaling_study.engine.objective import Array, RowsOfRun


def runs_first(tree: Any) -> Any:
    """Return arrays (..., C, S) as (C, S, ...)."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, (-2, -1), (0, 1)), tree)


def runs_last(tree: Any) -> Any:
    """Undo `runs_first`."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, (0, 1), (-2, -1)), tree)


def rows_of_runs(inputs: Array, target: Array) -> RowsOfRun:
    """Return which rows are those of each run.

    Parameters
    ----------
    inputs : array of shape ([C, ]S or 1, N, d)
    target : array of shape (C, S, N)
    """
    runs = target.shape[:2]
    seed = jnp.broadcast_to(jnp.arange(runs[1], dtype=jnp.int32), runs)
    datasets = jnp.arange(math.prod(inputs.shape[:-2]), dtype=jnp.int32)
    dataset = jnp.broadcast_to(datasets.reshape(inputs.shape[:-2]), runs)
    return RowsOfRun(target, dataset, seed)


def over_runs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map a function of one run over the runs of a tile.

    The runs are one axis while it is mapped, for which XLA copies fewer arrays than for two.

    Parameters
    ----------
    function : callable
        ``function(run, data, *shared)``, where ``run`` and ``data`` are arrays of the run, and
        what is shared is the same for all runs.
    """

    def mapped(run: Any, data: Any, *shared: Any) -> Any:
        runs = jax.tree.leaves(run)[0].shape[:2]
        count = runs[0] * runs[1]  # an array of a run may be empty, so that -1 would not do
        of_run = jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), (run, data))
        done = jax.vmap(function, in_axes=(0, 0, *[None] * len(shared)))(*of_run, *shared)
        return jax.tree.map(lambda x: x.reshape(*runs, *x.shape[1:]), done)

    return mapped
