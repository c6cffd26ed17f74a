"""Measures of how well a run was trained: its loss, its held-out score, and where it ended.

A run that diverged is worse than every other one: its loss is infinite, so that comparisons
within a seed count it and no cell has to be left out.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis import requirements
from scaling_study.analysis.registry import column, log_time, measure, register
from scaling_study.analysis.run_table import Array, Seeds, Table
from scaling_study.study import draws
from scaling_study.study.component import Component
from scaling_study.study.conditions import Condition, problem_of, split

TOLERANCE = 1e-3  # excess share below which a run has converged, unless a study says otherwise
# A run on the full batch has ended at a stationary point where the gradient, per canonical input
# and in standard deviations of the target, is at most this; at a minimum if no curvature is
# further below zero than this share of the largest; and above the best restart if its loss is
# larger by this share of the loss of the best constant.
STATIONARY = 1e-3
FLAT_CURVATURE = 1e-3
WORSE = 0.01
RESTART_AXES = (
    *("block", "scale_factor", "offset", "scaler", "target_scaler", "model", "optimizer"),
    *("learning_rate", "updates", "data_seed", "start"),
)


@measure(share=True)
def diverged(table: Table) -> Array:
    """1 where the run diverged, else 0; a run that failed has not been trained."""
    failed = (table.runs["status"] == "failed").to_numpy()
    return np.where(failed, np.nan, table.diverged)


@measure(requirements.target)
def log_steps(table: Table) -> Array:
    """log10 of the updates to the target, infinite beyond the budget."""
    return np.where(table.has_target, log_time(table["steps_to_target"]), np.nan)


@measure(requirements.known_minimum)
def excess_share(table: Table) -> Array:
    """Excess share: 0 is the least loss, 1 that of the best constant; infinite if diverged."""
    return np.where(table.diverged, np.inf, table["excess_share"])


def share_left(table: Table) -> Array:
    """Return the share of the loss that is left: 1 is the best constant, infinite if diverged.

    It is counted from the least loss where that is known, as of a linear model; else from the
    loss of the problem's law, the mean square of its noise, which a network can undercut; and
    from 0 where there is no law, as of a real table.
    """
    law, null = _law_loss(table), column(table, "loss_null")
    law = np.where(np.isnan(law), 0.0, law)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        of_law = (column(table, "final_loss") - law) / (null - law)
    known = column(table, "excess_share")
    return np.where(table.diverged, np.inf, np.where(np.isnan(known), of_law, known))


def _law_loss(table: Table) -> Array:
    """Return the loss of the law on the training rows in training units, NaN without a law."""

    def of(condition: Condition, seeds: Seeds) -> Array | float:
        problem = problem_of(condition.problem)
        if problem.classes or problem.held_out is not None or condition.design != "U":
            return np.nan
        return _noise_share(condition.problem, condition.data_seed, tuple(seeds.tolist()))

    return table.by_condition(of) * column(table, "loss_null")


# Thousands of conditions share their data: drawing them again for each took most of the time.
@lru_cache(maxsize=256)
def _noise_share(problem: Component, data_seed: int | str, seeds: tuple[int, ...]) -> Array:
    """Return the mean square of the noise over the target's variance, one value a seed."""
    drawn = draws.rows_of(problem, data_seed, seeds)
    target = problem_of(problem).law(drawn.u) + drawn.noise
    return (drawn.noise**2).mean(axis=-1) / target.var(axis=-1)


@measure()
def remaining_excess(table: Table) -> Array:
    """Share of the loss that is left, or the tolerance where less is; infinite if diverged."""
    return np.maximum(share_left(table), table["tolerance"])


@measure()
def final_loss(table: Table) -> Array:
    """Loss on the training rows at the end, in training units; infinite if diverged."""
    return or_worst(table, "final_loss", np.inf)


# Held-out rows --------------------------------------------------------------------------------


