"""The frames of a diagnosis as the page shows them: tables as text, and a figure's shares."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from scaling_study.analysis import diagnosis as analysis
from scaling_study.analysis.diagnosis import RAW, REFERENCE, TRAINING
from scaling_study.report.labels import (
    MINUS,
    MISSING,
    estimate,
    hundredths,
    number,
    percent,
    scaler_name,
)

if TYPE_CHECKING:
    from scaling_study.report.diagnosis.data import Diagnosis

DIFFERENCE = f"scaled {MINUS} raw"
UNTUNABLE = "no rate of the grid trains"
SHOWN = 15  # features of a figure
METHODS = ("permutation", "integrated_gradients", "gradient_input", "weight")


def summary_rows(of: "Diagnosis") -> pd.DataFrame:
    """Return a row for each scaler: its mean scores, and how it compares with raw columns."""
    runs = of.run_scores
    means = runs.groupby(["scaler", "rates"], sort=False)["value"].mean().unstack()
    counts = of.differences.groupby(["scaler", "outcome"])["value"].count().unstack(fill_value=0)
    names = [n for n in of.results.conditions["scaler"].unique() if n in means.index]
    table = pd.DataFrame({"scaler": [scaler_name(name) for name in names]})
    for rates in analysis.RATES:
        table[f"mean score, {rates} rate"] = [number(x) for x in means.loc[names, rates].tolist()]
    for outcome in ("better", "equivalent", "unclear", "worse"):
        known = counts[outcome] if outcome in counts else pd.Series(0, counts.index)
        table[outcome] = [MISSING if n == RAW else str(known.get(n, 0)) for n in names]
    return table


def training_name(row: Mapping[Any, Any]) -> str:
    """Return the words for a model, an optimizer and a learning rate."""
    return f"{row['model']}, {row['optimizer']}, {row['rates']} learning rate" if row else ""


def cell_name(row: Mapping[Any, Any]) -> str:
    """Return the words for a model, an optimizer and a scaler."""
    return f"{row['model']} with {row['optimizer']} on {columns(row['scaler'])}"


def columns(scaler: str) -> str:
    """Return the words for columns under a scaler."""
    return "raw columns" if scaler == RAW else f"columns scaled by {scaler}"


def score_rows(scores: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """Return the scores and differences as text, a row for each cell."""
    by = [*TRAINING, "scaler"]
    both = scores.merge(compared, on=by, how="left", suffixes=("", "_difference"))
    columns = {
        "training": [training_name(row) for row in both.to_dict("records")],
        "scaler": both["scaler"],
        "score": [estimate(*row) for row in both[["value", "low", "high"]].to_numpy()],
        DIFFERENCE: [
            estimate(*row)
            for row in both[[f"{n}_difference" for n in ("value", "low", "high")]].to_numpy()
        ],
        "": both["outcome"].fillna("").tolist(),
        "learning rate": [
            f"{rate:g}" if tunable else f"{rate:g}\n{UNTUNABLE}"
            for rate, tunable in zip(both["learning_rate"], both["tunable"], strict=True)
        ],
        "diverged": [percent(share) for share in both["diverged"]],
        "excess share": [number(value) for value in both["excess_share"]],
    }
    table = pd.DataFrame(columns).rename(columns={"": "outcome"})
    return table if both["excess_share"].notna().any() else table.drop(columns="excess share")


def column_rows(columns: pd.DataFrame) -> pd.DataFrame:
    """Return the columns as text."""
    spans = zip(columns["minimum"], columns["maximum"], strict=True)
    return pd.DataFrame(
        {
            "column": columns["feature"],
            "range": [f"{number(a)} to {number(b)}" for a, b in spans],
            "sd": [number(x) for x in columns["sd"]],
            "offset (sd)": [number(x) for x in columns["offset"]],
            "digits lost": [number(x, 2) for x in columns["digits_lost"]],
            "remarks": columns["remarks"],
        }
    )


def conditioning_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the condition numbers as text."""
    return pd.DataFrame(
        {
            "scaler": frame["scaler"],
            "condition number κ": [number(x) for x in frame["kappa"]],
            "largest learning rate of gradient descent": [number(2 / x) for x in frame["largest"]],
        }
    )


def agreement_rows(of: "Diagnosis") -> pd.DataFrame:
    """Return how methods agree with permutation importance, raw and scaled, as text."""
    rows = of.of_main(of.agreement)
    wide = rows.pivot(index="method", columns="scaler", values="value")
    names = [n for n in (RAW, of.scaler) if n in wide]
    control = of.of_main(of.shares)
    control = control[control["feature"] == of.control].pivot(
        index="method", columns="scaler", values="value"
    )
    table = pd.DataFrame({"method": [n.replace("_", " ") for n in wide.index]})
    for name in names:
        said = "raw" if name == RAW else name
        said += f" ({of.few[name]} of {of.splits} splits)" if name in of.few else ""
        table[f"rank correlation, {said}"] = [number(x) for x in wide[name]]
        table[f"share of the control, {said}"] = [
            hundredths(x) for x in control.reindex(wide.index)[name]
        ]
    return table


def shown_shares(of: "Diagnosis") -> pd.DataFrame:
    """Return the shares that the figure shows: of the leading features by any of its methods."""
    rows = of.of_main(of.shares)
    rows = rows[rows["scaler"].isin([RAW, of.scaler]) & rows["method"].isin(METHODS)]
    most = rows.groupby("feature")["value"].max().sort_values(ascending=False)
    kept = dict.fromkeys([*most.index[:SHOWN], of.control])
    rows = rows[rows["feature"].isin(list(kept))]
    reference = rows[(rows["method"] == REFERENCE) & (rows["scaler"] == of.scaler)]
    order = reference.sort_values("value", ascending=False)["feature"].tolist()
    place = {name: k for k, name in enumerate(order or kept)}
    return rows.sort_values("feature", key=lambda names: names.map(place), kind="stable")
