"""How the standard report compares scalers: scores, excess shares and importances."""

from typing import Any

import pandas as pd

from scaling_study.analysis import scaler_comparison
from scaling_study.analysis.scaler_comparison import RAW
from scaling_study.errors import StudyError
from scaling_study.report.labels import (
    MISSING,
    count,
    estimate,
    hundredths,
    label_conditions,
    scaler_name,
)
from scaling_study.storage.results import Results
from scaling_study.study.conditions import problem_of
from scaling_study.study.datasets import TEST_SHARE

MOST_SHOWN = 15  # features of a figure
SHOWN_METHODS = ("permutation", "integrated_gradients", "gradient_input", "weight")


def measures(results: Results, labels: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return `scaler_comparison.run_measures` of results; further columns of labels are kept."""
    labels = _with_overlap(results, labels)
    found = scaler_comparison.run_measures(results.runs, labels)
    if "rate" not in labels:
        return found
    parts = []
    for rate, own in labels.groupby("rate", sort=False):
        parts.append(scaler_comparison.run_measures(results.runs, own).assign(rate=rate))
    return pd.concat(parts, ignore_index=True)


def compared(results: Results) -> pd.DataFrame:
    """Return `scaler_comparison.compare_scalers` of results."""
    return scaler_comparison.compare_scalers(measures(results))


def importance_rows(results: Results) -> pd.DataFrame:
    """Return the mean shares of the leading features by setting, scaler and method."""
    labels = _with_overlap(results)[["condition", "setting", "scaler", "overlap"]]
    features = results.features
    if features["feature"].dtype.kind in "iu":
        features = features.assign(feature=features["feature"] + 1)
    found = scaler_comparison.mean_shares(features, results.runs, labels)
    found = found[found["method"].isin(SHOWN_METHODS)]
    found = found.assign(seeds=results.study.n_seeds)
    leading = found.groupby("feature")["value"].max().sort_values(ascending=False)
    return found[found["feature"].isin(leading.index[:MOST_SHOWN])]


def _with_overlap(results: Results, labels: pd.DataFrame | None = None) -> pd.DataFrame:
    labels = label_conditions(results.conditions) if labels is None else labels
    grids = results.study.blocks.values()
    known = {str(part): _overlap(part) for grid in grids for part in grid["problem"]}
    problems = results.conditions.set_index("condition")["problem"].astype(str)
    return labels.assign(overlap=labels["condition"].map(problems).map(known).fillna(0.0))


def _overlap(component: Any) -> float:
    """Return test rows over training rows of a problem whose seeds split the same rows, else 0."""
    try:
        return problem_of(component).overlap or 0.0
    except StudyError:  # a table that is not here any more, or code that may not be imported
        return TEST_SHARE / (1 - TEST_SHARE) if component.is_table else 0.0


def comparison_table(compared: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison as text, a row for each setting and scaler."""
    wide = compared.set_index(["setting", "scaler"])
    table = order = _by_setting(compared[["setting", "scaler"]])
    table = table.copy()
    keys = list(order.itertuples(index=False, name=None))
    for measure in dict.fromkeys(compared["measure"]):
        rows = wide[wide["measure"] == measure]
        for title, name in ((measure, "value"), (f"{measure}, scaled less raw", "difference")):
            prefix = "" if name == "value" else "difference_"
            ends = rows[[name, f"{prefix}low", f"{prefix}high"]].to_numpy(float)
            cells = {key: estimate(*row) for key, row in zip(rows.index, ends, strict=True)}
            table[title] = [cells.get(key, MISSING) for key in keys]
    apart = compared[compared["differs"]].groupby(["setting", "scaler"])["measure"]
    said = {key: ", ".join(names) for key, names in apart}
    table["differs by"] = [said.get(key, MISSING) for key in keys]
    return table.assign(scaler=table["scaler"].map(scaler_name))


def importance_table(found: pd.DataFrame) -> pd.DataFrame:
    """Return the mean shares as text, a column for each scaler."""
    by = ["setting", "method", "feature"]
    table = _by_setting(found[by])
    for scaler, rows in found.groupby("scaler", sort=False):
        values = rows[["value", "low", "high", "n", "seeds"]].to_numpy(float)
        cells = dict(zip(rows[by].itertuples(index=False, name=None), values, strict=True))
        keys = table[by].itertuples(index=False, name=None)
        table[scaler_name(str(scaler))] = [
            _share(*cells[key]) if key in cells else MISSING for key in keys
        ]
    return table.assign(method=table["method"].str.replace("_", " "))


def _by_setting(keys: pd.DataFrame) -> pd.DataFrame:
    """Return each row once, those of a setting together."""
    place = {name: k for k, name in enumerate(dict.fromkeys(keys["setting"]))}
    once = keys.drop_duplicates()
    once = once.sort_values("setting", key=lambda names: names.map(place), kind="stable")
    return once.reset_index(drop=True)


def _share(value: float, low: float, high: float, n: float, seeds: float) -> str:
    """Return a share with its interval, and its number of runs where they are few."""
    text = f"{hundredths(value)}\n{hundredths(low)} to {hundredths(high)}"
    return text if n >= seeds / 2 else f"{text}, {count(int(n))} of {count(int(seeds))} seeds"


def differing(compared: pd.DataFrame) -> dict[str, Any]:
    """Return what the summary says: of each measure, in how many comparisons scalers differ."""
    rows = compared[(compared["scaler"] != RAW) & compared["difference"].notna()]
    found = []
    for measure, own in rows.groupby("measure", sort=False):
        better = (
            own["difference"] < 0 if measure == scaler_comparison.EXCESS else own["difference"] > 0
        )
        names = {
            "better": own[own["differs"] & better],
            "worse": own[own["differs"] & ~better],
            "same": own[~own["differs"]],
        }
        counted = {key: len(part) for key, part in names.items()}
        scalers = {key: list(dict.fromkeys(part["scaler"])) for key, part in names.items()}
        most = own.iloc[int(own["difference"].abs().to_numpy(float).argmax())]
        largest = {
            "text": estimate(*most[["difference", "difference_low", "difference_high"]]),
            "where": f"{most['setting']}, {scaler_name(most['scaler'])}",
        }
        facts = {"measure": measure, "count": len(own), "n": counted, "scalers": scalers}
        found.append({**facts, "largest": largest})
    return {"measures": found}
