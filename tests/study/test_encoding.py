"""Encodings: what drawn data mean under each condition."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error

from scaling_study.study import draws, encoding, scalers
from scaling_study.study.chunk_shapes import Static
from scaling_study.study.conditions import Condition, expand, problem_of, shape_of, split
from scaling_study.study.encoding import Encoding, observed
from scaling_study.study.problems import PROBLEMS, Problem
from scaling_study.study.scalers import AFFINE, TRANSFORMERS
from scaling_study.study.study import parse

SEEDS = range(3)
LINEAR = [name for name, factory in PROBLEMS.items() if factory().signal is None]


@dataclass
class Encoded:
    """A condition's encoding, with its draw and its problem."""

    condition: Condition
    static: Static
    drawn: draws.Draw
    encoding: Encoding

    @property
    def x(self) -> np.ndarray:
        problem = problem_of(self.condition.problem)
        return observed(problem, self.drawn.u, [self.condition])[0]

    @property
    def y(self) -> np.ndarray:
        """The target, put together again from what is trained on; shape (S, N)."""
        e = self.encoding
        u, residual = (e.u[0], e.residual[0]) if self.static.transformed else (e.u, e.residual)
        divisor, shift = e.target_divisor[0, :, None], e.target_shift[0, :, None]
        slope, intercept = np.moveaxis(e.ols_coefficient[:, 0], 0, -1), e.intercept[0, :, None]
        scale = e.residual_scale[0, :, None]
        z = (u * slope[:, None]).sum(axis=-1) + intercept + residual * scale
        return z * divisor + shift

    @property
    def law(self) -> np.ndarray:
        """The target as the problem defines it; shape (S, N)."""
        problem = problem_of(self.condition.problem)
        if problem.signal is not None:
            return problem.signal(self.drawn.u) + self.drawn.noise
        x = self.x if self.condition.design == "F" else self.drawn.u * problem.reference_scale
        return x @ problem.coefficients + self.drawn.noise


def encode(**axes: Any) -> Encoded:
    (condition,) = expand(parse(axes))
    static = split(condition)
    drawn = draws.draw(static, SEEDS)
    return Encoded(condition, static, drawn, encoding.encode(static, drawn, [condition]))


# The target ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target_scaler", AFFINE)
@pytest.mark.parametrize("offset", [0.0, -5.0, 1e4, 1e8])
@pytest.mark.parametrize("design", ["F", "U"])
@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_target_is_the_laws(name, design, offset, target_scaler):
    run = encode(
        problem=name,
        design=design,
        scale_factor=1000.0,
        offset=offset,
        scaler="standard",
        target_scaler=target_scaler,
    )
    np.testing.assert_allclose(run.y, run.law, rtol=0, atol=1e-13 * np.abs(run.law).max())


@pytest.mark.parametrize("scaler", ["none", "standard", "quantile"])
def test_data_that_seeds_share_are_encoded_as_a_copy_for_each_seed_is(scaler):
    axes = {"problem": "gaussian", "design": "U", "data_seed": 3, "scaler": scaler}
    (condition,) = expand(parse(axes))
    static = split(condition)
    shared = draws.draw(static, range(4))
    copied = draws.Draw(*(part.copy() for part in shared))
    assert (shared.shared, copied.shared) == (True, False)
    found = (encoding.encode(static, drawn, [condition]) for drawn in (shared, copied))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("target_scaler", AFFINE)
@pytest.mark.parametrize("scaler", [*AFFINE, *TRANSFORMERS])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_target_is_the_laws_under_any_scaler(name, scaler, target_scaler):
    run = encode(
        problem=name, design="U", scale_factor=8.0, scaler=scaler, target_scaler=target_scaler
    )
    np.testing.assert_allclose(run.y, run.law, rtol=0, atol=1e-12 * np.abs(run.law).max())


@given(
    design=st.sampled_from("FU"),
    scale_factor=st.floats(1e-6, 1e6),
    offset=st.floats(-1e8, 1e8),
    target_scaler=st.sampled_from([*AFFINE]),
)
def test_the_target_is_the_laws_at_any_scale(design, scale_factor, offset, target_scaler):
    run = encode(
        design=design, scale_factor=scale_factor, offset=offset, target_scaler=target_scaler
    )
    np.testing.assert_allclose(run.y, run.law, rtol=0, atol=1e-13 * np.abs(run.law).max())


