"""Gradient and curvature where a network ended: held to closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling_study.engine import curvature, models
from scaling_study.study.component import Component
from scaling_study.study.conditions import expand, split
from scaling_study.study.study import parse

RANDOM = np.random.default_rng(3)
U, TARGET = RANDOM.standard_normal((30, 2)), RANDOM.standard_normal(30)


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def found_of(model, parameters, scale=(1.0, 1.0)):
    found = curvature.of_one(
        model, parameters, jnp.asarray(scale), jnp.asarray(U), jnp.asarray(TARGET)
    )
    return {name: np.asarray(value) for name, value in found.items()}


def test_a_linear_model_has_the_curvature_of_its_inputs():
    model = models.build(Component("linear"))
    kernel, bias = np.array([[0.3], [-2.0]]), np.array([0.1])
    parameters = {"params": {"Dense_0": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}}
    rows = np.column_stack([np.ones(30), U])
    hessian = 2 * rows.T @ rows / 30
    gradient = 2 * rows.T @ (rows @ np.r_[bias, kernel[:, 0]] - TARGET) / 30
    found = found_of(model, parameters, scale=(1.0, 100.0))
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert found["gradient_norm"] == pytest.approx(np.linalg.norm(gradient))
    assert found["curvature_least"] == pytest.approx(eigenvalues[0])
    assert found["curvature_most"] == pytest.approx(eigenvalues[-1])
    diagonal = np.diag(hessian)[1:] * [1.0, 1e4]  # of weights on inputs 1 and 100 times as large
    np.testing.assert_allclose(found["share_curvature"], diagonal / diagonal.sum())


def test_two_units_that_are_alike_and_fit_nothing_are_at_a_saddle():
    """With all weights zero the gradient is that of the output bias, and one curvature is below."""
    model = models.build(Component("mlp", (("activation", "tanh"), ("hidden", 2))))
    zeros = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), jnp.zeros((1, 2))))
    zeros["params"]["Dense_1"]["bias"] = jnp.array([TARGET.mean()])
    found = found_of(model, zeros)
    assert found["gradient_norm"] == pytest.approx(0, abs=1e-12)
    assert found["curvature_least"] < -1e-3
    assert found["curvature_most"] == pytest.approx(2)


def test_a_run_that_left_the_numbers_has_no_curvature():
    model = models.build(Component("mlp", (("hidden", 2),)))
    lost = jax.tree.map(
        lambda x: jnp.full_like(x, jnp.nan), model.init(jax.random.key(0), jnp.zeros((1, 2)))
    )
    assert np.isnan(found_of(model, lost)["curvature_least"])


@pytest.mark.parametrize(
    ("axes", "wanted"),
    [({"model": "mlp", "sampling": "full"}, True), ({"model": "mlp"}, False),
     ({"sampling": "full"}, False),
     ({"model": "mlp", "sampling": "full", "problem": "wine", "design": "U"}, False)],
)  # fmt: skip
def test_it_is_of_networks_of_a_quantity_on_the_full_batch(axes, wanted):
    (condition,) = expand(parse({"name": "x", **axes}))
    assert curvature.applies(split(condition)) == wanted
