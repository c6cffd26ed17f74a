"""Elementary functions beside those of NumPy in extended precision and of JAX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_study.engine import elementary, models

# These functions are written for the loops of a CPU; a GPU's own exponentials have fewer digits.
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="for the loops of a CPU")
SIZES = np.geomspace(1e-30, 1e4, 100_001)
X = np.concatenate([SIZES, -SIZES, [0.0]])


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
EXACT = {
    "tanh": np.tanh,
    "softplus": softplus,
    "log_sigmoid": lambda x: -softplus(-x),
    "elu": elu,
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
}


@on_cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EXACT)
def test_values_have_all_digits_but_the_last_few(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = X.astype(dtype)
        found = np.asarray(jax.jit(getattr(elementary, name))(x))
    exact = EXACT[name](x.astype(np.longdouble))
    told = np.abs(exact) > 1e-30  # below, products underflow
    last_place = np.spacing(np.abs(exact[told]).astype(dtype))
    assert (np.abs(found - exact)[told] <= 8 * last_place).all()
    assert (np.abs(found)[~told] <= 1e-30).all()


@pytest.mark.sweep(4)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", models.VECTORISED)
def test_values_and_slopes_are_those_of_jax(name, dtype):
    ours, theirs = models.VECTORISED[name], getattr(nn, name)
    digits = 2e-6 if dtype == "float32" else 2e-15
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(X[np.abs(X) < 50], dtype)
        for function, reference in (
            (ours, theirs),
            *((slope(f), slope(g)) for f, g in [(ours, theirs)]),
        ):
            found, wanted = function(x), reference(x)
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, rtol=digits, atol=4 * digits)
            small = (jnp.abs(x) < 1e-3) & (jnp.abs(wanted) > 1e-30)
            np.testing.assert_allclose(found[small], wanted[small], rtol=4 * digits)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_cross_entropy_is_that_of_optax_and_of_an_infinite_logit_nan(label):
    x = jnp.asarray(X[np.abs(X) < 100], jnp.float32)
    ours, theirs = (
        lambda x, f=f: f(x, jnp.float32(label))
        for f in (elementary.sigmoid_cross_entropy, optax.sigmoid_binary_cross_entropy)
    )
    np.testing.assert_allclose(ours(x), theirs(x), rtol=2e-6, atol=1e-30)
    np.testing.assert_allclose(slope(ours)(x), slope(theirs)(x), rtol=2e-6, atol=1e-30)
    assert np.isnan(ours(jnp.float32([np.inf, -np.inf, np.nan]))).all()


def slope(function):
    return jax.vmap(jax.grad(function))


@pytest.mark.parametrize("name", models.VECTORISED)
def test_at_the_ends_values_are_those_of_jax(name):
    ends = jnp.asarray([0.0, 1e4, -1e4, 1e30, -1e30, jnp.inf, jnp.nan], jnp.float32)
    ours, theirs = models.VECTORISED[name], getattr(nn, name)
    np.testing.assert_array_equal(ours(ends), theirs(ends) + jnp.zeros(()))
    np.testing.assert_array_equal(slope(ours)(ends[:3]), slope(theirs)(ends[:3]))


@settings(deadline=None)
@given(st.floats(-12, 12), st.floats(0, 1))
def test_tanh_is_odd_bounded_and_monotone(x, more):
    low, high = (elementary.tanh(jnp.float32(v)) for v in (x, x + more))
    assert abs(low) <= 1
    assert low == -elementary.tanh(jnp.float32(-x))
    assert low <= high + 1e-6  # of rounding, as that of XLA


@pytest.mark.sweep(3)
@on_cpu
@pytest.mark.parametrize("name", models.VECTORISED)
def test_second_derivatives_are_those_of_jax(name):
    ours, theirs = models.VECTORISED[name], getattr(nn, name)
    x = jnp.linspace(-4, 4, 81, dtype=jnp.float32)
    found, wanted = (slope(jax.grad(f))(x) for f in (ours, theirs))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
