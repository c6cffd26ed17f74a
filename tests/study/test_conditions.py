"""Conditions, groups and chunks: nothing repeated, nothing lost, everything named by what it is."""

import math
import os
import subprocess
import sys
import tomllib
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import FunctionTransformer

from scaling_study.errors import StudyError
from scaling_study.study.axes import LATER_AXES
from scaling_study.study.chunk_shapes import CONDITIONS_LAST, chunk_shape
from scaling_study.study.component import EVERYTHING, Component
from scaling_study.study.conditions import (
    batches_per_epoch,
    expand,
    group,
    problem_of,
    shape_of,
    split,
)
from scaling_study.study.datasets import EVERY_PROBLEM
from scaling_study.study.problems import PROBLEMS, Problem
from scaling_study.study.scalers import AFFINE, TRANSFORMERS
from scaling_study.study.study import AXES, parse, read_study

# Two values for every axis, so that any subset of the axes can be made a grid of.
PAIRS = {
    "problem": ["article", {"name": "uniform", "samples": 40}],
    "design": ["F", "U"],
    "scale_factor": [1.0, 1000.0],
    "offset": [0.0, 1e8],
    "scaler": ["none", "quantile"],
    "target_scaler": ["none", "standard"],
    "model": ["linear", {"name": "mlp", "hidden": 8}],
    "framework": ["keras", "torch"],
    "optimizer": ["adam", {"name": "adam", "eps": 1e-3}],
    "learning_rate": [1e-3, 1e-2],
    "l1_penalty": [0.0, 0.1],
    "l2_penalty": [0.0, 0.1],
    "batch_size": [32, 20],
    "sampling": ["reshuffled", "full"],
    "epochs": [200, 100],
    "updates": [1600, 400],
    "dtype": ["float32", "float64"],
    "objective": ["auto", "samples"],
    "data_seed": ["vary", 42],
    "init_seed": ["vary", 42],
    "order_seed": ["vary", 42],
    "tolerance": [1e-3, 1e-2],
    "target_loss": ["none", 100.0],
    "start": ["parameters", "function"],
}
FREE = sorted(PAIRS.keys() - {"epochs", "updates", "start"})  # start depends on the scaler


def conditions_of(**axes):
    return expand(parse(axes))


