"""The problems that a study names, and whether their data and scalers can be used."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from scaling_study.errors import StudyError
from scaling_study.study import checks, scalers, tables
from scaling_study.study.component import Component
from scaling_study.study.datasets import EVERY_PROBLEM
from scaling_study.study.problems import Problem
from scaling_study.study.study import Study
from scaling_study.study.values import error_context


def problem_of(component: Component) -> Problem:
    """Return the problem that a component names; its rows are float64 arrays."""
    if component.is_table:
        return checks.with_numbers(tables.problem(component))
    return _built(component) if component.is_code else _built_once(component)


def _built(component: Component) -> Problem:
    problem = component.build("problem", EVERY_PROBLEM)
    if not isinstance(problem, Problem):
        raise StudyError(f"problem {component.name!r} returns no scaling_study.Problem")
    with error_context(f"problem {component.name!r}"):
        return checks.with_numbers(problem)


_built_once = lru_cache(maxsize=256)(_built)  # the package's own never change


def user_problems(study: Study) -> dict[str, Problem]:
    """Return the problems of a study that are a user's own code, by their text."""
    named = {part for grid in study.blocks.values() for part in grid["problem"]}
    return {str(component): problem_of(component) for component in named if component.is_code}


@lru_cache(maxsize=64)
def shape_of(component: Component) -> tuple[int, int]:
    """Return the number of samples and of features of a problem."""
    problem = problem_of(component)
    with error_context(f"problem {component.name!r}", Exception):
        return checks.check_parts(problem)


@lru_cache(maxsize=256)
def check_data(component: Component, seeds: tuple[int, ...], importances: bool) -> None:
    """Refuse a problem whose rows of these seeds cannot be trained on."""
    shape_of(component)
    problem = problem_of(component)
    with error_context(f"problem {component.name!r}", Exception):
        checks.check_seeds(problem, seeds, importances=importances)


def check_scalers(cells: Iterable[tuple[Component, Component, float, float]]) -> None:
    """Refuse a scaler that fails on the data of every condition that names it.

    Parameters
    ----------
    cells : iterable of (scaler, problem, scale factor, offset)
        Of each condition.
    """
    failures: dict[tuple[Component, Component], StudyError | None] = {}
    for scaler, problem, scale, offset in dict.fromkeys(cells):
        pair = scaler, problem
        if pair in failures and failures[pair] is None:
            continue
        try:
            _try_scaler(scaler, problem, scale, offset)
            failures[pair] = None
        except StudyError as error:
            failures.setdefault(pair, error)
    for failure in filter(None, failures.values()):
        raise failure


@lru_cache(maxsize=256)
def _try_scaler(scaler: Component, component: Component, scale: float, offset: float) -> None:
    problem = problem_of(component)
    u, _ = problem.draw(0)
    with np.errstate(all="ignore"):
        x, scaled = problem.reference_scale * u, problem.scaled_feature
        x[:, scaled] = scale * u[:, scaled] + offset
    held_out = problem.held_out is not None
    scalers.check(scaler, x, held_out=held_out, columns=problem.scaled)
