"""The runs of some blocks, one row a run, with the columns of two features side by side."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling_study.analysis import theory
from scaling_study.analysis.summary import DIVERGED_OR_FAILED
from scaling_study.storage.results import Results
from scaling_study.study import draws
from scaling_study.study.component import Component
from scaling_study.study.conditions import Condition, problem_of, shape_of

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Seeds = NDArray[np.int64]


class Table:
    """The runs of some blocks, with their outcomes, axes and features.

    Parameters
    ----------
    results : Results
    blocks : sequence of str
        All blocks if empty.

    Attributes
    ----------
    runs : DataFrame
        One row a run: ``condition, seed``, outcomes, every axis (``updates`` is the budget).
        Columns of features are had by ``table["weight_last"]``, see `Results.pairs`.
    conditions : dict of str to Condition
        By id.
    """

    def __init__(self, results: Results, blocks: Sequence[str] = ()) -> None:
        wanted = list(blocks) or list(results.study.blocks)
        codes = results.runs["block"].cat.codes.to_numpy()
        chosen = np.isin(results.runs["block"].cat.categories, wanted)[codes]
        self.runs = results.runs[chosen].reset_index(drop=True)
        self._pairs, self._rows = results.pairs, np.flatnonzero(chosen)
        names = map(str, self.runs["condition"].unique())
        self.conditions = {name: results.by_id[name] for name in names}
        budget = self.by_condition(lambda condition, _: condition.updates)
        self.runs["updates"] = pd.Categorical(budget.astype(int))

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, name: str) -> Array:
        """Return a numeric column of the runs, or of `Results.pairs`."""
        if name in self.runs:
            return self.runs[name].to_numpy(np.float64)
        return self._pairs[name].to_numpy()[self._rows].astype(np.float64)

    def __contains__(self, name: str) -> bool:
        """Say whether there is a column of this name."""
        return name in self.runs or name in self._pairs

    def take(self, rows: Any) -> "Table":
        """Return the table of a subset of the runs, by mask or index."""
        rows = np.asarray(rows)
        if rows.dtype.kind == "b":
            if rows.all():
                return self  # no copy of what may be a million runs
            rows = np.flatnonzero(rows)
        subset = object.__new__(Table)
        subset.runs = self.runs.iloc[rows].reset_index(drop=True)
        subset._pairs, subset._rows = self._pairs, self._rows[rows]
        subset.conditions = self.conditions
        return subset

    @cached_property
    def diverged(self) -> Mask:
        """Whether a run diverged."""
        return (self.runs["status"] == "diverged").to_numpy()

    @cached_property
    def completed(self) -> Mask:
        """Whether a run neither diverged nor failed."""
        return ~self.runs["status"].isin(DIVERGED_OR_FAILED).to_numpy()

    def if_completed(self, values: Array) -> Array:
        """Return values with NaN where a run diverged or failed."""
        return np.where(self.completed, values, np.nan)

    @cached_property
    def has_target(self) -> Mask:
        """Whether a run had a target: its minimum loss is known, or its study set one."""
        given = (self.runs["target_loss"] != "none").to_numpy()
        return given | np.isfinite(self["loss_least"])

    @cached_property
    def seeds(self) -> Seeds:
        """Each run's seed."""
        return self.runs["seed"].to_numpy(np.int64)

    def by_condition(
        self, function: Callable[[Condition, Seeds], Any], shape: tuple[int, ...] = ()
    ) -> Array:
        """Return ``function(condition, seeds)`` of each condition's runs, shape (n, *shape)."""
        found = np.full((len(self), *shape), np.nan)
        for name, rows in self.places.items():
            found[rows] = function(self.conditions[name], self.seeds[rows])
        return found

    @cached_property
    def places(self) -> dict[str, NDArray[np.intp]]:
        """The rows of each condition's runs."""
        code, ids = self.condition_codes
        ordered = np.argsort(code, kind="stable")
        parts = np.split(ordered, np.cumsum(np.bincount(code))[:-1])
        return dict(zip(ids, parts, strict=True))

    @cached_property
    def condition_codes(self) -> tuple[NDArray[np.intp], list[str]]:
        """The place of each run's condition among the ids, in the order of the runs."""
        code, ids = pd.factorize(self.runs["condition"])
        return code, [str(name) for name in ids]

    @cached_property
    def covariance(self) -> Array:
        """Covariance of the two features in canonical units, shape (n, 2, 2)."""

        def of_pair(condition: Condition, seeds: Seeds) -> Array:
            whole = _covariances(condition.problem, condition.data_seed, tuple(seeds.tolist()))
            pair = list(feature_pair(condition))
            return whole[:, np.array(pair)[:, None], pair]

        return self.by_condition(of_pair, (2, 2))

    @cached_property
    def scales(self) -> Array:
        """Factor from canonical to observed units of the two features, shape (n, 2)."""
        first = self.by_condition(
            lambda c, _: problem_of(c.problem).reference_scale[feature_pair(c)[0]]
        )
        return np.stack([first, self["scale_factor"]], axis=-1)

    def function_weights(self, name: str) -> Array:
        """Return the two weights per canonical unit; ``name`` is in units of the data."""
        return self.scales * np.stack([self[f"{name}_first"], self[f"{name}_last"]], axis=-1)


def feature_count(condition: Condition) -> int:
    """Return the number of features of a condition's problem."""
    return shape_of(condition.problem)[1]


def feature_pair(condition: Condition) -> tuple[int, int]:
    """Return the index of another feature (the other one, of two) and of the scaled feature."""
    scaled = problem_of(condition.problem).scaled_feature
    return int(scaled == 0), scaled


@lru_cache(maxsize=256)
def _covariances(problem: Component, data_seed: int | str, seeds: tuple[int, ...]) -> Array:
    return theory.covariance(draws.rows_of(problem, data_seed, seeds).u)
