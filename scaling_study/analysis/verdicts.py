"""Verdicts: one small machinery that judges every claim from stored runs.

    Claim ─► cells, each an Estimate ─► outcome ─► Verdict

A cell's interval is *beyond* the smallest effect of interest, *opposite*, *equivalent* (inside
the band around the null value) or *inconclusive*. The claim says in which of them it holds, and
whether it speaks of some, of most or of all cells. No verdict is written by hand.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_mutual_info_score

from scaling_study.analysis import intervals
from scaling_study.analysis.claims import Claim, unmeasured, word
from scaling_study.analysis.intervals import Estimate
from scaling_study.analysis.metrics import MEASURES, Table
from scaling_study.analysis.tuning import counted, select_learning_rates
from scaling_study.storage.results import Results
from scaling_study.study.conditions import expand
from scaling_study.study.values import error_context

VERDICTS = ("supported", "refuted", "depends", "inconclusive", "not testable")
MOST_MISSING = 0.1  # share of a cell's seeds without a value, from which it is not measured
CLAIM_SEED = 24  # of the generator that permutes labels


class Verdict(NamedTuple):
    """A judged claim.

    Attributes
    ----------
    claim : Claim
    verdict : str
        One of `VERDICTS`.
    estimate : Estimate
        Of the cell that decided; of all seeds where the claim speaks of most.
    depends_on : str or None
        The axis along which cells disagree.
    reason : str
        In words and counts.
    cells : DataFrame
        One row a cell: its axes, ``value, low, high, n, missing, outcome``.
    """

    claim: Claim
    verdict: str
    estimate: Estimate
    depends_on: str | None
    reason: str
    cells: pd.DataFrame

    def entry(self) -> dict[str, Any]:
        """Return what ``claims.json`` says of it."""
        value, low, high, n = self.estimate
        return {
            "id": self.claim.id,
            "quote": self.claim.quote,
            "verdict": self.verdict,
            "estimate": _plain(value),
            "interval": [_plain(low), _plain(high)],
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
    """Judge every claim from stored runs.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`.
    claims : sequence of Claim
        From `read_claims`.
    """
    tables: dict[tuple[str, ...], Table] = {}
    found = []
    for claim in claims:
        if claim.blocks not in tables and not claim.not_testable:
            tables[claim.blocks] = Table(results, claim.blocks)
        verdict = judge(claim, tables.get(claim.blocks))
        found.append(_with_reasons(verdict, results))
    return found


def _with_reasons(verdict: Verdict, results: Results) -> Verdict:
    """Say why cells are not measured, where their runs are not such as the measure fits."""
    lost = "outcome" in verdict.cells and (verdict.cells["outcome"] == "not measured").any()
    if not lost:
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
        return _not_testable(claim, "no run of its blocks is what it speaks of")
    cells = _cells(claim, sample)
    measured = cells[cells["outcome"] != "not measured"]
    if len(measured) < len(cells):
        notes.append(
            f"{counted(len(cells) - len(measured), 'cell')} of {len(cells)} not measured: more than"
            f" {MOST_MISSING:.0%} of the runs have no value"
        )
    if measured.empty:
        return _not_testable(claim, "; ".join(notes))._replace(cells=cells)
    if claim.quantifier == "most":
        return _most(claim, sample, cells, notes)
    return _verdict(claim, cells, measured, notes)


def _not_testable(claim: Claim, reason: str) -> Verdict:
    nothing = Estimate(np.nan, np.nan, np.nan, 0)
    return Verdict(claim, "not testable", nothing, None, reason, pd.DataFrame())


def _lacking(claim: Claim, runs: pd.DataFrame) -> str:
    """Say which value that a claim names no run of its blocks has; empty if they have all."""
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


def _verdict(
    claim: Claim, cells: pd.DataFrame, measured: pd.DataFrame, notes: list[str]
) -> Verdict:
    holds = measured["outcome"] == claim.expect
    unknown_ = measured["outcome"] == "inconclusive"
    fails = ~holds & ~unknown_
    depends_on = None
    if claim.quantifier == "some":
        verdict = "supported" if holds.any() else "inconclusive" if unknown_.any() else "refuted"
    elif holds.any() and fails.any():
        verdict, depends_on = "depends", _factor(measured[holds | fails], claim)
    elif unknown_.any():
        verdict = "inconclusive"
    else:
        verdict = "supported" if holds.all() else "refuted"
    deciding = _deciding(claim, measured, holds, fails, verdict)
    counts = measured["outcome"].value_counts()
    said = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if name in counts)
    parts = [f"{counted(len(measured), 'cell')}: {said}"]
    if depends_on is not None:
        parts.append(_along(depends_on, measured[holds | fails], claim))
    if len(measured) > 1:
        parts.append(f"the estimate is of {_where_is(deciding, cells)}")
    return Verdict(
        claim, verdict, _estimate_of(deciding), depends_on, "; ".join([*parts, *notes]), cells
    )


def _most(claim: Claim, sample: pd.DataFrame, cells: pd.DataFrame, notes: list[str]) -> Verdict:
    """Judge by the share of runs, all measured cells together, each seed one observation."""
    measured = cells[cells["outcome"] != "not measured"]
    if axes := _axes(cells):
        sample = sample.merge(measured[axes], on=axes)
    share = sample.dropna(subset=["value"]).groupby("seed")["value"].mean()
    estimate = _share(share.to_numpy())
    lies = outcome(claim, estimate)
    verdict = {claim.expect: "supported", "inconclusive": "inconclusive"}.get(lies, "refuted")
    against = "one half" if claim.null == 0.5 else f"{claim.null:g}"
    reason = f"the share of runs is held against {against}, over {counted(len(measured), 'cell')}"
    return Verdict(claim, verdict, estimate, None, "; ".join([reason, *notes]), cells)


OUTCOMES = ("beyond", "equivalent", "opposite", "inconclusive")


def _deciding(
    claim: Claim, measured: pd.DataFrame, holds: pd.Series, fails: pd.Series, verdict: str
) -> pd.Series:
    """Return the cell that the verdict hangs on."""
    effect = claim.sign * (measured["value"] - claim.null)
    distance = -effect.abs() if claim.expect == "equivalent" else effect
    if verdict == "supported":
        own = distance[holds]
        return measured.loc[own.idxmax() if claim.quantifier == "some" else own.idxmin()]
    if verdict == "depends":
        return measured.loc[distance[holds].idxmax()]
    left = distance[fails] if verdict == "refuted" else distance[~holds & ~fails]
    return measured.loc[(left if left.notna().any() else distance.fillna(-np.inf)).idxmax()]


def _factor(judged: pd.DataFrame, claim: Claim) -> str:
    """Return the axis whose values tell most about which cells hold.

    By mutual information adjusted for chance (Vinh, Epps and Bailey 2010), which an axis of
    many values does not have for that alone.
    """
    holds = judged["outcome"] == claim.expect
    known = {axis: adjusted_mutual_info_score(judged[axis], holds) for axis in _axes(judged)}
    return max(known, key=lambda axis: known[axis]) if known else "none of the named axes"


def _along(axis: str, judged: pd.DataFrame, claim: Claim) -> str:
    """Say in which share of the cells a claim holds, along an axis."""
    holds = (judged["outcome"] == claim.expect).groupby(judged[axis], sort=False)
    counts = holds.agg(["sum", "count"])
    parts = [f"{value}: {row['sum']} of {row['count']}" for value, row in counts.iterrows()]
    return f"holds by {axis.replace('_', ' ')}: {', '.join(parts)}"


def _axes(cells: pd.DataFrame) -> list[str]:
    return [str(name) for name in cells if name not in CELL_COLUMNS]


def _where_is(cell: pd.Series, cells: pd.DataFrame) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {str(cell[name]).replace('_', ' ')}"
        for name in _axes(cells)
        if cells[name].nunique() > 1
    )


def _estimate_of(cell: pd.Series) -> Estimate:
    return Estimate(float(cell["value"]), float(cell["low"]), float(cell["high"]), int(cell["n"]))


def changed_claims(stored: Any, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how one ledger differs from another, a line for each claim that does.

    Verdicts and factors must be equal. Estimates may differ by a tenth of the interval's width
    or 1 % of their size, which is what other versions and machines do to float32.

    Parameters
    ----------
    stored : list of dict
        From ``claims.json``.
    found : sequence of dict
        From `Verdict.entry`.

    Raises
    ------
    StudyError
        If what is stored is no ledger.
    """
    with error_context("claims.json", TypeError, KeyError, AttributeError):
        before = {entry["id"]: entry for entry in stored}
        lines = [f"{name}: is stored, and not found" for name in before.keys() - _ids(found)]
        for entry in found:
            own = before.get(entry["id"])
            if own is None:
                lines.append(f"{entry['id']}: is found, and not stored")
                continue
            for key in ("verdict", "depends_on"):
                if own[key] != entry[key]:
                    lines.append(f"{entry['id']}: {key} is {entry[key]}, stored {own[key]}")
            if not _near(own, entry):
                lines.append(
                    f"{entry['id']}: estimate is {entry['estimate']}, stored {own['estimate']}"
                )
        return sorted(lines)


def _ids(entries: Sequence[Mapping[str, Any]]) -> set[str]:
    return {entry["id"] for entry in entries}


def _near(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    one, two = own["estimate"], other["estimate"]
    if one is None or two is None:
        return one is two
    low, high = own["interval"]
    width = high - low if None not in (low, high) else 0.0
    return abs(one - two) <= max(0.1 * width, 0.01 * abs(one), 1e-9)


# Cells ----------------------------------------------------------------------------------------

CELL_COLUMNS = ("value", "low", "high", "n", "missing", "outcome")


def _cells(claim: Claim, sample: pd.DataFrame) -> pd.DataFrame:
    """Return an estimate and its outcome for each cell of a sample."""
    axes = [name for name in sample if name not in ("seed", "value", "x")]
    rows = []
    groups = sample.groupby(axes, sort=False, observed=True) if axes else [((), sample)]
    for key, own in groups:
        known = own.dropna(subset=["value"])
        missing = 1 - known["seed"].nunique() / own["seed"].nunique()
        estimate = _estimate(claim, known)
        measured = missing <= MOST_MISSING
        rows.append(
            dict(zip(axes, key, strict=True))
            | {**estimate._asdict(), "missing": missing}
            | {"outcome": outcome(claim, estimate) if measured else "not measured"}
        )
    return pd.DataFrame(rows)


def _estimate(claim: Claim, known: pd.DataFrame) -> Estimate:
    seeds, values = known["seed"].to_numpy(), known["value"].to_numpy(np.float64)
    if claim.slope_on is not None:
        return intervals.slope(known["x"].to_numpy(np.float64), values, seeds)
    if claim.of_shares:
        return _share(values)
    return intervals.mean(values)


def _share(values: np.ndarray) -> Estimate:
    """Return the mean, by Wilson's interval where nothing but 0 and 1 is there."""
    if len(values) and np.isin(values, (0.0, 1.0)).all():
        return intervals.proportion(int(values.sum()), len(values))
    return intervals.mean(values)


def _sample(claim: Claim, table: Table) -> tuple[pd.DataFrame, list[str]]:
    """Return one value for each seed of each cell: ``seed, value`` and the cell's axes."""
    chosen = table.take(_matching(table.runs, claim.where))
    if not len(chosen):
        return pd.DataFrame(), []
    parts, notes = [], []
    for rates in claim.rates:
        own, said = select_learning_rates(chosen, rates)
        notes += said
        for name in claim.measure if len(own) else ():
            value = MEASURES[name.removeprefix("-")](own)
            frame = pd.DataFrame({"seed": own.seeds, "value": -value if name[0] == "-" else value})
            for axis in _kept(claim):
                frame[axis] = own.runs[axis].astype(str).to_numpy()
            if len(claim.measure) > 1:
                frame["measure"] = name
            if len(claim.rates) > 1:
                frame["rates"] = rates
            parts.append(frame)
    if not parts:
        return pd.DataFrame(), notes
    whole = _per_seed(pd.concat(parts, ignore_index=True))
    whole = _compared(claim, whole) if claim.versus else whole
    # What lies beyond the budget has an order and no size: as a number it is missing.
    whole["value"] = whole["value"].where(np.isfinite(whole["value"]))
    if claim.slope_on is not None:
        whole["x"] = np.log10(whole.pop(claim.slope_on).astype(float))
    return whole, notes


def _kept(claim: Claim) -> list[str]:
    more = [claim.versus.axis] if claim.versus else []
    return list(dict.fromkeys([*claim.by, *more, *([claim.slope_on] if claim.slope_on else [])]))


def _per_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over a seed's runs in each cell; NaN where one of them is."""
    axes = [name for name in frame if name != "value"]
    grouped = frame.groupby(axes, sort=False, observed=True)["value"]
    means = grouped.mean()
    lacking = frame["value"].isna().groupby([frame[name] for name in axes], sort=False).any()
    return means.where(~lacking.reindex(means.index)).reset_index()


def _compared(claim: Claim, whole: pd.DataFrame) -> pd.DataFrame:
    """Return each other value of the compared axis beside the baseline, within the seed."""
    assert claim.versus is not None
    axis, baseline, others, how = claim.versus
    keys = [name for name in whole if name not in (axis, "value")]
    words = whole[axis].map(word)
    base = whole[words == baseline].drop(columns=axis)
    generator = np.random.default_rng(CLAIM_SEED)
    parts = []
    for other in others:
        own = whole[words == other].drop(columns=axis)
        both = base.merge(own, on=keys, suffixes=("", "_other"))
        first, second = both["value"].to_numpy(), both.pop("value_other").to_numpy()
        if claim.shuffled:
            swap = generator.random(len(both)) < 0.5
            first, second = np.where(swap, second, first), np.where(swap, first, second)
        known = ~np.isnan(first) & ~np.isnan(second)
        with np.errstate(invalid="ignore"):
            value = {
                "difference": lambda a, b: a - b,
                "improvement": lambda a, b: (b < a) + 0.5 * (a == b),
                "equal": lambda a, b: (a == b).astype(float),
            }[how](first, second)
        both["value"] = np.where(known, value, np.nan)
        if len(others) > 1:
            both[axis] = other
        parts.append(both)
    return pd.concat(parts, ignore_index=True)


def _matching(runs: pd.DataFrame, where: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    chosen = np.ones(len(runs), bool)
    for axis, wanted in where.items():
        column = runs[axis]
        names = [word(value) for value in column.cat.categories]
        chosen &= np.isin(np.array(names, dtype=object), list(wanted))[column.cat.codes.to_numpy()]
    return chosen


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
