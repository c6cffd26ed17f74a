"""Results on data sets as data frames, and the facts that the text states."""

import inspect
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scaling_study.analysis import held_out
from scaling_study.report import style
from scaling_study.report.labels import budgets_of, listing, number, values_of
from scaling_study.storage.results import Results
from scaling_study.study.datasets import DATASETS
from scaling_study.study.sources import user_problems
from scaling_study.study.study import Study

SMALLEST = 0.02  # the smallest difference of a score that matters in practice
DEFAULT, TUNED = "default", "tuned"  # learning rates, values of the column ``rates``
ORIGINAL = ("regression", "classes", "digits")  # blocks of unchanged data
DRAWN = ("diabetes", "friedman2", "wine", "breast_cancer")  # by learning rate
CHANGED = ("diabetes", "breast_cancer")  # data sets of which a column is changed
UNCHANGED = "unchanged"


class Frames(NamedTuple):
    """All runs and those at tuned learning rates; means by cell, with 95 % intervals.

    ``scores`` and the paired differences are at `DEFAULT` and `TUNED` learning rates, ``by_rate``
    is at every one. A score is ``trained`` where a learning rate of its grid beats chance.
    """

    runs: pd.DataFrame
    tuned: pd.DataFrame
    scores: pd.DataFrame
    by_rate: pd.DataFrame
    differences: pd.DataFrame
    unit_changes: pd.DataFrame


def frames(results: Results) -> Frames:
    """Return the data frames of a study of problems with held-out rows.

    Raises
    ------
    StudyError
        If runs differ in anything but a cell, the learning rate and the seed.
    """
    runs = held_out.run_scores(results.runs, user_problems(results.study))
    tuned = held_out.runs_at_tuned_rate(runs)
    # A default learning rate is not chosen by its score, so it counts as trained.
    default = held_out.runs_at_default_rate(runs).assign(rates=DEFAULT, trained=True)
    trained = held_out.better_than_chance(tuned)
    chosen = pd.concat([default, tuned.assign(rates=TUNED, trained=trained)])
    scores = held_out.mean_scores(chosen, [*held_out.CELL, "rates", "measure", "trained"])
    changed = chosen[chosen["problem"].isin(CHANGED)]
    return Frames(
        runs=runs,
        tuned=tuned,
        scores=scores.assign(trained=scores.pop("trained")),
        by_rate=held_out.mean_scores(runs, [*held_out.CELL, "measure", "learning_rate"]),
        differences=_differences(chosen, "scaler", "none"),
        unit_changes=_differences(changed, "scale_factor", 1.0),
    )


def _differences(chosen: pd.DataFrame, column: str, baseline: object) -> pd.DataFrame:
    rows = {rates: chosen[chosen["rates"] == rates] for rates in (DEFAULT, TUNED)}
    parts = [held_out.mean_differences(rows[k], column, baseline).assign(rates=k) for k in rows]
    return pd.concat(parts, ignore_index=True)


def shown(data: Frames) -> dict[str, pd.DataFrame]:
    """Return the frame of each figure and table by its name; tables are text."""
    units = unit_change(data.scores, data.unit_changes)
    tuned = units.pop("learning rate") == TUNED
    by_rate = data.by_rate[data.by_rate["problem"].isin(DRAWN)]
    return {
        "gains": original(data.differences[data.differences["scaler"] == "standard"]),
        "outcomes": outcomes(data.differences).reset_index().astype(str),
        "needed": scaler_needed(data.differences),
        "scores": original(data.scores),
        "rates": original(by_rate[by_rate["model"] == "linear"]),
        "corruption": corrupted_scores(data.scores),
        "units": units[tuned],
        "units-default": units[~tuned],
    }


