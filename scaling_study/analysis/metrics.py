"""The measures: one number a run, for a claim to be about.

A measure takes a `Table`, the runs of some blocks with two features side by side, and returns
one number a run. The last is the feature that a study scales, the first is the other one, if
there is one other. NaN means that the run has no such number: a weight of a network, anything
but a time of a run that diverged, a comparison of two features where there are more. Infinity
means that a time lies beyond the budget.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis import theory
from scaling_study.analysis.summary import DIVERGED_OR_FAILED, SIGNIFICANT_T
from scaling_study.storage.results import Results
from scaling_study.storage.schema import FEATURE_COLUMNS
from scaling_study.study import draws, scalers
from scaling_study.study.component import Component
from scaling_study.study.conditions import Condition, expand, problem_of, shape_of, split
from scaling_study.study.encoding import observed

Array = NDArray[np.float64]
TOLERANCE = 1e-3  # the usual excess share at which a run has converged
STUCK = 1.5  # times the least final loss of all restarts
SETTLED = 0.01  # share of a loss that more training no longer takes off
SCORES = {"loss": np.inf, "r2": -np.inf} | dict.fromkeys(
    ("accuracy", "balanced_accuracy", "auc"), 0.0
)
# Methods whose shares are recorded, beside weight and permutation, which linear runs have anyway.
RECORDED = (
    *("garson", "olden", "gradient", "gradient_input", "integrated_gradients"),
    *("permutation_accuracy", "linear_shap"),
)
RESTART_AXES = ("block", "scale_factor", "offset", "scaler", "model", "optimizer", "learning_rate")


class Table:
    """The runs of some conditions, with what their features are.

    Parameters
    ----------
    results : Results
    blocks : sequence of str
        Whose runs; all where empty.

    Attributes
    ----------
    runs : DataFrame
        One row a run: ``condition, seed``, outcomes, every axis (``updates`` is the budget), and
        each feature column twice, ``weight_first`` and ``weight_last``; those of the first are
        NaN unless there are two features.
    conditions : dict of str to Condition
        By their name.
    """

    def __init__(self, results: Results, blocks: Sequence[str] = ()) -> None:
        wanted = list(blocks) or list(results.study.blocks)
        runs, features = results.runs, results.features
        own = runs["block"].isin(wanted).to_numpy()
        both = features[features["block"].isin(wanted).to_numpy()]
        self.runs = runs = runs[own].reset_index(drop=True)
        names = {condition.id: condition for condition in expand(results.study)}
        self.conditions = {str(n): names[str(n)] for n in runs["condition"].unique()}
        number, scaled = (
            self.by_condition(lambda c, _, what=what: what(c)).astype(int)
            for what in (_features_of, _scaled_of)
        )
        # Features lie in the order of their runs, so that no merge is needed.
        start = np.cumsum(number) - number
        pair = number == 2
        shares = [name for name in both if str(name).startswith("share_")]
        for name in (*FEATURE_COLUMNS, *shares):
            values = both[name].to_numpy(np.float64)
            runs[f"{name}_last"] = values[start + scaled]
            other = values[start + np.where(pair, 1 - scaled, 0)]
            runs[f"{name}_first"] = np.where(pair, other, np.nan)
        budget = self.by_condition(lambda condition, _: np.float64(condition.updates))
        runs["updates"] = pd.Categorical(budget.astype(int))

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, name: str) -> Array:
        """Return a column of numbers."""
        return self.runs[name].to_numpy(np.float64)

    def take(self, rows: Any) -> "Table":
        """Return the table of some of its runs."""
        own = object.__new__(Table)
        own.runs = self.runs[rows].reset_index(drop=True)
        own.conditions = self.conditions
        return own

    @cached_property
    def diverged(self) -> NDArray[np.bool_]:
        """Whether a run diverged."""
        return (self.runs["status"].astype(str) == "diverged").to_numpy()

    @cached_property
    def completed(self) -> NDArray[np.bool_]:
        """Whether a run neither diverged nor failed."""
        return ~self.runs["status"].isin(DIVERGED_OR_FAILED).to_numpy()

    @cached_property
    def has_target(self) -> NDArray[np.bool_]:
        """Whether a run had a target: its least loss is known, or its study gave one."""
        given = (self.runs["target_loss"].astype(str) != "none").to_numpy()
        return given | np.isfinite(self["loss_least"])

    @cached_property
    def seeds(self) -> NDArray[np.int64]:
        """Each run's seed."""
        return self.runs["seed"].to_numpy(np.int64)

    def by_condition(self, function: Callable[[Condition, Any], Any]) -> Array:
        """Return ``function(condition, seeds)`` of each condition's runs, a number a run."""
        found = np.full(len(self), np.nan)
        for name, rows in self.runs.groupby("condition", observed=True).indices.items():
            found[rows] = function(self.conditions[str(name)], self.seeds[rows])
        return found

    @cached_property
    def covariance(self) -> Array:
        """Covariance of each run's features in canonical units, of the two ends, (n, 2, 2)."""
        found = np.full((len(self), 2, 2), np.nan)
        for name, rows in self.runs.groupby("condition", observed=True).indices.items():
            condition = self.conditions[str(name)]
            whole = _covariances(condition.problem, condition.data_seed, tuple(self.seeds[rows]))
            ends = list(_ends_of(condition))
            found[rows] = whole[:, np.array(ends)[:, None], ends]
        return found

    @cached_property
    def scales(self) -> Array:
        """Factor from canonical to observed units of the two ends, shape (n, 2)."""
        first = self.by_condition(
            lambda c, _: problem_of(c.problem).reference_scale[_ends_of(c)[0]]
        )
        return np.stack([first, self["scale_factor"]], axis=-1)

    def function_weights(self, name: str) -> Array:
        """Return weights per canonical unit, s w, of the two ends; ``weight_original`` or OLS."""
        return self.scales * np.stack([self[f"{name}_first"], self[f"{name}_last"]], axis=-1)


