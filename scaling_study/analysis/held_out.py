"""Scores on held-out rows: of every learning rate, of the default one, and of a tuned one.

A score is R² or accuracy. R² below 0, which the training mean alone would beat, and that of a
run that diverged count as 0. How much worse than the mean a prediction is does not matter here.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scaling_study.analysis.intervals import mean_by
from scaling_study.analysis.tuning import DEFAULT_RATES, best_index, tuning_seeds
from scaling_study.errors import StudyError
from scaling_study.study import datasets
from scaling_study.study.problems import Problem
from scaling_study.study.study import RAW

CELL = ["block", "problem", "model", "optimizer", "scale_factor", "scaler"]
RUN = [*CELL, "learning_rate", "seed"]


def run_scores(runs: pd.DataFrame, own: Mapping[str, Problem] | None = None) -> pd.DataFrame:
    """Return the score of each run.

    Parameters
    ----------
    runs : DataFrame
        As in `scaling_study.storage.results.Results`, of problems that hold rows out.
    own : mapping of str to Problem, optional
        Problems of a user's own, by their text in ``runs``.

    Returns
    -------
    DataFrame
        `RUN`; ``measure``, ``R²`` or ``accuracy``; ``value``, from 0 to 1; ``diverged``;
        ``overlap``, test rows over training rows where seeds split the same rows, else 0, from
        which `mean_by` makes an interval; ``chance``, the score without any learning.

    Raises
    ------
    StudyError
        If runs differ in something else.
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
    shares = runs.get("problem.test_share", nothing).astype(float).fillna(datasets.TEST_SHARE)
    frame = frame[RUN].assign(
        measure=np.where(of_classes, "accuracy", "R²"),
        value=accuracy.where(of_classes, squared),
        diverged=lost,
        **_of_problems(frame["problem"], shares, own or {}),
    )
    return _each_once(frame)


def _of_problems(
    problems: pd.Series, shares: pd.Series, own: Mapping[str, Problem]
) -> dict[str, pd.Series]:
    """Return each run's overlap of splits, and its chance."""
    pairs = pd.MultiIndex.from_arrays([problems, shares])
    known = {pair: own.get(pair[0], pair[0].partition("(")[0]) for pair in pairs.unique()}
    overlap = {pair: datasets.overlap(problem, pair[1]) for pair, problem in known.items()}
    chance = {pair: datasets.chance(problem) for pair, problem in known.items()}
    return {
        name: pd.Series([found[pair] for pair in pairs], index=problems.index)
        for name, found in (("overlap", overlap), ("chance", chance))
    }


def _each_once(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs without those that a block of further rates repeats."""
    once = frame.drop_duplicates([*RUN, "value"])
    if once.duplicated(RUN).any():
        raise StudyError(
            "scores are read of runs that differ in block, problem, model, optimizer, scale factor,"
            " scaler and learning rate only"
        )
    return once


def runs_at_default_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of `run_scores` at their optimizer's usual learning rate."""
    usual = frame["optimizer"].map(DEFAULT_RATES).to_numpy(np.float64)
    return frame[np.isclose(frame["learning_rate"], usual)]


def runs_at_tuned_rate(frame: pd.DataFrame, cell: Sequence[str] = CELL) -> pd.DataFrame:
    """Return the runs of `run_scores` at the rate that scores best on the other half of the seeds.

    The first half of the seeds picks each cell's rate by its mean score, the middle one of those
    alike; the second half is returned.

    Parameters
    ----------
    frame : DataFrame
        With ``seed, learning_rate, value``, the score, and the columns of a cell.
    cell : sequence of str
        What has a rate of its own.

    Returns
    -------
    DataFrame
        The frame's columns; ``reached``, the mean score that the rate was picked for; ``edge``,
        whether the rate is an end of its grid.
    """
    by = list(cell)
    tuning = tuning_seeds(frame["seed"])
    means = frame[tuning].groupby([*by, "learning_rate"], sort=True)["value"].mean().reset_index()
    cells = means.groupby(by)["value"]
    picked = means[cells.cumcount() == cells.transform(lambda own: best_index(own.to_numpy()))]
    picked = picked.rename(columns={"value": "reached"})
    ends = frame.groupby(by)["learning_rate"].agg(["min", "max"]).reset_index()
    kept = frame[~tuning].merge(picked, on=[*by, "learning_rate"]).merge(ends, on=by)
    edge = (kept["learning_rate"] == kept["min"]) | (kept["learning_rate"] == kept["max"])
    return kept.drop(columns=["min", "max"]).assign(edge=edge)


def better_than_chance(tuned: pd.DataFrame) -> pd.Series:
    """Say which runs of `runs_at_tuned_rate` are at a rate that was better than chance.

    Where none of the grid was, the rate was picked by nothing, and tuned is only what it is
    called.
    """
    return tuned["reached"] > tuned["chance"]


def mean_scores(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return `mean_by` of scores, its intervals cut at 0 and 1."""
    return mean_by(frame, by).assign(
        **{end: lambda own, end=end: own[end].clip(0, 1) for end in ("low", "high")}
    )


def mean_differences(frame: pd.DataFrame, column: str, baseline: object) -> pd.DataFrame:
    """Return the mean difference of each value of a column from a baseline, paired by seed.

    Parameters
    ----------
    frame : DataFrame
        Of `run_scores`, one run a cell and seed.
    column : str
        Of `CELL`.
    baseline : object
        One of its values.

    Returns
    -------
    DataFrame
        `CELL`, then ``value, low, high, n``: 95 % intervals over splits, Nadeau and Bengio's
        where all split the same rows.
    """
    pairs = [name for name in CELL if name != column] + ["seed"]
    if column == "scale_factor":
        pairs.remove("block")  # the factor has a block of its own
    own = frame[frame[column] == baseline][[*pairs, "value"]].drop_duplicates(pairs)
    both = frame[frame[column] != baseline].merge(own, on=pairs, suffixes=("", "_baseline"))
    return mean_by(both.assign(value=both["value"] - both["value_baseline"]), CELL)
