"""The data sets that scikit-learn ships or generates, split into training and held-out rows.

A seed names a train/test split of a real data set, or a sample of a generated one. Columns are
in units of their own (the reference scale is 1), and the target comes with the rows: it is no
function of them that anybody knows, so the law has no coefficients and design U alone has a
meaning. In a `Problem` it is all noise, on a signal of zero.

Trouble can be planted in one column, the scaled feature:

``outliers``
    A share of the training rows has its value times 1,000, as if entered in the wrong unit.
    Held-out rows are left alone: they tell what was learned, not how errors are predicted.
``heavy_tails``
    The column becomes ``mean + sd sinh(2 (x - mean) / sd)``, in all rows. It is monotone, so
    all that the column says it still says; a value of three deviations lies at two hundred.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling_study.errors import StudyError, unknown
from scaling_study.study.checks import target
from scaling_study.study.problems import PROBLEMS, Problem
from scaling_study.study.values import error_context, number, whole

Array = NDArray[np.float64]
SPLIT, OUTLIERS = 4, 5  # the random streams that only this module draws from
WRONG_UNIT = 1000.0
TEST_SHARE = 0.25  # of the rows, where a study does not say


def diabetes(
    *,
    feature: int | str = "bmi",
    test_share: float = TEST_SHARE,
    outliers: float = 0.0,
    heavy_tails: bool = False,
) -> Problem:
    """Return 442 patients: a disease's progress from 10 columns (`load_diabetes`, raw)."""
    return _split("diabetes", feature, test_share, outliers, heavy_tails)


def wine(
    *,
    feature: int | str = "proline",
    test_share: float = TEST_SHARE,
    outliers: float = 0.0,
    heavy_tails: bool = False,
) -> Problem:
    """Return 178 wines of 3 cultivars, classified by 13 columns (`load_wine`)."""
    return _split("wine", feature, test_share, outliers, heavy_tails)


def breast_cancer(
    *,
    feature: int | str = "worst area",
    test_share: float = TEST_SHARE,
    outliers: float = 0.0,
    heavy_tails: bool = False,
) -> Problem:
    """Return 569 tumours, malignant or benign, by 30 columns (`load_breast_cancer`)."""
    return _split("breast_cancer", feature, test_share, outliers, heavy_tails)


def digits(
    *,
    feature: int | str = "pixel_4_4",
    test_share: float = TEST_SHARE,
    outliers: float = 0.0,
    heavy_tails: bool = False,
) -> Problem:
    """Return 1,797 images of the 10 digits, 64 pixels from 0 to 16 (`load_digits`)."""
    return _split("digits", feature, test_share, outliers, heavy_tails)


def friedman2(*, samples: int = 200, noise: float = 125.0, feature: int = 3) -> Problem:
    """Return ``sqrt(a² + (b c - 1/(b d))²) + noise``, four ranges (`make_friedman2`)."""
    return _generated("make_friedman2", samples, noise, feature)


def friedman3(*, samples: int = 200, noise: float = 0.1, feature: int = 3) -> Problem:
    """Return ``arctan((b c - 1/(b d)) / a) + noise``, four ranges (`make_friedman3`)."""
    return _generated("make_friedman3", samples, noise, feature)


def correlated(
    *,
    samples: int = 200,
    features: int = 10,
    informative: int = 5,
    effective_rank: int = 3,
    noise: float = 1.0,
    feature: int = 0,
) -> Problem:
    """Return a linear law of correlated columns, a new one each seed (`make_regression`)."""
    for name, value in {
        "features": features,
        "informative": informative,
        "effective_rank": effective_rank,
    }.items():
        with error_context(name):
            whole(value)
    if informative > features:
        raise StudyError(f"informative: {informative} columns of {features} cannot be")
    return _generated(
        "make_regression",
        samples,
        noise,
        feature,
        n_features=features,
        n_informative=informative,
        effective_rank=effective_rank,
    )


DATASETS: dict[str, Callable[..., Problem]] = {
    "diabetes": diabetes,
    "wine": wine,
    "breast_cancer": breast_cancer,
    "digits": digits,
    "friedman2": friedman2,
    "friedman3": friedman3,
    "correlated": correlated,
}
RESPLIT = ("diabetes", "wine", "breast_cancer", "digits")  # each seed splits the same rows
EVERY_PROBLEM: dict[str, Callable[..., Problem]] = {**PROBLEMS, **DATASETS}


@lru_cache(maxsize=8)
def load(name: str) -> tuple[Array, Array, tuple[str, ...]]:
    """Return the columns of a data set as they are, its target, and the columns' names.

    Returns
    -------
    x : ndarray of shape (n_rows, n_features)
        Not to be written to.
    y : ndarray of shape (n_rows,)
        The quantity, or the number of the class.
    names : tuple of str
    """
    from sklearn import datasets

    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**options)
    x, y = (np.array(part, np.float64) for part in (bunch.data, bunch.target))
    x.flags.writeable = y.flags.writeable = False
    return x, y, tuple(str(column) for column in bunch.feature_names)