@lru_cache
def some_groups(count: int, objective: str, chunk_runs: int | None = None):
    """Groups of `count` and of half as many conditions."""
    raw = {
        "objective": objective,
        "epochs": 2,
        "blocks": {
            "first": {"learning_rate": [2.0**-k for k in range(count)]},
            "second": {
                "optimizer": "sgd",
                "learning_rate": [2.0**-k for k in range(-(-count // 2))],
            },
        },
    }
    return group(expand(parse(raw)), chunk_runs)


# Conditions ---------------------------------------------------------------------------------


def test_every_axis_has_a_pair():
    assert PAIRS.keys() == AXES.keys()


@given(st.sets(st.sampled_from(FREE), max_size=6), st.integers(1, 2))
def test_a_study_has_the_product_of_its_axes(axes, blocks):
    grid = {key: PAIRS[key] for key in axes}
    raw = {"blocks": {f"block{k}": grid for k in range(blocks)}}
    study = parse(raw)
    conditions = expand(study)
    assert len(conditions) == blocks * 2 ** len(axes)
    assert len({condition.id for condition in conditions}) == len(conditions)
    for condition in conditions:
        for key in axes:
            assert getattr(condition, key) in study.blocks[condition.block][key]


def test_a_later_axis_at_its_default_changes_no_identity_and_no_text():
    study = parse({})
    (condition,) = expand(study)
    assert set(LATER_AXES) == {"start"}
    assert condition.id == "4171c1780007"  # as of 0.2.0, which had no such axis
    assert "start" not in study.to_toml()
    other = parse({"start": "function"})
    assert expand(other)[0].id != condition.id
    assert parse(tomllib.loads(other.to_toml())) == other


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({"model": "scaling_study.engine.models:normalized_mlp"}, "for linear and mlp"),
        ({"scaler": ["standard", "quantile"]}, "for an affine scaler, not 'quantile'"),
    ],
)
def test_a_start_from_a_function_needs_a_first_layer_and_an_affine_scaler(axes, reason):
    with pytest.raises(StudyError, match=reason):
        conditions_of(start="function", **axes)
    assert conditions_of(start="parameters", **axes)


def test_the_last_axis_varies_fastest():
    first, second = "scaler", "learning_rate"
    cells = [
        (str(c.scaler), c.learning_rate)
        for c in conditions_of(**{second: [0.1, 0.2], first: ["none", "standard"]})
    ]
    assert cells == [("none", 0.1), ("none", 0.2), ("standard", 0.1), ("standard", 0.2)]


@pytest.mark.parametrize("key", PAIRS)
def test_an_id_differs_when_any_axis_does(key):
    one, other = (conditions_of(**{key: value})[0] for value in PAIRS[key])
    assert one != other
    assert one.id != other.id


def test_an_id_differs_between_blocks():
    one, other = expand(parse({"blocks": {"a": {}, "b": {}}}))
    assert one.id != other.id


@given(st.sets(st.sampled_from(FREE), max_size=4))
def test_an_id_does_not_depend_on_the_rest_of_the_study(axes):
    alone = conditions_of()[0].id
    assert conditions_of(**{key: PAIRS[key] for key in axes})[0].id == alone


def test_an_id_is_not_of_what_may_be_imported_here():
    raw = {"optimizer": "mine:factory", "blocks": {"a": {}}}
    ids = [expand(parse(raw, allowed=allowed))[0].id for allowed in (EVERYTHING, ())]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"draw": lambda seed: (np.ones(5), np.ones(5))}, ["u has shape (5,)"]),
        ({"draw": lambda seed: (np.ones((5, 2)), np.ones((5, 1)))}, ["noise", "(5, 1)", "(5,)"]),
        ({"coefficients": np.ones(3)}, ["coefficients", "(3,)", "(2,)"]),
        ({"reference_scale": np.ones((2, 1))}, ["reference_scale"]),
        ({"scaled_feature": 2}, ["scaled_feature is 2"]),
        ({"signal": lambda u: u[:, 0]}, ["signal", "(2, 2)", "not (2, 5)"]),
    ],
    ids=["u", "noise", "coefficients", "scale", "place", "signal"],
)
def test_a_problem_whose_shapes_do_not_agree_is_told_which(change, words, monkeypatch):
    def draw(seed):
        return np.ones((5, 2)), np.ones(5)

    good = Problem(draw, np.ones(2), np.ones(2), scaled_feature=1)
    monkeypatch.setitem(EVERY_PROBLEM, "made", lambda **_: good._replace(**change))
    with pytest.raises(StudyError) as error:
        shape_of(Component("made", (("id", str(words)),)))
    assert [word for word in words if word not in str(error.value)] == []


def only_small(**_):
    """A user's own scaler that takes no large numbers."""

    def scaled(x):
        if np.abs(x).max() > 100:
            raise ValueError("too large")
        return x

    return FunctionTransformer(scaled)


def test_a_scaler_is_refused_where_it_fails_on_every_condition_that_names_it():
    own = {"scaler": f"{__name__}:only_small", "problem": "uniform", "design": "U"}
    assert len(conditions_of(**own, scale_factor=[1e6, 1.0])) == 2
    with pytest.raises(StudyError, match=r"blocks.main: scaler .*only_small': too large"):
        conditions_of(**own, scale_factor=[1e6, 1e7])


def test_an_id_is_of_the_budget_not_of_how_it_was_said():
    (epochs,) = conditions_of(epochs=3)
    (updates,) = conditions_of(updates=12)
    assert epochs == updates
    assert epochs.id == updates.id


def test_an_id_does_not_depend_on_the_order_of_hyperparameters():
    one = conditions_of(optimizer={"name": "adam", "b1": 0.8, "eps": 1e-7})[0]
    other = conditions_of(optimizer={"eps": 1e-7, "b1": 0.8, "name": "adam"})[0]
    assert one.id == other.id


def test_an_id_survives_the_studys_text():
    study = read_study("smoke")
    assert [c.id for c in expand(read_study(study))] == [c.id for c in expand(study)]


PRINT_IDS = """
import sys
from scaling_study.study.conditions import expand, group
from scaling_study.study.study import read_study
conditions = expand(read_study("article"))
print(*(condition.id for condition in conditions))
print(*(len(own.conditions) for own in group(conditions)))
assert not {"jax", "flax", "optax"} & set(sys.modules)
"""


