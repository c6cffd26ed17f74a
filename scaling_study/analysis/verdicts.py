"""Verdicts on claims, from stored runs.

    Claim ─► cells, each an Estimate ─► outcome ─► Verdict

The interval of a cell is *beyond* the smallest effect of interest, *opposite*, *equivalent*
(inside the band around the null value) or *inconclusive*. The claim states which of these it
expects, and whether of some, of most or of all cells.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_mutual_info_score

from scaling_study.analysis import intervals
from scaling_study.analysis.claims import Claim, unmeasured, word
from scaling_study.analysis.intervals import UNKNOWN, Estimate
from scaling_study.analysis.metrics import MEASURES, Table
from scaling_study.analysis.tuning import pluralize, select_learning_rates
from scaling_study.storage.results import Results
from scaling_study.study.conditions import expand
from scaling_study.study.values import error_context

VERDICTS = ("supported", "refuted", "depends", "inconclusive", "not testable")
# A cell with too many missing values has the outcome "not measured", which decides nothing.
OUTCOMES = ("beyond", "equivalent", "opposite", "inconclusive")
CELL_COLUMNS = ("value", "low", "high", "n", "missing", "outcome")
MAX_MISSING_SHARE = 0.1  # a cell with a larger share of seeds without a value is not measured
CLAIM_SEED = 24  # of the generator that swaps labels within pairs at random
COMPARE = {
    "difference": lambda a, b: a - b,
    "improvement": lambda a, b: (b < a) + 0.5 * (a == b),
    "equal": lambda a, b: (a == b).astype(float),
}


class Verdict(NamedTuple):
    """A judged claim."""

    claim: Claim
    #: One of `VERDICTS`.
    verdict: str
    #: The estimate of the decisive cell, or over all cells if the quantifier is "most".
    estimate: Estimate
    #: The axis along which cells disagree.
    depends_on: str | None
    reason: str
    #: One row per cell: its axes, ``value, low, high, n, missing, outcome``.
    cells: pd.DataFrame

    def entry(self) -> dict[str, Any]:
        """Return the claim's entry in ``claims.json``."""
        value, low, high, n = self.estimate
        return {
            "id": self.claim.id,
            "quote": self.claim.quote,
            "verdict": self.verdict,
            "estimate": _finite_or_none(value),
            "interval": [_finite_or_none(low), _finite_or_none(high)],
            "n": n,
            "depends_on": self.depends_on,
            "reason": self.reason,
            "measure": list(self.claim.measure),
            "smallest_effect": self.claim.smallest,
            "null": self.claim.null,
            "quantifier": self.claim.quantifier,
            "blocks": list(self.claim.blocks),
            "cells": len(self.cells),
        }


# Judging --------------------------------------------------------------------------------------


def judge_all(results: Results, claims: Sequence[Claim]) -> list[Verdict]:
    """Judge every claim from stored runs."""
    tables: dict[tuple[str, ...], Table] = {}
    verdicts = []
    for claim in claims:
        if claim.blocks not in tables and not claim.not_testable:
            tables[claim.blocks] = Table(results, claim.blocks)
        verdict = judge(claim, tables.get(claim.blocks))
        verdicts.append(_with_reasons(verdict, results))
    return verdicts


def _with_reasons(verdict: Verdict, results: Results) -> Verdict:
    """Add why the measure is undefined for some runs, if some cells are not measured."""
    if "not measured" not in verdict.cells.get("outcome", pd.Series(dtype=str)).to_numpy():
        return verdict
    some, _ = unmeasured(verdict.claim, expand(results.study), results.study.record)
    return verdict._replace(reason="; ".join([verdict.reason, *some]))


def judge(claim: Claim, table: Table | None) -> Verdict:
    """Judge one claim from the runs of its blocks."""
    if claim.not_testable or table is None:
        return _not_testable(claim, claim.not_testable)
    if lacking := _lacking(claim, table.runs):
        return _not_testable(claim, lacking)
    sample, notes = _sample(claim, table)
    if sample.empty:
        return _not_testable(claim, "no run of its blocks matches the claim")
    cells = _cells(claim, sample)
    measured = cells[cells["outcome"] != "not measured"]
    if len(measured) < len(cells):
        notes.append(
            f"{pluralize(len(cells) - len(measured), 'cell')} of {len(cells)} not measured: more"
            f" than {MAX_MISSING_SHARE:.0%} of the seeds have no value"
        )
    if measured.empty:
        return _not_testable(claim, "; ".join(notes))._replace(cells=cells)
    judge_cells = _judge_most if claim.quantifier == "most" else _judge_cells
    return judge_cells(claim, sample, cells, measured, notes)


