"""Do the scalers of a study differ: held-out score, excess share, and shares of importance.

Scalers are compared with raw inputs within a setting, paired by seed. A setting is all that runs
share but the scaler, so that each scale factor is one.
"""

import numpy as np
import pandas as pd

from scaling_study.analysis.intervals import CONFIDENCE, mean_by
from scaling_study.analysis.summary import DIVERGED_OR_FAILED

RAW = "none"
SCORES = {  # each with its columns, of which the first that a run has counts
    "held-out accuracy": ("test_accuracy", "accuracy_held_out"),
    "held-out R²": ("test_r2", "r2_held_out"),
}
EXCESS = "excess share"
EXPLAINED = "explained training loss"
ROW = ["setting", "measure", "scaler"]
NOT_METHODS = ("true",)


def run_measures(runs: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the scores and the excess share of each run, between 0 and 1.

    Parameters
    ----------
    runs : DataFrame
        As in `scaling_study.storage.results.Results`.
    labels : DataFrame
        ``condition, setting, scaler`` and, where seeds split the same rows, ``overlap``: test
        rows over training rows.

    Returns
    -------
    DataFrame
        `ROW`, ``seed, value, overlap``. Where the least loss is not known, as of networks, there
        is in place of the excess share the explained training loss, ``1 - final_loss /
        loss_null``. A run that diverged has score 0 and excess share 1, as one that is no better
        than a constant prediction.
    """
    lost = runs["status"].isin(DIVERGED_OR_FAILED).to_numpy()
    keys = runs[["seed"]].assign(condition=runs["condition"].astype(str), lost=lost)
    columns = {measure: _first_known(runs, names) for measure, names in SCORES.items()}
    columns[EXCESS] = _first_known(runs, ("excess_share",))
    if {"final_loss", "loss_null"} <= {*runs}:
        columns[EXPLAINED] = 1 - runs["final_loss"].astype(float) / runs["loss_null"].astype(float)
    parts = [keys.assign(measure=m, value=known.clip(0, 1)) for m, known in columns.items()]
    found = pd.concat(parts, ignore_index=True).merge(labels, on="condition")
    found = found if "overlap" in found else found.assign(overlap=0.0)
    found = found[_applies(found)]
    worst = (found["measure"] == EXCESS).astype(float)
    found = found.assign(value=found["value"].where(~found["lost"], worst))
    measured = found.groupby(ROW, sort=False)["value"].transform("count") > 0
    return found.loc[measured, [*ROW, "seed", "value", "overlap"]].reset_index(drop=True)


def _applies(found: pd.DataFrame) -> pd.Series:
    """Say of each row whether some run of its setting has its measure."""
    known, setting = found["value"].notna(), found["setting"]
    excess = (known & (found["measure"] == EXCESS)).groupby(setting).transform("any")
    measured = known.groupby([setting, found["measure"]]).transform("any")
    return measured & ~(excess & (found["measure"] == EXPLAINED))


def _first_known(runs: pd.DataFrame, names: tuple[str, ...]) -> pd.Series:
    """Return the first of some columns that a run has, NaN where it has none."""
    found = pd.Series(np.nan, index=runs.index)
    for name in names:
        if name in runs:
            found = found.fillna(runs[name].astype(float))
    return found


def compare_scalers(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each measure by scaler, and its difference from raw inputs.

    Returns
    -------
    DataFrame
        `ROW`, ``value, low, high, n``; ``difference, difference_low, difference_high``, scaled
        less raw, with intervals of simultaneous coverage over all comparisons of a measure
        (Bonferroni), NaN for raw inputs; ``differs``, whether that interval excludes 0.
    """
    means = _within(mean_by(measured, ROW), 0)
    keys = ["setting", "measure", "seed"]
    raw = measured.loc[measured["scaler"] == RAW, [*keys, "value"]]
    both = measured[measured["scaler"] != RAW].merge(raw, on=keys, suffixes=("", "_raw"))
    parts = []
    for _, rows in both.groupby("measure", sort=False):
        level = 1 - (1 - CONFIDENCE) / len(rows[ROW].drop_duplicates())
        gaps = rows.assign(value=rows["value"] - rows["value_raw"])
        parts.append(_within(mean_by(gaps, ROW, confidence=level), -1))
    names = {"value": "difference", "low": "difference_low", "high": "difference_high"}
    columns = [*ROW, *names.values()]
    found = pd.concat(parts).rename(columns=names)[columns] if parts else None
    table = means.merge(pd.DataFrame(found, columns=columns), on=ROW, how="left")
    ends = table["difference_low"].astype(float), table["difference_high"].astype(float)
    return table.assign(differs=(ends[0] > 0) | (ends[1] < 0))


def mean_shares(features: pd.DataFrame, runs: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the mean share of each feature by setting, scaler and method, with its interval.

    Of runs that neither diverged nor predict held-out rows worse than a constant. ``features``
    and ``runs`` are those of a study with ``record = "importances"``, else no rows are returned.
    """
    by = ["setting", "scaler", "method", "feature"]
    names = [str(n) for n in features if str(n).startswith("share_")]
    names = [n for n in names if n.removeprefix("share_") not in NOT_METHODS]
    if not names:
        return pd.DataFrame(columns=[*by, "value", "low", "high", "n"])
    fit = runs["r2_held_out"].astype(float) if "r2_held_out" in runs else None
    kept = ~runs["status"].isin(DIVERGED_OR_FAILED) & ((fit > 0) if fit is not None else True)
    fits = runs.loc[kept, ["condition", "seed"]].astype({"condition": str}).merge(labels)
    rows = features[["condition", "seed", "feature", *names]]
    rows = rows.astype({"condition": str, "feature": str}).merge(fits, on=["condition", "seed"])
    by_run = [*by[:2], "feature", *(n for n in ("overlap",) if n in rows)]
    long = rows.melt(by_run, names, "method", "value").dropna(subset=["value"])
    found = mean_by(long.assign(method=long["method"].str.removeprefix("share_")), by)
    return _within(found, -1)


def _within(found: pd.DataFrame, least: float) -> pd.DataFrame:
    """Return estimates of what lies between a number and 1 with intervals that do, too."""
    return found.assign(low=found["low"].clip(least, 1), high=found["high"].clip(least, 1))