def test_the_articles_target_at_its_own_seed():
    random = np.random.RandomState(42)
    x = random.rand(100, 2)
    x[:, 1] *= 1000
    y = 2 * x[:, 0] + 0.5 * x[:, 1] + random.randn(100) * 10
    run = encode(scale_factor=1000.0, data_seed=42, target_scaler="standard")
    np.testing.assert_array_equal(run.x[0], x)
    np.testing.assert_allclose(run.y[0], y, rtol=1e-13, atol=1e-10)


@pytest.mark.parametrize("name", PROBLEMS)
@given(scale_factor=st.floats(1e-6, 1e6), offset=st.floats(-1e8, 1e8))
def test_a_change_of_unit_leaves_the_target_alone(name, scale_factor, offset):
    axes = {"problem": name, "design": "U", "target_scaler": "standard"}
    one, other = encode(**axes), encode(**axes, scale_factor=scale_factor, offset=offset)
    fields = (
        "ols_coefficient",
        "intercept",
        "residual",
        "target_divisor",
        "target_shift",
        "loss_least",
    )
    for field in (*fields, "u", "q", "loss_null", "residual_scale"):
        np.testing.assert_array_equal(getattr(one.encoding, field), getattr(other.encoding, field))


@pytest.mark.parametrize("scaler", [*AFFINE, *TRANSFORMERS])
@pytest.mark.parametrize("name", LINEAR)
def test_the_designs_coincide_at_the_reference_scale(name, scaler):
    problem = PROBLEMS[name]()
    reference = float(problem.reference_scale[problem.scaled_feature])
    fixed, unit = (
        encode(problem=name, design=design, scale_factor=reference, scaler=scaler)
        for design in "FU"
    )
    for field in Encoding._fields:
        np.testing.assert_array_equal(
            getattr(fixed.encoding, field), getattr(unit.encoding, field), err_msg=field
        )


@pytest.mark.parametrize("name", LINEAR)
def test_the_designs_differ_anywhere_else(name):
    fixed, unit = (encode(problem=name, design=design, scale_factor=7.0) for design in "FU")
    assert np.abs(fixed.y - unit.y).max() > 1e-3


# The inputs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
@pytest.mark.parametrize("scaler", AFFINE)
@pytest.mark.parametrize("name", PROBLEMS)
def test_training_inputs_are_the_scaled_features(name, scaler, offset):
    run = encode(problem=name, design="U", scale_factor=1000.0, offset=offset, scaler=scaler)
    e, x = run.encoding, run.x
    gain, shift, divisor, centre = (
        np.moveaxis(part[:, 0], 0, -1)[:, None]
        for part in (e.feature_scale, e.feature_shift, e.divisor, e.centre)
    )
    rounding = 1e-15 * np.abs(x).max(axis=1, keepdims=True) / divisor
    error = np.abs(e.u * gain + shift - (x - centre) / divisor)
    assert (error <= 8 * (rounding + 1e-15)).all()


