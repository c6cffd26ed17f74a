"""The random numbers of a seed, and what they mean under each condition.

NumPy in float64 throughout, so that the same seed names the same numbers on every platform
and JAX version. A seed names three independent streams: data, initialisation and batch
order; every condition of a seed shares them (common random numbers).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.experiment import checks, scalers
from scaling_study.experiment.checks import HELD_OUT
from scaling_study.experiment.conditions import (
    Condition,
    Static,
    batches_per_epoch,
    problem_of,
    shape_of,
)
from scaling_study.experiment.problems import Problem
from scaling_study.experiment.values import told

Array = NDArray[np.float64]
ORDER_STREAM = 3
ENCODED_NUMBERS = 2**22  # numbers of observed data that are held at once


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
    solution. Both are exact rewritings, in which no large offset is left to cancel. A target
    of classes has no such solution: slope and intercept are 0, and the residual is the class.

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
    loss_ols : ndarray of shape (C, S)
        Least mean squared error of a linear model, in training units; 0 for classes.
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
    loss_ols: Array

    def take(self, rows: NDArray[np.intp]) -> "Encoding":
        """Return the encoding with these of its conditions."""
        own = {name: getattr(self, name)[..., rows, :] for name in self._fields[2:]}
        if self.u.ndim == 4:
            own |= {"u": self.u[rows], "residual": self.residual[rows]}
        return self._replace(**own)


def draw(static: Static, seeds: Sequence[int]) -> Draw:
    """Return the data of each seed, or of the one seed that the data stream is held at."""
    return _stacked(static, seeds, "draw")


def held_out(static: Static, seeds: Sequence[int]) -> Draw:
    """Return rows of each seed that it is not trained on, in canonical units."""
    return _stacked(static, seeds, "held_out")


def _stacked(static: Static, seeds: Sequence[int], name: str) -> Draw:
    """Return the rows of each seed, or raise a `DataError` with what is wrong with them."""
    problem, shape, trained = problem_of(static.problem), None, name == "draw"
    own = list(seeds) if static.data_seed == "vary" else [int(static.data_seed)]
    rows = getattr(problem, name)
    if rows is None:
        name, rows, own = "draw", problem.draw, [HELD_OUT + seed for seed in own]
    if name == "draw":
        shape = shape_of(static.problem)
    with told(f"problem {static.problem.name!r}"):
        parts = checks.stack(problem, rows, own, shape, name=name, trained=trained)
    repeats = len(seeds) // len(own)
    return Draw(*(np.repeat(part, repeats, axis=0) if repeats > 1 else part for part in parts))


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
    while left > 0:
        count = min(epochs, left)
        if static.sampling == "reshuffled":
            yield permutations(generators, count, samples)
        else:
            shape = (count, per_epoch * static.batch_size)
            yield np.stack(
                [rng.integers(samples, size=shape, dtype=np.int32) for rng in generators]
            )
        left -= count


def permutations(
    generators: Sequence[np.random.Generator], count: int, samples: int
) -> NDArray[np.int32]:
    """Return ``count`` permutations from each generator.

    Sorts random keys that hold the sample's number in their lowest bits, six times as fast as
    `numpy.random.Generator.permuted` and as uniform as keys are distinct: two of 100 samples
    share the 25 bits of their keys in one of 6,800 epochs, and keep their order then.

    Returns
    -------
    ndarray of shape (n_generators, count, samples)
    """
    dtype = np.dtype(np.uint32 if samples <= 128 else np.uint64)
    most, low = np.iinfo(dtype).max, dtype.type(2 ** int(samples - 1).bit_length() - 1)
    keys = np.empty((len(generators), count, samples), dtype)
    for own, rng in zip(keys, generators, strict=True):
        own[...] = rng.integers(most, size=own.shape, dtype=dtype, endpoint=True)
    keys &= ~low
    keys |= np.arange(samples, dtype=dtype)
    keys.sort(axis=-1)
    keys &= low
    return keys.astype(np.int32)


def encode(static: Static, drawn: Draw, conditions: Sequence[Condition]) -> Encoding:
    """Return what the drawn data are under each condition."""
    kinds = kinds_of(conditions)
    return encode_kinds(problem_of(static.problem), drawn, kinds, static.transformed).take(
        kinds.rows
    )


class Kinds(NamedTuple):
    """Conditions by what they see: those of a kind differ only in how they train.

    Attributes
    ----------
    families : list of list of Condition
        One condition of each kind; a family's differ only in scale factor and offset.
    rows : ndarray of shape (n_conditions,)
        The kind of each condition, counted through the families.
    """

    families: list[list[Condition]]
    rows: NDArray[np.intp]


def kinds_of(conditions: Sequence[Condition]) -> Kinds:
    """Return the kinds of some conditions."""
    keys = [(c.design, c.scaler, c.target_scaler, c.scale_factor, c.offset) for c in conditions]
    families: dict[Any, dict[Any, Condition]] = {}
    for key, condition in zip(keys, conditions, strict=True):
        families.setdefault(key[:3], {}).setdefault(key, condition)
    kinds = [key for family in families.values() for key in family]
    place = {key: row for row, key in enumerate(kinds)}
    rows = np.array([place[key] for key in keys])
    return Kinds([list(family.values()) for family in families.values()], rows)


def encode_kinds(problem: Problem, drawn: Draw, kinds: Kinds, transformed: bool) -> Encoding:
    """Return what the drawn data of a problem are under a condition of each kind."""
    at_once = max(1, ENCODED_NUMBERS // drawn.u.size)
    fit = _fit(problem, drawn.u, drawn.noise)
    columns = [
        _encode(problem, drawn, fit, family[start : start + at_once], transformed)
        for family in kinds.families
        for start in range(0, len(family), at_once)
    ]
    stacked = {}
    for name in Encoding._fields:
        if name in ("u", "residual") and not transformed:
            stacked[name] = columns[0][name][0]
            continue
        array = np.concatenate([column[name] for column in columns])
        # (C, S, d) to (d, C, S)
        per_feature = array.ndim == 3 and name != "residual"
        stacked[name] = np.moveaxis(array, -1, 0) if per_feature else array
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


def observed(
    problem: Problem, u: Array, conditions: Sequence[Condition]
) -> tuple[Array, Array, Array]:
    """Return the observed features x = scale u + offset of each condition.

    Returns
    -------
    x : ndarray of shape (n_conditions, n_seeds, n_samples, n_features)
    scale, offset : ndarray of shape (n_conditions, 1, n_features)
    """
    scaled = problem.scaled_feature
    scale = np.tile(problem.reference_scale, (len(conditions), 1, 1))
    offset = np.zeros_like(scale)
    scale[:, 0, scaled] = [c.scale_factor for c in conditions]
    offset[:, 0, scaled] = [c.offset for c in conditions]
    x = np.tile(problem.reference_scale * u, (len(conditions), *[1] * u.ndim))
    x[..., scaled] = scale[..., scaled, None] * u[..., scaled] + offset[..., scaled, None]
    return x, scale, offset


def _encode(
    problem: Problem,
    drawn: Draw,
    noise_fit: tuple[Array, Array, Array],
    conditions: Sequence[Condition],
    transformed: bool,
) -> dict[str, Array]:
    """Return the part of an `Encoding` of conditions that share design and scalers.

    Shapes are (C, S) and (C, S, d), and (C, S, N[, d]) for the data.
    """
    u, noise = drawn
    design, scaler, target_scaler = (
        getattr(conditions[0], name) for name in ("design", "scaler", "target_scaler")
    )
    x, scale, offset = observed(problem, u, conditions)
    if problem.signal is None:
        law, level = _law(problem, design, scale, offset)
        # The law is linear in u, so only the noise has to be fitted.
        slope, intercept, residual = noise_fit
        slope, intercept = slope + law, intercept + level
        y = np.einsum("snd,cid->csn", u, law) + level[..., None] + noise
        least = (residual**2).mean(axis=-1)
        residual = np.broadcast_to(residual, y.shape)
        weight_true = np.broadcast_to(law / scale, slope.shape)
    else:
        y = np.broadcast_to(problem.signal(u) + noise, x.shape[:-1])
        slope, intercept, residual = _fit(problem, np.broadcast_to(u, x.shape), y)
        least = (residual**2).mean(axis=-1)
        weight_true = np.full_like(slope, np.nan)
    weight_ols = np.full_like(slope, np.nan) if problem.classes else slope / scale
    spread = u.std(axis=-2) * scale
    target_shift, target_divisor = (
        part[..., 0] for part in scalers.AFFINE[target_scaler.name](y[..., None])
    )
    if transformed:
        u = scalers.transform(scaler, x)
        slope, intercept, residual = _fit(problem, u, y)
        least = (residual**2).mean(axis=-1)
        gain, shift = np.ones_like(slope), np.zeros_like(slope)
        centre = divisor = np.full_like(slope, np.nan)
    else:
        centre, divisor = scalers.AFFINE[scaler.name](x)
        gain, shift = scale / divisor, (offset - centre) / divisor
    return {
        "u": u if transformed else u[None],
        "residual": residual,
        "gain": gain,
        "shift": shift,
        "slope": slope / target_divisor[..., None],
        "intercept": (intercept - target_shift) / target_divisor,
        "target_divisor": target_divisor,
        "target_shift": target_shift,
        "divisor": divisor,
        "centre": centre,
        "weight_true": weight_true,
        "weight_ols": weight_ols,
        "spread": spread,
        "loss_ols": np.zeros_like(target_divisor) if problem.classes else least / target_divisor**2,
    }


def _fit(problem: Problem, u: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return slope, intercept and residual: by least squares, or a residual of classes."""
    if not problem.classes:
        return least_squares(u, y)
    return np.zeros((*u.shape[:-2], u.shape[-1])), np.zeros(u.shape[:-2]), y


