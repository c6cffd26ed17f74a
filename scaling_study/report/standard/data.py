"""What the standard report shows: estimates of every condition, tables of text, and facts."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import pandas as pd

from scaling_study.analysis import summary
from scaling_study.report.labels import (
    BASELINE,
    MISSING,
    count,
    estimate,
    label_conditions,
    number,
    percent,
    share,
)
from scaling_study.storage.results import Results, numbered

MOST_RUNS = 1_500_000  # that are held as data frames at once
MOST_DRAWN = 1e100  # matplotlib's scales overflow beyond some power of ten


class Summaries(NamedTuple):
    """What is estimated of a study, one frame for each kind of row.

    `labels` come from `label_conditions`, the next three from `scaling_study.analysis.summary`.
    `differences` are in the share of runs in which the last weight is the larger, unscaled less
    scaled, paired by seed.
    """

    labels: pd.DataFrame
    runs: pd.DataFrame
    features: pd.DataFrame
    larger: pd.DataFrame
    differences: pd.DataFrame

    def conditions(self, setting: str | None = None) -> pd.DataFrame:
        """Return a row per condition with its labels, of all settings or of one."""
        labels = self.labels
        labels = labels if setting is None else labels[labels["setting"] == setting]
        return labels.merge(self.runs, on="condition").merge(
            self.larger, on="condition", how="left"
        )


def summarize(results: Results) -> Summaries:
    """Return the estimates of a study, in parts where all of it is too large at once."""
    labels = label_conditions(results.conditions)
    parts = [_summarize(part, labels) for part in _parts(results, labels)]
    frames = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    return Summaries(labels, *frames)


def _parts(results: Results, labels: pd.DataFrame) -> Iterator[Results]:
    """Yield the results of as many settings as are summarised at once: all, or some."""
    most = MOST_RUNS // results.study.n_seeds
    if len(labels) <= most:
        yield results
        return
    ids = list[str]()
    for _, rows in labels.groupby("setting", sort=False):
        if ids and len(ids) + len(rows) > most:
            yield results.of(ids)
            ids = []
        ids += rows["condition"].tolist()
    yield results.of(ids)


def _summarize(results: Results, labels: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    runs, features = results.runs, numbered(results.features)
    labels = labels[labels["condition"].isin(results.conditions["condition"])]
    return (
        summary.summarize_runs(runs, results.conditions),
        _named(summary.summarize_features(features, runs), results.features),
        summary.last_weight_larger(features, runs),
        _differences(labels, features, runs),
    )


def _named(summaries: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """Add the ``name`` of each feature: that of its column, or its number counted from 1."""
    if not len(summaries):
        return summaries.assign(name="")
    known = features[["condition", "position", "feature"]].drop_duplicates()
    named = known["feature"].dtype.kind not in "iu"
    known = known.assign(
        condition=known["condition"].astype(str),
        name=known["feature"].astype(str) if named else known["position"] + 1,
    )
    known = known.rename(columns={"feature": "", "position": "feature"}).drop(columns="")
    return summaries.merge(known, on=["condition", "feature"], how="left")


def _differences(labels: pd.DataFrame, features: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    found = []
    for setting, rows in labels.groupby("setting", sort=False):
        raw = rows["scaler"] == BASELINE
        for baseline, row in product(rows.loc[raw, "condition"], rows[~raw].itertuples()):
            difference = summary.last_weight_larger_difference(
                features, runs, baseline, str(row.condition)
            )
            found.append({"setting": setting, "scaler": row.scaler, **difference._asdict()})
    return pd.DataFrame(found, columns=["setting", "scaler", "value", "low", "high", "n"])


# Files and tables -----------------------------------------------------------------------------


def files(summaries: Summaries, conditions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables at full precision, features by name or counted from 1."""
    runs = summaries.runs.merge(summaries.larger, on="condition", how="left")
    features = summaries.features.assign(feature=summaries.features["name"]).drop(columns="name")
    return {
        "tables/conditions.csv": conditions.drop(columns="updates").merge(
            runs, on="condition", how="left"
        ),
        "tables/features.csv": summaries.labels.merge(features, on="condition"),
        "tables/differences.csv": summaries.differences[summaries.differences["n"] > 0],
    }


def tables(summaries: Summaries) -> dict[str, pd.DataFrame]:
    """Return the tables of conditions, features, movement and differences, text in every cell."""
    rows = summaries.conditions()
    features = summaries.labels.merge(summaries.features, on="condition")
    differences = summaries.differences.dropna(subset=["low"])
    return {
        "conditions": _table(rows, CONDITIONS),
        "features": _table(features, FEATURES),
        "movement": _table(movement(summaries, rows), MOVEMENT),
        "differences": _table(differences, DIFFERENCES),
    }


def _table(rows: pd.DataFrame, columns: dict[str, tuple[Any, ...]]) -> pd.DataFrame:
    """Return columns as text, without those in which nothing was measured.

    Each has a function that writes a cell, and the names of what the function is given.
    """
    table = rows[["setting", "scaler"]].copy()
    for title, (form, *names) in columns.items():
        table[title] = [form(*values) for values in rows[names].itertuples(index=False)]
    return table[[name for name in table if not (table[name] == MISSING).all()]]


def movement(summaries: Summaries, rows: pd.DataFrame) -> pd.DataFrame:
    """Return conditions with the largest movement of a weight and the distance it had to go.

    A condition counts as `stopped` early if no run converged or diverged and a weight had, from
    zero, more than twice as far to go to least squares as any weight moved.
    """
    features = summaries.features
    features = features.assign(distance=(features["weight_ols"] * features["training_unit"]).abs())
    most = features.dropna(subset=["training_unit"]).groupby("condition")
    most = most[["movement_most", "distance"]].max().dropna().reset_index()
    rows = rows.merge(most, on="condition")
    far = rows["distance"] > 2 * rows["movement_most"]
    return rows.assign(stopped=far & (rows["converged"] == 0) & (rows["diverged"] == 0))


