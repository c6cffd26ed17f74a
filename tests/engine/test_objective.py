"""The objective: one number, computed in two ways, held to NumPy and to numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer
from tiny_block import block_of, hand_problem, leaves, linear_parameters

from scaling_study.engine import models, objective
from scaling_study.study import draws, scalers
from scaling_study.study.conditions import problem_of
from scaling_study.study.encoding import observed
from scaling_study.study.scalers import AFFINE, TRANSFORMERS

WAYS = ("moments", "samples")
SMALL = {"name": "gaussian", "samples": 14, "features": 3, "noise": 0.5, "correlation": 0.3}
few = settings(max_examples=12, deadline=None, derandomize=True, database=None)


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def some_parameters(block, seed: int = 0, size: float = 1.0):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(size * random.normal(size=x.shape)), block.parameters)


def data_in_training_units(block) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (C, S, N, d) and targets (C, S, N) from the problem's own law."""
    inputs, targets = [], []
    for condition in block.conditions:
        problem = problem_of(condition.problem)
        u, noise = draws.draw(block.static, range(3))
        x = observed(problem, u, [condition])[0]
        if problem.signal is not None:
            y = problem.signal(u) + noise
        elif condition.design == "F":
            y = x @ problem.coefficients + noise
        else:
            y = (u * problem.reference_scale) @ problem.coefficients + noise
        if scalers.is_affine(condition.scaler):
            shift, divisor = scalers.affine(condition.scaler.name, x)
            inputs.append((x - shift[:, None]) / divisor[:, None])
        else:
            inputs.append(scalers.transform(condition.scaler, x))
        shift, divisor = scalers.affine(condition.target_scaler.name, y[..., None])
        targets.append((y - shift) / divisor)
    return np.stack(inputs), np.stack(targets)


def errors_by_hand(block, parameters) -> np.ndarray:
    """Return the error of each row, (C, S, N), of networks run one at a time."""
    model = models.build(block.static.model)
    inputs, targets = data_in_training_units(block)
    found = np.empty(targets.shape)
    for c, s in np.ndindex(found.shape[:2]):
        own = jax.tree.map(lambda x, c=c, s=s: x[..., c, s], parameters)
        found[c, s] = model.apply(own, jnp.asarray(inputs[c, s])) - targets[c, s]
    return found


# By hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_loss_and_gradient_of_all_data_are_the_numbers_worked_out_by_hand(way):
    loss, data, parameters = hand_problem(way)
    value, gradient = loss.value_and_gradient(
        parameters, data.maps, loss.full_batch(data.inputs, data.residual)
    )
    layer = gradient["params"]["Dense_0"]
    # Errors -0.25, 1.25, 1.25: mean of squares (0.0625 + 1.5625 + 1.5625) / 3 = 1.0625.
    assert float(value[0, 0]) == pytest.approx(1.0625, rel=1e-14)
    # 2/3 (-0.25 · -1 + 1.25 · 1 + 1.25 · 3) = 2/3 · 5.25 = 3.5, and 2/3 · 2.25 = 1.5.
    assert float(layer["kernel"][0, 0, 0, 0]) == pytest.approx(3.5, rel=1e-14)
    assert float(layer["bias"][0, 0, 0]) == pytest.approx(1.5, rel=1e-14)


@pytest.mark.parametrize("way", WAYS)
def test_excess_is_the_number_worked_out_by_hand(way):
    loss, data, parameters = hand_problem(way)
    excess = loss.monitored_loss(parameters, data.maps, loss.full_batch(data.inputs, data.residual))
    # Least squares leaves (0.25 + 1 + 0.25) / 3 / 2² = 0.125 of the loss, 1.0625.
    assert float(excess[0, 0]) == pytest.approx(0.9375, rel=1e-14)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        # Samples 0 and 1, then 2: (0.0625 + 1.5625) / 2, -0.25 · -1 + 1.25 · 1, -0.25 + 1.25;
        # 1.5625, 2 · 1.25 · 3, 2 · 1.25.
        ([0, 1, 2], [(0.8125, 1.5, 1.0), (1.5625, 7.5, 2.5)]),
        # Samples 2 and 1, then 0: 1.5625, 1.25 · 3 + 1.25 · 1, 1.25 + 1.25;
        # 0.0625, 2 · -0.25 · -1, 2 · -0.25.
        ([2, 1, 0], [(1.5625, 5.0, 2.5), (0.0625, 0.5, -0.5)]),
    ],
)
def test_each_batch_is_the_numbers_worked_out_by_hand(way, place, expected):
    loss, data, parameters = hand_problem(way)
    batches = loss.prepare(data.inputs, data.residual, jnp.array([[place]], jnp.int32))
    for b, (value, weight, bias) in enumerate(expected):
        batch = jax.tree.map(lambda x, b=b: x[0, b], batches)
        found, gradient = loss.value_and_gradient(parameters, data.maps, batch)
        layer = gradient["params"]["Dense_0"]
        assert float(found[0, 0]) == pytest.approx(value, rel=1e-14)
        assert float(layer["kernel"][0, 0, 0, 0]) == pytest.approx(weight, rel=1e-14)
        assert float(layer["bias"][0, 0, 0]) == pytest.approx(bias, rel=1e-14)


