"""What the explorer shows of each condition, thinned so that its page stays small.

Curves are kept as lists, one row a condition, which the page unfolds for the cell that is chosen.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scaling_study.analysis.summary import DIVERGED_OR_FAILED
from scaling_study.errors import StudyError
from scaling_study.report import style
from scaling_study.report.traces import curves
from scaling_study.storage.columns import SHARE
from scaling_study.storage.results import Results, numbered

CONTROLS = ("optimizer", "learning_rate", "scale_factor", "scaler", "model")
SETTING = "setting"  # every other axis that varies, in one control
MOST_NUMBERS = 200_000  # of all curves: about 2 MB as text
FEWEST_POINTS, MOST_POINTS = 4, 40  # of a curve
MOST_CONDITIONS = 7_000
MOST_FEATURES = 8
AT_A_TIME = 512  # conditions whose traces are held in memory
WEIGHT = "weight"


class ExplorerData(NamedTuple):
    """The rows of the explorer, by the number ``c`` of their condition.

    Attributes
    ----------
    conditions : DataFrame
        ``c``, `CONTROLS`, ``setting``; ``reached`` and ``diverged`` (percent of runs), ``loss``
        (median at the end, of the runs that did not diverge).
    curves : DataFrame
        ``c`` and lists over updates: ``update, value, low, high`` of the loss (median and range
        over the seeds whose traces are kept).
    gradients : DataFrame
        ``c, feature`` and lists ``update, value`` of the gradient norm (median).
    importances : DataFrame
        ``c, method`` and lists ``feature, share`` (mean over the runs that did not diverge).
    seeds, traced : int
        Number of seeds, and of those whose traces are kept.
    left_out : int
        Number of conditions that are not shown.
    """

    conditions: pd.DataFrame
    curves: pd.DataFrame
    gradients: pd.DataFrame
    importances: pd.DataFrame
    seeds: int
    traced: int
    left_out: int

    def first(self, count: int) -> "ExplorerData":
        """Return the rows of the first conditions; the others are left out."""
        names = ("conditions", "curves", "gradients", "importances")
        frames = {name: getattr(self, name) for name in names}
        kept = {name: frame[frame["c"] < count] for name, frame in frames.items()}
        left_out = self.left_out + len(self.conditions) - len(kept["conditions"])
        return self._replace(**kept, left_out=left_out)


def explorer_data(results: Results) -> ExplorerData:
    """Return the rows of the explorer of a study's results.

    Raises
    ------
    StudyError
        If no runs are stored.
    """
    if results.study.record == "curves" or results.conditions.empty:
        raise StudyError(f"{results.folder}: no runs are stored, so there is nothing to explore")
    every = results.conditions["condition"].astype(str)
    kept = every.head(MOST_CONDITIONS)
    shown = results.of(kept) if len(kept) < len(every) else results
    number = pd.Series(np.arange(len(kept)), index=kept.to_numpy())
    (loss, norms, importances), traced = _in_parts(shown, number)
    return ExplorerData(
        conditions=_conditions(shown, number),
        curves=loss,
        gradients=norms,
        importances=importances,
        seeds=results.study.n_seeds,
        traced=traced,
        left_out=len(every) - len(kept),
    )


def _conditions(results: Results, number: pd.Series) -> pd.DataFrame:
    axes = results.conditions
    found = pd.DataFrame({"c": axes["condition"].astype(str).map(number)})
    for name in CONTROLS:
        is_number = name in ("learning_rate", "scale_factor")
        found[name] = axes[name].astype(float) if is_number else axes[name].astype(str)
    others = axes[[c for c in axes if "." not in str(c) and c not in (*CONTROLS, "condition")]]
    others = others.astype(str)
    found[SETTING], several = "", others["block"].nunique() > 1
    for block, rows in others.groupby("block", sort=False):
        # What is one value throughout a block is said by the block's name.
        varying = [name for name in rows if rows[name].nunique() > 1]
        named = [f"block {block}"] if several else []
        for place, row in rows[varying].iterrows():
            parts = [f"{str(name).replace('_', ' ')} {value}" for name, value in row.items()]
            found.loc[place, SETTING] = ", ".join([*named, *parts])
    return found.merge(_outcomes(results.runs, number), on="c", how="left")


def _outcomes(runs: pd.DataFrame, number: pd.Series) -> pd.DataFrame:
    status = runs["status"].astype(str)
    judged = ~status.isin(["no_target", "failed"])
    frame = pd.DataFrame(
        {
            "c": runs["condition"].astype(str).map(number),
            "reached": (100.0 * (status == "converged")).where(judged),
            "diverged": 100.0 * (status == "diverged"),
            "loss": runs["final_loss"].astype(float).where(~status.isin(DIVERGED_OR_FAILED)),
        }
    )
    grouped = frame.groupby("c")
    found = grouped[["reached", "diverged"]].mean().assign(loss=grouped["loss"].median())
    return found.map(significant).reset_index()


def _in_parts(results: Results, number: pd.Series) -> tuple[list[pd.DataFrame], int]:
    """Return curves, gradients and importances, and the number of seeds that are traced.

    They are read for some conditions at a time: the traces of a million runs take a gigabyte.
    """
    found: list[tuple[pd.DataFrame, ...]] = []
    seeds: set[int] = set()
    for start in range(0, len(number), AT_A_TIME):
        part = results.of(number.index[start : start + AT_A_TIME])
        traces = curves(part)
        seeds |= set(traces["seed"])
        found.append((*_curves(traces, number), _importances(part, number)))
    return [pd.concat(frames, ignore_index=True) for frames in zip(*found, strict=True)], len(seeds)


def _curves(traces: pd.DataFrame, number: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the curves of the loss, and of the gradient norm by feature."""
    traces = traces[traces["feature"] < MOST_FEATURES]
    traces = traces.assign(c=traces["condition"].astype(str).map(number))
    features = max(1, traces["feature"].nunique())
    points = MOST_NUMBERS // (max(1, len(number)) * (4 + 2 * features))
    points = int(np.clip(points, FEWEST_POINTS, MOST_POINTS))
    loss = traces[(traces["feature"] == 0) & (traces["loss"] > 0)].groupby(["c", "update"])["loss"]
    norms = traces[traces["grad_norm"] > 0].groupby(["c", "feature", "update"])["grad_norm"]
    losses = loss.agg(value="median", low="min", high="max").reset_index()
    medians = norms.agg(value="median").reset_index()
    medians["feature"] += 1
    return _lists(losses, ["c"], points), _lists(medians, ["c", "feature"], points)


