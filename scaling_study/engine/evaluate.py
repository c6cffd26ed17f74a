"""What a trained run is worth on rows that it has not seen, where a problem has some."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from scaling_study.engine import models
from scaling_study.engine.objective import assemble
from scaling_study.engine.train import Training
from scaling_study.experiment import draws
from scaling_study.experiment.conditions import Chunk, Group, problem_of

Array = jax.Array


def scores(
    own: Group, chunk: Chunk, training: Training, encoding: draws.Encoding
) -> dict[str, np.ndarray]:
    """Return the scores of a chunk's runs on held-out rows, arrays (C, S).

    Parameters
    ----------
    own, chunk : Group, Chunk
        Whose runs they are.
    training : Training
        NumPy arrays ending in (C, S), of the padded chunk.
    encoding : Encoding
        What the runs were trained on; its scalers are fitted to the training rows.

    Returns
    -------
    dict of str to ndarray
        ``test_loss``, the mean squared error in training units or the cross-entropy in nats,
        and ``test_r2`` (1 - squared error / variance of the held-out target) or
        ``test_accuracy`` (share of rows whose class is named; no number names none). Empty
        where the problem holds no rows out.
    """
    static, seeds = own.static, own.seeds(chunk)
    problem = problem_of(static.problem)
    if problem.held_out is None:
        return {}
    kinds = draws.kinds_of(own.padded(chunk))
    first = np.unique(kinds.rows, return_index=True)[1]
    new = draws.encode_held_out(
        problem,
        draws.draw(static, seeds),
        draws.held_out(static, seeds),
        kinds,
        encoding.take(first),
    )
    with jax.enable_x64(static.dtype == "float64"):
        parameters = assemble(training.state.parameters)
        inputs, target = (np.asarray(part, static.dtype) for part in new)
        score = _score(models.build(static.model, problem.classes), problem.classes)
        loss, share = jax.device_get(score(parameters, inputs, target, kinds.rows))
    return {"test_loss": loss, "test_accuracy" if problem.classes else "test_r2": share}


@lru_cache(maxsize=64)
def _score(model: nn.Module, classes: int) -> Callable[..., Any]:
    """Return a compiled ``(parameters, inputs, target, kind) -> loss, share``, both (C, S)."""

    def of_run(parameters: Any, z: Array, y: Array) -> tuple[Array, Array]:
        outputs: Any = model.apply(parameters, z)
        return classified(outputs, y, classes) if classes else predicted(outputs, y)

    over_seeds = jax.vmap(of_run, in_axes=(-1, 0, 0))

    @jax.jit
    def score(parameters: Any, inputs: Array, target: Array, kind: Array) -> Any:
        by_condition = jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), parameters)
        return jax.lax.map(
            lambda run: over_seeds(run[0], inputs[run[1]], target[run[1]]), (by_condition, kind)
        )

    return score


def predicted(outputs: Array, y: Array) -> tuple[Array, Array]:
    """Return mean squared error and R² of predictions (M,), as `sklearn.metrics.r2_score`."""
    loss = jnp.mean((outputs - y) ** 2)
    return loss, 1 - loss / jnp.var(y)


def classified(logits: Array, y: Array, classes: int) -> tuple[Array, Array]:
    """Return cross-entropy and accuracy of logits, (M,) of two classes or (M, classes)."""
    if classes == 2:
        finite, named = jnp.isfinite(logits), logits > 0
        loss = optax.sigmoid_binary_cross_entropy(logits, y)
    else:
        finite, named = jnp.isfinite(logits).all(axis=-1), jnp.argmax(logits, axis=-1)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y.astype(jnp.int32))
    return jnp.mean(loss), jnp.mean((finite & (named == y)).astype(logits.dtype))
