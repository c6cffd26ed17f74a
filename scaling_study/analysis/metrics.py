"""The measures: functions of a `Table` that return one number a run, for claims to test.

"Last" is the feature whose unit a study scales; "first" is the other one, if there are two
features. NaN means that a measure does not apply: to a network without weights per feature, to a
run that diverged (except for times), to a problem of more than two features. Infinity means a
time beyond the budget.

A measure is added by a function here, with the decorator `measure`.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from scaling_study.analysis import requirements, theory
from scaling_study.analysis.requirements import Requirement
from scaling_study.analysis.run_table import Array, Seeds, Table, feature_count, feature_pair
from scaling_study.analysis.summary import SIGNIFICANT_T
from scaling_study.study import draws, scalers
from scaling_study.study.conditions import Condition, problem_of, split
from scaling_study.study.encoding import observed

Measure = Callable[[Table], Array]

TOLERANCE = 1e-3  # excess share below which a run has converged, unless a study says otherwise
STUCK = 1.5  # times the smallest final loss of all restarts
SETTLED = 0.01  # relative decrease of the loss below which more training does not help
RESTART_AXES = ("block", "scale_factor", "offset", "scaler", "model", "optimizer", "learning_rate")
MEASURES: dict[str, Measure] = {}
REQUIREMENTS: dict[str, Requirement] = {}
# Values are 0, ½ or 1: the mean over seeds is a proportion.
SHARES = frozenset(
    {"diverged", "first_later", "plateaued", "last_weight_larger", "last_weight_twice_as_large"}
    | {"in_place_train", "in_place_held_out"}
)


def measure(requires: Requirement | None = None) -> Callable[[Measure], Measure]:
    """Return a decorator that registers a measure under its function's name."""

    def register(function: Measure) -> Measure:
        name = getattr(function, "__name__", "")
        MEASURES[name] = function
        if requires is not None:
            REQUIREMENTS[name] = requires
        return function

    return register


def unfit(name: str, condition: Condition, record: str) -> str:
    """Return why a measure does not fit the runs of a condition; empty if it does.

    The name is a key of `MEASURES`, with or without a minus sign; ``record`` is what the study
    records.
    """
    requirement = REQUIREMENTS.get(name.removeprefix("-"))
    return requirement(condition, record) if requirement else ""


# Importance -----------------------------------------------------------------------------------


def share_of(parts: Array) -> Array:
    """Return the last part's share, of magnitudes in the last axis; NaN where all are zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return parts[..., -1] / parts.sum(axis=-1)


@measure(requirements.recorded_or_linear_pair)
def share_weight(table: Table) -> Array:
    """Share of |w| that the scaled feature has, in training units; recorded of networks."""
    recorded = _recorded(table, "weight")
    parts = np.abs(np.stack([table["weight_first"], table["weight_last"]], axis=-1))
    return np.where(table.completed & np.isnan(recorded), share_of(parts), recorded)


@measure(requirements.quadratic_pair)
def share_contribution(table: Table) -> Array:
    """Share of |w| times the feature's standard deviation, which no unit changes."""
    return table.if_completed(_contribution(table, "weight_original"))


@measure(requirements.recorded_or_linear_pair)
def share_permutation(table: Table) -> Array:
    """Share of permutation importance, as recorded, or in closed form of two linear features.

    Negative where permuting would help.
    """
    recorded = _recorded(table, "permutation")
    closed = _permutation(table, "weight_original")
    return np.where(table.completed & np.isnan(recorded), closed, recorded)


@measure(requirements.quadratic_pair)
def distortion_weight(table: Table) -> Array:
    """Share of |w| less the share that least squares gives the feature's contribution."""
    return share_weight(table) - _contribution(table, "weight_ols")


@measure(requirements.quadratic_pair)
def distortion_contribution(table: Table) -> Array:
    """Share of |w| sd less that of least squares."""
    return share_contribution(table) - _contribution(table, "weight_ols")


@measure(requirements.quadratic_pair)
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


