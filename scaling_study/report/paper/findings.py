"""The three findings that lead the paper, from judged claims.

They are about networks where a study judges claims of networks, else about linear models.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis.verdicts import Verdict

READ_OFF = ("weight", "gradient")  # importance that is read off weights and gradients
COMPUTED = "permutation"  # and off what a network computes


def facts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return the numbers of each finding, empty if the study has no claim about it."""
    by_name = {found.claim.name: found for found in verdicts}
    subject = "networks" if "C24-networks" in by_name else "linear"

    def cells(claim: str) -> pd.DataFrame:
        name = f"{claim}-networks" if subject == "networks" else claim
        found = by_name.get(name)
        return found.cells if found is not None else pd.DataFrame()

    return {
        "subject": {"networks": "networks", "linear": "a linear unit"}[subject],
        "training": _training(cells("C4"), cells("C7")),
        "importance": _importance(cells("C10")),
        "scaling": _scaling(cells("C24")),
    }


def _beyond(cells: pd.DataFrame) -> dict[str, int]:
    return {"beyond": int((cells["outcome"] == "beyond").sum()), "cells": len(cells)}


def _training(gradients: pd.DataFrame, steps: pd.DataFrame) -> dict[str, Any]:
    """Return the median ratio of gradients, and in how many cells raw inputs are slower."""
    if not len(gradients) or not len(steps):
        return {}
    return {
        "ratio": float(10 ** gradients["value"].median()),
        "gradients": _beyond(gradients),
        "slower": _beyond(steps),
        "reverse": int((steps["outcome"] == "opposite").sum()),
    }


def _importance(cells: pd.DataFrame) -> dict[str, Any]:
    """Return the median change of each kind of importance, and how often it is beyond."""
    if not len(cells) or "measure" not in cells:
        return {}
    tuned = cells[cells["rates"] == "tuned"] if "rates" in cells else cells
    if "updates" in tuned:
        budget = tuned["updates"].astype(float)
        tuned = tuned[budget == budget.max()]
    kind = tuned["measure"].str.rpartition("_")[2]
    found = {
        name: {"change": float(part["value"].median()), **_beyond(part)}
        for name, part in tuned.groupby(kind)
    }
    read_off = tuned[kind.isin(READ_OFF)]
    if not len(read_off) or COMPUTED not in found:
        return {}
    read = {"change": float(read_off["value"].median()), **_beyond(read_off)}
    computed = found[COMPUTED]
    shares = [part["beyond"] / part["cells"] for part in (read, computed)]
    more = read["change"] > computed["change"] and shares[0] > shares[1]
    return {"read": read, "computed": computed, "more": more}


def _scaling(cells: pd.DataFrame) -> dict[str, Any]:
    """Return in how many cells scaling is better, by optimizer and choice of the rate."""
    if not len(cells) or not {"optimizer", "rates"} <= set(cells):
        return {}
    rows = [
        {
            "optimizer": str(optimizer),
            "rates": str(rates),
            "worse": int((part["outcome"] == "opposite").sum()),
            "median": float(np.median(part["value"].dropna())) if len(part) else np.nan,
            **_beyond(part),
        }
        for (optimizer, rates), part in cells.groupby(["optimizer", "rates"], sort=False)
    ]
    return {"by": rows, **_beyond(cells)}