def _ends(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _steps(value: float, low: float, high: float, budget: int) -> str:
    if math.isnan(value):
        return MISSING
    shown = [f"> {budget:,}" if math.isinf(v) else f"{v:,.0f}" for v in (value, low, high)]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]}\n{shown[1]} to {shown[2]}"


def _compared(low: float, high: float) -> str:
    if low > 0:
        return "more often"
    return "less often" if high < 0 else "no clear difference"


CONDITIONS: dict[str, tuple[Any, ...]] = {
    "reached target": (share, *_ends("converged")),
    "diverged": (share, *_ends("diverged")),
    "updates to target": (_steps, *_ends("steps_to_target"), "updates"),
    "error against least squares": (estimate, *_ends("weight_error_ols")),
    "last weight larger": (share, *_ends("last_weight_larger")),
    "final loss": (estimate, *_ends("final_loss")),
}
FEATURES: dict[str, tuple[Any, ...]] = {
    "feature": (str, "name"),
    "truth": (number, "weight_true"),
    "least squares": (number, "weight_ols"),
    "recovered weight": (estimate, *_ends("weight_original")),
    "trained weight": (estimate, *_ends("weight")),
    "gradient norm at start": (estimate, *_ends("grad_norm_init")),
    "mean gradient norm": (estimate, *_ends("grad_norm_mean")),
}
MOVEMENT: dict[str, tuple[Any, ...]] = {
    "learning rate × updates": (number, "reach"),
    "largest movement": (number, "movement_most"),
    "distance to least squares": (number, "distance"),
    "stopped early": (lambda stopped: "yes" if stopped else "no", "stopped"),
}
DIFFERENCES: dict[str, tuple[Any, ...]] = {
    "unscaled less scaled": (estimate, "value", "low", "high"),
    "unscaled": (_compared, "low", "high"),
    "seeds": (count, "n"),
}

# Facts ----------------------------------------------------------------------------------------


def facts(summaries: Summaries) -> dict[str, Any]:
    """Return what the lead says: of the first setting, and of those where its scalers converge."""
    settings = list(dict.fromkeys(summaries.labels["setting"]))
    rows = summaries.conditions(settings[0])
    raw, scaled = (rows[(rows["scaler"] == BASELINE) == is_raw] for is_raw in (True, False))
    moved = movement(summaries, rows)
    stopped = moved.loc[moved["stopped"], "scaler"].tolist()
    return {
        "setting": settings[0],
        "updates": int(rows["updates"].max()),
        "seeds": int(rows["n"].max()),
        "judged": bool(rows["has_target"].all()),
        "targets": bool(summaries.runs["has_target"].any()),
        "raw": raw.iloc[0].to_dict() if len(raw) else None,
        "scaled": len(scaled),
        "scaled_reached": _span(scaled["converged"], percent),
        "scaled_loss": _span(scaled["final_loss"], number),
        "diverged": rows.loc[rows["diverged"] == 1, "scaler"].tolist(),
        "stopped": stopped,
        "compared": _nearer(raw, scaled),
        "elsewhere": _converging(summaries, settings[1:], stopped),
    }


def _nearer(raw: pd.DataFrame, scaled: pd.DataFrame) -> str:
    """Return whether scaling brought weights nearer to least squares, by whole intervals."""
    ends = [f"weight_error_ols_{end}" for end in ("low", "high")]
    scaled = scaled.dropna(subset=ends)
    if raw.empty or scaled.empty or raw[ends].isna().any(axis=None):
        return ""
    low, high = raw[ends].iloc[0]
    if (scaled[ends[0]] > high).all():
        return "further from"
    return "nearer to" if (scaled[ends[1]] < low).all() else "mixed"


def _converging(
    summaries: Summaries, settings: Sequence[str], stopped: list[str]
) -> dict[str, Any] | None:
    """Return the first other setting in which most runs of a scaler that was stopped converge."""
    for setting in settings:
        rows = summaries.conditions(setting)
        found = rows[rows["scaler"].isin(stopped) & (rows["converged_low"] > 0.5)]
        if len(found):
            return {"setting": setting, "scalers": found["scaler"].tolist()}
    return None


def _span(values: pd.Series, form: Any) -> str:
    """Return the least and the largest of some numbers, as one where they read the same."""
    known = values.dropna()
    if known.empty:
        return ""
    low, high = form(known.min()), form(known.max())
    return low if low == high else f"{low} to {high}"


# Frames of figures ----------------------------------------------------------------------------


def labelled(frame: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with its setting and scaler as text, NaN for what no axis can hold."""
    if not len(frame):
        return frame.assign(setting="", scaler="")
    numbers = frame.select_dtypes("number")
    frame = frame.copy(deep=False)
    frame[numbers.columns] = numbers.where(~(numbers.astype(float).abs() > MOST_DRAWN))
    names = labels.set_index("condition")
    ids = frame["condition"].astype(str)
    return frame.assign(
        condition=ids, setting=ids.map(names["setting"]), scaler=ids.map(names["scaler"])
    )


def over_seeds(frame: pd.DataFrame, column: str, by: list[str]) -> pd.DataFrame:
    """Return the median over the seeds, and their range, by panel, update and more."""
    groups = frame.dropna(subset=[column]).groupby(["panel", *by, "update"], sort=False)
    found = groups[column].agg(value="median", low="min", high="max", n="count").reset_index()
    return found[found["n"] > 0]
