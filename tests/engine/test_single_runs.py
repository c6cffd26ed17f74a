"""Functions of one run over a tile: what a loop over its runs gives, whoever shares the rows."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling_study.engine.batching import Batching
from scaling_study.engine.models import linear
from scaling_study.engine.objective import PerSample, Places
from scaling_study.engine.single_runs import over_runs, rows_of_runs, runs_first, runs_last

CONDITIONS, SEEDS, ROWS, SIZE, FEATURES = 3, 2, 7, 4, 2
LEADS = {"seeds": (SEEDS,), "runs": (CONDITIONS, SEEDS), "all": (1,)}


@pytest.mark.parametrize("by", LEADS)
def test_a_mapped_function_is_a_loop_over_the_runs(by):
    random = np.random.default_rng(0)
    objective = PerSample(linear(), Batching(ROWS, SIZE), single_run=True)
    inputs = random.normal(size=(*LEADS[by], ROWS, FEATURES)).astype(np.float32)
    target = random.normal(size=(CONDITIONS, SEEDS, ROWS)).astype(np.float32)
    kernel = random.normal(size=(CONDITIONS, SEEDS, FEATURES)).astype(np.float32)
    index = random.integers(ROWS, size=(SEEDS, SIZE))
    batch = Places(jnp.asarray(index), jnp.int32(SIZE))

    def of_run(run, of_rows, inputs, batch, step):
        rows = objective.rows(inputs, of_rows, batch)
        full = objective.rows(inputs, of_rows, None)
        error = rows.inputs @ run["kernel"] - rows.residual
        return {"error": error + rows.size, "slope": full.inputs.T @ full.residual + step}

    of_rows = rows_of_runs(jnp.asarray(inputs), jnp.asarray(target))
    shared = objective.full_batch(jnp.asarray(inputs), jnp.asarray(target))
    found = over_runs(of_run)({"kernel": jnp.asarray(kernel)}, of_rows, shared, batch, 7.0)
    for c, s in np.ndindex(CONDITIONS, SEEDS):
        x = inputs[{"seeds": (s,), "runs": (c, s), "all": (0,)}[by]]
        error = x[index[s]] @ kernel[c, s] - target[c, s, index[s]] + SIZE
        np.testing.assert_allclose(found["error"][c, s], error, rtol=1e-5, atol=1e-5)
        slope = x.T @ target[c, s] + 7.0
        np.testing.assert_allclose(found["slope"][c, s], slope, rtol=1e-5, atol=1e-5)


def test_a_run_may_have_empty_arrays():
    run = {"kernel": jnp.ones((2, 3, 4)), "none": jnp.zeros((2, 3, 0))}
    found = over_runs(lambda run, data, shared: run)(run, jnp.ones((2, 3)), jnp.ones(5))
    assert {name: x.shape for name, x in found.items()} == {"kernel": (2, 3, 4), "none": (2, 3, 0)}


def test_runs_lead_and_are_last_again():
    tree = {"a": jnp.arange(24.0).reshape(2, 3, 4), "b": jnp.ones((3, 4))}
    first = runs_first(tree)
    assert (first["a"].shape, first["b"].shape) == ((3, 4, 2), (3, 4))
    assert all((runs_last(first)[name] == tree[name]).all() for name in tree)
