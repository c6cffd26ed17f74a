"""Does scaling the columns of a table matter, and which scaler: scores and importances compared.

A *training* is a model, an optimizer and a learning rate, the default one or a tuned one. Each
scaler is compared with raw inputs within each training, paired by seed; a seed is a split, so the
intervals are those of Nadeau and Bengio. The score is R² on held-out rows, 0 where it is negative
or the run diverged, or the accuracy.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scaling_study.analysis.column_table import rank_agreement
from scaling_study.analysis.intervals import CONFIDENCE, mean_by
from scaling_study.analysis.summary import DIVERGED_OR_FAILED

SMALLEST = 0.02  # the smallest difference of scores that matters
RELEVANT = 0.05  # the smallest difference of shares that matters
RATES = ("default", "tuned")
TRAINING = ["model", "optimizer", "rates"]
CELL = [*TRAINING, "scaler"]
PREFERRED = ("standard", "minmax", "robust", "maxabs")  # of scalers that are as good
REFERENCE = "permutation"  # the method that measures a column's use on held-out rows
RAW = "none"


class Splits(NamedTuple):
    """What the scores of a table's splits are compared with."""

    overlap: float  # test rows over training rows, which widens intervals over splits
    chance: float  # the score of a constant prediction


def run_scores(
    runs: pd.DataFrame, rates: Mapping[str, Sequence[float]], splits: Splits
) -> pd.DataFrame:
    """Return the score of each run at the default and at the tuned learning rate.

    Parameters
    ----------
    runs : DataFrame
        As in `scaling_study.storage.results.Results`.
    rates : mapping of str to sequence of float
        For each block, its default and its tuned learning rate, or one that is both.
    splits : Splits

    Returns
    -------
    DataFrame
        `CELL`, ``condition, seed, learning_rate``; ``value``, the score; ``excess_share``, NaN
        where the least loss is unknown; ``diverged``; ``overlap, chance``.
    """
    texts = {n: runs[n].astype(str) for n in ("condition", "model", "optimizer", "scaler", "block")}
    frame = pd.DataFrame(texts).assign(
        model=short_model(texts["model"]),
        seed=runs["seed"].to_numpy(),
        learning_rate=runs["learning_rate"].astype(float).to_numpy(),
        value=_score(runs).to_numpy(),
        excess_share=runs["excess_share"].astype(float).to_numpy(),
        diverged=runs["status"].isin(DIVERGED_OR_FAILED).to_numpy(),
        overlap=splits.overlap,
        chance=splits.chance,
    )
    parts = []
    for place in (0, -1):
        wanted = frame["block"].map({block: found[place] for block, found in rates.items()})
        parts.append(frame[np.isclose(frame["learning_rate"], wanted)])
    both = [part.assign(rates=name) for name, part in zip(RATES, parts, strict=True)]
    return pd.concat(both, ignore_index=True).drop(columns="block")


def short_model(names: pd.Series) -> pd.Series:
    """Return the names of models without their parameters."""
    return names.astype(str).str.partition("(")[0]


def _score(runs: pd.DataFrame) -> pd.Series:
    if "test_accuracy" in runs:
        return runs["test_accuracy"].astype(float).fillna(0.0)
    r2 = runs["test_r2"].astype(float).where(~runs["status"].isin(DIVERGED_OR_FAILED))
    return r2.clip(lower=0).fillna(0.0)


