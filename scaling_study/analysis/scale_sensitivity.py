"""How much an optimizer loses when only the unit of a feature changes.

Every optimizer has the same grid of learning rates at every scale factor e. With Γ(e, h) the
share of the way to the target that a run has gone in decades of excess loss, and rates chosen on
half of the seeds (tuning) and reported on the others:

sensitivity
    Mean over e ≠ 1 of Γ(1, h₁) - Γ(e, h₁), h₁ the best rate at e = 1: what another unit costs
    whoever tuned once.
sensitivity_tuned
    The same of whoever tunes at every e: mean over e ≠ 1 of Γ(1, h₁) - Γ(e, hₑ).
phi
    Φ = mean over e of max_h Γ(e, h) - max_h mean over e of Γ(e, h): what tuning at every unit
    buys over one rate for all (Adkins et al. 2024, "A Method for Evaluating Hyperparameter
    Sensitivity in Reinforcement Learning").
basin_width
    Decades of learning rate within twice the fewest updates to the target, mean over e.
excess
    E_η, the share of the initial excess loss that is left, mean over all rates and e.
rate_slope_below, rate_slope_above
    Slope of log10 best rate on log10 e, up to e = 1 and from there. Every seed has best rates
    of its own, so that none has to choose for the others: these two rest on all seeds.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis import intervals
from scaling_study.analysis.intervals import Estimate
from scaling_study.analysis.metrics import (
    TOLERANCE,
    Table,
    log_steps,
)
from scaling_study.analysis.tuning import best_index, tuning_seeds
from scaling_study.errors import StudyError

Array = NDArray[np.float64]
DECADES = -np.log10(TOLERANCE)  # of excess loss, from the start to the target
REFERENCE = 1.0  # the scale factor at which whoever tunes once has tuned
TRAINS = 0.5  # of the way at the reference, below which nothing is there to lose
PROGRESS = 0.01  # of the way, below which an optimizer has gone nowhere
WITHIN = 2.0  # times the fewest updates, in a basin
STATUSES = ("ranked", "not trained", "diverged", "failed")
LOSSES = ("sensitivity", "sensitivity_tuned", "phi")  # of which nothing lost reads as best
ESTIMATES = (
    *(
        "sensitivity",
        "sensitivity_tuned",
        "phi",
        "tuned_at_reference",
        "tuned_everywhere",
        "one_rate",
    ),
    *("basin_width", "excess", "rate_slope_below", "rate_slope_above", "diverged"),
)


class Grid(NamedTuple):
    """One optimizer's runs, as arrays of E scale factors, H learning rates and S seeds.

    Attributes
    ----------
    scales, rates, seeds : ndarray of shape (E,), (H,), (S,)
        In ascending order.
    gone : ndarray of shape (E, H, S)
        Γ, in [0, 1]: 1 where a thousandth of the initial excess loss is left, 0 where all is.
    left : ndarray of shape (E, H, S)
        Share of the initial excess loss, in [0, 1].
    updates : ndarray of shape (E, H, S)
        To the target, infinite beyond the budget.
    diverged, failed : ndarray of shape (E, H, S)
        1 or 0; a run that failed counts as diverged, too.
    """

    scales: Array
    rates: Array
    seeds: Array
    gone: Array
    left: Array
    updates: Array
    diverged: Array
    failed: Array

    @property
    def tuning(self) -> NDArray[np.bool_]:
        """Which seeds choose rates, the first half; the others are reported on."""
        return tuning_seeds(self.seeds)

    @property
    def best(self) -> NDArray[np.intp]:
        """The best rate's place at each scale, by the mean of Γ over the tuning seeds."""
        return best_index(self.gone[..., self.tuning].mean(axis=-1))

    @property
    def edge(self) -> NDArray[np.bool_]:
        """Where the best rate is an end of the grid, so that it is a bound."""
        return (self.best == 0) | (self.best == len(self.rates) - 1)

    @property
    def status(self) -> str:
        """One of `STATUSES`.

        ``failed`` where every run failed. ``diverged`` where no rate makes progress at any
        scale factor, and runs diverged. ``not trained`` where the best rate goes less than half
        of the way at scale factor 1.
        """
        if self.failed.all():
            return "failed"
        if self.gone.mean(axis=-1).max() < PROGRESS and self.diverged.any():
            return "diverged"
        home = self.scales == REFERENCE
        reached = self.gone[home, self.best[home]][..., ~self.tuning].mean()
        return "ranked" if reached >= TRAINS else "not trained"


