"""What a chunk is trained on: shared data encoded once, later orders drawn ahead."""

import importlib
import sys
import threading

import numpy as np
import pytest
from tiny_block import groups_of

from scaling_study.engine import inputs, program
from scaling_study.engine.inputs import ahead
from scaling_study.study import conditions, draws, encoding


def test_segments_drawn_ahead_are_those_drawn_in_turn():
    assert list(ahead(iter(range(1, 9)))) == list(range(1, 9))
    assert list(ahead(iter([]))) == []


def test_the_next_segment_is_drawn_while_the_last_is_used():
    drawn = [threading.Event() for _ in range(3)]

    def draw():
        for event in drawn:
            event.set()
            yield event

    later = ahead(draw())
    assert drawn[0].wait(10)
    next(later)
    assert drawn[1].wait(10)
    assert not drawn[2].is_set()


def test_segments_are_drawn_in_turn_where_no_thread_can_start(monkeypatch):
    def submit(*_):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(inputs.ThreadPoolExecutor, "submit", submit)
    assert list(ahead(iter(range(1, 4)))) == [1, 2, 3]


def test_a_segment_that_cannot_be_drawn_raises_where_it_is_asked_for():
    def draw():
        yield 1
        raise ValueError("no more")

    later = ahead(draw())
    assert next(later) == 1
    with pytest.raises(ValueError, match="no more"):
        next(later)


def test_data_that_all_seeds_share_are_encoded_once_and_are_those_of_each_seed(monkeypatch):
    axes = {"problem": {"name": "gaussian", "samples": 12}, "scaler": ["none", "standard"]}
    (group,) = groups_of(**axes, data_seed=3, epochs=1)
    drawn = []
    original = draws.draw
    monkeypatch.setattr(draws, "draw", lambda *a: drawn.append(a) or original(*a))
    inputs._encoded_once.cache_clear()
    count = group.shape.seeds
    parts = range(count), range(count, 2 * count)
    found = [inputs.inputs_of(group, 0, seeds).unique_data for seeds in parts]
    assert len(drawn) == 1
    arrays = inputs.arrays_of(group, 0)
    problem = conditions.problem_of(group.static.problem)
    plain = original(group.static, parts[1])
    expected = encoding.encode_unique(problem, plain, arrays.datasets, False)
    for name in expected._fields:
        for one in found:
            np.testing.assert_array_equal(getattr(one, name), getattr(expected, name), name)


def test_a_users_problem_is_drawn_again_whatever_its_seed(tmp_path, monkeypatch):
    module = tmp_path / "own_problem.py"
    text = (
        "from scaling_study.study.problems import Problem\n"
        "def make(noise={noise}):\n"
        "    import numpy as np\n"
        "    x = np.random.default_rng(0).normal(size=(12, 2))\n"
        "    return Problem.from_arrays(x, x[:, 0] + {noise} * x[:, 1] ** 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module.write_text(text.format(noise=0))
    axes = {"problem": "own_problem:make", "design": "U", "data_seed": 3, "epochs": 1}
    (group,) = groups_of(**axes)
    found = []
    for noise in (0, 5.25):  # of another length, so that Python compiles the module again
        module.write_text(text.format(noise=noise))
        sys.modules.pop("own_problem", None)
        importlib.invalidate_caches()
        seeds = range(group.shape.seeds)
        found.append(inputs.inputs_of(group, 0, seeds).unique_data.loss_null[0, 0])
    assert found[0] != found[1]


# Rows and targets -----------------------------------------------------------------------------

PRODUCTS = {"model": {"name": "mlp", "hidden": [[16, 24]]}, "design": "U", "epochs": 1}
PROBLEM = {"name": "sines", "samples": 12}


def rows_and_targets(**axes):
    """Return a group, the encoding of its conditions, and its inputs and targets in tiles."""
    (group,) = groups_of(**{"problem": PROBLEM, **PRODUCTS, **axes})
    assert program.maps_single_runs(group)
    found = inputs.inputs_of(group, 0, range(group.shape.seeds))
    unique = found.unique_data.take(inputs.arrays_of(group, 0).datasets.inverse)
    return group, unique, found.data.inputs, found.data.residual


@pytest.mark.parametrize("scaler", ["standard", "power"])
def test_a_single_run_has_its_target_less_the_intercept(scaler):
    axes = {"scaler": scaler, "target_scaler": ["none", "standard"], "scale_factor": [1.0, 8.0]}
    group, unique, _, targets = rows_and_targets(**axes)
    tiles = program.tiles_of(group)
    for c, s in np.ndindex(unique.intercept.shape):
        u, residual = (
            x[s] if scaler == "standard" else x[c, s] for x in (unique.u, unique.residual)
        )
        expected = u @ unique.ols_coefficient[:, c, s] + unique.residual_scale[c, s] * residual
        tile = targets[s // tiles.seeds, c // tiles.conditions]
        found = tile[c % tiles.conditions, s % tiles.seeds]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_inputs_that_all_runs_share_are_passed_once():
    *_, shared, _ = rows_and_targets(data_seed=3)
    *_, own, _ = rows_and_targets(data_seed="vary")
    assert (shared.shape[1], own.shape[1]) == (1, program.tiles_of(rows_and_targets()[0]).seeds)


def test_what_is_repeated_along_an_axis_is_converted_once():
    repeated = np.broadcast_to(np.arange(3.0)[:, None], (3, 1000))
    found = inputs._cast(repeated, "float32")
    assert (found.dtype, found.strides) == (np.float32, (4, 0))
    np.testing.assert_array_equal(found, repeated)
    assert inputs._cast(np.zeros((2, 0, 3)), "float32").shape == (2, 0, 3)
    assert inputs._cast(1.5, "float64") == 1.5


def test_the_number_of_segments_does_not_grow_with_the_table():
    problem = {"name": "correlated", "samples": 512}
    cuts = [
        len(list(conditions.segment_epochs(own)))
        for features in (13, 400)
        for own in groups_of(
            problem={**problem, "features": features}, **{**PRODUCTS, "epochs": 99}
        )
    ]
    assert cuts[0] == cuts[1]


def test_rows_that_are_copied_are_counted_with_all_of_their_columns():
    problem = {"name": "correlated", "samples": 512, "features": 100}
    rule = "scaling_study.engine.optimizers:newton"
    axes = {"problem": problem, "design": "U", "objective": "samples", "epochs": 99}
    (own,) = groups_of(**axes, optimizer=rule)
    assert conditions.columns_copied(own.static) == 100
    held = next(conditions.segment_epochs(own)) * own.shape.seeds * 512 * 101
    assert held <= conditions.PREPARED_NUMBERS


def test_a_target_has_the_same_bits_beside_any_other_data_sets():
    axes = {"dtype": "float64", "problem": {"name": "correlated", "samples": 64, "features": 30}}
    factors = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]
    alone = rows_and_targets(**axes)[3]
    beside = rows_and_targets(**axes, scale_factor=factors)[3]
    np.testing.assert_array_equal(beside[0, 0, 0, 0], alone[0, 0, 0, 0])
