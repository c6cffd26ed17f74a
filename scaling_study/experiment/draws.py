"""The random numbers of a seed, and what they mean under each condition.

NumPy in float64 throughout, so that the same seed names the same numbers on every platform
and JAX version. A seed names three independent streams: data, initialisation and batch
order; every condition of a seed shares them (common random numbers).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.experiment import scalers
from scaling_study.experiment.conditions import (
    Condition,
    Static,
    batches_per_epoch,
    problem_of,
    shape_of,
)
from scaling_study.experiment.problems import Problem

Array = NDArray[np.float64]
ORDER_STREAM = 3


class Draw(NamedTuple):
    """The data of several seeds, in canonical units.

    Attributes
    ----------
    u : ndarray of shape (n_seeds, n_samples, n_features)
    noise : ndarray of shape (n_seeds, n_samples)
    """

    u: Array
    noise: Array


class Encoding(NamedTuple):
    """What a chunk's data are in each run's own training units; d features, C × S runs.

    The training inputs are ``z = gain u + shift`` and the training target is
    ``y = u · slope + intercept + residual``, where slope and intercept are the least-squares
    solution. Both are exact rewritings, in which no large offset is left to cancel.

    Attributes
    ----------
    u : ndarray of shape (S, N, d) or (C, S, N, d)
        Canonical features, shared by the conditions unless a transformer makes its own.
    residual : ndarray of shape (S, N) or (C, S, N)
        Least-squares residual of the target, in the target's original unit.
    gain, shift : ndarray of shape (d, C, S)
        The map from u to the training inputs.
    slope : ndarray of shape (d, C, S)
    intercept : ndarray of shape (C, S)
        Least-squares solution in training units of the target, per unit of u.
    target_divisor, target_shift : ndarray of shape (C, S)
        The target scaler.
    divisor, centre : ndarray of shape (d, C, S)
        The feature scaler: ``z = (x - centre) / divisor``; NaN where it is not affine.
    weight_true, weight_ols, spread : ndarray of shape (d, C, S)
        Coefficients per unit of x, of the law and by least squares; standard deviation of x.
    """

    u: Array
    residual: Array
    gain: Array
    shift: Array
    slope: Array
    intercept: Array
    target_divisor: Array
    target_shift: Array
    divisor: Array
    centre: Array
    weight_true: Array
    weight_ols: Array
    spread: Array

    @property
    def loss_ols(self) -> Array:
        """Least mean squared error of a linear model, in training units; shape (C, S)."""
        return (self.residual**2).mean(axis=-1) / self.target_divisor**2


def draw(static: Static, seeds: Sequence[int]) -> Draw:
    """Return the data of each seed, or of the one seed that the data stream is held at."""
    problem = problem_of(static.problem)
    if static.data_seed == "vary":
        pairs = [problem.draw(seed) for seed in seeds]
    else:
        pairs = [problem.draw(int(static.data_seed))] * len(seeds)
    return Draw(np.stack([u for u, _ in pairs]), np.stack([noise for _, noise in pairs]))


def orders(static: Static, seeds: Sequence[int], epochs: int) -> Iterator[NDArray[np.int32]]:
    """Yield the order of the data, ``epochs`` epochs at a time.

    Each seed keeps its own generator from block to block, so that the numbers do not depend
    on how the budget is cut.

    Yields
    ------
    ndarray of shape (n_seeds, n_epochs, n_samples)
        The place of each sample in the epoch. With replacement, the samples drawn instead,
        the batches end to end: (n_seeds, n_epochs, n_batches · batch_size).
    """
    samples, _ = shape_of(static.problem)
    held = static.order_seed
    generators = [
        np.random.default_rng([ORDER_STREAM, seed if held == "vary" else int(held)])
        for seed in seeds
    ]
    per_epoch = batches_per_epoch(static)
    left = static.updates // per_epoch
    places = np.arange(samples, dtype=np.int32)
    while left > 0:
        count = min(epochs, left)
        if static.sampling == "reshuffled":
            start = np.broadcast_to(places, (count, samples))
            yield np.stack([rng.permuted(start, axis=1) for rng in generators])
        else:
            shape = (count, per_epoch * static.batch_size)
            yield np.stack(
                [rng.integers(samples, size=shape, dtype=np.int32) for rng in generators]
            )
        left -= count


def encode(static: Static, drawn: Draw, conditions: Sequence[Condition]) -> Encoding:
    """Return what the drawn data are under each condition."""
    return encode_problem(problem_of(static.problem), drawn, conditions, static.transformed)


def encode_problem(
    problem: Problem, drawn: Draw, conditions: Sequence[Condition], transformed: bool
) -> Encoding:
    """Return what the drawn data of a problem are under each condition.

    Conditions that differ only in how they train, and not in what they see, are encoded once.
    """
    keys = [(c.design, c.scale_factor, c.offset, c.scaler, c.target_scaler) for c in conditions]
    distinct = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    fit = least_squares(drawn.u, drawn.noise)
    columns = [
        _encode_one(problem, drawn, fit, conditions[keys.index(key)], transformed)
        for key in distinct
    ]
    place = np.array([distinct[key] for key in keys])
    stacked = {}
    for name in Encoding._fields:
        parts = [column[name] for column in columns]
        if name in ("u", "residual"):
            stacked[name] = np.stack(parts)[place] if transformed else parts[0]
        else:  # (n_distinct, S[, d]) to ([d, ]C, S)
            array = np.stack(parts)[place]
            stacked[name] = np.moveaxis(array, -1, 0) if array.ndim == 3 else array
    return Encoding(**stacked)


def least_squares(u: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return slope, intercept and residual of y on u with an intercept, for each data set.

    Parameters
    ----------
    u : ndarray of shape (..., n_samples, n_features)
    y : ndarray of shape (..., n_samples)

    Returns
    -------
    slope : ndarray of shape (..., n_features)
    intercept : ndarray of shape (...)
    residual : ndarray of shape (..., n_samples)
    """
    u_mean, y_mean = u.mean(axis=-2, keepdims=True), y.mean(axis=-1, keepdims=True)
    centred = u - u_mean
    slope = (np.linalg.pinv(centred) @ (y - y_mean)[..., None])[..., 0]
    intercept = y_mean[..., 0] - (u_mean[..., 0, :] * slope).sum(axis=-1)
    residual = y - (u * slope[..., None, :]).sum(axis=-1) - intercept[..., None]
    return slope, intercept, residual