# Training -------------------------------------------------------------------------------------


@measure(requirements.two_features)
def log_movement_ratio(table: Table) -> Array:
    """log10 of how far the last weight moved over how far the first did (training units)."""
    return table.if_completed(_log(table["movement_last"] / table["movement_first"]))


@measure(requirements.two_features)
def log_gradient_ratio_init(table: Table) -> Array:
    """log10 of the last feature's gradient norm at the start over the first's."""
    return _log(table["grad_norm_init_last"] / table["grad_norm_init_first"])


@measure(requirements.two_features)
def log_gradient_ratio_mean(table: Table) -> Array:
    """log10 of the last feature's mean gradient norm over all updates over the first's."""
    return table.if_completed(_log(table["grad_norm_mean_last"] / table["grad_norm_mean_first"]))


@measure(requirements.quadratic_pair)
def log_curvature_ratio(table: Table) -> Array:
    """log10 of the Hessian's diagonal at the last feature over that at the first."""

    def ratio(condition: Condition, seeds: Seeds) -> Array:
        square = (theory.training_inputs(condition, seeds.tolist()) ** 2).mean(axis=1)
        first, last = feature_pair(condition)
        return np.log10(square[:, last] / square[:, first])

    return _of_quadratic(table, ratio, features=2)


@measure(requirements.quadratic)
def log_condition_number(table: Table) -> Array:
    """log10 κ of the Hessian."""
    return _of_quadratic(
        table, lambda c, seeds: np.log10(theory.quadratic(c, seeds.tolist()).condition_number)
    )


@measure(requirements.quadratic)
def log_rate_over_limit(table: Table) -> Array:
    """log10 of the learning rate over gradient descent's limit 2/λmax."""
    return _of_quadratic(
        table,
        lambda c, seeds: np.log10(
            c.learning_rate / theory.quadratic(c, seeds.tolist()).stability_limit
        ),
    )


def _of_quadratic(
    table: Table, function: Callable[[Condition, Seeds], Array], features: int | None = None
) -> Array:
    """Return a function of linear models under squared error, NaN for all others."""

    def of_condition(condition: Condition, seeds: Seeds) -> Array | float:
        applies = not requirements.quadratic(condition, "")
        if not applies or features not in (None, feature_count(condition)):
            return np.nan
        with np.errstate(all="ignore"):  # inputs whose square float64 cannot hold
            return function(condition, seeds)

    return table.by_condition(of_condition)


@measure()
def diverged(table: Table) -> Array:
    """1 where the run diverged, else 0; a run that failed has not been trained."""
    status = table.runs["status"].astype(str).to_numpy()
    return np.where(status == "failed", np.nan, status == "diverged")


@measure(requirements.target)
def log_steps(table: Table) -> Array:
    """log10 of the updates to the target, infinite beyond the budget."""
    return np.where(table.has_target, _log_time(table["steps_to_target"]), np.nan)


@measure(requirements.linear_pair)
def log_steps_first(table: Table) -> Array:
    """log10 of the updates until the first weight stays near least squares."""
    return _log_steps_of_feature(table, "first")


@measure(requirements.linear)
def log_steps_last(table: Table) -> Array:
    """log10 of the updates until the last weight stays near least squares."""
    return _log_steps_of_feature(table, "last")


def _log_steps_of_feature(table: Table, which: str) -> Array:
    """Return NaN where the least-squares weight is not significant, so there is no target."""
    significant = np.abs(table[f"t_ols_{which}"]) >= SIGNIFICANT_T
    return np.where(significant, _log_time(table[f"steps_to_feature_target_{which}"]), np.nan)


@measure(requirements.linear_pair)
def first_later(table: Table) -> Array:
    """1 where the first weight arrives after the last, 0 where before, ½ where neither does."""
    first, last = log_steps_first(table), log_steps_last(table)
    known = ~np.isnan(first) & ~np.isnan(last)
    return np.where(known, (first > last) + 0.5 * (first == last), np.nan)


