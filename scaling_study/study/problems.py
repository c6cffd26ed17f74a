"""The problems: where canonical features, noise and the target's own law come from."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.errors import StudyError
from scaling_study.study.values import error_context, number, whole

Array = NDArray[np.float64]


class Problem(NamedTuple):
    """How a data set is drawn, in canonical units.

    The observed feature is ``x_j = s_j u_j + offset_j``. Under design F the target is
    ``sum_j coefficient_j x_j + noise``: the coefficient is fixed. Under design U it is
    ``sum_j coefficient_j reference_scale_j u_j + noise``: only x's unit changes with s_j.

    Attributes
    ----------
    draw : callable
        ``draw(seed) -> u, noise`` with shapes (n_samples, n_features) and (n_samples,).
    coefficients : ndarray of shape (n_features,)
        The law's coefficient of each observed feature.
    reference_scale : ndarray of shape (n_features,)
        The scale of each feature at which designs F and U are the same.
    scaled_feature : int
        The feature that the study's ``scale_factor`` and ``offset`` act on; the others keep
        their reference scale.
    signal : callable or None
        ``signal(u) -> y`` for a law that is not linear, (..., n_samples, n_features) to
        (..., n_samples); only design U has a meaning then.
    held_out : callable or None
        ``held_out(seed) -> u, noise`` of rows that are not trained on; where None, a fresh
        `draw` is.
    classes : int
        Number of classes, where the target is the number of one; 0 where it is a quantity.
    columns : tuple of str
        Names of the features, for messages; empty where they have none.
    """

    draw: Callable[[int], tuple[Array, Array]]
    coefficients: Array
    reference_scale: Array
    scaled_feature: int
    signal: Callable[[Array], Array] | None = None
    held_out: Callable[[int], tuple[Array, Array]] | None = None
    classes: int = 0
    columns: tuple[str, ...] = ()


def check(problem: Problem) -> tuple[int, int]:
    """Return the number of samples and of features of a problem, all of whose parts agree.

    Parameters
    ----------
    problem : Problem
        Whose rows are arrays, `scaling_study.study.checks.with_numbers`.

    Raises
    ------
    StudyError
        If they do not, with the one that is wrong.
    """
    u, _ = problem.draw(0)
    samples, features = u.shape
    shapes = {
        "coefficients": (np.shape(problem.coefficients), (features,)),
        "reference_scale": (np.shape(problem.reference_scale), (features,)),
    }
    if problem.signal is not None:
        with np.errstate(all="ignore"):  # what is not finite is counted with the values
            found = np.shape(problem.signal(np.stack([u, u])))
        shapes |= {"signal(u) for u of (2, samples, d)": (found, (2, samples))}
    for what, (found, right) in shapes.items():
        if found != right:
            raise StudyError(f"{what} has shape {found}, not {right}")
    _check_units(problem)
    _check_counts(problem, features)
    return samples, features


def _check_units(problem: Problem) -> None:
    """Refuse a reference scale or coefficients that no feature can have."""
    with error_context("reference_scale", TypeError, ValueError):
        scale = np.asarray(problem.reference_scale, np.float64)
        wrong = np.flatnonzero(~(np.isfinite(scale) & (scale > 0)))
        if len(wrong):
            raise StudyError(
                f"must be finite and above 0, not {scale[wrong[0]]:g} of feature {wrong[0]}"
            )
    with error_context("coefficients", TypeError, ValueError):
        wrong = np.flatnonzero(~np.isfinite(np.asarray(problem.coefficients, np.float64)))
        if len(wrong) and problem.signal is None:
            raise StudyError(
                f"must be finite where there is no signal, not {problem.coefficients[wrong[0]]:g}"
                f" of feature {wrong[0]}"
            )


def _check_counts(problem: Problem, features: int) -> None:
    """Refuse a scaled feature, a number of classes or columns' names that cannot be."""
    place, classes, columns = problem.scaled_feature, problem.classes, problem.columns
    if not _is_whole(place) or place not in range(features):
        raise StudyError(f"scaled_feature is {place!r}, of {features} features, counted from 0")
    if not _is_whole(classes) or classes < 0 or classes == 1:
        raise StudyError(
            f"classes is {classes!r}; write the number of classes, at least 2, or 0 for a quantity"
        )
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise StudyError(f"columns must be a tuple of text, not {columns!r}")
    if columns and len(columns) != features:
        raise StudyError(f"columns has {len(columns)} names, for {features} features")
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise StudyError(f"columns has the name {twice[0]!r} more than once")


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def article(*, samples: int = 100, noise: float = 10.0) -> Problem:
    """Return the article's data: ``y = 2 x_1 + 0.5 x_2 + 10 normal``, x uniform.

    The stream is `numpy.random.RandomState`, drawn in the article's order, so that seed 42
    gives its data to the bit.
    """
    _check(samples, noise)

    streams = threading.local()

    def draw(seed: int) -> tuple[Array, Array]:
        # Making one takes 60 µs, seeding it again 1 µs: the same stream either way.
        if not hasattr(streams, "random"):
            streams.random = np.random.RandomState()
        random = streams.random
        random.seed(seed)
        u = random.rand(samples, 2)
        return u, noise * random.randn(samples)

    return Problem(draw, np.array([2.0, 0.5]), np.array([1.0, 1000.0]), scaled_feature=1)


