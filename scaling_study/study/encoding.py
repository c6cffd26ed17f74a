"""What drawn data mean under each condition: inputs, target, and the least loss of a linear model.

    draws ─► canonical coordinates ─► an affine map for each condition

All that distinguishes conditions (unit, offset, scaler, target scaler) is an affine map from the
canonical coordinates of a seed. The maps are composed without passing through the observed
values, in which a large offset would cost digits. NumPy in float64 throughout.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.study import optimum, scalers
from scaling_study.study.canonical import Canonical, canonical, orthogonal
from scaling_study.study.conditions import Condition, Static, problem_of
from scaling_study.study.draws import Draw
from scaling_study.study.optimum import Fit
from scaling_study.study.problems import Problem

Array = NDArray[np.float64]
DATA = ("u", "q", "residual")
ENCODED_NUMBERS = 2**22  # numbers of observed data that are held at once


class Encoding(NamedTuple):
    """What a chunk's data are in each run's own training units; d features, C × S runs.

    The training inputs are ``z = gain u + shift`` and the training target is
    ``y = u · slope + intercept + residual_scale residual``, with u in canonical coordinates and
    slope and intercept the least-squares solution. A target of classes has no such solution:
    slope and intercept are 0, and the residual is the class.

    Attributes
    ----------
    u : ndarray of shape (S, N, d) or (C, S, N, d)
        Canonical inputs, shared by the conditions unless a transformer makes its own.
    q : ndarray of the shape of u
        Orthonormal columns that span the same, see `canonical.orthogonal`.
    residual : ndarray of shape (S, N) or (C, S, N)
        Least-squares residual of the target, of mean square 1; or the class.
    factor : ndarray of shape (d, d, 1 or C, S)
        Triangle r with ``u = q r``.
    mean, unit : ndarray of shape (d, C, S)
        A problem's features, or what a transformer made of them, are ``mean + unit u``.
    gain, shift : ndarray of shape (d, C, S)
        The map from u to the training inputs.
    slope : ndarray of shape (d, C, S)
    intercept, residual_scale : ndarray of shape (C, S)
        The target, in training units.
    target_divisor, target_shift, target_mean : ndarray of shape (C, S)
        The target scaler, and the target's mean, in the target's original unit.
    divisor, centre : ndarray of shape (d, C, S)
        The feature scaler: ``z = (x - centre) / divisor``; NaN where it is not affine.
    weight_true, weight_ols : ndarray of shape (d, C, S)
        Coefficients per unit of x: of the law, and of the linear model with the least loss.
    spread : ndarray of shape (d, C, S)
        Standard deviation of x.
    best, error : ndarray of shape (d, C, S)
        Slopes of the linear model with the least loss (least squares; maximum likelihood for
        two classes), per unit of u, and their standard errors; NaN where there are none.
    loss_least, loss_explained, loss_null : ndarray of shape (C, S)
        Least loss of a linear model, NaN where none is known; how far it lies below the loss of
        the best constant prediction; and that loss, the target's variance or the entropy of its
        classes. In training units.
    """

    u: Array
    q: Array
    residual: Array
    factor: Array
    mean: Array
    unit: Array
    gain: Array
    shift: Array
    slope: Array
    intercept: Array
    residual_scale: Array
    target_divisor: Array
    target_shift: Array
    target_mean: Array
    divisor: Array
    centre: Array
    weight_true: Array
    weight_ols: Array
    spread: Array
    best: Array
    error: Array
    loss_least: Array
    loss_explained: Array
    loss_null: Array

    def take(self, rows: NDArray[np.intp]) -> "Encoding":
        """Return the encoding with these of its conditions."""
        own = {
            name: part[..., rows, :]
            for name, part in self._asdict().items()
            if name not in DATA and (name != "factor" or self.u.ndim == 4)
        }
        if self.u.ndim == 4:
            own |= {name: getattr(self, name)[rows] for name in DATA}
        return self._replace(**own)


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


def encode(static: Static, drawn: Draw, conditions: Sequence[Condition]) -> Encoding:
    """Return what the drawn data are under each condition."""
    kinds = kinds_of(conditions)
    return encode_kinds(problem_of(static.problem), drawn, kinds, static.transformed).take(
        kinds.rows
    )


class _Source(NamedTuple):
    """What all conditions of some seeds share: a problem's draw, in canonical coordinates.

    ``rest`` is the target, or the noise alone where the law is linear; ``fit`` is the linear
    model of it, None where it is of classes or a transformer makes inputs of its own.
    """

    problem: Problem
    drawn: Draw
    inputs: Canonical
    q: Array
    factor: Array
    rest: Array
    fit: Fit | None


def _source_of(problem: Problem, drawn: Draw, transformed: bool) -> _Source:
    inputs = canonical(drawn.u)
    rest = drawn.noise if problem.signal is None else problem.signal(drawn.u) + drawn.noise
    fit = None
    if not problem.classes and not transformed:
        fit = optimum.least_squares(inputs.values, rest)
    return _Source(problem, drawn, inputs, *orthogonal(inputs.values), rest, fit)


def encode_kinds(problem: Problem, drawn: Draw, kinds: Kinds, transformed: bool) -> Encoding:
    """Return what the drawn data of a problem are under a condition of each kind."""
    at_once = max(1, ENCODED_NUMBERS // drawn.u.size)
    source = _source_of(problem, drawn, transformed)
    parts = [
        _encode(source, family[start : start + at_once], transformed)
        for family in kinds.families
        for start in range(0, len(family), at_once)
    ]
    shared = () if transformed else (*DATA, "factor")
    whole = {
        name: parts[0][name] if name in shared else np.concatenate([part[name] for part in parts])
        for name in Encoding._fields
    }
    # Features lead: (C, S, d) to (d, C, S), and (C, S, d, d) to (d, d, C, S).
    for name, array in whole.items():
        if name == "factor":
            whole[name] = np.moveaxis(array, (-2, -1), (0, 1))
        elif name not in DATA and array.ndim == 3:
            whole[name] = np.moveaxis(array, -1, 0)
    if not transformed:
        whole |= {name: whole[name][0] for name in DATA}
    return Encoding(**whole)


class _Inputs(NamedTuple):
    """The inputs of conditions that share a scaler; arrays (C, S, d), data (1 or C, S, N, d)."""

    u: Array
    q: Array
    factor: Array
    mean: Array
    unit: Array
    gain: Array
    shift: Array
    divisor: Array
    centre: Array


def _encode(
    source: _Source, conditions: Sequence[Condition], transformed: bool
) -> dict[str, Array]:
    """Return the part of an `Encoding` of conditions that share design and scalers.

    Shapes are (C, S) and (C, S, d), and (C, S, N[, d]) for the data, 1 for C where they share it.
    """
    scale, offset = units_of(source.problem, conditions)
    see = _transformed if transformed else _scaled
    inputs = see(source, conditions, scale, offset)
    lead = inputs.gain.shape
    if source.problem.classes:
        target = _of_classes(source, conditions, inputs)
    else:
        target = _of_quantity(source, conditions, inputs, scale, offset)
    law = np.broadcast_to(_law(source.problem, conditions[0].design, scale) / scale, lead)
    size = source.inputs.unit * scale
    parts = {
        **inputs._asdict(),
        **target,
        "weight_true": law if source.problem.signal is None else np.full(lead, np.nan),
        "spread": np.broadcast_to(source.drawn.u.std(axis=-2) * np.abs(scale), lead),
    }
    # Per unit of x: what is per unit of u, by way of z where a transformer stands between.
    per_x = inputs.gain * inputs.divisor if transformed else np.broadcast_to(size, lead)
    parts["weight_ols"] = parts["best"] * parts["target_divisor"][..., None] / per_x
    return {name: parts[name] for name in Encoding._fields}


def units_of(problem: Problem, conditions: Sequence[Condition]) -> tuple[Array, Array]:
    """Return scale and offset of the observed features ``x = scale u + offset``, (C, 1, d)."""
    scale = np.tile(problem.reference_scale, (len(conditions), 1, 1)).astype(np.float64)
    offset = np.zeros_like(scale)
    scale[:, 0, problem.scaled_feature] = [c.scale_factor for c in conditions]
    offset[:, 0, problem.scaled_feature] = [c.offset for c in conditions]
    return scale, offset


def observed(problem: Problem, u: Array, conditions: Sequence[Condition]) -> Array:
    """Return the observed features of each condition, (n_conditions, n_seeds, n_samples, d)."""
    scale, offset = units_of(problem, conditions)
    return scale[..., None, :] * u + offset[..., None, :]


def _scaled(
    source: _Source, conditions: Sequence[Condition], scale: Array, offset: Array
) -> _Inputs:
    """Return the inputs of an affine scaler."""
    values, mean, unit = source.inputs
    lead = len(conditions), *mean.shape
    fitted = scalers.fit(
        conditions[0].scaler.name, values[None], unit * scale, offset + scale * mean
    )
    return _Inputs(
        values[None],
        source.q[None],
        source.factor[None],
        np.broadcast_to(mean, lead),
        np.broadcast_to(unit, lead),
        *fitted,
    )


def _transformed(
    source: _Source, conditions: Sequence[Condition], scale: Array, offset: Array
) -> _Inputs:
    """Return the inputs of any other transformer, in canonical coordinates of their own."""
    x = observed(source.problem, source.drawn.u, conditions)
    own = canonical(scalers.transform(conditions[0].scaler, x))
    size, start = source.inputs.unit * scale, offset + scale * source.inputs.mean
    ratio = scalers.slope_between(source.inputs.values, own.values)  # of u: 1, -1 or NaN
    divisor = ratio * size / own.unit
    return _Inputs(
        own.values,
        *orthogonal(own.values),
        own.mean,
        own.unit,
        own.unit,
        own.mean,
        divisor,
        start - own.mean * divisor,
    )


def _of_quantity(
    source: _Source,
    conditions: Sequence[Condition],
    inputs: _Inputs,
    scale: Array,
    offset: Array,
) -> dict[str, Array]:
    """Return what an `Encoding` holds of a target that is a quantity."""
    design, scaler = conditions[0].design, conditions[0].target_scaler.name
    slope, error, mean, residual = _fitted(source, inputs, design, scale, offset)
    explained = _square_of(inputs.factor, slope)
    least = np.broadcast_to((residual**2).mean(axis=-1), explained.shape)
    shift, divisor = np.zeros_like(explained), np.ones_like(explained)
    if scaler != "none":
        values = (inputs.u * slope[..., None, :]).sum(axis=-1) + residual
        deviation = _or_one(np.sqrt(explained + least))[..., None]
        column = (values / deviation)[..., None]
        divisor, shift = (
            part[..., 0] for part in scalers.fit(scaler, column, deviation, mean[..., None])[2:]
        )
    size = _or_one(np.sqrt((residual**2).mean(axis=-1)))
    best = slope / divisor[..., None]
    return {
        "residual": residual / size[..., None],
        "slope": best,
        "intercept": (mean - shift) / divisor,
        "residual_scale": size / divisor,
        "target_divisor": divisor,
        "target_shift": shift,
        "target_mean": mean,
        "best": best,
        "error": error / divisor[..., None],
        "loss_least": least / divisor**2,
        "loss_explained": explained / divisor**2,
        "loss_null": (explained + least) / divisor**2,
    }


def _fitted(
    source: _Source, inputs: _Inputs, design: str, scale: Array, offset: Array
) -> tuple[Array, Array, Array, Array]:
    """Return slope and error (C, S, d), mean (C, S) and residual (1 or C, S, N) of the target."""
    lead = inputs.gain.shape
    law, level, mean = np.zeros(scale.shape), 0.0, 0.0
    if source.problem.signal is None:
        law, level = _law(source.problem, design, scale), _level(source.problem, design, offset)
        mean = level + (law * source.inputs.mean).sum(axis=-1)
    per_unit = law * source.inputs.unit
    if source.fit is not None:
        # The law is linear in u, so that only the rest has to be fitted.
        slope, error, intercept, residual = source.fit
        residual = residual[None]
    else:
        values = (source.inputs.values * per_unit[..., None, :]).sum(axis=-1) + source.rest
        values = np.broadcast_to(values, (*lead[:2], values.shape[-1]))
        slope, error, intercept, residual = optimum.least_squares(inputs.u, values)
        per_unit = np.zeros(lead)
    slope, error = (np.broadcast_to(part, lead) for part in (per_unit + slope, error))
    return slope, error, np.broadcast_to(mean + intercept, lead[:2]), residual


def _of_classes(
    source: _Source, conditions: Sequence[Condition], inputs: _Inputs
) -> dict[str, Array]:
    """Return what an `Encoding` holds of a target that is a class."""
    lead, classes = inputs.gain.shape, source.problem.classes
    unknown, one = np.full(lead, np.nan), np.ones(lead[:2])
    best, error, least = unknown.copy(), unknown.copy(), unknown[..., 0].copy()
    labels = source.rest
    null = np.array([optimum.entropy(of_seed, classes) for of_seed in labels])
    if conditions[0].model.name == "linear":
        for c, s in np.ndindex(len(inputs.u), lead[1]):
            found = optimum.logistic(inputs.u[c, s], labels[s], classes)
            rows = slice(None) if len(inputs.u) == 1 else c
            least[rows, s] = found.loss
            if classes == 2:
                best[rows, s], error[rows, s] = found.slope[:, 0], found.error
    return {
        "residual": np.broadcast_to(labels, (len(inputs.u), *labels.shape)),
        "slope": np.zeros(lead),
        "intercept": np.zeros(lead[:2]),
        "residual_scale": one,
        "target_divisor": one,
        "target_shift": np.zeros(lead[:2]),
        "target_mean": np.zeros(lead[:2]),
        "best": best,
        "error": error,
        "loss_least": least,
        "loss_explained": null - least,
        "loss_null": np.broadcast_to(null, lead[:2]),
    }


def _law(problem: Problem, design: str, scale: Array) -> Array:
    """Return a linear law's coefficients of a problem's features, (C, 1, d)."""
    reference = scale if design == "F" else np.broadcast_to(problem.reference_scale, scale.shape)
    return problem.coefficients * reference


def _level(problem: Problem, design: str, offset: Array) -> Array:
    """Return what a linear law adds for the offset of the observed features, (C, 1)."""
    return offset @ problem.coefficients if design == "F" else np.zeros(offset.shape[:2])


def _square_of(factor: Array, slope: Array) -> Array:
    """Return the mean square of ``u · slope``."""
    return ((factor @ slope[..., None])[..., 0] ** 2).sum(axis=-1)


def _or_one(deviation: Array) -> Array:
    return np.where(deviation > 0, deviation, 1.0)


class HeldOut(NamedTuple):
    """Rows that are not trained on, as K kinds of conditions see them; S seeds, M rows.

    Attributes
    ----------
    u : ndarray of shape (K or 1, S, M, d)
        In the canonical coordinates of the training rows; 1 where all kinds share them.
    target : ndarray of shape (K, S, M)
        In training units, less the intercept of `Encoding`; the number of the class where there
        are classes.
    """

    u: Array
    target: Array


def encode_held_out(
    problem: Problem, drawn: Draw, new: Draw, kinds: Kinds, distinct: Encoding
) -> HeldOut:
    """Return held-out rows in the coordinates that the drawn rows have set.

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
    own = canonical(drawn.u)
    rest = new.noise if problem.signal is None else problem.signal(new.u) + new.noise
    for family in kinds.families:
        scale, _ = units_of(problem, family)
        if not scalers.is_affine(family[0].scaler):
            fitted_to, seen = (observed(problem, rows, family) for rows in (drawn.u, new.u))
            inputs.append(scalers.transform(family[0].scaler, fitted_to, seen))
        if problem.signal is None:
            per_unit = _law(problem, family[0].design, scale) * own.unit
            moved = (own.of(new.u) * per_unit[..., None, :]).sum(axis=-1)
            targets.append(moved + rest - drawn.noise.mean(axis=-1, keepdims=True))
        else:
            targets.append(np.broadcast_to(rest, (len(family), *rest.shape)))
    target = np.concatenate(targets)
    if problem.signal is not None:
        target = target - distinct.target_mean[..., None]
    mean, unit = (np.moveaxis(part, 0, -1)[..., None, :] for part in (distinct.mean, distinct.unit))
    u = (np.concatenate(inputs) - mean) / unit if inputs else own.of(new.u)[None]
    return HeldOut(u, target / distinct.target_divisor[..., None])