@measure(requirements.known_minimum)
def excess_share(table: Table) -> Array:
    """Excess share: 0 is the least loss, 1 that of the best constant; infinite if diverged."""
    return np.where(table.diverged, np.inf, table["excess_share"])


@measure(requirements.known_minimum)
def remaining_excess(table: Table) -> Array:
    """Excess share, or the tolerance where less is left; infinite if diverged."""
    return np.maximum(excess_share(table), table["tolerance"])


@measure()
def final_loss(table: Table) -> Array:
    """Loss on the training rows at the end, in training units; infinite if diverged."""
    return _or_worst(table, "final_loss", np.inf)


@measure()
def plateaued(table: Table) -> Array:
    """1 where the loss stays above 1.5 times the least of all restarts, else 0.

    It stays if the same run with the longest of its block's budgets ends less than 1 % lower than
    with the next longest. A loss that still decreases is slow, not stuck.
    """
    axes = [table.runs[name] for name in RESTART_AXES]
    frame = pd.DataFrame(
        {
            "cell": table.runs.groupby(axes, observed=True, sort=False).ngroup().to_numpy(),
            "seed": table.seeds,
            "budget": table["updates"],
            "loss": np.where(table.completed, table["final_loss"], np.inf),
        }
    ).sort_values("budget", kind="stable")
    before = frame.groupby(["cell", "seed"])["loss"].shift()
    least = frame.groupby(["cell", "budget"])["loss"].transform("min")
    longest = frame["budget"] == frame.groupby("cell")["budget"].transform("max")
    stays = frame["loss"] > (1 - SETTLED) * before
    found = (stays & (frame["loss"] > STUCK * least)).astype(float)
    found = found.where(longest & before.notna())
    return found.groupby([frame["cell"], frame["seed"]]).transform("max").sort_index().to_numpy()


# Weights --------------------------------------------------------------------------------------


@measure(requirements.linear)
def log_weight_error(table: Table) -> Array:
    """log10 of the weight-recovery error against the truth, in original units."""
    return table.if_completed(_log(table["weight_error"]))


@measure(requirements.linear)
def log_weight_error_ols(table: Table) -> Array:
    """log10 of the weight-recovery error against least squares, in original units."""
    return table.if_completed(_log(table["weight_error_ols"]))


@measure(requirements.linear_pair)
def last_weight_larger(table: Table) -> Array:
    """1 where the last weight ended larger in size than the first, else 0 (training units)."""
    return _larger(table, 1)


@measure(requirements.linear_pair)
def last_weight_twice_as_large(table: Table) -> Array:
    """1 where the last weight ended more than twice the first's size, else 0."""
    return _larger(table, 2)


def _larger(table: Table, factor: float) -> Array:
    first, last = np.abs(table["weight_first"]), np.abs(table["weight_last"])
    return np.where(table.completed & ~np.isnan(first), last > factor * first, np.nan)


@measure(requirements.linear_pair)
def first_weight(table: Table) -> Array:
    """The first weight, as it is printed: in training units."""
    return table.if_completed(table["weight_first"])


@measure(requirements.linear_pair)
def first_miss(table: Table) -> Array:
    """|first weight - its coefficient|, read as it is printed: in training units."""
    return table.if_completed(np.abs(table["weight_first"] - table["weight_true_first"]))


@measure(requirements.linear_pair)
def first_miss_original(table: Table) -> Array:
    """|first weight - its coefficient|, both in the data's own units."""
    return table.if_completed(np.abs(table["weight_original_first"] - table["weight_true_first"]))


@measure(requirements.linear)
def weight_last(table: Table) -> Array:
    """The last weight, to the bit, in training units."""
    return table.if_completed(table["weight_last"])


@measure(requirements.linear)
def log_weight_last(table: Table) -> Array:
    """log10 of the last weight's size, in training units."""
    return table.if_completed(_log(np.abs(table["weight_last"])))


