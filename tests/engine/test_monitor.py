"""What is watched: the summaries are those of the whole history, which is not kept."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_block import block_of, leaves, linear_parameters

from scaling_study.engine import monitor
from scaling_study.engine.monitor import Criterion, Info, Target, Trace
from scaling_study.engine.objective import unstack
from scaling_study.study.conditions import TRACED_SEEDS

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
losses = st.lists(
    st.sampled_from([0.0, 0.5, 1.0, 2.0, float("inf"), float("nan")]), min_size=1, max_size=8
)


def one(value: float):
    return jnp.full((1, 1), value)


def begin(loss: float, target: float = np.nan, distance: tuple[float, ...] = (1.0,), null=0.5):
    now = Criterion(one(loss), [one(1.0) for _ in distance])
    full = Info(one(2.0), [one(3.0)])
    away = jnp.array(distance).reshape(-1, 1, 1)
    return monitor.start(now, full, Target(one(target), away, away, one(null)))


@few
@given(history=losses)
def test_the_last_update_above_the_target_is_kept(history):
    above, target = Criterion(one(-1), []), Criterion(one(1.0), [])
    for number, value in enumerate(history):
        above = monitor.update(above, target, Criterion(one(value), []), jnp.int32(number))
    late = [number for number, value in enumerate(history) if not value <= 1.0]
    assert int(above.loss[0, 0]) == max(late, default=-1)


def test_a_run_that_is_not_alive_is_not_observed():
    above, target = Criterion(one(-1), [one(-1)]), Criterion(one(1.0), [one(1.0)])
    now = Criterion(one(5.0), [one(5.0)])
    seen = monitor.update(above, target, now, jnp.int32(4), jnp.array([[False]]))
    assert leaves(seen) == leaves(above)


def test_each_feature_is_observed_by_itself():
    above, target = Criterion(one(-1), [one(-1)] * 2), Criterion(one(1.0), [one(1.0), one(3.0)])
    seen = monitor.update(above, target, Criterion(one(0.0), [one(2.0)] * 2), jnp.int32(4))
    assert [int(x[0, 0]) for x in (seen.loss, *seen.distance)] == [-1, 4, -1]


def test_the_targets_are_those_that_were_given():
    seen = begin(8.0, target=2.0, distance=(0.25, 0.5))
    assert float(seen.convergence_target.loss[0, 0]) == 2.0
    assert [float(x[0, 0]) for x in seen.convergence_target.distance] == [0.25, 0.5]
    assert begin(8.0, distance=()).convergence_target.distance == []


@pytest.mark.parametrize("null", [0.5, 7.0])
def test_the_beginning_is_what_the_full_data_say(null):
    seen = begin(8.0, null=null)
    assert float(seen.divergence_threshold[0, 0]) == monitor.DIVERGED_ABOVE * max(2.0, null)
    assert float(seen.initial_loss[0, 0]) == float(seen.loss[0, 0]) == 8.0
    assert float(seen.norm_init[0][0, 0]) == 3.0
    assert float(seen.norm_sum[0][0, 0]) == float(seen.norm_first_epoch[0][0, 0]) == 0.0
    assert int(seen.last_above.loss[0, 0]) == int(seen.last_above.distance[0][0, 0]) == -1


@pytest.mark.parametrize("unstacked", [False, True])
@pytest.mark.parametrize("width", [1, 4])
def test_a_features_norm_is_that_of_its_row_of_the_first_kernel(width, unstacked):
    features, runs = 3, (2, 5)
    kernel = np.random.default_rng(0).normal(size=(features, width, *runs)).astype(np.float32)
    layers = {"Dense_0": {"kernel": jnp.asarray(kernel), "bias": jnp.ones((width, *runs))}}
    if width > 1:
        layers["Dense_1"] = {"kernel": jnp.ones((width, 1, *runs)), "bias": jnp.ones((1, *runs))}
    gradient = {"params": layers}
    if unstacked and width == 1:
        gradient = unstack(gradient)
    norms = monitor.to_array(monitor.feature_norms(gradient, features))
    np.testing.assert_allclose(norms, np.linalg.norm(kernel, axis=1), rtol=1e-6)


@pytest.mark.parametrize("scaler", ["none", "standard", "minmax"])
def test_at_the_least_squares_solution_nothing_is_left(scaler):
    block = block_of(scaler=scaler, problem="gaussian", design="U", scale_factor=10.0)
    maps = block.data.maps
    weight = np.asarray(maps.ols_coefficient / maps.feature_scale)
    bias = np.asarray(maps.intercept) - (weight * np.asarray(maps.feature_shift)).sum(axis=0)
    parameters = linear_parameters(weight, bias)
    loss = block.loss.monitored_loss(parameters, maps, block.full_batch)
    now = monitor.criterion(parameters, block.data.convergence_target, loss, single_unit=True)
    np.testing.assert_allclose(now.loss, 0, atol=1e-10)
    np.testing.assert_allclose(now.distance, 0, atol=1e-5)


def test_distances_are_those_of_the_weights():
    block = block_of(scaler="standard", problem="gaussian", design="U")
    maps = block.data.maps
    off = np.array([0.5, -0.25])[:, None, None]
    weight = np.asarray(maps.ols_coefficient / maps.feature_scale) + off
    parameters = linear_parameters(weight, np.zeros(weight.shape[1:]))
    target = block.data.convergence_target
    now = monitor.criterion(parameters, target, jnp.zeros(weight.shape[1:]), single_unit=True)
    np.testing.assert_allclose(now.distance, np.broadcast_to(abs(off), weight.shape), rtol=1e-5)
    assert monitor.criterion(parameters, target, now.loss, single_unit=False).distance == []


@pytest.mark.parametrize("curves", [False, True])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("seeds", [3, 11])
def test_a_trace_keeps_what_was_last_written_in_each_slot(seeds, linear, curves):
    slots, conditions, features = 4, 2, 3
    kept = seeds if curves else min(seeds, TRACED_SEEDS)
    trace = monitor.empty_trace(
        (slots,), (conditions, kept), features, np.float32, linear=linear, curves=curves
    )
    assert all(not leaf.any() for leaf in leaves(trace))

    def now(value: float) -> Trace:
        run = jnp.full((conditions, seeds), value)
        each = [run] * features
        if curves:
            return Trace(Info(run, each), None, [])
        return Trace(Info(run, each), run, [run] * features if linear else [])

    for slot, value in [(0, 1.0), (1, 2.0), (1, 3.0), (3, 4.0)]:
        trace = monitor.write(trace, now(value), jnp.int32(slot))
    for leaf in leaves(trace):
        assert leaf.shape[0] == slots
        assert leaf.shape[-2:] == (conditions, kept)
        assert [np.unique(part).tolist() for part in leaf] == [[1.0], [3.0], [0.0], [4.0]]
