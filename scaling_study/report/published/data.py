"""Results to frames and facts of the report on published results."""

from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis import intervals, theory
from scaling_study.analysis.metrics import Table
from scaling_study.analysis.replication import (
    ALIKE,
    BACKPROP,
    CENTRING_BLOCKS,
    EXAMPLE,
    GAIN,
    NAMES,
    ON_ITS_SPLIT,
    OVER_SPLITS,
    PINHEIRO,
    RAW,
    SCALED,
    TRAINING,
    WIDEST,
    published_table,
    tuned_times,
)
from scaling_study.report import style
from scaling_study.report.labels import MINUS, number, percent
from scaling_study.storage.results import Results

ESTIMATORS = {
    "pca-shared": "wine, one PCA for both pipelines",
    "pca-separate": "wine, a PCA for each pipeline",
    "wine-svm-stopped": "wine, linear SVM, 1,000 iterations",
    "wine-svm": "wine, linear SVM, converged",
    "wine-knn": "wine, 5 nearest neighbours",
    "wine-mlp": "wine, MLP",
    "breast-cancer-mlp": "breast cancer, MLP",
}
SOURCES = {"example": EXAMPLE, "pinheiro": PINHEIRO, "centring": BACKPROP}
INPUTS = {NAMES[RAW]: "raw", NAMES[SCALED]: "standardised", GAIN: "gain"}
ESTIMATE = ["value", "low", "high", "n"]
UPDATES = ": updates to target, "  # between the block and the ratio in the name of a quantity


class Published:
    """The published figures of a study by what was measured, with our estimates.

    Attributes
    ----------
    table : DataFrame
        From `scaling_study.analysis.replication.published_table`.
    single, over, training : DataFrame
        Its rows on the published split, over all splits and of training times; with ``inputs``.
    times : DataFrame
        Geometric means of the updates to target by block, scaler and offset, beside theory.
    """

    def __init__(self, results: Results) -> None:
        self.table = published_table(results)
        names = self.table["quantity"].str.removesuffix(", its split").str.rpartition(": ")[2]
        named = self.table.assign(inputs=names.map(INPUTS))
        self.single, self.over, self.training = (
            named[named["measured"] == measured]
            for measured in (ON_ITS_SPLIT, OVER_SPLITS, TRAINING)
        )
        blocks = [name for name in CENTRING_BLOCKS if name in results.study.blocks]
        parts = [_times(results, name) for name in blocks if len(self.training)]
        self.times = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


# Accuracies -----------------------------------------------------------------------------------


def accuracies(over: pd.DataFrame) -> pd.DataFrame:
    """Return the mean accuracy over splits, raw and standardised."""
    rows = over[over["inputs"] != "gain"]
    scaler = np.where(rows["inputs"] == "raw", RAW, SCALED)
    rows = rows.assign(scaler=scaler, published=rows["published"].astype(float))
    return rows[["comparison", "scaler", "published", *ESTIMATE]]


def gains(over: pd.DataFrame) -> pd.DataFrame:
    """Return the mean gain over splits by standardising."""
    rows = over[over["inputs"] == "gain"]
    rows = rows.assign(published=rows["published"].astype(float))
    return rows[["comparison", "published", *ESTIMATE, "verdict"]]


def accuracies_table(found: Published) -> pd.DataFrame:
    """Return each published figure, ours on its split, and the mean over splits, as text."""
    keys = ["comparison", "inputs"]
    both = found.over.merge(found.single, on=keys, how="left", suffixes=("", "_single"))
    single = both["ours_single"] + "\n" + both["verdict_single"]
    text = {
        "source": both["source"],
        "estimator": both["comparison"].map(ESTIMATORS),
        "inputs": both["inputs"],
        "published": both["published"],
        "same split": single.fillna(""),
        f"mean of {both['n'].max()} splits": both["ours"] + "\n" + both["interval"],
        "splits as high": both["reached"].map(percent),
        "verdict": both["verdict"],
    }
    return pd.DataFrame(text).replace(r"(^|\n|to )-", rf"\1{MINUS}", regex=True)


# Centring -------------------------------------------------------------------------------------


def _times(results: Results, block: str) -> pd.DataFrame:
    runs, frame = tuned_times(results, block)
    grid = results.study.blocks[block]
    budget, axes = float(max(grid["updates"])), ["scaler", "offset"]
    full = grid["sampling"] == ["full"]
    predicted = _descent(runs)["predicted"] if full else np.full(len(frame), np.nan)
    frame = frame.assign(
        value=np.log(frame["steps"].clip(upper=budget)),
        predicted=np.log(np.minimum(predicted, budget)),
        late=np.isinf(frame["steps"]),
    )
    found = intervals.mean_by(frame, axes)
    found[["value", "low", "high"]] = np.exp(found[["value", "low", "high"]])
    rest = frame.groupby(axes).agg(
        predicted=("predicted", "mean"),
        learning_rate=("learning_rate", "first"),
        beyond_budget=("late", "sum"),
    )
    rest["predicted"] = np.exp(rest["predicted"])
    panel = CENTRING_BLOCKS[block]
    return found.merge(rest.reset_index(), on=axes).assign(panel=panel, block=block)