@measure(requirements.quadratic_pair)
def rank_agreement(table: Table) -> Array:
    """Rank correlation of |w| with permutation importance over the two features: 1 or -1."""
    parts = _permutations(table, "weight_original")
    order = table.if_completed(np.sign(parts[:, -1] - parts[:, 0]))
    return np.sign(share_weight(table) - 0.5) * order


@measure(requirements.linear_pair)
def rank_agreement_init(table: Table) -> Array:
    """Rank correlation of |w| with its own start over the two features: 1 or -1."""
    start = np.abs(np.stack([table["weight_init_first"], table["weight_init_last"]], axis=-1))
    return np.sign(share_weight(table) - 0.5) * np.sign(share_of(start) - 0.5)


# Inputs ---------------------------------------------------------------------------------------


@measure()
def in_place_train(table: Table) -> Array:
    """1 where the scaled training rows are where the scaler promises, else 0."""
    return table.by_condition(lambda c, seeds: _in_place(c, seeds, draws.draw))


@measure()
def in_place_held_out(table: Table) -> Array:
    """1 where as many new rows, scaled by what was fitted, are there too, else 0."""
    return table.by_condition(lambda c, seeds: _in_place(c, seeds, draws.held_out))


def _in_place(condition: Condition, seeds: Seeds, rows: Callable[..., draws.Draw]) -> Array:
    """Return whether rows lie in [0, 1] (minmax), or have mean 0 and sd 1 (standard)."""
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


# Recorded columns, and families of measures ---------------------------------------------------


def _column(table: Table, name: str) -> Array:
    """Return a numeric column, NaN if the results do not have it."""
    return table[name] if name in table.runs else np.full(len(table), np.nan)


def _or_worst(table: Table, name: str, worst: float) -> Array:
    """Return a column, with the worst value where a run diverged."""
    values = _column(table, name)
    return np.where(table.diverged & ~np.isnan(values), worst, values)


def _recorded(table: Table, method: str) -> Array:
    return table.if_completed(_column(table, f"share_{method}_last"))


def _register(name: str, function: Measure, doc: str, requires: Requirement) -> None:
    function.__name__, function.__doc__ = name, doc
    measure(requires)(function)


_SCORES = {
    "loss": ("Loss", np.inf, requirements.held_out),
    "r2": ("R2", -np.inf, requirements.held_out_quantity),
    "accuracy": ("Accuracy", 0.0, requirements.held_out_classes),
    "balanced_accuracy": ("Balanced accuracy", 0.0, requirements.held_out_classes),
    "auc": ("AUC", 0.0, requirements.held_out_two_classes),
}
for _name, (_title, _worst, _requires) in _SCORES.items():
    _register(
        f"test_{_name}",
        lambda table, column=f"test_{_name}", worst=_worst: _or_worst(table, column, worst),
        f"{_title} on held-out rows; {_worst:g} if diverged.",
        _requires,
    )
# Weight and permutation are above: linear runs have them without a record.
for _method in (
    *("garson", "olden", "gradient", "gradient_input", "integrated_gradients"),
    *("permutation_accuracy", "linear_shap"),
):
    _register(
        f"share_{_method}",
        lambda table, method=_method: _recorded(table, method),
        f"Recorded share of the scaled feature: {_method.replace('_', ' ')}.",
        requirements.recorded,
    )
for _signed in (distortion_weight, distortion_contribution, distortion_permutation):
    _register(
        f"size_of_{_signed.__name__}",
        lambda table, signed=_signed: np.abs(signed(table)),
        f"Size of: {(_signed.__doc__ or '').rstrip('.')}.",
        requirements.quadratic_pair,
    )


def _log(values: Array) -> Array:
    """Return log10, NaN where it is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log10(values)
    return np.where(np.isfinite(found), found, np.nan)


def _log_time(updates: Array) -> Array:
    """Return log10 of a number of updates, infinite where it is NaN, -infinity where it is 0."""
    with np.errstate(divide="ignore"):
        return np.log10(np.where(np.isnan(updates), np.inf, updates))