def _not_testable(claim: Claim, reason: str) -> Verdict:
    return Verdict(claim, "not testable", UNKNOWN, None, reason, pd.DataFrame())


def _lacking(claim: Claim, runs: pd.DataFrame) -> str:
    """Name the first value in a claim that no run of its blocks has; empty if there is none."""
    named = dict(claim.where)
    if claim.versus is not None:
        axis, baseline, others, _ = claim.versus
        named[axis] = (*named.get(axis, ()), baseline, *others)
    for axis, values in named.items():
        present = [str(value) for value in runs[axis].unique()]
        for value in values:
            if value not in map(word, present):
                return f"no run of its blocks has {axis} {value}; they have {', '.join(present)}"
    return ""


def outcome(claim: Claim, estimate: Estimate) -> str:
    """Return where an interval lies: beyond, opposite, equivalent or inconclusive."""
    ends = claim.sign * (estimate.low - claim.null), claim.sign * (estimate.high - claim.null)
    low, high = min(ends), max(ends)
    if np.isnan(low) or np.isnan(high):
        return "inconclusive"
    if low > claim.smallest:
        return "beyond"
    if high < -claim.smallest:
        return "opposite"
    if low >= -claim.smallest and high <= claim.smallest:
        return "equivalent"
    return "inconclusive"


def _judge_cells(
    claim: Claim, _: pd.DataFrame, cells: pd.DataFrame, measured: pd.DataFrame, notes: list[str]
) -> Verdict:
    """Judge by whether some or all measured cells have the expected outcome."""
    holds = measured["outcome"] == claim.expect
    open_ = measured["outcome"] == "inconclusive"
    fails = ~holds & ~open_
    decided = measured[holds | fails]
    depends_on = None
    if claim.quantifier == "some":
        verdict = "supported" if holds.any() else "inconclusive" if open_.any() else "refuted"
    elif holds.any() and fails.any():
        verdict, depends_on = "depends", _factor(decided, claim)
    elif open_.any():
        verdict = "inconclusive"
    else:
        verdict = "supported" if holds.all() else "refuted"
    decisive = _decisive(claim, measured, verdict)
    counts = measured["outcome"].value_counts()
    outcomes = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if name in counts)
    parts = [f"{pluralize(len(measured), 'cell')}: {outcomes}"]
    if depends_on is not None:
        parts.append(_by_value(depends_on, decided, claim))
    if len(measured) > 1:
        parts.append(f"the estimate is of {_describe(decisive, cells)}")
    value, low, high, n = (float(decisive[name]) for name in ("value", "low", "high", "n"))
    estimate = Estimate(value, low, high, int(n))
    return Verdict(claim, verdict, estimate, depends_on, "; ".join([*parts, *notes]), cells)


def _judge_most(
    claim: Claim,
    sample: pd.DataFrame,
    cells: pd.DataFrame,
    measured: pd.DataFrame,
    notes: list[str],
) -> Verdict:
    """Judge by the share of runs over all measured cells, each seed one observation."""
    if axes := _axes(cells):
        sample = sample.merge(measured[axes], on=axes)
    share = sample.dropna(subset=["value"]).groupby("seed")["value"].mean()
    estimate = _share(share.to_numpy())
    overall = outcome(claim, estimate)
    verdict = {claim.expect: "supported", "inconclusive": "inconclusive"}.get(overall, "refuted")
    against = "one half" if claim.null == 0.5 else f"{claim.null:g}"
    reason = (
        f"the share of runs is compared with {against}, over {pluralize(len(measured), 'cell')}"
    )
    return Verdict(claim, verdict, estimate, None, "; ".join([reason, *notes]), cells)


