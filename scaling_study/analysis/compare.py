"""Compare two results folders statistically: two optimizers, versions or machines.

Conditions are matched on their axes and, where the seeds are the same, runs are paired by seed.
For each matched condition and quantity, the difference, second minus first, is tested against the
tolerance (a minimum-effect t test) or, where the outcome is yes or no, against zero (McNemar's
exact test of pairs, Fisher's of independent samples). P-values are adjusted by Holm's method over
all tests of a comparison, so that the probability of any false difference is at most 5 %.

Outcomes
--------
identical
    Equal in every pair, as compared: losses, times and errors in log10, small ones clipped.
differs
    The adjusted p-value is below 0.05, and the difference is larger than the tolerance.
same
    The 95 % interval of the difference lies within the tolerance; not adjusted.
unclear
    Neither: more seeds would tell.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from scaling_study.analysis.matching import ONE, OTHER, match
from scaling_study.analysis.metrics import MEASURES
from scaling_study.analysis.run_table import Array, Table
from scaling_study.errors import StudyError
from scaling_study.storage.results import Results

TOLERANCE = 0.01
ALPHA = 0.05
IDENTICAL, DIFFERS, SAME, UNCLEAR = "identical", "differs", "same", "unclear"
YES_NO, RATIO, DIFFERENCE = "yes or no", "ratio", "difference"  # types of effect
LOSS_FLOOR = 1e-30  # smaller losses are clipped to it
WEIGHT_ERROR_FLOOR = 0.01  # smaller weight errors are clipped to it


class Quantity(NamedTuple):
    """What is compared: one number a run, NaN where a run has none."""

    of: Callable[[Table], Array]
    #: How two values are compared; those of a `RATIO` are log10.
    scale: str


class Comparison(NamedTuple):
    """Two results folders, compared.

    Attributes
    ----------
    cells : DataFrame
        One row per matched condition and quantity: ``condition`` and ``condition_second`` (their
        ids), ``quantity``, ``scale``, ``first`` and ``second`` (mean over seeds, geometric of a
        ratio), ``value, low, high`` (second relative to first: a ratio or a difference), ``n``
        (pairs, or the seeds of the smaller sample), ``equal`` (pairs that are equal as compared),
        ``p``, ``p_adjusted``, ``outcome``.
    matched : DataFrame
        ``condition, condition_second, paired`` of each matched pair of conditions, and its value
        of each axis of `across`, such as ``adam / lion``.
    across : dict of str to (str, str)
        Axes on which matched conditions differ, with the values in each folder.
    unmatched : (int, int)
        Number of conditions of each folder without a counterpart.
    provenance : DataFrame
        ``what, first, second``: versions, platform and machine where they differ.
    tolerance : float
        Largest relative difference of a ratio, or difference of a share, that counts as none.
    """

    cells: pd.DataFrame
    matched: pd.DataFrame
    across: dict[str, tuple[str, str]]
    unmatched: tuple[int, int]
    provenance: pd.DataFrame
    tolerance: float

    @property
    def differences(self) -> pd.DataFrame:
        """The rows of `cells` that differ."""
        return self.cells[self.cells["outcome"] == DIFFERS]


def compare(
    first: Results,
    second: Results,
    *,
    across: list[str] | None = None,
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Compare the runs of two results folders.

    Parameters
    ----------
    first, second : Results
    across : list of str, optional
        Axes to ignore when conditions are matched, such as ``["optimizer"]``. By default
        conditions are matched on all axes or, where that matches none, on the axes of which the
        folders have a value in common. Different problems are matched only if ``across`` has
        ``problem``.
    tolerance : float
        Differences up to it count as none: relative of losses, times and errors, absolute of
        shares and scores.

    Raises
    ------
    StudyError
        If the folders have no problem in common, or no condition of one matches one of the other.
    """
    if not 0 <= tolerance < np.inf:
        raise StudyError(f"tolerance = {tolerance}: must be a number of at least 0")
    for results in (first, second):
        if results.study.record == "curves":
            raise StudyError(f"{results.folder}: record = 'curves' stores no runs to compare")
    matched, crossed = match(first.conditions, second.conditions, across)
    one, other = values(first.of(matched[ONE])), values(second.of(matched[OTHER]))
    cells, paired = _cells(matched, one, other, tolerance)
    return Comparison(
        cells=judge(cells, tolerance),
        matched=matched.assign(paired=paired),
        across=crossed,
        unmatched=(len(first.conditions) - len(matched), len(second.conditions) - len(matched)),
        provenance=provenance_table(first.manifest, second.manifest),
        tolerance=tolerance,
    )


# Values ---------------------------------------------------------------------------------------


def _final_loss(table: Table) -> Array:
    return np.log10(np.maximum(table.if_completed(table["final_loss"]), LOSS_FLOOR))


def _weight_error(table: Table) -> Array:
    return np.log10(np.maximum(table.if_completed(table["weight_error"]), WEIGHT_ERROR_FLOOR))


def _reached(table: Table) -> Array:
    status = table.runs["status"].astype(str).to_numpy()
    return np.where(np.isin(status, ("no_target", "failed")), np.nan, status == "converged")


