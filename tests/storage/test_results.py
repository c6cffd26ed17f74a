"""Stored results as data frames, and folders that hold none."""

import json
import re
import shutil
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changed import replace_chunk, replace_table, write_manifest, write_study
from refusals import refused
from tiny_folder import (
    CONDITIONS,
    FEATURES,
    POINTS,
    SEEDS,
    STUDY,
    TABLES,
    run,
)

import scaling_study
from scaling_study.storage import columns
from scaling_study.storage import reader as folder_of
from scaling_study.storage import results as results_of
from scaling_study.storage.provenance import METADATA
from scaling_study.study.conditions import expand
from scaling_study.study.study import parse

# What is there -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("runs", CONDITIONS * SEEDS),
        ("features", CONDITIONS * SEEDS * FEATURES),
        ("traces", CONDITIONS * SEEDS * FEATURES * POINTS),
    ],
)
def test_every_row_is_there_once(results, table, rows):
    frame = getattr(results, table)
    assert len(frame) == rows
    assert not frame.duplicated(TABLES[table]).any()
    assert set(frame["condition"]) == {condition.id for condition in expand(parse(STUDY))}
    assert set(frame["seed"]) == set(range(SEEDS))


def test_pairs_are_the_features_side_by_side(results):
    features, pairs = results.features, results.pairs
    assert len(pairs) == len(results.runs)
    for end, position in (("first", 0), ("last", 1)):
        one = features[features["position"] == position]
        for name in ("weight", "weight_ols", "grad_norm_init"):
            np.testing.assert_array_equal(pairs[f"{name}_{end}"], one[name])


@pytest.mark.parametrize("table", TABLES)
def test_axes_are_categorical_columns_of_the_conditions(results, table):
    frame = getattr(results, table)
    by_id = results.conditions.set_index("condition")
    assert isinstance(frame["condition"].dtype, pd.CategoricalDtype)
    for axis in by_id.columns:
        if axis == "updates" and table == "runs":  # the updates done, not the budget
            continue
        assert isinstance(frame[axis].dtype, pd.CategoricalDtype), axis
        expected = by_id.loc[frame["condition"].astype(str), axis]
        assert frame[axis].tolist() == expected.tolist(), axis


def test_conditions_have_every_axis(results):
    rows = [condition.row() for condition in expand(parse(STUDY))]
    assert len(results.conditions) == CONDITIONS
    for row, stored in zip(rows, results.conditions.to_dict("records"), strict=True):
        assert {key: stored[key] for key in row} == row


@pytest.mark.parametrize("table", TABLES)
def test_a_scaler_named_none_stays_text(results, table):
    frame = getattr(results, table)
    for axis in ("scaler", "target_scaler", "target_loss"):
        assert (frame[axis] == "none").any()
        assert not frame[axis].isna().any()
        assert all(isinstance(value, str) for value in frame[axis].cat.categories)


def test_every_run_has_a_status(results):
    runs = results.runs
    known = {"converged", "not_converged", "diverged", "failed"}
    assert set(runs["status"]) <= known
    assert not runs["status"].isna().any()
    assert ((runs["status"] == "diverged") == runs["diverged_at"].notna()).all()
    assert ((runs["status"] == "converged") == runs["steps_to_target"].notna()).all()


def test_an_unscaled_weight_is_the_original_one(results):
    features = results.features
    unscaled = features[features["scaler"] == "none"]
    pd.testing.assert_series_equal(
        unscaled["weight"], unscaled["weight_original"], check_names=False, check_dtype=False
    )


def test_traces_end_where_the_budget_does(results):
    ends = results.traces.groupby(["condition", "seed"], observed=True)["update"].max()
    assert (ends == 8).all()


# Rows that lack something -------------------------------------------------------------------


def test_a_list_that_a_row_lacks_is_nan():
    rows = pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2))
    for column in (rows, rows.cast(pa.list_(pa.int32()))):
        table = pa.table({"weight": column})
        expected = [[1, 2], [np.nan, np.nan], [3, np.nan]]
        np.testing.assert_array_equal(columns._lists(table, "weight", 2), expected)
        np.testing.assert_array_equal(columns._lists(table.slice(1), "weight", 2), expected[1:])