def _decisive(claim: Claim, measured: pd.DataFrame, verdict: str) -> pd.Series:
    """Return the cell that decides the verdict.

    This is the cell with the largest effect in the expected direction, among those that agree with
    the verdict. If the claim requires all cells and is supported, it is the one with the smallest.
    """
    effect = claim.sign * (measured["value"] - claim.null)
    effect_in_expected_direction = -effect.abs() if claim.expect == "equivalent" else effect
    holds = measured["outcome"] == claim.expect
    open_ = measured["outcome"] == "inconclusive"
    if verdict == "supported" and claim.quantifier == "all":
        return measured.loc[effect_in_expected_direction[holds].idxmin()]
    if verdict in ("supported", "depends"):
        return measured.loc[effect_in_expected_direction[holds].idxmax()]
    candidates = effect_in_expected_direction[
        ~holds & (open_ if verdict == "inconclusive" else ~open_)
    ]
    if not candidates.notna().any():
        candidates = effect_in_expected_direction.fillna(-np.inf)
    return measured.loc[candidates.idxmax()]


def _factor(decided: pd.DataFrame, claim: Claim) -> str:
    """Return the axis that best predicts which cells hold.

    The criterion is mutual information adjusted for chance (Vinh, Epps and Bailey 2010), which
    does not favour axes of many values.
    """
    holds = decided["outcome"] == claim.expect
    known = {axis: adjusted_mutual_info_score(decided[axis], holds) for axis in _axes(decided)}
    return max(known, key=lambda axis: known[axis]) if known else "none of the named axes"


def _by_value(axis: str, decided: pd.DataFrame, claim: Claim) -> str:
    """Describe in how many cells a claim holds, by value of an axis."""
    holds = (decided["outcome"] == claim.expect).groupby(decided[axis], sort=False)
    counts = holds.agg(["sum", "count"])
    parts = [f"{value}: {row['sum']} of {row['count']}" for value, row in counts.iterrows()]
    return f"holds by {axis.replace('_', ' ')}: {', '.join(parts)}"


def _axes(cells: pd.DataFrame) -> list[str]:
    return [str(name) for name in cells if name not in CELL_COLUMNS]


def _describe(cell: pd.Series, cells: pd.DataFrame) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {str(cell[name]).replace('_', ' ')}"
        for name in _axes(cells)
        if cells[name].nunique() > 1
    )


def _finite_or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# Comparing ------------------------------------------------------------------------------------


