"""Data sets that scikit-learn ships or generates, split into training and held-out rows.

A seed determines the train/test split of a real data set, or the sample of a generated one. Columns
keep their own units: the reference scale factor is 1. How the target depends on the columns is
unknown, so that only design U applies, in which a unit changes and the target does not; a problem
returns the target as its noise, with a signal of zero.

One column of a real data set, the scaled feature, can be corrupted:

``outliers``
    The value is multiplied by 1,000 in a share of the training rows, as if entered in the wrong
    unit. Held-out rows are left as they are.
``heavy_tails``
    The column becomes ``mean + sd sinh(2 (x - mean) / sd)`` in all rows. The map is monotone, so
    that no information is lost; a value at three deviations moves to two hundred.

Which part of one is used:

``columns``, ``rows``
    Use only the first n columns, and at most n training rows.
``target``
    A column that is predicted in place of the data set's own target, by regression.
``positive``
    A class that is predicted against all others: two classes, one against the rest.
``standardised``
    Columns have mean 0 and standard deviation 1 over all rows: the reference unit of a study
    that changes the unit of one of them.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.errors import StudyError, unknown
from scaling_study.study.problems import PROBLEMS, Problem, Rows, checked

Array = NDArray[np.float64]
SPLIT, OUTLIERS, LOGISTIC = 4, 5, 11  # numbers of this module's random streams
WRONG_UNIT = 1000.0  # factor of an outlier
TEST_SHARE = 0.25  # default share of the rows that are held out
DATASETS: dict[str, Callable[..., Problem]] = {}
REAL = {  # name: the feature that is scaled by default, and the description
    "diabetes": (
        "bmi",
        "442 patients: disease progression from 10 columns (`load_diabetes`, raw).",
    ),
    "wine": ("proline", "178 wines of 3 cultivars, classified by 13 columns (`load_wine`)."),
    "breast_cancer": (
        "worst area",
        "569 tumours, malignant or benign, by 30 columns (`load_breast_cancer`).",
    ),
    "digits": (
        "pixel_4_4",
        "1,797 images of the 10 digits, 64 pixels from 0 to 16 (`load_digits`).",
    ),
}


def register(build: Callable[..., Problem]) -> Callable[..., Problem]:
    """Add a builder to `DATASETS` under its name, with its arguments checked, and return it."""
    DATASETS[build.__name__] = checked(build)
    return DATASETS[build.__name__]


def _register_real(name: str, scaled: str, description: str) -> None:
    def build(
        *,
        feature: int | str = scaled,
        test_share: float = TEST_SHARE,
        outliers: float = 0.0,
        heavy_tails: bool = False,
        columns: int | None = None,
        target: str | None = None,
        standardised: bool = False,
        rows: int | None = None,
        positive: int | None = None,
    ) -> Problem:
        table = _table(name, columns, target, positive, standardised=standardised)
        return _real(table, feature, test_share, outliers, heavy_tails, rows)

    build.__name__, build.__doc__ = name, f"Return {description}"
    register(build)


for _name, _entry in REAL.items():
    _register_real(_name, *_entry)


@register
def friedman2(*, samples: int = 200, noise: float = 125.0, feature: int = 3) -> Problem:
    """Return ``sqrt(a² + (b c - 1/(b d))²) + noise``, of features whose ranges differ.

    See `sklearn.datasets.make_friedman2`.
    """
    return _generated("make_friedman2", samples, noise, feature)


@register
def friedman3(*, samples: int = 200, noise: float = 0.1, feature: int = 3) -> Problem:
    """Return ``arctan((b c - 1/(b d)) / a) + noise``, of features whose ranges differ.

    See `sklearn.datasets.make_friedman3`.
    """
    return _generated("make_friedman3", samples, noise, feature)


@register
def correlated(
    *,
    samples: int = 200,
    features: int = 10,
    informative: int = 5,
    effective_rank: int = 3,
    noise: float = 1.0,
    feature: int = 0,
) -> Problem:
    """Return a linear law of correlated columns, a new law for each seed (`make_regression`)."""
    if informative > features:
        raise StudyError(f"informative: must be at most features = {features}, not {informative}")
    counts = {"n_informative": informative, "effective_rank": effective_rank}
    return _generated("make_regression", samples, noise, feature, n_features=features, **counts)


@register
def logistic(*, samples: int = 200, features: int = 10, strength: float = 1.0) -> Problem:
    """Return two classes, P(1) = 1 / (1 + exp(-strength Σ u_j)), of standard normal features."""

    def train_and_test(seed: int) -> tuple[Rows, Rows]:
        random = np.random.default_rng([LOGISTIC, seed])
        u = random.standard_normal((2 * samples, features))
        label = (random.logistic(size=2 * samples) < strength * u.sum(axis=1)).astype(np.float64)
        return (u[:samples], label[:samples]), (u[samples:], label[samples:])

    return of_unknown_law(train_and_test, features, features - 1, classes=2)


EVERY_PROBLEM: dict[str, Callable[..., Problem]] = {**PROBLEMS, **DATASETS}


@lru_cache(maxsize=8)
def load(name: str) -> tuple[Array, Array, tuple[str, ...]]:
    """Return the columns of a real data set, its target, and the columns' names; read-only."""
    from sklearn import datasets

    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**options)
    x, y = (np.array(part, np.float64) for part in (bunch.data, bunch.target))
    x.flags.writeable = y.flags.writeable = False
    return x, y, tuple(str(column) for column in bunch.feature_names)


