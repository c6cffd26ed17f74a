"""The ranking of optimizers by scale sensitivity: the study of that name, with others in it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from scaling_study.analysis import scale_sensitivity
from scaling_study.analysis.metrics import Table
from scaling_study.execution.runner import run
from scaling_study.storage.results import Results
from scaling_study.study.component import Component
from scaling_study.study.study import Study, read_study

BESIDE = ("adam", "sgd", "rmsprop")  # what every ranking has


def rank(*optimizers: Any, settings: list[str] | None = None, **options: Any) -> pd.DataFrame:
    """Return optimizers in the order of their scale sensitivity, with Adam, SGD and RMSprop.

    Parameters
    ----------
    *optimizers : str, dict or function
        Names, tables with hyperparameters, ``module:name``, or functions that take a learning
        rate and return an Optax transformation.
    settings : list of str, optional
        ``key=value`` overrides of the study ``sensitivity``.
    **options
        ``seeds, output_dir, overwrite, devices`` and others of `scaling_study.run`. The runs are
        stored in ``results/rank`` by default, which each ranking replaces.

    Returns
    -------
    DataFrame
        A row for each optimizer, as of `scaling_study.analysis.scale_sensitivity.leaderboard`.
    """
    options.setdefault("overwrite", options.get("output_dir") is None)
    return board(run(study_of(optimizers, settings), **options))


def study_of(optimizers: Sequence[Any], settings: list[str] | None = None) -> Study:
    """Return the study that ranks some optimizers."""
    study = read_study("sensitivity", [*(settings or []), "name=rank"])
    named = [part for value in (*BESIDE, *optimizers) for part in Component.expand(value)]
    distinct = list(dict.fromkeys(named))
    blocks = {name: {**grid, "optimizer": distinct} for name, grid in study.blocks.items()}
    return replace(study, blocks=blocks)


def board(results: Results) -> pd.DataFrame:
    """Return the ranking by the results of `study_of`."""
    return scale_sensitivity.leaderboard(scale_sensitivity.grids(Table(results)))