def test_a_column_that_one_chunk_lacks_does_not_decide_its_type(tmp_path):
    mixed = {**STUDY, "blocks": {"linear": {}, "network": {"model": "mlp"}}}
    both, linear = run(tmp_path / "both", mixed), run(tmp_path / "linear")
    for table in TABLES:
        frame, own = getattr(both, table), getattr(linear, table)
        numbers = own.columns[[pd.api.types.is_numeric_dtype(t) for t in own.dtypes]]
        assert (frame.dtypes[numbers] == own.dtypes[numbers]).all()
    weights = both.features.groupby("block", observed=True)["weight_original"]
    assert weights.apply(lambda own: own.isna().all()).to_dict() == {
        "linear": False,
        "network": True,
    }


# What cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_a_folder_without_results_is_refused(tmp_path, place):
    refused(lambda: scaling_study.load(tmp_path / place), str(tmp_path / place), "no results")


@pytest.mark.parametrize("version", [0, 1, 2, 4, "3", True, None])
def test_another_schema_version_is_refused(folder, version):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["schema_version"] = version
    write_manifest(folder, manifest)
    refused(lambda: scaling_study.load(folder), str(folder), "schema version", str(version))


DAMAGE = {
    "manifest.json": [b"", b"{", b"[]", b"\xff"],
    "study.toml": [None, b"[", b"nonsense = 1\n", b"\xff"],
    "conditions.parquet": [None, b"", b"PAR1"],
    "chunks/000-0000-000000-*.parquet": [None, b"", b"PAR1"],
}


@pytest.mark.parametrize(("name", "data"), [(n, data) for n in DAMAGE for data in DAMAGE[n]])
def test_a_damaged_folder_is_refused_with_the_file(folder, name, data):
    (file,) = folder.glob(name)
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)
    refused(lambda: scaling_study.load(folder).runs, str(folder), file.name)


def test_a_folder_without_chunks_is_refused(folder):
    shutil.rmtree(folder / "chunks")
    refused(lambda: scaling_study.load(folder).runs, str(folder), "chunks")


# A manifest ----------------------------------------------------------------------------------

CHUNK = "000-0000-000000-0123456789abcdef.parquet"
MANIFESTS = {
    "identity": [None, [], "text", {}, {"chunk_size": "many"}, {"chunk_size": 0}],
    "chunks": [
        3,
        [3],
        None,
        [CHUNK, CHUNK],
        ["../../../etc/passwd"],
        [f"../chunks/{CHUNK}"],
        ["000-0000-000000.parquet"],
    ],
    "seeds": [None, [3, 1], [0, "a"]],
    "files": [None, {"conditions.parquet": 3}],
    "groups": [3, [3], [{"conditions": 2}], [{"conditions": 2, "shape": [1, 2, 3]}]],
    "devices": [[1], None],
    "packages": [[], {"jax": 1}],
    "compile_seconds": ["x", None, True, -1, float("nan")],
    "estimator_seconds": ["x"],
    "machine": [1],
    "git_commit": [1],
    "summary": [None, []],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k in MANIFESTS for v in MANIFESTS[k]])
def test_a_manifest_is_held_to_its_form_in_one_line(folder, key, value):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    write_manifest(folder, {**manifest, key: value})
    for read in (scaling_study.load, folder_of.status, run):
        refused(lambda read=read: read(folder), str(folder), *([key] if read is not run else []))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_a_manifest_that_is_nested_too_deep_is_one_line(folder, text):
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    for read in (scaling_study.load, folder_of.status):
        refused(lambda read=read: read(folder), "manifest.json")
    assert run(folder).manifest["summary"]["runs_trained"] == 0


@pytest.mark.parametrize("key", ["identity", "schema_version"])
def test_a_manifest_needs_what_makes_it_one(folder, key):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest[key]
    write_manifest(folder, manifest)
    refused(lambda: scaling_study.load(folder), "manifest.json", key.replace("_", " "))


def test_a_run_that_ended_before_its_summary_has_an_empty_one(folder):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["summary"]
    write_manifest(folder, manifest)
    assert scaling_study.load(folder).manifest["summary"] == {}


@pytest.mark.parametrize("seeds", ["0:300", "256:300"])
def test_chunks_that_are_not_those_of_the_study_are_refused(folder, seeds):
    text = (folder / "study.toml").read_text(encoding="utf-8")
    changed = text.replace('seeds = "0:4"', f'seeds = "{seeds}"')
    assert changed != text
    (folder / "study.toml").write_text(changed, encoding="utf-8")
    refused(lambda: scaling_study.load(folder), str(folder), "study.toml", "edited")
    write_study(folder, changed)
    refused(lambda: scaling_study.load(folder), str(folder), "run its study again")