def _descent(table: Table) -> pd.DataFrame:
    """Return what theory says of each run of gradient descent, at its and at the best rate."""
    parts = []
    start = np.stack([table["weight_init_first"], table["weight_init_last"], table["bias_init"]], 1)
    for name, rows in table.places.items():
        condition = table.conditions[name]
        loss = theory.quadratic(condition, table.seeds[rows].tolist())
        target, best = condition.tolerance * loss.loss_explained, loss.best_learning_rate
        components = loss.components(start[rows])
        steps = {
            name: theory.steps_to_target(loss.eigenvalues, components, rate, target)
            for name, rate in (("best_steps", best), ("predicted", condition.learning_rate))
        }
        frame = pd.DataFrame({"kappa": loss.condition_number, "best_rate": best, **steps}, rows)
        parts.append(frame.assign(scaler=condition.scaler.name, offset=condition.offset))
    return pd.concat(parts).sort_index()


def ratios_table(training: pd.DataFrame) -> pd.DataFrame:
    """Return each published ratio of training times beside ours, as text."""
    parts = training["quantity"].str.partition(UPDATES)
    return pd.DataFrame(
        {
            "training": parts[0],
            "ratio of updates": parts[2],
            "published": training["published"],
            "ours": training["ours"] + "\n" + training["interval"],
            "beyond budget": training["beyond_budget"].astype(int).astype(str),
            "verdict": training["verdict"],
        }
    )


def theory_table(results: Results, times: pd.DataFrame) -> pd.DataFrame:
    """Return updates to target as measured and as theory says, raw and at the largest offset."""
    axes, columns = ["scaler", "offset"], ["kappa", "best_rate", "best_steps"]
    table = Table(results, ["full-batch"])
    rate = table["learning_rate"]
    known = _descent(table.take(rate == rate.min()))  # all rates have the same data
    known[columns] = np.log(known[columns])
    known = known.groupby(axes)[columns].mean().apply(np.exp)
    rows = times[times["block"] == "full-batch"].merge(known.reset_index(), on=axes)
    rows = rows.sort_values(["offset", "scaler"])
    rows = rows[(rows["scaler"] == "none") | (rows["offset"] == rows["offset"].max())]
    return pd.DataFrame(
        {
            "scaler": [style.scaler(name)["label"] for name in rows["scaler"]],
            "offset": rows["offset"].map("{:g}".format),
            "κ": rows["kappa"].map(number),
            "learning rate": rows["learning_rate"].map("{:g}".format)
            + "\nbest "
            + rows["best_rate"].map(number),
            "updates, theory": rows["predicted"].map(number),
            "updates, measured": rows["value"].map(number),
            "updates, best rate": rows["best_steps"].map(number),
        }
    )


# Facts ----------------------------------------------------------------------------------------


def facts_of(results: Results, found: Published) -> dict[str, Any]:
    """Return what the text is filled with."""
    single, over, times = found.single, found.over, found.times
    faithful = over[~over["altered"]]
    gains = faithful.loc[faithful["inputs"] == "gain", "verdict"]
    facts: dict[str, Any] = {
        "single": single.loc[~single["altered"], "verdict"],
        "gains": gains.value_counts().to_dict(),
        "ratios": found.training["verdict"],
        "on_split": _by_comparison(single),
        "means": _by_comparison(over),
        "splits": over["n"].max(),
        "estimators": list(results.study.estimators),
        "blocks": list(dict.fromkeys(times["block"])) if len(times) else [],
        "seeds": times["n"].max() if len(times) else 0,
        "late": times["beyond_budget"].sum() if len(times) else 0,
        "sources": SOURCES,
        "alike": ALIKE,
        "widest": WIDEST,
    }
    if len(times):
        full = times[times["block"] == "full-batch"]
        facts["deviation"] = float((full["value"] / full["predicted"] - 1).abs().max())
    if len(over):
        fits = results.estimators
        early = fits.groupby("comparison", sort=False)["stopped_early"].sum()
        facts["fits"], facts["early"] = len(fits), early[early > 0].to_dict()
        accuracy = faithful[faithful["inputs"] != "gain"]
        off = (accuracy["published"].astype(float) - accuracy["value"]).abs()
        facts["furthest"] = accuracy[off == off.max()].to_dict("records")[:1]
    return facts


def _by_comparison(rows: pd.DataFrame) -> dict[Any, dict[Any, float]]:
    """Return our value for each comparison and its inputs."""
    return rows.pivot(index="comparison", columns="inputs", values="value").to_dict("index")