def uniform(*, samples: int = 100, features: int = 2, noise: float = 0.1) -> Problem:
    """Return features of unit range that all matter alike: ``y = sum_j u_j + noise``."""
    _check(samples, noise, features)

    def draw(seed: int) -> tuple[Array, Array]:
        random = np.random.default_rng([0, seed])
        return random.random((samples, features)), noise * random.standard_normal(samples)

    return Problem(draw, np.ones(features), np.ones(features), scaled_feature=features - 1)


def gaussian(
    *,
    samples: int = 100,
    features: int = 2,
    noise: float = 0.1,
    correlation: float = 0.0,
    whitened: bool = False,
) -> Problem:
    """Return centred features of unit variance, equally correlated, that all matter alike.

    ``whitened`` makes mean 0, variance 1 and correlation 0 hold exactly in every sample.
    """
    _check(samples, noise, features)
    if whitened and (correlation or samples <= features):
        raise StudyError("whitened features have no correlation, and more samples than features")
    with error_context("correlation", ValueError):  # an impossible one has no Cholesky factor
        rest = np.eye(features) * (1 - number(correlation))
        mixing = np.linalg.cholesky(np.full((features, features), correlation) + rest)

    def draw(seed: int) -> tuple[Array, Array]:
        random = np.random.default_rng([1, seed])
        u = random.standard_normal((samples, features))
        u = _whitened(u) if whitened else u @ mixing.T
        return u, noise * random.standard_normal(samples)

    return Problem(draw, np.ones(features), np.ones(features), scaled_feature=features - 1)


def _whitened(u: Array) -> Array:
    """Return a sample's own orthonormal features, each with the sign it had."""
    q, r = np.linalg.qr(u - u.mean(axis=0))
    return q * np.sign(np.diag(r)) * len(u) ** 0.5


def sines(*, samples: int = 100, noise: float = 0.1) -> Problem:
    """Return ``y = sin 2a + sin 2b + noise`` with standard normal a, b: alike, not linear."""
    _check(samples, noise)

    def draw(seed: int) -> tuple[Array, Array]:
        random = np.random.default_rng([2, seed])
        return random.standard_normal((samples, 2)), noise * random.standard_normal(samples)

    def signal(u: Array) -> Array:
        return np.sin(2 * u).sum(axis=-1)

    return Problem(draw, np.full(2, np.nan), np.ones(2), scaled_feature=1, signal=signal)


def products(*, samples: int = 200, noise: float = 0.1) -> Problem:
    """Return ``y = a b + noise`` with standard normal a, b: neither matters without the other."""
    _check(samples, noise)
    return _of_law(7, samples, noise, 2, lambda u: u[..., 0] * u[..., 1])


def decoy(*, samples: int = 200, noise: float = 0.1) -> Problem:
    """Return `sines` with a third column, the scaled one, that the target never looks at."""
    _check(samples, noise)
    return _of_law(8, samples, noise, 3, lambda u: np.sin(2 * u[..., :2]).sum(axis=-1))


def friedman1(*, samples: int = 200, noise: float = 0.1) -> Problem:
    """Return ``10 sin(π a b) + 20 (c - ½)² + 10 d + 5 e``, uniform on [0, 1] (Friedman 1991)."""
    _check(samples, noise)

    def law(u: Array) -> Array:
        a, b, c, d, e = np.moveaxis(u, -1, 0)
        return 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e

    return _of_law(9, samples, noise, 5, law, uniform=True)


def _of_law(
    stream: int,
    samples: int,
    noise: float,
    features: int,
    signal: Callable[[Array], Array],
    *,
    uniform: bool = False,
) -> Problem:
    def draw(seed: int) -> tuple[Array, Array]:
        random = np.random.default_rng([stream, seed])
        shape = samples, features
        u = random.random(shape) if uniform else random.standard_normal(shape)
        return u, noise * random.standard_normal(samples)

    unknown = np.full(features, np.nan)
    return Problem(draw, unknown, np.ones(features), features - 1, signal=signal)


def _check(samples: int, noise: float, features: int = 2) -> None:
    with error_context("samples"):
        whole(samples)
    with error_context("noise"):
        number(noise, 0, "a finite number of at least 0")
    with error_context("features"):
        whole(features)


PROBLEMS: dict[str, Callable[..., Problem]] = {
    "article": article,
    "uniform": uniform,
    "gaussian": gaussian,
    "sines": sines,
    "products": products,
    "decoy": decoy,
    "friedman1": friedman1,
}
