"""The claims of a study on fresh seeds, beside those on its own.

Of two estimates of the same truth, the second lies outside the first's 95 % interval in about 17 %
of cases, because both vary. So it is the interval of their difference that counts, which 5 % leave.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling_study.analysis.verdicts import Verdict, axes_of
from scaling_study.errors import StudyError

EXPECTED = 0.05  # share of differences outside their interval if nothing but the seeds differs


class Confirmation(NamedTuple):
    """What fresh seeds say of a study's claims."""

    #: One row a claim and kind of models: ``id, models, first, second, flipped, cells, outside``.
    claims: pd.DataFrame
    #: One row a cell: ``id, models``, its axes as text, both estimates, ``outside``.
    cells: pd.DataFrame

    @property
    def flips(self) -> pd.DataFrame:
        """The claims whose verdict differs."""
        return self.claims[self.claims["flipped"]]

    @property
    def outside(self) -> pd.DataFrame:
        """The cells whose difference is outside its interval."""
        return self.cells[self.cells["outside"]]

    def lines(self) -> list[str]:
        """Return what a person reads: each flip, each cell outside, and the counts."""
        flips = [
            f"{row['id']} ({row['models']}): {row['first']}, on fresh seeds {row['second']}"
            for row in self.flips.to_dict("records")
        ]
        cells = [
            f"{row['id']} ({row['models']}), {row['cell']}: {row['value']:.3g}, on fresh seeds"
            f" {row['value_fresh']:.3g}"
            for row in self.outside.to_dict("records")
        ]
        share = self.cells["outside"].mean() if len(self.cells) else 0.0
        counts = (
            f"{len(flips)} of {len(self.claims)} verdicts differ; {len(cells)} of"
            f" {len(self.cells)} estimates ({share:.1%}) are outside the interval of the"
            f" difference, {EXPECTED:.0%} are expected"
        )
        return [*flips, *cells, counts]


def compare(first: Sequence[Verdict], second: Sequence[Verdict]) -> Confirmation:
    """Compare judged claims with the same claims on fresh seeds.

    Raises
    ------
    StudyError
        If the claims are not the same.
    """
    if [found.claim for found in first] != [found.claim for found in second]:
        raise StudyError("the fresh seeds were judged by other claims; confirm the study again")
    rows, parts = [], []
    for one, other in zip(first, second, strict=True):
        cells = _cells(one, other)
        parts.append(cells)
        rows.append(
            {
                "id": one.claim.id,
                "models": one.claim.models,
                "first": one.verdict,
                "second": other.verdict,
                "flipped": one.verdict != other.verdict,
                "cells": len(cells),
                "outside": int(cells["outside"].sum()) if len(cells) else 0,
            }
        )
    known = [part for part in parts if len(part)]
    return Confirmation(pd.DataFrame(rows), pd.concat(known, ignore_index=True))


def _cells(one: Verdict, other: Verdict) -> pd.DataFrame:
    if not len(one.cells) or not len(other.cells):
        return pd.DataFrame()
    numbers = ["value", "low", "high", "outcome"]
    keyed = []
    for verdict in (one, other):
        axes = axes_of(verdict.cells)
        text = [
            ", ".join(f"{axis} {row[axis]}" for axis in axes if str(row[axis]) != "nan")
            for row in verdict.cells.to_dict("records")
        ]
        keyed.append(verdict.cells[numbers].assign(cell=text))
    both = keyed[0].merge(keyed[1], on="cell", suffixes=("", "_fresh"))
    reach = np.hypot(_reach(both, ""), _reach(both, "_fresh"))
    with np.errstate(invalid="ignore"):
        outside = (both["value"] - both["value_fresh"]).abs() > reach
    columns = {"id": one.claim.id, "models": one.claim.models, "outside": outside}
    return both.assign(**columns)


def _reach(both: pd.DataFrame, suffix: str) -> pd.Series:
    """Return how far each interval reaches towards the other estimate."""
    up = both["value_fresh"] > both["value"] if not suffix else both["value"] > both["value_fresh"]
    value = both[f"value{suffix}"]
    return np.where(up, both[f"high{suffix}"] - value, value - both[f"low{suffix}"])  # type: ignore[return-value]
