"""A study's frames by condition: how many runs got there, how far off, how long, how steep.

Every function takes frames of `storage.results.Results` and returns a frame. An estimate
called ``name`` stands in four columns, ``name``, ``name_low``, ``name_high`` and ``name_n``.
Diverged and failed runs are counted, and stand in no median; ``name_missing`` counts the
runs that did neither and still have no finite value.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis.intervals import (
    Estimate,
    censored_median,
    median,
    paired_difference,
    proportion,
)

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
    """Return one row per condition: what became of its runs.

    Parameters
    ----------
    runs, conditions : DataFrame
        As in `scaling_study.storage.results.Results`.

    Returns
    -------
    DataFrame
        ``condition, updates`` (the budget), ``n`` (seeds); ``has_target``; ``converged`` and
        ``diverged`` (proportions, Wilson interval), ``failed`` (count); ``steps_to_target``
        (updates, median over all seeds, infinite beyond the budget); medians with intervals by
        order statistics, over the runs that did not diverge, of ``weight_error`` and
        ``weight_error_ols`` (unit-free) and ``final_loss`` (squared units of the target as
        trained on); ``loss_ols`` (median).
    """
    budgets = conditions.set_index("condition")["updates"]
    columns = ["condition", "status", "reason", "steps_to_target", "loss_ols", *RUN_MEASURES]
    rows = []
    for condition, own in _by_condition(runs[columns]):
        n, status = len(own), own["status"].astype(str)
        row: dict[str, Any] = {"condition": condition, "updates": int(budgets[condition]), "n": n}
        row["has_target"] = not (status == "no_target").any()
        judged = n if row["has_target"] else 0
        converged = int((status[:judged] == "converged").sum())
        row |= _columns("converged", proportion(converged, judged))
        row |= _columns("diverged", proportion(int((status == "diverged").sum()), n))
        row["failed"] = int((status == "failed").sum())
        times = own["steps_to_target"].to_numpy(np.float64)[:judged]
        row |= _columns("steps_to_target", censored_median(times, row["updates"]))
        kept = own[~status.isin(DIVERGED_OR_FAILED)]
        for name in RUN_MEASURES:
            row |= _measure(name, kept)
        row["loss_ols"] = float(own["loss_ols"].median())
        rows.append(row)
    return pd.DataFrame(rows)


def summarize_features(features: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per condition and feature: weights, gradients and movement.

    Parameters
    ----------
    features, runs : DataFrame
        As in `scaling_study.storage.results.Results`.

    Returns
    -------
    DataFrame
        ``condition, feature``; ``reached`` (share of seeds whose weight came within a tenth of
        its least-squares value, for good, of those where that can be told from 0); medians with
        intervals by order statistics of `START_MEASURES` over all runs, and of
        `FEATURE_MEASURES` over those that did not diverge (``weight_original`` in units of the
        data, all else in training units);
        ``movement_most``, the largest movement of any run; ``weight_true`` and
        ``weight_ols`` (medians, units of the data) and ``training_unit``, by which they are
        multiplied to compare them with ``weight``.
    """
    columns = ["condition", "feature", "steps_to_feature_target", "weight_true", "weight_ols"]
    columns += ["t_ols"]
    frame = features[[*columns, *START_MEASURES, *FEATURE_MEASURES]].assign(
        alive=_alive(features, runs), unit=training_units(features)
    )
    rows = []
    for condition, every in _by_condition(frame):
        for feature, own in every.groupby("feature"):
            alive = own[own["alive"]]
            row: dict[str, Any] = {"condition": condition, "feature": int(str(feature))}
            asked = own["weight_init"].notna() & (own["t_ols"].abs() >= SIGNIFICANT_T)
            watched = own[asked]
            reached = int(watched["steps_to_feature_target"].notna().sum())
            row |= _columns("reached", proportion(reached, len(watched)))
            for name in START_MEASURES:
                row |= _measure(name, own)
            for name in FEATURE_MEASURES:
                row |= _measure(name, alive)
            row["movement_most"] = float(alive["movement"].max())
            row["weight_true"] = float(own["weight_true"].median())
            row["weight_ols"] = float(own["weight_ols"].median())
            row["training_unit"] = float(own["unit"].median())
            rows.append(row)
    return pd.DataFrame(rows)


def _alive(features: pd.DataFrame, runs: pd.DataFrame) -> np.ndarray:
    """Return which rows of features are of runs that neither diverged nor failed."""
    lost = runs.loc[runs["status"].isin(DIVERGED_OR_FAILED), ["condition", "seed"]]
    names = pd.Index(lost["condition"].astype(str).unique())
    span = 1 + max(features["seed"].max(), lost["seed"].max()) if len(lost) else 1

    def keys(frame: pd.DataFrame) -> np.ndarray:
        condition = frame["condition"].astype("category").cat
        place = names.get_indexer(condition.categories.astype(str))[condition.codes]
        return np.where(place < 0, -1, place * np.int64(span) + frame["seed"].to_numpy(np.int64))

    return ~np.isin(keys(features), keys(lost)) if len(lost) else np.ones(len(features), bool)