def split(seed: int, rows: int, test_share: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return a seed's training rows and its held-out rows, which together are all of them."""
    order = np.random.default_rng([SPLIT, seed]).permutation(rows)
    held_out = max(1, round(test_share * rows))
    return order[held_out:], order[:held_out]


def overlap(problem: str | Problem, test_share: float = TEST_SHARE) -> float:
    """Return test rows over training rows where seeds split the same rows, 0 where they do not.

    It is by how much a variance over splits is to be corrected; see
    `scaling_study.analysis.intervals.resampled_mean`.

    Parameters
    ----------
    problem : str or Problem
        A key of `EVERY_PROBLEM`, or a problem, of which the rows of two seeds are compared:
        where most of one seed's held-out rows are the other's, seeds split the same rows.
    test_share : float
        Of the rows, where a name is given.
    """
    if isinstance(problem, Problem):
        return _overlap_of_rows(problem)
    if problem not in RESPLIT:
        return 0.0
    train, test = split(0, len(load(problem)[0]), test_share)
    return len(test) / len(train)


def _overlap_of_rows(problem: Problem) -> float:
    if problem.held_out is None:
        return 0.0
    trained, tested, others = (
        np.column_stack([u, noise])
        for u, noise in (problem.draw(0), problem.held_out(0), problem.held_out(1))
    )
    known = {row.tobytes() for row in (*trained, *tested)}
    again = sum(row.tobytes() in known for row in others)
    return len(tested) / len(trained) if again > len(others) / 2 else 0.0


def chance(problem: str | Problem) -> float:
    """Return the score without any learning: the share of the largest class, or R² of the mean.

    Parameters
    ----------
    problem : str or Problem
        A key of `EVERY_PROBLEM`, or a problem; 0 for one whose target is a quantity.
    """
    if isinstance(problem, Problem):
        if not problem.classes:
            return 0.0
        rows = [problem.draw(0), *([problem.held_out(0)] if problem.held_out else [])]
        labels = np.concatenate([target(problem, *own) for own in rows])
    elif problem in RESPLIT and problem != "diabetes":
        labels = load(problem)[1]
    else:
        return 0.0
    return float(np.bincount(labels.astype(np.intp)).max() / len(labels))


def _split(
    name: str, feature: int | str, test_share: float, outliers: float, heavy_tails: bool
) -> Problem:
    x, y, names = load(name)
    place = _place(feature, names)
    test_share, outliers = (
        _share(key, value) for key, value in (("test_share", test_share), ("outliers", outliers))
    )
    if test_share == 0:
        raise StudyError("test_share: must be above 0, so that rows are left to test on")
    if not isinstance(heavy_tails, bool):
        raise StudyError(f"heavy_tails: must be true or false, not {heavy_tails!r}")
    if outliers and not x[:, place].any():
        raise StudyError(f"outliers: column {names[place]!r} is 0 in every row; take another")
    if heavy_tails:
        x = x.copy()
        mean, deviation = x[:, place].mean(), x[:, place].std()
        if deviation == 0:
            raise StudyError(f"heavy_tails: column {names[place]!r} is constant; take another")
        x[:, place] = mean + deviation * np.sinh(2 * (x[:, place] - mean) / deviation)

    def draw(seed: int) -> tuple[Array, Array]:
        rows = split(seed, len(x), test_share)[0]
        own = x[rows]
        if outliers:
            count = max(1, round(outliers * len(rows)))
            wrong = np.random.default_rng([OUTLIERS, seed]).permutation(len(rows))[:count]
            own[wrong, place] *= WRONG_UNIT
        return own, y[rows]

    def held_out(seed: int) -> tuple[Array, Array]:
        rows = split(seed, len(x), test_share)[1]
        return x[rows], y[rows]

    classes = 0 if name == "diabetes" else len(np.unique(y))
    return _of_unknown_law(draw, held_out, x.shape[1], place, classes, names)


def _generated(maker: str, samples: int, noise: float, feature: int, **parameters: Any) -> Problem:
    with error_context("samples"):
        whole(samples)
    with error_context("noise"):
        number(noise, 0, "a finite number of at least 0")
    features = parameters.get("n_features", 4)
    with error_context("feature"):
        place = _place(feature, tuple(str(column) for column in range(features)))

    def both(seed: int) -> tuple[Array, Array]:
        from sklearn import datasets

        # One call for both halves: it also draws the law that they share.
        make = getattr(datasets, maker)
        return make(n_samples=2 * samples, noise=noise, random_state=seed, **parameters)

    def draw(seed: int) -> tuple[Array, Array]:
        x, y = both(seed)
        return x[:samples], y[:samples]

    def held_out(seed: int) -> tuple[Array, Array]:
        x, y = both(seed)
        return x[samples:], y[samples:]

    return _of_unknown_law(draw, held_out, features, place, 0)


def _of_unknown_law(
    draw: Callable[[int], tuple[Array, Array]],
    held_out: Callable[[int], tuple[Array, Array]],
    features: int,
    place: int,
    classes: int,
    columns: tuple[str, ...] = (),
) -> Problem:
    return Problem(
        draw,
        np.full(features, np.nan),
        np.ones(features),
        scaled_feature=place,
        signal=lambda u: np.zeros(u.shape[:-1]),
        held_out=held_out,
        classes=classes,
        columns=columns,
    )


def _place(feature: int | str, names: tuple[str, ...]) -> int:
    if isinstance(feature, str):
        if feature not in names:
            raise unknown("feature", feature, names)
        return names.index(feature)
    if isinstance(feature, bool) or not isinstance(feature, int) or not 0 <= feature < len(names):
        raise StudyError(f"feature: must be a whole number from 0 to {len(names) - 1}")
    return feature


def _share(name: str, value: float) -> float:
    with error_context(name):
        share = number(value, 0, "a share from 0 to 0.5")
        if share > 0.5:
            raise StudyError(f"must be a share from 0 to 0.5, not {value!r}")
        return share