@measure(requirements.any_held_out)
def held_out_error(table: Table) -> Array:
    """1 - R² or 1 - accuracy on held-out rows; infinite if diverged.

    Recorded of networks and of real tables; of linear models on other problems, computed from
    their weights on as many fresh rows.
    """
    score = column(table, "test_r2")
    for name in ("r2_held_out", "test_accuracy", "accuracy_held_out"):
        score = np.where(np.isnan(score), column(table, name), score)
    error = np.where(np.isnan(score), _linear_error(table), 1 - score)
    return np.where(table.diverged, np.inf, np.where(table.completed, error, np.nan))


@measure(requirements.any_held_out)
def remaining_error(table: Table) -> Array:
    """`held_out_error` above that of the law or of the least loss's order: at least a hundredth.

    Two runs whose errors agree to a hundredth of the target's variance are tied.
    """
    return np.ceil(100 * held_out_error(table)) / 100


def _linear_error(table: Table) -> Array:
    """Return 1 - R² of linear models on fresh rows, from their weights in original units."""
    if "weight_original_first" not in table or "bias_original" not in table:
        return np.full(len(table), np.nan)
    weights, bias = table.function_weights("weight_original"), table["bias_original"]

    def of(condition: Condition, seeds: Seeds, rows: Any) -> Array | float:
        if requirements.quadratic_pair(condition, "") or condition.offset:
            return np.nan
        if problem_of(condition.problem).held_out is not None:
            return np.nan
        inputs, target = _fresh(condition, seeds)
        with np.errstate(invalid="ignore", over="ignore"):
            predicted = np.einsum("snj,sj->sn", inputs, weights[rows])
            missed = target - predicted - bias[rows][:, None]
            return (missed**2).mean(axis=1) / target.var(axis=1)

    found = np.full(len(table), np.nan)
    for name, rows in table.places.items():
        found[rows] = of(table.conditions[name], table.seeds[rows], rows)
    return found


def _fresh(condition: Condition, seeds: Seeds) -> tuple[Array, Array]:
    """Return held-out rows (S, N, 2), first and last feature, and their target (S, N)."""
    from scaling_study.analysis.run_table import feature_pair

    problem = problem_of(condition.problem)
    drawn = _held_out_rows(condition.problem, condition.data_seed, tuple(seeds.tolist()))
    scale = np.array(problem.reference_scale, float)
    if condition.design == "F":
        scale[problem.scaled_feature] = condition.scale_factor
        law = drawn.u @ (problem.coefficients * scale)
    else:
        law = problem.law(drawn.u)
    inputs = drawn.u[..., list(feature_pair(condition))]
    shape = (len(seeds), *inputs.shape[1:])
    return np.broadcast_to(inputs, shape), np.broadcast_to(law + drawn.noise, shape[:2])


@lru_cache(maxsize=8)
def _held_out_rows(problem: Component, data_seed: int | str, seeds: tuple[int, ...]) -> draws.Draw:
    return draws.rows_of(problem, data_seed, seeds, "held_out")


SCORES = {
    "loss": ("Loss", np.inf, requirements.held_out),
    "r2": ("R2", -np.inf, requirements.held_out_quantity),
    "accuracy": ("Accuracy", 0.0, requirements.held_out_classes),
    "balanced_accuracy": ("Balanced accuracy", 0.0, requirements.held_out_classes),
    "auc": ("AUC", 0.0, requirements.held_out_two_classes),
}


def or_worst(table: Table, name: str, worst: float) -> Array:
    """Return a column, with the worst value where a run diverged."""
    values = column(table, name)
    return np.where(table.diverged & ~np.isnan(values), worst, values)


for _name, (_title, _worst, _requires) in SCORES.items():
    register(
        f"test_{_name}",
        lambda table, column=f"test_{_name}", worst=_worst: or_worst(table, column, worst),
        f"{_title} on held-out rows; {_worst:g} if diverged.",
        _requires,
    )


# Where a run ended ----------------------------------------------------------------------------