def best_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the learning rate with the best mean score over some tuning seeds.

    Of rates whose scores are within 0.001 those are taken at which the fewest runs diverged, and
    of these the middle one.

    Returns
    -------
    DataFrame
        ``model, optimizer, scaler, learning_rate, value``; ``diverged``, the share of its runs;
        ``edge``, whether it is an end of its grid.
    """
    by = ["model", "optimizer", "scaler"]
    frame = (
        runs[by]
        .astype(str)
        .assign(learning_rate=runs["learning_rate"].astype(float), value=_score(runs))
        .assign(diverged=runs["status"].isin(DIVERGED_OR_FAILED))
    )
    means = frame.groupby([*by, "learning_rate"], sort=True).mean().reset_index()
    rows = []
    for _, group in means.groupby(by, sort=False):
        tied = group[group["value"] >= group["value"].max() - 1e-3]
        tied = tied[tied["diverged"] == tied["diverged"].min()]
        chosen = tied.iloc[(len(tied) - 1) // 2]
        ends = group["learning_rate"].min(), group["learning_rate"].max()
        rows.append({**chosen.to_dict(), "edge": chosen["learning_rate"] in ends})
    return pd.DataFrame(rows)


# Scores ---------------------------------------------------------------------------------------


def score_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean score of each cell with its interval, and how its runs ended.

    Returns
    -------
    DataFrame
        `CELL`, ``learning_rate, value, low, high, n``, intervals cut at 0 and 1;
        ``excess_share``, the median;
        ``diverged``, the share of runs; ``trained``, whether the mean is above chance.
    """
    means = mean_by(scores, CELL)
    grouped = scores.groupby(CELL, sort=False)
    more = grouped.agg(
        learning_rate=("learning_rate", "first"),
        excess_share=("excess_share", "median"),
        diverged=("diverged", "mean"),
        chance=("chance", "first"),
    )
    found = means.merge(more.reset_index(), on=CELL)
    above = found["value"] > found["chance"] + SMALLEST
    return found.assign(
        low=found["low"].clip(0, 1), high=found["high"].clip(0, 1), trained=above
    ).drop(columns="chance")


def differences(scores: pd.DataFrame, baseline: str = RAW) -> pd.DataFrame:
    """Return the mean score of each scaler less that of a baseline, paired by seed.

    Returns
    -------
    DataFrame
        `CELL`, ``value, low, high, n`` and ``outcome``: ``better`` if the interval lies above
        `SMALLEST`, ``worse`` if it lies below -`SMALLEST`, ``equivalent`` if it lies within, else
        ``unclear``. As scores lie in [0, 1], intervals are cut at -1 and 1.
    """
    keys = [*TRAINING, "seed"]
    base = scores.loc[scores["scaler"] == baseline, [*keys, "value"]]
    both = scores[scores["scaler"] != baseline].merge(base, on=keys, suffixes=("", "_base"))
    found = mean_by(both.assign(value=both["value"] - both["value_base"]), CELL)
    low, high = found["low"], found["high"]
    outcome = np.select(
        [low > SMALLEST, high < -SMALLEST, (low > -SMALLEST) & (high < SMALLEST)],
        ["better", "worse", "equivalent"],
        "unclear",
    )
    return found.assign(low=low.clip(-1, 1), high=high.clip(-1, 1), outcome=outcome)


def recommended(scores: pd.DataFrame) -> str:
    """Return the scaler to use: the best one, or a more usual one that is as good.

    The usual one is as good unless the best is better by `SMALLEST`, and beyond noise. Scores are
    means over all trainings, within a seed.
    """
    means = scores.groupby(["scaler", "seed"], sort=False)["value"].mean().reset_index()
    means = means.assign(overlap=scores["overlap"].iloc[0])
    scaled = means[means["scaler"] != RAW]
    if scaled.empty:
        return RAW
    best = str(scaled.groupby("scaler")["value"].mean().idxmax())
    wide = scaled.pivot(index="seed", columns="scaler", values="value")
    for name in [n for n in PREFERRED if n in wide and n != best]:
        if PREFERRED.index(name) > (PREFERRED.index(best) if best in PREFERRED else 99):
            break
        gap = pd.DataFrame({"value": wide[best] - wide[name], "overlap": means["overlap"].iloc[0]})
        found = mean_by(gap.assign(one=1), ["one"]).iloc[0]
        if not (found["low"] > 0 and found["value"] >= SMALLEST):
            return name
    return best


def verdict(table: pd.DataFrame, compared: pd.DataFrame, scaler: str) -> str:
    """Return what follows for the recommended scaler.

    Returns
    -------
    str
        ``untrained`` if no cell scores above chance; ``scale`` if it is better in some trainings
        and worse in none, ``raw`` if it is worse in some and better in none, ``mixed`` if both;
        ``nothing`` if it is equivalent in all; else ``unclear``. Trainings in which neither
        scores above chance do not count.
    """
    if not table["trained"].any():
        return "untrained"
    outcomes = set(counted(table, compared, scaler)["outcome"])
    if {"better", "worse"} <= outcomes:
        return "mixed"
    if "better" in outcomes:
        return "scale"
    if "worse" in outcomes:
        return "raw"
    return "nothing" if outcomes <= {"equivalent"} else "unclear"