def test_more_chunks_than_a_folder_may_hold_are_refused_in_time(folder):
    text = (folder / "study.toml").read_text(encoding="utf-8")
    write_study(folder, text.replace('seeds = "0:4"', 'seeds = "0:2147483648"'))
    begun = time.perf_counter()
    for read in (scaling_study.load, folder_of.status):
        refused(lambda read=read: read(folder), "chunks, and a folder holds at most")
    assert time.perf_counter() - begun < 3


# Tables that are whole, and not what they should be -------------------------------------------


def as_text(table: pa.Table, name: str) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, table[name].cast(pa.string()))


FORMS = {
    "has no column 'condition'": lambda table: table.drop_columns("condition"),
    "has no column 'weight/0'": lambda table: table.drop_columns("weight/0"),
    "has no column 'weight/1'": lambda table: table.drop_columns("weight/1"),
    "has no column 'trace_loss'": lambda table: table.drop_columns("trace_loss"),
    "column 'seed' holds string": lambda table: as_text(table, "seed"),
    "column 'final_loss' holds string": lambda table: as_text(table, "final_loss"),
    "has no provenance": lambda table: table.replace_schema_metadata({}),
    "provenance": lambda table: table.replace_schema_metadata({METADATA: "[]"}),
    "rows, not": lambda table: table.slice(1),
}


@pytest.mark.parametrize("words", FORMS)
def test_a_chunk_is_held_to_its_form_in_one_line(folder, words):
    file = sorted((folder / "chunks").iterdir())[0]
    replace_chunk(file, FORMS[words](pq.read_table(file)))
    name = sorted((folder / "chunks").iterdir())[0].name
    for table in (*TABLES, "count"):
        refused(lambda table=table: getattr(scaling_study.load(folder), table), name, words)


@pytest.mark.parametrize("column", ["condition", "optimizer", "scale_factor"])
def test_conditions_are_held_to_their_form(folder, column):
    file = folder / "conditions.parquet"
    replace_table(file, pd.read_parquet(file).drop(columns=column).to_parquet())
    refused(lambda: scaling_study.load(folder).runs, file.name, f"has no column '{column}'")


def test_conditions_of_before_an_axis_have_its_default(folder):
    file = folder / "conditions.parquet"
    replace_table(file, pd.read_parquet(file).drop(columns="start").to_parquet())
    results = scaling_study.load(folder)
    assert set(results.conditions["start"]) == set(results.runs["start"]) == {"parameters"}


def test_a_condition_stands_in_its_table_once(folder):
    file = folder / "conditions.parquet"
    frame = pd.read_parquet(file)
    replace_table(file, pd.concat([frame, frame.head(1)]).to_parquet())
    refused(lambda: scaling_study.load(folder).runs, file.name, "more than once")


# A part of it, and what it says of itself ------------------------------------------------------


def test_the_results_of_some_conditions_remember_nothing_of_the_whole(stored):
    results = scaling_study.load(stored)
    for name in (*TABLES, "count"):
        getattr(results, name)
    first = results.conditions["condition"].head(1)
    part = results.of(first)
    assert part.count == len(part.runs) == SEEDS
    assert set(part.features["condition"]) == set(part.traces["condition"]) == set(first)
    assert results.count == CONDITIONS * SEEDS


def test_a_part_of_the_results_needs_no_code_of_the_study(stored, monkeypatch):
    monkeypatch.setattr(results_of, "expand", lambda study: pytest.fail("the study was expanded"))
    results = scaling_study.load(stored)
    part = results.of(results.conditions["condition"].head(1))
    assert len(part.runs) == SEEDS


def test_results_say_what_they_are(results, stored):
    said = repr(results)
    assert said.startswith(f"Results({str(stored)!r}: 16 runs of 4 conditions, ")
    assert sum(int(n) for n in re.findall(r"(\d+) (?:not_)?(?:converged|diverged)", said)) == 16
    part = results.of(results.conditions["condition"].head(1))
    assert repr(part) == f"Results({str(stored)!r}: 4 runs of 1 conditions)"