def _law(problem: Problem, design: str, scale: Array, offset: Array) -> tuple[Array, Array]:
    """Return a linear law's coefficients of u (C, 1, d), and its level (C, 1)."""
    reference = scale if design == "F" else np.broadcast_to(problem.reference_scale, scale.shape)
    level = offset @ problem.coefficients if design == "F" else np.zeros(scale.shape[:2])
    return problem.coefficients * reference, level


class HeldOut(NamedTuple):
    """Rows that are not trained on, as K kinds of conditions see them; S seeds, M rows.

    Attributes
    ----------
    inputs : ndarray of shape (K, S, M, d)
        Scaled by what was fitted to the training rows.
    target : ndarray of shape (K, S, M)
        In training units of the target; the number of the class where there are classes.
    """

    inputs: Array
    target: Array


def encode_held_out(
    problem: Problem, drawn: Draw, new: Draw, kinds: Kinds, distinct: Encoding
) -> HeldOut:
    """Return held-out rows in the training units that the drawn rows have set.

    Parameters
    ----------
    problem : Problem
    drawn, new : Draw
        The rows trained on, and those held out, of the same seeds.
    kinds : Kinds
    distinct : Encoding
        Of the drawn rows under each kind of condition, `encode_kinds`.
    """
    inputs, targets = [], []
    for family in kinds.families:
        x, scale, offset = observed(problem, new.u, family)
        if not scalers.is_affine(family[0].scaler):
            fitted_to = observed(problem, drawn.u, family)[0]
            inputs.append(scalers.transform(family[0].scaler, fitted_to, x))
        if problem.signal is None:
            law, level = _law(problem, family[0].design, scale, offset)
            y = np.einsum("snd,cid->csn", new.u, law) + level[..., None] + new.noise
        else:
            y = np.broadcast_to(problem.signal(new.u) + new.noise, x.shape[:-1])
        targets.append(y)
    if not inputs:
        gain, shift = (np.moveaxis(part, 0, -1)[:, :, None] for part in distinct[2:4])
        inputs = [gain * new.u + shift]
    y = np.concatenate(targets)
    y = (y - distinct.target_shift[..., None]) / distinct.target_divisor[..., None]
    return HeldOut(np.concatenate(inputs), y)