def split(seed: int, rows: int, test_share: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the training rows and the held-out rows of a seed, which together are all rows."""
    order = np.random.default_rng([SPLIT, seed]).permutation(rows)
    held_out = max(1, round(test_share * rows))
    return order[held_out:], order[:held_out]


def overlap(problem: str | Problem, test_share: float = TEST_SHARE) -> float:
    """Return test rows over training rows if seeds split the same rows, otherwise 0.

    A variance over splits is corrected by it; see
    `scaling_study.analysis.intervals.resampled_mean`.

    Parameters
    ----------
    problem : str or Problem
        A name, or a problem: its seeds split the same rows if most rows that one seed holds out
        are rows of another seed.
    test_share : float
        Share of the rows that is held out, where a name is given.
    """
    if isinstance(problem, str):
        if problem not in REAL:
            return 0.0
        problem = DATASETS[problem](test_share=test_share)
    if problem.overlap is not None:
        return problem.overlap
    if problem.held_out is None:
        return 0.0
    trained, tested, others = (
        np.column_stack(rows)
        for rows in (problem.draw(0), problem.held_out(0), problem.held_out(1))
    )
    known = {row.tobytes() for row in (*trained, *tested)}
    again = sum(row.tobytes() in known for row in others)
    return len(tested) / len(trained) if again > len(others) / 2 else 0.0


def chance(problem: str | Problem) -> float:
    """Return the score without learning: the share of the largest class, or an R² of 0."""
    if isinstance(problem, str):
        if problem not in DATASETS:
            return 0.0
        problem = DATASETS[problem]()
    if not problem.classes:
        return 0.0
    train_and_test = [problem.draw(0), *([problem.held_out(0)] if problem.held_out else [])]
    labels = np.concatenate([problem.law(u) + noise for u, noise in train_and_test])
    return float(np.bincount(labels.astype(np.intp)).max() / len(labels))


class _Table(NamedTuple):
    """The columns of a real data set that are used, and its target."""

    x: Array
    y: Array
    names: tuple[str, ...]
    classes: int  # 0 for regression


def _table(
    name: str, columns: int | None, target: str | None, positive: int | None, *, standardised: bool
) -> _Table:
    """Return the part of a data set that is used; see the head of this module."""
    x, y, names = load(name)
    classes = 0 if name == "diabetes" else len(np.unique(y))
    if target is not None:
        place = _place(target, names)
        y, classes = x[:, place], 0
        x, names = np.delete(x, place, axis=1), names[:place] + names[place + 1 :]
    if positive is not None:
        if positive not in range(classes):
            raise StudyError(f"positive: must be a class from 0 to {classes - 1}, not {positive}")
        y, classes = (y == positive).astype(np.float64), 2
    x, names = x[:, :columns], names[:columns]
    if standardised:
        deviation = x.std(axis=0)
        x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return _Table(x, y, names, classes)


def _real(
    table: _Table,
    feature: int | str,
    test_share: float,
    outliers: float,
    heavy_tails: bool,
    most_rows: int | None,
) -> Problem:
    """Return a real data set as a problem, the column of a feature perhaps corrupted."""
    x, y, names, classes = table
    place = _place(feature, names)
    if outliers and not x[:, place].any():
        raise StudyError(f"outliers: column {names[place]!r} is 0 in every row; take another")
    if heavy_tails:
        x = _with_heavy_tails(x, place, names[place])

    def train_and_test(seed: int) -> tuple[Rows, Rows]:
        trained, tested = split(seed, len(x), test_share)
        trained = trained[:most_rows]
        rows = x[trained]
        if outliers:
            count = max(1, round(outliers * len(rows)))
            wrong = np.random.default_rng([OUTLIERS, seed]).permutation(len(rows))[:count]
            rows[wrong, place] *= WRONG_UNIT
        return (rows, y[trained]), (x[tested], y[tested])

    return of_unknown_law(train_and_test, x.shape[1], place, classes=classes, columns=names)


def _with_heavy_tails(x: Array, place: int, name: str) -> Array:
    column = x[:, place]
    mean, deviation = column.mean(), column.std()
    if deviation == 0:
        raise StudyError(f"heavy_tails: column {name!r} is constant; take another")
    x = x.copy()
    x[:, place] = mean + deviation * np.sinh(2 * (column - mean) / deviation)
    return x


def _generated(maker: str, samples: int, noise: float, feature: int, **parameters: Any) -> Problem:
    """Return a data set that a function of `sklearn.datasets` generates."""
    features = parameters.get("n_features", 4)
    place = _place(feature, tuple(map(str, range(features))))

    def train_and_test(seed: int) -> tuple[Rows, Rows]:
        from sklearn import datasets

        # One call for both parts, since it also draws the law that they share.
        make = getattr(datasets, maker)
        x, y = make(n_samples=2 * samples, noise=noise, random_state=seed, **parameters)
        return (x[:samples], y[:samples]), (x[samples:], y[samples:])

    return of_unknown_law(train_and_test, features, place)


def of_unknown_law(
    train_and_test: Callable[[int], tuple[Rows, Rows]], features: int, place: int, **more: Any
) -> Problem:
    """Return a problem whose ``train_and_test(seed)`` are training and held-out rows."""
    return Problem(
        lambda seed: train_and_test(seed)[0],
        np.full(features, np.nan),
        np.ones(features),
        scaled_feature=place,
        signal=lambda u: np.zeros(u.shape[:-1]),
        held_out=lambda seed: train_and_test(seed)[1],
        **more,
    )


def _place(feature: int | str, names: tuple[str, ...]) -> int:
    """Return the index of a feature that is given by its name or its index."""
    if isinstance(feature, str):
        if feature not in names:
            raise unknown("feature", feature, names)
        return names.index(feature)
    if isinstance(feature, bool) or not isinstance(feature, int) or not 0 <= feature < len(names):
        raise StudyError(f"feature: must be a whole number from 0 to {len(names) - 1}")
    return feature
