"""Sensitivity of an optimizer to the unit of a feature.

Every optimizer has the same grid of learning rates h at every scale factor e. The score Γ(e, h)
of a run lies in [0, 1]. It is the progress, the fraction of the decades of excess loss between its
start and its target that it covered, unless another is asked for, as the benchmark does
(`scaling_study.analysis.benchmark`). Rates are chosen on half of the seeds and reported on the
others:

sensitivity
    Mean over e ≠ 1 of Γ(1, h₁) - Γ(e, h₁), with h₁ the best rate at e = 1: the loss of progress
    without retuning.
sensitivity_tuned
    Mean over e ≠ 1 of Γ(1, h₁) - Γ(e, hₑ): the same with a rate tuned at every e.
phi
    Φ = mean over e of max_h Γ(e, h) - max_h mean over e of Γ(e, h): the gain from tuning at every
    e over one rate for all (Adkins et al. 2024, "A Method for Evaluating Hyperparameter
    Sensitivity in Reinforcement Learning").
basin_width
    Decades of learning rate within twice the fewest updates to the target, mean over e.
excess
    Share of the initial excess loss that remains, mean over all rates and e.
rate_slope_below, rate_slope_above
    Slope of log10 best rate on log10 e, up to e = 1 and from there. The best rates are each
    seed's own, so these two use all seeds.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis import intervals
from scaling_study.analysis.intervals import UNKNOWN, Estimate
from scaling_study.analysis.metrics import TOLERANCE, Table, log_steps
from scaling_study.analysis.tuning import best_index, tuning_seeds
from scaling_study.errors import StudyError

Array = NDArray[np.float64]
DECADES = -np.log10(TOLERANCE)  # of excess loss, from the start to the target
REFERENCE = 1.0  # the scale factor at which h₁ is tuned
TRAINS = 0.5  # progress at the reference, below which there is nothing to lose
PROGRESS = 0.01  # progress below which an optimizer does not train at all
WITHIN = 2.0  # times the fewest updates, in a basin
STATUSES = ("ranked", "not trained", "diverged", "failed")
WITH_RATES = STATUSES[:2]  # in the others no rate is better than another
LOSSES = ("sensitivity", "sensitivity_tuned", "phi")  # 0 also where nothing is trained
VALUES = ("score", "remaining", "updates", "diverged", "failed")
ESTIMATES = (
    *LOSSES,
    *("tuned_at_reference", "tuned_everywhere", "one_rate", "basin_width", "excess"),
    *("rate_slope_below", "rate_slope_above", "diverged"),
)


class Grid(NamedTuple):
    """One optimizer's runs, as arrays of E scale factors, H learning rates and S seeds."""

    #: Of shape (E,), (H,) and (S,), in ascending order.
    scales: Array
    rates: Array
    seeds: Array
    #: Γ in [0, 1], shape (E, H, S); 1 is best.
    score: Array
    #: Share of the initial excess loss in [0, 1], shape (E, H, S).
    remaining: Array
    #: To the target, infinite beyond the budget, shape (E, H, S).
    updates: Array
    #: 1 or 0, shape (E, H, S); a run that failed counts as diverged, too.
    diverged: Array
    failed: Array
    #: Which seeds choose rates, shape (S,); if None, the smaller half.
    tunes: NDArray[np.bool_] | None = None

    @property
    def tuning(self) -> NDArray[np.bool_]:
        """Which seeds choose rates; the others are reported."""
        return tuning_seeds(self.seeds) if self.tunes is None else self.tunes

    def fold(self, tuned_by: Sequence[int], reported: Sequence[int]) -> "Grid":
        """Return the grid of some seeds, of which the first group chooses rates."""
        used = np.isin(self.seeds, [*tuned_by, *reported])
        arrays = {name: getattr(self, name)[..., used] for name in (*VALUES, "seeds")}
        return self._replace(**arrays, tunes=np.isin(self.seeds[used], tuned_by))

    @property
    def reference(self) -> int:
        """Index of the scale factor 1."""
        if REFERENCE not in self.scales:
            raise StudyError("sensitivity needs scale_factor 1 among the others")
        return int(np.flatnonzero(self.scales == REFERENCE)[0])

    @property
    def best(self) -> NDArray[np.intp]:
        """Index of the best rate at each scale, by mean score over the tuning seeds."""
        return best_index(self.score[..., self.tuning].mean(axis=-1))

    @property
    def edge(self) -> NDArray[np.bool_]:
        """Whether the best rate is an end of the grid, so that it is a bound."""
        return (self.best == 0) | (self.best == len(self.rates) - 1)

    @property
    def status(self) -> str:
        """One of `STATUSES`.

        ``failed`` if every run failed; ``diverged`` if no rate makes progress at any scale factor
        and runs diverged; ``not trained`` if the progress at scale factor 1 is below one half.
        """
        if self.failed.all():
            return "failed"
        if self.score.mean(axis=-1).max() < PROGRESS and self.diverged.any():
            return "diverged"
        reference = self.reference
        reached = self.score[reference, self.best[reference], ~self.tuning].mean()
        return "ranked" if reached >= TRAINS else "not trained"