# Against NumPy ------------------------------------------------------------------------------


@pytest.mark.sweep(2)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("design", ["F", "U"])
def test_loss_and_gradient_are_those_of_the_scaled_data(way, design):
    block = block_of(
        objective=way,
        design=design,
        dtype="float64",
        problem=SMALL,
        scale_factor=[1.0, 40.0],
        scaler=list(AFFINE),
        target_scaler=list(AFFINE),
    )
    parameters = some_parameters(block)
    value, gradient = block.at(parameters, block.full_batch)
    inputs, _ = data_in_training_units(block)
    errors = errors_by_hand(block, parameters)
    layer = gradient["params"]["Dense_0"]
    np.testing.assert_allclose(value, (errors**2).mean(axis=-1), rtol=1e-10)
    by_weight = 2 * (errors[..., None] * inputs).mean(axis=-2)
    size = np.abs(by_weight).max(axis=-1, keepdims=True)
    np.testing.assert_allclose(
        (np.moveaxis(layer["kernel"][:, 0], 0, -1) - by_weight) / size, 0, atol=1e-10
    )
    np.testing.assert_allclose(
        (layer["bias"][0] - 2 * errors.mean(axis=-1)) / np.abs(errors).max(axis=-1), 0, atol=1e-10
    )


@pytest.mark.parametrize("sampling", ["reshuffled", "replacement"])
@pytest.mark.parametrize("way", WAYS)
def test_a_batchs_loss_is_the_mean_over_its_rows(way, sampling):
    block = block_of(objective=way, dtype="float64", problem=SMALL, batch_size=4, sampling=sampling)
    parameters = some_parameters(block)
    squares = errors_by_hand(block, parameters)[0] ** 2
    batches = block.batches
    for epoch, b in np.ndindex(2, 4):
        number = 4 * epoch + b
        value, _ = block.at(parameters, jax.tree.map(lambda x, n=number: x[n], batches))
        for seed in range(3):
            order = np.asarray(block.order)[seed, epoch]
            if sampling == "reshuffled":
                rows = np.flatnonzero(order // 4 == b)
                assert len(rows) == (4 if b < 3 else 2)
            else:
                rows = order[4 * b : 4 * b + 4]
            np.testing.assert_allclose(value[0, seed], squares[seed][rows].mean(), rtol=1e-10)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("model", ["linear", {"name": "mlp", "hidden": 3, "activation": "tanh"}])
def test_a_transformers_loss_is_that_of_the_transformed_data(name, model):
    scaler = {"name": name, "n_quantiles": 10} if name == "quantile" else name
    block = block_of(
        dtype="float64",
        problem=SMALL,
        design="U",
        scale_factor=[1.0, 40.0],
        scaler=scaler,
        target_scaler=["none", "standard"],
        model=model,
    )
    assert block.static.transformed
    parameters = some_parameters(block)
    value, _ = block.at(parameters, block.full_batch)
    expected = (errors_by_hand(block, parameters) ** 2).mean(axis=-1)
    np.testing.assert_allclose(value, expected, rtol=1e-10)


def test_a_quantile_transformer_is_scikit_learns():
    block = block_of(problem=SMALL, dtype="float64", scaler={"name": "quantile", "n_quantiles": 10})
    u, _ = draws.draw(block.static, range(3))
    expected = [QuantileTransformer(n_quantiles=10).fit_transform(x) for x in u]
    e = block.encoding
    gain, shift = (
        np.moveaxis(part[:, 0], 0, -1)[:, None] for part in (e.feature_scale, e.feature_shift)
    )
    found = np.asarray(block.data.inputs[0]) * gain + shift
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("activation", models.ACTIVATIONS)
@pytest.mark.parametrize("hidden", [4, [[3, 2]]], ids=str)
def test_a_networks_gradient_is_its_losss_slope(activation, hidden):
    block = block_of(
        dtype="float64",
        problem=SMALL,
        scaler="standard",
        target_scaler="standard",
        model={"name": "mlp", "hidden": hidden, "activation": activation},
    )
    parameters, step = some_parameters(block, seed=1), 1e-6
    direction = some_parameters(block, seed=2)
    _, gradient = block.at(parameters, block.full_batch)
    along = sum(
        (g * d).reshape(-1, 1, 3).sum(axis=0)
        for g, d in zip(leaves(gradient), leaves(direction), strict=True)
    )
    ahead, behind = (
        block.at(
            jax.tree.map(lambda p, d, e=e: p + e * d, parameters, direction), block.full_batch
        )[0]
        for e in (step, -step)
    )
    np.testing.assert_allclose((ahead - behind) / (2 * step), along, rtol=1e-6, atol=1e-8)


# One against the other ----------------------------------------------------------------------


@few
@given(
    seed=st.integers(0, 2**20),
    scaler=st.sampled_from(sorted(AFFINE)),
    target_scaler=st.sampled_from(sorted(AFFINE)),
    factor=st.floats(-3, 5).map(lambda e: 10.0**e),
    offset=st.sampled_from([0.0, -3.0, 100.0]),
    sampling=st.sampled_from(["reshuffled", "replacement", "full"]),
    design=st.sampled_from("FU"),
    size=st.sampled_from([0.0, 0.1, 10.0]),
    features=st.sampled_from([3, 6]),  # of either form of the moments
)
def test_moments_and_samples_are_the_same_loss_and_gradient(
    seed, scaler, target_scaler, factor, offset, sampling, design, size, features
):
    results = []
    for way in WAYS:
        block = block_of(
            range(seed, seed + 2),
            objective=way,
            dtype="float64",
            problem={**SMALL, "features": features},
            scaler=scaler,
            target_scaler=target_scaler,
            scale_factor=factor,
            offset=offset,
            sampling=sampling,
            design=design,
            batch_size=5,
        )
        batches = [block.full_batch]
        if sampling != "full":
            ends = block.batches
            batches += [jax.tree.map(lambda x, b=b: x[b], ends) for b in (0, 2, 4)]
        parameters = some_parameters(block, seed, size)
        found = [block.at(parameters, batch) for batch in batches]
        excess = block.loss.monitored_loss(parameters, block.data.maps, block.full_batch)
        results.append((found, excess))
    (moments, excess), (samples, expected_excess) = results
    np.testing.assert_allclose(excess, expected_excess, rtol=1e-10)
    for (value, gradient), (expected, expected_gradient) in zip(moments, samples, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        size = max(np.abs(leaf).max() for leaf in leaves(expected_gradient))
        for own, other in zip(leaves(gradient), leaves(expected_gradient), strict=True):
            np.testing.assert_allclose(own / size, other / size, atol=1e-10)


# Properties ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("design", ["F", "U"])
def test_excess_is_the_loss_above_least_squares_and_never_below_zero(way, design):
    block = block_of(
        objective=way, dtype="float64", problem=SMALL, design=design, scaler=list(AFFINE)
    )
    for size in (0.1, 1.0, 100.0):
        parameters = some_parameters(block, size=size)
        value, _ = block.at(parameters, block.full_batch)
        excess = block.loss.monitored_loss(parameters, block.data.maps, block.full_batch)
        assert (excess > 0).all()
        np.testing.assert_allclose(excess + block.encoding.loss_least, value, rtol=1e-10)


def test_what_is_monitored_of_a_network_is_its_loss():
    block = block_of(dtype="float64", problem="sines", design="U", model="mlp", scaler="standard")
    parameters = some_parameters(block)
    value, _ = block.at(parameters, block.full_batch)
    excess = block.loss.monitored_loss(parameters, block.data.maps, block.full_batch)
    np.testing.assert_allclose(excess, value, rtol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_near_the_solution_excess_keeps_its_digits_in_float32(way):
    # 1e-4 off in one weight is some 1e-8 of excess, which loss - loss_ols would round away.
    block = block_of(objective=way, problem=SMALL, scaler="standard", design="U")
    known = jax.tree.map(lambda x: np.asarray(x, np.float64), block.encoding)
    weight = known.ols_coefficient / known.feature_scale
    bias = known.intercept - (weight * known.feature_shift).sum(axis=0)
    weight[0] += 1e-4
    parameters = jax.tree.map(lambda x: x.astype(np.float32), linear_parameters(weight, bias))
    excess = block.loss.monitored_loss(parameters, block.data.maps, block.full_batch)
    assert excess.dtype == np.float32
    np.testing.assert_allclose(excess, 1e-8, rtol=0.02)


@pytest.mark.parametrize("way", WAYS)
def test_an_epochs_batches_weighted_by_their_sizes_are_all_of_the_data(way):
    block = block_of(objective=way, dtype="float64", problem=SMALL, batch_size=4)
    parameters = some_parameters(block)
    losses = [
        block.at(parameters, jax.tree.map(lambda x, b=b: x[b], block.batches))[0] for b in range(4)
    ]
    full, _ = block.at(parameters, block.full_batch)
    np.testing.assert_allclose(np.average(losses, axis=0, weights=[4, 4, 4, 2]), full, rtol=1e-10)


@pytest.mark.parametrize("way", WAYS)
def test_the_order_within_a_batch_is_nothing(way):
    block = block_of(objective=way, dtype="float64", problem=SMALL, batch_size=7)
    swapped = jnp.where(
        block.order % 7 < 2, block.order + jnp.where(block.order % 7 == 0, 1, -1), block.order
    )
    assert (swapped != block.order).any()
    parameters = some_parameters(block)
    for number in range(4):
        losses = [
            block.at(parameters, jax.tree.map(lambda x, n=number: x[n], other.batches))[0]
            for other in (block, block._replace(order=swapped))
        ]
        np.testing.assert_allclose(*losses, rtol=1e-12)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize(
    "axes",
    [
        {"objective": "moments"},
        {"objective": "samples"},
        {"model": "mlp"},
        {"scaler": {"name": "quantile", "n_quantiles": 5}},
    ],
    ids=str,
)
def test_no_run_reads_another(axes, poison):
    axes = {"scaler": "standard", **axes}
    block = block_of(dtype="float64", problem=SMALL, scale_factor=[1.0, 2.0], **axes)
    parameters = some_parameters(block)
    poisoned = jax.tree.map(lambda x: x.at[..., 1, 2].set(poison), parameters)
    clean, dirty = (
        leaves(
            (
                block.at(p, block.full_batch),
                block.loss.monitored_loss(p, block.data.maps, block.full_batch),
            )
        )
        for p in (parameters, poisoned)
    )
    others = np.ones((2, 3), bool)
    others[1, 2] = False
    for one, other in zip(clean, dirty, strict=True):
        np.testing.assert_array_equal(one[..., others], other[..., others])
    assert not np.array_equal(clean[0][1, 2], dirty[0][1, 2])


def test_unstack_and_stack_undo_each_other():
    tree = {"kernel": jnp.arange(48.0).reshape(2, 4, 2, 3), "bias": jnp.ones((4, 2, 3))}
    unstacked = objective.unstack(tree)
    assert all(leaf.shape == (2, 3) for leaf in leaves(unstacked))
    for whole in (objective.stack(unstacked), objective.stack(tree)):
        assert jax.tree.structure(whole) == jax.tree.structure(tree)
        for one, other in zip(leaves(whole), leaves(tree), strict=True):
            np.testing.assert_array_equal(one, other)


# One number, however it is computed -------------------------------------------------------------

BLOCKS = {
    "linear": {"model": "linear"},
    "moments": {"objective": "moments"},
    "network": {"model": {"name": "mlp", "hidden": 6}},
    "deep": {"model": {"name": "mlp", "hidden": [[6, 5]], "activation": "tanh"}},
    "transformed": {"scaler": "power", "model": {"name": "mlp", "hidden": 6}},
    "own": {"model": "test_models:OddOneOut"},
}


def turned(tree):
    return jax.tree.map(lambda x: jnp.swapaxes(x, -1, -2), tree)


def all_numbers(block, data, parameters):
    """Return loss and gradient of every batch, and loss, gradient and excess of all data."""
    batches = [block.loss.full_batch(data.inputs, data.residual)]
    if block.order is not None:
        prepared = block.loss.prepare(data.inputs, data.residual, block.order)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), prepared)
        count = len(jax.tree.leaves(flat)[0])
        batches += [jax.tree.map(lambda x, i=i: x[i], flat) for i in range(count)]
    found = [block.loss.value_and_gradient(parameters, data.maps, batch) for batch in batches]
    return found, block.loss.monitored_loss(parameters, data.maps, batches[0])


def assert_same_numbers(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * np.abs(b).max())


AXES = {
    "problem": {"name": "gaussian", "samples": 9, "features": 3},
    "scale_factor": [1.0, 3.0],
    "batch_size": 4,
    "dtype": "float64",
    "epochs": 1,
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("sampling", ["reshuffled", "replacement", "full"])
@pytest.mark.parametrize("kind", ["linear", "network", "deep", "transformed"])
def test_row_by_row_is_all_rows_at_once(kind, sampling):
    axes = {**AXES, **BLOCKS[kind], "sampling": sampling}
    with jax.enable_x64(True):
        found = [
            all_numbers(block, block.data, block.parameters)
            for block in (block_of(by_row=by_row, **axes) for by_row in (False, True))
        ]
        assert_same_numbers(*found)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("kind", BLOCKS)
def test_conditions_last_is_seeds_last_turned_round(kind):
    axes = {**AXES, **BLOCKS[kind]}
    with jax.enable_x64(True):
        block, other = (block_of(seeds_last=last, **axes) for last in (True, False))
        straight = all_numbers(block, block.data, block.parameters)
        fixed = {"inputs": None, "residual": None}
        data = turned(other.data._replace(**fixed))._replace(
            inputs=other.data.inputs, residual=other.data.residual
        )
        assert_same_numbers(turned(all_numbers(other, data, turned(other.parameters))), straight)
