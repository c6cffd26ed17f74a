"""Verdicts on claims, from stored runs.

    Claim ─► samples of its cells ─► outcome of each ─► Verdict

A cell is *beyond* the smallest effect of interest, *opposite*, *equivalent* (inside the band around
the null value) or *inconclusive*: one-sided tests at 2.5 %, corrected over the cells of the claim
(Holm 1979). The quantifier is the sentence's own: *sometimes* is supported by one cell and refuted
if none can be; *always* is supported by all cells and refuted by one sure counterexample;
*usually* is about the share of runs and of cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_mutual_info_score

from scaling_study.analysis.claims import Claim, unmeasured, word
from scaling_study.analysis.confidence import Confidence, part_of
from scaling_study.analysis.intervals import CONFIDENCE, UNKNOWN, Estimate
from scaling_study.analysis.metrics import Table
from scaling_study.analysis.recorded import processes
from scaling_study.analysis.samples import Sample, samples
from scaling_study.analysis.tuning import pluralize
from scaling_study.storage.results import Results
from scaling_study.study.values import error_context

VERDICTS = ("supported", "refuted", "inconclusive", "not testable")
OUTCOMES = ("beyond", "equivalent", "opposite", "inconclusive")
CELL_COLUMNS = ("value", "low", "high", "n", "missing", "diverged", "outcome", "fails", "blocks")
TAIL = (1 - CONFIDENCE) / 2
CLEAR_LEAD = 0.1  # of adjusted mutual information, by which one factor is better than the next
THRESHOLDS = (0.5, 2.0)  # times the smallest effect, at which verdicts are shown too


class Verdict(NamedTuple):
    """A judged claim."""

    claim: Claim
    #: One of `VERDICTS`.
    verdict: str
    #: Median over the cells, with the least and the largest; of one cell, its interval.
    estimate: Estimate
    reason: str
    #: One row per cell: its axes and `CELL_COLUMNS`.
    cells: pd.DataFrame
    #: Adjusted mutual information of each axis with whether the claim holds.
    factors: Mapping[str, float] = {}
    #: The verdict at half and at twice the smallest effect.
    at_thresholds: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of cells with each outcome."""
        found = self.cells["outcome"] if len(self.cells) else pd.Series(dtype=str)
        return {name: int((found == name).sum()) for name in OUTCOMES}

    @property
    def has_effect(self) -> bool:
        """Whether a cell has an effect on either side, which no cell of a control may have."""
        return self.counts["beyond"] + self.counts["opposite"] > 0

    def entry(self) -> dict[str, Any]:
        """Return the claim's entry in ``claims.json``."""
        claim, (value, low, high, n) = self.claim, self.estimate
        return {
            "id": claim.id,
            "models": claim.models,
            "quote": claim.quote,
            "quantifier": claim.quantifier,
            "verdict": self.verdict,
            "median": _finite_or_none(value),
            "range": [_finite_or_none(low), _finite_or_none(high)],
            "n": n,
            "cells": len(self.cells),
            **self.counts,
            "at_half_threshold": self.at_thresholds[0] if self.at_thresholds else None,
            "at_twice_threshold": self.at_thresholds[1] if self.at_thresholds else None,
            "reason": self.reason,
            "factors": {axis: round(value, 3) for axis, value in self.factors.items()},
            "measure": list(claim.measure),
            "smallest_effect": claim.smallest,
            "smallest_effect_reason": claim.reason,
            "null": claim.null,
            "expect": claim.expect,
            "control": claim.control,
            "blocks": list(claim.blocks),
        }


# Judging --------------------------------------------------------------------------------------


def judge_all(results: Results, claims: Sequence[Claim]) -> list[Verdict]:
    """Judge every claim from stored runs."""
    found: dict[int, Verdict] = {}
    for blocks in dict.fromkeys(claim.blocks for claim in claims):
        # One table at a time: together they would take gigabytes.
        table = Table(results, blocks) if blocks else None
        for place, claim in enumerate(claims):
            if claim.blocks == blocks:
                found[place] = _with_reasons(judge(claim, table), results)
    return [found[place] for place in range(len(claims))]


def _with_reasons(verdict: Verdict, results: Results) -> Verdict:
    """Add why the measure is undefined for some runs, if some cells have no value at all."""
    if not len(verdict.cells) or verdict.cells["n"].min() > 0:
        return verdict
    some, _ = unmeasured(verdict.claim, list(results.by_id.values()), results.study.record)
    return verdict._replace(reason="; ".join([verdict.reason, *some]))


def judge(claim: Claim, table: Table | None) -> Verdict:
    """Judge one claim from the runs of its blocks, or from recorded processes."""
    if claim.not_testable:
        return _not_testable(claim, claim.not_testable)
    if claim.recorded:
        return judge_samples(claim, _of_processes(claim), [])
    if table is None:
        return _not_testable(claim, "it names no blocks")
    if lacking := _lacking(claim, table.runs):
        return _not_testable(claim, lacking)
    found, notes = samples(claim, table)
    if not found:
        return _not_testable(claim, "no run of its blocks matches the claim")
    return judge_samples(claim, found, [*notes, *_beside(claim, table)])


