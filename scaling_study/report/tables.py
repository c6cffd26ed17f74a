"""The tables: every estimate at full precision for files, and rounded for the page."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from scaling_study.analysis import summary
from scaling_study.report.labels import BASELINE, MISSING, label_conditions, number, percent
from scaling_study.storage.results import Results

MOST_RUNS = 1_500_000  # that are held as data frames at once


class Summaries(NamedTuple):
    """What a report says of a study, one frame for each kind of row.

    Attributes
    ----------
    labels : DataFrame
        From `label_conditions`.
    runs, features : DataFrame
        From `summary.summarize_runs` and `summary.summarize_features`.
    larger : DataFrame
        From `summary.last_weight_larger`.
    differences : DataFrame
        ``setting, scaler`` and ``value, low, high, n``: the share of runs in which the last
        weight is the larger, unscaled less scaled, paired by seed.
    """

    labels: pd.DataFrame
    runs: pd.DataFrame
    features: pd.DataFrame
    larger: pd.DataFrame
    differences: pd.DataFrame


def summarize(results: Results) -> Summaries:
    """Return all that a report says of a study.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`.
    """
    labels = label_conditions(results.conditions)
    parts = [_summarize(part, labels) for part in _parts(results, labels)]
    runs, features, larger, differences = (
        pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True)
    )
    return Summaries(labels, runs, features, larger, differences)


def _parts(results: Results, labels: pd.DataFrame) -> Iterator[Results]:
    """Yield the results of as many settings as are summarised at once: all, or some."""
    first, last = results.study.seeds
    if len(labels) * (last - first) <= MOST_RUNS:
        yield results
        return
    ids, most = list[str](), MOST_RUNS // (last - first)
    for _, own in labels.groupby("setting", sort=False):
        if ids and len(ids) + len(own) > most:
            yield results.of(ids)
            ids = []
        ids += own["condition"].tolist()
    yield results.of(ids)


def _summarize(results: Results, labels: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    runs, features = results.runs, results.features
    own = labels[labels["condition"].isin(results.conditions["condition"])]
    return (
        summary.summarize_runs(runs, results.conditions),
        summary.summarize_features(features, runs),
        summary.last_weight_larger(features, runs),
        _differences(own, features, runs),
    )


def _differences(labels: pd.DataFrame, features: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for setting, own in labels.groupby("setting", sort=False):
        unscaled = own.loc[own["scaler"] == BASELINE, "condition"]
        for row in own[own["scaler"] != BASELINE].itertuples():
            for baseline in unscaled:
                found = summary.last_weight_larger_difference(
                    features, runs, baseline, str(row.condition)
                )
                rows.append({"setting": setting, "scaler": row.scaler, **found._asdict()})
    return pd.DataFrame(rows, columns=["setting", "scaler", "value", "low", "high", "n"])


def conditions_file(summaries: Summaries, conditions: pd.DataFrame) -> pd.DataFrame:
    """Return a row per condition: its axes, then every estimate at full precision."""
    axes = conditions.drop(columns="updates")
    whole = axes.merge(summaries.runs, on="condition", how="left")
    return whole.merge(summaries.larger, on="condition", how="left")


def features_file(summaries: Summaries) -> pd.DataFrame:
    """Return a row per condition and feature, features counted from 1, at full precision."""
    features = summaries.features.assign(feature=summaries.features["feature"] + 1)
    return summaries.labels.merge(features, on="condition")


def conditions_table(summaries: Summaries) -> pd.DataFrame:
    """Return a row per condition as the page shows it, text in every cell."""
    whole = summaries.labels.merge(summaries.runs, on="condition")
    whole = whole.merge(summaries.larger, on="condition", how="left")
    table = pd.DataFrame({"setting": whole["setting"], "scaler": whole["scaler"]})
    table["seeds"] = [f"{n:,}" for n in whole["n"]]
    table["reached target"] = _shares(whole, "converged")
    table["diverged"] = _shares(whole, "diverged")
    table["updates to target"] = [
        _steps(*values)
        for values in zip(
            whole["steps_to_target"],
            whole["steps_to_target_low"],
            whole["steps_to_target_high"],
            whole["updates"],
            strict=True,
        )
    ]
    table["error against truth"] = _estimates(whole, "weight_error")
    table["error against OLS"] = _estimates(whole, "weight_error_ols")
    table["last weight larger"] = _shares(whole, "larger")
    table["final loss"] = _estimates(whole, "final_loss")
    return _shown(table)


def features_table(summaries: Summaries) -> pd.DataFrame:
    """Return a row per condition and feature as the page shows it, text in every cell."""
    whole = summaries.labels.merge(summaries.features, on="condition")
    table = pd.DataFrame({"setting": whole["setting"], "scaler": whole["scaler"]})
    table["feature"] = [str(feature + 1) for feature in whole["feature"]]
    for title, name in (("truth", "weight_true"), ("OLS", "weight_ols")):
        table[title] = [number(value) for value in whole[name]]
    table["recovered weight"] = _estimates(whole, "weight_original")
    table["trained weight"] = _estimates(whole, "weight")
    table["movement"] = _estimates(whole, "movement")
    table["gradient norm at start"] = _estimates(whole, "grad_norm_init")
    table["mean gradient norm"] = _estimates(whole, "grad_norm_mean")
    return _shown(table)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without the columns in which nothing was measured."""
    return table[[name for name in table if not (table[name] == MISSING).all()]]


def _estimates(frame: pd.DataFrame, name: str) -> list[str]:
    ends = zip(frame[name], frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
    return [_estimate(value, low, high) for value, low, high in ends]


def _estimate(value: float, low: float, high: float) -> str:
    if math.isnan(low) or low == high:
        return number(value)
    return f"{number(value)} ({number(low)} to {number(high)})"


def _shares(frame: pd.DataFrame, name: str) -> list[str]:
    ends = zip(frame[name], frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
    return [
        f"{percent(value)} ({percent(low)[:-2]} to {percent(high)[:-2]})"
        if not math.isnan(value)
        else MISSING
        for value, low, high in ends
    ]


def _steps(value: float, low: float, high: float, budget: int) -> str:
    if math.isnan(value):
        return MISSING
    shown = [f"> {budget:,}" if math.isinf(v) else f"{v:,.0f}" for v in (value, low, high)]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"
