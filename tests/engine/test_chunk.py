"""A chunk: its rows are those of plain runs, whoever else is in it and however it is cut."""

import importlib
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from plain_run import plain_run
from sklearn.linear_model import LinearRegression
from tiny_block import bytes_of, column, groups_of, rows_of

from scaling_study.engine import chunk, compiling, initial, program
from scaling_study.study import conditions, draws
from scaling_study.study.conditions import Chunk, expand, problem_of
from scaling_study.study.encoding import observed
from scaling_study.study.problems import PROBLEMS
from scaling_study.study.scalers import AFFINE, TRANSFORMERS
from scaling_study.study.study import parse

SMALL = {"name": "gaussian", "samples": 14, "features": 3, "noise": 0.5}
FIVE = ["none", "minmax", "standard", "robust", "maxabs"]
BASE = {"problem": SMALL, "design": "U", "batch_size": 5, "epochs": 4, "learning_rate": 0.05}
TANH = {"name": "mlp", "hidden": [[4, 3]], "activation": "tanh"}
RELU = {"name": "mlp", "hidden": 4}
ON_CPU = jax.default_backend() == "cpu"


def lists_of(frame: pd.DataFrame) -> list[str]:
    return [n for n in frame if isinstance(frame[n].dropna().iloc[:1].squeeze(), np.ndarray)]


def assert_close(one: pd.DataFrame, other: pd.DataFrame, rtol: float, skip: tuple[str, ...] = ()):
    """Hold the runs of both frames to each other, numbers to a tolerance and words as they are."""
    assert one.index.equals(other.index)
    lists = lists_of(one)
    for name in one.columns.drop(["condition", *skip]):
        if name in lists:
            own, theirs = (frame[name].dropna() for frame in (one, other))
            assert own.index.equals(theirs.index), name
            scale = np.abs(np.stack(theirs.to_list())).max(axis=1, keepdims=True)
            own, theirs = (np.stack(v.to_list()) / scale for v in (own, theirs))
            np.testing.assert_allclose(own, theirs, atol=rtol, rtol=rtol, err_msg=name)
        elif pd.api.types.is_float_dtype(one[name]):
            np.testing.assert_allclose(one[name], other[name], rtol=rtol, err_msg=name)
        else:
            assert one[name].tolist() == other[name].tolist(), name


