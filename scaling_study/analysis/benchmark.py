"""The benchmark of sensitivity to the unit of a feature: time to a target, over many problems.

    runs ─► grids ─► scores (one row per optimizer, problem and seed) ─► everything else

The time T of a run is the number of updates to the target of its problem, the same for every unit,
start and optimizer. Its *time score* is ``log(B / T) / log(B / T*)``, within 0 and 1, with B the
budget and T* the fewest updates of any optimizer of the study in the reference unit: 1 is as fast
as the fastest, and 0 is the whole budget or more. The mean of the score over tasks is the area
under the performance profile of Dolan and Moré (2002) over log(T / T*), up to the budget, as in
AlgoPerf (Dahl et al. 2023).

*Sensitivity* is the share of the score in the reference unit that is lost in other units, with the
rate that is best in the reference unit: ``1 - Σ others / Σ reference``, sums over problems. 0 is
no loss, and 1 all of it.

Seeds are cut into sets of `SET` that share nothing; in each, one half chooses the rates by which
the other half is reported, and the other way round. So every seed is reported once, and two
halves of the sets are two repetitions of the whole benchmark.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis import scale_sensitivity
from scaling_study.analysis.metrics import Table
from scaling_study.analysis.scale_sensitivity import REFERENCE, Grid
from scaling_study.analysis.tuning import best_index
from scaling_study.errors import StudyError
from scaling_study.storage.results import Results
from scaling_study.study.controls import CONTROL
from scaling_study.study.study import Study

Array = NDArray[np.float64]
SET = 8  # seeds of a set, half of which choose the rates of the others
LISTED = "scaling_study.engine.hyperparameters:listed"
TIED = 0.02  # of the tuning score, within which rates are not told apart
AXES = ("optimizer", "problem", "fold", "seed")
SCORES = (
    *("reference", "others", "below", "above"),
    *("retuned", "one_rate", "default", "tied_low", "tied_high"),
)
DESCRIPTIONS = {
    "optimizer": "name, or package.module:factory",
    "problem": "block of the benchmark's study",
    "fold": "set of seeds and half, such as 0a: the rates are chosen by the set's other half",
    "seed": "seed that is reported",
    "reference": "time score in the reference unit, at the rate tuned there",
    "others": "mean time score in the other units, at the rate tuned in the reference unit",
    "below": "the same over units below 1",
    "above": "the same over units above 1",
    "retuned": "mean time score in the other units, each at the rate tuned in that unit",
    "one_rate": "the same, at the one rate that is best over all units together",
    "default": "the same, at the optimizer's default rate; empty if it has none",
    "tied_low": "least of `others` over rates whose tuning score is within 0.02 of the best",
    "tied_high": "largest of the same",
    "failed": "share of the runs of this optimizer, problem and seed that diverged or failed",
    "fastest": "T* of the problem, in updates",
}
# Where an optimizer has a default rate: that of its factory, else of Keras, else of PyTorch.
DEFAULTS = {
    **dict.fromkeys(("adam", "adamw", "nadam", "amsgrad", "adamax", "rmsprop", "adagrad"), 1e-3),
    **dict.fromkeys(("rmsprop_centred", "adadelta", "adafactor", "lion", "lamb", "radam"), 1e-3),
    **dict.fromkeys(("sgd", "momentum", "nesterov", "rprop"), 1e-2),
    **dict.fromkeys(("prodigy", "dadapt_adamw", "dowg", "cocob"), 1.0),
}


class Fold(NamedTuple):
    """Seeds that are reported, and those that choose their rates."""

    name: str
    tuned_by: tuple[int, ...]
    reported: tuple[int, ...]


def folds(seeds: Sequence[int], size: int = SET) -> list[Fold]:
    """Return two folds of each set of seeds: each half is reported, with the other's rates.

    Raises
    ------
    StudyError
        If the seeds are not one or more whole sets.
    """
    ordered = sorted(seeds)
    if not ordered or len(ordered) % size:
        raise StudyError(
            f"the benchmark needs sets of {size} seeds, half of which choose the rates of the"
            f" others, not {len(ordered)} seeds"
        )
    found = []
    for number, first in enumerate(range(0, len(ordered), size)):
        halves = [tuple(ordered[first + i : first + i + size // 2]) for i in (0, size // 2)]
        found += [Fold(f"{number}a", halves[1], halves[0]), Fold(f"{number}b", *halves)]
    return found


# From runs to scores --------------------------------------------------------------------------


def time_score(updates: Array, fastest: float, budget: float) -> Array:
    """Return ``log(B / T) / log(B / T*)`` within 0 and 1.

    It is 0 for a time beyond the budget, and for NaN, the time of a run that failed.
    """
    updates = np.nan_to_num(updates, nan=np.inf, posinf=np.inf)
    if not fastest < budget:
        return np.zeros(np.shape(updates))
    with np.errstate(divide="ignore"):
        return np.clip(np.log(budget / updates) / np.log(budget / fastest), 0.0, 1.0)


def least_updates(found: dict[str, Grid]) -> float:
    """Return T*: the least median over seeds of the updates in the reference unit.

    Over optimizers and rates; infinite if no rate reaches the target on most seeds.
    """
    medians = [
        np.median(np.nan_to_num(grid.updates[grid.reference], nan=np.inf, posinf=np.inf), axis=-1)
        for grid in found.values()
    ]
    return max(1.0, float(np.min(medians)))


def problems_of(study: Study) -> list[str]:
    """Return the blocks that are problems, without those of controls."""
    return [name for name in study.blocks if not name.endswith(CONTROL)]


def grids_of(results: Results) -> dict[str, dict[str, Grid]]:
    """Return each optimizer's runs of each problem, a block, with their times."""
    return {
        problem: {
            rule_of(name): grid
            for name, grid in scale_sensitivity.grids(Table(results, [problem])).items()
        }
        for problem in problems_of(results.study)
    }


