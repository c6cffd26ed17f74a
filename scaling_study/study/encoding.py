"""The data of a seed under each condition: inputs, target, and the least loss of a linear model.

    draws ─► canonical coordinates ─► an affine map for each condition

Conditions differ in unit, offset, scaler and target scaler: affine maps from the canonical
coordinates of a seed. They are composed without computing the observed values, in which a large
offset would cost digits. NumPy in float64 throughout.
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
    """The data of a chunk in the training units of each run; d features, C × S runs.

    The training inputs are ``z = gain u + shift`` and the training target is
    ``y = u · slope + intercept + residual_scale residual``, with u in canonical coordinates and
    slope and intercept the least-squares solution. A target of classes has no such solution:
    slope and intercept are 0, and the residual is the class.
    """

    # (S, N, d) and (S, N), shared by the conditions unless a transformer makes (C, S, N, d).
    u: Array  # canonical inputs
    q: Array  # orthonormal columns of the same span, see `canonical.orthogonal`
    residual: Array  # least-squares residual of the target, of mean square 1; or the class
    factor: Array  # (d, d, 1 or C, S): triangle r with u = q r
    # (d, C, S) for a feature, (C, S) for the target.
    mean: Array  # the problem's features, or those of a transformer, are mean + unit u
    unit: Array
    gain: Array  # the map from u to the training inputs
    shift: Array
    slope: Array  # the target in training units
    intercept: Array
    residual_scale: Array
    target_divisor: Array  # the target scaler, in the target's original unit
    target_shift: Array
    target_mean: Array
    divisor: Array  # the feature scaler, z = (x - centre) / divisor; NaN where it is not affine
    centre: Array
    weight_true: Array  # coefficients per unit of x: of the law,
    weight_ols: Array  # and of the linear model with the least loss
    spread: Array  # standard deviation of x
    best: Array  # slopes per unit of u of the linear model with the least loss, NaN where unknown
    error: Array  # their standard errors
    loss_least: Array  # least loss of a linear model in training units, NaN where unknown
    loss_explained: Array  # how far it lies below the loss of the best constant prediction
    loss_null: Array  # that loss: the variance of the target, or the entropy of its classes

    def take(self, rows: NDArray[np.intp]) -> "Encoding":
        """Return the encoding of some of its conditions."""
        transformed = self.u.ndim == 4
        parts = {name: part[..., rows, :] for name, part in self._asdict().items()
                 if name not in (*DATA, "factor")}  # fmt: skip
        if transformed:
            parts |= {name: getattr(self, name)[rows] for name in DATA}
            parts["factor"] = self.factor[..., rows, :]
        return self._replace(**parts)


class Kinds(NamedTuple):
    """Conditions by their data: those of a kind differ only in how they train."""

    families: list[list[Condition]]  # one of each kind; a family's differ in scale and offset
    rows: NDArray[np.intp]  # the kind of each condition, counted through the families


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
    """Return the drawn data under each condition."""
    kinds = kinds_of(conditions)
    distinct = encode_kinds(problem_of(static.problem), drawn, kinds, static.transformed)
    return distinct.take(kinds.rows)


class _Source(NamedTuple):
    """The data that all conditions of some seeds share: a draw in canonical coordinates."""

    problem: Problem
    drawn: Draw
    inputs: Canonical
    q: Array
    factor: Array
    rest: Array  # the target, or only the noise if the law is linear
    fit: Fit | None  # the linear model of it, if all conditions share one


class _Family(NamedTuple):
    """Conditions that share design and scalers, and their units, ``x = scale u + offset``."""

    first: Condition
    scale: Array  # (C, 1, d)
    offset: Array


def encode_kinds(problem: Problem, drawn: Draw, kinds: Kinds, transformed: bool) -> Encoding:
    """Return the drawn data of a problem under a condition of each kind."""
    at_once = max(1, ENCODED_NUMBERS // drawn.u.size)
    inputs, rest, fit = canonical(drawn.u), _rest_of(problem, drawn), None
    if not problem.classes and not transformed:
        fit = optimum.least_squares(inputs.values, rest)
    source = _Source(problem, drawn, inputs, *orthogonal(inputs.values), rest, fit)
    parts = [
        _encode(source, family[start : start + at_once], transformed)
        for family in kinds.families
        for start in range(0, len(family), at_once)
    ]
    shared = () if transformed else (*DATA, "factor")
    whole = {}
    for name in Encoding._fields:
        arrays = [part[name] for part in parts]
        array = arrays[0] if name in shared else np.concatenate(arrays)
        if name not in DATA:  # features lead: (C, S, d) to (d, C, S), (C, S, d, d) to (d, d, C, S)
            array = np.moveaxis(array, range(2, array.ndim), range(array.ndim - 2))
        whole[name] = array[0] if name in DATA and shared else array
    return Encoding(**whole)


def _rest_of(problem: Problem, drawn: Draw) -> Array:
    return drawn.noise if problem.signal is None else problem.signal(drawn.u) + drawn.noise


def _encode(
    source: _Source, conditions: Sequence[Condition], transformed: bool
) -> dict[str, Array]:
    """Return the part of an `Encoding` of a family's conditions.

    Shapes are (C, S) and (C, S, d), and (C, S, N[, d]) for the data, 1 for C where they share it.
    """
    family = _Family(conditions[0], *units_of(source.problem, conditions))
    parts = (_transformed if transformed else _scaled)(source, family)
    lead, scale = parts["gain"].shape, family.scale
    parts |= (_of_classes if source.problem.classes else _of_quantity)(source, family, parts)
    law = np.broadcast_to(_law(source.problem, family) / scale, lead)
    parts["weight_true"] = law if source.problem.signal is None else np.full(lead, np.nan)
    parts["spread"] = np.broadcast_to(source.drawn.u.std(axis=-2) * np.abs(scale), lead)
    # Per unit of x: from per unit of u, by way of z where a transformer stands between.
    size = np.broadcast_to(source.inputs.unit * scale, lead)
    per_x = parts["gain"] * parts["divisor"] if transformed else size
    parts["weight_ols"] = parts["best"] * parts["target_divisor"][..., None] / per_x
    return parts


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


def _scaled(source: _Source, family: _Family) -> dict[str, Array]:
    """Return the inputs of an affine scaler."""
    values, mean, unit = source.inputs
    lead = len(family.scale), *mean.shape
    scale, offset = unit * family.scale, family.offset + family.scale * mean
    return {
        "u": values[None],
        "q": source.q[None],
        "factor": source.factor[None],
        "mean": np.broadcast_to(mean, lead),
        "unit": np.broadcast_to(unit, lead),
        **scalers.fit(family.first.scaler.name, values[None], scale, offset)._asdict(),
    }


def _transformed(source: _Source, family: _Family) -> dict[str, Array]:
    """Return the inputs of any other transformer, in canonical coordinates of their own."""
    x = family.scale[..., None, :] * source.drawn.u + family.offset[..., None, :]
    values, mean, unit = canonical(scalers.transform(family.first.scaler, x))
    size, start = (
        source.inputs.unit * family.scale,
        family.offset + family.scale * source.inputs.mean,
    )
    ratio = scalers.slope_between(source.inputs.values, values)  # of u: 1, -1 or NaN
    divisor = ratio * size / unit
    q, factor = orthogonal(values)
    return {
        "u": values,
        "q": q,
        "factor": factor,
        "mean": mean,
        "unit": unit,
        "gain": unit,
        "shift": mean,
        "divisor": divisor,
        "centre": start - mean * divisor,
    }


def _of_quantity(source: _Source, family: _Family, inputs: dict[str, Array]) -> dict[str, Array]:
    """Return the target of an `Encoding`, where it is a quantity."""
    scaler = family.first.target_scaler.name
    slope, error, mean, residual = _fitted(source, family, inputs)
    explained = ((inputs["factor"] @ slope[..., None])[..., 0] ** 2).sum(axis=-1)
    least = np.broadcast_to((residual**2).mean(axis=-1), explained.shape)
    shift, divisor = np.zeros_like(explained), np.ones_like(explained)
    if scaler != "none":
        values = (inputs["u"] * slope[..., None, :]).sum(axis=-1) + residual
        deviation = _or_one(np.sqrt(explained + least))[..., None]
        column = (values / deviation)[..., None]
        fitted = scalers.fit(scaler, column, deviation, mean[..., None])
        shift, divisor = fitted.centre[..., 0], fitted.divisor[..., 0]
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
    source: _Source, family: _Family, inputs: dict[str, Array]
) -> tuple[Array, Array, Array, Array]:
    """Return slope and error (C, S, d), mean (C, S) and residual (1 or C, S, N) of the target."""
    lead = inputs["gain"].shape
    law, mean = np.zeros(family.scale.shape), 0.0
    if source.problem.signal is None:
        law = _law(source.problem, family)
        mean = (law * source.inputs.mean).sum(axis=-1)
        if family.first.design == "F":  # the offset of the observed features adds to the target
            mean = family.offset @ source.problem.coefficients + mean
    per_unit = law * source.inputs.unit
    if source.fit is not None:
        # The law is linear in u, so that only the rest has to be fitted.
        slope, error, intercept, residual = source.fit
        residual = residual[None]
    else:
        values = (source.inputs.values * per_unit[..., None, :]).sum(axis=-1) + source.rest
        values = np.broadcast_to(values, (*lead[:2], values.shape[-1]))
        slope, error, intercept, residual = optimum.least_squares(inputs["u"], values)
        per_unit = np.zeros(lead)
    slope, error = (np.broadcast_to(part, lead) for part in (per_unit + slope, error))
    return slope, error, np.broadcast_to(mean + intercept, lead[:2]), residual


def _of_classes(source: _Source, family: _Family, inputs: dict[str, Array]) -> dict[str, Array]:
    """Return the target of an `Encoding`, where it is a class."""
    u, lead, classes, labels = (
        inputs["u"],
        inputs["gain"].shape,
        source.problem.classes,
        source.rest,
    )
    best, error, least = np.full(lead, np.nan), np.full(lead, np.nan), np.full(lead[:2], np.nan)
    zero, one = np.zeros(lead[:2]), np.ones(lead[:2])
    null = np.array([optimum.entropy(of_seed, classes) for of_seed in labels])
    if family.first.model.name == "linear":
        for c, s in np.ndindex(len(u), lead[1]):
            found = optimum.logistic(u[c, s], labels[s], classes)
            rows = slice(None) if len(u) == 1 else c
            least[rows, s] = found.loss
            if classes == 2:
                best[rows, s], error[rows, s] = found.slope[:, 0], found.error
    return {
        "residual": np.broadcast_to(labels, (len(u), *labels.shape)),
        "slope": np.zeros(lead),
        "intercept": zero,
        "residual_scale": one,
        "target_divisor": one,
        "target_shift": zero,
        "target_mean": zero,
        "best": best,
        "error": error,
        "loss_least": least,
        "loss_explained": null - least,
        "loss_null": np.broadcast_to(null, lead[:2]),
    }


def _law(problem: Problem, family: _Family) -> Array:
    """Return the coefficients of a linear law per unit of a problem's features, (C, 1, d)."""
    fixed = family.first.design == "F"
    scale = family.scale if fixed else np.broadcast_to(problem.reference_scale, family.scale.shape)
    return problem.coefficients * scale