def assert_same_bits(one: pd.DataFrame, other: pd.DataFrame, but: tuple[str, ...] = ()):
    columns = one.columns.drop(list(but))
    assert len(one) == len(other) > 0
    for name in columns:
        for a, b in zip(one[name], other[name], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.fixture(scope="module")
def _quick_programs():
    programs = {}
    yield programs
    programs.clear()


@pytest.fixture
def _quickly_compiled(_quick_programs, monkeypatch):
    """Compile by the quickest of levels, where neither bits nor the level itself are tested."""
    level = {"xla_backend_optimization_level": 0} if ON_CPU else {}
    monkeypatch.setattr(compiling, "_options", lambda _: level)
    monkeypatch.setattr(compiling, "_programs", _quick_programs)


# Against a plain loop -----------------------------------------------------------------------

PLAIN = [
    {"optimizer": "adam"},
    {"optimizer": "sgd", "objective": "moments", "learning_rate": [0.05, 5.0]},
    {"optimizer": "sgd", "objective": "samples", "learning_rate": [0.05, 5.0]},
    {"optimizer": "rmsprop", "sampling": "replacement", "framework": "torch"},
    {"optimizer": "lamb", "sampling": "full"},
    {"optimizer": "adam", "model": TANH, "target_loss": 0.9},
    {"optimizer": "sgd", "model": RELU, "sampling": "replacement", "learning_rate": [0.05, 50.0]},
    {"optimizer": "momentum", "model": TANH, "sampling": "full"},
    {"optimizer": "adamw", "model": RELU, "problem": {"name": "sines", "samples": 14}},
    {"optimizer": "adam", "scaler": "power"},
    {"optimizer": "lion", "scaler": "normalizer", "model": TANH, "scale_factor": [0.5, 30.0]},
]


# Starts are drawn in float32. On a GPU the last digit of a normal draw depends on what is compiled
# with it (4.9e-7 of the largest weight at most, measured), and training magnifies it.
ROUNDING = 1e-7 if ON_CPU else 1e-4


@pytest.mark.sweep(3)
@pytest.mark.parametrize("axes", PLAIN, ids=lambda axes: "-".join(map(str, axes.values())))
def test_a_run_is_what_a_plain_loop_over_it_gives(axes):
    affine = {"scaler": ["none", "standard", "robust"], "scale_factor": 30.0}
    axes = {**BASE, **affine, "target_scaler": ["none", "standard"], "dtype": "float64", **axes}
    axes |= {"tolerance": 0.5, "data_seed": "vary"}
    rows = rows_of(**axes)
    conditions = expand(parse(axes))
    for place, condition in enumerate(conditions):
        for seed in (0, 6):
            with jax.enable_x64(True):
                row, expected = rows.loc[(place, seed)], plain_run(condition, seed)
            for name, value in expected.items():
                where = f"{name} of {condition.scaler}, {condition.target_scaler}, seed {seed}"
                if value is None:
                    assert row[name] is None or np.isnan(row[name]), where
                elif isinstance(value, str):
                    assert row[name] == value, where
                else:
                    theirs = np.asarray(value, np.float64)
                    atol = ROUNDING / 100 * np.nanmax(np.abs(theirs), initial=0)
                    if name == "bias":  # of centred data it is zero but for rounding
                        atol = ROUNDING / 100
                    if name == "excess_loss":
                        atol = 1e-9 * expected["final_loss"]
                    np.testing.assert_allclose(
                        np.asarray(row[name], np.float64), theirs, ROUNDING, atol, err_msg=where
                    )


def test_the_plain_loops_meet_every_status_and_reach_targets():
    axes = {**BASE, "scaler": ["none", "standard"], "scale_factor": 30.0, "tolerance": 0.1}
    rows = rows_of(**{**axes, "optimizer": "sgd", "learning_rate": [0.05, 5.0]})
    assert set(rows["status"]) == {"converged", "not_converged", "diverged"}
    reached = rows["steps_to_target"].dropna()
    assert reached.between(1, 11).any()


# Least squares ------------------------------------------------------------------------------


def sklearn_coefficients(condition, seed: int) -> np.ndarray:
    problem = problem_of(condition.problem)
    u, noise = problem.draw(seed)
    x = observed(problem, u[None], [condition])[0, 0]
    if problem.signal is not None:
        y = problem.signal(u)
    elif condition.design == "F":
        y = x @ problem.coefficients
    else:
        y = (u * problem.reference_scale) @ problem.coefficients
    return LinearRegression().fit(x, y + noise).coef_


@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_least_squares_weights_stored_are_scikit_learns(name):
    designs = ["U"] if PROBLEMS[name]().signal is not None else ["F", "U"]
    axes = {"problem": name, "design": designs, "scale_factor": [1.0, 300.0], "offset": [0, 7.0]}
    rows, conditions = rows_of(epochs=1, **axes), expand(parse(axes))
    for place, condition in enumerate(conditions):
        for seed in (0, 3):
            expected = sklearn_coefficients(condition, seed)
            np.testing.assert_allclose(rows.loc[(place, seed), "weight_ols"], expected, rtol=1e-8)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("objective", ["moments", "samples"])
def test_training_on_all_data_ends_at_the_least_squares_solution(objective):
    axes = {
        "problem": {"name": "uniform", "samples": 20, "features": 2, "noise": 0.3},
        "design": "U",
        "sampling": "full",
        "optimizer": "sgd",
        "learning_rate": 0.2,
        "updates": 3000,
        "dtype": "float64",
        "objective": objective,
        # A range of 1 trains by itself; scaled away, any other does too.
        "blocks": {
            "raw": {"scaler": "none"},
            "scaled": {
                # What only centres leaves a range of 300, on which this rate explodes.
                "scaler": [name for name in AFFINE if name not in ("none", "center")],
                "target_scaler": ["none", "standard"],
                "scale_factor": 300.0,
                "offset": 40.0,
            },
        },
    }
    rows, conditions = rows_of(**axes), expand(parse(axes))
    assert len(conditions) == 2 * len(AFFINE) - 3
    for place, condition in enumerate(conditions):
        for seed in range(4):
            row = rows.loc[(place, seed)]
            expected = sklearn_coefficients(condition, seed)
            np.testing.assert_allclose(row["weight_original"], expected, rtol=1e-7)
            np.testing.assert_allclose(row["weight_ols"], expected, rtol=1e-9)
            assert row["weight_error_ols"] < 1e-7
            assert 0 <= row["excess_loss"] < 1e-12
            assert row["status"] == "converged"


# Neighbours ---------------------------------------------------------------------------------


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    "axes",
    [
        {"objective": "moments"},
        {"objective": "samples"},
        {"model": RELU},
        {"scaler": "power"},
        {"optimizer": "test_optimizers:clipped_by_layer"},
    ],
    ids=str,
)
def test_a_run_is_the_same_bits_whether_or_not_its_neighbours_diverge(axes):
    axes = {**BASE, "optimizer": "sgd", "scaler": "standard", "tolerance": 0.5, **axes}
    wild, calm = (rows_of(**{**axes, "learning_rate": [0.05, rate]}) for rate in (50.0, 0.06))
    assert set(wild.loc[1, "status"]) == {"diverged"}
    assert "diverged" not in set(calm["status"])
    assert_same_bits(wild.loc[0], calm.loc[0])


@pytest.mark.sweep(1)
@pytest.mark.parametrize("epochs", [8, 60])
@pytest.mark.parametrize("objective", ["moments", "samples"])
def test_a_diverged_run_is_the_same_whether_or_not_its_neighbours_train_on(objective, epochs):
    axes = {**BASE, "optimizer": "sgd", "scaler": "standard", "objective": objective}
    alone, among = (
        rows_of(**{**axes, "epochs": epochs, "learning_rate": [50.0, rate]})
        for rate in (60.0, 0.05)
    )
    assert set(alone["status"]) == {"diverged"}
    assert "diverged" not in set(among.loc[1, "status"])
    assert_same_bits(alone.loc[0], among.loc[0])
    traced = column(among.loc[0].iloc[:8], "trace_loss")
    assert np.isnan(traced[:, -1]).all()


