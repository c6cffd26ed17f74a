"""What a trained run is worth on rows that it has not seen, where a problem has some."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from scaling_study.engine import models
from scaling_study.engine.objective import assemble
from scaling_study.engine.train import Training
from scaling_study.study import draws
from scaling_study.study.conditions import Chunk, Group, problem_of
from scaling_study.study.draws import Draw
from scaling_study.study.encoding import Encoding, HeldOut, encode_held_out, kinds_of

Array = jax.Array


class Functions(NamedTuple):
    """What a chunk's runs compute, as functions of the rows given here.

    They take canonical inputs, of which float32 keeps every digit that matters, and return the
    target less its intercept. A model whose first layer is not known takes training inputs.

    Attributes
    ----------
    parameters : pytree of ndarray of shape (..., C, S)
    gain : ndarray of shape (d, C, S)
        Training units per unit of the inputs.
    inputs : tuple of ndarray of shape (K or 1, S, M, d)
        Of each set of rows.
    targets : tuple of ndarray of shape (K, S, M)
    place : ndarray of shape (C,)
        Where a condition's inputs are.
    kind : ndarray of shape (C,)
        Where its targets are.
    """

    parameters: Any
    gain: np.ndarray
    inputs: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]
    place: np.ndarray
    kind: np.ndarray


def functions_of(
    own: Group, chunk: Chunk, training: Training, encoding: Encoding, *rows: Draw
) -> Functions:
    """Return what a chunk's runs compute of some sets of rows.

    Parameters
    ----------
    own, chunk : Group, Chunk
        Whose runs they are.
    training : Training
        NumPy arrays ending in (C, S), of the padded chunk.
    encoding : Encoding
        What the runs were trained on; its scalers are fitted to the training rows.
    *rows : Draw
        Of the chunk's seeds.
    """
    static, problem = own.static, problem_of(own.static.problem)
    model, kinds = models.build(static.model, problem.classes), kinds_of(own.padded(chunk))
    distinct = encoding.take(np.unique(kinds.rows, return_index=True)[1])
    drawn = draws.draw(static, own.seeds(chunk))
    parameters, gain = assemble(jax.tree.map(np.asarray, training.state.parameters)), encoding.gain
    seen = [encode_held_out(problem, drawn, new, kinds, distinct) for new in rows]
    if models.can_fold(model):
        exact = jax.tree.map(lambda x: np.asarray(x, np.float64), parameters)
        parameters = models.fold(model, exact, gain, encoding.shift, encoding.intercept)
    else:
        seen, gain = [_in_training_units(of, distinct) for of in seen], np.ones_like(gain)

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda x: np.asarray(x, static.dtype), tree)

    inputs = tuple(cast(of.u) for of in seen)
    shared = len(inputs[0]) == 1
    return Functions(
        cast(parameters),
        cast(gain),
        inputs,
        tuple(cast(of.target) for of in seen),
        np.zeros_like(kinds.rows) if shared else kinds.rows,
        kinds.rows,
    )


def _in_training_units(held: HeldOut, distinct: Encoding) -> HeldOut:
    gain, shift = (np.moveaxis(x, 0, -1)[:, :, None] for x in (distinct.gain, distinct.shift))
    return HeldOut(gain * held.u + shift, held.target + distinct.intercept[..., None])


def scores(
    own: Group, chunk: Chunk, training: Training, encoding: Encoding
) -> dict[str, np.ndarray]:
    """Return the scores of a chunk's runs on held-out rows, arrays (C, S).

    Parameters
    ----------
    own, chunk, training, encoding
        As for `functions_of`.

    Returns
    -------
    dict of str to ndarray
        ``test_loss``, the mean squared error in training units or the cross-entropy in nats.
        Of a quantity ``test_r2``, 1 - squared error / variance of the held-out target. Of classes
        ``test_accuracy``, the share of rows whose class is named (no number names none);
        ``test_balanced_accuracy``, its mean over the classes; and for two classes ``test_auc``,
        the area under the ROC curve. Empty where the problem holds no rows out.
    """
    static, problem = own.static, problem_of(own.static.problem)
    if problem.held_out is None:
        return {}
    new = draws.held_out(static, own.seeds(chunk))
    seen = functions_of(own, chunk, training, encoding, new)
    with jax.enable_x64(static.dtype == "float64"):
        score = _score(models.build(static.model, problem.classes), problem.classes)
        found = score(seen.parameters, seen.inputs[0], seen.targets[0], seen.place, seen.kind)
        return {f"test_{name}": value for name, value in jax.device_get(found).items()}


@lru_cache(maxsize=64)
def _score(model: nn.Module, classes: int) -> Callable[..., Any]:
    """Return a compiled function of all runs: scores (C, S) by name."""

    def of_run(parameters: Any, inputs: Array, y: Array) -> dict[str, Array]:
        outputs: Any = model.apply(parameters, inputs)
        return classified(outputs, y, classes) if classes else predicted(outputs, y)

    over_seeds = jax.vmap(of_run, in_axes=(-1, 0, 0))

    @jax.jit
    def score(parameters: Any, inputs: Array, target: Array, place: Array, kind: Array) -> Any:
        by_condition = jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), parameters)
        return jax.lax.map(
            lambda run: over_seeds(run[0], inputs[run[1]], target[run[2]]),
            (by_condition, place, kind),
        )

    return score


def predicted(outputs: Array, y: Array) -> dict[str, Array]:
    """Return mean squared error and R² of predictions (M,), as `sklearn.metrics.r2_score`."""
    loss = jnp.mean((outputs - y) ** 2)
    return {"loss": loss, "r2": 1 - loss / jnp.var(y)}


def classified(logits: Array, y: Array, classes: int) -> dict[str, Array]:
    """Return the scores of logits, (M,) of two classes or (M, classes)."""
    loss = log_losses(logits, y, classes).mean()
    right = named_rightly(logits, y, classes)
    members = y[:, None] == jnp.arange(classes)
    counts = members.sum(axis=0)
    recall = (right[:, None] * members).sum(axis=0) / jnp.maximum(counts, 1)
    balanced = recall.sum() / (counts > 0).sum()
    found = {"loss": loss, "accuracy": right.mean(), "balanced_accuracy": balanced}
    return found | ({"auc": auc(logits, y)} if classes == 2 else {})


def log_losses(logits: Array, y: Array, classes: int) -> Array:
    """Return the log-loss of each row, in nats."""
    if classes == 2:
        return optax.sigmoid_binary_cross_entropy(logits, y)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y.astype(jnp.int32))


def named_rightly(logits: Array, y: Array, classes: int) -> Array:
    """Return 1 for each row whose class has the largest logit, else 0."""
    if classes == 2:
        finite, named = jnp.isfinite(logits), logits > 0
    else:
        finite, named = jnp.isfinite(logits).all(axis=-1), jnp.argmax(logits, axis=-1)
    return (finite & (named == y)).astype(logits.dtype)


def auc(logits: Array, y: Array) -> Array:
    """Return the area under the ROC curve, as `sklearn.metrics.roc_auc_score`.

    It is the share of pairs of a row of class 1 and one of class 0 that are in order, a tie
    counted as half, by the ranks of Mann and Whitney. NaN where a class has no rows.
    """
    ordered = jnp.sort(logits)
    below, within = (jnp.searchsorted(ordered, logits, side=side) for side in ("left", "right"))
    rank = (below + within + 1) / 2
    ones = y.sum()
    zeros = len(y) - ones
    found = ((rank * y).sum() - ones * (ones + 1) / 2) / (ones * zeros)
    return jnp.where(jnp.isfinite(logits).all(), found, jnp.nan).astype(logits.dtype)
