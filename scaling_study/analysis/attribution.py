"""Feature attributions of networks compared with the true importances.

Attributions are read only of runs that *fit*: R² on held-out rows of at least `GOOD_FIT`. With a
method's share_j of each feature, and the true share (permutation importance of the true
function):

distortion
    ½ sum_j |share_j - true_j|, the total variation distance: 0 for the truth, at most 1 if no
    share is negative. Negative shares of permutation importance are kept.
signed_bias
    Signed bias, share - true, of the last feature, whose unit a study scales: positive if it is
    overrated.
last
    The last feature's share.
flipped
    1 if two features whose true shares differ by `DISTINCT` or more are ranked in the wrong
    order, else 0; NaN if no two features differ by that much.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis.held_out import runs_at_tuned_rate
from scaling_study.analysis.intervals import mean_by, median, proportion
from scaling_study.analysis.summary import DIVERGED_OR_FAILED
from scaling_study.errors import StudyError
from scaling_study.storage.results import numbered

Array = NDArray[np.float64]
GOOD_FIT = 0.9  # R² on held-out rows; the noise of the preset's problems allows 0.99
FEWEST = 5  # fitting runs, below which a cell has no estimate
DISTINCT = 0.1  # difference of true shares below which two features are not ranked
NETWORKS = "networks"  # prefix of the names of blocks that compare networks
CELL = ["part", "problem", "model", "scale_factor", "offset", "scaler"]
SEED = ["condition", "seed"]
# These depend on the learnt function only, not on its coordinates.
UNIT_FREE = ("gradient_input", "integrated_gradients", "permutation", "linear_shap")
METHODS = ("weight", "garson", "olden", "gradient", *UNIT_FREE)
MEASURES = ("distortion", "signed_bias", "last", "flipped")
ENDS = ("value", "low", "high")


def distortion(shares: Array, truth: Array) -> Array:
    """Return the total variation between shares and true ones, both (n_runs, n_features)."""
    return np.abs(shares - truth).sum(axis=-1) / 2


def flipped(shares: Array, truth: Array) -> Array:
    """Return 1 if two features of distinct true shares are ranked in the wrong order, else 0.

    NaN if no true shares are `DISTINCT` apart, or a share is NaN. Both are (n_runs, n_features).
    """
    more = truth[:, :, None] - truth[:, None, :] >= DISTINCT
    wrong = shares[:, :, None] < shares[:, None, :]
    known = more.any(axis=(1, 2)) & np.isfinite(shares).all(axis=1)
    return np.where(known, (more & wrong).any(axis=(1, 2)), np.nan)


def is_plain(frame: pd.DataFrame) -> pd.Series:
    """Return which rows have the last feature in the problem's own unit and offset."""
    return (frame["scale_factor"] == 1) & (frame["offset"] == 0)


def tuned_runs(runs: pd.DataFrame, good_fit: float = GOOD_FIT) -> pd.DataFrame:
    """Return how well runs fit held-out rows, at each cell's tuned learning rate.

    Parameters
    ----------
    runs : DataFrame
        As in `scaling_study.storage.results.Results`, of a study that records importances.
    good_fit : float
        Minimum R² of a run that fits.

    Returns
    -------
    DataFrame
        ``condition, seed``, `CELL`, ``learning_rate``; ``r2``, NaN for a run that diverged or
        failed; ``value``, the same clipped at 0 and without NaN, by which rates are tuned;
        ``fits``; ``reached, edge`` as of `runs_at_tuned_rate`.

    Raises
    ------
    StudyError
        If the study records no importances, or runs of a cell differ in more than learning rate
        and seed.
    """
    if "r2_held_out" not in runs:
        raise StudyError('importances are read of a study with record = "importances"')
    frame = _run_scores(runs, good_fit)
    if frame.duplicated([*CELL, "learning_rate", "seed"]).any():
        raise StudyError(
            "importances are read of runs that differ in problem, model, scale factor, offset,"
            " scaler and learning rate only"
        )
    if (frame.groupby("part")["model"].nunique().get("inputs", 0)) > 1:
        raise StudyError(f"more than one model needs blocks whose names begin with {NETWORKS!r}")
    return runs_at_tuned_rate(frame, CELL)


def _run_scores(runs: pd.DataFrame, good_fit: float) -> pd.DataFrame:
    block = runs["block"].astype(str).to_numpy(str)
    lost = runs["status"].isin(DIVERGED_OR_FAILED)
    r2 = runs["r2_held_out"].astype(float).where(~lost).replace([np.inf, -np.inf], np.nan)
    texts = {name: runs[name].astype(str) for name in ("condition", "problem", "model", "scaler")}
    numbers = {
        name: runs[name].astype(float) for name in ("scale_factor", "offset", "learning_rate")
    }
    frame = pd.DataFrame(texts | numbers).assign(
        seed=runs["seed"],
        part=np.where(np.char.startswith(block, NETWORKS), NETWORKS, "inputs"),
        r2=r2,
        value=r2.clip(lower=0).fillna(0),
        fits=(r2 >= good_fit).to_numpy(),
    )
    return frame[[*SEED, *CELL, "learning_rate", "r2", "value", "fits"]]