@pytest.mark.parametrize("scaler", TRANSFORMERS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_transformers_inputs_are_the_transformed_features(name, scaler):
    run = encode(problem=name, design="U", scale_factor=1000.0, scaler=scaler)
    expected = scalers.transform(run.condition.scaler, run.x)
    gain, shift = (
        np.moveaxis(part[:, 0], 0, -1)[:, None]
        for part in (run.encoding.feature_scale, run.encoding.feature_shift)
    )
    np.testing.assert_allclose(
        run.encoding.u[0] * gain + shift, expected, rtol=1e-12, atol=1e-13 * np.abs(expected).max()
    )
    assert np.isnan(run.encoding.divisor).all()
    assert np.isnan(run.encoding.centre).all()


@pytest.mark.parametrize("scaler", sorted(AFFINE.keys() - {"none", "center"}))
@pytest.mark.parametrize("name", PROBLEMS)
@settings(max_examples=20)
@given(exponent=st.integers(-20, 20))
def test_a_power_of_two_cancels_to_the_bit(name, scaler, exponent):
    axes = {"problem": name, "design": "U", "scaler": scaler}
    one, other = encode(**axes).encoding, encode(**axes, scale_factor=2.0**exponent).encoding
    np.testing.assert_array_equal(one.feature_scale, other.feature_scale)
    np.testing.assert_array_equal(one.feature_shift, other.feature_shift)


@pytest.mark.parametrize("scaler", sorted(AFFINE.keys() - {"none", "center"}))
@pytest.mark.parametrize("name", PROBLEMS)
@settings(max_examples=20)
@given(scale_factor=st.floats(1e-6, 1e6))
def test_any_other_factor_cancels_to_rounding(name, scaler, scale_factor):
    axes = {"problem": name, "design": "U", "scaler": scaler}
    one, other = encode(**axes).encoding, encode(**axes, scale_factor=scale_factor).encoding
    np.testing.assert_allclose(one.feature_scale, other.feature_scale, rtol=1e-12)
    np.testing.assert_allclose(one.feature_shift, other.feature_shift, rtol=1e-12, atol=1e-12)


@given(scale_factor=st.floats(1e-6, 1e6))
def test_no_scaler_cancels_nothing(scale_factor):
    run = encode(problem="uniform", scale_factor=scale_factor, offset=3.0)
    u, e = run.drawn.u, run.encoding
    expected = u * [1.0, scale_factor] + [0.0, 3.0]
    gain, shift = (
        np.moveaxis(part[:, 0], 0, -1)[:, None] for part in (e.feature_scale, e.feature_shift)
    )
    rounding = 1e-15 * np.abs(expected).max()
    np.testing.assert_allclose(e.u * gain + shift, expected, rtol=1e-14, atol=rounding)
    np.testing.assert_allclose(
        e.feature_scale[:, 0].T, u.std(axis=1) * [1.0, scale_factor], rtol=1e-14
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_spread_is_the_standard_deviation_of_x(name):
    run = encode(problem=name, design="U", scale_factor=1000.0, offset=5.0)
    np.testing.assert_allclose(run.encoding.spread[:, 0].T, run.x.std(axis=1), rtol=1e-9)


# Weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaler", AFFINE)
@pytest.mark.parametrize("design", ["F", "U"])
@pytest.mark.parametrize("name", LINEAR)
@settings(max_examples=8)
@given(scale_factor=st.floats(1e-2, 1e3), offset=st.floats(-100, 100))
def test_weight_ols_is_scikit_learns(name, design, scaler, scale_factor, offset):
    run = encode(
        problem=name, design=design, scale_factor=scale_factor, offset=offset, scaler=scaler
    )
    x, y = run.x[0], run.law[0]
    theirs = LinearRegression().fit(x, y)
    # Weights are compared by what they contribute, so that a small one is held no tighter.
    spread = run.encoding.spread[:, 0, 0]
    ours = run.encoding.weight_ols[:, 0, 0]
    np.testing.assert_allclose(ours * spread, theirs.coef_ * spread, rtol=1e-7, atol=1e-9 * y.std())
    np.testing.assert_allclose(
        run.encoding.loss_least[0, 0], mean_squared_error(y, theirs.predict(x)), rtol=1e-6
    )


def test_weight_ols_is_scikit_learns_for_a_law_that_is_not_linear():
    run = encode(problem="sines", design="U", scale_factor=10.0, offset=2.0)
    for seed in SEEDS:
        theirs = LinearRegression().fit(run.x[seed], run.law[seed])
        np.testing.assert_allclose(run.encoding.weight_ols[:, 0, seed], theirs.coef_, rtol=1e-9)


@pytest.mark.parametrize("scaler", [*AFFINE, *TRANSFORMERS])
@pytest.mark.parametrize("name", PROBLEMS)
def test_residuals_have_no_mean_and_no_slope(name, scaler):
    run = encode(problem=name, design="U", scale_factor=1000.0, scaler=scaler)
    e = run.encoding
    u, residual = (e.u[0], e.residual[0]) if run.static.transformed else (e.u, e.residual)
    # What is subtracted to leave the residual sets its rounding; normalised rows are steep.
    residual = residual * (e.residual_scale * e.target_divisor)[0, :, None]
    slope = e.ols_coefficient[:, 0].T * e.target_divisor[0, :, None]
    rounding = 1e-13 * (np.abs(residual).max() + np.abs(u * slope[:, None]).max())
    np.testing.assert_allclose(residual.mean(axis=-1), 0, atol=rounding)
    moments = np.einsum("sn,snd->sd", residual, u - u.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(moments, 0, atol=100 * rounding * u.std())


@pytest.mark.parametrize("target_scaler", AFFINE)
@pytest.mark.parametrize("name", PROBLEMS)
def test_loss_least_is_in_units_of_the_target_scaler(name, target_scaler):
    run = encode(problem=name, design="U", target_scaler=target_scaler)
    raw = encode(problem=name, design="U").encoding.loss_least
    np.testing.assert_allclose(
        run.encoding.loss_least * run.encoding.target_divisor**2, raw, rtol=1e-12
    )


@pytest.mark.parametrize("name", LINEAR)
@given(scale_factor=st.floats(1e-6, 1e6), offset=st.floats(-1e8, 1e8))
def test_weight_true_is_the_laws(name, scale_factor, offset):
    problem = PROBLEMS[name]()
    scale = problem.reference_scale.copy()
    scale[problem.scaled_feature] = scale_factor
    expected = {
        "F": problem.coefficients,
        "U": problem.coefficients * problem.reference_scale / scale,
    }
    for design, weights in expected.items():
        e = encode(problem=name, design=design, scale_factor=scale_factor, offset=offset).encoding
        np.testing.assert_allclose(e.weight_true[:, 0].T, [weights] * len(SEEDS), rtol=1e-14)


@pytest.mark.parametrize("name", sorted(PROBLEMS.keys() - set(LINEAR)))
def test_a_law_that_is_not_linear_has_no_true_weight(name):
    assert np.isnan(encode(problem=name, design="U").encoding.weight_true).all()


# Many conditions at once --------------------------------------------------------------------

MANY = {
    "design": ["F", "U"],
    "scale_factor": [1.0, 1000.0],
    "offset": [0.0, 1e8],
    "target_scaler": ["none", "standard"],
    "learning_rate": [0.1, 0.2],
}


@pytest.mark.parametrize("scaler", [["none", "minmax", "robust"], "quantile"])
def test_conditions_are_encoded_each_by_itself(scaler):
    axes = {**MANY, "scaler": scaler} | ({"offset": 0.0} if scaler == "quantile" else {})
    conditions = expand(parse(axes))
    static = split(conditions[0])
    drawn = draws.draw(static, SEEDS)
    together = encoding.encode(static, drawn, conditions)
    assert together.feature_scale.shape == (
        shape_of(static.problem)[1],
        len(conditions),
        len(SEEDS),
    )
    for place, condition in enumerate(conditions):
        alone = encoding.encode(static, drawn, [condition])
        for field in Encoding._fields:
            whole, part = getattr(together, field), getattr(alone, field)
            if field == "factor":
                whole, part = (whole[..., min(place, whole.shape[2] - 1), :], part[..., 0, :])
            elif field in encoding.DATA:
                whole, part = (whole[place], part[0]) if static.transformed else (whole, part)
            else:
                whole, part = whole[..., place, :], part[..., 0, :]
            np.testing.assert_array_equal(whole, part, err_msg=f"{field} of {condition}")


@pytest.mark.parametrize("scaler", AFFINE)
def test_a_seeds_encoding_does_not_depend_on_the_others(scaler):
    conditions = expand(parse({**MANY, "scaler": scaler}))
    static = split(conditions[0])
    together = encoding.encode(static, draws.draw(static, range(20)), conditions)
    alone = encoding.encode(static, draws.draw(static, [13]), conditions)
    for field in set(Encoding._fields) - {*encoding.DATA}:
        np.testing.assert_allclose(
            getattr(together, field)[..., 13], getattr(alone, field)[..., 0], rtol=1e-12,
            atol=1e-12, err_msg=field,
        )  # fmt: skip


@pytest.mark.parametrize(
    "coefficients", [[1.0, 1.0], [0.0, 0.0]], ids=["target", "constant target"]
)
@pytest.mark.parametrize("design", ["F", "U"])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_a_constant_column_makes_no_number_infinite(coefficients, design, offset):
    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        u = np.random.default_rng(seed).random((50, 2))
        u[:, 1] = 0.1
        return u, np.zeros(50)

    problem = Problem(draw, np.array(coefficients), np.ones(2), scaled_feature=1)
    drawn = draws.Draw(*(np.stack(part) for part in zip(*map(draw, SEEDS), strict=True)))
    axes = {"scaler": [*AFFINE], "target_scaler": [*AFFINE], "scale_factor": [1e-12, 1.0, 1e6]}
    conditions = expand(parse({**axes, "design": design, "offset": offset}))
    found = encoding.encode_unique(problem, drawn, encoding.unique_datasets(conditions), False)
    for name, values in found._asdict().items():
        # Nothing tells how far the coefficient of a constant column may be off.
        known = values[:1] if name == "error" else values
        assert np.isfinite(known).all(), name