def _features_of(condition: Condition) -> int:
    return shape_of(condition.problem)[1]


def _scaled_of(condition: Condition) -> int:
    return problem_of(condition.problem).scaled_feature


def _ends_of(condition: Condition) -> tuple[int, int]:
    """Return another feature, which is the other one if there are two, and the scaled one."""
    scaled = _scaled_of(condition)
    return int(scaled == 0), scaled


@lru_cache(maxsize=256)
def _covariances(problem: Component, data_seed: int | str, seeds: tuple[int, ...]) -> Array:
    made = problem_of(problem)
    if data_seed != "vary":
        u = made.draw(int(data_seed))[0]
        return np.broadcast_to(theory.covariance(u), (len(seeds), u.shape[1], u.shape[1]))
    return theory.covariance(np.stack([made.draw(int(seed))[0] for seed in seeds]))


# Importance -----------------------------------------------------------------------------------


def share_of(parts: Array) -> Array:
    """Return the last part's share, of magnitudes in the last axis; NaN where all are zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return parts[..., -1] / parts.sum(axis=-1)


def share_weight(table: Table) -> Array:
    """Share of |w| that the scaled feature has, in training units; recorded of networks."""
    recorded = _recorded("weight")(table)
    parts = np.abs(np.stack([table["weight_first"], table["weight_last"]], axis=-1))
    return np.where(table.completed & np.isnan(recorded), share_of(parts), recorded)


def share_contribution(table: Table) -> Array:
    """Share of |w| times the feature's standard deviation, which no unit changes."""
    return np.where(table.completed, _contribution(table, "weight_original"), np.nan)


def share_permutation(table: Table) -> Array:
    """Share of permutation importance, as recorded, or in closed form of two linear features.

    Negative where permuting would help.
    """
    recorded = _recorded("permutation")(table)
    closed = _permutation(table, "weight_original")
    return np.where(table.completed & np.isnan(recorded), closed, recorded)


def distortion_weight(table: Table) -> Array:
    """Share of |w| less the share that least squares gives the feature's contribution."""
    return share_weight(table) - _contribution(table, "weight_ols")


def distortion_contribution(table: Table) -> Array:
    """Share of |w| sd less that of least squares."""
    return share_contribution(table) - _contribution(table, "weight_ols")


def distortion_permutation(table: Table) -> Array:
    """Share of permutation importance less that of least squares."""
    return share_permutation(table) - _permutation(table, "weight_ols")


def _contribution(table: Table, name: str) -> Array:
    deviation = np.sqrt(np.diagonal(table.covariance, axis1=-2, axis2=-1))
    return share_of(np.abs(table.function_weights(name)) * deviation)


