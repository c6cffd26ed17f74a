"""Choosing a learning rate: half of the seeds tunes, the other half is reported on."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from scaling_study.analysis.metrics import Table, excess_share, log_steps
from scaling_study.study.study import AXES

RATES = ("all", "default", "tuned")
CELL_AXES = (*AXES.keys() - {"epochs"}, "block")
# What Keras trains with where nobody says otherwise.
DEFAULT_RATES = {"adam": 1e-3, "rmsprop": 1e-3, "sgd": 1e-2, "momentum": 1e-2}
ALIKE = 1e-9  # scores nearer to each other than this are a tie


def tuning_seeds(seeds: ArrayLike) -> NDArray[np.bool_]:
    """Return which seeds tune: the smaller half, and one fewer where their number is odd.

    Parameters
    ----------
    seeds : array-like of int, shape (n,)
        In any order; a seed may be there many times.

    Returns
    -------
    ndarray of bool, shape (n,)
        The others are reported on.
    """
    own = np.asarray(seeds)
    return own < np.median(np.unique(own))


def best_index(scores: ArrayLike) -> Any:
    """Return the place of the best score along the last axis, the middle one of those alike.

    Many rates may go all the way; the middle one is a cautious choice and is not at the edge
    merely through a tie.

    Parameters
    ----------
    scores : array-like of shape (..., n)
        Finite; the larger the better.

    Returns
    -------
    ndarray of int, shape (...)
        Places, from 0.
    """
    own = np.asarray(scores, np.float64)
    places = np.arange(own.shape[-1])
    alike = own >= own.max(axis=-1, keepdims=True) - ALIKE
    middle = (places * alike).sum(axis=-1) / alike.sum(axis=-1)
    distance = np.where(alike, np.abs(places - middle[..., None]), np.inf)
    return distance.argmin(axis=-1)


def select_learning_rates(table: Table, rates: str) -> tuple[Table, list[str]]:
    """Return the runs of every rate, of the default rates, or of those that tuning picks.

    Parameters
    ----------
    table : Table
    rates : {"all", "default", "tuned"}

    Returns
    -------
    table : Table
    notes : list of str
        How many tuned rates are bounds, because they are an end of their grid.
    """
    if rates == "all":
        return table, []
    rate = table["learning_rate"]
    if rates == "default":
        usual = table.runs["optimizer"].astype(str).map(DEFAULT_RATES).to_numpy(np.float64)
        return table.take(np.isclose(rate, usual)), []
    picked = tuned(table)
    keep = picked["chosen"].to_numpy()
    edges = int(picked["edge"].sum())
    note = f"{counted(edges, 'tuned rate')} of {int(picked['cells'].iloc[0])} on the grid's edge"
    return table.take(keep), [note] if edges else []


def tuned(table: Table) -> pd.DataFrame:
    """Return which runs are of the best learning rate of their cell, and judged.

    The first half of the seeds tunes, the second is reported on. Best is the least mean of the
    updates to the target, where a run that did not get there counts as its budget times
    ``1 + e / (1 + e)`` with e its excess share, 2 where it diverged; the middle one of rates
    that tie.

    Returns
    -------
    DataFrame
        In the order of the runs: ``chosen``; ``edge``, at one run of each cell whose best rate
        is an end of its grid, where it is a bound; ``cells``, how many there are.
    """
    runs = table.runs
    budget = table.by_condition(lambda c, _: np.float64(c.updates))
    steps = 10 ** log_steps(table)
    with np.errstate(divide="ignore"):
        late = 1 / (1 + 1 / excess_share(table))
    cost = np.where(np.isfinite(steps), steps, budget * (1 + late))
    of_rates = {*CELL_AXES} - {"learning_rate"}
    cell = runs.groupby([n for n in runs if n in of_rates], observed=True, sort=False).ngroup()
    rate, tunes = table["learning_rate"], tuning_seeds(table.seeds)
    frame = pd.DataFrame({"cell": cell.to_numpy(), "rate": rate, "cost": cost})
    costs = frame[tunes].groupby(["cell", "rate"])["cost"].mean().unstack().fillna(np.inf)
    best = pd.Series(costs.columns.to_numpy()[best_index(-costs)], index=costs.index)
    ends = frame.groupby("cell")["rate"].agg(["min", "max"])
    edge = (best == ends["min"]) | (best == ends["max"])
    chosen = (frame["cell"].map(best).to_numpy() == rate) & ~tunes
    first = ~frame["cell"].duplicated().to_numpy()
    on_edge = first & frame["cell"].map(edge).to_numpy(bool)
    return pd.DataFrame({"chosen": chosen, "edge": on_edge, "cells": len(best)})


def counted(n: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
