"""The scores of trained runs on held-out rows, and the functions that the runs compute."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from scaling_study.engine import models
from scaling_study.engine.inputs import arrays_of
from scaling_study.engine.objective import stack
from scaling_study.engine.train import Training
from scaling_study.study import draws
from scaling_study.study.conditions import Chunk, Group, problem_of
from scaling_study.study.draws import Draw
from scaling_study.study.encoding import Encoding, HeldOut, encode_held_out

Array = jax.Array


class Evaluation(NamedTuple):
    """The functions that a chunk's runs compute, and rows to evaluate them on.

    Arrays are of C conditions, S seeds, K data sets, M rows and d features. The built-in MLP takes
    canonical inputs (mean 0, sd 1), for which float32 is precise enough, and returns the target
    less its intercept; any other model takes inputs and returns the target in training units.
    """

    parameters: Any  # arrays (..., C, S)
    feature_scale: np.ndarray  # (d, C, S), training units per unit of the inputs
    inputs: tuple[np.ndarray, ...]  # (K or 1, S, M, d) of each set of rows
    targets: tuple[np.ndarray, ...]  # (K, S, M) of each set of rows
    place: np.ndarray  # (C,), index of a condition's inputs
    dataset: np.ndarray  # (C,), index of a condition's targets


def evaluation_of(
    group: Group, chunk: Chunk, training: Training, unique_data: Encoding, *rows: Draw
) -> Evaluation:
    """Return the functions that a chunk's runs compute, and some sets of rows of its seeds.

    ``training`` is of the padded chunk, and ``unique_data`` the encoding of each unique data set.
    """
    static, problem = group.static, problem_of(group.static.problem)
    model = models.build(static.model, problem.classes)
    datasets = arrays_of(group, chunk.condition_block).datasets
    drawn = draws.draw(static, group.seeds(chunk))
    parameters, scale = (
        stack(training.state.parameters, np),
        unique_data.feature_scale[:, datasets.inverse],
    )
    held_out = [encode_held_out(problem, drawn, new, datasets, unique_data) for new in rows]
    if models.can_fold(model):
        exact = jax.tree.map(lambda x: np.asarray(x, np.float64), parameters)
        shift = unique_data.feature_shift[:, datasets.inverse]
        intercept = unique_data.intercept[datasets.inverse]
        parameters = models.fold(model, exact, scale, shift, intercept)
    else:
        held_out = [_in_training_units(of, unique_data) for of in held_out]
        scale = np.ones_like(scale)

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda x: np.asarray(x, static.dtype), tree)

    inputs = tuple(cast(of.u) for of in held_out)
    shared = len(inputs[0]) == 1
    if static.problem.is_table:  # one shape for every chunk, so that one program serves them all
        held_out = [
            of._replace(
                u=of.u if shared else of.u[datasets.inverse], target=of.target[datasets.inverse]
            )
            for of in held_out
        ]
        inputs = tuple(cast(of.u) for of in held_out)
        datasets = datasets._replace(inverse=np.arange(len(datasets.inverse)))
    return Evaluation(
        cast(parameters),
        cast(scale),
        inputs,
        tuple(cast(of.target) for of in held_out),
        np.zeros_like(datasets.inverse) if shared else datasets.inverse,
        datasets.inverse,
    )


def _in_training_units(held_out: HeldOut, unique_data: Encoding) -> HeldOut:
    maps = unique_data.feature_scale, unique_data.feature_shift
    scale, shift = (np.moveaxis(x, 0, -1)[:, :, None] for x in maps)
    return HeldOut(scale * held_out.u + shift, held_out.target + unique_data.intercept[..., None])


def over_runs(
    of_run: Callable[..., Any],
    of_runs: Any,
    by_place: Any,
    by_dataset: Any,
    by_seed: Any,
    chosen: Any,
) -> Any:
    """Map a function of one run over all runs, one condition after the other; (C, S, ...).

    ``of_run`` takes ``of_runs`` (..., C, S), ``by_place`` and ``by_dataset`` (K, S, ...) and
    ``by_seed`` (S, ...); ``chosen`` are the place and data set of each condition, see `Evaluation`.
    """
    by_condition = jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), of_runs)
    count = len(by_place) + len(by_dataset) + len(by_seed)
    over_seeds = jax.vmap(of_run, in_axes=(-1, *[0] * count))

    def of_condition(x: Any) -> Any:
        runs, place, dataset = x
        data = (*(a[place] for a in by_place), *(a[dataset] for a in by_dataset))
        return over_seeds(runs, *data, *by_seed)

    return jax.lax.map(of_condition, (by_condition, *chosen))


def scores(
    group: Group, chunk: Chunk, training: Training, unique_data: Encoding
) -> dict[str, np.ndarray]:
    """Return the scores of a chunk's runs on held-out rows, if there are any, arrays (C, S).

    ``test_loss`` is the mean squared error in training units or the cross-entropy in nats. For
    regression ``test_r2`` is 1 - squared error / variance of the held-out target. For classes
    ``test_accuracy`` is the share of rows whose class has the largest logit (a row with a
    logit that is not finite counts as wrong), ``test_balanced_accuracy`` the mean recall of the
    classes, and ``test_auc`` the area under the ROC curve of two classes.
    """
    static, problem = group.static, problem_of(group.static.problem)
    if problem.held_out is None:
        return {}
    new = draws.held_out(static, group.seeds(chunk))
    known = evaluation_of(group, chunk, training, unique_data, new)
    with jax.enable_x64(static.dtype == "float64"):
        score = _score(models.build(static.model, problem.classes), problem.classes)
        found = score(known.parameters, known.inputs, known.targets, (known.place, known.dataset))
        return {f"test_{name}": value for name, value in jax.device_get(found).items()}


@lru_cache(maxsize=64)
def _score(model: nn.Module, classes: int) -> Callable[..., Any]:
    """Return a compiled function of all runs: scores (C, S) by name."""

    def of_run(parameters: Any, inputs: Array, y: Array) -> dict[str, Array]:
        outputs: Any = model.apply(parameters, inputs)
        if classes:
            return classification_scores(outputs, y, classes)
        return regression_scores(outputs, y)

    return jax.jit(lambda p, inputs, y, chosen: over_runs(of_run, p, inputs, y, (), chosen))


def regression_scores(outputs: Array, y: Array) -> dict[str, Array]:
    """Return mean squared error and R², as `sklearn.metrics.r2_score`, of predictions (M,)."""
    loss = jnp.mean((outputs - y) ** 2)
    return {"loss": loss, "r2": 1 - loss / jnp.var(y)}


def classification_scores(logits: Array, y: Array, classes: int) -> dict[str, Array]:
    """Return the scores of logits, (M,) of two classes or (M, classes)."""
    loss = log_losses(logits, y, classes).mean()
    right = is_correct(logits, y, classes)
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


def is_correct(logits: Array, y: Array, classes: int) -> Array:
    """Return 1 for each row whose class has the largest of finite logits, else 0."""
    if classes == 2:
        finite, predicted_class = jnp.isfinite(logits), logits > 0
    else:
        finite, predicted_class = jnp.isfinite(logits).all(axis=-1), jnp.argmax(logits, axis=-1)
    return (finite & (predicted_class == y)).astype(logits.dtype)


def auc(logits: Array, y: Array) -> Array:
    """Return the area under the ROC curve, as `sklearn.metrics.roc_auc_score`.

    The Mann-Whitney statistic: the share of pairs of a row of class 1 and one of class 0 that are
    in order, a tie counted as half. NaN where a class has no rows.
    """
    ordered = jnp.sort(logits)
    below, within = (jnp.searchsorted(ordered, logits, side=side) for side in ("left", "right"))
    rank = (below + within + 1) / 2
    ones = y.sum()
    zeros = len(y) - ones
    found = ((rank * y).sum() - ones * (ones + 1) / 2) / (ones * zeros)
    return jnp.where(jnp.isfinite(logits).all(), found, jnp.nan).astype(logits.dtype)
