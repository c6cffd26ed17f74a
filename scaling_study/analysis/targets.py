"""The benchmark's times to other targets than a problem's own, from the traces of its runs.

A target lies at a share of the decades between the loss of the best constant and the target of the
problem, both counted from the least loss where the target is a tolerance, and from 0 where it is a
loss. A time is the first
traced update from which the loss stays below the target. Traces have a point every few updates,
so that times are too long by less than that, and a loss that rises between two points is not seen;
they are kept of the first seeds alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.analysis.benchmark import SET, rule_of
from scaling_study.analysis.scale_sensitivity import VALUES, Grid
from scaling_study.storage.columns import TracedLosses
from scaling_study.storage.results import Results
from scaling_study.study.conditions import Condition

Array = NDArray[np.float64]
SHARES = (0.25, 0.5, 0.75, 1.0, 1.25)  # of the decades; above 1 is harder than the problem's own


class Cell(NamedTuple):
    """Where the runs of a condition are in the grids of a benchmark."""

    problem: str
    optimizer: str
    scale: int
    rate: int


def grids_at(
    results: Results, found: dict[str, dict[str, Grid]], shares: Sequence[float] = SHARES
) -> dict[float, dict[str, dict[str, Grid]]]:
    """Return the grids of the traced seeds with the times to each target.

    Parameters
    ----------
    results : Results
    found : dict of str to dict of str to Grid
        As of `scaling_study.analysis.benchmark.grids_of`.
    shares : sequence of float

    Returns
    -------
    dict of float to dict
        By share; empty if no whole set of seeds is traced.
    """
    cells = {
        name: _cell(found, condition)
        for name, condition in results.by_id.items()
        if condition.block in found
    }
    times = {
        (problem, name): np.full((len(shares), *grid.updates.shape), np.nan)
        for problem, grids in found.items()
        for name, grid in grids.items()
    }
    seeds = next(iter(next(iter(found.values())).values())).seeds
    traced = np.zeros(len(seeds), bool)
    for part in results.traced_losses():
        reached = [first_below(part, bound) for bound in _bounds(results, part, shares)]
        columns = np.searchsorted(seeds, part.seed)
        traced[columns] = True
        for name, rows in _rows_by_condition(part.condition).items():
            if cell := cells.get(name):
                array = times[cell.problem, cell.optimizer]
                array[:, cell.scale, cell.rate, columns[rows]] = np.array(reached)[:, rows]
    traced &= np.isin(seeds, seeds[: traced.sum() // SET * SET])  # whole sets of seeds
    if not traced.any():
        return {}
    return {
        share: {
            problem: {
                name: _of_seeds(grid._replace(updates=times[problem, name][place]), traced)
                for name, grid in grids.items()
            }
            for problem, grids in found.items()
        }
        for place, share in enumerate(shares)
    }


def first_below(part: TracedLosses, bound: Array) -> Array:
    """Return the first update from which each run's loss stays below its bound, or infinity."""
    above = ~(part.loss <= bound[:, None])  # true for NaN, from where a run has diverged
    after = above.shape[1] - above[:, ::-1].argmax(axis=1)  # the last point above, and one more
    after = np.where(above.any(axis=1), after, 0)
    return np.append(part.update, np.inf)[after]


def _bounds(results: Results, part: TracedLosses, shares: Sequence[float]) -> list[Array]:
    """Return the bound of each run's loss for each share."""
    given = [results.by_id[str(name)] for name in part.condition]
    explicit = np.array(
        [c.target_loss if c.target_loss != "none" else np.nan for c in given], float
    )
    tolerance = np.array([c.tolerance for c in given])
    by_tolerance = np.isnan(explicit)
    least = np.where(by_tolerance, part.loss_least, 0.0)
    span = part.loss_null - least
    of_target = np.where(by_tolerance, tolerance, explicit / part.loss_null)
    return [least + span * of_target**share for share in shares]


def _cell(found: dict[str, dict[str, Grid]], condition: Condition) -> Cell:
    name = rule_of(str(condition.optimizer))
    grid = found[condition.block][name]
    scale = int(np.searchsorted(grid.scales, condition.scale_factor))
    return Cell(
        condition.block, name, scale, int(np.searchsorted(grid.rates, condition.learning_rate))
    )


def _rows_by_condition(names: NDArray[np.str_]) -> dict[str, NDArray[np.intp]]:
    known, place = np.unique(names, return_inverse=True)
    return {str(name): np.flatnonzero(place == i) for i, name in enumerate(known)}


def _of_seeds(grid: Grid, kept: NDArray[np.bool_]) -> Grid:
    return grid._replace(**{name: getattr(grid, name)[..., kept] for name in (*VALUES, "seeds")})
