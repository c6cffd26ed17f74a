"""Classes and held-out rows: the engine beside scikit-learn and a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    log_loss,
    r2_score,
    roc_auc_score,
)
from sklearn.preprocessing import StandardScaler
from tiny_block import bytes_of, groups_of, rows_of

from scaling_study.engine import chunk, evaluate, models, objective
from scaling_study.engine.batching import Batching
from scaling_study.study import draws, encoding
from scaling_study.study.conditions import Chunk, problem_of

LONG = {
    "design": "U",
    "scaler": "standard",
    "optimizer": "sgd",
    "sampling": "full",
    "dtype": "float64",
}


def standardised(problem, seed):
    """Return training and held-out rows in the units of scikit-learn's scaler."""
    (u, y), (new_u, new_y) = problem.draw(seed), problem.held_out(seed)
    scaler = StandardScaler().fit(u)
    return scaler.transform(u), y, scaler.transform(new_u), new_y


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
def test_a_long_training_is_scikit_learns_logistic_regression(name):
    strength = 0.02
    axes = {**LONG, "problem": name, "l2_penalty": strength, "learning_rate": 0.2, "epochs": 3000}
    axes["data_seed"] = 1
    (own,) = groups_of(**axes)
    training, encoding = chunk.train_chunk(own, Chunk(0, 0, 0), "standard")
    problem = problem_of(own.static.problem)
    x, y, new_x, new_y = standardised(problem, 1)
    theirs = LogisticRegression(C=1 / (2 * strength * len(x)), tol=1e-10, max_iter=10_000)
    theirs.fit(x, y)
    dense = training.state.parameters["params"]["Dense_0"]
    kernel, bias = dense["kernel"][..., 0, 0].T, dense["bias"][..., 0, 0]
    np.testing.assert_allclose(kernel, theirs.coef_, atol=2e-6)
    if name == "wine":  # only differences of the biases are named by the loss
        bias, their_bias = bias - bias.mean(), theirs.intercept_ - theirs.intercept_.mean()
    else:
        their_bias = theirs.intercept_
    np.testing.assert_allclose(bias, their_bias, atol=1e-5)
    scores = evaluate.scores(own, Chunk(0, 0, 0), training, encoding)
    np.testing.assert_allclose(scores["test_accuracy"], theirs.score(new_x, new_y), rtol=1e-12)
    wanted = log_loss(new_y, theirs.predict_proba(new_x))
    np.testing.assert_allclose(scores["test_loss"], wanted, rtol=1e-4)


def test_a_long_training_predicts_as_least_squares_does():
    axes = {**LONG, "problem": "friedman2", "target_scaler": "standard", "data_seed": 0}
    row = rows_of(**axes, learning_rate=0.2, epochs=500).iloc[0]
    x, y, new_x, new_y = standardised(problem_of(groups_of(**axes)[0].static.problem), 0)
    theirs = LinearRegression().fit(x, y).predict(new_x)
    np.testing.assert_allclose(row["test_r2"], r2_score(new_y, theirs), rtol=1e-8)
    np.testing.assert_allclose(
        row["test_loss"], np.mean((new_y - theirs) ** 2) / y.var(), rtol=1e-8
    )
    assert row["status"] == "converged"


