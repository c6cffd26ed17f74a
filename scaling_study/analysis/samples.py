"""The samples of a claim's cells: one value for each seed, from stored runs.

    Claim, Table ─► units ─► Sample of each cell

A unit is a condition or, where the learning rate is tuned, the conditions that differ in nothing
else, of which tuning seeds choose one. A cell is the units that share the values of the claim's
``by`` axes; in a comparison it has units on both sides, paired by seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis import intervals
from scaling_study.analysis.claims import Claim, word
from scaling_study.analysis.confidence import WIDEST, Confidence, Part, part_of, part_of_slope
from scaling_study.analysis.metrics import BOUNDS, MEASURES, Table
from scaling_study.analysis.registry import Bounds
from scaling_study.analysis.tuning import CELL_AXES, choices, default_rates, pluralize, tuning_seeds

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

CLAIM_SEED = 24  # of the generator that swaps labels within pairs at random
SHUFFLES = 64  # labellings of each pair whose mean is taken
COMPARE = {
    "difference": lambda a, b: a - b,
    "increase": lambda a, b: b - a,
    "improvement": lambda a, b: (b < a) + 0.5 * (a == b),
    "equal": lambda a, b: (a == b).astype(float),
}


class Sample(NamedTuple):
    """What the seeds say of a cell."""

    axes: dict[str, str]
    seeds: Rows
    values: Array  # one a seed, NaN where there is none; empty for a slope
    confidence: Confidence
    missing: float  # share of the seeds without a value
    diverged: float  # share of the cell's runs that diverged
    blocks: tuple[str, ...] = ()  # of the study, whose runs it has


class Units(NamedTuple):
    """The units of a table, and which condition each choice of a learning rate makes of them."""

    axes: pd.DataFrame  # one row a unit, text
    rows: Rows  # (units, 1 + resamples), a row of `Grid.axes`; the first is the actual choice
    seeds: NDArray[np.bool_]  # those that are reported


class Grid:
    """A table's conditions as rows and its seeds as columns."""

    def __init__(self, table: Table) -> None:
        self.table = table
        runs = table.runs
        names = [name for name in runs if name in CELL_AXES]
        self._row, self.ids = table.condition_codes
        first = np.unique(self._row, return_index=True)[1]
        self.axes = runs.loc[first, names].astype(str).reset_index(drop=True)
        self.blocks = self.axes["block"].to_numpy(object)
        self.seeds, self._column = np.unique(table.seeds, return_inverse=True)
        self.diverged = self.spread(table.diverged.astype(float))

    def spread(self, values: Array) -> Array:
        """Return one value a run as conditions by seeds, NaN where there is no run."""
        found = np.full((len(self.axes), len(self.seeds)), np.nan)
        found[self._row, self._column] = values
        return found

    def measured(self, name: str) -> Array:
        """Return a measure, conditions by seeds; a minus sign in front changes the sign."""
        values = self.spread(MEASURES[name.removeprefix("-")](self.table))
        return -values if name[0] == "-" else values

    def units(self, rates: str) -> tuple[Units, list[str]]:
        """Return the units at all learning rates, the default or the tuned ones, and notes."""
        everything = np.ones(len(self.seeds), bool)
        if rates == "tuned":
            return self._tuned()
        kept = np.arange(len(self.axes))
        if rates == "default":
            kept = kept[default_rates(self.axes["optimizer"], self.axes["learning_rate"])]
        axes = self.axes.iloc[kept].reset_index(drop=True)
        return Units(axes, kept[:, None], everything), []

    def _tuned(self) -> tuple[Units, list[str]]:
        found = choices(self.table)
        row_of = np.full((len(found.best), len(found.rates)), -1)
        rate = np.searchsorted(found.rates, self.table["learning_rate"])
        row_of[found.cell, rate] = self._row
        picked = np.column_stack([found.best, found.resampled])
        rows = np.take_along_axis(row_of, picked, axis=1)
        axes = self.axes.iloc[rows[:, 0]].drop(columns="learning_rate").reset_index(drop=True)
        edges = int(found.edge.sum())
        note = f"{pluralize(edges, 'tuned rate')} of {len(found.best)} on the grid's edge"
        reported = ~tuning_seeds(self.seeds)
        return Units(axes, rows, reported), [note] if edges else []


def samples(claim: Claim, table: Table) -> tuple[list[Sample], list[str]]:
    """Return the sample of each cell of a claim, and notes on learning rates."""
    grid, found, notes = Grid(table.take(matching(table.runs, claim.where))), [], []
    generator = np.random.default_rng(CLAIM_SEED)
    measured = {name: grid.measured(name) for name in claim.measure}
    for rates in claim.rates:
        units, more = grid.units(rates)
        notes += more
        for name, values in measured.items():
            extra = {"measure": name} if len(claim.measure) > 1 else {}
            extra |= {"rates": rates} if len(claim.rates) > 1 else {}
            for axes, sides in _cells(claim, units):
                cell = _Cell(claim, name, sides, units, values, grid)
                found.append(cell.sample(axes | extra, generator))
    return found, notes


def _cells(claim: Claim, units: Units) -> Iterator[tuple[dict[str, str], tuple[Rows, ...]]]:
    """Yield the axes of each cell and its units: one side, or the two that are compared."""
    versus = claim.versus
    by = [axis for axis in claim.by if axis in units.axes and (not versus or axis != versus.axis)]
    if versus is None:
        for key, rows in _groups(units.axes, by):
            yield key, (rows,)
        return
    columns = {str(axis): units.axes[axis].to_numpy(object) for axis in units.axes}
    words = units.axes[versus.axis].map(word).to_numpy(object)
    for key, _ in _groups(units.axes[words == versus.baseline], by):
        first = _where(columns, words == versus.baseline, key)
        for other in versus.others:
            second = _where(columns, words == other, key)
            if not len(second):  # a scaler undoes every factor alike, and one is run
                rest = {axis: value for axis, value in key.items() if axis != "scale_factor"}
                second = _where(columns, words == other, rest)
            if len(second):
                named = {versus.axis: other} if len(versus.others) > 1 else {}
                yield key | named, (first, second)


