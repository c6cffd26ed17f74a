"""The measures: functions of a `Table` that return one number a run, for claims to test.

"Last" is the feature whose unit a study scales; "first" is the other one, if there are two
features. NaN means that a measure does not apply: to a network without weights per feature, to a
run that diverged (except for times), to a problem of more than two features. Infinity means a
time beyond the budget, or that a run diverged.

A measure is added by a function here, or in `performance`, with the decorator `measure`.
"""

from collections.abc import Callable

import numpy as np

from scaling_study.analysis import performance, requirements, theory
from scaling_study.analysis.performance import TOLERANCE, excess_share, log_steps, share_left
from scaling_study.analysis.registry import (
    BOUNDS,
    MEASURES,
    REQUIREMENTS,
    SHARES,
    column,
    log,
    log_ratio,
    log_time,
    measure,
    register,
    unfit,
)
from scaling_study.analysis.run_table import Array, Seeds, Table, feature_count, feature_pair
from scaling_study.analysis.summary import SIGNIFICANT_T
from scaling_study.study.conditions import Condition

__all__ = [
    "BOUNDS",
    "MEASURES",
    "REQUIREMENTS",
    "SHARES",
    "TOLERANCE",
    "Table",
    "excess_share",
    "log_steps",
    "measure",
    "performance",
    "share_left",
    "unfit",
]

# Distortions below this, half of the smallest effect of interest, are tied in comparisons.
NO_DISTORTION = 0.02


# Importance -----------------------------------------------------------------------------------


def share_of(parts: Array) -> Array:
    """Return the last part's share, of magnitudes in the last axis; NaN where all are zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return parts[..., -1] / parts.sum(axis=-1)


@measure(requirements.recorded_or_linear_pair, bounds=(0, 1))
def share_weight(table: Table) -> Array:
    """Share of |w| that the scaled feature has, in training units; recorded of networks."""
    recorded = _recorded(table, "weight")
    parts = np.abs(np.stack([table["weight_first"], table["weight_last"]], axis=-1))
    return np.where(table.completed & np.isnan(recorded), share_of(parts), recorded)


@measure(requirements.quadratic_pair, bounds=(0, 1))
def share_contribution(table: Table) -> Array:
    """Share of |w| times the feature's standard deviation, which no unit changes."""
    return table.if_completed(_contribution(table, "weight_original"))


@measure(requirements.recorded_or_linear_pair, bounds=(-1, 1))
def share_permutation(table: Table) -> Array:
    """Share of permutation importance, as recorded, or in closed form of two linear features.

    Negative where permuting would help.
    """
    recorded = _recorded(table, "permutation")
    closed = _permutation(table, "weight_original")
    return np.where(table.completed & np.isnan(recorded), closed, recorded)


@measure(requirements.attributed_pair, bounds=(-1, 1))
def distortion_weight(table: Table) -> Array:
    """Share of |w| less the share that least squares gives the feature's contribution.

    Of a network, less the share of permutation importance under the law.
    """
    reference = _contribution(table, "weight_ols")
    return share_weight(table) - np.where(_is_linear(table), reference, _true_share(table))


@measure(requirements.quadratic_pair, bounds=(-1, 1))
def distortion_contribution(table: Table) -> Array:
    """Share of |w| sd less that of least squares."""
    return share_contribution(table) - _contribution(table, "weight_ols")


@measure(requirements.attributed_pair, bounds=(-2, 2))
def distortion_permutation(table: Table) -> Array:
    """Share of permutation importance less that of least squares; of a network, of the law."""
    reference = _permutation(table, "weight_ols")
    return share_permutation(table) - np.where(_is_linear(table), reference, _true_share(table))


@measure(requirements.attributed_pair, bounds=(-1, 1))
def lead_permutation(table: Table) -> Array:
    """Half the difference between the shares of permutation importance of the two features.

    It is the scaled feature's share less the other's, less the same under least squares; of a
    network, under the law. It equals `distortion_permutation` where no share is negative. In a
    hardly trained model both may be: both are distorted then, and neither feature leads.
    """
    ols, law = _lead(table, "weight_ols"), _recorded_lead(table, "true")
    found, recorded = _lead(table, "weight_original"), _recorded_lead(table, "permutation")
    found = np.where(np.isnan(recorded), table.if_completed(found), recorded)
    return found - np.where(_is_linear(table), ols, law)


def _lead(table: Table, name: str) -> Array:
    parts = _permutations(table, name)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (parts[:, -1] - parts[:, 0]) / np.abs(parts).sum(axis=-1) / 2


def _recorded_lead(table: Table, method: str) -> Array:
    last, first = (_recorded_of(table, method, end) for end in ("last", "first"))
    return (last - first) / 2


@measure(requirements.recorded, bounds=(-1, 1))
def distortion_gradient(table: Table) -> Array:
    """Share of the mean |gradient| of a network's output less that of importance under the law."""
    return _recorded(table, "gradient") - _true_share(table)


@measure(requirements.attributed_pair, bounds=(0, 2))
def remaining_distortion(table: Table) -> Array:
    """Size of the distortion of permutation importance, 0.02 where less; infinite if diverged."""
    size = np.maximum(np.abs(distortion_permutation(table)), NO_DISTORTION)
    return np.where(table.diverged, np.inf, size)