def observed(problem: Problem, u: Array, condition: Condition) -> tuple[Array, Array, Array]:
    """Return the observed features x = scale u + offset, and scale and offset themselves."""
    scale, offset = problem.reference_scale.copy(), np.zeros_like(problem.reference_scale)
    scale[problem.scaled_feature] = condition.scale_factor
    offset[problem.scaled_feature] = condition.offset
    return scale * u + offset, scale, offset


def _encode_one(
    problem: Problem,
    drawn: Draw,
    noise_fit: tuple[Array, Array, Array],
    condition: Condition,
    transformed: bool,
) -> dict[str, Array]:
    """Return one condition's part of an `Encoding`, with shapes (S,) and (S, d)."""
    u, noise = drawn
    x, scale, offset = observed(problem, u, condition)
    if problem.signal is None:
        reference = scale if condition.design == "F" else problem.reference_scale
        law, level = problem.coefficients * reference, 0.0
        if condition.design == "F":
            level = float(problem.coefficients @ offset)
        # The law is linear in u, so only the noise has to be fitted.
        slope, intercept, residual = noise_fit
        slope, intercept = slope + law, intercept + level
        y = u @ law + level + noise
        weight_true = np.broadcast_to(law / scale, slope.shape)
    else:
        y = problem.signal(u) + noise
        slope, intercept, residual = least_squares(u, y)
        weight_true = np.full_like(slope, np.nan)
    weight_ols = slope / scale
    spread = u.std(axis=-2) * scale
    target_shift, target_divisor = (
        part[..., 0] for part in scalers.AFFINE[condition.target_scaler.name](y[..., None])
    )
    if transformed:
        u = scalers.transform(condition.scaler, x)
        slope, intercept, residual = least_squares(u, y)
        gain, shift = np.ones_like(slope), np.zeros_like(slope)
        centre = divisor = np.full_like(slope, np.nan)
    else:
        centre, divisor = scalers.AFFINE[condition.scaler.name](x)
        gain, shift = scale / divisor, (offset - centre) / divisor
    return {
        "u": u,
        "residual": residual,
        "gain": gain,
        "shift": shift,
        "slope": slope / target_divisor[:, None],
        "intercept": (intercept - target_shift) / target_divisor,
        "target_divisor": target_divisor,
        "target_shift": target_shift,
        "divisor": divisor,
        "centre": centre,
        "weight_true": weight_true,
        "weight_ols": weight_ols,
        "spread": spread,
    }
