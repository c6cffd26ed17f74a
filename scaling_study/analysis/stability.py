"""How a ranking of optimizers changes with the problems and the seeds."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from scaling_study.analysis.ranking import (
    CONFIDENCE,
    RANDOM_SEED,
    REPLICATES,
    cube,
    cut,
    groups,
    of_cube,
    replicates,
)
from scaling_study.errors import StudyError

Array = NDArray[np.float64]
HALVES = 200  # random halves of the problems, of more than there are


def without_one(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each optimizer's sensitivity without each problem.

    Returns
    -------
    DataFrame
        ``problem`` (left out), ``optimizer, sensitivity, change``.
    """
    scores = cube(frame)
    whole = of_cube(scores)
    parts = []
    for left in range(len(scores.problems)):
        rest = [i for i in range(len(scores.problems)) if i != left]
        found = of_cube(scores.take(problems=rest))
        columns = {"optimizer": scores.optimizers, "sensitivity": found, "change": found - whole}
        parts.append(pd.DataFrame({"problem": scores.problems[left], **columns}))
    return pd.concat(parts, ignore_index=True)


def halves_of_problems(frame: pd.DataFrame) -> Array:
    """Return Kendall's τ between the sensitivities on two halves of the problems.

    Of every pair of halves, or of `HALVES` random ones where they are more; the middle problem of
    an odd number is left out of both.
    """
    scores = cube(frame)
    size = len(scores.problems) // 2
    if not size:
        raise StudyError("halves of the problems need two problems or more")
    random = np.random.default_rng(RANDOM_SEED)
    every = range(len(scores.problems))
    first = list(combinations(every, size))
    if len(first) > HALVES:
        first = [tuple(random.permutation(len(scores.problems))[:size]) for _ in range(HALVES)]
    found = []
    for half in first:
        rest = random.permutation([i for i in every if i not in half])[:size]
        found.append(kendall(*(of_cube(scores.take(problems=p)) for p in (half, rest))))
    return np.array(found)


def sets_of_seeds(frame: pd.DataFrame, group: Array) -> pd.DataFrame:
    """Return sensitivities and groups on two sets of seeds that share nothing, side by side.

    Parameters
    ----------
    frame : DataFrame
        Scores.
    group : array of shape (O,)
        Of all seeds, in the order of the optimizers in the scores; NaN without a rank.

    Returns
    -------
    DataFrame
        ``optimizer``, and for set 0 and 1 ``sensitivity_0`` and ``group_0``: the groups of that
        set's own order, of the same sizes as those of all seeds.
    """
    scores, known = cube(frame), ~np.isnan(group)
    number = scores.folds.astype("U1")
    names = np.unique(number)
    if len(names) < 2:
        raise StudyError("two sets of seeds need 16 seeds or more")
    columns: dict[str, object] = {"optimizer": scores.optimizers}
    for place, name in enumerate(names[:2]):
        found = of_cube(scores.take(seeds=number == name))
        of_set = np.full(len(found), np.nan)
        whole = np.where(np.isnan(found), of_cube(scores), found)
        of_set[known] = cut(whole[known], _sizes(group[known]))
        columns |= {f"sensitivity_{place}": found, f"group_{place}": of_set}
    return pd.DataFrame(columns)


def held_out_groups(frame: pd.DataFrame, count: int = REPLICATES) -> list[tuple[int, int]]:
    """Make groups of one set of seeds and count those that keep theirs on the other.

    Returns
    -------
    list of tuple of int
        For the first and the second of two sets: the number of its groups, and of the optimizers
        that the other set's order puts into the same one, groups keeping their sizes.
    """
    scores = cube(frame)
    number = scores.folds.astype("U1")
    parts = [scores.take(seeds=number == name) for name in np.unique(number)[:2]]
    lost = [of_cube(part) for part in parts]
    known = ~np.isnan(lost).any(axis=0)
    found = []
    for one, other in ((0, 1), (1, 0)):
        sampled = replicates(parts[one], count, problems=False)[:, known]
        group = np.array(groups(lost[one][known], sampled), float)
        same = int((cut(lost[other][known], _sizes(group)) == group).sum())
        found.append((int(group.max()), same))
    return found


def kept_groups(frame: pd.DataFrame, group: Array, count: int = REPLICATES) -> float:
    """Return the share of optimizers that keep their group when problems are drawn again.

    Mean over replicates of problems, seeds and tuning halves; groups keep their sizes.
    """
    known, scores = ~np.isnan(group), cube(frame)
    sampled = replicates(scores, count)
    sampled = np.where(np.isnan(sampled), of_cube(scores), sampled)[:, known]
    group = group[known]
    return float(np.mean([cut(row, _sizes(group)) == group for row in sampled]))


def contradictions(frame: pd.DataFrame, count: int = REPLICATES) -> tuple[int, int, int]:
    """Count pairs told apart on both of two sets of seeds: alike, the other way; and on one only.

    A pair is told apart where one is less sensitive in 97.5 % of the replicates, in which the
    problems are resampled.
    """
    number = cube(frame).folds.astype("U1")
    parts = [cube(frame).take(seeds=number == name) for name in np.unique(number)[:2]]
    signs = []
    for part in parts:
        sampled = replicates(part, count)
        with np.errstate(invalid="ignore"):
            less = (sampled[:, :, None] < sampled[:, None, :]).mean(axis=0)
            more = (sampled[:, :, None] > sampled[:, None, :]).mean(axis=0)
        level = (1 + CONFIDENCE) / 2
        signs.append((more >= level).astype(int) - (less >= level).astype(int))
    pairs = np.triu_indices(len(signs[0]), 1)
    one, other = (sign[pairs] for sign in signs)
    both = (one != 0) & (other != 0)
    same = int((both & (one == other)).sum())
    return same, int((both & (one != other)).sum()), int(((one != 0) ^ (other != 0)).sum())


def kendall(first: Array, second: Array) -> float:
    """Return Kendall's τ-b of two sensitivities, over the optimizers that have both."""
    known = ~np.isnan(first) & ~np.isnan(second)
    found: Any = stats.kendalltau(first[known], second[known])
    return float(found.statistic)


def _sizes(group: Array) -> NDArray[np.intp]:
    return np.bincount(group.astype(int))[1:]