def _is_linear(table: Table) -> Array:
    return table.by_condition(lambda c, _: c.model.name == "linear").astype(bool)


def _true_share(table: Table) -> Array:
    return column(table, "share_true_last")


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
    return table.if_completed(log_ratio(table["movement_last"], table["movement_first"]))


@measure(requirements.two_features)
def log_gradient_ratio_init(table: Table) -> Array:
    """log10 of the last feature's gradient norm at the start over the first's."""
    return log_ratio(table["grad_norm_init_last"], table["grad_norm_init_first"])


@measure(requirements.two_features)
def log_gradient_ratio_mean(table: Table) -> Array:
    """log10 of the last feature's mean gradient norm over all updates over the first's."""
    return table.if_completed(
        log_ratio(table["grad_norm_mean_last"], table["grad_norm_mean_first"])
    )


@measure(requirements.curvature_pair)
def log_curvature_ratio(table: Table) -> Array:
    """log10 of the Hessian's diagonal at the last feature over that at the first.

    Of a network, of the mean over the weights that leave the feature, where training ended.
    """
    recorded = np.abs(np.stack([column(table, f"share_curvature_{e}") for e in ("first", "last")]))

    def ratio(condition: Condition, seeds: Seeds) -> Array:
        square = (theory.training_inputs(condition, seeds.tolist()) ** 2).mean(axis=1)
        first, last = feature_pair(condition)
        return np.log10(square[:, last] / square[:, first])

    found = _of_quadratic(table, ratio, features=2)
    return np.where(np.isnan(found), table.if_completed(log_ratio(recorded[1], recorded[0])), found)


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
    return np.where(significant, log_time(table[f"steps_to_feature_target_{which}"]), np.nan)


@measure(requirements.linear_pair, share=True)
def first_later(table: Table) -> Array:
    """1 where the first weight arrives after the last or never, 0 where before, ½ at once.

    NaN where neither arrives within the budget: such runs, and those that diverge, are counted
    apart as missing.
    """
    first, last = log_steps_first(table), log_steps_last(table)
    known = ~np.isnan(first) & ~np.isnan(last) & (np.isfinite(first) | np.isfinite(last))
    return np.where(known, (first > last) + 0.5 * (first == last), np.nan)


# Weights --------------------------------------------------------------------------------------


@measure(requirements.linear)
def log_weight_error(table: Table) -> Array:
    """log10 of the weight-recovery error against the truth, in original units."""
    return table.if_completed(log(table["weight_error"]))


@measure(requirements.linear)
def log_weight_error_ols(table: Table) -> Array:
    """log10 of the weight-recovery error against least squares, in original units."""
    return table.if_completed(log(table["weight_error_ols"]))


@measure(requirements.linear_pair, share=True)
def last_weight_larger(table: Table) -> Array:
    """1 where the last weight ended larger in size than the first, else 0 (training units)."""
    return _larger(table, 1)


@measure(requirements.linear_pair, share=True)
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
    return table.if_completed(log(np.abs(table["weight_last"])))


@measure(requirements.attributed_pair, bounds=(-1, 1))
def rank_agreement(table: Table) -> Array:
    """Rank correlation of |w| with permutation importance over the two features: 1 or -1."""
    parts = _permutations(table, "weight_original")
    first, last = (_recorded_of(table, "permutation", end) for end in ("first", "last"))
    order = np.where(np.isnan(last), np.sign(parts[:, -1] - parts[:, 0]), np.sign(last - first))
    order = table.if_completed(order)
    return np.sign(share_weight(table) - 0.5) * order


@measure(requirements.linear_pair, bounds=(-1, 1))
def rank_agreement_init(table: Table) -> Array:
    """Rank correlation of |w| with its own start over the two features: 1 or -1."""
    start = np.abs(np.stack([table["weight_init_first"], table["weight_init_last"]], axis=-1))
    return np.sign(share_weight(table) - 0.5) * np.sign(share_of(start) - 0.5)


# Recorded columns, and families of measures ---------------------------------------------------


def _recorded(table: Table, method: str) -> Array:
    return _recorded_of(table, method, "last")


def _recorded_of(table: Table, method: str, end: str) -> Array:
    return table.if_completed(column(table, f"share_{method}_{end}"))


# Weight and permutation are above: linear runs have them without a record.
for _method in (
    *("garson", "olden", "gradient", "gradient_input", "integrated_gradients"),
    *("permutation_accuracy", "linear_shap"),
):
    register(
        f"share_{_method}",
        lambda table, method=_method: _recorded(table, method),
        f"Recorded share of the scaled feature: {_method.replace('_', ' ')}.",
        requirements.recorded,
        bounds=(-1, 1),
    )
for _signed, _needs in (
    (distortion_weight, requirements.attributed_pair),
    (distortion_contribution, requirements.quadratic_pair),
    (distortion_permutation, requirements.attributed_pair),
    (distortion_gradient, requirements.recorded),
):
    register(
        f"size_of_{_signed.__name__}",
        lambda table, signed=_signed: np.abs(signed(table)),
        f"Size of: {(_signed.__doc__ or '').partition('.')[0].strip()}.",
        _needs,
        bounds=(0, 2),
    )
