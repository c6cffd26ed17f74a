"""The ranking of optimizers: the benchmark's study with others in it, beside committed results."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from scaling_study.analysis import benchmark
from scaling_study.errors import StudyError, unknown
from scaling_study.execution.runner import run
from scaling_study.report.benchmark import data
from scaling_study.storage.results import Results
from scaling_study.study.component import Component
from scaling_study.study.study import Study, read_study

# The problems of each budget; those of ten features share their programs. None stands for all.
BUDGETS: dict[str, tuple[str, ...] | None] = {
    "quick": ("linear-2", "linear-10", "correlated-10", "diabetes", "logistic-10", "network-16"),
    "full": None,
}


def rank(
    *optimizers: Any,
    problems: Sequence[str] | None = None,
    budget: str = "full",
    **options: Any,
) -> pd.DataFrame:
    """Return optimizers in the order of their sensitivity to units, beside committed results.

    Only the optimizers that are given are trained.

    Parameters
    ----------
    *optimizers : str, dict or function
        Names, tables with hyperparameters, ``module:name`` or ``module.name``, or functions that
        take a learning rate and return an Optax transformation.
    problems : sequence of str, optional
        Problems of the benchmark, by default those of the budget.
    budget : {"quick", "full"}
        Six problems, or all of them.
    **options
        ``output_dir, overwrite, devices`` and others of `scaling_study.run`. The runs are stored
        in ``results/rank`` by default, which each ranking replaces.

    Returns
    -------
    DataFrame
        A row for each optimizer, as of `scaling_study.analysis.ranking.leaderboard`.

    Raises
    ------
    StudyError
        If an optimizer, a problem or a budget is unknown.
    """
    options.setdefault("overwrite", options.get("output_dir") is None)
    return board(run(study_of(optimizers, problems, budget), **options))


def study_of(
    optimizers: Sequence[Any], problems: Sequence[str] | None = None, budget: str = "full"
) -> Study:
    """Return the study that ranks some optimizers."""
    if not optimizers:
        raise StudyError("name an optimizer to rank, such as adam or my_module:factory")
    if budget not in BUDGETS:
        raise unknown("budget", budget, BUDGETS)
    known = read_study(data.PRESET)
    every = benchmark.problems_of(known)
    chosen = list(problems or BUDGETS[budget] or every)
    for name in chosen:
        if name not in every:
            raise unknown("problem of the benchmark", name, every)
    named = [part for value in optimizers for part in Component.expand(_reference(value))]
    distinct = list(dict.fromkeys(named))
    blocks = {
        name: {**known.blocks[name], "optimizer": distinct} for name in every if name in chosen
    }
    return replace(known, name="rank", blocks=blocks)


def _reference(value: Any) -> Any:
    """Return ``module.name`` as ``module:name``; no name of the registry has a point."""
    if not isinstance(value, str) or ":" in value or "." not in value.strip("."):
        return value
    module, _, name = value.rpartition(".")
    return f"{module}:{name}"


def board(results: Results) -> pd.DataFrame:
    """Return the ranking by the results of `study_of`, beside committed ones."""
    return data.frames(results).leaderboard