def remaining(table: Table) -> Array:
    """Return the share of the initial excess loss that is left, 1 if more or diverged."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = table["excess_loss"] / (table["initial_loss"] - table["loss_ols"])
    return np.where(table.completed & (share < 1), np.maximum(share, 0), 1.0)


def grids(table: Table) -> dict[str, Grid]:
    """Return each optimizer's runs as arrays.

    Parameters
    ----------
    table : Table
        Of one model, problem and budget, every scale factor with every rate and seed.

    Raises
    ------
    StudyError
        If conditions of an optimizer differ in something else, or cells are missing.
    """
    steps, left = 10 ** log_steps(table), remaining(table)
    frame = pd.DataFrame(
        {
            "optimizer": table.runs["optimizer"].astype(str).to_numpy(),
            "scale": table["scale_factor"],
            "rate": table["learning_rate"],
            "seed": table.seeds,
            "gone": -np.log10(np.maximum(left, TOLERANCE)) / DECADES,
            "left": left,
            "updates": steps,
            "diverged": (~table.completed).astype(np.float64),  # or failed, which is no better
            "failed": (table.runs["status"] == "failed").to_numpy(np.float64),
        }
    )
    return {str(name): _grid(str(name), own) for name, own in frame.groupby("optimizer")}


def _grid(name: str, own: pd.DataFrame) -> Grid:
    keys = ["scale", "rate", "seed"]
    axes = [np.unique(own[key]) for key in keys]
    shape = tuple(len(axis) for axis in axes)
    if len(own) != np.prod(shape) or own.duplicated(keys).any():
        raise StudyError(
            f"optimizer {name}: its sensitivity needs every scale factor with every learning rate,"
            " and nothing else that varies"
        )
    ordered = own.sort_values(keys)
    values = [
        ordered[column].to_numpy(np.float64).reshape(shape)
        for column in ("gone", "left", "updates", "diverged", "failed")
    ]
    return Grid(*axes, *values)


# What is measured of one optimizer: one value for each seed that is reported on ----------------


def per_seed(grid: Grid) -> dict[str, Array]:
    """Return each quantity of `ESTIMATES` but the slopes, a value for each reported seed.

    Raises
    ------
    StudyError
        If the scale factor 1, at which rates are tuned once, is not there.
    """
    if REFERENCE not in grid.scales:
        raise StudyError("sensitivity needs scale_factor 1 among the others")
    home = int(np.flatnonzero(grid.scales == REFERENCE)[0])
    told = ~grid.tuning
    gone = grid.gone[..., told]
    scales = np.arange(len(grid.scales))
    one = int(best_index(grid.gone[..., grid.tuning].mean(axis=(0, 2))))
    away = scales != home
    kept = gone[:, grid.best[home]]
    everywhere = gone[scales, grid.best].mean(axis=0)
    return {
        "sensitivity": (kept[home] - kept[away]).mean(axis=0),
        "sensitivity_tuned": (kept[home] - gone[scales, grid.best][away]).mean(axis=0),
        "phi": everywhere - gone[:, one].mean(axis=0),
        "tuned_at_reference": kept[home],
        "tuned_everywhere": everywhere,
        "one_rate": gone[:, one].mean(axis=0),
        "basin_width": _basin_width(grid, told),
        "excess": grid.left[..., told].mean(axis=(0, 1)),
        "diverged": grid.diverged[..., told].mean(axis=(0, 1)),
    }


def _basin_width(grid: Grid, told: NDArray[np.bool_]) -> Array:
    """Return the decades of rate within twice a seed's fewest updates; 0 where none arrives."""
    updates = grid.updates[..., told]
    fewest = updates.min(axis=1, keepdims=True)
    inside = np.isfinite(updates) & (updates <= WITHIN * fewest)
    log = np.log10(grid.rates)
    # Each rate stands for the way half to its neighbours.
    edges = np.concatenate([log[:1], (log[1:] + log[:-1]) / 2, log[-1:]])
    return (inside * np.diff(edges)[:, None]).sum(axis=1).mean(axis=0)


def rate_slope(grid: Grid, *, above: bool) -> Estimate:
    """Return the slope of log10 best rate on log10 scale factor, over seeds.

    Each seed has its own best rates: the fewest updates, where it arrives. For gradient descent
    on features of like variance it is -2 above scale factor 1 and 0 below.

    Parameters
    ----------
    grid : Grid
    above : bool
        From scale factor 1 on, or up to it.
    """
    chosen = grid.scales >= REFERENCE if above else grid.scales <= REFERENCE
    updates = grid.updates[chosen]
    arrives = np.isfinite(updates).any(axis=1)
    scale, seed = np.nonzero(arrives)
    best = np.log10(grid.rates)[updates.argmin(axis=1)[scale, seed]]
    log = np.log10(grid.scales[chosen])[scale]
    if len(np.unique(log)) < 2:
        return Estimate(np.nan, np.nan, np.nan, 0)
    return intervals.slope(log, best, grid.seeds[seed])


