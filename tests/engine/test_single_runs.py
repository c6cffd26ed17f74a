"""Functions of one run over a tile: what a loop over its runs gives, whoever shares the rows."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling_study.engine.objective import Rows
from scaling_study.engine.single_runs import BATCHES, ONE_BATCH, over_runs, runs_first, runs_last

CONDITIONS, SEEDS, COUNT, SIZE, FEATURES = 3, 2, 4, 5, 2


def of_run(run, data, full, batches, step):
    """Return numbers that depend on each argument and on each axis of the rows."""
    predicted = batches.inputs @ run["kernel"] * data
    slope = full.inputs.T @ (full.residual * jnp.arange(1.0, SIZE + 1))
    return {"epoch": predicted.sum(axis=-1) + batches.size, "slope": slope + step}


@pytest.mark.parametrize("shared", [True, False])
def test_a_mapped_function_is_a_loop_over_the_runs(shared):
    random = np.random.default_rng(0)
    lead = (SEEDS,) if shared else (CONDITIONS, SEEDS)

    def drawn(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    run, data = {"kernel": drawn(CONDITIONS, SEEDS, FEATURES)}, drawn(CONDITIONS, SEEDS)
    full = Rows(drawn(*lead, SIZE, FEATURES), drawn(*lead, SIZE), jnp.int32(SIZE))
    sizes = jnp.full(COUNT, SIZE)
    batches = Rows(drawn(COUNT, *lead, SIZE, FEATURES), drawn(COUNT, *lead, SIZE), sizes)
    found = over_runs(of_run, ONE_BATCH, BATCHES)(run, data, full, batches, 7.0)
    for c, s in np.ndindex(CONDITIONS, SEEDS):
        place = (s,) if shared else (c, s)
        rows = Rows(full.inputs[place], full.residual[place], full.size)
        inputs, residual = batches.inputs[:, *place], batches.residual[:, *place]
        expected = of_run(
            {"kernel": run["kernel"][c, s]}, data[c, s], rows, Rows(inputs, residual, sizes), 7.0
        )
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][c, s], value, rtol=1e-5, atol=1e-5)


def test_a_run_may_have_empty_arrays():
    run = {"kernel": jnp.ones((2, 3, 4)), "none": jnp.zeros((2, 3, 0))}
    rows = Rows(jnp.ones((3, 5, 4)), jnp.ones((3, 5)), jnp.int32(5))
    found = over_runs(lambda run, data, rows: run, ONE_BATCH)(run, jnp.ones((2, 3)), rows)
    assert {name: x.shape for name, x in found.items()} == {"kernel": (2, 3, 4), "none": (2, 3, 0)}


def test_runs_lead_and_are_last_again():
    tree = {"a": jnp.arange(24.0).reshape(2, 3, 4), "b": jnp.ones((3, 4))}
    first = runs_first(tree)
    assert (first["a"].shape, first["b"].shape) == ((3, 4, 2), (3, 4))
    assert all((runs_last(first)[name] == tree[name]).all() for name in tree)
