"""Which conditions of two results folders are compared: those that are equal on their axes."""

from collections.abc import Sequence

import pandas as pd

from scaling_study.errors import StudyError

PROBLEM = "problem"
ONE, OTHER = "condition", "condition_second"


def match(
    first: pd.DataFrame, second: pd.DataFrame, across: list[str] | None = None
) -> tuple[pd.DataFrame, dict[str, tuple[str, str]]]:
    """Return the pairs of conditions to compare, and the axes on which they differ.

    Both are tables of conditions, one column an axis; see `scaling_study.analysis.compare`.

    Raises
    ------
    StudyError
        If the folders have no problem or no condition in common, or several conditions match one.
    """
    one, other = _axes(first), _axes(second)
    axes = [str(name) for name in one if name in other and name != ONE]
    for name in across or ():
        if name not in axes:
            raise StudyError(f"--across {name}: no axis; known: {', '.join(axes)}")
    _refuse_other_problems(one, other, across or ())
    pairs = _merged(one, other, [name for name in axes if name not in (across or ())])
    ignored = list(across or ())
    if across is None and pairs.empty:
        ignored = [name for name in axes if not set(one[name]) & set(other[name])]
        pairs = _merged(one, other, [name for name in axes if name not in ignored])
    if pairs.empty:
        raise StudyError(
            "no condition of one folder matches one of the other; name the axes on which they"
            " are meant to differ with --across, such as --across optimizer"
        )
    _refuse_ambiguous(pairs, ignored)
    crossed = {}
    for name in ignored:
        sides = [
            side.set_index(ONE).loc[pairs[key], name].tolist()
            for side, key in ((one, ONE), (other, OTHER))
        ]
        if sides[0] != sides[1]:
            crossed[name] = tuple(", ".join(dict.fromkeys(side)) for side in sides)
            pairs[name] = [a if a == b else f"{a} / {b}" for a, b in zip(*sides, strict=True)]
    return pairs, crossed


def _refuse_other_problems(one: pd.DataFrame, other: pd.DataFrame, across: Sequence[str]) -> None:
    """Refuse folders without a problem in common, unless the user asks to compare across them.

    Another problem has another target, and perhaps classes in place of a quantity, so that its
    losses say nothing about those of the first.
    """
    if PROBLEM in across or PROBLEM not in one or PROBLEM not in other:
        return
    names = [list(dict.fromkeys(side[PROBLEM])) for side in (one, other)]
    if not set(names[0]) & set(names[1]):
        first, second = (", ".join(found) for found in names)
        raise StudyError(
            f"the problems differ ({first} in the first folder, {second} in the second), so that"
            f" losses cannot be compared; say --across {PROBLEM} to compare them all the same"
        )


def _axes(conditions: pd.DataFrame) -> pd.DataFrame:
    """Return the axes as text, without columns that are part of another's text."""
    axes = conditions[[c for c in conditions if "." not in str(c)]].astype(str)
    return axes.rename(columns=str)


def _merged(one: pd.DataFrame, other: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    merged = one.merge(other, on=on, suffixes=("", "_second"), how="inner")
    return merged[[ONE, OTHER]].copy()


def _refuse_ambiguous(pairs: pd.DataFrame, ignored: list[str]) -> None:
    for name, folder in ((OTHER, "first"), (ONE, "second")):
        if pairs[name].duplicated().any():
            raise StudyError(
                f"the {folder} folder has several conditions that differ only in"
                f" {' and '.join(ignored)}; compare results that have one value of it"
            )
