"""What is kept of a chunk: one row per run, whose columns agree with each other."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_block import FIRST, bytes_of, column, groups_of, rows_of

from scaling_study.engine import chunk, record
from scaling_study.engine.compiling import budget_of
from scaling_study.engine.record import REASONS, STATUSES
from scaling_study.engine.train import Budget
from scaling_study.storage.schema import FEATURE_COLUMNS, TRACE_COLUMNS
from scaling_study.study.conditions import (
    TRACED_SEEDS,
    Chunk,
    expand,
    problem_of,
    trace_epochs,
)
from scaling_study.study.study import parse

FEATURES, EPOCHS, BATCHES = 3, 6, 3
BASE = {
    "problem": {"name": "gaussian", "samples": 14, "features": FEATURES, "noise": 0.5},
    "design": "U",
    "scale_factor": 30.0,
    "batch_size": 5,
    "epochs": EPOCHS,
    "optimizer": "sgd",
    "tolerance": 0.2,
}
KINDS = {
    "linear": {"scaler": ["none", "standard", "maxabs"], "learning_rate": [0.02, 0.05]},
    "samples": {"scaler": ["none", "standard"], "learning_rate": 0.05, "objective": "samples"},
    "network": {
        "model": {"name": "mlp", "hidden": 4},
        "learning_rate": [0.05, 100.0],
        "target_loss": ["none", 0.5],
        "scaler": "standard",
        "target_scaler": "standard",
    },
    "narrow": {"model": {"name": "mlp", "hidden": 1}, "scaler": "standard"},
    "transformed": {"scaler": "power", "learning_rate": [0.05, 100.0]},
    "double": {"scaler": "standard", "dtype": "float64"},
}


@pytest.fixture(scope="module")
def kept():
    """Return a function that gives the rows of a kind, computed once."""
    found = {}

    def rows(kind: str):
        if kind not in found:
            found[kind] = rows_of(**{**BASE, **KINDS[kind]})
        return found[kind]

    return rows


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_there_is_a_row_for_each_condition_and_seed(kind, kept):
    axes = {**BASE, **KINDS[kind]}
    (own,) = groups_of(**axes)
    rows = kept(kind)
    assert not rows.index.has_duplicates
    assert set(rows.index) == {
        (place, seed) for place in range(len(own.conditions)) for seed in own.seeds(FIRST)
    }
    ids = [condition.id for condition in expand(parse(axes))]
    assert rows["condition"].astype(str).tolist() == [ids[place] for place, _ in rows.index]


@every_kind
def test_a_status_has_its_reason(kind, kept):
    rows = kept(kind)
    reasons = {
        status: set(own["reason"].astype(str))
        for status, own in rows.groupby("status", observed=True)
    }
    assert set(reasons) <= set(STATUSES)
    allowed = {
        "converged": {""},
        "not_converged": {REASONS[record.ABOVE]},
        "no_target": {REASONS[record.NETWORK]},
        "diverged": {REASONS[record.NOT_FINITE], REASONS[record.TOO_LARGE]},
    }
    for status, given_reasons in reasons.items():
        assert given_reasons <= allowed[status]


def test_the_kinds_meet_every_status_and_reason(kept):
    rows = [kept(kind) for kind in ("linear", "network")]
    assert {s for own in rows for s in own["status"]} == set(STATUSES) - {"failed"}
    met = {"", *(REASONS[code] for code in (record.ABOVE, record.NETWORK, record.TOO_LARGE))}
    assert {r for own in rows for r in own["reason"]} == met


@every_kind
def test_a_run_has_converged_if_it_ended_below_its_target(kind, kept):
    rows = kept(kind)
    conditions = expand(parse({**BASE, **KINDS[kind]}))
    for (place, _), row in rows.iterrows():
        own = conditions[place]
        if own.target_loss != "none":
            target = own.target_loss
        elif own.model.name == "linear":
            target = row["loss_ols"] + own.tolerance * (row["loss_null"] - row["loss_ols"])
        else:
            target = np.nan
        if row["status"] == "diverged":
            assert row["final_loss"] > row["initial_loss"]
        elif np.isnan(target):
            assert row["status"] == "no_target"
        elif abs(row["final_loss"] - target) > 1e-4 * target:
            assert (row["status"] == "converged") == (row["final_loss"] < target)


@every_kind
def test_numbers_are_there_where_the_status_says_so(kind, kept):
    rows = kept(kind)
    lost, converged = rows["status"] == "diverged", rows["status"] == "converged"
    assert (rows["diverged_at"].notna() == lost).all()
    assert (rows.loc[lost, "updates"] == rows.loc[lost, "diverged_at"]).all()
    assert (rows.loc[~lost, "updates"] == EPOCHS * BATCHES).all()
    assert (rows["steps_to_target"].notna() == converged).all()
    assert rows.loc[converged, "steps_to_target"].between(0, EPOCHS * BATCHES).all()


@every_kind
def test_an_excess_is_the_loss_above_least_squares(kind, kept):
    rows = kept(kind)
    if kind in ("network", "narrow"):  # whose least loss is not known
        for name in ("excess_loss", "excess_share", "loss_least"):
            assert rows[name].isna().all(), name
        return
    np.testing.assert_allclose(
        rows["final_loss"], rows["excess_loss"] + rows["loss_ols"], rtol=1e-5
    )
    alive = rows[rows["status"] != "diverged"]
    reach = alive["loss_null"] - alive["loss_least"]
    np.testing.assert_allclose(alive["excess_share"], alive["excess_loss"] / reach, rtol=1e-4)
    assert np.isinf(rows.loc[rows["status"] == "diverged", "excess_share"]).all()


@pytest.mark.parametrize("kind", ["linear", "samples", "double"])
def test_weights_are_given_in_original_units_too(kind, kept):
    rows = kept(kind)
    conditions = expand(parse({**BASE, **KINDS[kind]}))
    for (place, seed), row in rows.groupby("place").head(4).iterrows():
        own = conditions[place]
        x = problem_of(own.problem).draw(seed)[0] * [1, 1, own.scale_factor]
        divisor = {
            "none": np.ones(FEATURES),
            "standard": x.std(axis=0),
            "maxabs": np.abs(x).max(axis=0),
        }[own.scaler.name]
        np.testing.assert_allclose(row["weight_original"], row["weight"] / divisor, rtol=1e-5)
        spread = x.std(axis=0)
        for name, reference in (("", row["weight_true"]), ("_ols", row["weight_ols"])):
            missed = np.sqrt((spread**2 * (row["weight_original"] - reference) ** 2).sum())
            expected = missed / np.sqrt(((spread * reference) ** 2).sum())
            np.testing.assert_allclose(row[f"weight_error{name}"], expected, rtol=1e-4)
        np.testing.assert_allclose(row["weight_true"] * [1, 1, own.scale_factor], np.ones(FEATURES))


@every_kind
def test_weights_are_there_where_a_feature_has_one(kind, kept):
    rows = kept(kind)
    linear = kind not in ("network", "narrow")
    for name in ("weight", "weight_init"):
        assert rows[name].notna().all() == linear
    if linear:
        movement = np.abs(column(rows, "weight") - column(rows, "weight_init"))
        np.testing.assert_allclose(movement, column(rows, "movement"), rtol=1e-4)
    for name in ("bias", "bias_init"):
        assert rows[name].notna().all() == linear, name
    if linear:
        original = column(rows, "weight_original")
        assert np.isfinite(original).all() == (kind != "transformed")
    for name in ("weight_error", "weight_error_ols"):
        assert rows[name].notna().all() == (linear and kind != "transformed"), name


@every_kind
def test_a_trace_is_kept_of_the_first_seeds_only(kind, kept):
    rows = kept(kind)
    traced = rows["trace_update"].notna()
    assert (traced == (rows.index.get_level_values("seed") < TRACED_SEEDS)).all()
    for name in TRACE_COLUMNS:
        linear = kind not in ("network", "narrow")
        assert (rows[f"trace_{name}"].notna() == (traced & (linear or name != "weight"))).all()


@every_kind
def test_a_trace_ends_where_the_run_does(kind, kept):
    rows = kept(kind)
    rows = rows[rows["trace_update"].notna()]
    updates, done = column(rows, "trace_update"), rows["updates"].to_numpy()[:, None]
    over = BATCHES * np.arange(1, EPOCHS + 1) > done
    assert (updates == BATCHES * np.arange(1, EPOCHS + 1)).all()
    assert (np.isnan(column(rows, "trace_loss")) == over).all()
    rows = rows[rows["status"] != "diverged"]
    np.testing.assert_allclose(column(rows, "trace_loss")[:, -1], rows["final_loss"], rtol=1e-5)
    assert column(rows, "trace_grad_norm").shape == (len(rows), EPOCHS * FEATURES)
    if kind not in ("network", "narrow"):
        last = column(rows, "trace_weight")[:, -FEATURES:]
        np.testing.assert_array_equal(last, column(rows, "weight"))


@every_kind
def test_a_traces_gradient_norms_average_to_the_runs(kind, kept):
    rows = kept(kind)
    rows = rows[rows["trace_update"].notna() & (rows["status"] != "diverged")]
    norms = column(rows, "trace_grad_norm").reshape(len(rows), EPOCHS, FEATURES)
    done = rows["updates"].to_numpy()[:, None] / BATCHES
    np.testing.assert_allclose(norms.sum(axis=1) / done, column(rows, "grad_norm_mean"), rtol=1e-4)
    np.testing.assert_allclose(norms[:, 0], column(rows, "grad_norm_first_epoch"), rtol=1e-5)


@pytest.mark.parametrize("seed_block", [1, 5])
def test_later_seeds_have_no_trace(seed_block):
    rows = rows_of(Chunk(0, 0, seed_block), **{**BASE, **KINDS["narrow"]})
    assert rows.index.get_level_values("seed").min() == 32 * seed_block
    assert rows["trace_update"].isna().all()


@every_kind
def test_every_kind_has_the_same_columns(kind, kept):
    assert kept(kind).columns.tolist() == kept("linear").columns.tolist()
    assert {*FEATURE_COLUMNS, *(f"trace_{name}" for name in TRACE_COLUMNS)} <= set(kept(kind))


@every_kind
def test_a_file_holds_words_once_and_a_column_for_each_feature(kind):
    table = pq.read_table(io.BytesIO(bytes_of(**{**BASE, **KINDS[kind]})))
    for name in ("condition", "status", "reason"):
        assert pa.types.is_dictionary(table.schema.field(name).type)
    for name in FEATURE_COLUMNS:
        assert {f"{name}/{feature}" for feature in range(FEATURES)} <= set(table.column_names)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 500) | st.integers(1, 2**31 - 1), st.integers(1, 9), st.integers(1, 9000))
def test_a_traces_points_are_evenly_spread_over_the_budget_and_end_with_it(
    epochs, batches, conditions
):
    budget = Budget(epochs, batches, 2, trace_epochs(epochs, conditions), False)
    updates = budget.trace_updates
    assert len(updates) == budget.trace_points <= 200
    assert updates[-1] == epochs * batches
    assert (updates % batches == 0).all()
    steps = np.diff(updates, prepend=0)
    assert (steps[:-1] == steps[0]).all()
    assert 0 < steps[-1] <= steps[0]


def test_no_point_of_a_long_curve_is_written_by_another_epoch():
    # 46,341 squared is more than 32 bits hold.
    problem = {"name": "gaussian", "samples": 4}
    text = parse(
        {"problem": problem, "sampling": "full", "epochs": 50_000, "record": "curves"}
        | {"optimizer": "sgd", "learning_rate": 1e-4}
    ).to_toml()
    kept: list[Any] = []
    chunk.run_curves(text, str(FIRST), 4, lambda *found: kept.append(found[-1]))
    loss = kept[0].loss[:, 0, 0]
    assert loss.shape == (50_000,)
    assert (loss > 0).all()
    assert (loss[1:] <= loss[:-1] * (1 + 1e-5)).all()


@pytest.mark.parametrize("scalers", [1, 5])
def test_a_longer_budget_is_thinned(scalers):
    names = ["none", "minmax", "standard", "robust", "maxabs"][:scalers]
    axes = {"scaler": names, "epochs": 450, "batch_size": 50, "optimizer": "sgd"}
    rows = rows_of(**axes)
    (own,) = groups_of(**axes)
    budget = budget_of(own, "standard")
    traced = rows[rows["trace_update"].notna()]
    assert budget.trace_points < 450
    np.testing.assert_array_equal(traced["trace_update"].iloc[0], budget.trace_updates)
    np.testing.assert_allclose(column(traced, "trace_loss")[:, -1], traced["final_loss"], rtol=1e-5)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", ["linear", {"name": "mlp", "hidden": 3}])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_no_loss_beyond_what_its_type_holds_is_taken_for_a_good_one(dtype, model, optimizer):
    # From where a square overflows to where the number itself does; at some, only at the end.
    powers = [15, 19, 20, 37] if dtype == "float32" else [100, 153, 155, 300]
    rows = rows_of(
        problem="article", scale_factor=[10.0**power for power in powers], dtype=dtype,
        model=model, optimizer=optimizer, scaler=["none", "standard", "center"],
        design=["F", "U"], target_loss=[1e-3, "none"], epochs=2,
    )  # fmt: skip
    good = rows[rows["status"].isin(["converged", "not_converged"])]
    numbers = good[["initial_loss", "final_loss"]]
    assert np.isfinite(numbers.to_numpy(float)).all()
    lost = rows[rows["status"] == "diverged"]
    assert (lost["diverged_at"] == lost["updates"]).all()
    begun = lost[~np.isfinite(lost["initial_loss"])]
    assert len(begun)
    assert (begun["diverged_at"] == 0).all()  # nothing is trained from there
    for trace in rows["trace_loss"].dropna():
        assert not np.isinf(trace).any()


def test_a_failed_chunk_has_the_columns_of_any_other():
    axes = {"problem": "gaussian", "epochs": 1, "seeds": 4}
    trained = pq.read_schema(io.BytesIO(bytes_of(**axes)))
    own = groups_of(**axes)[0]
    reasons = {condition.id: "why" for condition in own.conditions}
    rows = record.failed(own, FIRST, 2, reasons).to_pandas()
    assert set(rows) == set(trained.names)
    assert set(rows["status"]) == {"failed"}
    assert set(rows["reason"]) == {"why"}
    assert rows["final_loss"].isna().all()
