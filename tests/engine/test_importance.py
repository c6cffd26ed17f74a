"""Importances: held to closed forms, to scikit-learn, and to one run alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.inspection import permutation_importance
from tiny_block import FIRST, groups_of

from scaling_study.engine import importance, models
from scaling_study.engine.chunk import train_chunk
from scaling_study.engine.importance import METHODS, Rows
from scaling_study.engine.objective import stack
from scaling_study.study import draws, encoding
from scaling_study.study.component import Component
from scaling_study.study.conditions import problem_of
from scaling_study.study.importance import permutations_of, true_shares
from scaling_study.study.problems import PROBLEMS

NETWORK = Component("mlp", (("activation", "tanh"), ("hidden", (5, 4))))


def drawn_rows(features: int = 3, seed: int = 0) -> Rows:
    random = np.random.default_rng(seed)
    z, new = random.standard_normal((2, 40, features)) * [1.0, 3.0, 0.2][:features] + 1
    target = np.sin(new[:, 0]) + new[:, 1]
    return Rows(*(jnp.asarray(x) for x in (z, new, target, permutations_of(seed, 40))))


def start(model, features: int = 3, seed: int = 0):
    drawn = model.init(jax.random.key(seed), jnp.zeros((1, features)))
    return jax.tree.map(lambda x: x.astype(jnp.float64), drawn)


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def trained(model, dtype: str, features: int = 3, updates: int = 300):
    """Return a network that has learnt a law with kinks and curves, and the rows it saw."""
    random = np.random.default_rng(5)
    z = jnp.asarray(random.standard_normal((128, features)), dtype)
    y = jnp.abs(z[:, 0] - 0.3) + jnp.sin(2 * z[:, 1]) * (z[:, 2] > -1)
    y = (y - y.mean()) / y.std()
    adam = optax.adam(0.02)
    begin = jax.tree.map(lambda x: x.astype(dtype), model.init(jax.random.key(0), z))

    def error(parameters):
        return jnp.mean((model.apply(parameters, z) - y) ** 2)

    def update(carry, _):
        parameters, state = carry
        step, state = adam.update(jax.grad(error)(parameters), state, parameters)
        return (optax.apply_updates(parameters, step), state), None

    run = jax.jit(lambda carry: jax.lax.scan(update, carry, None, length=updates)[0])
    parameters, _ = run((begin, adam.init(begin)))
    assert error(parameters) < 0.5  # it has learnt something to be attributed
    return parameters, z


@pytest.mark.sweep(1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [4, 16, 64, (16, 16)])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_integrated_gradients_of_trained_networks_are_complete(activation, hidden, dtype):
    model = models.build(Component("mlp", (("activation", activation), ("hidden", hidden))))
    parameters, z = trained(model, dtype)
    parts = importance.attributions(model, parameters, z)
    assert parts.dtype == dtype
    value, level = model.apply(parameters, z), model.apply(parameters, z.mean(axis=0)[None])
    np.testing.assert_allclose(parts.sum(axis=1), value - level, atol=1e-3)
    assert jnp.abs(value - level).max() > 1  # a thousandth is little of it


@pytest.mark.sweep(1)
@pytest.mark.parametrize("activation", sorted(models.ACTIVATIONS.keys() - {"identity"}))
def test_integrated_gradients_are_complete_whatever_the_activation(activation):
    model = models.build(Component("mlp", (("activation", activation), ("hidden", (8, 8)))))
    parameters, z = trained(model, "float64")
    parts = importance.attributions(model, parameters, z)
    value, level = model.apply(parameters, z), model.apply(parameters, z.mean(axis=0)[None])
    np.testing.assert_allclose(parts.sum(axis=1), value - level, atol=1e-3)


@pytest.mark.parametrize("activation", models.ACTIVATIONS)
def test_an_activation_is_smooth_where_its_slope_has_no_kink(activation):
    x = jnp.linspace(-8, 8, 2**16 + 1)
    slope = jax.vmap(jax.grad(models.ACTIVATIONS[activation]))(x)
    jump = jnp.abs(jnp.diff(jnp.diff(slope) / (x[1] - x[0]))).max()
    assert (activation in importance.SMOOTH) == bool(jump < 0.01), jump


def test_a_switch_within_a_step_is_placed():
    # f = relu(a + b - c) with means 0: from 0 to the row, it switches on part of the way.
    model = models.build(Component("mlp", (("activation", "relu"), ("hidden", 1))))
    layers = {
        "Dense_0": {"kernel": jnp.array([[1.0], [1.0]]), "bias": jnp.array([-0.123])},
        "Dense_1": {"kernel": jnp.array([[1.0]]), "bias": jnp.array([0.0])},
    }
    z = jnp.array([[1.0, 0.5], [-1.0, -0.5]])
    parts = importance.attributions(model, {"params": layers}, z)
    on = 1 - 0.123 / 1.5  # share of the way on which the gradient is 1
    np.testing.assert_allclose(parts, [[on, 0.5 * on], [0, 0]], atol=1e-12)


def test_integrated_gradients_are_those_of_a_fine_midpoint_rule():
    model = models.build(NETWORK)
    parameters, z = trained(model, "float64")
    start, shares = z.mean(axis=0), (jnp.arange(2000) + 0.5) / 2000
    slope = jax.grad(lambda rows: model.apply(parameters, rows).sum())
    fine = jax.lax.map(lambda share: slope(start + share * (z - start)), shares).mean(axis=0)
    found = importance.attributions(model, parameters, z)
    np.testing.assert_allclose(found, (z - start) * fine, atol=3e-4)


def test_linear_shap_is_the_mean_size_of_shapley_values_over_coalitions():
    model, rows = models.build(Component("linear")), drawn_rows()
    parameters, z = start(model), np.asarray(rows.trained)
    mean = z.mean(axis=0)

    def worth(coalition):
        own = np.where(np.isin(np.arange(3), coalition), z, mean)
        return np.asarray(model.apply(parameters, own))

    values = np.zeros_like(z)
    orders = list(itertools.permutations(range(3)))
    for order in orders:
        for place, feature in enumerate(order):
            gained = worth(order[: place + 1]) - worth(order[:place])
            values[:, feature] += gained / len(orders)
    found = METHODS["linear_shap"].of(model, parameters, rows)
    np.testing.assert_allclose(found, np.abs(values).mean(axis=0), rtol=1e-9)


def test_linear_shap_is_its_closed_form_and_other_methods_agree_with_it():
    model, rows = models.build(Component("linear")), drawn_rows()
    parameters = start(model)
    weights = np.asarray(parameters["params"]["Dense_0"]["kernel"])[:, 0]
    z = np.asarray(rows.trained)
    expected = np.abs(weights * (z - z.mean(axis=0))).mean(axis=0)
    for method in ("linear_shap", "gradient_input", "integrated_gradients"):
        found = METHODS[method].of(model, parameters, rows)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    for method in ("weight", "garson", "olden", "gradient"):
        found = METHODS[method].of(model, parameters, rows)
        np.testing.assert_allclose(found, np.abs(weights), rtol=1e-9)


def test_garson_and_olden_are_those_worked_out_by_hand():
    model = models.build(Component("mlp", (("hidden", 2),)))
    kernels = [[[1.0, -3.0], [-1.0, 1.0]], [[2.0], [1.0]]]
    layers = {
        f"Dense_{i}": {"kernel": jnp.array(k), "bias": jnp.zeros(len(k[0]))}
        for i, k in enumerate(kernels)
    }
    rows = drawn_rows(2)
    # Shares of the units' incoming magnitudes: 1/2, 3/4 and 1/2, 1/4; passed on by 2 and 1.
    np.testing.assert_allclose(importance.garson(model, {"params": layers}, rows), [1.75, 1.25])
    # 1·2 - 3·1 and -1·2 + 1·1
    np.testing.assert_allclose(importance.olden(model, {"params": layers}, rows), [1.0, 1.0])


class Predictor(RegressorMixin, BaseEstimator):
    """A network as scikit-learn sees one."""

    def __init__(self, function=None):
        self.function = function

    def predict(self, x):
        """Return what the network does."""
        return self.function(x)

    def __sklearn_is_fitted__(self):
        """Say that nothing has to be fitted."""
        return True

    def fit(self, x, y):
        """Be fitted already."""
        return self


@pytest.mark.slow
def test_permutation_importance_is_scikit_learns_within_its_monte_carlo_interval():
    model, rows = models.build(NETWORK), drawn_rows(seed=2)
    parameters = start(model, seed=2)
    theirs = permutation_importance(
        Predictor(lambda x: np.asarray(model.apply(parameters, jnp.asarray(x)))),
        np.asarray(rows.inputs),
        np.asarray(rows.target),
        scoring="neg_mean_squared_error",
        n_repeats=200,
        random_state=0,
    )
    ours = importance.permutation(model, parameters, rows)
    spread = theirs.importances_std * np.sqrt(1 / 200 + 1 / len(rows.order))
    assert np.all(np.abs(ours - theirs.importances_mean) < 4 * spread)
    assert np.all(theirs.importances_std > 0)


def test_permutation_importance_is_that_of_a_plain_loop_over_the_permutations():
    model, rows = models.build(NETWORK), drawn_rows(seed=3)
    parameters = start(model, seed=3)

    def error(z):
        return np.mean((np.asarray(model.apply(parameters, z)) - rows.target) ** 2)

    expected = np.zeros(3)
    for feature, order in itertools.product(range(3), rows.order):
        moved = np.array(rows.inputs)
        moved[:, feature] = moved[order, feature]
        expected[feature] += (error(moved) - error(rows.inputs)) / len(rows.order)
    found = importance.permutation(model, parameters, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


class Classifier(ClassifierMixin, BaseEstimator):
    """A network of classes as scikit-learn sees one."""

    def __init__(self, function=None, classes=2):
        self.function, self.classes = function, classes
        self.classes_ = np.arange(classes)

    def predict_proba(self, x):
        """Return the softmax of the logits."""
        logits = np.asarray(self.function(x))
        if self.classes == 2:
            logits = np.stack([np.zeros(len(x)), logits], axis=-1)
        return softmax(logits, axis=-1)

    def predict(self, x):
        """Return the class of the largest logit."""
        return self.predict_proba(x).argmax(axis=-1)

    def __sklearn_is_fitted__(self):
        """Say that nothing has to be fitted."""
        return True

    def fit(self, x, y):
        """Be fitted already."""
        return self


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("method", "scoring"),
    [("permutation", "neg_log_loss"), ("permutation_accuracy", "accuracy")],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_permutation_importance_of_classes_is_scikit_learns(classes, method, scoring):
    model = models.build(NETWORK, classes)
    random = np.random.default_rng(4)
    z = random.standard_normal((400, 3)) * [1.0, 3.0, 0.2]
    order = jnp.asarray(permutations_of(4, 400))
    target = jnp.asarray(np.digitize(z[:, 0] + 0.3 * z[:, 1], [0.0, 1.0][: classes - 1]))
    rows = Rows(jnp.asarray(z), jnp.asarray(z), target.astype(float), order, classes=classes)
    parameters = start(model, seed=2)
    theirs = permutation_importance(
        Classifier(lambda x: model.apply(parameters, jnp.asarray(x)), classes),
        z,
        np.asarray(target),
        scoring=scoring,
        n_repeats=50,
        random_state=0,
    )
    ours = METHODS[method].of(model, parameters, rows)
    spread = theirs.importances_std * np.sqrt(1 / 50 + 1 / len(order))
    assert np.all(np.abs(ours - theirs.importances_mean) < 4 * spread + 1e-12)


def test_attributions_of_classes_are_the_mean_over_centred_logits():
    model, rows = models.build(Component("linear"), 3), drawn_rows()
    rows = rows._replace(classes=3)
    parameters = start(model)
    kernel = np.asarray(parameters["params"]["Dense_0"]["kernel"])
    centred = kernel - kernel.mean(axis=1, keepdims=True)
    z = np.asarray(rows.trained)
    expected = np.abs((z - z.mean(axis=0))[:, :, None] * centred).mean(axis=(0, 2))
    for method in ("linear_shap", "gradient_input", "integrated_gradients"):
        found = METHODS[method].of(model, parameters, rows)
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=method)
    found = METHODS["gradient"].of(model, parameters, rows)
    np.testing.assert_allclose(found, np.abs(centred).mean(axis=1), rtol=1e-9)


def test_the_unit_of_the_inputs_given_is_undone():
    model, rows = models.build(NETWORK), drawn_rows()
    parameters, gain = start(model), jnp.array([2.0, 0.1, 30.0])
    first = parameters["params"]["Dense_0"]
    folded = {"params": {**parameters["params"], "Dense_0": {**first}}}
    folded["params"]["Dense_0"]["kernel"] = first["kernel"] * gain[:, None]
    other = rows._replace(
        trained=rows.trained / gain, inputs=rows.inputs / gain, feature_scale=gain
    )
    one, same = (importance.of_one(model, p, r) for p, r in ((parameters, rows), (folded, other)))
    for name in one:
        np.testing.assert_allclose(one[name], same[name], rtol=1e-9, err_msg=name)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("model", "objective"), [(NETWORK, "samples"), (None, "moments")])
def test_shares_of_a_chunk_are_those_of_each_run_alone(model, objective):
    axes = {"problem": {"name": "uniform", "samples": 30}, "design": "U", "epochs": 3}
    axes |= {"model": model.plain() if model else "linear", "objective": objective}
    axes |= {"scale_factor": [1.0, 50.0], "scaler": ["none", "standard"], "dtype": "float64"}
    axes |= {"target_scaler": ["none", "standard"]}
    (own,) = groups_of(**axes)
    training, trained_on = train_chunk(own, FIRST, "importances")
    found, fit = importance.shares(own, FIRST, training, trained_on)
    conditions, seeds = own.padded(FIRST), own.seeds(FIRST)
    problem, network = problem_of(own.static.problem), models.build(own.static.model)
    parameters = stack(training.state.parameters)
    for c, s in [(0, 1), (3, 2), (6, 0)]:
        datasets = encoding.unique_datasets([conditions[c]])
        data, fresh = (of(own.static, [seeds[s]]) for of in (draws.draw, draws.held_out))
        unique_data = encoding.encode_unique(problem, data, datasets, own.static.transformed)
        old, new = (
            encoding.encode_held_out(problem, data, rows, datasets, unique_data)
            for rows in (data, fresh)
        )
        gain, shift = unique_data.feature_scale[:, 0, 0], unique_data.feature_shift[:, 0, 0]
        order = permutations_of(seeds[s], new.target.shape[-1])
        rows = Rows(  # in training units, whose gain is 1
            *(jnp.asarray(gain * x + shift) for x in (old.u[0, 0], new.u[0, 0])),
            *(jnp.asarray(x) for x in (new.target[0, 0] + unique_data.intercept[0, 0], order)),
        )
        mine = jax.tree.map(lambda x, c=c, s=s: x[..., c, s], parameters)
        alone = importance.of_one(network, mine, rows)
        lacking = {"permutation_accuracy"} | (set() if model is None else {"linear_shap"})
        assert set(alone) == set(METHODS) - lacking
        for name, share in alone.items():
            np.testing.assert_allclose(
                found[f"share_{name}"][:, c, s], share, rtol=1e-7, atol=1e-12
            )
        np.testing.assert_allclose(found["share_true"][:, c, s].sum(), 1)
        missed = ((network.apply(mine, rows.inputs) - rows.target) ** 2).mean()
        np.testing.assert_allclose(fit["r2_held_out"][c, s], 1 - missed / rows.target.var())
    assert np.all(fit["r2_held_out"] <= 1)


def test_what_truly_matters_is_what_the_law_says():
    order = permutations_of(0, 4000)
    u = np.random.default_rng(0).standard_normal((4000, 3))
    decoy = true_shares(PROBLEMS["decoy"](), u, order)
    np.testing.assert_allclose(decoy, [0.5, 0.5, 0.0], atol=0.02)
    assert decoy[2] == 0
    np.testing.assert_allclose(true_shares(PROBLEMS["products"](), u[:, :2], order), 0.5, atol=0.03)
