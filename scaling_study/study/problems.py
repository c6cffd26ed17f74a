"""The problems: how features, noise and target of a data set are drawn from a seed."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.errors import StudyError
from scaling_study.study import values
from scaling_study.study.values import error_context

Array = NDArray[np.float64]
Rows = tuple[Array, Array]


class Problem(NamedTuple):
    """How a data set is drawn, in canonical units.

    The observed feature is ``x_j = s_j u_j + offset_j``. Under design F the coefficient of x_j is
    fixed: the target is ``sum_j coefficient_j x_j + noise``. Under design U only the unit of x_j
    changes with s_j: the target is ``sum_j coefficient_j reference_scale_j u_j + noise``.

    Attributes
    ----------
    draw : callable
        ``draw(seed) -> u, noise`` with shapes (n_samples, n_features) and (n_samples,).
    coefficients : ndarray of shape (n_features,)
        Coefficient of each observed feature in a linear law.
    reference_scale : ndarray of shape (n_features,)
        The scale of each feature at which designs F and U agree.
    scaled_feature : int or str
        Index or, where there are ``columns``, name of the feature that the study's
        ``scale_factor`` and ``offset`` apply to; the others keep their reference scale.
    signal : callable or None
        ``signal(u) -> y`` for a law that is not linear, (..., n_samples, n_features) to
        (..., n_samples); design F is not defined then.
    held_out : callable or None
        ``held_out(seed) -> u, noise`` of rows that are not trained on; if None, fresh rows are
        drawn.
    classes : int
        Number of classes if the target is a class label from 0; 0 if it is a quantity.
    columns : tuple of str
        Names of the features; may be empty.
    scaled : tuple of bool
        Which features a scaler scales; all of them if empty.
    overlap : float or None
        Test rows over training rows if seeds split the same rows; None if that is not known.
    notes, warnings : tuple of str
        How a table was read, and what is wrong with it, one line each.

    Examples
    --------
    >>> def draw(seed):
    ...     random = np.random.default_rng(seed)
    ...     return random.standard_normal((100, 2)), 0.1 * random.standard_normal(100)
    >>> problem = Problem(draw, np.array([2.0, 0.5]), np.array([1.0, 1000.0]), scaled_feature=1)
    """

    draw: Callable[[int], Rows]
    coefficients: Array
    reference_scale: Array
    scaled_feature: Any
    signal: Callable[[Array], Array] | None = None
    held_out: Callable[[int], Rows] | None = None
    classes: int = 0
    columns: tuple[str, ...] = ()
    scaled: tuple[bool, ...] = ()
    overlap: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_frame(cls, frame: Any, *, target: str, **options: Any) -> "Problem":
        """Return the problem of predicting a column of a data frame from the others.

        Missing numbers are replaced by the median of the training rows, with an indicator as a
        further feature; a category is a feature of 0 and 1. A seed of a study names a split.

        Parameters
        ----------
        frame : DataFrame
        target : str
            The column to predict.
        task : {"regression", "classification"}, optional
            Inferred by default, and named in ``notes``.
        scale : sequence of str, optional
            Columns that a scaler scales. By default those that hold numbers.
        drop : sequence of str, optional
            Columns to leave out.
        groups : str, optional
            Rows of one value of this column are either trained on or held out.
        time : str, optional
            The last rows by this column are held out, the same for every seed.
        test_share : float
            Share of the rows that is held out, 0.25 by default.
        rows : int, optional
            Largest number of training rows of a split.
        scaled_feature : str, optional
            The feature that a study's ``scale_factor`` and ``offset`` apply to.

        Raises
        ------
        StudyError
            If the table cannot be trained on as it is.
        """
        from scaling_study.study import tables

        table = {**tables.register(frame), "target": target, **options}
        return tables.problem(tables.expand(table)[0])

    @classmethod
    def from_arrays(cls, x: Any, y: Any, *, names: Any = None, **options: Any) -> "Problem":
        """Return the problem of predicting y (n_samples,) from x (n_samples, n_features).

        ``names`` are those of the features, ``x0`` and so on by default; see `from_frame`.
        """
        from scaling_study.study import tables

        frame, target = tables.frame_of(x, y, names)
        return cls.from_frame(frame, target=target, **options)

    def law(self, u: Array) -> Array:
        """Return the target without noise at the reference scale, (..., n_samples)."""
        if self.signal is not None:
            return self.signal(u)
        return u @ (self.coefficients * self.reference_scale)


PROBLEMS: dict[str, Callable[..., Problem]] = {}
READERS: dict[str, values.Reader] = {  # of the parameters of built-in problems
    **dict.fromkeys(("samples", "features", "informative", "effective_rank"), values.whole),
    **dict.fromkeys(("rows", "columns"), values.whole),
    "noise": values.not_negative,
    **dict.fromkeys(("correlation", "strength"), values.number),
    "condition_number": lambda x: values.number(x, 1.0),
    "test_share": lambda x: values.number(x, 1e-300, "a share above 0 and at most 0.5", 0.5),
    "outliers": lambda x: values.number(x, 0, "a share from 0 to 0.5", 0.5),
    **dict.fromkeys(("heavy_tails", "standardised"), values.truth),
}


def checked(build: Callable[..., Problem]) -> Callable[..., Problem]:
    """Return the builder of a problem with its arguments checked by `READERS`."""

    @wraps(build)
    def with_checks(**arguments: Any) -> Problem:
        values.read_known(arguments, READERS)
        return build(**arguments)

    return with_checks


def register(build: Callable[..., Problem]) -> Callable[..., Problem]:
    """Add a builder to `PROBLEMS` under its name, with its arguments checked."""
    PROBLEMS[build.__name__] = checked(build)
    return PROBLEMS[build.__name__]


@register
def article(*, samples: int = 100, noise: float = 10.0) -> Problem:
    """Return the article's data: ``y = 2 x_1 + 0.5 x_2 + 10 normal``, with uniform features.

    Drawn from `numpy.random.RandomState` in the article's order: seed 42 gives its exact data.
    """
    streams = threading.local()

    def draw(seed: int) -> Rows:
        # Creating a generator takes 60 µs, seeding it again 1 µs; the stream is the same.
        if not hasattr(streams, "random"):
            streams.random = np.random.RandomState()
        random = streams.random
        random.seed(seed)
        u = random.rand(samples, 2)
        return u, noise * random.randn(samples)

    return Problem(draw, np.array([2.0, 0.5]), np.array([1.0, 1000.0]), scaled_feature=1)


@register
def uniform(*, samples: int = 100, features: int = 2, noise: float = 0.1) -> Problem:
    """Return features uniform on [0, 1] with equal coefficients: ``y = sum_j u_j + noise``."""
    return _sampled(0, samples, noise, features, uniform=True)


@register
def gaussian(
    *,
    samples: int = 100,
    features: int = 2,
    noise: float = 0.1,
    correlation: float = 0.0,
    whitened: bool = False,
) -> Problem:
    """Return standard normal features, equally correlated: ``y = sum_j u_j + noise``.

    ``whitened`` makes mean 0, variance 1 and correlation 0 hold exactly in every sample.
    """
    if whitened and (correlation or samples <= features):
        raise StudyError("whitened features have no correlation, and more samples than features")
    with error_context("correlation", ValueError):  # an impossible one has no Cholesky factor
        rest = np.eye(features) * (1 - correlation)
        mixing = np.linalg.cholesky(np.full((features, features), correlation) + rest)
    transform = _whitened if whitened else lambda u: u @ mixing.T
    return _sampled(1, samples, noise, features, transform=transform)


def _whitened(u: Array) -> Array:
    """Return the orthonormal features of a sample, each with its original sign."""
    q, r = np.linalg.qr(u - u.mean(axis=0))
    return q * np.sign(np.diag(r)) * len(u) ** 0.5


@register
def ill_conditioned(
    *,
    samples: int = 100,
    features: int = 10,
    noise: float = 0.1,
    condition_number: float = 100.0,
) -> Problem:
    """Return normal features whose covariance is ill-conditioned: ``y = ±a ±b ... + noise``.

    Its eigenvalues are spaced evenly in logarithm, their directions the same for every seed; the
    features are then divided by their standard deviation, which leaves about the same condition
    number. The coefficients are 1 and -1 in turn, so that they have a part in each direction.
    """
    random = np.random.default_rng([13, features])
    rotation, _ = np.linalg.qr(random.standard_normal((features, features)))
    mixing = rotation * np.geomspace(1, condition_number**-0.5, features)
    mixing /= np.linalg.norm(mixing, axis=1, keepdims=True)
    found = _sampled(10, samples, noise, features, transform=lambda u: u @ mixing.T)
    return found._replace(coefficients=(-1.0) ** np.arange(features))


@register
def sines(*, samples: int = 100, noise: float = 0.1) -> Problem:
    """Return ``y = sin 2a + sin 2b + noise``, standard normal: equal importance, not linear."""
    return _sampled(2, samples, noise, 2, lambda u: np.sin(2 * u).sum(axis=-1))


@register
def products(*, samples: int = 200, noise: float = 0.1) -> Problem:
    """Return ``y = a b + noise`` with standard normal a and b: a pure interaction."""
    return _sampled(7, samples, noise, 2, lambda u: u[..., 0] * u[..., 1])


@register
def decoy(*, samples: int = 200, noise: float = 0.1) -> Problem:
    """Return `sines` with a third, irrelevant feature, which is the scaled one."""
    return _sampled(8, samples, noise, 3, lambda u: np.sin(2 * u[..., :2]).sum(axis=-1))


@register
def friedman1(*, samples: int = 200, noise: float = 0.1) -> Problem:
    """Return ``10 sin(π a b) + 20 (c - ½)² + 10 d + 5 e``, uniform on [0, 1] (Friedman 1991)."""

    def law(u: Array) -> Array:
        a, b, c, d, e = np.moveaxis(u, -1, 0)
        return 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e

    return _sampled(9, samples, noise, 5, law, uniform=True)


def _sampled(
    stream: int,
    samples: int,
    noise: float,
    features: int,
    signal: Callable[[Array], Array] | None = None,
    *,
    uniform: bool = False,
    transform: Callable[[Array], Array] = lambda u: u,
) -> Problem:
    """Return a problem of independent columns, the last one scaled; their sum without a signal."""

    def draw(seed: int) -> Rows:
        random = np.random.default_rng([stream, seed])
        sample = random.random if uniform else random.standard_normal
        return transform(sample((samples, features))), noise * random.standard_normal(samples)

    coefficients = np.full(features, np.nan if signal else 1.0)
    return Problem(draw, coefficients, np.ones(features), features - 1, signal=signal)
