"""Scores on held-out rows, at every learning rate, at the default one and at a tuned one.

The score is R² or accuracy. A negative R², below that of the training mean, and the R² of a run
that diverged count as 0.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scaling_study.analysis.intervals import mean_by
from scaling_study.analysis.summary import DIVERGED_OR_FAILED
from scaling_study.analysis.tuning import DEFAULT_RATES, best_index, tuning_seeds
from scaling_study.errors import StudyError
from scaling_study.study import datasets
from scaling_study.study.problems import Problem
from scaling_study.study.study import RAW

CELL = ["block", "problem", "model", "optimizer", "scale_factor", "scaler"]
RUN = [*CELL, "learning_rate", "seed"]


def run_scores(runs: pd.DataFrame, custom: Mapping[str, Problem] | None = None) -> pd.DataFrame:
    """Return the score of each run.

    Parameters
    ----------
    runs : DataFrame
        As in `scaling_study.storage.results.Results`, of problems with held-out rows.
    custom : mapping of str to Problem, optional
        A user's own problems, by their text in ``runs``.

    Returns
    -------
    DataFrame
        `RUN`; ``measure``, ``R²`` or ``accuracy``; ``value``, from 0 to 1; ``diverged``;
        ``overlap``, test rows over training rows where seeds split the same rows, else 0, which
        `mean_by` makes an interval of; ``chance``, the score of a constant prediction.

    Raises
    ------
    StudyError
        If runs differ in anything else.
    """
    columns = {name: runs[name].astype(float) for name in ("scale_factor", "learning_rate")}
    columns |= {name: runs[name].astype(str) for name in ("problem", "model", "optimizer")}
    columns["block"] = runs["block"].astype(str).str.removesuffix(RAW)
    nothing = pd.Series(np.nan, index=runs.index)
    accuracy = runs.get("test_accuracy", nothing).astype(float)
    of_classes = accuracy.notna()
    lost = runs["status"].isin(DIVERGED_OR_FAILED)
    r2 = runs.get("test_r2", nothing).astype(float).where(~lost).clip(lower=0).fillna(0)
    frame = pd.DataFrame({**columns, "scaler": runs["scaler"].astype(str), "seed": runs["seed"]})
    shares = runs.get("problem.test_share", nothing).astype(float).fillna(datasets.TEST_SHARE)
    frame = frame[RUN].assign(
        measure=np.where(of_classes, "accuracy", "R²"),
        value=accuracy.where(of_classes, r2),
        diverged=lost,
        **_of_problems(frame["problem"], shares, custom or {}),
    )
    return _without_repetitions(frame)


def _of_problems(
    problems: pd.Series, shares: pd.Series, custom: Mapping[str, Problem]
) -> dict[str, pd.Series]:
    """Return each run's overlap of splits, and its chance."""
    pairs = pd.MultiIndex.from_arrays([problems, shares])
    known = {pair: custom.get(pair[0], pair[0].partition("(")[0]) for pair in pairs.unique()}
    overlap = {pair: datasets.overlap(problem, pair[1]) for pair, problem in known.items()}
    chance = {pair: datasets.chance(problem) for pair, problem in known.items()}
    return {
        name: pd.Series([found[pair] for pair in pairs], index=problems.index)
        for name, found in (("overlap", overlap), ("chance", chance))
    }


def _without_repetitions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs without those that a block of further learning rates repeats."""
    once = frame.drop_duplicates([*RUN, "value"])
    if once.duplicated(RUN).any():
        raise StudyError(
            "scores are read of runs that differ in block, problem, model, optimizer, scale factor,"
            " scaler and learning rate only"
        )
    return once


def runs_at_default_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of `run_scores` at their optimizer's default learning rate."""
    default = frame["optimizer"].map(DEFAULT_RATES).to_numpy(np.float64)
    return frame[np.isclose(frame["learning_rate"], default)]


def runs_at_tuned_rate(frame: pd.DataFrame, cell: Sequence[str] = CELL) -> pd.DataFrame:
    """Return the reported half of the seeds, at the learning rate with the best mean score.

    The mean is over the tuning seeds of each cell; of tied rates the middle one is taken.

    Parameters
    ----------
    frame : DataFrame
        With ``seed, learning_rate, value`` (the score) and the columns of a cell.
    cell : sequence of str
        Columns that identify a cell.

    Returns
    -------
    DataFrame
        The frame's columns; ``reached``, the mean score that the rate was chosen for; ``edge``,
        whether the rate is an end of its grid.
    """
    by = list(cell)
    tunes = tuning_seeds(frame["seed"])
    means = frame[tunes].groupby([*by, "learning_rate"], sort=True)["value"].mean().reset_index()
    scores = means.groupby(by)["value"]
    picked = means[scores.cumcount() == scores.transform(lambda x: best_index(x.to_numpy()))]
    picked = picked.rename(columns={"value": "reached"})
    ends = frame.groupby(by)["learning_rate"].agg(["min", "max"]).reset_index()
    kept = frame[~tunes].merge(picked, on=[*by, "learning_rate"]).merge(ends, on=by)
    edge = (kept["learning_rate"] == kept["min"]) | (kept["learning_rate"] == kept["max"])
    return kept.drop(columns=["min", "max"]).assign(edge=edge)


def better_than_chance(tuned: pd.DataFrame) -> pd.Series:
    """Return which runs of `runs_at_tuned_rate` have a rate that scored above chance."""
    return tuned["reached"] > tuned["chance"]


def mean_scores(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return `mean_by` of scores, with intervals clipped to [0, 1]."""
    means = mean_by(frame, by)
    return means.assign(low=means["low"].clip(0, 1), high=means["high"].clip(0, 1))


def mean_differences(frame: pd.DataFrame, column: str, baseline: object) -> pd.DataFrame:
    """Return the mean difference of each value of a column from a baseline, paired by seed.

    Parameters
    ----------
    frame : DataFrame
        From `run_scores`, one run a cell and seed.
    column, baseline : str, object
        Of `CELL`, and one of its values.

    Returns
    -------
    DataFrame
        `CELL`, ``value, low, high, n`` as of `mean_by`.
    """
    pairs = [name for name in CELL if name != column] + ["seed"]
    if column == "scale_factor":
        pairs.remove("block")  # the factor has a block of its own
    base = frame[frame[column] == baseline][[*pairs, "value"]].drop_duplicates(pairs)
    both = frame[frame[column] != baseline].merge(base, on=pairs, suffixes=("", "_baseline"))
    return mean_by(both.assign(value=both["value"] - both["value_baseline"]), CELL)
