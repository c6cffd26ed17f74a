"""Summaries of a study by condition: convergence, errors, times, weights and gradients.

Every function takes frames of `storage.results.Results`. An estimate called ``name`` has four
columns: ``name``, ``name_low``, ``name_high`` and ``name_n``. Runs that diverged or failed are
counted and excluded from medians; ``name_missing`` counts the other runs without a finite value.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis.intervals import (
    UNKNOWN,
    Estimate,
    censored_median,
    median,
    paired_difference,
    proportion,
)
from scaling_study.storage.results import numbered

DIVERGED_OR_FAILED = ("diverged", "failed")
SIGNIFICANT_T = 2.0  # standard errors from 0, below which a weight has no target
RUN_MEASURES = ("weight_error", "weight_error_ols", "final_loss")
START_MEASURES = ("weight_init", "grad_norm_init")
FEATURE_MEASURES = (
    "weight",
    "weight_original",
    "grad_norm_first_epoch",
    "grad_norm_mean",
    "movement",
)


def summarize_runs(runs: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
    """Return one row per condition with the outcomes of its runs.

    Returns
    -------
    DataFrame
        ``condition, updates`` (the budget), ``n`` (seeds); ``has_target``; ``converged`` and
        ``diverged`` (proportions), ``failed`` (count); ``steps_to_target`` (updates, median over
        all seeds, infinite beyond the budget); medians over the runs that neither diverged nor
        failed of ``weight_error`` and ``weight_error_ols`` (unit-free) and ``final_loss`` (squared
        units of the training target); ``loss_ols`` (median).
    """
    budgets = conditions.set_index("condition")["updates"]
    names = ("steps_to_target", "loss_ols", *RUN_MEASURES)
    columns = {name: runs[name].to_numpy(np.float64) for name in names}
    statuses = runs["status"].astype(str).to_numpy(object)
    groups: Any = runs.groupby("condition", observed=True).indices
    rows = []
    for condition, places in groups.items():
        n, status = len(places), statuses[places]
        row: dict[str, Any] = {"condition": str(condition), "updates": int(budgets[condition])}
        row |= {"n": n, "has_target": not (status == "no_target").any()}
        judged = n if row["has_target"] else 0
        converged = int((status[:judged] == "converged").sum())
        row |= _columns("converged", proportion(converged, judged))
        row |= _columns("diverged", proportion(int((status == "diverged").sum()), n))
        row["failed"] = int((status == "failed").sum())
        times = columns["steps_to_target"][places[:judged]]
        row |= _columns("steps_to_target", censored_median(times, row["updates"]))
        ended = places[~np.isin(status, DIVERGED_OR_FAILED)]
        row |= _medians({name: columns[name][ended] for name in RUN_MEASURES})
        row["loss_ols"] = float(pd.Series(columns["loss_ols"][places]).median())
        rows.append(row)
    return pd.DataFrame(rows)


def summarize_features(features: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per condition and feature: weights, gradients and movement.

    Returns
    -------
    DataFrame
        ``condition, feature``; ``reached``, the share of seeds whose weight stayed within a tenth
        of its least-squares value, of those where that value is significant; medians of
        `START_MEASURES` over all runs and of `FEATURE_MEASURES` over those that neither diverged
        nor failed (``weight_original`` in units of the data, all else in training units);
        ``movement_most``, the largest movement of any run; ``weight_true`` and ``weight_ols``
        (medians, units of the data); ``training_unit``, the factor from there to ``weight``.
    """
    columns = ["condition", "feature", "steps_to_feature_target", "weight_true", "weight_ols"]
    columns += ["t_ols"]
    features = numbered(features)
    frame = features[[*columns, *START_MEASURES, *FEATURE_MEASURES]].assign(
        completed=_completed(features, runs), unit=training_units(features)
    )
    rows = []
    for condition, every in _by_condition(frame):
        for feature, group in every.groupby("feature"):
            completed = group[group["completed"]]
            row: dict[str, Any] = {"condition": condition, "feature": int(str(feature))}
            significant = group["t_ols"].abs() >= SIGNIFICANT_T
            times = group.loc[group["weight_init"].notna() & significant, "steps_to_feature_target"]
            row |= _columns("reached", proportion(int(times.notna().sum()), len(times)))
            row |= _medians({name: group[name] for name in START_MEASURES})
            row |= _medians({name: completed[name] for name in FEATURE_MEASURES})
            row["movement_most"] = float(completed["movement"].max())
            row["weight_true"] = float(group["weight_true"].median())
            row["weight_ols"] = float(group["weight_ols"].median())
            row["training_unit"] = float(group["unit"].median())
            rows.append(row)
    return pd.DataFrame(rows)


