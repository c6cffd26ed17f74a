"""What the paper says of each claim: a plain line, its cells as a picture, rows of its table."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis.claims import MODELS, Claim
from scaling_study.analysis.tuning import pluralize
from scaling_study.analysis.verdicts import Verdict
from scaling_study.report.labels import MISSING, listing, number, slug

NAMES = {
    "linear": "linear unit",
    "networks": "networks",
    "tables": "real tables",
    "normalized": "batch norm",
    "clipped": "clipping",
}
# What a cell says of its claim: it holds there, or it surely does not, or neither is sure.
STANDINGS = HOLDS, CONTRADICTED, UNDECIDED = ("holds", "contradicted", "undecided")
# The unit of a measure, by how its name begins.
UNITS = {
    "log_": "decades (0.3 is a factor of two)",
    "size_of_distortion": "share of importance",
    "distortion": "share of importance",
    "lead_": "share of importance",
    "share_": "share",
    "first_weight": "weight",
    "first_miss": "coefficient",
    "rank_": "correlation",
}


def by_claim(verdicts: Iterable[Verdict]) -> dict[str, dict[str, Verdict]]:
    """Return the verdicts of each claim by the models they are about, in order."""
    found: dict[str, dict[str, Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.claim.id, {})[verdict.claim.models] = verdict
    return found


def plain(verdict: Verdict) -> str:
    """Return a verdict as one line that needs no statistics."""
    claim, cells = verdict.claim, len(verdict.cells)
    if verdict.verdict == "not testable":
        return f"Cannot be tested: {verdict.reason}."
    counts = standing(verdict).value_counts()
    holds, fails = (int(counts.get(name, 0)) for name in (HOLDS, CONTRADICTED))
    if claim.control:
        return _plain_control(verdict, holds, cells)
    if cells == 1:
        said = {"supported": "It holds", "refuted": "It does not hold"}.get(verdict.verdict)
        one = f"{said} in the one case that was tried"
        return f"{one}, read as {claim.quantifier}." if said else "Not decided in the one case."
    in_some = f"{holds} of {cells} cases"
    against = f"{fails} of {cells} cases surely contradict it"
    lines = {
        ("always", "supported"): f"It holds in all {cells} cases that were tried.",
        ("always", "refuted"): f"It does not always hold: {against}, {holds or 'none'} show it.",
        ("usually", "supported"): f"It usually holds: in {in_some}.",
        ("usually", "refuted"): f"It does not usually hold: it shows in {in_some}.",
        ("sometimes", "supported"): f"It happens: in {in_some}.",
        ("sometimes", "refuted"): f"It does not happen: in none of {cells} cases.",
    }
    undecided = f"Not decided: it shows in {in_some}, {fails} surely contradict it."
    return lines.get((claim.quantifier, verdict.verdict), undecided)


def _plain_control(verdict: Verdict, holds: int, cells: int) -> str:
    if verdict.has_effect:
        there = holds + verdict.counts["opposite"]
        return f"The control fails: {there} of {cells} cases have an effect."
    none = verdict.counts["equivalent"]
    return f"The control passes: no case has an effect, and {none} of {cells} surely have none."


def unit_of(claim: Claim) -> str:
    """Return the unit of what a claim measures."""
    if claim.recorded:
        return "share of processes"
    if claim.versus is not None and claim.versus.how == "improvement":
        return f"share of pairs in which {listing(list(claim.versus.others), 'or')} is better"
    if claim.slope_on is not None:
        return f"decades per decade of {claim.slope_on.replace('_', ' ')}"
    name = claim.measure[0].removeprefix("-") if claim.measure else ""
    for prefix, unit in UNITS.items():
        if name.startswith(prefix):
            return unit
    share = "share of trainings"
    return share if claim.versus is None else f"difference of the {share}"


def estimate_text(verdict: Verdict) -> str:
    """Return the median over the cells with its range, or one cell's estimate and interval."""
    value, low, high, _ = verdict.estimate
    if not np.isfinite(value):
        return MISSING
    if len(verdict.cells) == 1:
        return f"{number(value)} (95 % interval {number(low)} to {number(high)})"
    return f"{number(value)} (cells {number(low)} to {number(high)})"


def facts_of(verdict: Verdict) -> dict[str, Any]:
    """Return what is said of a claim and the models it is about."""
    claim = verdict.claim
    half, twice = verdict.at_thresholds or (MISSING, MISSING)
    return {
        "models": NAMES[claim.models],
        "verdict": verdict.verdict,
        "plain": plain(verdict),
        "estimate": estimate_text(verdict),
        "value": verdict.estimate.value,
        "unit": unit_of(claim),
        "null": number(claim.null),
        "smallest": number(claim.smallest),
        "why": claim.reason,
        "half": half,
        "twice": twice,
        "reason": verdict.reason,
        "cells": len(verdict.cells),
        "outcomes": listing([f"{n} {name}" for name, n in verdict.counts.items() if n]),
        "file": f"tables/claims/{claim.name}.csv",
        "blocks": claim.blocks,
        "anchor": slug(NAMES[claim.models]),
        "measure": listing([name.replace("_", " ") for name in claim.measure]),
        "missing": float(verdict.cells["missing"].max()) if len(verdict.cells) else 0.0,
        "beside": [part for part in verdict.reason.split("; ") if part.startswith("beside it")],
        "factors": listing(
            [
                f"{axis.replace('_', ' ')} {value:.2f}"
                for axis, value in list(verdict.factors.items())[:3]
            ]
        ),
    }


def standing(verdict: Verdict) -> pd.Series:
    """Return one of `STANDINGS` for each cell of a claim."""
    if not len(verdict.cells):
        return pd.Series(dtype=str)
    holds = verdict.cells["outcome"] == verdict.claim.expect
    found = np.select([holds, verdict.cells["fails"]], [HOLDS, CONTRADICTED], UNDECIDED)
    return pd.Series(found, index=verdict.cells.index)


def standings(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return a row per verdict: what of, and how many of its cells have each standing."""
    rows = [
        {
            "id": found.claim.id,
            "models": NAMES[found.claim.models],
            "verdict": found.verdict,
            **dict.fromkeys(STANDINGS, 0),
            **standing(found).value_counts(),
        }
        for found in verdicts
    ]
    return pd.DataFrame(rows)


def dots(found: dict[str, Verdict]) -> pd.DataFrame:
    """Return a row for each cell of a claim: models, estimate, standing, and the threshold band."""
    parts = []
    for models, verdict in found.items():
        if not len(verdict.cells):
            continue
        claim = verdict.claim
        frame = verdict.cells[["value", "low", "high"]].assign(
            standing=standing(verdict),
            models=NAMES[models],
            unit=unit_of(claim),
            null=claim.null,
            smallest=claim.smallest,
        )
        parts.append(frame)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def rows(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return the table of claims: a row each, with a column for each kind of models."""
    found = []
    for name, of_models in by_claim(verdicts).items():
        first = next(iter(of_models.values()))
        row = {
            "claim": name,
            "sentence": f"“{' '.join(first.claim.quote.split())}”\n{first.claim.quantifier}",
        }
        for models in MODELS:
            row[NAMES[models]] = _cell(of_models.get(models))
        found.append(row)
    return pd.DataFrame(found)


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return MISSING
    if not len(verdict.cells):
        return verdict.verdict
    counts = standing(verdict).value_counts()
    undecided = counts.get(UNDECIDED, 0)
    said = f"{counts.get(HOLDS, 0)} of {pluralize(len(verdict.cells), 'cell')}"
    return f"{verdict.verdict}\n{said}" + (f", {undecided} undecided" if undecided else "")
