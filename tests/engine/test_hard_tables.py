"""Tables that once gave wrong numbers, against a loop in NumPy's float64 and statsmodels."""

import numpy as np
import pytest
import statsmodels.api as sm
from hard_tables import table
from scipy.special import expit
from sklearn.linear_model import LinearRegression
from tiny_block import rows_of

from scaling_study.engine import outcome
from scaling_study.study import draws
from scaling_study.study.conditions import expand, problem_of, split
from scaling_study.study.encoding import observed
from scaling_study.study.problems import PROBLEMS
from scaling_study.study.scalers import AFFINE, affine
from scaling_study.study.study import parse

WAYS, DTYPES = ("moments", "samples"), ("float32", "float64")
ROUNDING = {"float32": 3e-5, "float64": 1e-9}
FULL = {"design": "U", "sampling": "full", "scaler": "standard", "target_scaler": "standard"}
ways = pytest.mark.parametrize("objective", WAYS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def standardised(problem) -> tuple[np.ndarray, np.ndarray]:
    """Return columns and target, whose mean is taken off before they meet anything else."""
    u, y = problem.draw(0)
    centred = u - u.mean(axis=0)
    centred = centred - centred.mean(axis=0)
    deviation = centred.std(axis=0)
    return centred / np.where(deviation > 0, deviation, 1.0), (y - y.mean()) / y.std()


def descend(z: np.ndarray, y: np.ndarray, rate: float, updates: int, weight: float = 0.0):
    """Return weights, bias and loss of plain gradient descent, float64."""
    w, b = np.full(z.shape[1], weight), 0.0
    for _ in range(updates):
        error = z @ w + b - y
        w, b = w - 2 * rate * z.T @ error / len(y), b - 2 * rate * error.mean()
    return w, b, ((z @ w + b - y) ** 2).mean()


@pytest.mark.sweep(4)
@ways
@dtypes
@pytest.mark.parametrize("mean", [0.0, 1954.5, 1e5, 1.7e9])
def test_a_columns_mean_costs_no_digits(mean, objective, dtype):
    axes = {**FULL, "problem": {"name": "hard_tables:year", "mean": mean}, "dtype": dtype}
    axes |= {"optimizer": "sgd", "learning_rate": 0.05, "updates": 40, "objective": objective}
    row = rows_of(**axes, model={"name": "linear", "kernel_init": "zeros"}).iloc[0]
    rtol = ROUNDING[dtype] if dtype == "float32" else 1e-6  # six digits are published
    np.testing.assert_allclose(row["weight"][0], 0.956972, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(row["final_loss"], 0.056725, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(row["loss_ols"], 0.0565191, rtol=1e-6)
    np.testing.assert_allclose(row["loss_null"], 1.0, rtol=1e-6)
    assert row["status"] == "converged"


@pytest.mark.sweep(2)
@ways
@dtypes
@pytest.mark.parametrize(
    "problem",
    [
        *({"name": "hard_tables:rescaled", "mean": mean} for mean in (0.0, 1.0, 1e3, 1e6, 1e9)),
        *({"name": "hard_tables:rescaled", "unit": unit} for unit in (1e-25, 1e-9, 1e12)),
        {"name": "hard_tables:rescaled", "mean": -1e6, "unit": 1e-15},
        {"name": "hard_tables:rescaled", "target_mean": 1e9},
        "hard_tables:collinear",
        {"name": "hard_tables:collinear", "correlation": -0.9999},
        "hard_tables:constant",
        {"name": "hard_tables:constant", "value": 0.1},
        "hard_tables:longley",
    ],
    ids=str,
)
def test_training_is_that_of_a_plain_loop_in_float64(problem, objective, dtype):
    axes = {**FULL, "problem": problem, "dtype": dtype, "objective": objective, "updates": 60}
    axes |= {"optimizer": "sgd", "learning_rate": 0.05}
    row = rows_of(**axes, model={"name": "linear", "kernel_init": "zeros"}).iloc[0]
    (condition,) = expand(parse(axes))
    z, y = standardised(problem_of(condition.problem))
    w, b, loss = descend(z, y, 0.05, 60)
    # A mean of 1e9 deviations leaves float64 itself seven digits of a column.
    far = 1e-6 if "mean': 1000000000" in str(problem) else 0.0
    np.testing.assert_allclose(row["weight"], w, rtol=0, atol=ROUNDING[dtype] + far)
    np.testing.assert_allclose(row["bias"], b, atol=ROUNDING[dtype] + far)
    np.testing.assert_allclose(row["final_loss"], loss, rtol=ROUNDING[dtype] + far)


@pytest.mark.sweep(2)
@ways
@dtypes
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e9])
@pytest.mark.parametrize("scaler", ["minmax", "standard", "robust"])
def test_an_offset_is_scaled_away_without_a_trace(scaler, offset, objective, dtype):
    axes = {"problem": "gaussian", "design": "U", "scaler": scaler, "objective": objective}
    axes |= {"dtype": dtype, "epochs": 5, "learning_rate": 0.05, "scale_factor": 1e-12}
    there, plain = (rows_of(**axes, offset=far).iloc[0] for far in (offset, 0.0))
    for name in ("weight", "bias", "final_loss", "grad_norm_mean", "steps_to_feature_target"):
        np.testing.assert_array_equal(there[name], plain[name], err_msg=name)


# What is stored agrees with itself ---------------------------------------------------------


def loss_of_stored(row, condition, seed: int) -> float:
    """Return the loss of a row's weights, in float64 and training units, from the law itself."""
    problem, static = problem_of(condition.problem), split(condition)
    u, noise = draws.draw(static, [seed])
    x = observed(problem, u, [condition])[0, 0]
    if problem.signal is not None:
        y = (problem.signal(u) + noise)[0]
    elif condition.design == "F":
        y = x @ problem.coefficients + noise[0]
    else:
        y = (u[0] * problem.reference_scale) @ problem.coefficients + noise[0]
    divisor = affine(condition.target_scaler.name, y[:, None])[1][0]
    # About the means, so that a large offset is multiplied by nothing.
    weight = np.asarray(row["weight_original"], np.float64)
    mean = x.mean(axis=0)
    level = row["bias_original"] + mean @ weight
    return float((((x - mean) @ weight + level - y) ** 2).mean() / divisor**2)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", WAYS)
@pytest.mark.parametrize("name", list(PROBLEMS))
def test_the_stored_loss_is_that_of_the_stored_weights(name, objective, dtype):
    designs = ["U"] if PROBLEMS[name]().signal is not None else ["F", "U"]
    axes = {"problem": name, "design": designs, "dtype": dtype, "objective": objective}
    axes |= {"scaler": [*AFFINE], "target_scaler": ["none", "standard"], "epochs": 3}
    axes |= {"scale_factor": [1e-3, 1.0, 1e3], "offset": [0.0, 1e3], "learning_rate": [1e-2, 10.0]}
    axes["optimizer"] = "sgd"
    rows = rows_of(**axes)
    conditions = expand(parse(axes))
    eps = np.finfo(dtype).eps
    for (place, seed), row in rows.iterrows():
        if seed > 1:
            continue
        condition = conditions[place]
        assert row["final_loss"] >= 0
        assert row["excess_loss"] >= 0
        if row["status"] in ("diverged", "failed"):
            continue
        stored = loss_of_stored(row, condition, seed)
        # The bias in original units has the rounding of its own size.
        size = np.abs(row["weight_original"] * 1e3).max() + np.abs(row["bias_original"])
        close = 64 * eps * stored + 1e-12 * size**2
        assert abs(stored - row["final_loss"]) <= close, (condition, stored, row["final_loss"])
        reached = row["excess_share"] <= condition.tolerance
        assert (row["status"] == "converged") == reached, condition
        assert (row["status"] == "not_converged") == (not reached), condition


def test_a_run_whose_own_loss_is_another_one_has_failed():
    loss = outcome.Loss(*np.array([1.0, 0.5, 0.5, 1e-7]))
    assert outcome.agrees(loss, 0.5 * (1 + 1e-6), "float32")
    assert not outcome.agrees(loss, 0.6, "float32")
    assert not outcome.agrees(loss, -0.5, "float32")
    # Inputs of 1e30 are beyond what float32 can square.
    axes = {"problem": "gaussian", "design": "U", "scale_factor": 1e30, "learning_rate": 1e-30}
    rows = rows_of(**axes, optimizer="sgd", epochs=1)
    assert set(rows["status"]) <= {"diverged", "failed"}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@ways
def test_nearly_collinear_columns_never_have_a_loss_below_zero(objective, optimizer):
    axes = {"problem": "hard_tables:longley", "design": "U", "target_scaler": "standard"}
    axes |= {"scaler": "standard", "optimizer": optimizer, "objective": objective}
    rows = rows_of(**axes, learning_rate=[1e-3, 1e-2], epochs=400)
    assert (rows["final_loss"] >= rows["loss_ols"] * (1 - 1e-6)).all()
    assert (rows["excess_share"] >= 0).all()
    assert np.nanmin(np.concatenate(rows["trace_loss"].dropna().to_list())) >= 0


def test_raw_columns_that_predict_worse_than_the_mean_have_not_converged():
    axes = {"problem": "hard_tables:longley", "design": "U", "target_scaler": "standard"}
    rows = rows_of(**axes, scaler=["none", "standard"], learning_rate=1e-2, epochs=2000)
    raw, scaled = rows.loc[0], rows.loc[1]
    assert (raw["excess_share"] > 1).all()
    assert (raw["status"] == "not_converged").all()
    assert (scaled["final_loss"] < 0.05).all()
    assert (scaled["excess_share"] < 0.05).all()


@pytest.mark.slow
def test_no_run_on_raw_inputs_is_converged_above_the_targets_variance():
    axes = {"problem": "uniform", "design": "U", "scale_factor": 1000.0, "scaler": "none"}
    axes |= {"target_scaler": "standard", "optimizer": ["sgd", "momentum", "adam", "rmsprop"]}
    axes |= {"learning_rate": [1e-7, 3e-7, 1e-6, 1e-5, 1e-3, 0.1]}
    for place in range(4):
        own = {**axes, "optimizer": axes["optimizer"][place]}
        rows = rows_of(**own, updates=800)
        converged = rows[rows["status"] == "converged"]
        assert (converged["final_loss"] <= converged["loss_null"]).all()
        assert (converged["excess_share"] <= 1e-3).all()


def test_a_column_transformer_scales_chosen_columns_and_leads_back_to_original_units():
    axes = {"problem": "hard_tables:eleven", "design": "U", "sampling": "full"}
    axes |= {"scaler": "hard_tables:some_scaled", "dtype": "float64", "updates": 5}
    axes |= {"optimizer": "scaling_study.engine.optimizers:newton", "learning_rate": 1.0}
    row = rows_of(**axes).iloc[0]
    assert row["status"] == "converged"
    x, y = problem_of(expand(parse(axes))[0].problem).draw(0)
    # Of raw columns scikit-learn takes the small ones for nothing beside one of size 1e10.
    deviation = x.std(axis=0)
    theirs = LinearRegression().fit(x / deviation, y)
    for name in ("weight_original", "weight_ols"):
        off = (row[name] * deviation - theirs.coef_) / y.std()
        np.testing.assert_allclose(off, 0, atol=1e-8, err_msg=name)
    np.testing.assert_allclose(row["bias_original"], theirs.intercept_, atol=1e-7)
    # Trained on standardised columns beside those that are left as they are.
    left = np.concatenate([np.ones(7), deviation[7:]])
    np.testing.assert_allclose((row["weight"] * left - theirs.coef_) / y.std(), 0, atol=1e-8)


# Classes -----------------------------------------------------------------------------------


@pytest.mark.sweep(1)
@pytest.mark.parametrize("scaler", ["none", "minmax", "standard", "robust", "maxabs", "power"])
def test_a_linear_classifier_ends_at_maximum_likelihood_in_original_units(scaler):
    axes = {"problem": "hard_tables:spector", "design": "U", "scaler": scaler, "sampling": "full"}
    axes |= {"optimizer": "scaling_study.engine.optimizers:newton", "learning_rate": 1.0}
    axes["model"] = {"name": "linear", "kernel_init": "zeros"}  # far off, Newton's steps diverge
    row = rows_of(**axes, dtype="float64", updates=30).iloc[0]
    assert row["status"] == "converged"
    if scaler == "power":  # no affine map leads back
        assert np.isnan(row["weight_original"]).all()
        return
    np.testing.assert_allclose(row["loss_least"], 0.4028010694, rtol=1e-9)
    np.testing.assert_allclose(row["final_loss"], 0.4028010694, rtol=1e-9)
    np.testing.assert_allclose(row["weight_original"], [2.826113, 0.095158, 2.378688], rtol=1e-5)
    np.testing.assert_allclose(row["weight_ols"], [2.826113, 0.095158, 2.378688], rtol=1e-5)
    np.testing.assert_allclose(row["bias_original"], -13.021347, rtol=1e-6)
    data = sm.datasets.spector.load_pandas()
    theirs = sm.Logit(data.endog, sm.add_constant(data.exog)).fit(disp=0)
    np.testing.assert_allclose(row["t_ols"], theirs.tvalues.to_numpy()[1:], rtol=1e-5)
    frequencies = np.array([21, 11]) / 32
    np.testing.assert_allclose(row["loss_null"], -(frequencies * np.log(frequencies)).sum())
    # The second column cannot be told from 0, and has no target.
    assert np.isnan(row["steps_to_feature_target"]).tolist() == [False, True, False]


def test_the_loss_of_a_classifier_is_that_of_its_weights():
    axes = {"problem": "hard_tables:spector", "design": "U", "scaler": "standard"}
    row = rows_of(**axes, learning_rate=0.1, epochs=3).iloc[0]
    data = sm.datasets.spector.load_pandas()
    logits = data.exog.to_numpy() @ row["weight_original"] + row["bias_original"]
    share = expit(np.where(data.endog == 1, logits, -logits))
    np.testing.assert_allclose(row["final_loss"], -np.log(share).mean(), rtol=1e-6)
    assert row["excess_share"] > 0


def test_rows_need_no_more_than_a_table():
    problem = table([[0.0, 1.0], [1.0, 1.0], [2.0, 5.0]], [0.0, 1.0, 2.0])
    assert problem.draw(3)[0].shape == (3, 2)