def _completed(features: pd.DataFrame, runs: pd.DataFrame) -> np.ndarray:
    """Return which rows of features are of runs that neither diverged nor failed."""
    lost = runs.loc[runs["status"].isin(DIVERGED_OR_FAILED), ["condition", "seed"]]
    if not len(lost):
        return np.ones(len(features), bool)
    names = pd.Index(lost["condition"].astype(str).unique())
    span = 1 + max(features["seed"].max(), lost["seed"].max())

    def keys(frame: pd.DataFrame) -> np.ndarray:  # whole numbers: a merge would be slow
        condition = frame["condition"].astype("category").cat
        place = names.get_indexer(condition.categories.astype(str))[condition.codes]
        return np.where(place < 0, -1, place * np.int64(span) + frame["seed"].to_numpy(np.int64))

    return ~np.isin(keys(features), keys(lost))


def training_units(features: pd.DataFrame) -> pd.Series:
    """Return the factor from a weight in units of the data to one in training units.

    It is divisor / target_divisor, computed as weight / weight_original. A run that ended at zero
    or diverged gets the median of its condition and feature.

    Returns
    -------
    Series
        One value a row of `features`; NaN if it is not known, as for networks.
    """
    weight = features["weight"].astype(float)
    original = features["weight_original"].astype(float)
    known = np.isfinite(weight) & np.isfinite(original) & (weight != 0) & (original != 0)
    ratio = (weight / original.where(known)).where(known)
    keys = [features["condition"], features["feature"]]
    return ratio.fillna(ratio.groupby(keys, observed=True).transform("median"))


def last_weight_larger(features: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return how often the last feature's weight ended larger than the first's.

    Returns
    -------
    DataFrame
        One row per condition with weights: ``condition``, ``last_weight_larger`` (share of the
        runs that neither diverged nor failed with |weight of the last feature| > |weight of the
        first|, in training units), ``last_weight_twice_as_large`` (more than twice).
    """
    rows = []
    for condition, first, last in _absolute_weights(features, runs):
        row: dict[str, Any] = {"condition": condition}
        for name, factor in (("last_weight_larger", 1), ("last_weight_twice_as_large", 2)):
            row |= _columns(name, proportion(int((last > factor * first).sum()), len(last)))
        rows.append(row)
    columns = ["condition", *_columns("last_weight_larger", UNKNOWN)]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def last_weight_larger_difference(
    features: pd.DataFrame, runs: pd.DataFrame, first: str, second: str
) -> Estimate:
    """Return the difference of `last_weight_larger` between two conditions, paired by seed.

    Parameters
    ----------
    features, runs : DataFrame
    first, second : str
        Conditions. Seeds that diverged or failed in either are omitted.

    Returns
    -------
    Estimate
        Share in `first` minus share in `second`, Student's t interval.
    """
    subset = features[features["condition"].isin([first, second])]
    larger = {name: last > start for name, start, last in _absolute_weights(subset, runs)}
    if first not in larger or second not in larger:
        return paired_difference([], [])
    both = pd.concat([larger[first], larger[second]], axis=1, join="inner").astype(float)
    return paired_difference(both.iloc[:, 0], both.iloc[:, 1])


def cumulative_incidence(runs: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
    """Return the share of seeds that had reached the target, or diverged, by each update.

    The budget is common to a condition's seeds, so the shares are exact.

    Returns
    -------
    DataFrame
        ``condition, outcome`` (``reached`` or ``diverged``), ``update``, ``share``: the corners of
        a step function from 0 to the budget.
    """
    budgets = conditions.set_index("condition")["updates"]
    frames = []
    for condition, group in _by_condition(runs[["condition", "steps_to_target", "diverged_at"]]):
        for outcome, column in (("reached", "steps_to_target"), ("diverged", "diverged_at")):
            times, counts = np.unique(group[column].dropna(), return_counts=True)
            share = [0.0, *np.cumsum(counts) / len(group)]
            corners = {
                "update": [0.0, *times, float(budgets[condition])],
                "share": [*share, share[-1]],
            }
            frames.append(pd.DataFrame({"condition": condition, "outcome": outcome, **corners}))
    return pd.concat(frames, ignore_index=True)


def _by_condition(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for condition, group in frame.groupby("condition", observed=True):
        yield str(condition), group


def _absolute_weights(
    features: pd.DataFrame, runs: pd.DataFrame
) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    """Yield each condition's |weight| of the first and of the last feature, by seed."""
    features = numbered(features)
    frame = features.loc[_completed(features, runs), ["condition", "seed", "feature", "weight"]]
    for condition, group in _by_condition(frame.dropna(subset="weight")):
        ends = group["feature"].min(), group["feature"].max()
        if ends[0] == ends[1]:
            continue
        first, last = (
            group[group["feature"] == end].set_index("seed")["weight"].abs() for end in ends
        )
        if not first.index.equals(last.index):
            first, last = first.align(last, join="inner")
        yield condition, first, last


def _medians(columns: Mapping[str, Any]) -> dict[str, float]:
    """Return the median of each column, and how many of its values are not finite, if not all."""
    row = {}
    for name, column in columns.items():
        values = np.asarray(column, np.float64)
        finite = np.isfinite(values)
        row |= _columns(name, median(values[finite]))
        row[f"{name}_missing"] = int((~finite).sum()) if finite.any() else 0
    return row


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    value, low, high, n = estimate
    return {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}
