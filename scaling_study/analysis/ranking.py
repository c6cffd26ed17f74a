"""Rank groups of the benchmark, from nothing but its scores.

`scaling_study.analysis.benchmark.scores` has a row for each optimizer, problem and reported seed;
so has a table that somebody else sends in. Everything here is computed from such rows:
sensitivities with their uncertainty, groups of optimizers, and how all of it changes with the
problems and the seeds.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis.benchmark import AXES, DESCRIPTIONS, SCORES
from scaling_study.errors import StudyError
from scaling_study.study.values import check_keys

Array = NDArray[np.float64]
REPLICATES = 1000
RANDOM_SEED = 19
CONFIDENCE = 0.95
TRAINED = 0.05  # mean time score in the reference unit, below which there is nothing to lose
STATUSES = ("ranked", "not trained", "failed")
REPRODUCED = 0.95  # of the replicates of seeds, that have the same optimizers on each side


class Cube(NamedTuple):
    """Scores as arrays: O optimizers, P problems, S reported seeds and the K of `SCORES`."""

    optimizers: list[str]
    problems: list[str]
    folds: NDArray[np.str_]  # of each seed
    values: Array  # (O, P, S, K); NaN where an optimizer has no such row

    def of(self, name: str) -> Array:
        """Return one score, (O, P, S)."""
        return self.values[..., SCORES.index(name)]

    def take(self, *, optimizers: Any = None, problems: Any = None, seeds: Any = None) -> "Cube":
        """Return the scores of some optimizers or problems, by index, or some seeds, by mask."""
        cube = self
        if optimizers is not None:
            names = [self.optimizers[i] for i in optimizers]
            cube = cube._replace(optimizers=names, values=cube.values[list(optimizers)])
        if problems is not None:
            names = [self.problems[i] for i in problems]
            cube = cube._replace(problems=names, values=cube.values[:, list(problems)])
        if seeds is not None:
            cube = cube._replace(folds=cube.folds[seeds], values=cube.values[:, :, seeds])
        return cube


def check(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of scores, or raise a `StudyError` that says what is wrong with it."""
    needed = [*AXES, *SCORES, "failed", "fastest"]
    check_keys(frame.columns, needed)
    for name in needed:
        if name not in frame:
            raise StudyError(f"column {name!r} is missing: {DESCRIPTIONS[name]}")
    twice = frame.duplicated(["optimizer", "problem", "seed"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise StudyError(
            f"optimizer {row['optimizer']}, problem {row['problem']} and seed {row['seed']}"
            " have two rows; a seed is reported once"
        )
    for name in (*SCORES, "failed"):
        values = pd.to_numeric(frame[name], errors="coerce")
        required = frame[name].notna() | (name in ("reference", "others"))
        wrong = required & ~values.between(0, 1)
        if wrong.any():
            where = frame.index[wrong][0]
            raise StudyError(f"row {where}: {name} must be from 0 to 1, not {frame[name][where]}")
    return frame


def cube(frame: pd.DataFrame) -> Cube:
    """Return the rows of `scores` as arrays."""
    optimizers, problems = (list(dict.fromkeys(frame[key])) for key in ("optimizer", "problem"))
    seeds = frame[["seed", "fold"]].drop_duplicates().sort_values("seed")
    if seeds["seed"].duplicated().any():
        raise StudyError("a seed is in more than one fold; all optimizers share the folds")
    values = np.full((len(optimizers), len(problems), len(seeds), len(SCORES)), np.nan)
    place = [
        pd.Categorical(frame[key], known).codes
        for key, known in (
            ("optimizer", optimizers),
            ("problem", problems),
            ("seed", seeds["seed"]),
        )
    ]
    values[tuple(place)] = frame[list(SCORES)].to_numpy(np.float64)
    return Cube(optimizers, problems, seeds["fold"].to_numpy(str), values)


# Sensitivity ----------------------------------------------------------------------------------


def sensitivity(kept: Array, reference: Array, weights: NDArray[Any] | None = None) -> Array:
    """Return the share of the score that is lost, ``1 - Σ kept / Σ reference`` over problems.

    Parameters
    ----------
    kept, reference : array of shape (..., O, P)
        NaN where an optimizer was not run on a problem, or the score has no such unit.
    weights : array of shape (..., P), optional
        How often each problem counts.

    Returns
    -------
    array of shape (..., O)
        NaN where the optimizer is hardly trained in the reference unit.
    """
    weight = np.ones(kept.shape[-1]) if weights is None else weights
    known = (~np.isnan(kept) & ~np.isnan(reference)) * weight[..., None, :]
    total = np.where(known > 0, reference, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        top, bottom = (known * np.where(known > 0, kept, 0.0)).sum(-1), (known * total).sum(-1)
        found = 1 - top / bottom
        return np.where(bottom / known.sum(-1) >= TRAINED, found, np.nan)


def replicates(scores: Cube, count: int = REPLICATES, *, problems: bool = True) -> Array:
    """Return the sensitivity of each optimizer in bootstrap replicates, (count, O).

    A replicate draws problems, then folds and the seeds within each, with replacement, the same
    for all optimizers: they are compared on the same draws. A fold is a half that is reported, so
    that which seeds choose the rates is drawn, too. Without ``problems`` these stay as they are.
    """
    random = np.random.default_rng(RANDOM_SEED)
    names, fold = np.unique(scores.folds, return_inverse=True)
    members = [np.flatnonzero(fold == number) for number in range(len(names))]
    means = {name: np.empty((count, *scores.values.shape[:2])) for name in ("others", "reference")}
    for row in range(count):
        drawn = random.integers(len(names), size=len(names))
        seeds = np.concatenate([random.choice(members[i], len(members[i])) for i in drawn])
        for name, array in means.items():
            array[row] = scores.of(name)[:, :, seeds].mean(axis=-1)
    size = len(scores.problems)
    weights = random.multinomial(size, np.full(size, 1 / size), count) if problems else None
    return sensitivity(means["others"], means["reference"], weights)


def status_of(scores: Cube, failed: Array) -> list[str]:
    """Return the status of each optimizer, one of `STATUSES`."""
    reference = _mean(_mean(scores.of("reference")))
    lost = np.isnan(reference) | (failed >= 1)
    trained = reference >= TRAINED
    names = np.where(lost, "failed", np.where(trained, "ranked", "not trained"))
    return [str(name) for name in names]


def _mean(values: Array) -> Array:
    """Return the mean over the last axis without NaN, NaN if there is nothing else."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(-1) / known.sum(-1)


def leaderboard(frame: pd.DataFrame, count: int = REPLICATES) -> pd.DataFrame:
    """Return a row for each optimizer, the least sensitive first; failed ones are last.

    Returns
    -------
    DataFrame
        ``group`` (from 1, see `groups`; NaN without a rank), ``optimizer, status``;
        ``sensitivity`` with ``_low`` and ``_high``, a 95 % interval over problems, seeds and
        tuning halves; ``sensitivity_below`` and ``_above``, over units below and above 1;
        ``sensitivity_tied_low`` and ``_tied_high``, the range over tied rates; the mean over
        problems of each of `SCORES` but the tied ones; ``failed``; ``problems``, their number.
    """
    scores = cube(frame)
    shares = frame.groupby("optimizer")["failed"].mean()
    failed = shares.reindex(scores.optimizers).to_numpy(np.float64)
    reference = _mean(scores.of("reference"))
    sampled = replicates(scores, count)
    tail = (1 - CONFIDENCE) / 2
    columns: dict[str, object] = {
        "optimizer": scores.optimizers,
        "status": status_of(scores, failed),
        "sensitivity": sensitivity(_mean(scores.of("others")), reference),
    }
    unknown = np.isnan(sampled).all(axis=0)
    ends = np.nanquantile(np.where(unknown, 0, sampled), [tail, 1 - tail], axis=0)
    columns |= dict(zip(("sensitivity_low", "sensitivity_high"), ends, strict=True))
    for name, source in (
        *(("below", "below"), ("above", "above")),
        *(("tied_low", "tied_high"), ("tied_high", "tied_low")),
    ):
        columns[f"sensitivity_{name}"] = sensitivity(_mean(scores.of(source)), reference)
    for name in SCORES[:-2]:
        columns[name] = _mean(_mean(scores.of(name)))
    columns |= {"failed": failed, "problems": (~np.isnan(reference)).sum(axis=-1)}
    board = pd.DataFrame(columns)
    lost = [name for name in board if str(name).startswith("sensitivity")]
    board.loc[board["status"] != "ranked", lost] = np.nan
    board["order"] = board["status"].map(STATUSES.index)
    board = board.sort_values(["order", "sensitivity"], kind="stable").drop(columns="order")
    places = board.index.to_numpy()[(board["status"] == "ranked").to_numpy()]
    group = pd.Series(np.nan, index=board.index)
    again = replicates(scores.take(optimizers=places), count, problems=False)
    ranked = board.loc[places, "sensitivity"].to_numpy(np.float64)
    group.loc[places] = np.array(groups(ranked, again), np.float64)
    board.insert(0, "group", group.astype("Int64"))
    return board.reset_index(drop=True)


def groups(values: Array, sampled: Array) -> list[int]:
    """Return the group of each optimizer, from 1: between groups other seeds rarely move one.

    In the order of sensitivity, a border lies between two neighbours if the same optimizers are
    less sensitive than all others in a share `REPRODUCED` of the replicates.

    Parameters
    ----------
    values : array of shape (O,)
        Sensitivities.
    sampled : array of shape (count, O)
        Replicates of them; see `replicates`. NaN, of a replicate in which an optimizer is hardly
        trained, stands for its sensitivity.

    Examples
    --------
    >>> groups(np.array([0.1, 0.6, 0.5]), np.array([[0.1, 0.5, 0.6], [0.2, 0.7, 0.4]]))
    [1, 2, 2]
    """
    order = np.argsort(values, kind="stable")
    ordered = np.where(np.isnan(sampled), values, sampled)[:, order]
    most_below = np.maximum.accumulate(ordered, axis=1)[:, :-1]
    least_above = np.minimum.accumulate(ordered[:, ::-1], axis=1)[:, -2::-1]
    border = (most_below < least_above).mean(axis=0) >= REPRODUCED
    found = np.empty(len(values), int)
    found[order] = np.cumsum([1, *border])
    return found.tolist()


def cut(values: Array, sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the group of each value, from 1, with groups of given sizes in the values' order."""
    found = np.empty(len(values), int)
    found[np.argsort(values, kind="stable")] = np.repeat(np.arange(len(sizes)) + 1, sizes)
    return found


def by_optimizer(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``optimizer, sensitivity``, without intervals."""
    scores = cube(frame)
    return pd.DataFrame({"optimizer": scores.optimizers, "sensitivity": of_cube(scores)})


def by_problem(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each optimizer on each problem, means over seeds, and sensitivities."""
    means = frame.groupby(["optimizer", "problem"], sort=False)[
        [*SCORES, "failed", "fastest"]
    ].mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, source in (("", "others"), ("_below", "below"), ("_above", "above")):
            lost = 1 - means[source] / means["reference"]
            means[f"sensitivity{name}"] = lost.where(means["reference"] >= TRAINED)
    return means.reset_index()


def of_cube(scores: Cube) -> Array:
    """Return the sensitivity of each optimizer, (O,)."""
    return sensitivity(_mean(scores.of("others")), _mean(scores.of("reference")))