@pytest.mark.sweep(1)
@pytest.mark.parametrize("model", ["linear", RELU], ids=str)
def test_a_diverged_run_is_left_as_it_was_at_that_update(model):
    axes = {**BASE, "model": model, "optimizer": "sgd", "sampling": "full", "scale_factor": 30.0}
    rows = rows_of(**{**axes, "epochs": 60, "learning_rate": 0.05})
    lost = rows[rows["status"] == "diverged"]
    assert len(lost) > 8
    assert (lost["diverged_at"] == lost["updates"]).all()
    assert np.isfinite(lost["final_loss"]).all()
    assert (lost["final_loss"] > 1e6 * lost["initial_loss"]).all()
    at = int(lost["updates"].mode()[0])
    # A budget that ends there leaves the same parameters, by the same updates.
    until = rows_of(**{**axes, "epochs": at, "learning_rate": 0.05})
    same = lost.index[lost["updates"] == at]
    np.testing.assert_allclose(
        column(lost.loc[same], "movement"), column(until.loc[same], "movement"), rtol=1e-5
    )
    np.testing.assert_allclose(lost.loc[same, "final_loss"], until.loc[same, "final_loss"], 1e-5)
    # The last parameters are judged as those of every update are.
    assert (until.loc[same, "status"] == "diverged").all()
    assert (until.loc[same, "diverged_at"] == at).all()


def test_a_run_does_not_depend_on_its_place_among_the_conditions():
    axes = {**BASE, "optimizer": "adam", "scaler": ["none", "standard"]}
    one, other = (
        rows_of(**axes, target_scaler=targets)
        for targets in (["none", "standard", "minmax"], ["minmax", "none", "standard"])
    )
    one, other = (frame.astype({"condition": str}) for frame in (one, other))
    assert_same_bits(*(frame.sort_values(["condition", "seed"]) for frame in (one, other)))


def test_a_chunks_bytes_are_the_same_each_time():
    assert bytes_of(**BASE) == bytes_of(**BASE)


@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.parametrize("seed_block", [0, 3])
def test_chunks_hold_the_conditions_and_their_own_seeds_without_padding(seed_block):
    axes = {**BASE, "model": RELU, "scaler": FIVE, "target_scaler": ["none", "standard"]}
    # Networks of few conditions train by 32 seeds: ten conditions, or eight and two.
    whole = rows_of(Chunk(0, 0, seed_block), **axes)
    parts = [rows_of(Chunk(0, block, seed_block), 8 * 32, **axes) for block in (0, 1)]
    assert [len(part) for part in parts] == [8 * 32, 2 * 32]
    seeds = range(32 * seed_block, 32 * seed_block + 32)
    assert whole.index.tolist() == [(place, seed) for place in range(10) for seed in seeds]
    assert_close(pd.concat(parts), whole, rtol=2e-4)


# How the budget is cut ----------------------------------------------------------------------


CUTS = [
    ({"objective": "moments"}, 2**15),
    ({"objective": "samples", "sampling": "replacement"}, 2**12),
    ({"model": RELU}, 2**12),
    ({"scaler": "power"}, 2**12),
]


@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.sweep(2)
@pytest.mark.parametrize("each", [True, False], ids=["by epoch", "by some"])
@pytest.mark.parametrize(("axes", "numbers"), CUTS, ids=str)
def test_a_budget_cut_into_segments_ends_where_an_uncut_one_does(axes, numbers, each, monkeypatch):
    axes = {**BASE, "epochs": 7, "scaler": "standard", "tolerance": 0.5, **axes}
    whole = rows_of(**axes, optimizer="adam")
    cuts, orders = [], draws.orders

    def counted(static, seeds, epochs):
        for order in orders(static, seeds, epochs):
            cuts.append(order.shape[1])
            yield order

    monkeypatch.setattr(draws, "orders", counted)
    monkeypatch.setattr(conditions, "PREPARED_NUMBERS", 1 if each else numbers)
    # Other words for the same optimizer, so that no program that is already compiled is used.
    words = {"name": "adam", "eps": 1e-7} if each else {"name": "adam", "b1": 0.9, "eps": 1e-7}
    cut = rows_of(**axes, optimizer=words)
    assert max(cuts) == 1 if each else 1 < max(cuts) < 7
    # Another program: the same but for how XLA orders its sums.
    assert_close(cut, whole, rtol=1e-4)


# Units and dtypes ---------------------------------------------------------------------------