def _or_one(deviation: Array) -> Array:
    return np.where(deviation > 0, deviation, 1.0)


class HeldOut(NamedTuple):
    """Held-out rows under K kinds of conditions; S seeds, M rows."""

    # (K, S, M, d), or (1, S, M, d) where all kinds share them: in the canonical coordinates of the
    # training rows.
    u: Array
    # (K, S, M): in training units without the intercept of `Encoding`; or the class.
    target: Array


def encode_held_out(
    problem: Problem, drawn: Draw, new: Draw, kinds: Kinds, distinct: Encoding
) -> HeldOut:
    """Return held-out rows in the coordinates of the training rows.

    ``drawn`` and ``new`` are the training and the held-out rows of the same seeds, and
    ``distinct`` is the result of `encode_kinds` for the training rows.
    """
    inputs, targets = [], []
    trained, rest = canonical(drawn.u), _rest_of(problem, new)
    for conditions in kinds.families:
        family = _Family(conditions[0], *units_of(problem, conditions))
        if not scalers.is_affine(family.first.scaler):
            rows = (observed(problem, u, conditions) for u in (drawn.u, new.u))
            inputs.append(scalers.transform(family.first.scaler, *rows))
        if problem.signal is None:
            per_unit = _law(problem, family) * trained.unit
            moved = (trained.of(new.u) * per_unit[..., None, :]).sum(axis=-1)
            targets.append(moved + rest - drawn.noise.mean(axis=-1, keepdims=True))
        else:
            targets.append(np.broadcast_to(rest, (len(conditions), *rest.shape)))
    target = np.concatenate(targets)
    if problem.signal is not None:
        target = target - distinct.target_mean[..., None]
    mean, unit = (np.moveaxis(part, 0, -1)[..., None, :] for part in (distinct.mean, distinct.unit))
    u = (np.concatenate(inputs) - mean) / unit if inputs else trained.of(new.u)[None]
    return HeldOut(u, target / distinct.target_divisor[..., None])