def remaining(table: Table) -> Array:
    """Return the share of the initial excess loss that remains, 1 if more or not completed."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = table["excess_loss"] / (table["initial_loss"] - table["loss_ols"])
    return np.where(table.completed & (share < 1), np.maximum(share, 0), 1.0)


def progress(table: Table) -> Array:
    """Return Γ of each run: 1 if at most a thousandth of the initial excess loss remains."""
    return -np.log10(np.maximum(remaining(table), TOLERANCE)) / DECADES


def grids(table: Table) -> dict[str, Grid]:
    """Return each optimizer's runs as arrays.

    Parameters
    ----------
    table : Table
        Of one model, problem and budget, every scale factor with every rate and seed.

    Raises
    ------
    StudyError
        If conditions of an optimizer differ in anything else, or cells are missing.
    """
    frame = pd.DataFrame(
        {
            "optimizer": table.runs["optimizer"].astype(str).to_numpy(),
            "scale": table["scale_factor"],
            "rate": table["learning_rate"],
            "seed": table.seeds,
            "score": progress(table),
            "remaining": remaining(table),
            "updates": 10 ** log_steps(table),
            "diverged": (~table.completed).astype(np.float64),
            "failed": (table.runs["status"] == "failed").to_numpy(np.float64),
        }
    )
    return {str(name): _grid(str(name), rows) for name, rows in frame.groupby("optimizer")}


def _grid(name: str, rows: pd.DataFrame) -> Grid:
    keys = ["scale", "rate", "seed"]
    axes = [np.unique(rows[key]) for key in keys]
    shape = tuple(len(axis) for axis in axes)
    if len(rows) != np.prod(shape) or rows.duplicated(keys).any():
        raise StudyError(
            f"optimizer {name}: its sensitivity needs every scale factor with every learning rate,"
            " and nothing else that varies"
        )
    ordered = rows.sort_values(keys)
    return Grid(*axes, *(ordered[key].to_numpy(np.float64).reshape(shape) for key in VALUES))


# Estimates of one optimizer -------------------------------------------------------------------


def per_seed(grid: Grid) -> dict[str, Array]:
    """Return the quantities of `ESTIMATES` without the slopes, a value for each reported seed."""
    reference, reported = grid.reference, ~grid.tuning
    score = grid.score[..., reported]
    scales = np.arange(len(grid.scales))
    others = scales != reference
    one = int(best_index(grid.score[..., grid.tuning].mean(axis=(0, 2))))
    one_rate = score[:, one].mean(axis=0)
    without_retuning = score[:, grid.best[reference]]
    retuned = score[scales, grid.best]
    at_reference = without_retuning[reference]
    return {
        "sensitivity": (at_reference - without_retuning[others]).mean(axis=0),
        "sensitivity_tuned": (at_reference - retuned[others]).mean(axis=0),
        "phi": retuned.mean(axis=0) - one_rate,
        "tuned_at_reference": at_reference,
        "tuned_everywhere": retuned.mean(axis=0),
        "one_rate": one_rate,
        "basin_width": _basin_width(grid.updates[..., reported], np.log10(grid.rates)),
        "excess": grid.remaining[..., reported].mean(axis=(0, 1)),
        "diverged": grid.diverged[..., reported].mean(axis=(0, 1)),
    }


def _basin_width(updates: Array, log_rates: Array) -> Array:
    """Return the decades of rate within twice a seed's fewest updates; 0 if no rate arrives."""
    fewest = updates.min(axis=1, keepdims=True)
    inside = np.isfinite(updates) & (updates <= WITHIN * fewest)
    # Each rate stands for the interval to half way to its neighbours.
    middles = (log_rates[1:] + log_rates[:-1]) / 2
    edges = np.concatenate([log_rates[:1], middles, log_rates[-1:]])
    return (inside * np.diff(edges)[:, None]).sum(axis=1).mean(axis=0)