# The leaderboard ------------------------------------------------------------------------------


def leaderboard(found: dict[str, Grid]) -> pd.DataFrame:
    """Return a row for each optimizer, the least sensitive first.

    One that goes less than half of the way at scale factor 1 has nothing to lose: it has no rank
    and no sensitivity. One all of whose runs failed or diverged has no numbers at all. They come
    last.

    Parameters
    ----------
    found : dict of str to Grid
        From `grids`.

    Returns
    -------
    DataFrame
        ``rank, optimizer, status`` (one of `STATUSES`); each of `ESTIMATES` with ``_low`` and
        ``_high``, its 95 % interval over the reported seeds, of slopes over all seeds, NaN where
        there is none; ``rates``, how many were tried at each scale factor; ``edges``, at how
        many scale factors the best is an end of the grid; ``n``, the reported seeds.
    """
    frame = pd.DataFrame([_row(name, grid) for name, grid in found.items()])
    frame["order"] = frame["status"].map(STATUSES.index)
    frame = frame.sort_values(["order", "sensitivity"], kind="stable")
    ranked = frame.pop("order").to_numpy() == 0
    rank = [place if own else pd.NA for place, own in enumerate(ranked, start=1)]
    frame = frame.reset_index(drop=True)
    frame.insert(0, "rank", pd.Series(rank, dtype="Int64"))
    return frame


def _row(name: str, grid: Grid) -> dict[str, Any]:
    estimates = {key: intervals.mean(values) for key, values in per_seed(grid).items()}
    estimates["rate_slope_below"] = rate_slope(grid, above=False)
    estimates["rate_slope_above"] = rate_slope(grid, above=True)
    status = grid.status
    empty = {"ranked": (), "not trained": LOSSES}.get(status, ESTIMATES)
    row: dict[str, Any] = {"optimizer": name, "status": status}
    for key in ESTIMATES:
        value, low, high, _ = (np.nan,) * 4 if key in empty else estimates[key]
        row |= {key: value, f"{key}_low": low, f"{key}_high": high}
    edges = grid.edge.sum() if status in STATUSES[:2] else np.nan
    told = int((~grid.tuning).sum())
    return row | {"rates": len(grid.rates), "edges": edges, "n": told}


def progress_by_rate(found: dict[str, Grid]) -> pd.DataFrame:
    """Return a row for each optimizer, scale factor and rate, over the reported seeds.

    Returns
    -------
    DataFrame
        ``optimizer, scale_factor, learning_rate, gone, diverged, best, edge``.
    """
    parts = []
    for name, grid in found.items():
        told = ~grid.tuning
        scales, rates = np.meshgrid(grid.scales, grid.rates, indexing="ij")
        best = np.arange(len(grid.rates)) == grid.best[:, None]
        best &= grid.status in STATUSES[:2]  # otherwise no rate is better than another
        parts.append(
            pd.DataFrame(
                {
                    "optimizer": name,
                    "scale_factor": scales.ravel(),
                    "learning_rate": rates.ravel(),
                    "gone": grid.gone[..., told].mean(axis=-1).ravel(),
                    "diverged": grid.diverged[..., told].mean(axis=-1).ravel(),
                    "best": best.ravel(),
                    "edge": (best & grid.edge[:, None]).ravel(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def progress_by_scale(found: dict[str, Grid]) -> pd.DataFrame:
    """Return Γ at each scale factor with the rate tuned at 1, and with one tuned there.

    Returns
    -------
    DataFrame
        ``optimizer, scale_factor, tuned`` ("once" or "at every unit"), ``value, low, high, n``.
    """
    rows = []
    for name, grid in found.items():
        home = int(np.flatnonzero(grid.scales == REFERENCE)[0])
        gone = grid.gone[..., ~grid.tuning]
        for place, scale in enumerate(grid.scales):
            chosen = {"once": grid.best[home], "at every unit": grid.best[place]}
            for tuned, rate in chosen.items():
                estimate = intervals.mean(gone[place, rate])
                axes = {"optimizer": name, "scale_factor": scale, "tuned": tuned}
                rows.append(axes | estimate._asdict())
    return pd.DataFrame(rows)