@measure(requirements.full_batch, share=True)
def in_worse_minimum(table: Table) -> Array:
    """1 where the run ended in a local minimum above the best of its restarts, else 0.

    Judged by curvature, see `STATIONARY`; restarts differ in ``init_seed`` and share the data.
    A linear model has one minimum, so that it is 0 there.
    """
    return _ended(table, "minimum")


@measure(requirements.full_batch, share=True)
def at_worse_saddle(table: Table) -> Array:
    """1 where the run ended at a saddle point above the best of its restarts, else 0."""
    return _ended(table, "saddle")


@measure(requirements.full_batch, share=True)
def on_worse_slope(table: Table) -> Array:
    """1 where the run ended above the best of its restarts and still descends, else 0."""
    return _ended(table, "slope")


def _ended(table: Table, where: str) -> Array:
    frame = pd.DataFrame({name: table.runs[name].astype(str) for name in RESTART_AXES})
    cell = frame.assign(seed=table.seeds).groupby([*frame, "seed"], sort=False).ngroup()
    loss = np.where(table.completed, column(table, "final_loss"), np.inf)
    best = pd.Series(loss).groupby(cell.to_numpy()).transform("min").to_numpy()
    null = column(table, "loss_null")
    worse = loss > best + WORSE * null
    with np.errstate(invalid="ignore"):
        stationary = column(table, "gradient_norm") <= STATIONARY * np.sqrt(null)
        least, most = column(table, "curvature_least"), column(table, "curvature_most")
        minimum = stationary & (least >= -FLAT_CURVATURE * most)
    linear = table.by_condition(lambda c, _: c.model.name == "linear").astype(bool)
    unknown = np.isnan(least) & ~linear & table.completed
    kinds = {"minimum": minimum, "saddle": stationary & ~minimum, "slope": ~stationary}
    found = worse & kinds[where] & ~(linear & (where == "minimum"))
    return np.where(unknown, np.nan, found.astype(float))


# Inputs ---------------------------------------------------------------------------------------

STANDARD_ERRORS = 3.0  # by which a mean or sd of new rows may differ and still be close


@measure(share=True)
def in_place_train(table: Table) -> Array:
    """1 where the scaled training rows are where the scaler promises, else 0."""
    return table.by_condition(lambda c, seeds: _in_place(c, seeds, new=False))


@measure(share=True)
def in_place_held_out(table: Table) -> Array:
    """1 where as many new rows, scaled by what was fitted, are there too, else 0.

    Mean and standard deviation of new rows are close to 0 and 1 if they differ by no more than
    three standard errors, of the rows that were fitted and of the new ones.
    """
    return table.by_condition(lambda c, seeds: _in_place(c, seeds, new=True))


def _in_place(condition: Condition, seeds: Seeds, *, new: bool) -> Array:
    """Return whether rows lie in [0, 1] (minmax), or have mean 0 and sd 1 (standard)."""
    from scaling_study.study import scalers
    from scaling_study.study.encoding import observed

    problem, static = problem_of(condition.problem), split(condition)
    fitted, rows = (
        observed(problem, of(static, seeds.tolist()).u, [condition])[0]
        for of in (draws.draw, draws.held_out if new else draws.draw)
    )
    shift, divisor = scalers.affine(condition.scaler.name, fitted)
    z = (rows - shift[:, None]) / divisor[:, None]
    if condition.scaler.name == "minmax":
        return ((z >= -1e-9) & (z <= 1 + 1e-9)).all(axis=(1, 2)).astype(np.float64)
    mean, deviation = z.mean(axis=1), z.std(axis=1)
    error = (1 / fitted.shape[1] + 1 / rows.shape[1]) ** 0.5
    kurtosis = ((z - mean[:, None]) ** 4).mean(axis=1) / deviation**4
    slack = [STANDARD_ERRORS * error * x if new else 1e-9 for x in (1, np.sqrt(kurtosis - 1) / 2)]
    close = (np.abs(mean) < slack[0]) & (np.abs(deviation - 1) < slack[1])
    return close.all(axis=1).astype(np.float64)