def counted(table: pd.DataFrame, compared: pd.DataFrame, scaler: str) -> pd.DataFrame:
    """Return the differences of a scaler in trainings where it or raw inputs trained."""
    trained = table[table["trained"] & table["scaler"].isin([scaler, RAW])]
    rows = compared[compared["scaler"] == scaler]
    return rows.merge(trained[TRAINING].drop_duplicates(), on=TRAINING)


# Importances ----------------------------------------------------------------------------------


def shares(features: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return what each method says of each feature, at the tuned rate, of runs above chance.

    Returns
    -------
    DataFrame
        ``model, optimizer, scaler, seed, feature, method, value, overlap``; no row where a
        method does not apply.
    """
    fits = scores[(scores["rates"] == "tuned") & (scores["value"] > scores["chance"])]
    names = [str(n) for n in features if str(n).startswith("share_") and n != "share_true"]
    rows = features[["condition", "seed", "feature", *names]].astype(
        {"condition": str, "feature": str}
    )
    keys = ["condition", "seed", "model", "optimizer", "scaler", "overlap"]
    rows = rows.merge(fits[keys], on=["condition", "seed"]).drop(columns="condition")
    by = ["model", "optimizer", "scaler", "seed", "overlap", "feature"]
    long = rows.melt(by, names, "method", "value").dropna(subset=["value"])
    return long.assign(method=long["method"].str.removeprefix("share_"))


def mark_few(frame: pd.DataFrame, splits: int) -> pd.DataFrame:
    """Add ``few``: whether an estimate rests on fewer than half of the splits."""
    return frame.assign(few=frame["n"] < splits / 2)


def share_table(long: pd.DataFrame) -> pd.DataFrame:
    """Return the mean share of each feature by model, optimizer, scaler and method."""
    return mean_by(long, ["model", "optimizer", "scaler", "method", "feature"])


def share_changes(long: pd.DataFrame, scaler: str) -> pd.DataFrame:
    """Return the change of each share from raw inputs to a scaler, paired by seed.

    Returns
    -------
    DataFrame
        ``model, optimizer, method, feature, value, low, high, n``, scaled minus raw, with
        intervals of simultaneous coverage over the features (Bonferroni); ``changed``, whether
        the interval excludes 0 and the change is at least `RELEVANT`.
    """
    by = ["model", "optimizer", "method", "feature"]
    raw, scaled = (long[long["scaler"] == name] for name in (RAW, scaler))
    both = scaled.merge(raw[[*by, "seed", "value"]], on=[*by, "seed"], suffixes=("", "_raw"))
    if both.empty:
        return pd.DataFrame(columns=[*by, "value", "low", "high", "n", "changed"])
    both = both.assign(value=both["value"] - both["value_raw"])
    level = 1 - (1 - CONFIDENCE) / both["feature"].nunique()
    found = mean_by(both, by, confidence=level)
    apart = (found["low"] > 0) | (found["high"] < 0)
    return found.assign(changed=apart & (found["value"].abs() >= RELEVANT))


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlation of other methods' mean shares with permutation importance."""
    rows = []
    for key, group in table.groupby(["model", "optimizer", "scaler"], sort=False):
        wide = group.pivot(index="feature", columns="method", values="value")
        if REFERENCE in wide:
            found = rank_agreement(wide, REFERENCE).drop(REFERENCE, errors="ignore")
            names = dict(zip(["model", "optimizer", "scaler"], key, strict=True))
            rows += [{**names, "method": name, "value": value} for name, value in found.items()]
    return pd.DataFrame(rows, columns=["model", "optimizer", "scaler", "method", "value"])


def irrelevant(long: pd.DataFrame, control: str, cell: Mapping[str, Any]) -> list[str]:
    """Return the features whose permutation share is that of the control, a shuffled column.

    A feature is irrelevant if the upper end of the interval of its share less the control's,
    paired by seed, is below `SMALLEST`.
    """
    rows = long[long["method"] == REFERENCE]
    for name, value in cell.items():
        rows = rows[rows[name] == value]
    base = rows.loc[rows["feature"] == control, ["seed", "value"]]
    both = rows[rows["feature"] != control].merge(base, on="seed", suffixes=("", "_control"))
    if both.empty:
        return []
    found = mean_by(both.assign(value=both["value"] - both["value_control"]), ["feature"])
    return found.loc[found["high"] < SMALLEST, "feature"].tolist()