@pytest.mark.sweep(2)
@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_gradient_of_cross_entropy_is_a_plain_loops(classes, by_row):
    random = np.random.default_rng(0)
    rows, features, seeds, conditions = 7, 4, 3, 2
    with jax.enable_x64(True):
        model = models.MLP(hidden=(5,), activation="tanh", classes=classes)
        drawn = model.init(jax.random.key(0), jnp.zeros((1, features)))
        parameters = jax.tree.map(
            lambda p: jnp.asarray(random.normal(size=(*p.shape, conditions, seeds))), drawn
        )
        u = random.normal(size=(seeds, rows, features))
        labels = random.integers(classes, size=(seeds, rows)).astype(float)
        one = np.ones((conditions, seeds))
        each = np.ones((features, conditions, seeds))
        maps = objective.AffineMaps(2 * each, 0.5 * each, 0 * each, 0 * one, one)
        maps = jax.tree.map(jnp.asarray, maps)
        loss = objective.PerSample(model, Batching(rows, rows), classes, by_row=by_row)
        whole = loss.full_batch(jnp.asarray(u), jnp.asarray(labels))
        value, gradient = loss.value_and_gradient(parameters, maps, whole)

        def plain(own, z, y):
            logits = model.apply(own, z)
            if classes == 2:
                logits = jnp.stack([jnp.zeros(rows), logits], axis=-1)
            named = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=-1)
            return -named.mean()

        for c, s in np.ndindex(conditions, seeds):
            own = jax.tree.map(lambda p, at=(c, s): p[..., at[0], at[1]], parameters)
            z, y = jnp.asarray(2 * u[s] + 0.5), jnp.asarray(labels[s], jnp.int32)
            wanted, slopes = jax.value_and_grad(plain)(own, z, y)
            np.testing.assert_allclose(value[c, s], wanted, rtol=1e-10)
            for ours, theirs in zip(
                jax.tree.leaves(gradient), jax.tree.leaves(slopes), strict=True
            ):
                np.testing.assert_allclose(ours[..., c, s], theirs, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(loss.monitored_loss(parameters, maps, whole), value)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("scaler", ["standard", "quantile"])
def test_a_network_of_classes_is_scored_as_its_module_says(scaler):
    axes = {
        "problem": "wine",
        "design": "U",
        "scaler": [scaler],
        "epochs": 5,
        "learning_rate": 0.01,
    }
    axes["model"] = {"name": "mlp", "hidden": 4}
    (own,) = groups_of(**axes)
    training, trained_on = chunk.train_chunk(own, Chunk(0, 0, 0), "standard")
    scores = evaluate.scores(own, Chunk(0, 0, 0), training, trained_on)
    problem = problem_of(own.static.problem)
    known = encoding.encode(own.static, draws.draw(own.static, [2]), own.conditions)
    new = encoding.encode_held_out(
        problem,
        draws.draw(own.static, [2]),
        draws.held_out(own.static, [2]),
        encoding.unique_datasets(own.conditions),
        known,
    )
    z = new.u[0, 0] * known.feature_scale[:, 0, 0] + known.feature_shift[:, 0, 0]
    model = models.build(own.static.model, 3)
    parameters = jax.tree.map(lambda p: p[..., 0, 2], training.state.parameters)
    named = np.argmax(model.apply(parameters, z.astype(np.float32)), axis=-1)
    wanted = accuracy_score(new.target[0, 0], named)
    np.testing.assert_allclose(scores["test_accuracy"][0, 2], wanted, rtol=1e-6)


@pytest.mark.slow
def test_separable_classes_have_scores_and_no_target():
    rows = rows_of(problem="wine", design="U", epochs=2, learning_rate=[1e-3, 1e-2])
    assert rows["test_accuracy"].between(0, 1).all()
    assert rows["test_balanced_accuracy"].between(0, 1).all()
    assert "test_r2" not in rows
    for name in ("loss_ols", "loss_least", "excess_loss", "excess_share", "bias", "weight_error"):
        assert rows[name].isna().all(), name
    assert (rows["status"] == "no_target").all()
    assert rows["reason"].str.contains("a hyperplane separates the classes").all()


def test_a_target_loss_of_classes_is_judged_at_the_end_of_each_epoch():
    axes = {"problem": "wine", "design": "U", "scaler": "standard", "epochs": 20}
    axes |= {"learning_rate": 0.05, "model": "linear"}
    both = rows_of(**axes, target_loss=[0.3, 1e-9])
    assert (both.loc[0, "status"] == "converged").all()
    assert (both.loc[0, "steps_to_target"] % (both["updates"].max() / 20) == 0).all()
    assert (both.loc[1, "reason"] == "budget ended above the target").all()


def test_only_problems_that_hold_rows_out_have_scores():
    rows = rows_of(epochs=1)
    assert not [name for name in rows if name.startswith("test_")]


def test_a_chunk_is_the_same_bytes_again():
    axes = {"problem": "wine", "design": "U", "epochs": 2}
    assert bytes_of(Chunk(0, 0, 1), **axes) == bytes_of(Chunk(0, 0, 1), **axes)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    logits=st.lists(st.sampled_from([-2.0, -0.5, 0.25, 0.25, 3.0]), min_size=4, max_size=30),
    seed=st.integers(0, 100),
)
def test_scores_of_two_classes_are_scikit_learns(logits, seed):
    y = np.random.default_rng(seed).permutation(np.arange(len(logits)) % 2).astype(float)
    x = np.asarray(logits)
    found = evaluate.classification_scores(jnp.asarray(x), jnp.asarray(y), 2)
    np.testing.assert_allclose(found["auc"], roc_auc_score(y, x), rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], accuracy_score(y, x > 0), rtol=1e-5)
    wanted = balanced_accuracy_score(y, x > 0)
    np.testing.assert_allclose(found["balanced_accuracy"], wanted, rtol=1e-5)
    np.testing.assert_allclose(found["loss"], log_loss(y, expit(x)), rtol=1e-5)


def test_scores_of_three_classes_are_scikit_learns():
    random = np.random.default_rng(0)
    logits, y = random.normal(size=(50, 3)), np.repeat([0, 1, 2], [5, 15, 30])
    found = evaluate.classification_scores(jnp.asarray(logits), jnp.asarray(y, jnp.float32), 3)
    named = logits.argmax(axis=1)
    assert "auc" not in found
    np.testing.assert_allclose(found["accuracy"], accuracy_score(y, named), rtol=1e-5)
    wanted = balanced_accuracy_score(y, named)
    np.testing.assert_allclose(found["balanced_accuracy"], wanted, rtol=1e-5)
    np.testing.assert_allclose(found["loss"], log_loss(y, softmax(logits, axis=1)), rtol=1e-5)


def test_no_number_names_no_class():
    found = evaluate.classification_scores(
        jnp.array([jnp.nan, -1.0, 2.0]), jnp.array([0, 0, 1.0]), 2
    )
    assert np.isnan(found["loss"])
    assert np.isnan(found["auc"])
    np.testing.assert_allclose(found["accuracy"], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(found["balanced_accuracy"], 3 / 4, rtol=1e-6)