def goodness_of_fit(tuned: pd.DataFrame) -> pd.DataFrame:
    """Return how many runs of each cell fit, and their R².

    Returns
    -------
    DataFrame
        `CELL`, ``learning_rate, edge``; ``value, low, high, n``, the share of runs that fit with
        Wilson's interval; ``fitting``, their number; ``r2, r2_low, r2_high``, the median over the
        runs that have one; ``lost``, how many diverged or failed.
    """
    rows = []
    for key, group in tuned.groupby(CELL, sort=False):
        known, fitting = group["r2"].dropna(), int(group["fits"].sum())
        middle = median(known)
        rows.append(
            dict(zip(CELL, key, strict=True))
            | {name: group[name].iloc[0] for name in ("learning_rate", "edge")}
            | proportion(fitting, len(group))._asdict()
            | {"fitting": fitting, "r2": middle.value, "r2_low": middle.low}
            | {"r2_high": middle.high, "lost": len(group) - len(known)}
        )
    return pd.DataFrame(rows)


def per_run(features: pd.DataFrame, tuned: pd.DataFrame) -> pd.DataFrame:
    """Return the measures of each method's attributions, for each run that fits.

    Parameters
    ----------
    features : DataFrame
        Of `storage.results.Results`, with ``share_<method>`` and ``share_true``.
    tuned : DataFrame
        From `tuned_runs`.

    Returns
    -------
    DataFrame
        `CELL`, ``seed, method`` and `MEASURES`; no row if a method does not apply to a model.
    """
    names = [f"share_{name}" for name in ("true", *METHODS)]
    rows = numbered(features)[[*SEED, "feature", *names]].astype({"condition": str})
    rows = rows.merge(tuned.loc[tuned["fits"], [*SEED, *CELL]], on=SEED)
    rows = rows.sort_values([*SEED, "feature"])
    # The empty frame gives the result its dtypes if no run fits.
    parts = [rows[:0], *(group for _, group in rows.groupby("problem", sort=False))]
    found = pd.concat([_of_problem(part) for part in parts], ignore_index=True)
    return found.dropna(subset=["distortion"])


def _of_problem(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the measures of runs of one problem, from rows sorted by run and feature."""
    count = max(1, rows["feature"].nunique())
    runs = rows[::count][[*CELL, "seed"]].reset_index(drop=True)
    shares = {
        name: rows[f"share_{name}"].to_numpy(np.float64).reshape(-1, count)
        for name in ("true", *METHODS)
    }
    truth = shares["true"]
    return pd.concat(
        [
            runs.assign(
                method=method,
                distortion=distortion(shares[method], truth),
                signed_bias=(shares[method] - truth)[:, -1],
                last=shares[method][:, -1],
                flipped=flipped(shares[method], truth),
            )
            for method in METHODS
        ]
    )


def cell_means(read: pd.DataFrame, cells: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return a measure's mean over the runs that fit, for every cell and method.

    Parameters
    ----------
    read, cells : DataFrame
        From `per_run` and `goodness_of_fit`.
    measure : str
        Of `MEASURES`.

    Returns
    -------
    DataFrame
        `CELL`, ``method, value, low, high, n``: 95 % t intervals over seeds, Wilson's for
        ``flipped``. NaN if fewer than `FEWEST` runs fit; ``n`` is their number.
    """
    by = [*CELL, "method"]
    values = read.assign(value=read[measure].astype(float))
    found = _proportions(values, by) if measure == "flipped" else mean_by(values, by)
    names = [name for name in METHODS if name in set(read["method"])]
    methods = pd.Series(names, dtype=str, name="method").to_frame()
    whole = cells[CELL].merge(methods, how="cross").merge(found, on=by, how="left")
    whole["n"] = whole["n"].fillna(0).astype(int)
    return whole.assign(**{name: whole[name].mask(whole["n"] < FEWEST) for name in ENDS})


def _proportions(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    grouped = frame.dropna(subset=["value"]).groupby(by, sort=False)["value"]
    counts = grouped.agg(["sum", "count"]).reset_index()
    rows = [proportion(int(k), int(n)) for k, n in counts[["sum", "count"]].to_numpy()]
    return counts[by].join(pd.DataFrame(rows, columns=[*ENDS, "n"]))


def paired_differences(read: pd.DataFrame) -> pd.DataFrame:
    """Return the distortion less that of standardized inputs, within each seed where both fit.

    Returns
    -------
    DataFrame
        `CELL`, ``method, seed`` and ``value``: the difference from the scaler ``standard`` at
        scale factor 1 and offset 0, of the same part, problem, model and seed.
    """
    on = ["part", "problem", "model", "method", "seed"]
    standard = (read["scaler"] == "standard") & is_plain(read)
    base = read.loc[standard, [*on, "distortion"]]
    both = read[~standard].merge(base, on=on, suffixes=("", "_base"))
    both["value"] = (both["distortion"] - both["distortion_base"]).astype(float)
    return both[[*CELL, "method", "seed", "value"]]


def mean_differences(read: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the means of `paired_differences` for every cell but the standardized ones.

    The columns are those of `cell_means`; ``n`` is the number of seeds where both runs fit.
    """
    others = cells[~((cells["scaler"] == "standard") & is_plain(cells))]
    differences = paired_differences(read).rename(columns={"value": "difference"})
    return cell_means(differences, others, "difference")
