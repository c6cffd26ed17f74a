"""Choosing a learning rate: half of the seeds picks it, results are reported on the other half."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from scaling_study.analysis.metrics import Table, log_steps, share_left
from scaling_study.study.study import AXES

RATES = ("all", "default", "tuned")
CELL_AXES = (*AXES.keys() - {"epochs"}, "block")
# The defaults of Keras' optimizers.
DEFAULT_RATES = {"adam": 1e-3, "rmsprop": 1e-3, "sgd": 1e-2, "momentum": 1e-2}
CLIPPED = "scaling_study.engine.optimizers:clipped"
DEFAULT_RATES |= {f"{CLIPPED}(rule={rule})": DEFAULT_RATES[rule] for rule in ("adam", "sgd")}
RESAMPLES = 200  # of the tuning seeds
TUNING_SEED = 17  # of the generator that resamples them
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
        kept = default_rates(table.runs["optimizer"], table.runs["learning_rate"])
        return table.take(kept), []
    picked = tuned(table)
    edges = int(picked["edge"].sum())
    note = f"{pluralize(edges, 'tuned rate')} of {int(picked['cells'].iloc[0])} on the grid's edge"
    return table.take(picked["chosen"].to_numpy()), [note] if edges else []


def default_rates(optimizers: pd.Series, rates: pd.Series) -> NDArray[np.bool_]:
    """Return which learning rates are the default of their optimizer."""
    default = optimizers.astype(str).map(DEFAULT_RATES).to_numpy(np.float64)
    return np.isclose(rates.astype(float), default)


class Choices(NamedTuple):
    """The tuned learning rate of each cell, and those that resampled tuning seeds choose."""

    cell: NDArray[Any]  # of each run
    rates: NDArray[np.float64]  # of the grid, in order
    best: NDArray[Any]  # index of the tuned rate of each cell
    resampled: NDArray[Any]  # (cells, RESAMPLES)
    edge: NDArray[np.bool_]  # of each cell, whether the tuned rate is an end of its grid


def choices(table: Table, resamples: int = RESAMPLES) -> Choices:
    """Return the tuned learning rates of a table's cells.

    The tuned rate has the smallest mean cost over the tuning seeds, the middle one if some are
    tied. The cost is the number of updates to the target; of a run that does not reach it, the
    budget times ``1 + e / (1 + e)`` with e the share of the loss that is left, twice the budget
    if it diverged. All cells share the resampled seeds, as they share the seeds.
    """
    tunes = tuning_seeds(table.seeds)
    axes = [name for name in table.runs if name in CELL_AXES and name != "learning_rate"]
    code, _ = table.condition_codes
    first = table.runs.iloc[np.unique(code, return_index=True)[1]]  # a run of each condition
    cell = first.groupby(axes, observed=True, sort=False).ngroup().to_numpy()[code]
    rates, rate = np.unique(table["learning_rate"], return_inverse=True)
    _, seed = np.unique(table.seeds[tunes], return_inverse=True)
    counts, costs = np.zeros((2, cell.max() + 1, len(rates), seed.max() + 1))
    np.add.at(costs, (cell[tunes], rate[tunes], seed), _cost(table)[tunes])
    np.add.at(counts, (cell[tunes], rate[tunes], seed), 1)
    present = counts.max(axis=2) > 0
    costs = costs / np.maximum(counts, 1)
    drawn = np.random.default_rng(TUNING_SEED).multinomial(
        costs.shape[2], np.full(costs.shape[2], 1 / costs.shape[2]), resamples
    )
    weights = np.vstack([np.ones(costs.shape[2]), drawn])

    def score(cost: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.where(there, -(weights @ cost.T) / costs.shape[2], -np.inf)

    picked = np.stack(
        [best_index(score(cost, there)) for cost, there in zip(costs, present, strict=True)]
    )
    ends = present.argmax(axis=1), len(rates) - 1 - present[:, ::-1].argmax(axis=1)
    best = picked[:, 0]
    return Choices(cell, rates, best, picked[:, 1:], (best == ends[0]) | (best == ends[1]))


def tuned(table: Table) -> pd.DataFrame:
    """Return which runs are at the tuned learning rate of their cell and on reported seeds.

    Returns
    -------
    DataFrame
        One row a run: ``chosen``; ``edge``, true at the first run of a cell whose tuned rate is
        the end of its grid, so that it is a bound; ``cells``, their number.
    """
    found = choices(table, resamples=0)
    best = found.rates[found.best[found.cell]]
    chosen = (table["learning_rate"] == best) & ~tuning_seeds(table.seeds)
    first = ~pd.Series(found.cell).duplicated().to_numpy()
    edge = first & found.edge[found.cell]
    return pd.DataFrame({"chosen": chosen, "edge": edge, "cells": len(found.best)})


def _cost(table: Table) -> NDArray[np.float64]:
    budget = table.by_condition(lambda condition, _: condition.updates)
    steps = 10 ** log_steps(table)
    with np.errstate(divide="ignore"):
        late = 1 / (1 + 1 / np.maximum(share_left(table), 0))
    late = np.where(np.isnan(late), 1.0, late)  # a run that failed is no better than a diverged one
    return np.where(np.isfinite(steps), steps, budget * (1 + late))


def pluralize(n: int, noun: str) -> str:
    """Return a number and a noun, plural unless the number is 1."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