def rule_of(name: str) -> str:
    """Return the name of the optimizer that `LISTED` tunes, and any other name as it is."""
    start = f"{LISTED}(rule="
    return name.removeprefix(start).removesuffix(")") if name.startswith(start) else name


def is_listed(study: Study) -> bool:
    """Return whether optimizers take their hyperparameters from a list of trials."""
    return any(o.name == LISTED for grid in study.blocks.values() for o in grid["optimizer"])


def stored_controls(results: Results) -> dict[str, dict[str, Grid]]:
    """Return the runs of the optimizers in blocks ``NAME-control``, by the problem ``NAME``."""
    return {
        problem: scale_sensitivity.grids(Table(results, [problem + CONTROL]))
        for problem in problems_of(results.study)
        if problem + CONTROL in results.study.blocks
    }


def budgets_of(results: Results) -> dict[str, float]:
    """Return the budget of each problem, in updates."""
    return {c.block: float(c.updates) for c in results.by_id.values()}


def controls(found: dict[str, dict[str, Grid]], name: str) -> dict[str, dict[str, Grid]]:
    """Return two methods that are made of one optimizer's runs, whose sensitivity is known.

    ``told the unit`` has the runs of the reference unit in every unit: an optimizer that is
    equivariant to units loses nothing. ``rate times unit`` has at rate h in unit s the runs at
    that rate of the grid which is nearest to h s; it loses most, unless the rate hardly matters.

    Parameters
    ----------
    found : dict of str to dict of str to Grid
        As of `grids_of`; problems without the optimizer are left out.
    name : str
        The optimizer.
    """
    return {
        problem: {"told the unit": _told(grids[name]), "rate times unit": _multiplied(grids[name])}
        for problem, grids in found.items()
        if name in grids
    }


def _told(grid: Grid) -> Grid:
    same = np.broadcast_to(grid.updates[grid.reference], grid.updates.shape)
    return grid._replace(updates=same)


def _multiplied(grid: Grid) -> Grid:
    wanted = np.log(grid.scales[:, None] * grid.rates)
    nearest = np.abs(wanted[..., None] - np.log(grid.rates)).argmin(axis=-1)
    return grid._replace(updates=grid.updates[np.arange(len(grid.scales))[:, None], nearest])


def scored(
    found: dict[str, dict[str, Grid]],
    budgets: dict[str, float],
    fastest: dict[str, float] | None = None,
    share: float = 1.0,
) -> Iterator[tuple[str, float, dict[str, Grid]]]:
    """Yield each problem's name, its T*, and each optimizer's runs with their time score.

    Parameters
    ----------
    found : dict of str to dict of str to Grid
        As of `grids_of`.
    budgets : dict of str to float
    fastest : dict of str to float, optional
        T* of problems; of the others, that of these runs.
    share : float
        Of each budget that counts; a later time is none.
    """
    for problem, grids in found.items():
        budget = share * budgets[problem]
        least = (fastest or {}).get(problem) or least_updates(grids)
        yield (
            problem,
            least,
            {
                name: grid._replace(score=time_score(grid.updates, least, budget))
                for name, grid in grids.items()
            },
        )