def _permutation(table: Table, name: str) -> Array:
    parts = _permutations(table, name)
    with np.errstate(invalid="ignore", divide="ignore"):
        return parts[:, -1] / np.abs(parts).sum(axis=-1)


def _permutations(table: Table, name: str) -> Array:
    weights, ols = table.function_weights(name), table.function_weights("weight_ols")
    with np.errstate(invalid="ignore", over="ignore"):
        return theory.permutation_importance(weights, ols, table.covariance)


def size_of(function: Callable[[Table], Array]) -> Callable[[Table], Array]:
    """Return the measure's magnitude: for two features, the total variation of the shares."""

    def measure(table: Table) -> Array:
        return np.abs(function(table))

    measure.__doc__ = f"Size of: {(function.__doc__ or '').rstrip('.')}."
    return measure


# Training -------------------------------------------------------------------------------------


def log_movement_ratio(table: Table) -> Array:
    """log10 of how far the last weight moved over how far the first did (training units)."""
    return np.where(table.completed, _log(table["movement_last"] / table["movement_first"]), np.nan)


def log_gradient_ratio_init(table: Table) -> Array:
    """log10 of the last feature's gradient norm at the start over the first's."""
    return _log(table["grad_norm_init_last"] / table["grad_norm_init_first"])


def log_gradient_ratio_mean(table: Table) -> Array:
    """log10 of the last feature's mean gradient norm over all updates over the first's."""
    ratio = table["grad_norm_mean_last"] / table["grad_norm_mean_first"]
    return np.where(table.completed, _log(ratio), np.nan)


def log_curvature_ratio(table: Table) -> Array:
    """log10 of the Hessian's diagonal at the last feature over that at the first."""

    def of(condition: Condition, seeds: Array) -> Any:
        if not _is_linear(condition) or _features_of(condition) != 2:
            return np.nan
        square = (theory.training_inputs(condition, seeds.tolist()) ** 2).mean(axis=1)
        first, last = _ends_of(condition)
        return np.log10(square[:, last] / square[:, first])

    return table.by_condition(of)


def _is_linear(condition: Condition) -> bool:
    """Say whether a condition's loss is the quadratic that theory speaks of."""
    return condition.model.name == "linear" and not problem_of(condition.problem).classes


def log_condition_number(table: Table) -> Array:
    """log10 κ of the Hessian."""
    return _of_quadratic(table, lambda c, own: own.condition_number)


def log_rate_over_limit(table: Table) -> Array:
    """log10 of the learning rate over gradient descent's limit 2/λmax."""
    return _of_quadratic(table, lambda c, own: c.learning_rate / own.stability_limit)


def _of_quadratic(table: Table, function: Callable[[Condition, theory.Quadratic], Array]) -> Array:
    """Return log10 of what theory says of linear models under squared error, NaN elsewhere."""

    def of(condition: Condition, seeds: Array) -> Any:
        if not _is_linear(condition):
            return np.nan
        with np.errstate(all="ignore"):  # inputs beyond what float64 can square
            return np.log10(function(condition, theory.quadratic(condition, seeds.tolist())))

    return table.by_condition(of)


def diverged(table: Table) -> Array:
    """1 where the run diverged, else 0; a run that failed has not been trained."""
    status = table.runs["status"].astype(str).to_numpy()
    return np.where(status == "failed", np.nan, status == "diverged")


def log_steps(table: Table) -> Array:
    """log10 of the updates to the target, infinite beyond the budget."""
    return np.where(table.has_target, _beyond(table["steps_to_target"]), np.nan)


def log_steps_first(table: Table) -> Array:
    """log10 of the updates until the first weight stays near least squares."""
    return _steps_of_feature(table, "first")


def log_steps_last(table: Table) -> Array:
    """log10 of the updates until the last weight stays near least squares."""
    return _steps_of_feature(table, "last")


def _steps_of_feature(table: Table, end: str) -> Array:
    """NaN where least squares itself cannot tell the weight from 0, so that it has no target."""
    known = np.abs(table[f"t_ols_{end}"]) >= SIGNIFICANT_T
    return np.where(known, _beyond(table[f"steps_to_feature_target_{end}"]), np.nan)