def _registered(name: str, *, log: bool = False) -> Callable[[Table], Array]:
    def of(table: Table) -> Array:
        found = np.asarray(table.if_completed(MEASURES[name](table)), np.float64)
        found = np.log10(np.maximum(found, LOSS_FLOOR)) if log else found
        return np.where(np.isfinite(found), found, np.nan)

    return of


#: What is compared, by the name that a page shows.
QUANTITIES: dict[str, Quantity] = {
    "reached target": Quantity(_reached, YES_NO),
    "diverged": Quantity(MEASURES["diverged"], YES_NO),
    "updates to target": Quantity(MEASURES["log_steps"], RATIO),
    "final loss": Quantity(_final_loss, RATIO),
    "weight error": Quantity(_weight_error, RATIO),
    "held-out loss": Quantity(_registered("test_loss", log=True), RATIO),
    "held-out R²": Quantity(_registered("test_r2"), DIFFERENCE),
    "held-out accuracy": Quantity(_registered("test_accuracy"), DIFFERENCE),
    "feature's share of weights": Quantity(_registered("share_weight"), DIFFERENCE),
    "feature's share of permutation": Quantity(_registered("share_permutation"), DIFFERENCE),
    "feature's share of gradient × input": Quantity(
        _registered("share_gradient_input"), DIFFERENCE
    ),
}
TIMES = ("updates to target",)  # right-censored at the budget


def values(results: Results) -> pd.DataFrame:
    """Return ``condition, seed, quantity, value`` of every run, and its ``budget`` in updates."""
    table = Table(results)
    keys = table.runs[["condition", "seed"]].astype({"condition": str})
    keys = keys.assign(budget=table["updates"])
    parts = [keys.assign(quantity=name, value=q.of(table)) for name, q in QUANTITIES.items()]
    return pd.concat(parts, ignore_index=True).dropna(subset=["value"])


# Differences ----------------------------------------------------------------------------------

CELL = [ONE, OTHER, "quantity"]


def _cells(
    matched: pd.DataFrame, one: pd.DataFrame, other: pd.DataFrame, tolerance: float
) -> tuple[pd.DataFrame, list[bool]]:
    """Return the statistics of each cell, and which conditions are paired: two seeds in common."""
    budgets = [
        matched[key].map(side.groupby(ONE)["budget"].max())
        for key, side in ((ONE, one), (OTHER, other))
    ]
    pairs = matched[[ONE, OTHER]].assign(most=np.log10(budgets[0].clip(upper=budgets[1])))
    one, other = _restricted(one, pairs, ONE), _restricted(other, pairs, OTHER)
    whole = one.merge(other, on=[*CELL, "seed"], suffixes=("_1", "_2"))
    shared = whole.groupby(ONE)["seed"].nunique()
    paired = (matched[ONE].map(shared) > 1).tolist()
    keys = set(matched.loc[paired, ONE])
    parts = [_paired(whole[whole[ONE].isin(keys)], tolerance)] if keys else []
    if not all(paired):
        first, second = (side[~side[ONE].isin(keys)] for side in (one, other))
        parts.append(_independent(first, second, tolerance))
    found = pd.concat(parts, ignore_index=True)
    orders = {ONE: list(matched[ONE]), "quantity": list(QUANTITIES)}
    place = {name: {v: i for i, v in enumerate(order)} for name, order in orders.items()}
    found = found.sort_values(list(orders), key=lambda column: column.map(place[str(column.name)]))
    return found.reset_index(drop=True), paired