def original(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of unchanged data."""
    return frame[frame["block"].isin(ORIGINAL)]


def outcomes(differences: pd.DataFrame) -> pd.DataFrame:
    """Count how often standardized columns scored better, worse or the same, by learning rate.

    The 95 % interval decides: above, below or within ± `SMALLEST`.
    """
    rows = original(differences[differences["scaler"] == "standard"])
    above, below = rows["low"] > SMALLEST, rows["high"] < -SMALLEST
    within = (rows["low"] > -SMALLEST) & (rows["high"] < SMALLEST)
    outcome = np.select([above, below, within], ["better", "worse", "same"], "undecided")
    counts = pd.crosstab(rows["rates"], outcome)
    counts = counts.reindex(columns=["better", "worse", "same", "undecided"], fill_value=0)
    return counts.assign(combinations=counts.sum(axis=1)).rename_axis("learning rate")


def scaler_needed(differences: pd.DataFrame) -> pd.DataFrame:
    """Say for which data, models and optimizers a scaler was needed at tuned learning rates.

    ``yes``: the interval of the gain of a scaler lies above `SMALLEST`; ``no``: those of all
    scalers lie below it.
    """
    rows = original(differences[differences["rates"] == TUNED])
    rows = rows.assign(
        data=rows["problem"].map(data_name),
        training=[*map(training_name, rows["model"], rows["optimizer"])],
        gains=rows["low"] > SMALLEST,
        fine=rows["high"] < SMALLEST,
    )
    cells = rows.groupby(["data", "training"], sort=False)
    gains, fine = cells["gains"].any(), cells["fine"].all()
    answers = pd.Series(np.select([gains, fine], ["yes", "no"], "undecided"), gains.index)
    return answers.unstack(sort=False, fill_value="").rename_axis(columns=None).reset_index()


def unit_change(scores: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """Return the score in the original and in another unit, and their difference, as text."""
    keys = ["problem", "model", "optimizer", "scaler", "rates"]
    note = scores["trained"].map({True: "", False: ", none trained"})
    texts = scores.assign(after=scores["value"].map(number) + note)
    before = texts.loc[texts["scale_factor"] == 1, [*keys, "after"]]
    both = differences.merge(before.rename(columns={"after": "before"}), on=keys)
    both = both.merge(texts[[*keys, "block", "scale_factor", "after"]])
    both = both.sort_values("scaler", kind="stable")
    value, low, high = (both[name].map(number) for name in ("value", "low", "high"))
    return pd.DataFrame(
        {
            "data": both["problem"].map(data_name),
            "scaler": [style.scaler(name)["label"] for name in both["scaler"]],
            "training": [*map(training_name, both["model"], both["optimizer"])],
            "learning rate": both["rates"],
            "original unit": both["before"],
            "changed unit": both["after"]
            + both["scale_factor"].map(" (×\N{NO-BREAK SPACE}{:g})".format),
            "difference": value + "\n" + low + " to " + high,
        }
    )


def corrupted_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of Adam on the data of `CHANGED`, with the kind of ``corruption``."""
    rows = scores[scores["problem"].str.startswith(CHANGED) & (scores["optimizer"] == "adam")]
    return rows.assign(
        corruption=[*map(corruption_name, rows["problem"], rows["scale_factor"])],
        dataset=rows["problem"].str.split("(").str[0],
    )


def data_name(problem: str) -> str:
    """Return the name of a data set, with its arguments, as text."""
    name, bracket, arguments = problem.partition("(")
    return name.replace("_", " ") + (bracket and f" ({arguments}")


def training_name(model: str, optimizer: str) -> str:
    """Return the names of a model and an optimizer as text."""
    return f"{model.partition('(')[0]}, {style.optimizer(optimizer)['label']}"


def corruption_name(problem: str, factor: float) -> str:
    """Return what was changed in a column of a problem as text."""
    changed = problem.partition("(")[2].removesuffix(")")
    if factor != 1:
        return f"unit × {factor:g}" + (f", {changed}" if changed else "")
    name, _, value = changed.partition("=")
    if name == "outliers" and "," not in value:
        return f"outliers, {100 * float(value):g} %"
    return {"": UNCHANGED, "heavy_tails=True": "heavy tails"}.get(changed, changed)


def changed_columns(problems: pd.Series) -> str:
    """Name the column that is changed in each data set, where it is the default one."""
    if problems.str.contains("feature=").any():
        return ""
    names = dict.fromkeys(problems.str.split("(").str[0])
    columns = {name: inspect.signature(DATASETS[name]).parameters["feature"] for name in names}
    return listing([f"{columns[name].default} of {data_name(name)}" for name in names])


def facts(data: Frames, study: Study) -> dict[str, Any]:
    """Return what the text states about the results and the study."""
    problems = " ".join(values_of(study.blocks, "problem"))
    scores, tuned = data.scores, data.scores["rates"] == TUNED
    raw = scores[tuned & (scores["scaler"] == "none") & (scores["scale_factor"] != 1)]
    return {
        "tuned": outcomes(data.differences).to_dict("index").get(TUNED),
        "smallest": SMALLEST,
        "splits": scores.loc[tuned, "n"].max(),
        "rescaled": len(raw),
        "rescaled_untrained": int((raw["trained"] == 0).sum()),
        "all_splits": data.by_rate["n"].max(),
        "edges": _edges(data.tuned),
        "grids": _grids(data.runs),
        "overlap": _overlap(data.runs),
        "columns": changed_columns(corrupted_scores(scores)["problem"]),
        "budgets": budgets_of(study.blocks),
        "models": listing(values_of(study.blocks, "model")),
        "outliers": "outliers" in problems,
        "heavy_tails": "heavy_tails" in problems,
    }


def _edges(tuned: pd.DataFrame) -> dict[Any, int]:
    """Count the cells whose tuned learning rate is an end of its grid or no better than chance."""
    kinds = ["edge", "untrained"]
    cells = tuned.assign(untrained=~held_out.better_than_chance(tuned)).groupby(held_out.CELL)
    cells = cells[kinds].first().reset_index()
    raw = cells.loc[cells["scaler"] == "none", kinds].sum().add_suffix("_raw")
    return {"cells": len(cells), **cells[kinds].sum().to_dict(), **raw.to_dict()}


def _grids(runs: pd.DataFrame) -> str:
    """Return the number of learning rates that tuning chose from, as text."""
    counts = runs.groupby(held_out.CELL)["learning_rate"].nunique().reset_index()
    kinds = counts["scaler"].eq("none").map({True: "raw columns", False: "scaled columns"})
    spans = counts.groupby(kinds)["learning_rate"].agg(["min", "max"]).itertuples()
    return listing([f"{a if a == b else f'{a} to {b}'} for {kind}" for kind, a, b in spans])


def _overlap(runs: pd.DataFrame) -> dict[str, Any] | None:
    """Describe how splits of the same rows widen the intervals; None where no splits do."""
    if not (runs["overlap"] > 0).any():
        return None
    n = runs["seed"].nunique()
    wider = number((1 + n * runs["overlap"].max()) ** 0.5, 2)
    return {"splits": n, "wider": wider, "generated": bool((runs["overlap"] == 0).any())}