def first_later(table: Table) -> Array:
    """1 where the first weight arrives after the last, 0 where before, ½ where neither does."""
    first, last = log_steps_first(table), log_steps_last(table)
    known = ~np.isnan(first) & ~np.isnan(last)
    return np.where(known, (first > last) + 0.5 * (first == last), np.nan)


def excess_share(table: Table) -> Array:
    """Excess share: 0 is the least loss, 1 that of the best constant; infinite if diverged."""
    return np.where(table.diverged, np.inf, table["excess_share"])


def unfinished(table: Table) -> Array:
    """Excess share, or the tolerance where less is left; infinite if diverged."""
    return np.maximum(excess_share(table), table["tolerance"])


def final_loss(table: Table) -> Array:
    """Loss on the training rows at the end, in training units; infinite if diverged."""
    return _or_worst(table, "final_loss", np.inf)


def _or_worst(table: Table, column: str, worst: float) -> Array:
    """Return a column of outcomes, the worst where a run diverged; NaN without such a column."""
    if column not in table.runs:
        return np.full(len(table), np.nan)
    return np.where(table.diverged & ~np.isnan(table[column]), worst, table[column])


def _score(name: str, worst: float) -> Callable[[Table], Array]:
    def measure(table: Table) -> Array:
        return _or_worst(table, f"test_{name}", worst)

    word = "Loss" if name == "loss" else name.replace("_", " ").capitalize().replace("Auc", "AUC")
    measure.__doc__ = f"{word} on held-out rows; {worst:g} if diverged."
    return measure


def _recorded(method: str) -> Callable[[Table], Array]:
    def measure(table: Table) -> Array:
        column = f"share_{method}_last"
        if column not in table.runs:
            return np.full(len(table), np.nan)
        return np.where(table.completed, table[column], np.nan)

    measure.__doc__ = f"Recorded share of the scaled feature: {method.replace('_', ' ')}."
    return measure


def stuck(table: Table) -> Array:
    """1 where the loss stays above 1.5 times the least of all restarts, else 0.

    It stays if the same run with the longest of its block's budgets is less than 1 % lower
    than with the next longest; what still falls is slow, not stuck.
    """
    final = np.where(table.completed, table["final_loss"], np.inf)
    axes = [table.runs[name] for name in RESTART_AXES]
    frame = pd.DataFrame({"seed": table.seeds, "budget": table["updates"], "loss": final})
    frame["cell"] = table.runs.groupby(axes, observed=True, sort=False).ngroup().to_numpy()
    frame = frame.sort_values("budget", kind="stable")
    before = frame.groupby(["cell", "seed"])["loss"].shift()
    least = frame.groupby(["cell", "budget"])["loss"].transform("min")
    longest = frame["budget"] == frame.groupby("cell")["budget"].transform("max")
    stays = frame["loss"] > (1 - SETTLED) * before
    found = (stays & (frame["loss"] > STUCK * least)).astype(float)
    found = found.where(longest & before.notna())
    return found.groupby([frame["cell"], frame["seed"]]).transform("max").sort_index().to_numpy()


# Weights --------------------------------------------------------------------------------------


def log_weight_error(table: Table) -> Array:
    """log10 of the weight-recovery error against the truth, in original units."""
    return np.where(table.completed, _log(table["weight_error"]), np.nan)


def log_weight_error_ols(table: Table) -> Array:
    """log10 of the weight-recovery error against least squares, in original units."""
    return np.where(table.completed, _log(table["weight_error_ols"]), np.nan)


def larger(table: Table) -> Array:
    """1 where the last weight ended larger in size than the first, else 0 (training units)."""
    return _larger(table, 1)


def larger_twice(table: Table) -> Array:
    """1 where the last weight ended more than twice the first's size, else 0."""
    return _larger(table, 2)


def first_weight(table: Table) -> Array:
    """The first weight, as it is printed: in training units."""
    return np.where(table.completed, table["weight_first"], np.nan)


def first_miss(table: Table) -> Array:
    """|first weight - its coefficient|, read as it is printed: in training units."""
    return np.where(
        table.completed, np.abs(table["weight_first"] - table["weight_true_first"]), np.nan
    )


def first_miss_original(table: Table) -> Array:
    """|first weight - its coefficient|, both in the data's own units."""
    miss = np.abs(table["weight_original_first"] - table["weight_true_first"])
    return np.where(table.completed, miss, np.nan)


