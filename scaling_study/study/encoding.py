"""The data of a seed under each condition: inputs, target, and the least loss of a linear model.

    draws ─► canonical coordinates ─► an affine map for each condition

The data of C conditions and S seeds have N rows of d features. Canonical coordinates are columns of
mean 0 and standard deviation 1, see `scaling_study.study.canonical`. Conditions differ in unit,
offset, scaler and target scaler, which are affine maps from there. The maps are composed without
computing the observed values, in which a large offset would cost digits. NumPy in float64.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling_study.study import optimum, scalers
from scaling_study.study.canonical import Canonical, canonical, orthogonal
from scaling_study.study.chunk_shapes import Static
from scaling_study.study.conditions import Condition, problem_of
from scaling_study.study.draws import Draw
from scaling_study.study.optimum import Fit
from scaling_study.study.problems import Problem

Array = NDArray[np.float64]
DATA = ("u", "q", "residual")
ENCODED_NUMBERS = 2**22  # numbers of observed data that are held at once


class Encoding(NamedTuple):
    """The data of a chunk in the training units of each run.

    The training inputs are ``z = feature_scale u + feature_shift`` and the training target is
    ``y = u · ols_coefficient + intercept + residual_scale residual``, with u in canonical
    coordinates. A target of classes has no such solution: coefficient and intercept are 0, and
    the residual is the class.
    """

    # (S, N, d) and (S, N), shared by the conditions unless a transformer makes (C, S, N, d).
    u: Array  # canonical inputs
    q: Array  # orthonormal columns with the span of u, see `canonical.orthogonal`
    residual: Array  # least-squares residual of the target, scaled to mean square 1; or the class
    factor: Array  # (d, d, 1 or C, S), the triangular r with u = q r
    # (d, C, S) for a feature, (C, S) for the target.
    # The problem's features, or those of a transformer, are mean + unit u.
    mean: Array
    unit: Array
    # The training inputs are feature_scale u + feature_shift.
    feature_scale: Array
    feature_shift: Array
    # The training target is u · ols_coefficient + intercept + residual_scale residual.
    ols_coefficient: Array
    intercept: Array
    residual_scale: Array
    # The target scaler maps y to (y - target_shift) / target_divisor, in the original unit of y.
    target_divisor: Array
    target_shift: Array
    target_mean: Array  # mean of the target in its original unit
    # The feature scaler maps x to z = (x - centre) / divisor; NaN where it is not affine.
    divisor: Array
    centre: Array
    weight_true: Array  # true coefficients per unit of x, NaN where the target is not linear in x
    weight_ols: Array  # coefficients per unit of x of the linear model with the least loss
    spread: Array  # standard deviation of x
    best: Array  # the linear model with the least loss, per unit of u; NaN where unknown
    error: Array  # standard errors of `best`
    loss_least: Array  # least loss of a linear model in training units, NaN where unknown
    loss_explained: Array  # loss_null - loss_least
    loss_null: Array  # loss of the best constant: the target's variance, or its classes' entropy

    def take(self, rows: NDArray[np.intp]) -> "Encoding":
        """Return the encoding of some of its conditions."""
        transformed = self.u.ndim == 4
        parts = {name: part[..., rows, :] for name, part in self._asdict().items()
                 if name not in (*DATA, "factor")}  # fmt: skip
        if transformed:
            parts |= {name: getattr(self, name)[rows] for name in DATA}
            parts["factor"] = self.factor[..., rows, :]
        return self._replace(**parts)

    def for_seeds(self, count: int) -> "Encoding":
        """Return the encoding of one seed for as many seeds as share its data, as views."""

        def repeated(name: str, part: Array) -> Array:
            axis = part.ndim - {"u": 3, "q": 3, "residual": 2}.get(name, 1)
            return np.broadcast_to(part, (*part.shape[:axis], count, *part.shape[axis + 1 :]))

        return Encoding(*(repeated(*item) for item in self._asdict().items()))


class UniqueDatasets(NamedTuple):
    """The unique data sets of some conditions, as of `numpy.unique`.

    Conditions with the same data set differ only in how they train.
    """

    #: One condition of each data set. Those of a family differ only in scale and offset.
    families: list[list[Condition]]
    #: The data set of each condition, an index into the concatenated families: the *inverse* of
    #: `numpy.unique`, with which `Encoding.take` gives the encoding of every condition.
    inverse: NDArray[np.intp]


def unique_datasets(conditions: Sequence[Condition]) -> UniqueDatasets:
    """Return the unique data sets of some conditions."""
    keys = [(c.design, c.scaler, c.target_scaler, c.scale_factor, c.offset) for c in conditions]
    families: dict[Any, dict[Any, Condition]] = {}
    for key, condition in zip(keys, conditions, strict=True):
        families.setdefault(key[:3], {}).setdefault(key, condition)
    unique = [key for family in families.values() for key in family]
    place = {key: index for index, key in enumerate(unique)}
    inverse = np.array([place[key] for key in keys])
    return UniqueDatasets([list(family.values()) for family in families.values()], inverse)


def encode(static: Static, drawn: Draw, conditions: Sequence[Condition]) -> Encoding:
    """Return the drawn data under each condition."""
    datasets = unique_datasets(conditions)
    unique_data = encode_unique(problem_of(static.problem), drawn, datasets, static.transformed)
    return unique_data.take(datasets.inverse)


class _Source(NamedTuple):
    """The data that all conditions of some seeds share: a draw in canonical coordinates."""

    problem: Problem
    drawn: Draw
    inputs: Canonical
    q: Array
    factor: Array
    nonlinear_part: Array  # the noise if the target is linear in u, otherwise the whole target
    fit: Fit | None  # least-squares fit to `nonlinear_part`, if all conditions share one


class _Family(NamedTuple):
    """Conditions that share design and scalers, and their units, ``x = scale u + offset``."""

    first: Condition
    scale: Array  # (C, 1, d)
    offset: Array  # (C, 1, d)


def encode_unique(
    problem: Problem, drawn: Draw, datasets: UniqueDatasets, transformed: bool
) -> Encoding:
    """Return the drawn data of a problem for each unique data set."""
    if drawn.shared:
        one = Draw(*(part[:1] for part in drawn))
        return encode_unique(problem, one, datasets, transformed).for_seeds(len(drawn.u))
    at_once = max(1, ENCODED_NUMBERS // drawn.u.size)
    inputs, nonlinear, fit = canonical(drawn.u), _nonlinear_part(problem, drawn), None
    if not problem.classes and not transformed:
        fit = optimum.least_squares(inputs.values, nonlinear)
    source = _Source(problem, drawn, inputs, *orthogonal(inputs.values), nonlinear, fit)
    parts = [
        _encode(source, family[start : start + at_once], transformed)
        for family in datasets.families
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


def _nonlinear_part(problem: Problem, drawn: Draw) -> Array:
    """Return the target without its part that is linear in u."""
    return drawn.noise if problem.signal is None else problem.signal(drawn.u) + drawn.noise


def _encode(
    source: _Source, conditions: Sequence[Condition], transformed: bool
) -> dict[str, Array]:
    """Return the part of an `Encoding` of a family's conditions.

    Shapes are (C, S) and (C, S, d), and (C, S, N[, d]) for the data, 1 for C where they share it.
    """
    family = _Family(conditions[0], *scale_and_offset(source.problem, conditions))
    parts = (_transformed if transformed else _scaled)(source, family)
    lead, scale = parts["feature_scale"].shape, family.scale
    target_of = _classification_target if source.problem.classes else _regression_target
    parts |= target_of(source, family, parts)
    linear = source.problem.signal is None
    per_x = np.broadcast_to(_true_coefficients(source.problem, family) / scale, lead)
    parts["weight_true"] = per_x if linear else np.full(lead, np.nan)
    parts["spread"] = np.broadcast_to(source.drawn.u.std(axis=-2) * np.abs(scale), lead)
    # Units of x per unit of u; a transformer's u is that of z = (x - centre) / divisor.
    unit = np.broadcast_to(source.inputs.unit * scale, lead)
    unit = parts["feature_scale"] * parts["divisor"] if transformed else unit
    parts["weight_ols"] = parts["best"] * parts["target_divisor"][..., None] / unit
    return parts


def scale_and_offset(problem: Problem, conditions: Sequence[Condition]) -> tuple[Array, Array]:
    """Return scale and offset of the observed features ``x = scale u + offset``, (C, 1, d)."""
    scale = np.tile(problem.reference_scale, (len(conditions), 1, 1)).astype(np.float64)
    offset = np.zeros_like(scale)
    scale[:, 0, problem.scaled_feature] = [c.scale_factor for c in conditions]
    offset[:, 0, problem.scaled_feature] = [c.offset for c in conditions]
    return scale, offset


def observed(problem: Problem, u: Array, conditions: Sequence[Condition]) -> Array:
    """Return the observed features of each condition, (n_conditions, n_seeds, n_samples, d)."""
    scale, offset = scale_and_offset(problem, conditions)
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
        **scalers.fit(
            family.first.scaler.name, values[None], scale, offset, source.problem.scaled
        )._asdict(),
    }


def _transformed(source: _Source, family: _Family) -> dict[str, Array]:
    """Return the inputs of any other transformer, in the canonical coordinates of its outputs."""
    x = family.scale[..., None, :] * source.drawn.u + family.offset[..., None, :]
    z = scalers.transform(family.first.scaler, x, columns=source.problem.scaled)
    values, mean, unit = canonical(z)
    scale = source.inputs.unit * family.scale
    offset = family.offset + family.scale * source.inputs.mean
    ratio = scalers.slope_between(source.inputs.values, values)  # 1, -1 or NaN
    divisor = ratio * scale / unit
    q, factor = orthogonal(values)
    return {
        "u": values,
        "q": q,
        "factor": factor,
        "mean": mean,
        "unit": unit,
        "feature_scale": unit,
        "feature_shift": mean,
        "divisor": divisor,
        "centre": offset - mean * divisor,
    }


def _regression_target(
    source: _Source, family: _Family, inputs: dict[str, Array]
) -> dict[str, Array]:
    """Return the target of an `Encoding` for regression."""
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
    residual_rms = _or_one(np.sqrt((residual**2).mean(axis=-1)))
    best = slope / divisor[..., None]
    return {
        "residual": residual / residual_rms[..., None],
        "ols_coefficient": best,
        "intercept": (mean - shift) / divisor,
        "residual_scale": residual_rms / divisor,
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
    lead = inputs["feature_scale"].shape
    coefficients, mean = np.zeros(family.scale.shape), 0.0
    if source.problem.signal is None:
        coefficients = _true_coefficients(source.problem, family)
        mean = (coefficients * source.inputs.mean).sum(axis=-1)
        # Design F (fixed coefficients): an offset of the observed features adds to the target.
        # Design U (unit): only the unit of the features changes, and the target stays the same.
        if family.first.design == "F":
            mean = family.offset @ source.problem.coefficients + mean
    per_unit = coefficients * source.inputs.unit
    if source.fit is not None:
        # Least squares recovers a linear part exactly, so that only the other part is fitted.
        slope, error, intercept, residual = source.fit
        residual = residual[None]
    else:
        linear_part = (source.inputs.values * per_unit[..., None, :]).sum(axis=-1)
        values = linear_part + source.nonlinear_part
        values = np.broadcast_to(values, (*lead[:2], values.shape[-1]))
        slope, error, intercept, residual = optimum.least_squares(inputs["u"], values)
        per_unit = np.zeros(lead)
    slope, error = (np.broadcast_to(part, lead) for part in (per_unit + slope, error))
    return slope, error, np.broadcast_to(mean + intercept, lead[:2]), residual


def _classification_target(
    source: _Source, family: _Family, inputs: dict[str, Array]
) -> dict[str, Array]:
    """Return the target of an `Encoding` for classification."""
    u, lead = inputs["u"], inputs["feature_scale"].shape
    classes, labels = source.problem.classes, source.nonlinear_part
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
        "ols_coefficient": np.zeros(lead),
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


def _true_coefficients(problem: Problem, family: _Family) -> Array:
    """Return the true coefficients per unit of a problem's features u, (C, 1, d).

    In design F they are fixed per unit of the observed features, so that they grow with the scale;
    in design U they do not depend on the scale.
    """
    fixed = family.first.design == "F"
    scale = family.scale if fixed else np.broadcast_to(problem.reference_scale, family.scale.shape)
    return problem.coefficients * scale


def _or_one(deviation: Array) -> Array:
    return np.where(deviation > 0, deviation, 1.0)


class HeldOut(NamedTuple):
    """M held-out rows of each of K unique data sets and S seeds."""

    # (K, S, M, d), or (1, S, M, d) where all data sets share them: inputs in the canonical
    # coordinates of the training rows.
    u: Array
    # (K, S, M): target in training units without the intercept of `Encoding`; or the class.
    target: Array


def encode_held_out(
    problem: Problem, drawn: Draw, new: Draw, datasets: UniqueDatasets, unique_data: Encoding
) -> HeldOut:
    """Return held-out rows in the coordinates of the training rows.

    ``drawn`` and ``new`` are the training and the held-out rows of the same seeds, and
    ``unique_data`` is the result of `encode_unique` for the training rows.
    """
    inputs, targets = [], []
    trained, nonlinear = canonical(drawn.u), _nonlinear_part(problem, new)
    for conditions in datasets.families:
        family = _Family(conditions[0], *scale_and_offset(problem, conditions))
        if not scalers.is_affine(family.first.scaler):
            rows = (observed(problem, u, conditions) for u in (drawn.u, new.u))
            inputs.append(scalers.transform(family.first.scaler, *rows, columns=problem.scaled))
        if problem.signal is None:
            per_unit = _true_coefficients(problem, family) * trained.unit
            moved = (trained.of(new.u) * per_unit[..., None, :]).sum(axis=-1)
            targets.append(moved + nonlinear - drawn.noise.mean(axis=-1, keepdims=True))
        else:
            targets.append(np.broadcast_to(nonlinear, (len(conditions), *nonlinear.shape)))
    target = np.concatenate(targets)
    if problem.signal is not None:
        target = target - unique_data.target_mean[..., None]
    of_features = unique_data.mean, unique_data.unit
    mean, unit = (np.moveaxis(part, 0, -1)[..., None, :] for part in of_features)
    u = (np.concatenate(inputs) - mean) / unit if inputs else trained.of(new.u)[None]
    return HeldOut(u, target / unique_data.target_divisor[..., None])