def changed_claims(stored: Any, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each claim whose entry differs from the stored one.

    Verdicts and factors must be equal. Estimates may differ by a tenth of the interval's width
    or by 1 %, as float32 does between versions and machines.
    """
    with error_context("claims.json", TypeError, KeyError, AttributeError):
        before = {entry["id"]: entry for entry in stored}
        ids = {entry["id"] for entry in entries}
        lines = [f"{name}: stored, but no longer declared" for name in before.keys() - ids]
        for entry in entries:
            lines += _changes(before.get(entry["id"]), entry)
        return sorted(lines)


def _changes(stored: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> list[str]:
    if stored is None:
        return [f"{entry['id']}: declared, but not stored"]
    changed = [key for key in ("verdict", "depends_on") if stored[key] != entry[key]]
    changed += [] if _estimates_close(stored, entry) else ["estimate"]
    return [f"{entry['id']}: {key} is {entry[key]}, stored {stored[key]}" for key in changed]


def _estimates_close(stored: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    one, two = stored["estimate"], entry["estimate"]
    if one is None or two is None:
        return one is two
    low, high = stored["interval"]
    width = high - low if None not in (low, high) else 0.0
    return abs(one - two) <= max(0.1 * width, 0.01 * abs(one), 1e-9)


# Cells ----------------------------------------------------------------------------------------


def _cells(claim: Claim, sample: pd.DataFrame) -> pd.DataFrame:
    """Return an estimate and its outcome for each cell of a sample."""
    axes = [name for name in sample if name not in ("seed", "value", "x")]
    rows = []
    groups = sample.groupby(axes, sort=False, observed=True) if axes else [((), sample)]
    for key, group in groups:
        known = group.dropna(subset=["value"])
        missing = 1 - known["seed"].nunique() / group["seed"].nunique()
        estimate = _estimate(claim, known)
        measured = missing <= MAX_MISSING_SHARE
        rows.append(
            dict(zip(axes, key, strict=True))
            | {**estimate._asdict(), "missing": missing}
            | {"outcome": outcome(claim, estimate) if measured else "not measured"}
        )
    return pd.DataFrame(rows)


def _estimate(claim: Claim, known: pd.DataFrame) -> Estimate:
    values = known["value"].to_numpy(np.float64)
    if claim.slope_on is not None:
        return intervals.slope(known["x"].to_numpy(np.float64), values, known["seed"].to_numpy())
    return _share(values) if claim.of_shares else intervals.mean(values)


def _share(values: np.ndarray) -> Estimate:
    """Return the mean, with Wilson's interval if all values are 0 or 1."""
    if len(values) and np.isin(values, (0.0, 1.0)).all():
        return intervals.proportion(int(values.sum()), len(values))
    return intervals.mean(values)


def _sample(claim: Claim, table: Table) -> tuple[pd.DataFrame, list[str]]:
    """Return one value for each seed of each cell: ``seed, value`` and the cell's axes."""
    chosen = table.take(_matching(table.runs, claim.where))
    parts, notes = [], []
    for rates in claim.rates if len(chosen) else ():
        subset, more = select_learning_rates(chosen, rates)
        notes += more
        for name in claim.measure if len(subset) else ():
            frame = _values(claim, subset, name)
            parts.append(frame.assign(rates=rates) if len(claim.rates) > 1 else frame)
    if not parts:
        return pd.DataFrame(), notes
    whole = _per_seed(pd.concat(parts, ignore_index=True))
    whole = _compared(claim, whole) if claim.versus else whole
    # A time beyond the budget is infinite: it can be compared, but counts as missing in a mean.
    whole["value"] = whole["value"].where(np.isfinite(whole["value"]))
    if claim.slope_on is not None:
        whole["x"] = np.log10(whole.pop(claim.slope_on).astype(float))
    return whole, notes


def _values(claim: Claim, table: Table, name: str) -> pd.DataFrame:
    """Return a measure of each run, with its seed and the axes that the claim reads."""
    value = MEASURES[name.removeprefix("-")](table)
    axes = [*claim.by, claim.versus.axis if claim.versus else None, claim.slope_on]
    frame = pd.DataFrame({"seed": table.seeds, "value": -value if name[0] == "-" else value})
    for axis in filter(None, axes):
        frame[axis] = table.runs[axis].astype(str).to_numpy()
    return frame.assign(measure=name) if len(claim.measure) > 1 else frame


def _per_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over a seed's runs in each cell; NaN if one of them is NaN."""
    axes = [name for name in frame if name != "value"]
    means = frame.groupby(axes, sort=False, observed=True)["value"].mean()
    lacking = frame["value"].isna().groupby([frame[name] for name in axes], sort=False).any()
    return means.where(~lacking.reindex(means.index)).reset_index()


def _compared(claim: Claim, whole: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison of each other value of an axis with the baseline, within the seed."""
    assert claim.versus is not None
    axis, baseline, others, how = claim.versus
    keys = [name for name in whole if name not in (axis, "value")]
    words = whole[axis].map(word)
    base = whole[words == baseline].drop(columns=axis)
    generator = np.random.default_rng(CLAIM_SEED)
    parts = []
    for other in others:
        rows = whole[words == other].drop(columns=axis)
        both = base.merge(rows, on=keys, suffixes=("", "_other"))
        first, second = both["value"].to_numpy(), both.pop("value_other").to_numpy()
        if claim.shuffled:
            swap = generator.random(len(both)) < 0.5
            first, second = np.where(swap, second, first), np.where(swap, first, second)
        known = ~np.isnan(first) & ~np.isnan(second)
        with np.errstate(invalid="ignore"):
            both["value"] = np.where(known, COMPARE[how](first, second), np.nan)
        parts.append(both.assign(**{axis: other}) if len(others) > 1 else both)
    return pd.concat(parts, ignore_index=True)


def _matching(runs: pd.DataFrame, where: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    chosen = np.ones(len(runs), bool)
    for axis, wanted in where.items():
        column = runs[axis]
        names = [word(value) for value in column.cat.categories]
        chosen &= np.isin(np.array(names, dtype=object), list(wanted))[column.cat.codes.to_numpy()]
    return chosen