def _lists(frame: pd.DataFrame, by: list[str], points: int) -> pd.DataFrame:
    """Return one row a group with lists of at most so many points, the first and last among them.

    Points are chosen evenly on a logarithmic scale of updates.
    """
    columns = [name for name in frame if name not in by]
    rows: list[dict[str, Any]] = []
    for keys, group in frame.groupby(by, sort=False):
        key = np.atleast_1d(np.asarray(keys, dtype=int)).tolist()
        kept = group.iloc[_spread(group["update"].to_numpy(float), points)]
        lists = {str(name): [significant(v) for v in kept[name]] for name in columns}
        rows.append(dict(zip(by, key, strict=True)) | lists)
    return pd.DataFrame(rows, columns=[*by, *columns])


def _spread(updates: np.ndarray, points: int) -> np.ndarray:
    """Return indices of at most so many points, evenly spread over log(1 + updates)."""
    if len(updates) <= points:
        return np.arange(len(updates))
    at = np.log1p(updates)
    wanted = np.linspace(at[0], at[-1], points)
    return np.unique(np.abs(at[:, None] - wanted[None]).argmin(axis=0))


def _importances(results: Results, number: pd.Series) -> pd.DataFrame:
    """Return the mean share of each feature by method, of the runs that did not diverge."""
    features = numbered(results.features)
    features = features[features["feature"] < MOST_FEATURES]
    methods = [str(name) for name in features if str(name).startswith(SHARE)]
    frame = features[["condition", "seed", "feature", *methods]].astype({"condition": str})
    if not methods:
        size = features["weight"].abs()
        whole = size.groupby([frame["condition"], frame["seed"]]).transform("sum")
        frame[SHARE + WEIGHT] = (size / whole).where(np.isfinite(whole))
        methods = [SHARE + WEIGHT]
    lost = results.runs.loc[results.runs["status"].isin(DIVERGED_OR_FAILED), ["condition", "seed"]]
    gone = pd.MultiIndex.from_frame(lost.astype({"condition": str}))
    frame = frame[~pd.MultiIndex.from_frame(frame[["condition", "seed"]]).isin(gone)]
    means = frame.groupby(["condition", "feature"], sort=False)[methods].mean()
    rows = [
        {
            "c": int(number[str(condition)]),
            "method": _label(method.removeprefix(SHARE)),
            "feature": (group.index.get_level_values("feature") + 1).tolist(),
            "share": [significant(v) for v in group[method]],
        }
        for condition, group in means.groupby(level="condition", sort=False)
        for method in methods
        if group[method].notna().any()
    ]
    return pd.DataFrame(rows, columns=["c", "method", "feature", "share"])


def _label(method: str) -> str:
    return "true function" if method == "true" else style.method(method)["label"]


def significant(value: Any) -> Any:
    """Return a number with three significant digits, None if it is not finite."""
    number = float(value)
    if not np.isfinite(number):
        return None
    short = float(f"{number:.2e}") if abs(number) < 1000 else round(number)
    return int(short) if short == int(short) else short