def training_units(features: pd.DataFrame) -> pd.Series:
    """Return what a weight in units of the data is multiplied by to be one in training units.

    It is divisor / target_divisor, read off the runs as weight / weight_original. A run that
    ended at zero, or diverged, lends its condition's and feature's median.

    Parameters
    ----------
    features : DataFrame
        As in `scaling_study.storage.results.Results`.

    Returns
    -------
    Series
        A row of `features` each; NaN where nothing is known, as for networks.
    """
    weight = features["weight"].astype(float)
    original = features["weight_original"].astype(float)
    known = np.isfinite(weight) & np.isfinite(original) & (weight != 0) & (original != 0)
    ratio = (weight / original.where(known)).where(known)
    keys = [features["condition"], features["feature"]]
    return ratio.fillna(ratio.groupby(keys, observed=True).transform("median"))


def last_weight_larger(features: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return how often the last feature's weight ended larger than the first's.

    Parameters
    ----------
    features, runs : DataFrame
        As in `scaling_study.storage.results.Results`.

    Returns
    -------
    DataFrame
        One row per condition: ``condition``, ``larger`` (share of the runs that did not
        diverge with |weight of the last feature| > |weight of the first|, in training units,
        Wilson interval), ``larger_twice`` (more than twice). No row where there are no weights.
    """
    rows = []
    for condition, first, last in _ends(features, runs):
        row: dict[str, Any] = {"condition": condition}
        for name, factor in (("larger", 1), ("larger_twice", 2)):
            row |= _columns(name, proportion(int((last > factor * first).sum()), len(last)))
        rows.append(row)
    columns = ["condition", *_columns("larger", Estimate(0, 0, 0, 0))]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def last_weight_larger_difference(
    features: pd.DataFrame, runs: pd.DataFrame, first: str, second: str
) -> Estimate:
    """Return by how much `last_weight_larger` differs between two conditions, paired by seed.

    Parameters
    ----------
    features, runs : DataFrame
        As in `scaling_study.storage.results.Results`.
    first, second : str
        Conditions; seeds that diverged in either have no difference and are not in ``n``.

    Returns
    -------
    Estimate
        Share in `first` less share in `second`, Student's t interval.
    """
    own = features[features["condition"].isin([first, second])]
    larger = {name: last > start for name, start, last in _ends(own, runs)}
    if first not in larger or second not in larger:
        return paired_difference([], [])
    both = pd.concat([larger[first], larger[second]], axis=1, join="inner").astype(float)
    return paired_difference(both.iloc[:, 0], both.iloc[:, 1])


def cumulative_incidence(runs: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
    """Return which share of the seeds had reached the target, or diverged, by each update.

    The budget is common to a condition's seeds, so the shares are exact.

    Parameters
    ----------
    runs, conditions : DataFrame
        As in `scaling_study.storage.results.Results`.

    Returns
    -------
    DataFrame
        ``condition, outcome`` (``reached`` or ``diverged``), ``update``, ``share``: the
        corners of a step function from 0 to the budget.
    """
    budgets = conditions.set_index("condition")["updates"]
    frames = []
    for condition, own in _by_condition(runs[["condition", "steps_to_target", "diverged_at"]]):
        for outcome, column in (("reached", "steps_to_target"), ("diverged", "diverged_at")):
            times, counts = np.unique(own[column].dropna(), return_counts=True)
            share = np.cumsum(counts) / len(own)
            end = share[-1] if len(share) else 0.0
            corners = {
                "update": [0.0, *times, float(budgets[condition])],
                "share": [0.0, *share, end],
            }
            frames.append(pd.DataFrame({"condition": condition, "outcome": outcome, **corners}))
    return pd.concat(frames, ignore_index=True)


def _by_condition(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for condition, own in frame.groupby("condition", observed=True):
        yield str(condition), own


def _ends(features: pd.DataFrame, runs: pd.DataFrame) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    """Yield each condition's |weight| of the first and of the last feature, by seed."""
    frame = features.loc[_alive(features, runs), ["condition", "seed", "feature", "weight"]]
    for condition, own in _by_condition(frame.dropna(subset="weight")):
        ends = own["feature"].min(), own["feature"].max()
        if ends[0] == ends[1]:
            continue
        first, last = (own[own["feature"] == end].set_index("seed")["weight"].abs() for end in ends)
        if not first.index.equals(last.index):
            first, last = first.align(last, join="inner")
        yield condition, first, last


def _measure(name: str, kept: pd.DataFrame) -> dict[str, float]:
    values = kept[name].to_numpy(np.float64)
    finite = np.isfinite(values)
    missing = int((~finite).sum()) if finite.any() else 0
    estimate = median(values[finite])
    return {**_columns(name, estimate), f"{name}_missing": missing}


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    value, low, high, n = estimate
    return {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}
