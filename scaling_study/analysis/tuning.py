"""Choosing a learning rate: half of the seeds picks it, results are reported on the other half."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from scaling_study.analysis.metrics import Table, excess_share, log_steps
from scaling_study.study.study import AXES

RATES = ("all", "default", "tuned")
CELL_AXES = (*AXES.keys() - {"epochs"}, "block")
# The defaults of Keras' optimizers.
DEFAULT_RATES = {"adam": 1e-3, "rmsprop": 1e-3, "sgd": 1e-2, "momentum": 1e-2}
ALIKE = 1e-9  # scores nearer to each other than this are tied


def tuning_seeds(seeds: ArrayLike) -> NDArray[np.bool_]:
    """Return which seeds tune: the smaller half of the distinct ones, one fewer if odd."""
    values = np.asarray(seeds)
    return values < np.median(np.unique(values))


def best_index(scores: ArrayLike) -> Any:
    """Return the index of the best score along the last axis, the middle one of those tied.

    If many learning rates reach the target, the middle one is a cautious choice, and a tie does
    not put it at the edge of the grid. Larger scores are better.
    """
    values = np.asarray(scores, np.float64)
    index = np.arange(values.shape[-1])
    tied = values >= values.max(axis=-1, keepdims=True) - ALIKE
    middle = (index * tied).sum(axis=-1) / tied.sum(axis=-1)
    return np.where(tied, np.abs(index - middle[..., None]), np.inf).argmin(axis=-1)


def select_learning_rates(table: Table, rates: str) -> tuple[Table, list[str]]:
    """Return the runs at all learning rates, at the default ones, or at the tuned ones.

    The notes say how many tuned rates are bounds, because they are an end of their grid.
    """
    if rates == "all":
        return table, []
    if rates == "default":
        default = table.runs["optimizer"].astype(str).map(DEFAULT_RATES).to_numpy(np.float64)
        return table.take(np.isclose(table["learning_rate"], default)), []
    picked = tuned(table)
    edges = int(picked["edge"].sum())
    note = f"{pluralize(edges, 'tuned rate')} of {int(picked['cells'].iloc[0])} on the grid's edge"
    return table.take(picked["chosen"].to_numpy()), [note] if edges else []


def tuned(table: Table) -> pd.DataFrame:
    """Return which runs are at the tuned learning rate of their cell and on reported seeds.

    The tuned rate has the smallest mean cost over the tuning seeds, the middle one if some are
    tied. The cost is the number of updates to the target; of a run that does not reach it, the
    budget times ``1 + e / (1 + e)`` with e its excess share, twice the budget if it diverged.

    Returns
    -------
    DataFrame
        In the order of the runs: ``chosen``; ``edge``, true at one run of each cell whose tuned
        rate is an end of its grid, so that it is a bound; ``cells``, their number.
    """
    rate, tunes = table["learning_rate"], tuning_seeds(table.seeds)
    axes = [name for name in table.runs if name in CELL_AXES and name != "learning_rate"]
    cell = table.runs.groupby(axes, observed=True, sort=False).ngroup().to_numpy()
    frame = pd.DataFrame({"cell": cell, "rate": rate, "cost": _cost(table)})
    costs = frame[tunes].groupby(["cell", "rate"])["cost"].mean().unstack().fillna(np.inf)
    best = pd.Series(costs.columns.to_numpy()[best_index(-costs)], index=costs.index)
    ends = frame.groupby("cell")["rate"].agg(["min", "max"])
    edge = (best == ends["min"]) | (best == ends["max"])
    chosen = (frame["cell"].map(best).to_numpy() == rate) & ~tunes
    first = ~frame["cell"].duplicated().to_numpy()
    on_edge = first & frame["cell"].map(edge).to_numpy(bool)
    return pd.DataFrame({"chosen": chosen, "edge": on_edge, "cells": len(best)})


def _cost(table: Table) -> NDArray[np.float64]:
    budget = table.by_condition(lambda condition, _: condition.updates)
    steps = 10 ** log_steps(table)
    with np.errstate(divide="ignore"):
        late = 1 / (1 + 1 / excess_share(table))
    return np.where(np.isfinite(steps), steps, budget * (1 + late))


def pluralize(n: int, noun: str) -> str:
    """Return a number and a noun, plural unless the number is 1."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
