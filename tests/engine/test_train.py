"""One update, pinned by hand; and a training, held to a plain loop over one run."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_block import block_of, column, hand_problem, leaves, rows_of, update_of

from scaling_study.engine import models, objective, optimizers, train
from scaling_study.engine.initial import initial_parameters
from scaling_study.engine.models import MODELS
from scaling_study.engine.optimizers import OPTIMIZERS
from scaling_study.engine.train import NEVER
from scaling_study.study.component import Component
from scaling_study.study.scalers import AFFINE

WAYS = ("moments", "samples")
NEWTON = "scaling_study.engine.optimizers:newton"
CLIPPED = "test_optimizers:clipped"
SMALL = {"name": "gaussian", "samples": 14, "features": 3, "noise": 0.5}
WEIGHT, BIAS, RATE = 0.5, 0.25, 0.1
WEIGHT_GRADIENT, BIAS_GRADIENT = 3.5, 1.5  # as worked out in tiny_block and test_objective


@pytest.fixture
def _in_float64():
    with jax.enable_x64(True):
        yield


def factory_of(name: str, framework: str = "keras"):
    return optimizers.build(Component(name), framework)


def scan(block, count: int, threshold=jnp.inf, parameters=None):
    """Return the state after some updates, and the losses before each."""
    update = block.update()

    def step(state, x):
        batch, number = x
        state, info, active = update.step(state, block.data, batch, threshold, number)
        return state, (info.loss, active)

    batches = jax.tree.map(lambda x: x[:count], block.batches)
    parameters = block.parameters if parameters is None else parameters
    numbers = jnp.arange(count, dtype=jnp.int32)
    return jax.jit(lambda p, b: jax.lax.scan(step, update.init(p, block.data), (b, numbers)))(
        parameters, batches
    )


# One update by hand -------------------------------------------------------------------------

# From weight 0.5 and bias 0.25, with gradients 3.5 and 1.5 and a learning rate of 0.1.
STEPS = {
    # 0.5 - 0.1 · 3.5, 0.25 - 0.1 · 1.5
    "sgd": (0.15, 0.10),
    # The first step's velocity is the gradient.
    "momentum": (0.15, 0.10),
    # Bias-corrected moments are g and g²: 0.1 · 3.5 / (3.5 + 1e-7), 0.1 · 1.5 / (1.5 + 1e-7)
    "adam": (0.5 - 0.1 / (1 + 1e-7 / 3.5), 0.25 - 0.1 / (1 + 1e-7 / 1.5)),
    # As adam, and 0.1 · 0.004 of the parameter: 0.4 - 0.0002, 0.15 - 0.0001
    "adamw": (0.3998 + 0.1e-7 / 3.5, 0.1499 + 0.1e-7 / 1.5),
    # 3.5 / sqrt(0.1 · 12.25 + 1e-7), 1.5 / sqrt(0.1 · 2.25 + 1e-7)
    "rmsprop": (0.5 - 0.35 / 1.2250001**0.5, 0.25 - 0.15 / 0.2250001**0.5),
    # 3.5 / sqrt(0.1 + 12.25 + 1e-7), 1.5 / sqrt(0.1 + 2.25 + 1e-7)
    "adagrad": (0.5 - 0.35 / 12.3500001**0.5, 0.25 - 0.15 / 2.3500001**0.5),
    # The sign alone.
    "lion": (0.4, 0.15),
    # Adam's step, sign 1, made as long as each layer: 0.1 · 0.5, 0.1 · 0.25
    "lamb": (0.45, 0.225),
}


# Where every number is updated by itself, the runs may lie in arrays of their own.
LAID_OUT = [(name, way, False) for name in STEPS for way in WAYS]
LAID_OUT += [(name, "moments", True) for name in STEPS if name != "lamb"]


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize(("name", "way", "unstacked"), LAID_OUT)
def test_one_update_is_the_numbers_worked_out_by_hand(name, way, unstacked):
    loss, data, parameters = hand_problem(way, RATE)
    update = update_of(loss, factory_of(name))
    parameters = objective.unstack(parameters) if unstacked else parameters
    batch = loss.full_batch(data.inputs, data.residual)
    state, info, active = update.step(
        update.init(parameters, data), data, batch, jnp.inf, jnp.int32(0)
    )
    layer = objective.stack(state.parameters)["params"]["Dense_0"]
    weight, bias = STEPS[name]
    # Lamb's adam has eps 1e-6, which moves its lengths' last digits only.
    close = 1e-12 if name != "lamb" else 1e-6
    assert float(layer["kernel"][0, 0, 0, 0]) == pytest.approx(weight, rel=close)
    assert float(layer["bias"][0, 0, 0]) == pytest.approx(bias, rel=close)
    assert float(info.loss[0, 0]) == pytest.approx(1.0625, rel=1e-14)
    assert float(np.ravel(info.gradient_norm)[0]) == pytest.approx(WEIGHT_GRADIENT, rel=1e-14)
    assert bool(active[0, 0])
    assert int(state.diverged_at[0, 0]) == NEVER


@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize("way", WAYS)
def test_two_updates_by_batches_are_the_numbers_worked_out_by_hand(way):
    loss, data, parameters = hand_problem(way, RATE)
    update = update_of(loss, factory_of("sgd"))
    batches = loss.prepare(data.inputs, data.residual, jnp.array([[[0, 1, 2]]], jnp.int32))
    state, losses = update.init(parameters, data), []
    for b in range(2):
        batch = jax.tree.map(lambda x, b=b: x[0, b], batches)
        state, info, _ = update.step(state, data, batch, jnp.inf, jnp.int32(b))
        losses.append(float(info.loss[0, 0]))
    layer = state.parameters["params"]["Dense_0"]
    # Samples 0 and 1: gradients 1.5 and 1.0, so 0.5 - 0.15 = 0.35 and 0.25 - 0.1 = 0.15. Then
    # sample 2, z = 3 and y' = 0.5: 1.05 + 0.15 - 0.5 = 0.7, loss 0.49, gradients 4.2 and 1.4.
    assert losses == pytest.approx([0.8125, 0.49], rel=1e-14)
    assert float(layer["kernel"][0, 0, 0, 0]) == pytest.approx(0.35 - 0.42, rel=1e-13)
    assert float(layer["bias"][0, 0, 0]) == pytest.approx(0.15 - 0.14, rel=1e-12)


# Many runs at once --------------------------------------------------------------------------


@pytest.mark.sweep(2)
@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize(
    ("name", "way", "model"),
    [(name, "moments", "linear") for name in OPTIMIZERS]
    # Side by side or each by itself, the two ways there are, and those that take a matrix.
    + [(name, "samples", "mlp") for name in ("adam", "sm3", "muon", "schedule_free_sgd", CLIPPED)],
)
def test_a_block_is_its_runs_trained_one_by_one(name, way, model):
    rates = [0.01, 0.1]
    axes = {"objective": way, "model": model, "optimizer": name, "learning_rate": rates}
    axes |= {"problem": SMALL, "batch_size": 4, "scaler": "standard", "dtype": "float64"}
    block = block_of(**axes)
    state, (losses, _) = scan(block, 6)
    factory = factory_of(name)
    together = objective.stack(state.parameters)
    batches = block.batches
    for c, s in [(0, 2), (1, 0)]:
        own = block_of([s], **{**axes, "learning_rate": rates[c]})
        optimizer = factory(rates[c])
        parameters = jax.tree.map(lambda x: x[..., 0, 0], own.parameters)
        memory = optimizer.init(parameters)
        for number in range(6):
            batch = jax.tree.map(lambda x, n=number: x[n], own.batches)
            alone = jax.tree.map(lambda x: x[..., None, None], parameters)
            value, gradient = own.at(alone, batch)
            np.testing.assert_allclose(losses[number, c, s], value[0, 0], rtol=1e-9)
            gradient = jax.tree.map(lambda x: x[..., 0, 0], gradient)
            updates, memory = optimizer.update(gradient, memory, parameters)
            parameters = optax.apply_updates(parameters, updates)
        ended = jax.tree.map(lambda x, c=c, s=s: x[..., c, s], together)
        for one, other in zip(leaves(ended), leaves(parameters), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)
    assert len(jax.tree.leaves(batches)[0]) == 8


@pytest.mark.sweep(2)
@pytest.mark.usefixtures("_in_float64")
@pytest.mark.parametrize("problem", [SMALL, {"name": "gaussian", "features": 20}], ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("way", WAYS)
def test_newton_is_at_least_squares_after_an_update_whatever_the_unit(way, scale, problem):
    axes = {"objective": way, "optimizer": NEWTON, "learning_rate": [1.0, 0.5], "design": "U"}
    axes |= {"problem": problem, "sampling": "full", "dtype": "float64", "scale_factor": scale}
    block = block_of(**axes)
    update = update_of(block.loss, factory_of(NEWTON))
    state = update.init(block.parameters, block.data)
    before = block.loss.monitored_loss(state.parameters, block.data.maps, block.full_batch)
    state, _, _ = update.step(state, block.data, block.full_batch, jnp.inf, jnp.int32(0))
    after = block.loss.monitored_loss(state.parameters, block.data.maps, block.full_batch)
    np.testing.assert_allclose(after[0], 0, atol=1e-9 * np.max(before))
    # Half the way leaves a quarter of a quadratic.
    np.testing.assert_allclose(after[1], before[1] / 4, rtol=1e-6)


@pytest.mark.usefixtures("_in_float64")
def test_the_hessian_of_a_network_is_the_slope_of_its_gradient():
    axes = {"model": {"name": "mlp", "hidden": 3, "activation": "tanh"}, "objective": "samples"}
    axes |= {"problem": {"name": "gaussian", "features": 6, "samples": 12}, "sampling": "full"}
    block = block_of(**axes, dtype="float64", learning_rate=0.1)

    def gradient(parameters):
        found = block.loss.value_and_gradient(parameters, block.data.maps, block.full_batch)[1]
        return jnp.concatenate([leaf.reshape(-1, *leaf.shape[-2:]) for leaf in leaves(found)])

    hessian = train._hessian(block.loss, block.parameters, block.data, block.full_batch)
    flat, tree = jax.tree.flatten(block.parameters)
    step, place = 1e-6, 0
    for number, leaf in enumerate(flat):
        for index in np.ndindex(leaf.shape[:-2]):
            ends = []
            for sign in (1, -1):
                moved = [*flat]
                moved[number] = leaf.at[index].add(sign * step)
                ends.append(gradient(jax.tree.unflatten(tree, moved)))
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(hessian[place], slope, rtol=1e-5, atol=1e-7)
            place += 1
    assert place == len(hessian) == 6 * 3 + 3 + 3 + 1


# A learning rate that explodes, as a neighbour to one that does not.
@lru_cache
def exploding(model: str, optimizer: str, rate: float = 30.0):
    way = "moments" if model == "linear" else "samples"
    axes = {"objective": way, "model": model, "optimizer": optimizer, "scaler": "standard"}
    axes |= {"problem": SMALL, "batch_size": 4, "epochs": 10}
    block = block_of(learning_rate=[0.01, rate], **axes)
    threshold = 1e6 * block.at(block.parameters, block.full_batch)[0]
    return block, threshold, scan(block, 40, threshold)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "test_optimizers:clipped_by_layer"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_is_frozen_where_its_loss_first_is_above_the_ceiling(model, optimizer):
    block, threshold, (state, (losses, active)) = exploding(model, optimizer)
    lost, kept = np.asarray(state.diverged_at)[1], np.asarray(state.diverged_at)[0]
    assert (kept == NEVER).all()
    assert (lost < 40).all()
    losses, active = np.asarray(losses), np.asarray(active)
    for seed, at in enumerate(lost):
        assert not losses[at, 1, seed] <= threshold[1, seed]
        assert (losses[:at, 1, seed] <= threshold[1, seed]).all()
        assert active[:, 1, seed].tolist() == [True] * at + [False] * (40 - at)
        before, _ = scan(block, int(at), threshold)
        for now, then in zip(leaves(state.parameters), leaves(before.parameters), strict=True):
            assert np.isfinite(now[..., 1, seed]).all()
            np.testing.assert_allclose(now[..., 1, seed], then[..., 1, seed], rtol=1e-5)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "test_optimizers:clipped_by_layer"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_does_not_notice_that_its_neighbour_diverged(model, optimizer):
    _, _, (state, (losses, _)) = exploding(model, optimizer)
    _, _, (calm, (calm_losses, _)) = exploding(model, optimizer, rate=0.02)
    assert (np.asarray(calm.diverged_at) == NEVER).all()
    np.testing.assert_array_equal(losses[:, 0], calm_losses[:, 0])
    for one, other in zip(leaves(state.parameters), leaves(calm.parameters), strict=True):
        np.testing.assert_array_equal(one[..., 0, :], other[..., 0, :])
        assert not np.array_equal(one[..., 1, :], other[..., 1, :])


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_loss_that_is_no_number_freezes_a_run_at_once(poison):
    block = block_of(problem=SMALL, batch_size=4, objective="moments", learning_rate=[0.1, 0.2])
    poisoned = jax.tree.map(lambda x: x.at[..., 1, 2].set(poison), block.parameters)
    threshold = 1e6 * block.at(block.parameters, block.full_batch)[0]
    state, (_, active) = scan(block, 4, threshold, poisoned)
    expected = np.full((2, 3), NEVER)
    expected[1, 2] = 0
    np.testing.assert_array_equal(state.diverged_at, expected)
    assert not active[:, 1, 2].any()
    clean, _ = scan(block, 4, threshold)
    for one, other in zip(leaves(state.parameters), leaves(clean.parameters), strict=True):
        rest = expected == NEVER
        np.testing.assert_array_equal(one[..., rest], other[..., rest])
        np.testing.assert_array_equal(one[..., 1, 2], poison)


# The start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(seeds=st.lists(st.integers(0, 2**31 - 1), min_size=3, max_size=3))
def test_a_seeds_start_is_its_own(name, seeds):
    model = models.build(Component(name))
    drawn = initial_parameters(model, jnp.asarray(seeds, jnp.uint32), 3, np.float32)
    for place, seed in enumerate(seeds):
        alone = model.init(jax.random.key(seed), jnp.zeros((1, 3)))
        for one, other in zip(leaves(drawn), leaves(alone), strict=True):
            np.testing.assert_array_equal(one[..., place], other)


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_starts_alike_in_either_dtype(name):
    model, seeds = models.build(Component(name)), jnp.arange(4, dtype=jnp.uint32)
    single = initial_parameters(model, seeds, 3, "float32")
    with jax.enable_x64(True):
        double = initial_parameters(model, seeds, 3, "float64")
    for one, other in zip(leaves(single), leaves(double), strict=True):
        assert (one.dtype, other.dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(one, other)


# Whole trainings ----------------------------------------------------------------------------

# Full batches of centred data give the bias a gradient that is zero but for rounding, and
# adam's steps around zero grow by 2 · learning rate / eps: eps is what keeps rounding small.
STEADY = {"name": "adam", "eps": 1e-2}
CASES = [(name, "reshuffled") for name in STEPS]
CASES += [("adam", "replacement"), ("sgd", "replacement"), (STEADY, "full"), ("sgd", "full")]


@pytest.mark.sweep(1)
@pytest.mark.parametrize(("optimizer", "sampling"), CASES, ids=str)
def test_trainings_by_moments_and_by_samples_end_alike(optimizer, sampling):
    axes = {
        "problem": {"name": "gaussian", "samples": 20, "features": 2, "correlation": 0.5},
        "scaler": list(AFFINE),
        "target_scaler": ["none", "standard", "robust"],
        "scale_factor": [1.0, 30.0],
        "optimizer": optimizer,
        "sampling": sampling,
        "batch_size": 6,
        "epochs": 3,
        "learning_rate": 0.01,
        "dtype": "float64",
    }
    moments, samples = (rows_of(objective=way, **axes) for way in WAYS)
    moments = moments.loc[samples.index]
    assert len(samples) == len(AFFINE) * 3 * 2 * 32
    for name in ("weight", "grad_norm_init", "grad_norm_first_epoch", "grad_norm_mean", "movement"):
        own, other = column(moments, name), column(samples, name)
        size = np.abs(other).max(axis=1, keepdims=True)
        np.testing.assert_allclose(own / size, other / size, atol=1e-10, err_msg=name)
    size = np.abs(column(samples, "weight")).max(axis=1)
    np.testing.assert_allclose(moments["bias"] / size, samples["bias"] / size, atol=1e-10)
    np.testing.assert_allclose(moments["excess_loss"], samples["excess_loss"], rtol=1e-9)
    for name in ("status", "reason", "updates"):
        assert moments[name].tolist() == samples[name].tolist()
