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
from scaling_study.storage.schema import FEATURE_COLUMNS
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
        One row a run: ``condition, seed``, outcomes, every axis (``updates`` is the budget), and
        each feature column twice: ``weight_last`` of the feature that the study scales, and
        ``weight_first`` of the other one, NaN unless there are two features.
    conditions : dict of str to Condition
        By id.
    """

    def __init__(self, results: Results, blocks: Sequence[str] = ()) -> None:
        wanted = list(blocks) or list(results.study.blocks)
        runs, features = (
            frame[frame["block"].isin(wanted).to_numpy()]
            for frame in (results.runs, results.features)
        )
        self.runs = runs.reset_index(drop=True)
        names = map(str, runs["condition"].unique())
        self.conditions = {name: results.by_id[name] for name in names}
        for name, values in self._feature_columns(features).items():
            self.runs[name] = values
        budget = self.by_condition(lambda condition, _: condition.updates)
        self.runs["updates"] = pd.Categorical(budget.astype(int))

    def _feature_columns(self, features: pd.DataFrame) -> dict[str, Array]:
        """Return each feature column of the two features, one value a run."""
        number = self.by_condition(lambda c, _: feature_count(c)).astype(int)
        scaled = self.by_condition(lambda c, _: feature_pair(c)[1]).astype(int)
        start = np.cumsum(number) - number  # features are in the order of their runs
        pair = number == 2
        columns = {}
        shares = [str(name) for name in features if str(name).startswith("share_")]
        for name in (*FEATURE_COLUMNS, *shares):
            values = features[name].to_numpy(np.float64)
            columns[f"{name}_last"] = values[start + scaled]
            other = values[start + np.where(pair, 1 - scaled, 0)]
            columns[f"{name}_first"] = np.where(pair, other, np.nan)
        return columns

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, name: str) -> Array:
        """Return a numeric column."""
        return self.runs[name].to_numpy(np.float64)

    def take(self, rows: Any) -> "Table":
        """Return the table of a subset of the runs, by mask or index."""
        subset = object.__new__(Table)
        subset.runs = self.runs[rows].reset_index(drop=True)
        subset.conditions = self.conditions
        return subset

    @cached_property
    def diverged(self) -> Mask:
        """Whether a run diverged."""
        return (self.runs["status"].astype(str) == "diverged").to_numpy()

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
        given = (self.runs["target_loss"].astype(str) != "none").to_numpy()
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
        for name, rows in self.runs.groupby("condition", observed=True).indices.items():
            found[rows] = function(self.conditions[str(name)], self.seeds[rows])
        return found

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
