"""What networks hold for important beside what truly is, read only where they fit.

A run is read where it *fits*: its R² on held-out rows is at least `GOOD_FIT`. What a run that
does not fit holds for important says nothing about the law. With a method's share_j of each
feature, and that of the law (permutation importance of the law itself):

distortion
    ½ sum_j |share_j - true_j|, the total variation: 0 for the truth, at most 1 where no share
    is negative. Permutation importance can be; its negative shares are kept.
lean
    share - true of the last feature, the one that a study scales: above 0, it is overrated.
last
    The last feature's share itself.
flipped
    1 where a feature that truly matters more, by `DISTINCT` or more, has the smaller share;
    NaN where no two features differ by that much.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis.held_out import runs_at_tuned_rate
from scaling_study.analysis.intervals import mean_by, median, proportion
from scaling_study.analysis.summary import DIVERGED_OR_FAILED
from scaling_study.errors import StudyError

Array = NDArray[np.float64]
GOOD_FIT = 0.9  # R² on held-out rows; the noise of the preset's problems leaves 0.99
FEWEST = 5  # fitting runs, below which a cell is not read
DISTINCT = 0.1  # difference of true shares below which two features have no order
NETWORKS = "networks"  # begins the name of a block that compares networks
CELL = ["part", "problem", "model", "scale_factor", "offset", "scaler"]
SEED = ["condition", "seed"]
METHODS = (
    *("weight", "garson", "olden", "gradient"),
    *("gradient_input", "integrated_gradients", "permutation", "linear_shap"),
)
# What these say is of the function that was learnt; the others read its coordinates too.
UNIT_FREE = ("gradient_input", "integrated_gradients", "permutation", "linear_shap")
MEASURES = ("distortion", "lean", "last", "flipped")


def distortion(shares: Array, truth: Array) -> Array:
    """Return the total variation between shares and true ones, both (n_runs, n_features)."""
    return np.abs(shares - truth).sum(axis=-1) / 2


def flipped(shares: Array, truth: Array) -> Array:
    """Return 1 where two features of distinct true shares are ranked the other way, else 0.

    Parameters
    ----------
    shares, truth : ndarray of shape (n_runs, n_features)

    Returns
    -------
    ndarray of shape (n_runs,)
        NaN where no true shares are `DISTINCT` apart, or a share is NaN.
    """
    more = truth[:, :, None] - truth[:, None, :] >= DISTINCT
    wrong = shares[:, :, None] < shares[:, None, :]
    known = more.any(axis=(1, 2)) & np.isfinite(shares).all(axis=1)
    return np.where(known, (more & wrong).any(axis=(1, 2)), np.nan)


def is_plain(frame: pd.DataFrame) -> pd.Series:
    """Say which rows leave the last column's unit and zero where the problem has them."""
    return (frame["scale_factor"] == 1) & (frame["offset"] == 0)


def run_scores(runs: pd.DataFrame, good_fit: float = GOOD_FIT) -> pd.DataFrame:
    """Return how well each run fits rows that it has not seen.

    Parameters
    ----------
    runs : DataFrame
        As in `scaling_study.storage.results.Results`, of a study that records importances.
    good_fit : float
        R² from which on a run fits.

    Returns
    -------
    DataFrame
        ``condition, seed``, `CELL` and ``learning_rate``; ``r2``, NaN for a run that diverged
        or failed; ``value``, the same from 0 on, and 0 where there is none, which rates are
        chosen by; ``fits``.
    """
    block = runs["block"].astype(str).to_numpy(str)
    lost = runs["status"].isin(DIVERGED_OR_FAILED)
    r2 = runs["r2_held_out"].astype(float).where(~lost).replace([np.inf, -np.inf], np.nan)
    texts = {name: runs[name].astype(str) for name in ("condition", "problem", "model", "scaler")}
    numbers = {name: runs[name].astype(float) for name in ("scale_factor", "offset")}
    frame = pd.DataFrame(
        {**texts, **numbers, "learning_rate": runs["learning_rate"].astype(float)},
    ).assign(
        seed=runs["seed"],
        part=np.where(np.char.startswith(block, NETWORKS), NETWORKS, "inputs"),
        r2=r2,
        value=r2.clip(lower=0).fillna(0),
        fits=(r2 >= good_fit).to_numpy(),
    )
    return frame[[*SEED, *CELL, "learning_rate", "r2", "value", "fits"]]


def tuned_runs(runs: pd.DataFrame, good_fit: float = GOOD_FIT) -> pd.DataFrame:
    """Return `run_scores` at each cell's rate: half of the seeds picks it, the other is returned.

    Raises
    ------
    StudyError
        If the study records no importances, or runs of a cell differ in more than rate and seed.
    """
    if "r2_held_out" not in runs:
        raise StudyError('importances are read of a study with record = "importances"')
    frame = run_scores(runs, good_fit)
    if frame.duplicated([*CELL, "learning_rate", "seed"]).any():
        raise StudyError(
            "importances are read of runs that differ in problem, model, scale factor, offset,"
            " scaler and learning rate only"
        )
    if (frame.groupby("part")["model"].nunique().get("inputs", 0)) > 1:
        raise StudyError(f"more than one model needs blocks whose names begin with {NETWORKS!r}")
    return runs_at_tuned_rate(frame, CELL)