def test_ids_and_groups_are_the_same_in_every_process():
    conditions = expand(read_study("article"))
    here = [
        " ".join(condition.id for condition in conditions),
        " ".join(str(len(own.conditions)) for own in group(conditions)),
    ]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        there = subprocess.run(
            [sys.executable, "-c", PRINT_IDS],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert there.stdout.splitlines() == here


def test_a_row_has_every_axis_and_every_hyperparameter():
    (condition,) = conditions_of(optimizer={"name": "adam", "eps": 1e-3}, model="linear")
    row = condition.row()
    assert row.keys() >= (AXES.keys() - {"epochs"}) | {"condition", "block"}
    assert row["condition"] == condition.id
    assert row["optimizer"] == "adam(eps=0.001)"
    assert row["optimizer.eps"] == 1e-3
    assert row["scaler"] == row["target_loss"] == "none"


# Budgets ------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 130))
def test_epochs_become_whole_batches(epochs, batch_size):
    (condition,) = conditions_of(epochs=epochs, batch_size=batch_size)
    assert condition.updates == epochs * math.ceil(100 / batch_size)
    assert condition.updates == epochs * batches_per_epoch(condition)


@given(updates=st.integers(1, 2000), batch_size=st.integers(1, 130))
def test_updates_must_be_whole_epochs(updates, batch_size, refused):
    per_epoch = math.ceil(100 / batch_size)
    raw = {"blocks": {"first": {"updates": updates, "batch_size": batch_size}}}
    if updates % per_epoch == 0:
        assert expand(parse(raw))[0].updates == updates
        return
    message = refused(lambda: expand(parse(raw)), "blocks.first", f"updates = {updates}")
    below = updates // per_epoch * per_epoch
    assert message.endswith(f" {below + per_epoch}")
    assert below == 0 or f"{below} or" in message


@given(st.integers(1, 1000))
def test_an_epoch_of_all_rows_at_once_is_one_update(epochs):
    (condition,) = conditions_of(epochs=epochs, sampling="full")
    assert condition.updates == epochs


def test_one_budget_given_twice_is_refused(refused):
    raw = {"blocks": {"first": {"epochs": [2, 3], "updates": 8}}}
    refused(lambda: expand(parse(raw)), "blocks.first", "epochs", "updates")


def test_a_budget_that_cannot_be_counted_is_refused(refused):
    refused(lambda: conditions_of(epochs=10**9), "blocks.main", "updates")


# What makes no sense ------------------------------------------------------------------------


@pytest.mark.parametrize("scaler", TRANSFORMERS)
def test_moments_are_refused_for_what_is_not_affine(scaler, refused):
    raw = {"blocks": {"first": {"objective": "moments", "scaler": scaler}}}
    refused(lambda: group(expand(parse(raw))), "blocks.first", "moments", scaler)


def test_moments_are_refused_for_a_network(refused):
    raw = {"blocks": {"first": {"objective": "moments", "model": "mlp"}}}
    refused(lambda: group(expand(parse(raw))), "blocks.first", "moments", "mlp")


@pytest.mark.parametrize("scaler", AFFINE)
def test_moments_are_for_linear_models_of_affine_inputs(scaler):
    static = split(conditions_of(objective="moments", scaler=scaler)[0])
    assert static.objective == "moments"
    assert not static.transformed


@pytest.mark.parametrize("scaler", TRANSFORMERS)
def test_a_transformer_makes_data_of_its_own(scaler):
    static = split(conditions_of(scaler=scaler)[0])
    assert static.objective == "samples"
    assert static.transformed


@pytest.mark.parametrize("name", PROBLEMS)
def test_only_a_linear_law_has_a_coefficient_to_fix(name, refused):
    raw = {"blocks": {"first": {"problem": name, "design": "F"}}}
    if PROBLEMS[name]().signal is None:
        assert expand(parse(raw))
    else:
        refused(lambda: expand(parse(raw)), "blocks.first", repr(name), "design U")
    assert conditions_of(problem=name, design="U")


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(
    ("parameter", "value"),
    [("samples", value) for value in ("many", 0, -1, 2.5, True)]
    + [("noise", value) for value in ("loud", -1.0, float("nan"))],
)
def test_a_problems_bad_parameter_is_refused(name, parameter, value, refused):
    raw = {"design": "U", "problem": {"name": name, parameter: value}}
    refused(lambda: conditions_of(**raw), "blocks.main", name, parameter)


def test_a_refused_problem_does_not_spoil_the_right_one(refused):
    refused(lambda: conditions_of(problem={"name": "article", "samples": 40.0}))
    assert conditions_of(problem={"name": "article", "samples": 40})


@pytest.mark.parametrize("name", ["uniform", "gaussian"])
@pytest.mark.parametrize("features", [0, -1, 1.5, "two"])
def test_a_problem_needs_features(name, features, refused):
    raw = {"problem": {"name": name, "features": features}}
    refused(lambda: conditions_of(**raw), "blocks.main", name, "features")


@pytest.mark.parametrize("correlation", [1.5, -1.5, "high"])
def test_an_impossible_correlation_is_refused(correlation, refused):
    raw = {"problem": {"name": "gaussian", "correlation": correlation}}
    refused(lambda: conditions_of(**raw), "blocks.main", "gaussian")


@pytest.mark.parametrize(
    ("key", "right"),
    [("problem", name) for name in PROBLEMS]
    + [("scaler", name) for name in [*AFFINE, *TRANSFORMERS]]
    + [("target_scaler", name) for name in AFFINE],
)
def test_a_misspelt_component_suggests_the_nearest(key, right, refused):
    raw = {"design": "U", "blocks": {"first": {key: right + "s"}}}
    refused(lambda: expand(parse(raw)), "blocks.first", repr(right))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_target_scaler_must_be_affine(name, refused):
    refused(lambda: conditions_of(target_scaler=name), "blocks.main", "target_scaler", name)


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("key", ["scaler", "target_scaler"])
def test_an_affine_scaler_takes_no_parameters(key, name, refused):
    refused(lambda: conditions_of(**{key: {"name": name, "a": 1}}), "blocks.main", repr(name))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_scalers_wrong_parameter_is_not_blamed_on_the_problem(name, refused):
    message = refused(
        lambda: conditions_of(scaler={"name": name, "no_such_parameter": 1}), "blocks.main", name
    )
    assert "article" not in message


# Groups -------------------------------------------------------------------------------------


@given(st.sets(st.sampled_from(FREE), max_size=6))
def test_groups_partition_the_conditions(axes):
    conditions = conditions_of(**{key: PAIRS[key] for key in axes})
    groups = group(conditions)
    assert [own.index for own in groups] == list(range(len(groups)))
    assert len({own.static for own in groups}) == len(groups)
    members = [condition for own in groups for condition in own.conditions]
    assert Counter(members) == Counter(conditions)
    for own in groups:
        assert {split(condition) for condition in own.conditions} == {own.static}
        assert list(own.conditions) == [c for c in conditions if split(c) == own.static]


@pytest.mark.parametrize(
    "key", ["scale_factor", "offset", "target_scaler", "learning_rate", "tolerance", "target_loss"]
)
def test_numbers_never_recompile(key):
    assert len(group(conditions_of(**{key: PAIRS[key]}))) == 1


@pytest.mark.parametrize("key", ["l1_penalty", "l2_penalty"])
def test_penalties_of_any_strength_share_a_program(key):
    assert len(group(conditions_of(**{key: [0.1, 0.2, 0.3]}))) == 1


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_affine_scalers_never_recompile(model):
    assert len(group(conditions_of(scaler=[*AFFINE], model=model))) == 1


@pytest.mark.parametrize(
    "key",
    ["problem", "model", "framework", "optimizer", "batch_size", "dtype", "sampling", "l2_penalty"],
)
def test_what_is_compiled_in_parts_groups(key):
    assert len(group(conditions_of(**{key: PAIRS[key]}))) == 2


# Chunks -------------------------------------------------------------------------------------


@given(
    count=st.integers(1, 80),
    objective=st.sampled_from(["moments", "samples"]),
    chunk_runs=st.sampled_from([None, 64, 1000]),
    first=st.integers(0, 1000),
    width=st.integers(1, 300),
)
def test_chunks_partition_conditions_and_seeds(count, objective, chunk_runs, first, width):
    seeds = range(first, first + width)
    for own in some_groups(count, objective, chunk_runs):
        place = {id(condition): i for i, condition in enumerate(own.conditions)}
        runs = Counter(
            (place[id(condition)], seed)
            for chunk in own.chunks((seeds.start, seeds.stop))
            for condition in own.members(chunk)
            for seed in own.seeds(chunk)
            if seed in seeds
        )
        assert set(runs.values()) == {1}
        assert len(runs) == len(own.conditions) * len(seeds)


@given(
    count=st.integers(1, 80),
    objective=st.sampled_from(["moments", "samples"]),
    cuts=st.lists(st.integers(0, 3000), min_size=4, max_size=4, unique=True).map(sorted),
)
def test_a_part_of_the_seeds_has_the_same_chunks(count, objective, cuts):
    for own in some_groups(count, objective):
        whole = list(own.chunks((cuts[0], cuts[3])))
        part = list(own.chunks((cuts[1], cuts[2])))
        assert part == [
            chunk
            for chunk in whole
            if own.seeds(chunk).start < cuts[2] and own.seeds(chunk).stop > cuts[1]
        ]
        assert len({str(chunk) for chunk in whole}) == len(whole)


@given(count=st.integers(1, 80), first=st.integers(0, 2**31 - 1000))
def test_a_chunks_seeds_are_aligned_and_whole(count, first):
    for own in some_groups(count, "auto"):
        for chunk in own.chunks((first, first + 1)):
            seeds = own.seeds(chunk)
            assert first in seeds
            assert len(seeds) == own.shape.seeds
            assert seeds.start % own.shape.seeds == 0
            assert 1 <= len(own.members(chunk)) <= own.shape.conditions


@pytest.mark.parametrize("seeds", ["0:1", "0:1000", "12345:99999"])
def test_a_chunks_shape_does_not_depend_on_the_seeds(seeds):
    study = read_study("smoke")
    ours, theirs = (group(expand(s)) for s in (study, study.with_seeds(seeds)))
    assert [vars(own) for own in ours] == [vars(own) for own in theirs]


@given(
    count=st.integers(1, 300),
    objective=st.sampled_from(["moments", "samples"]),
    chunk_runs=st.none() | st.integers(1, 20_000),
)
def test_a_chunk_is_whole_tiles_within_the_bound(count, objective, chunk_runs):
    static = split(conditions_of(objective=objective)[0])
    shape = chunk_shape(static, count, chunk_runs)
    assert shape.conditions % shape.tile_conditions == 0
    assert 1 <= shape.tile_conditions <= count
    assert 1 <= shape.tile_seeds <= shape.seeds
    assert shape.conditions - count < shape.tile_conditions
    if chunk_runs is not None:
        assert shape.conditions * shape.seeds <= chunk_runs


@pytest.mark.parametrize(
    ("hidden", "features", "seeds"),
    [(16, 2, 32), ([16], 30, 8), ([64, 64], 30, 8), ([256, 256], 30, 4), ([512], 784, 2)],
)
def test_a_chunk_of_a_larger_network_has_fewer_seeds(hidden, features, seeds):
    model = {"name": "mlp", "hidden": [hidden] if isinstance(hidden, list) else hidden}
    problem = {"name": "gaussian", "features": features, "samples": 64}
    (condition,) = expand(parse({"problem": problem, "model": model}))
    assert chunk_shape(split(condition), 1).seeds == seeds


@pytest.mark.parametrize(
    ("count", "shape"),
    [(24, (32, 2, 32)), (CONDITIONS_LAST, (16, 40, 1)), (63, (16, 63, 1)), (64, (4, 64, 1))],
)
def test_the_longer_axis_of_a_networks_tile_is_that_of_many_conditions(count, shape):
    model = {"name": "mlp", "hidden": 16}
    (condition,) = expand(parse({"problem": "uniform", "model": model}))
    assert chunk_shape(split(condition), count)[1:] == shape


@pytest.mark.parametrize("chunk_runs", [0, -1, 1.5, "many", True])
def test_a_bad_chunk_size_is_refused(chunk_runs, refused):
    refused(lambda: group(conditions_of(), chunk_runs), "chunk size", repr(chunk_runs))


# Problems -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problems_shape_is_that_of_its_data(name):
    (condition,) = conditions_of(problem={"name": name, "samples": 33}, design="U")
    features = len(PROBLEMS[name]().reference_scale)
    assert shape_of(condition.problem) == (33, features)


def test_a_users_own_problem_is_taken():
    own = "scaling_study.study.problems:article"
    (condition,) = conditions_of(problem=own)
    u, noise = problem_of(condition.problem).draw(3)
    their_u, their_noise = PROBLEMS["article"]().draw(3)
    assert (u == their_u).all()
    assert (noise == their_noise).all()


def test_what_makes_no_problem_is_refused(refused):
    refused(lambda: conditions_of(problem="os:getcwd"), "blocks.main", "os:getcwd")