def _beside(claim: Claim, table: Table) -> list[str]:
    """Say the median of each measure that is shown beside a claim."""
    said = []
    for name in claim.beside:
        found, _ = samples(replace(claim, measure=(name,)), table)
        known = [sample.confidence.value for sample in found]
        known = [value for value in known if np.isfinite(value)]
        if known:
            middle, low, high = np.median(known), min(known), max(known)
            text = f"beside it, {name.replace('_', ' ')}: median {middle:.3g}"
            said.append(text + (f" ({low:.3g} to {high:.3g})" if len(known) > 1 else ""))
    return said


def judge_samples(claim: Claim, found: Sequence[Sample], notes: Sequence[str]) -> Verdict:
    """Judge a claim from the samples of its cells."""
    cells = cells_of(claim, found, claim.smallest)
    verdict, how = _rule(claim, cells, found, claim.smallest)
    others = tuple(
        _rule(claim, cells_of(claim, found, x), found, x)[0]
        for x in (factor * claim.smallest for factor in THRESHOLDS)
    )
    counts = cells["outcome"].value_counts()
    outcomes = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if name in counts)
    factors = _factors(claim, cells)
    parts = [
        f"{pluralize(len(cells), 'cell')}: {outcomes}",
        *how,
        *_by_value(claim, cells, factors),
    ]
    estimate = _median(cells)
    return Verdict(claim, verdict, estimate, "; ".join([*parts, *notes]), cells, factors, others)


def _not_testable(claim: Claim, reason: str) -> Verdict:
    return Verdict(claim, "not testable", UNKNOWN, reason, pd.DataFrame())


def _of_processes(claim: Claim) -> list[Sample]:
    """Return a sample for each part of what was recorded: whether it is that of the first."""
    found = []
    for part, equal in processes(claim.recorded).items():
        known = part_of(equal, share=True)
        assert known is not None
        confidence = Confidence(float(equal.mean()), len(equal), (known,), (1.0,))
        seeds = np.arange(1, len(equal) + 1)
        found.append(Sample({"recorded": part}, seeds, equal, confidence, 0.0, 0.0))
    return found


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


# Cells ----------------------------------------------------------------------------------------


def cells_of(claim: Claim, found: Sequence[Sample], smallest: float) -> pd.DataFrame:
    """Return a row for each cell: its axes, estimate, outcome, and whether it surely fails.

    The intervals are of each cell by itself; the outcomes are corrected over all cells.
    """
    tests = np.array([_tests(claim, sample.confidence, smallest) for sample in found])
    above, below, over, under = (_holm(column) <= TAIL for column in tests.T)
    outcome = np.select([above, under, below & over], ["beyond", "opposite", "equivalent"], "")
    outcome = np.where(outcome == "", "inconclusive", outcome)
    fails = below if claim.expect == "beyond" else above | under
    rows = [
        {
            **sample.axes,
            **sample.confidence.estimate()._asdict(),
            "missing": sample.missing,
            "diverged": sample.diverged,
        }
        for sample in found
    ]
    blocks = [", ".join(sample.blocks) for sample in found]
    return pd.DataFrame(rows).assign(outcome=outcome, fails=fails, blocks=blocks)


def _tests(claim: Claim, confidence: Confidence, smallest: float) -> tuple[float, ...]:
    """Return the p-values of: not above the band, not below its top, not above its bottom, not
    below the band. All are towards the side of the claim.
    """
    top = claim.null + claim.sign * smallest
    bottom = claim.null - claim.sign * smallest
    less, more = confidence.at_most, confidence.at_least
    if claim.sign < 0:
        less, more = more, less
    return less(top), more(top), less(bottom), more(bottom)