CANCELLING = [name for name in AFFINE if name not in ("none", "center")]
NOT_OF_TRAINING = ("condition", "weight_original", "weight_true", "weight_ols", "weight_error")
NOT_OF_TRAINING += ("weight_error_ols",)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("objective", ["moments", "samples"])
@pytest.mark.parametrize("scaler", CANCELLING)
def test_a_scaler_cancels_a_power_of_two_to_the_bit_and_any_other_factor_nearly(scaler, objective):
    factors = [1.0, 2.0, 1024.0, 0.125, 3.0, 1000.0]
    axes = {**BASE, "objective": objective, "scaler": scaler, "scale_factor": factors}
    rows = rows_of(**axes)
    for place, factor in enumerate(factors):
        own = rows.loc[place]
        if np.log2(factor) % 1 == 0:
            assert_same_bits(own, rows.loc[0], but=NOT_OF_TRAINING)
        assert_close(own, rows.loc[0], rtol=1e-4, skip=NOT_OF_TRAINING)
        scaled = column(own, "weight_original") * [1, 1, factor]
        np.testing.assert_allclose(scaled, column(rows.loc[0], "weight_original"), rtol=1e-3)


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.parametrize("model", ["linear", TANH], ids=str)
def test_without_a_scaler_a_factor_is_not_cancelled(model):
    rows = rows_of(**BASE, model=model, scale_factor=[1.0, 2.0])
    assert (column(rows.loc[0], "movement") != column(rows.loc[1], "movement")).any(axis=1).all()


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.parametrize(
    "axes",
    [{"objective": "moments"}, {"objective": "samples"}, {"model": TANH}, {"scaler": "power"}],
    ids=str,
)
def test_float64_differs_from_float32_by_rounding(axes):
    axes = {**BASE, "scaler": "standard", "target_scaler": "standard", "tolerance": 0.5, **axes}
    single, double = (rows_of(**axes, dtype=dtype) for dtype in ("float32", "float64"))
    assert (single["final_loss"].dtype, double["final_loss"].dtype) == (np.float32, np.float64)
    for name in ("final_loss", "initial_loss"):
        np.testing.assert_allclose(single[name], double[name], rtol=1e-4)
        assert (single[name] != double[name]).any()
    for name in ("movement", "grad_norm_mean", "grad_norm_init"):
        np.testing.assert_allclose(column(single, name), column(double, name), rtol=2e-3)


@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("model", ["linear", RELU], ids=str)
def test_transformed_features_train(name, model):
    axes = {"scaler": name, "model": model, "problem": "sines", "design": "U", "optimizer": "adam"}
    rows = rows_of(**axes, epochs=20, learning_rate=0.01, target_scaler="standard")
    assert set(rows["status"]) == {"no_target" if model == RELU else "not_converged"}
    assert (rows["final_loss"] < rows["initial_loss"]).mean() > 0.9
    assert rows["final_loss"].median() < 0.9 * rows["initial_loss"].median()
    # No coefficient of the raw feature stands for what was done to it.
    assert rows["weight_error"].isna().all()
    assert model == RELU or np.isnan(column(rows, "weight_original")).all()


@pytest.mark.sweep(2)
@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.parametrize("optimizer", ["lamb", "test_optimizers:clipped"])
@pytest.mark.parametrize("model", ["linear", RELU], ids=str)
def test_optimizers_that_look_at_a_whole_run_train(optimizer, model):
    axes = {**BASE, "optimizer": optimizer, "model": model, "scaler": "standard"}
    rows = rows_of(**{**axes, "epochs": 20})
    assert "diverged" not in set(rows["status"])
    assert rows["final_loss"].median() < 0.7 * rows["initial_loss"].median()


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.parametrize("model", ["test_models:OddOneOut", "test_models:OneUnit"])
def test_a_users_own_model_trains(model):
    rows = rows_of(**{**BASE, "epochs": 20}, model=model, scaler="standard", optimizer="adam")
    assert rows["final_loss"].median() < 0.9 * rows["initial_loss"].median()
    assert column(rows, "movement").shape == (32, 3)
    assert (column(rows, "grad_norm_mean") > 0).all()


# Shapes -------------------------------------------------------------------------------------


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.parametrize("axes", [{}, {"objective": "samples"}, {"model": RELU}], ids=str)
def test_a_run_is_the_same_among_many_conditions_and_among_few(axes):
    rates = [float(f"{rate:.3g}") for rate in np.geomspace(1e-3, 0.1, 70)]
    axes = {**BASE, "scaler": "standard", "tolerance": 0.5, **axes}
    many = rows_of(**{**axes, "learning_rate": rates})
    few = rows_of(**{**axes, "learning_rate": [rates[0], rates[69]]})
    seeds = many.loc[0].index.intersection(few.loc[0].index)
    assert len(seeds) >= 4
    for place, among in ((0, 0), (1, 69)):
        assert_close(few.loc[place].loc[seeds], many.loc[among].loc[seeds], rtol=2e-4)


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.parametrize("model", ["linear", RELU], ids=str)
def test_memory_does_not_grow_with_the_updates(model):
    def held(epochs: int, sampling: str) -> int:
        axes = {**BASE, "model": model, "epochs": epochs, "sampling": sampling}
        (own,) = groups_of(**axes)
        return compiling.compiled(own, "standard").memory_bytes

    assert held(1600, "full") <= 1.1 * held(400, "full")
    # Orders are held for a bounded number of epochs.
    assert held(64_000, "reshuffled") <= 1.1 * held(32_000, "reshuffled")


