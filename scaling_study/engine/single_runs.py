"""Functions of one run, mapped over the runs of a tile, whose arrays lead with (C, S)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from scaling_study.engine.objective import Array, Rows

# The axis of seeds, or of conditions and seeds, in rows of one batch and of an epoch's batches.
ONE_BATCH, BATCHES = 0, 1


def runs_first(tree: Any) -> Any:
    """Return arrays (..., C, S) as (C, S, ...)."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, (-2, -1), (0, 1)), tree)


def runs_last(tree: Any) -> Any:
    """Undo `runs_first`."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, (0, 1), (-2, -1)), tree)


def over_runs(function: Callable[..., Any], *axes: int) -> Callable[..., Any]:
    """Map a function of one run over the runs of a tile.

    The runs are one axis while it is mapped, for which XLA copies fewer arrays than for two.

    Parameters
    ----------
    function : callable
        ``function(run, data, *rows, *shared)``, where ``run`` and ``data`` are arrays of the run,
        and what is shared is the same for all runs.
    *axes : int
        `ONE_BATCH` or `BATCHES`, of each argument that is `Rows`. All conditions of a seed may
        share them.
    """

    def mapped(run: Any, data: Any, *arguments: Any) -> Any:
        runs = jax.tree.leaves(run)[0].shape[:2]
        rows, shared = arguments[: len(axes)], arguments[len(axes) :]
        count = runs[0] * runs[1]  # an array of a run may be empty, so that -1 would not do
        of_run = jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), (run, data))
        of_rows = [_of_each_run(x, axis, runs) for x, axis in zip(rows, axes, strict=True)]
        in_axes: list[Any] = [Rows(*(axis, axis, None)) for axis in axes]  # type: ignore[arg-type]
        done = jax.vmap(function, in_axes=(0, 0, *in_axes, *[None] * len(shared)))(
            *of_run, *of_rows, *shared
        )
        return jax.tree.map(lambda x: x.reshape(*runs, *x.shape[1:]), done)

    return mapped


def _of_each_run(rows: Rows, axis: int, runs: tuple[int, ...]) -> Rows:
    """Return the rows of each of the runs, in one axis."""
    shared = rows.residual.ndim == axis + 2

    def of_runs(x: Array) -> Array:
        lead, rest = x.shape[:axis], x.shape[axis + (1 if shared else 2) :]
        if shared:
            x = jnp.broadcast_to(jnp.expand_dims(x, axis), (*lead, *runs, *rest))
        return x.reshape(*lead, -1, *rest)

    return rows._replace(inputs=of_runs(rows.inputs), residual=of_runs(rows.residual))
