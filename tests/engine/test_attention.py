"""The attention model: against NumPy, and the rows of its first kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling_study.engine import models
from scaling_study.engine.attention import attention
from scaling_study.errors import StudyError


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_it_is_what_numpy_computes_from_its_parameters():
    model = attention(tokens=4, width=3, classes=5)
    x = np.random.default_rng(0).standard_normal((6, 12))
    logits, parameters = model.init_with_output(jax.random.key(1), jnp.asarray(x, jnp.float32))
    p = jax.tree.map(np.asarray, parameters["params"])
    tokens = np.stack([x[:, 3 * t : 3 * t + 3] @ p["kernel"][3 * t : 3 * t + 3] for t in range(4)])
    tokens = np.moveaxis(tokens, 0, 1)
    mixed = tokens @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
    query, key, value = np.split(mixed, 3, axis=-1)
    weights = softmax(query @ np.swapaxes(key, 1, 2) / 3**0.5)
    mean = (tokens + weights @ value).mean(axis=1)
    expected = mean @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_its_first_kernel_has_a_row_for_each_feature():
    model = attention(tokens=8, width=4)
    models.check(model, 64, 10)
    parameters = model.init(jax.random.key(0), jnp.zeros((2, 64)))
    assert models.first_kernel(parameters, 64).shape == (64, 4)


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"width": 0}, {"classes": 2}])
def test_what_makes_no_attention_is_refused(wrong):
    with pytest.raises(StudyError, match="1 or more"):
        attention(**wrong)