def goodness_of_fit(kept: pd.DataFrame) -> pd.DataFrame:
    """Return how many runs of each cell fit.

    Parameters
    ----------
    kept : DataFrame
        From `tuned_runs`.

    Returns
    -------
    DataFrame
        `CELL`, ``learning_rate, edge``; ``value, low, high, n``, the share of runs that fit
        with Wilson's interval; ``fitting``, their number; ``r2, r2_low, r2_high``, the median
        over the runs that have one; ``lost``, how many diverged or failed.
    """
    rows = []
    for key, own in kept.groupby(CELL, sort=False):
        known = own["r2"].dropna()
        share, middle = proportion(int(own["fits"].sum()), len(own)), median(known)
        rows.append(
            dict(zip(CELL, key, strict=True))
            | {"learning_rate": own["learning_rate"].iloc[0], "edge": bool(own["edge"].iloc[0])}
            | share._asdict()
            | {"fitting": int(own["fits"].sum()), "r2": middle.value}
            | {"r2_low": middle.low, "r2_high": middle.high, "lost": len(own) - len(known)}
        )
    return pd.DataFrame(rows)


def per_run(features: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Return what each method says of each run that fits.

    Parameters
    ----------
    features : DataFrame
        Of `storage.results.Results`, ``share_<method>`` and ``share_true`` among them.
    kept : DataFrame
        From `tuned_runs`.

    Returns
    -------
    DataFrame
        `CELL`, ``seed, method`` and `MEASURES`; no row where a method cannot read a model.
    """
    names = [f"share_{name}" for name in ("true", *METHODS)]
    own = features[[*SEED, "feature", *names]].astype({"condition": str})
    own = own.merge(kept.loc[kept["fits"], [*SEED, *CELL]], on=SEED)
    own = own.sort_values([*SEED, "feature"])
    # A frame of no rows has columns of the right kinds, where no run fits.
    parts = [_of_problem(own[:0])]
    parts += [_of_problem(rows) for _, rows in own.groupby("problem", sort=False)]
    return pd.concat(parts, ignore_index=True).dropna(subset=["distortion"])


def _of_problem(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the readings of runs of one problem, whose features follow each other."""
    count = max(1, rows["feature"].nunique())
    runs = rows[::count][[*CELL, "seed"]].reset_index(drop=True)

    def shares_of(name: str) -> Array:
        return rows[f"share_{name}"].to_numpy(np.float64).reshape(-1, count)

    truth, parts = shares_of("true"), []
    for method in METHODS:
        shares = shares_of(method)
        parts.append(
            runs.assign(
                method=method,
                distortion=distortion(shares, truth),
                lean=(shares - truth)[:, -1],
                last=shares[:, -1],
                flipped=flipped(shares, truth),
            )
        )
    return pd.concat(parts)


def cell_means(read: pd.DataFrame, cells: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return a measure's mean over the runs that fit, for every cell and method.

    Parameters
    ----------
    read : DataFrame
        From `per_run`.
    cells : DataFrame
        From `goodness_of_fit`: which cells there are.
    measure : str
        Of `MEASURES`.

    Returns
    -------
    DataFrame
        `CELL`, ``method``, and ``value, low, high, n``: 95 % t intervals over seeds, or, of
        what is ``flipped``, Wilson's. NaN where fewer than `FEWEST` runs fit; ``n`` says how
        many.
    """
    by = [*CELL, "method"]
    own = read.assign(value=read[measure].astype(float))
    found = _shares_of(own, by) if measure == "flipped" else mean_by(own, by)
    names = [name for name in METHODS if name in set(read["method"])]
    methods = pd.Series(names, dtype=str, name="method").to_frame()
    whole = cells[CELL].merge(methods, how="cross").merge(found, on=by, how="left")
    return _masked(whole.assign(n=whole["n"].fillna(0).astype(int)))


def _shares_of(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    grouped = frame.dropna(subset=["value"]).groupby(by, sort=False)["value"]
    counts = grouped.agg(["sum", "count"]).reset_index()
    rows = [
        proportion(int(count), int(n))._asdict() for count, n in counts[["sum", "count"]].to_numpy()
    ]
    return counts[by].join(pd.DataFrame(rows, columns=["value", "low", "high", "n"]))


def paired_differences(read: pd.DataFrame, measure: str = "distortion") -> pd.DataFrame:
    """Return what a measure gains over standardised columns, within a seed where both fit.

    Parameters
    ----------
    read : DataFrame
        From `per_run`.
    measure : str
        Of `MEASURES`.

    Returns
    -------
    DataFrame
        `CELL`, ``method, seed`` and ``value``: a cell's less that of the scaler ``standard`` at
        scale factor 1 and offset 0, of the same part, problem, model and seed.
    """
    on = ["part", "problem", "model", "method", "seed"]
    standard = (read["scaler"] == "standard") & is_plain(read)
    base = read.loc[standard, [*on, measure]]
    both = read[~standard].merge(base, on=on, suffixes=("", "_base"))
    both["value"] = (both[measure] - both[f"{measure}_base"]).astype(float)
    return both[[*CELL, "method", "seed", "value"]]


def mean_differences(read: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of `paired_differences` distortion for every cell but the standardised ones.

    Returns
    -------
    DataFrame
        `CELL`, ``method``, ``value, low, high, n``; NaN where fewer than `FEWEST` seeds fit
        both ways.
    """
    others = cells[~((cells["scaler"] == "standard") & is_plain(cells))]
    of_cells = paired_differences(read).rename(columns={"value": "difference"})
    return cell_means(of_cells, others, "difference")


def _masked(frame: pd.DataFrame) -> pd.DataFrame:
    few = frame["n"] < FEWEST
    return frame.assign(**{name: frame[name].mask(few) for name in ("value", "low", "high")})
