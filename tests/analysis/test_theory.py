"""Theory against arithmetic done another way: plain loops, scikit-learn, SciPy, permutations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from sklearn.inspection import permutation_importance as permute
from sklearn.linear_model import Lasso, LinearRegression, Ridge

from scaling_study.analysis import theory
from scaling_study.study import draws, scalers
from scaling_study.study.conditions import expand, problem_of, split
from scaling_study.study.encoding import observed
from scaling_study.study.study import parse


def sample(seed=0, n=50, scale=(1.0, 5.0), offset=(0.0, 2.0)):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 2)) * scale + offset
    return x, x @ [1.0, -0.5] + 0.3 * rng.standard_normal(n)


def descend(x, y, rate, updates):
    """Plain gradient descent from zero: losses before each update, and after the last."""
    rows, theta, losses = np.column_stack([x, np.ones(len(x))]), np.zeros(x.shape[1] + 1), []
    for _ in range(updates + 1):
        error = rows @ theta - y
        losses.append((error**2).mean())
        theta -= rate * 2 * rows.T @ error / len(y)
    return np.array(losses)


def quadratic_of(x, y):
    values, directions = theory.spectrum(x)
    fit = LinearRegression().fit(x, y)
    minimum = np.append(fit.coef_, fit.intercept_)
    least = ((y - fit.predict(x)) ** 2).mean()
    return theory.Quadratic(values, directions, minimum, least, y.var() - least)


@given(st.integers(0, 50))
def test_the_spectrum_is_that_of_the_hessian(seed):
    x, _ = sample(seed)
    mean, cov = x.mean(axis=0), np.cov(x.T, bias=True)
    np.testing.assert_allclose(theory.covariance(x), cov)
    hessian = 2 * np.block([[cov + np.outer(mean, mean), mean[:, None]], [mean[None], np.eye(1)]])
    values, directions = theory.spectrum(x)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(hessian)[::-1], rtol=1e-9)
    np.testing.assert_allclose(directions.T @ np.diag(values) @ directions, hessian, rtol=1e-9)


@pytest.mark.parametrize("scaler", ["none", "standard", "quantile", "power"])
def test_the_quadratic_is_that_of_what_the_runs_see(scaler):
    (condition,) = expand(parse({"problem": "article", "scale_factor": 30.0, "scaler": scaler}))
    u = draws.draw(split(condition), [3]).u
    seen = observed(problem_of(condition.problem), u, [condition])[0]
    if scaler in scalers.AFFINE:
        shift, divisor = scalers.affine(scaler, seen)
        seen = (seen - shift[:, None]) / divisor[:, None]
    else:
        seen = scalers.transform(condition.scaler, seen)
    np.testing.assert_allclose(theory.training_inputs(condition, [3]), seen, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        theory.quadratic(condition, [3]).eigenvalues[0], theory.spectrum(seen[0])[0], rtol=1e-9
    )


@pytest.mark.parametrize("step", [1e-3, 1e-9, 1e-14, 1e-17])
def test_the_smallest_steps_arrive_when_the_exponential_does(step):
    # (1 - x)^(2t) = share at t = log(share) / 2 log(1 - x), which log1p has to the digit.
    found = theory.steps_to_target([1.0], [1.0], step, 1e-3 * 0.5)  # of an excess loss of ½
    assert found == pytest.approx(np.log(1e-3) / (2 * np.log1p(-step)), rel=1e-9, abs=1)


@pytest.mark.parametrize(("low", "high", "kappa"), [(0, 1000, 5e6), (1000, 1001, 1e13)])
def test_an_offset_hurts_more_than_a_range(low, high, kappa):
    x = np.random.default_rng(0).random((2000, 2)) * [1, high - low] + [0, low]
    values, _ = theory.spectrum(x)
    assert kappa / 3 < values[0] / values[-1] < 3 * kappa


@pytest.mark.parametrize("share", [0.2, 0.9, 1.5, 1.99])
def test_the_trajectory_is_that_of_a_plain_loop(share):
    x, y = sample()
    model = quadratic_of(x, y)
    rate = share * model.stability_limit / 2
    losses = descend(x, y, rate, 200)
    t = np.arange(201)
    c = model.components(np.zeros(3))
    predicted = theory.excess_loss(model.eigenvalues, c, np.full(201, rate), t)
    np.testing.assert_allclose(losses - model.loss_ols, predicted, rtol=1e-7)


@given(st.integers(0, 20), st.floats(0.05, 0.99), st.sampled_from([1e-1, 1e-3]))
def test_steps_to_target_are_those_of_a_plain_loop(seed, share, tolerance):
    x, y = sample(seed, scale=(1.0, 1.5), offset=(0.0, -0.5))
    model = quadratic_of(x, y)
    rate = share * model.stability_limit
    excess, target = descend(x, y, rate, 4000) - model.loss_ols, tolerance * model.loss_explained
    above = np.append(-1, np.flatnonzero(excess > target))
    steps = theory.steps_to_target(model.eigenvalues, model.components(np.zeros(3)), rate, target)
    assert steps == above[-1] + 1 if above[-1] < 4000 else steps > 4000


def test_what_is_unstable_is_never_there_and_just_below_is():
    x, y = sample()
    model = quadratic_of(x, y)
    c = model.components(np.zeros(3))
    for share, finite in ((1.001, False), (0.999, True)):
        steps = theory.steps_to_target(model.eigenvalues, c, share * model.stability_limit, 1e-3)
        assert np.isfinite(steps) == finite
    assert descend(x, y, 1.2 * model.stability_limit, 100)[-1] > 1e6


def test_the_best_learning_rate_contracts_fastest():
    x, y = sample()
    model = quadratic_of(x, y)

    def worst(rate):
        return np.abs(1 - rate * model.eigenvalues).max()

    best = optimize.minimize_scalar(worst, bounds=(0, model.stability_limit), method="bounded",
                                    options={"xatol": 1e-12})  # fmt: skip
    np.testing.assert_allclose(model.best_learning_rate, best.x, rtol=1e-5)
    kappa = model.condition_number
    np.testing.assert_allclose(worst(model.best_learning_rate), (kappa - 1) / (kappa + 1))


def test_the_floor_of_sgd_with_replacement_is_where_a_plain_loop_stays():
    rng = np.random.default_rng(0)
    x, y = sample(n=200, scale=(1.0, 1.0), offset=(-0.5, -0.5))
    model = quadratic_of(x, y)
    rate, batch = 0.1, 4
    rows, theta, total = np.column_stack([x, np.ones(200)]), np.tile(model.minimum, (400, 1)), []
    for step in range(1500):
        chosen = rng.integers(200, size=(400, batch))
        error = (rows[chosen] @ theta[..., None])[..., 0] - y[chosen]
        theta = theta - rate * 2 * (error[..., None] * rows[chosen]).mean(axis=1)
        if step >= 500:
            total.append(((rows @ theta.T - y[:, None]) ** 2).mean() - model.loss_ols)
    floor = theory.sgd_floor(model.eigenvalues, rate, batch, model.loss_ols)
    np.testing.assert_allclose(np.mean(total), floor, rtol=0.1)


@given(st.integers(0, 20), st.floats(-2, 2), st.floats(-2, 2))
def test_permutation_importance_is_the_mean_over_every_permutation(seed, first, second):
    x, y = sample(seed, n=40)
    weight = np.array([first, second])
    fit = LinearRegression().fit(x, y)
    found = theory.permutation_importance(weight, fit.coef_, theory.covariance(x))
    e = y - x @ weight - 0.1  # a bias changes nothing
    for j in range(2):
        # Every row gets every value of the column, alike often.
        errors = e[:, None] + weight[j] * (x[:, j][:, None] - x[:, j][None])
        wanted = (errors**2).mean() - (e**2).mean()
        np.testing.assert_allclose(found[j], wanted, rtol=1e-7, atol=1e-10)


def test_permutation_importance_agrees_with_scikit_learn():
    x, y = sample(n=200)
    fit = LinearRegression().fit(x, y)
    theirs = permute(fit, x, y, scoring="neg_mean_squared_error", n_repeats=200, random_state=0)
    ours = theory.permutation_importance(fit.coef_, fit.coef_, theory.covariance(x))
    error = theirs.importances_std / 200**0.5
    assert (np.abs(ours - theirs.importances_mean) < 4 * error).all()


@given(st.floats(0.1, 10), st.floats(0.01, 3))
def test_shrinkage_is_that_of_scikit_learn(scale, strength):
    u = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 2)))[0]
    u = (u - u.mean(axis=0)) * scale
    u = np.linalg.qr(u)[0] * 30**0.5 * scale  # centred, variance scale²
    y = u @ [1.0, -2.0]
    ols = np.array([1.0, -2.0])
    variance = (u**2).mean(axis=0)
    theirs = Ridge(alpha=30 * strength, fit_intercept=False).fit(u, y).coef_
    np.testing.assert_allclose(theory.ridge(ols, variance, strength), theirs, atol=1e-9)
    theirs = Lasso(alpha=strength / 2, fit_intercept=False, tol=1e-12).fit(u, y).coef_
    np.testing.assert_allclose(theory.lasso(ols, variance, strength), theirs, atol=1e-6)


def test_decoupled_decay_bounds_a_weight():
    np.testing.assert_array_equal(theory.decoupled_decay([5.0, -5.0, 0.5], 0.5), [2, -2, 0.5])


@pytest.mark.parametrize("scaler", ["none", "minmax", "standard", "robust", "maxabs"])
def test_a_conditions_quadratic_is_that_of_its_inputs(scaler):
    axes = {"problem": "article", "scaler": scaler, "target_scaler": "standard"}
    (condition,) = expand(parse({**axes, "scale_factor": 30.0}))
    model = theory.quadratic(condition, [3])
    random = np.random.RandomState(3)
    x = random.rand(100, 2) * [1, 30.0]
    y = x @ [2.0, 0.5] + 10 * random.randn(100)
    from sklearn import preprocessing

    made = {"none": None, "minmax": "MinMaxScaler", "standard": "StandardScaler",
            "robust": "RobustScaler", "maxabs": "MaxAbsScaler"}[scaler]  # fmt: skip
    z = x if made is None else getattr(preprocessing, made)().fit_transform(x)
    wanted = quadratic_of(z, (y - y.mean()) / y.std())
    np.testing.assert_allclose(model.eigenvalues[0], wanted.eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(model.minimum[0], wanted.minimum, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(model.loss_ols[0], wanted.loss_ols)