def _restricted(frame: pd.DataFrame, pairs: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the values of matched conditions; times are at most the smaller of two budgets."""
    frame = frame.rename(columns={ONE: key}).merge(pairs, on=key)
    restricted = frame["value"].clip(0, frame["most"])
    value = frame["value"].mask(frame["quantity"].isin(TIMES), restricted)
    return frame[[*CELL, "seed"]].assign(value=value)


def _paired(pairs: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    pairs = pairs.assign(
        difference=pairs["value_2"] - pairs["value_1"],
        equal=pairs["value_1"] == pairs["value_2"],
        more=pairs["value_2"] > pairs["value_1"],
        less=pairs["value_2"] < pairs["value_1"],
    )
    grouped = pairs.groupby(CELL, sort=False)
    found = grouped.agg(
        first=("value_1", "mean"),
        second=("value_2", "mean"),
        value=("difference", "mean"),
        spread=("difference", "std"),
        n=("difference", "size"),
        equal=("equal", "sum"),
        more=("more", "sum"),
        less=("less", "sum"),
    ).reset_index()
    error, degrees = found["spread"] / np.sqrt(found["n"]), found["n"] - 1
    found = _with_t_test(found, error, degrees, tolerance)
    yes_no = found["scale"] == YES_NO
    exact = [
        float(mcnemar(np.array([[0, more], [less, 0]]), exact=True).pvalue)  # type: ignore
        for more, less in found.loc[yes_no, ["more", "less"]].to_numpy()
    ]
    found.loc[yes_no, "p"] = np.minimum(exact, 1.0)
    return found.drop(columns=["spread", "more", "less"])


def _independent(one: pd.DataFrame, other: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Return the statistics of samples without seeds in common: Welch's t, Fisher's exact test."""
    sides = [
        side.groupby(CELL, sort=False)["value"].agg(["mean", "var", "size", "sum"]).reset_index()
        for side in (one, other)
    ]
    found = sides[0].merge(sides[1], on=CELL, suffixes=("_1", "_2"))
    sizes = [found["size_1"], found["size_2"]]
    variances = [found["var_1"] / sizes[0], found["var_2"] / sizes[1]]
    total = variances[0] + variances[1]
    scaled = variances[0] ** 2 / (sizes[0] - 1) + variances[1] ** 2 / (sizes[1] - 1)
    found = found.assign(
        first=found["mean_1"],
        second=found["mean_2"],
        value=found["mean_2"] - found["mean_1"],
        n=sizes[0].clip(upper=sizes[1]),
        equal=0,
    )
    found = _with_t_test(found, total**0.5, (total**2 / scaled).where(total > 0, 1.0), tolerance)
    yes_no = found["scale"] == YES_NO
    counts = found.loc[yes_no, ["sum_2", "size_2", "sum_1", "size_1"]].to_numpy(int)
    if len(counts):
        found.loc[yes_no, ["low", "high", "p"]] = [_of_counts(*row) for row in counts.tolist()]
    return found.drop(columns=[c for c in found if str(c).endswith(("_1", "_2"))])


def _of_counts(yes: int, n: int, yes_first: int, n_first: int) -> tuple[float, float, float]:
    """Return Newcombe's interval of a difference of proportions, and Fisher's p-value."""
    low, high = confint_proportions_2indep(yes, n, yes_first, n_first, method="newcomb")
    table = np.array([[yes, n - yes], [yes_first, n_first - yes_first]])
    return float(low), float(high), float(stats.fisher_exact(table).pvalue)  # type: ignore[attr-defined]


def _with_t_test(
    found: pd.DataFrame, error: pd.Series, degrees: pd.Series, tolerance: float
) -> pd.DataFrame:
    """Return cells with their scale, the interval, and the p-value against the tolerance."""
    found["scale"] = found["quantity"].map({name: q.scale for name, q in QUANTITIES.items()})
    spread = error.to_numpy(np.float64)
    beyond = np.abs(found["value"].to_numpy(np.float64)) - _limits(found["scale"], tolerance)
    reach = stats.t.ppf(1 - ALPHA / 2, degrees) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.minimum(1.0, 2 * stats.t.sf(beyond / spread, degrees))
    p = np.where(spread > 0, p, np.where(np.isnan(spread), np.nan, beyond <= 0))
    return found.assign(low=found["value"] - reach, high=found["value"] + reach, p=p)


def _limits(scale: pd.Series, tolerance: float) -> Array:
    """Return the largest difference that counts as none, in the unit of each cell."""
    return np.where(scale == RATIO, np.log10(1 + tolerance), tolerance)


def judge(cells: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Return cells with ``p_adjusted`` and ``outcome``, ratios as such rather than as log10."""
    adjusted = pd.Series(np.nan, index=cells.index)
    tested = cells["p"].notna()
    if tested.any():
        adjusted[tested] = multipletests(cells.loc[tested, "p"], method="holm")[1]
    most = _limits(cells["scale"], tolerance)
    outcome = np.select(
        [
            cells["equal"] == cells["n"],
            (adjusted < ALPHA) & (cells["value"].abs() > most),
            (cells["low"] >= -most) & (cells["high"] <= most),
        ],
        [IDENTICAL, DIFFERS, SAME],
        UNCLEAR,
    )
    ratio = cells["scale"] == RATIO
    shown = {
        name: np.where(ratio, 10.0 ** cells[name].clip(-300, 300), cells[name])
        for name in ("first", "second", "value", "low", "high")
    }
    columns = [*CELL, "scale", *shown, "n", "equal", "p", "p_adjusted", "outcome"]
    return cells.assign(**shown, p_adjusted=adjusted, outcome=outcome)[columns]


# Provenance -----------------------------------------------------------------------------------


def provenance_table(first: Mapping[str, Any], second: Mapping[str, Any]) -> pd.DataFrame:
    """Return what differs between two manifests of where and with what results were made."""
    one, other = _made_with(first), _made_with(second)
    rows = [
        (name, one.get(name, "none"), other.get(name, "none"))
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    ]
    return pd.DataFrame(rows, columns=["what", "first", "second"])


def _made_with(manifest: Mapping[str, Any]) -> dict[str, str]:
    identity = manifest["identity"]
    found = {name: str(identity.get(name, "")) for name in ("platform", "source")}
    found |= {name: str(v) for name, v in manifest.get("packages", {}).items()}
    found |= {f"environment {k}": str(v) for k, v in identity.get("environment", {}).items()}
    keys = ("python", "machine", "device_kind", "git_commit")
    found |= {key.replace("_", " "): str(manifest.get(key) or "unknown") for key in keys}
    return found | {"seeds": ":".join(map(str, manifest.get("seeds", ["unknown"])))}
