"""Scores on held-out rows: of every learning rate, of the default one, and of a tuned one.

A score is R² or accuracy. R² below 0, which the training mean alone would beat, and that of a
run that diverged count as 0: by how much a prediction is worse than none is no matter.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scaling_study.analysis.claims import DEFAULT_RATES
from scaling_study.analysis.statistics import mean_by

RAW = "-raw"  # ends the name of a block of further rates for raw columns
CELL = ["block", "problem", "model", "optimizer", "scale_factor", "scaler"]


def scored(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the score of each run.

    Parameters
    ----------
    runs : DataFrame
        As in `scaling_study.results.Results`, of problems that hold rows out.

    Returns
    -------
    DataFrame
        ``block, problem, model, optimizer, scale_factor, scaler, learning_rate, seed``;
        ``measure``, ``R²`` or ``accuracy``; ``value``, from 0 to 1; ``diverged``.
    """
    columns = {name: runs[name].astype(float) for name in ("scale_factor", "learning_rate")}
    columns |= {name: runs[name].astype(str) for name in ("problem", "model", "optimizer")}
    columns["block"] = runs["block"].astype(str).str.removesuffix(RAW)
    nothing = pd.Series(np.nan, index=runs.index)
    accuracy = runs.get("test_accuracy", nothing).astype(float)
    of_classes = accuracy.notna()
    lost = runs["status"].isin(["diverged", "failed"])
    squared = runs.get("test_r2", nothing).astype(float).where(~lost).clip(lower=0).fillna(0)
    frame = pd.DataFrame({**columns, "scaler": runs["scaler"].astype(str), "seed": runs["seed"]})
    return frame[[*CELL, "learning_rate", "seed"]].assign(
        measure=np.where(of_classes, "accuracy", "R²"),
        value=accuracy.where(of_classes, squared),
        diverged=lost,
    )


def at_default(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of `scored` at their optimizer's usual learning rate."""
    usual = frame["optimizer"].map(DEFAULT_RATES).to_numpy(np.float64)
    return frame[np.isclose(frame["learning_rate"], usual)]


def at_tuned(frame: pd.DataFrame, cell: Sequence[str] = CELL) -> pd.DataFrame:
    """Return the runs of `scored` at the rate that scores best on the other half of the seeds.

    The first half of the seeds picks each cell's rate by its mean score, the smaller rate in
    a tie; the second half is returned, with ``edge`` where that rate is an end of its grid.

    Parameters
    ----------
    frame : DataFrame
        With ``seed, learning_rate, value``, the score, and the columns of a cell.
    cell : sequence of str
        What has a rate of its own.
    """
    by = list(cell)
    first = frame["seed"] < np.median(frame["seed"].unique())
    means = frame[first].groupby([*by, "learning_rate"], sort=True)["value"].mean()
    best = means.groupby(by).idxmax().map(lambda key: key[-1]).rename("best").reset_index()
    ends = frame.groupby(by)["learning_rate"].agg(["min", "max"]).reset_index()
    whole = frame[~first].merge(best, on=by).merge(ends, on=by)
    kept = whole[whole["learning_rate"] == whole["best"]]
    edge = (kept["best"] == kept["min"]) | (kept["best"] == kept["max"])
    return kept.drop(columns=["best", "min", "max"]).assign(edge=edge)


def against(frame: pd.DataFrame, column: str, baseline: object) -> pd.DataFrame:
    """Return the mean difference of each value of a column from a baseline, paired by seed.

    Parameters
    ----------
    frame : DataFrame
        Of `scored`, one run a cell and seed.
    column : str
        Of `CELL`.
    baseline : object
        One of its values.

    Returns
    -------
    DataFrame
        `CELL`, then ``value, low, high, n``: 95 % intervals over splits.
    """
    pairs = [name for name in CELL if name != column] + ["seed"]
    if column == "scale_factor":
        pairs.remove("block")  # the factor has a block of its own
    own = frame[frame[column] == baseline][[*pairs, "value"]]
    both = frame[frame[column] != baseline].merge(own, on=pairs, suffixes=("", "_baseline"))
    return mean_by(both.assign(value=both["value"] - both["value_baseline"]), CELL)