def curves_of(**axes):
    found = []
    text = parse({"record": "curves", **axes}).to_toml()
    chunk.run_curves(text, "000-0000-000000", None, lambda *curves: found.append(curves))
    ((conditions, seeds, curves),) = found
    return conditions, seeds, curves


@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.parametrize("model", ["linear", RELU], ids=str)
def test_curves_are_every_epochs_means(model):
    axes = {**BASE, "model": model, "scaler": ["none", "standard"], "learning_rate": 0.05}
    for _ in range(2):  # the second writes over the memory of the first
        conditions, seeds, curves = curves_of(**axes)
    rows = rows_of(**axes)
    assert len(conditions) == 2
    assert curves.loss.shape == (4, 2, len(seeds))
    for place in range(2):
        own = rows.loc[place]
        norm = np.moveaxis(curves.gradient_norm[:, :, place], -1, 0)
        np.testing.assert_allclose(norm.mean(axis=1), column(own, "grad_norm_mean"), rtol=1e-3)
        first = column(own, "grad_norm_first_epoch")
        np.testing.assert_allclose(norm[:, 0], first, rtol=1e-4)
        traced = column(own.iloc[:8], "trace_batch_loss")
        np.testing.assert_allclose(curves.loss[:, place, :8].T, traced, rtol=1e-3)


@pytest.mark.usefixtures("_quickly_compiled")
def test_curves_end_where_a_run_diverged():
    axes = {**BASE, "optimizer": "sgd", "learning_rate": [50.0, 0.05], "epochs": 30}
    curves_of(**axes)
    *_, curves = curves_of(**axes)
    assert np.isnan(curves.loss[-1, 0]).all()
    assert np.isfinite(curves.loss[:, 1]).all()
    assert np.isnan(curves.gradient_norm[-1, :, 0]).all()


# What moves the minimum, and what does not --------------------------------------------------