def weight_last(table: Table) -> Array:
    """The last weight, to the bit, in training units."""
    return np.where(table.completed, table["weight_last"], np.nan)


def log_weight_last(table: Table) -> Array:
    """log10 of the last weight's size, in training units."""
    return np.where(table.completed, _log(np.abs(table["weight_last"])), np.nan)


def rank_agreement(table: Table) -> Array:
    """Rank correlation of |w| with permutation importance over the two features: 1 or -1."""
    parts = _permutations(table, "weight_original")
    order = np.where(table.completed, np.sign(parts[:, -1] - parts[:, 0]), np.nan)
    return np.sign(share_weight(table) - 0.5) * order


def rank_agreement_init(table: Table) -> Array:
    """Rank correlation of |w| with its own start over the two features: 1 or -1."""
    start = np.abs(np.stack([table["weight_init_first"], table["weight_init_last"]], axis=-1))
    return np.sign(share_weight(table) - 0.5) * np.sign(share_of(start) - 0.5)


def _larger(table: Table, factor: float) -> Array:
    first, last = np.abs(table["weight_first"]), np.abs(table["weight_last"])
    return np.where(table.completed & ~np.isnan(first), last > factor * first, np.nan)


# Inputs ---------------------------------------------------------------------------------------


def in_place_train(table: Table) -> Array:
    """1 where the scaled training rows are where the scaler promises, else 0."""
    return table.by_condition(lambda c, seeds: _in_place(c, seeds, draws.draw))


def in_place_held_out(table: Table) -> Array:
    """1 where as many new rows, scaled by what was fitted, are there too, else 0."""
    return table.by_condition(lambda c, seeds: _in_place(c, seeds, draws.held_out))


def _in_place(condition: Condition, seeds: Array, rows: Callable[..., draws.Draw]) -> Array:
    """Say whether rows lie in [0, 1] (minmax), or have mean 0 and sd 1 (standard)."""
    problem, static = problem_of(condition.problem), split(condition)
    fitted, new = (
        observed(problem, of(static, seeds.tolist()).u, [condition])[0] for of in (draws.draw, rows)
    )
    shift, divisor = scalers.affine(condition.scaler.name, fitted)
    z = (new - shift[:, None]) / divisor[:, None]
    slack = 1e-9
    if condition.scaler.name == "minmax":
        return ((z >= -slack) & (z <= 1 + slack)).all(axis=(1, 2)).astype(np.float64)
    centred = np.abs(z.mean(axis=1)) < slack
    return (centred & (np.abs(z.std(axis=1) - 1) < slack)).all(axis=1).astype(np.float64)


def _log(values: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log10(values)
    return np.where(np.isfinite(found), found, np.nan)


def _beyond(steps: Array) -> Array:
    with np.errstate(divide="ignore"):  # a run that begins at its target needs no update
        return np.where(np.isnan(steps), np.inf, np.log10(np.where(np.isnan(steps), 1.0, steps)))


MEASURES: dict[str, Callable[[Table], Array]] = (
    {
        function.__name__: function
        for function in (
            share_weight,
            share_contribution,
            share_permutation,
            distortion_weight,
            distortion_contribution,
            distortion_permutation,
            log_movement_ratio,
            log_gradient_ratio_init,
            log_gradient_ratio_mean,
            log_curvature_ratio,
            log_condition_number,
            log_rate_over_limit,
            diverged,
            log_steps,
            log_steps_first,
            log_steps_last,
            first_later,
            excess_share,
            unfinished,
            final_loss,
            stuck,
            log_weight_error,
            log_weight_error_ols,
            larger,
            larger_twice,
            first_weight,
            first_miss,
            first_miss_original,
            weight_last,
            log_weight_last,
            rank_agreement,
            rank_agreement_init,
            in_place_train,
            in_place_held_out,
        )
    }
    | {
        **{f"test_{name}": _score(name, worst) for name, worst in SCORES.items()},
        **{f"share_{method}": _recorded(method) for method in RECORDED},
    }
    | {
        f"size_of_{function.__name__}": size_of(function)
        for function in (distortion_weight, distortion_contribution, distortion_permutation)
    }
)
# Their values are 0, ½ or 1: a sample without spread is still a sample of a proportion.
SHARES = frozenset(
    {"diverged", "first_later", "stuck", "larger", "larger_twice"}
    | {"in_place_train", "in_place_held_out"}
)