def _groups(axes: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, str], Rows]]:
    if not len(axes):
        return
    if not by:
        yield {}, np.arange(len(axes))
        return
    groups: Any = axes.groupby(list(by), sort=False, observed=True).indices
    for key, rows in groups.items():
        yield dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True)), rows


def _where(columns: Mapping[str, Any], mask: NDArray[np.bool_], key: dict[str, str]) -> Rows:
    for axis, value in key.items():
        mask = mask & (columns[axis] == value)
    return np.flatnonzero(mask)


class _Cell(NamedTuple):
    """A cell's units on one side, or on two."""

    claim: Claim
    measure: str
    sides: tuple[Rows, ...]
    units: Units
    values: Array
    grid: Grid

    def sample(self, axes: dict[str, str], generator: np.random.Generator) -> Sample:
        """Return what the seeds say of the cell."""
        picks = self.units.rows[np.concatenate(self.sides)]
        chosen = self._values(picks[:, 0], generator)
        parts, weights = self._parts(picks, chosen, generator)
        lost = self.grid.diverged[picks[:, 0]][:, self.units.seeds]
        seeds = self.grid.seeds[self.units.seeds]
        if self.claim.slope_on is not None:
            n, values, missing = len(seeds), np.empty(0), 1 - float(np.isfinite(chosen).mean())
        else:
            values = np.where(np.isfinite(chosen), chosen, np.nan)
            n = int(np.isfinite(values).sum())
            missing = 1 - n / max(1, len(values))
        confidence = Confidence(self._point(chosen), n, parts, weights)
        blocks = tuple(dict.fromkeys(self.grid.blocks[picks[:, 0]]))
        share = float(np.nanmean(lost))
        return Sample(axes, seeds, values, confidence, missing, share, blocks)

    def _parts(
        self, picks: Rows, chosen: Array, generator: np.random.Generator
    ) -> tuple[tuple[Part, ...], tuple[float, ...]]:
        """Return a part for each choice of rates that was made, and its weight."""
        choices, counts = np.unique(picks[:, 1:], axis=1, return_counts=True)
        if not counts.size:
            choices, counts = picks, np.ones(1)
        parts = []
        for rows in choices.T:
            same = np.array_equal(rows, picks[:, 0])
            part = self._part(chosen if same else self._values(rows, generator))
            if part is None:
                return (), ()
            parts.append(part)
        return tuple(parts), tuple(counts / counts.sum())

    def _values(self, rows: Rows, generator: np.random.Generator) -> Array:
        """Return the value of each seed, or of each unit and seed for a slope."""
        values = self.values[rows][:, self.units.seeds]
        if self.claim.slope_on is not None:
            return values
        ends = np.cumsum([len(side) for side in self.sides])[:-1]
        first, *others = [_mean(side) for side in np.split(values, ends)]
        return self._compared(first, others[0], generator) if others else first

    def _compared(self, first: Array, second: Array, generator: np.random.Generator) -> Array:
        assert self.claim.versus is not None
        compare = COMPARE[self.claim.versus.how]
        known = ~np.isnan(first) & ~np.isnan(second)
        with np.errstate(invalid="ignore"):
            value = compare(first, second)
            if self.claim.shuffled:
                swapped = generator.binomial(SHUFFLES, 0.5, size=len(first)) / SHUFFLES
                value = (1 - swapped) * value + swapped * compare(second, first)
        return np.where(known, value, np.nan)

    def _point(self, values: Array) -> float:
        if self.claim.slope_on is not None:
            return self._slope(values).value
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else np.nan

    def _part(self, values: Array) -> Part | None:
        if self.claim.slope_on is not None:
            return part_of_slope(self._slope(values))
        known = values[np.isfinite(values)]
        # The mean of many labellings of a pair says more than one of them does.
        share = self.claim.of_shares and not self.claim.shuffled
        return part_of(known, share=share, bounds=self._bounds())

    def _bounds(self) -> Bounds:
        low, high = BOUNDS.get(self.measure.removeprefix("-"), WIDEST)
        low, high = (-high, -low) if self.measure[0] == "-" else (low, high)
        return (low - high, high - low) if self.claim.versus is not None else (low, high)

    def _slope(self, values: Array) -> intervals.Estimate:
        axis: Any = self.claim.slope_on
        x = np.log10(self.units.axes[axis].iloc[self.sides[0]].astype(float).to_numpy())
        at, seed = np.broadcast_arrays(x[:, None], np.arange(values.shape[1]))
        known = np.isfinite(values)
        return intervals.slope(at[known], values[known], seed[known])


def _mean(values: Array) -> Array:
    """Return the mean over units; NaN if one of them is NaN."""
    return values[0] if len(values) == 1 else values.mean(axis=0)


def matching(runs: pd.DataFrame, where: Any) -> NDArray[np.bool_]:
    """Return which runs have these values of their axes."""
    chosen = np.ones(len(runs), bool)
    for axis, wanted in where.items():
        column = runs[axis].astype("category")
        known = [word(value) in wanted for value in column.cat.categories]
        chosen &= np.array(known, dtype=bool)[column.cat.codes.to_numpy()]
    return chosen