WHITE = {
    "problem": {"name": "gaussian", "samples": 20, "whitened": True},
    "design": "U",
    "sampling": "full",
    "dtype": "float64",
    "scale_factor": [0.5, 1.0, 2.0],
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("objective", ["moments", "samples"])
def test_penalised_weights_end_where_calculus_says(objective):
    strengths = {"l1_penalty": [0.0, 0.3], "l2_penalty": [0.0, 0.2], "objective": objective}
    study = {**WHITE, **strengths, "optimizer": "sgd", "learning_rate": 0.05, "updates": 3000}
    conditions = expand(parse(study))
    for own in groups_of(**study):
        table = rows_of(Chunk(own.index, 0, 0), **study).loc[:, :4, :]
        of_run = [conditions[place] for place in table.index.get_level_values("place")]
        l1, l2, scale = (
            np.array([getattr(c, name) for c in of_run])
            for name in ("l1_penalty", "l2_penalty", "scale_factor")
        )
        s = np.stack([np.ones_like(scale), scale], axis=1)
        ols, weight = column(table, "weight_ols"), column(table, "weight")
        # The least of mean (w - ols)² s² + l1 |w| + l2 w², feature by feature.
        shrunk = np.maximum(np.abs(ols) * s**2 - l1[:, None] / 2, 0) * np.sign(ols)
        np.testing.assert_allclose(weight, shrunk / (s**2 + l2[:, None]), rtol=1e-9)
        # The least penalised loss is known without an L1 penalty, and reached.
        np.testing.assert_array_equal(table["steps_to_target"].isna(), l1 > 0)
        known = table[l1 == 0]
        np.testing.assert_allclose(known["excess_share"], 0, atol=1e-12)
        ridge = (
            known["loss_ols"]
            + ((ols**2 * s**2 * (1 - s**2 / (s**2 + l2[:, None]))).sum(axis=1)[l1 == 0])
        )
        np.testing.assert_allclose(known["loss_least"], ridge, rtol=1e-9)


@pytest.mark.usefixtures("_quickly_compiled")
def test_a_network_is_penalised_in_its_weights_and_not_in_its_biases():
    base = {"model": TANH, "sampling": "full", "updates": 1, "optimizer": "sgd"}
    base |= {"dtype": "float64", "problem": SMALL, "design": "U", "l2_penalty": [0.0, 0.5]}
    plain, decayed = (
        chunk.train_chunk(own, Chunk(own.index, 0, 0), "standard")[0] for own in groups_of(**base)
    )
    start = plain.initial["params"]
    for layer, own in decayed.state.parameters["params"].items():
        without = plain.state.parameters["params"][layer]
        np.testing.assert_allclose(
            own["kernel"] - without["kernel"], -1e-3 * start[layer]["kernel"], rtol=1e-9
        )
        np.testing.assert_array_equal(own["bias"], without["bias"])


@pytest.mark.slow
def test_adam_told_the_factor_does_not_feel_it():
    def weights(optimizer, scale_factor, kernel_init="zeros"):
        study = WHITE | {"scale_factor": scale_factor, "optimizer": optimizer}
        model = {"name": "linear", "kernel_init": kernel_init}
        weight = column(
            rows_of(**study | {"model": model, "updates": 60, "learning_rate": 0.01}), "weight"
        )
        return weight * [1, scale_factor]

    def rescaled(**parameters):
        factory = "scaling_study.engine.optimizers:adam_rescaled"
        return {"name": factory, "eps": 1e-2, **parameters}

    plain = weights({"name": "adam", "eps": 1e-2}, 1.0)
    np.testing.assert_allclose(weights(rescaled(factor=64.0), 64.0), plain, rtol=1e-12)
    for ablation in ({"gradient": False}, {"update": False}):
        assert abs(weights(rescaled(factor=64.0, **ablation), 64.0) - plain).max() > 1e-3
    start = weights(rescaled(factor=64.0), 64.0, "glorot_uniform")
    assert abs(start - weights({"name": "adam", "eps": 1e-2}, 1.0, "glorot_uniform")).max() > 1e-3


@pytest.mark.sweep(1)
@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.parametrize("sampling", ["full", "reshuffled"])
def test_a_target_changes_nothing_but_what_is_judged_by_it(sampling):
    axes = {"problem": {"name": "sines", "samples": 64}, "design": "U", "batch_size": 8}
    axes |= {"model": TANH, "learning_rate": 0.05, "updates": 96, "scale_factor": [1.0, 9.0]}
    axes |= {"target_scaler": "standard", "sampling": sampling, "seeds": [0, 4]}
    without, reached = (rows_of(**axes, target_loss=loss) for loss in ("none", 0.3))
    steps = reached["steps_to_target"].dropna()
    assert len(steps) > 0
    assert set(without["status"]) == {"no_target"}
    assert (steps % (1 if sampling == "full" else 8) == 0).all()
    judged = ["status", "reason", "steps_to_target"]
    assert_close(*(rows.drop(columns=judged) for rows in (without, reached)), rtol=1e-4)


def test_runs_by_samples_are_judged_at_the_end_of_each_epoch():
    axes = {**BASE, "batch_size": 5, "learning_rate": [0.01, 0.05], "epochs": 200}
    exact, by_epoch = (rows_of(**axes, objective=name) for name in ("moments", "samples"))
    both = exact.index.intersection(by_epoch.index)  # their chunks differ
    exact, by_epoch = exact.loc[both], by_epoch.loc[both]
    reached, batches = exact["status"] == "converged", 3
    assert reached.any()
    for name in ("steps_to_target", FEATURES):
        first, last = (np.stack(rows[name][reached]) for rows in (exact, by_epoch))
        next_end = np.ceil(first / batches) * batches
        assert (first[first > 0] % batches != 0).any()
        # An update may be above the target between two epochs that end below it.
        assert (last <= next_end)[~np.isnan(first)].all()
        assert np.mean((last == next_end)[~np.isnan(first)]) > 0.5


FEATURES = "steps_to_feature_target"


def test_the_features_of_a_single_unit_have_targets_whatever_its_name():
    axes = {**BASE, "learning_rate": 0.3, "epochs": 12}
    registered = rows_of(**axes, objective="samples")
    named = rows_of(**axes, model="scaling_study.engine.models:linear")
    both = registered.index.intersection(named.index)  # their chunks differ
    steps = [np.stack(rows.loc[both, FEATURES]) for rows in (registered, named)]
    assert (steps[0] > 0).any()
    np.testing.assert_array_equal(*steps)


def test_the_features_of_a_single_unit_have_targets_also_where_its_loss_has_none():
    axes = {**BASE, "batch_size": 1, "learning_rate": 0.1, "l1_penalty": 1e-4}
    found = rows_of(**{**axes, "objective": "samples", "epochs": 12})
    assert set(found["status"]) == {"no_target"}
    assert (np.stack(found[FEATURES]) > 0).any()


@pytest.mark.usefixtures("_quickly_compiled")
def test_groups_share_a_program_whether_or_not_they_have_a_target():
    axes = {**BASE, "model": TANH, "learning_rate": 0.01}
    (without,), (with_one,) = (groups_of(**axes, target_loss=loss) for loss in ("none", 0.3))
    assert compiling.compiled(without, "standard") is compiling.compiled(with_one, "standard")


def test_a_group_that_starts_from_a_function_has_a_program_of_its_own():
    (drawn,), (mapped,) = (groups_of(**BASE, start=start) for start in ("parameters", "function"))
    assert drawn.static == mapped.static
    assert compiling.compiled(drawn, "standard") is not compiling.compiled(mapped, "standard")


UNITS = {"scale_factor": [1e-3, 1.0, 1e3], "offset": [0.0, 3.0], "scaler": ["none", "minmax"]}
STARTED = {
    "moments": {"objective": "moments"},
    "rows": {"objective": "samples"},
    "ridge": {"l2_penalty": 0.1},
    "network": {"model": TANH, "target_scaler": "standard"},
    "classes": {"problem": {"name": "logistic", "samples": 24}, "model": RELU},
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("kind", STARTED)
def test_a_start_from_a_function_is_the_same_function_in_every_unit(kind):
    axes = BASE | STARTED[kind] | UNITS
    mapped, drawn = (rows_of(**axes, start=start) for start in ("function", "parameters"))
    for frame, alike in ((mapped, True), (drawn, False)):
        assert "failed" not in set(frame["status"])
        losses = frame.groupby("seed")["initial_loss"]
        assert ((losses.max() / losses.min() < 1.001) == alike).all()


@pytest.mark.sweep(1)
@pytest.mark.parametrize("kind", STARTED)
def test_runs_of_both_starts_beside_each_other_are_those_alone(kind):
    axes = BASE | STARTED[kind] | {"scale_factor": [1.0, 30.0]}
    both = rows_of(**axes, start=["function", "parameters"]).set_index("condition")
    for start in ("function", "parameters"):
        alone = rows_of(**axes, start=start).set_index("condition")
        beside = both.loc[alone.index.unique()]
        for name in ("initial_loss", "final_loss"):
            np.testing.assert_allclose(beside[name], alone[name], rtol=1e-4)
    assert "failed" not in set(both["status"])


@pytest.mark.slow
def test_of_standardised_inputs_both_starts_are_the_same():
    axes = {**BASE, "model": TANH, "scaler": "standard", "scale_factor": 7.0}
    assert_close(*(rows_of(**axes, start=start) for start in ("function", "parameters")), rtol=1e-4)


@pytest.mark.slow
def test_newtons_method_from_one_function_takes_the_same_way_in_every_unit():
    axes = {**BASE, "optimizer": "scaling_study.engine.optimizers:newton", "learning_rate": 0.3}
    axes |= {"scale_factor": UNITS["scale_factor"], "sampling": "full", "objective": "samples"}
    mapped, drawn = (
        rows_of(**axes, start=start, dtype="float64") for start in ("function", "parameters")
    )
    for frame, alike in ((mapped, True), (drawn, False)):
        losses = frame.groupby("seed")["final_loss"]
        assert ((losses.max() / losses.min() < 1 + 1e-9) == alike).all()


@pytest.mark.parametrize("axis", ["data_seed", "init_seed", "order_seed"])
def test_groups_that_differ_in_a_seed_share_a_program_and_no_bits_change(axis, monkeypatch):
    groups = groups_of(**{**BASE, axis: [3, 4, "vary"], "batch_size": [5, 7]})
    programs = [compiling.compiled(own, "standard") for own in groups]
    assert len(groups) == 6
    assert len({id(found) for found in programs}) == 2
    shared = [rows_of(Chunk(i, 0, 0), **{**BASE, axis: [3, 4]}) for i in range(2)]
    for place, frame in enumerate(shared):
        monkeypatch.setattr(compiling, "_programs", {})
        alone = rows_of(Chunk(place, 0, 0), **{**BASE, axis: [3, 4]})
        assert_same_bits(frame, alone)
    assert not shared[0]["final_loss"].equals(shared[1]["final_loss"])


STARTS_AND_PROBLEMS = {
    "starts of a linear model": {
        "model": [{"name": "linear", "kernel_init": init} for init in ("zeros", "he_normal")]
    },
    "starts of a network": {"model": [TANH, {**TANH, "kernel_init": "zeros"}]},
    "problems of one shape, from moments": {
        "objective": "moments",
        "batch_size": 20,
        "l2_penalty": 0.1,
        "problem": [
            {"name": "gaussian", "features": 10, "samples": 24},
            {"name": "ill_conditioned", "samples": 24},
        ],
    },
    "classes by data sets of one shape": {
        "objective": "auto",
        "target_scaler": "none",
        "problem": [
            {"name": "breast_cancer", "columns": 10, "rows": 24, "feature": "mean area"},
            {"name": "wine", "columns": 10, "positive": 1, "rows": 24, "feature": "flavanoids"},
        ],
    },
    "problems of one shape": {
        "problem": [
            {"name": "gaussian", "features": 10, "samples": 24},
            {"name": "gaussian", "features": 10, "samples": 24, "correlation": 0.9},
            {"name": "ill_conditioned", "samples": 24},
        ]
    },
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", STARTS_AND_PROBLEMS)
def test_groups_that_differ_in_start_or_problem_share_a_program(name, monkeypatch):
    axes = {**BASE, **STARTS_AND_PROBLEMS[name]}
    groups = groups_of(**axes)
    assert len(groups) > 1
    assert len({id(compiling.compiled(own, "standard")) for own in groups}) == 1
    shared = [rows_of(Chunk(i, 0, 0), **axes) for i in range(len(groups))]
    monkeypatch.setattr(compiling, "_programs", {})
    assert_same_bits(shared[-1], rows_of(Chunk(len(groups) - 1, 0, 0), **axes))
    assert not shared[0]["final_loss"].equals(shared[-1]["final_loss"])


NET = """
import flax.linen as nn

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, kernel_init=nn.initializers.{start})(x)[..., 0]
"""


def test_a_reloaded_module_draws_starts_of_its_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    drawn = []
    for start in ("zeros", "ones"):
        (tmp_path / "reloaded_net.py").write_text(NET.format(start=start))
        importlib.reload(importlib.import_module("reloaded_net"))
        (own,) = groups_of(**{**BASE, "model": "reloaded_net:Net"})
        drawn.append(initial.initial_of(own, range(own.shape.seeds))["params"]["Dense_0"]["kernel"])
    np.testing.assert_array_equal(drawn[0], 0)
    np.testing.assert_array_equal(drawn[1], 1)


HELD_OUT = {"name": "correlated", "samples": 24, "features": 10}
CLASSES = {"name": "logistic", "samples": 24}
SIX = {"name": "correlated", "samples": 24, "features": 6}


def test_classes_have_a_program_of_their_own():
    axes = {**BASE, "target_scaler": "none", "model": RELU, "problem": [HELD_OUT, CLASSES]}
    numbers, classes = (compiling.ProgramKey.of(own, "standard") for own in groups_of(**axes))
    assert (numbers.classes, classes.classes) == (0, 2)
    assert classes == numbers._replace(classes=2)


@pytest.mark.parametrize(
    ("axes", "fast"),
    [
        ({"objective": "samples", "model": RELU}, False),  # row by row
        ({"model": "linear", "objective": "moments"}, True),
        ({"model": "linear", "objective": "moments", "epochs": 300_000}, False),
        ({"model": {"name": "mlp", "hidden": 64}, "problem": HELD_OUT, "epochs": 300}, True),
    ],
)
def test_short_chunks_are_compiled_with_fewer_optimizations(axes, fast):
    (own,) = groups_of(**{**BASE, "objective": "auto", **axes})
    level = compiling._options(own).get("xla_backend_optimization_level")
    assert level == (1 if fast else None)


# Networks by matrix products ------------------------------------------------------------------

FORMS = {
    "network": {"model": TANH, "target_loss": 0.5, "l2_penalty": 0.01},
    "linear": {"objective": "samples", "l2_penalty": [0.0, 0.1]},
    "transformed": {"scaler": "power", "model": RELU},
    "full batches": {"sampling": "full", "model": RELU, "optimizer": "lamb"},
    "shared inputs": {"data_seed": 3, "model": RELU},
    "six features": {"problem": SIX, "design": "U", "model": RELU, "sampling": "replacement"},
    "classes": {"problem": CLASSES, "target_scaler": "none", "model": TANH},
    "start from a function": {"start": ["parameters", "function"], "model": TANH, "offset": 3.0},
}


def rows_by(form, monkeypatch, **axes):
    """Return the rows of a chunk by matrix products, or with the runs side by side."""
    monkeypatch.setattr(program, "SMALL_NETWORK", 0 if form == "products" else 10**9)
    monkeypatch.setattr(compiling, "_programs", {})
    assert program.maps_single_runs(groups_of(**axes)[0]) == (form == "products")
    return rows_of(**axes)


@pytest.mark.sweep(2)
@pytest.mark.usefixtures("_quickly_compiled")
@pytest.mark.skipif(not ON_CPU, reason="any other device has one form")
@pytest.mark.parametrize("kind", FORMS)
def test_both_forms_of_a_training_agree(kind, monkeypatch):
    axes = {**BASE, "dtype": "float64", "scale_factor": [1.0, 30.0], **FORMS[kind]}
    one, other = (rows_by(form, monkeypatch, **axes) for form in ("products", "side by side"))
    ranks = ("test_auc",) if kind == "classes" else ()  # of logits that may be nearly equal
    assert_close(one, other, rtol=1e-6, skip=ranks)


@pytest.mark.usefixtures("_quickly_compiled")
def test_a_users_factory_of_a_linear_model_has_the_losses_of_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "from scaling_study.engine.models import linear\ndef unit():\n    return linear()\n"
    (tmp_path / "own_linear.py").write_text(text)
    axes = {**BASE, "objective": "samples", "epochs": 3}
    one, other = (rows_of(**axes, model=model) for model in ("linear", "own_linear:unit"))
    for name in ("initial_loss", "final_loss"):
        np.testing.assert_allclose(column(one, name), column(other, name), rtol=1e-5)


def test_a_runs_bits_do_not_depend_on_its_place_in_the_batch(monkeypatch):
    axes = {**BASE, "model": {"name": "mlp", "hidden": [[16, 24]]}, "scaler": "standard"}
    held = dict.fromkeys(("data_seed", "init_seed", "order_seed"), 3)
    rates = [0.05, 0.01, 0.002]
    frames = [
        rows_by("products", monkeypatch, **{**axes, **held, "learning_rate": order})
        for order in (rates, rates[::-1])
    ]
    one, other = (frame.set_index("condition", append=True).droplevel("place") for frame in frames)
    other = other.loc[one.index]
    traces = tuple(name for name in one if name.startswith("trace_"))
    assert_same_bits(one, other, but=traces)
    for _, runs in one.groupby("condition", observed=True):  # the same run at each seed's place
        first = pd.concat([runs.iloc[:1]] * len(runs))
        assert_same_bits(runs, first, but=traces)