def rate_slope(grid: Grid, *, above: bool) -> Estimate:
    """Return the slope of log10 best rate on log10 scale factor, over seeds.

    Each seed's best rate takes the fewest updates to the target. For gradient descent on features
    of equal variance the slope is -2 above scale factor 1 and 0 below. ``above`` selects the scale
    factors from 1 on, else up to 1.
    """
    chosen = grid.scales >= REFERENCE if above else grid.scales <= REFERENCE
    updates = grid.updates[chosen]
    scale, seed = np.nonzero(np.isfinite(updates).any(axis=1))
    best = np.log10(grid.rates)[updates.argmin(axis=1)[scale, seed]]
    log_scale = np.log10(grid.scales[chosen])[scale]
    if len(np.unique(log_scale)) < 2:
        return UNKNOWN
    return intervals.slope(log_scale, best, grid.seeds[seed])


# Tables ---------------------------------------------------------------------------------------


def leaderboard(found: dict[str, Grid]) -> pd.DataFrame:
    """Return a row for each optimizer, the least sensitive first.

    An optimizer that is not trained at scale factor 1 has no rank and no sensitivity; one whose
    runs all failed or diverged has no numbers at all. They come last.

    Returns
    -------
    DataFrame
        ``rank, optimizer, status`` (one of `STATUSES`); each of `ESTIMATES` with ``_low`` and
        ``_high``, its 95 % interval over the reported seeds (of slopes over all seeds), NaN if
        there is none; ``rates``, the number of learning rates; ``edges``, the number of scale
        factors whose best rate is an end of the grid; ``n``, the number of reported seeds.
    """
    frame = pd.DataFrame([_row(name, grid) for name, grid in found.items()])
    frame["order"] = frame["status"].map(STATUSES.index)
    frame = frame.sort_values(["order", "sensitivity"], kind="stable").reset_index(drop=True)
    ranked = frame.pop("order") == 0
    frame.insert(0, "rank", pd.Series(frame.index + 1, dtype="Int64").where(ranked))
    return frame


def _row(name: str, grid: Grid) -> dict[str, Any]:
    estimates = {key: intervals.mean(values) for key, values in per_seed(grid).items()}
    estimates["rate_slope_below"] = rate_slope(grid, above=False)
    estimates["rate_slope_above"] = rate_slope(grid, above=True)
    status = grid.status
    empty = {"ranked": (), "not trained": LOSSES}.get(status, ESTIMATES)
    row: dict[str, Any] = {"optimizer": name, "status": status}
    for key in ESTIMATES:
        value, low, high, _ = UNKNOWN if key in empty else estimates[key]
        row |= {key: value, f"{key}_low": low, f"{key}_high": high}
    edges = grid.edge.sum() if status in WITH_RATES else np.nan
    return row | {"rates": len(grid.rates), "edges": edges, "n": int((~grid.tuning).sum())}


def progress_by_rate(found: dict[str, Grid]) -> pd.DataFrame:
    """Return a row for each optimizer, scale factor and rate, over the reported seeds.

    Returns
    -------
    DataFrame
        ``optimizer, scale_factor, learning_rate, gone`` (progress), ``diverged, best, edge``.
    """
    parts = []
    for name, grid in found.items():
        scales, rates = np.meshgrid(grid.scales, grid.rates, indexing="ij")
        best = np.arange(len(grid.rates)) == grid.best[:, None]
        best &= grid.status in WITH_RATES
        columns = {
            "scale_factor": scales,
            "learning_rate": rates,
            "gone": grid.score[..., ~grid.tuning].mean(axis=-1),
            "diverged": grid.diverged[..., ~grid.tuning].mean(axis=-1),
            "best": best,
            "edge": best & grid.edge[:, None],
        }
        parts.append(
            pd.DataFrame({"optimizer": name} | {key: x.ravel() for key, x in columns.items()})
        )
    return pd.concat(parts, ignore_index=True)


def progress_by_scale(found: dict[str, Grid]) -> pd.DataFrame:
    """Return the progress at each scale factor with the rate tuned at 1, and with one tuned there.

    Returns
    -------
    DataFrame
        ``optimizer, scale_factor, tuned`` ("once" or "at every unit"), ``value, low, high, n``.
    """
    rows = []
    for name, grid in found.items():
        progress = grid.score[..., ~grid.tuning]
        for place, scale in enumerate(grid.scales):
            chosen = {"once": grid.best[grid.reference], "at every unit": grid.best[place]}
            for tuned, rate in chosen.items():
                axes = {"optimizer": name, "scale_factor": scale, "tuned": tuned}
                rows.append(axes | intervals.mean(progress[place, rate])._asdict())
    return pd.DataFrame(rows)