def scores(
    found: dict[str, dict[str, Grid]],
    budgets: dict[str, float],
    fastest: dict[str, float] | None = None,
    share: float = 1.0,
    defaults: Mapping[str, float] = DEFAULTS,
) -> pd.DataFrame:
    """Return a row for each optimizer, problem and reported seed; parameters as of `scored`.

    ``defaults`` are learning rates by optimizer.

    Returns
    -------
    DataFrame
        `AXES`, `SCORES`, ``failed`` and ``fastest``; see `DESCRIPTIONS`.
    """
    seeds = next(iter(next(iter(found.values())).values())).seeds
    cut = folds(seeds.astype(int).tolist())
    # Columns rather than frames: there are thousands of parts, of a few rows each.
    parts = [
        (_of_fold(grid, fold, defaults.get(name)), (name, problem, least))
        for problem, least, grids in scored(found, budgets, fastest, share)
        for name, grid in grids.items()
        for fold in cut
    ]
    names = ("optimizer", "problem", "fastest")
    columns = [
        {**part, **_repeated(dict(zip(names, key, strict=True)), len(part["seed"]))}
        for part, key in parts
    ]
    return _stacked(columns)[[*AXES, *SCORES, "failed", "fastest"]]


def _repeated(values: dict[str, Any], count: int) -> dict[str, NDArray[Any]]:
    return {name: np.full(count, value) for name, value in values.items()}


def fold_scores(grid: Grid, fold: Fold, default: float | None = None) -> pd.DataFrame:
    """Return the scores of one optimizer on one problem, a row for each seed a fold reports."""
    return pd.DataFrame(_of_fold(grid, fold, default))


def _of_fold(grid: Grid, fold: Fold, default: float | None) -> dict[str, NDArray[Any]]:
    """Return the columns of `fold_scores`."""
    part = grid.fold(fold.tuned_by, fold.reported)
    tuning, score = part.score[..., part.tuning], part.score[..., ~part.tuning]
    reference = part.reference
    once, scales = part.best[reference], np.arange(len(part.scales))
    kept, others = score[:, once], scales != reference
    retuned = score[scales, part.best]
    one = int(best_index(tuning.mean(axis=(0, 2))))
    at_reference = tuning[reference].mean(axis=-1)
    tied = score[:, at_reference >= at_reference.max() - TIED][others].mean(axis=0)
    at_default = np.full(score.shape[-1], np.nan)
    if default is not None and np.isclose(part.rates, default).any():
        at_default = score[others, int(np.isclose(part.rates, default).argmax())].mean(axis=0)
    seeds = part.seeds[~part.tuning].astype(int)
    return {
        "fold": np.full(len(seeds), fold.name),
        "seed": seeds,
        "reference": kept[reference],
        "others": kept[others].mean(axis=0),
        "below": _mean(kept[part.scales < REFERENCE]),
        "above": _mean(kept[part.scales > REFERENCE]),
        "retuned": retuned[others].mean(axis=0),
        "one_rate": score[others, one].mean(axis=0),
        "default": at_default,
        "tied_low": tied[tied.mean(axis=1).argmin()],
        "tied_high": tied[tied.mean(axis=1).argmax()],
        "failed": part.diverged[..., ~part.tuning].mean(axis=(0, 1)),
    }


def _stacked(parts: Sequence[Mapping[str, NDArray[Any]]]) -> pd.DataFrame:
    """Return parts with the same columns as one frame."""
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _mean(scores: Array) -> Array:
    return scores.mean(axis=0) if len(scores) else np.full(scores.shape[-1], np.nan)


def profiles(
    found: dict[str, dict[str, Grid]], budgets: dict[str, float], ratios: Array
) -> pd.DataFrame:
    """Return each optimizer's performance profile in the reference unit and in the others.

    Returns
    -------
    DataFrame
        ``optimizer, units`` ("reference", "below" or "above"), ``ratio`` and ``share``: of the
        tasks, a problem, unit and reported seed, each problem and unit with one weight, those
        with ``T <= ratio T*`` at the rate tuned in the reference unit.
    """
    rows = []
    for _, least, grids in scored(found, budgets):
        for name, grid in grids.items():
            for fold in folds(grid.seeds.astype(int).tolist()):
                part = grid.fold(fold.tuned_by, fold.reported)
                times = part.updates[:, part.best[part.reference]][:, ~part.tuning] / least
                arrived = (times[..., None] <= ratios).mean(axis=1)
                sides = {
                    "reference": part.scales == REFERENCE,
                    "below": part.scales < REFERENCE,
                    "above": part.scales > REFERENCE,
                }
                for units, chosen in sides.items():
                    key = {"optimizer": name, "units": units}
                    shares = {"ratio": ratios, "share": arrived[chosen].mean(axis=0)}
                    rows.append({**_repeated(key, len(ratios)), **shares})
    keys = ["optimizer", "units", "ratio"]
    return _stacked(rows).groupby(keys, sort=False)["share"].mean().reset_index()