def _holm(values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted over the cells of a claim (Holm 1979).

    As statsmodels' ``multipletests(values, method="holm")``, which collects garbage at each call
    and made three quarters of the time of judging.
    """
    order, n = np.argsort(values), len(values)
    adjusted = np.empty(n)
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(n, 0, -1))
    return np.minimum(adjusted, 1.0)


def _median(cells: pd.DataFrame) -> Estimate:
    """Return the median over the cells with its range; of one cell, its interval."""
    known = cells["value"].dropna()
    n = int(cells["n"].median())
    if len(cells) == 1:
        value, low, high = cells[["value", "low", "high"]].iloc[0]
        return Estimate(float(value), float(low), float(high), n)
    if known.empty:
        return UNKNOWN
    return Estimate(float(known.median()), float(known.min()), float(known.max()), n)


# The rule -------------------------------------------------------------------------------------


def _rule(
    claim: Claim, cells: pd.DataFrame, found: Sequence[Sample], smallest: float
) -> tuple[str, list[str]]:
    """Return the verdict by the claim's quantifier, and what else decided it."""
    holds, fails = cells["outcome"] == claim.expect, cells["fails"].astype(bool)
    if claim.quantifier == "sometimes":
        known = "supported" if holds.any() else "refuted" if fails.all() else "inconclusive"
        return known, []
    if claim.quantifier == "always":
        known = "refuted" if fails.any() else "supported" if holds.all() else "inconclusive"
        return known, []
    return _usually(claim, holds, fails, _share_of_runs(claim, found, smallest))


def _usually(
    claim: Claim, holds: pd.Series, fails: pd.Series, share: Estimate
) -> tuple[str, list[str]]:
    """Judge by whether more than half of the runs, and of the cells, are as the claim says."""
    runs = f"{share.value:.0%} of the runs ({share.low:.0%} to {share.high:.0%})"
    if share.low > 0.5 and holds.mean() > 0.5:
        return "supported", [runs]
    if share.high < 0.5 or fails.mean() >= 0.5:
        return "refuted", [runs]
    return "inconclusive", [runs]


def _share_of_runs(claim: Claim, found: Sequence[Sample], smallest: float) -> Estimate:
    """Return the share of runs that are as the claim says, each seed one observation."""
    parts = [
        pd.DataFrame({"seed": sample.seeds, "value": _as_said(claim, sample.values, smallest)})
        for sample in found
        if len(sample.values)
    ]
    if not parts:
        return UNKNOWN
    by_seed = pd.concat(parts).dropna().groupby("seed")["value"].mean().to_numpy()
    part = part_of(by_seed, share=True)
    if part is None:
        return UNKNOWN
    return Confidence(float(by_seed.mean()), len(by_seed), (part,), (1.0,)).estimate()


def _as_said(claim: Claim, values: np.ndarray, smallest: float) -> np.ndarray:
    if claim.of_shares and claim.expect == "beyond":
        return values if claim.sign > 0 else 1 - values
    effect = claim.sign * (values - claim.null)
    inside = np.abs(effect) <= smallest
    said = effect > smallest if claim.expect == "beyond" else inside
    return np.where(np.isnan(values), np.nan, said)


# Factors --------------------------------------------------------------------------------------


def axes_of(cells: pd.DataFrame) -> list[str]:
    """Return the columns of a table of cells that are axes."""
    return [str(name) for name in cells if name not in CELL_COLUMNS]


def _factors(claim: Claim, cells: pd.DataFrame) -> dict[str, float]:
    """Return each axis' mutual information with whether the claim holds, adjusted for chance.

    Vinh, Epps and Bailey 2010; 1 is an axis that says it all, 0 one that says nothing. Empty if
    all cells agree.
    """
    decided = cells[(cells["outcome"] != "inconclusive")]
    holds = decided["outcome"] == claim.expect
    if holds.all() or not holds.any():
        return {}
    known = {
        axis: float(adjusted_mutual_info_score(decided[axis].astype(str), holds))
        for axis in axes_of(cells)
        if decided[axis].nunique() > 1
    }
    return dict(sorted(known.items(), key=lambda item: -item[1]))


def _by_value(claim: Claim, cells: pd.DataFrame, factors: Mapping[str, float]) -> list[str]:
    """Say along which factor cells differ, if one is clearly better than the next."""
    if not factors:
        return []
    (axis, most), *rest = factors.items()
    if rest and most - rest[0][1] < CLEAR_LEAD:
        return ["no single factor tells the cells apart"]
    holds = (cells["outcome"] == claim.expect).groupby(cells[axis].astype(str), sort=False)
    counts = holds.agg(["sum", "count"])
    parts = [f"{value}: {row['sum']} of {row['count']}" for value, row in counts.iterrows()]
    return [f"by {axis.replace('_', ' ')}: {', '.join(parts)}"]


def _finite_or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# Comparing ------------------------------------------------------------------------------------


def changed_claims(stored: Any, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each claim whose entry differs from the stored one.

    Verdicts must be equal. Medians may differ by a tenth of the range or by 1 %, as float32 does
    between versions and machines.
    """
    with error_context("claims.json", TypeError, KeyError, AttributeError):
        before = {_key(entry): entry for entry in stored}
        keys = {_key(entry) for entry in entries}
        lines = [f"{_named(key)}: stored, but no longer declared" for key in before.keys() - keys]
        for entry in entries:
            lines += _changes(before.get(_key(entry)), entry)
        return sorted(lines)


def _key(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["id"], entry["models"]


def _named(key: tuple[str, str]) -> str:
    return key[0] if key[1] == "linear" else f"{key[0]} ({key[1]})"


def _changes(stored: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> list[str]:
    name = _named(_key(entry))
    if stored is None:
        return [f"{name}: declared, but not stored"]
    changed = [key for key in ("verdict", "quantifier") if stored[key] != entry[key]]
    changed += [] if _close(stored, entry) else ["median"]
    return [f"{name}: {key} is {entry[key]}, stored {stored[key]}" for key in changed]


def _close(stored: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    one, two = stored["median"], entry["median"]
    if one is None or two is None:
        return one is two
    low, high = stored["range"]
    width = high - low if None not in (low, high) else 0.0
    return abs(one - two) <= max(0.1 * width, 0.01 * abs(one), 1e-9)
