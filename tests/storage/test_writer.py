"""The store: what is written, whose folder it is, and what happens when it is run again."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from changed import write_manifest
from refusals import refused
from tiny_folder import (
    CONDITIONS,
    SEEDS,
    STUDY,
    TABLES,
    WIDTH,
    chunks,
    contents,
    run,
)

import scaling_study
from scaling_study.files import checksum_of
from scaling_study.storage import reader as folder_of
from scaling_study.storage import writer as store
from scaling_study.storage.provenance import METADATA
from scaling_study.study.conditions import Chunk
from scaling_study.study.plan import plan
from scaling_study.study.study import parse

# What is written -----------------------------------------------------------------------------


def test_hyperparameters_are_columns_where_they_were_given(tmp_path):
    study = parse({**STUDY, "optimizer": ["sgd", {"name": "adam", "eps": [1e-3, 1e-7]}]})
    store.Store(tmp_path / "new", study, {}).begin(plan(study))
    table = pq.read_table(tmp_path / "new" / "conditions.parquet").to_pandas()
    eps = table.set_index("optimizer")["optimizer.eps"]
    assert eps["adam(eps=0.001)"].tolist() == [1e-3, 1e-3]
    assert eps["adam(eps=1e-07)"].tolist() == [1e-7, 1e-7]
    assert eps["sgd"].isna().all()


def test_none_is_text_to_any_reader(stored):
    table = pq.read_table(stored / "conditions.parquet")
    assert table["scaler"].to_pylist() == ["none", "none", "standard", "standard"]


def test_the_manifest_says_what_it_needs_to_be_repeated(stored, results):
    manifest = json.loads((stored / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["schema_version"] == 3
    assert {"jax", "numpy", "scaling-study"} <= manifest["packages"].keys()
    assert manifest["identity"]["platform"] == "cpu"
    assert results.study == parse(STUDY)


def test_no_temporary_file_is_left(stored):
    assert not [name for name in contents(stored) if "tmp" in name]


# The same bits ------------------------------------------------------------------------------


def test_another_folder_has_the_same_chunks_to_the_byte(stored, tmp_path):
    run(tmp_path / "again")
    assert chunks(tmp_path / "again") == chunks(stored)


def test_running_again_trains_nothing_and_changes_no_chunk(folder):
    before = chunks(folder)
    again = run(folder)
    assert again.manifest["summary"]["runs_trained"] == 0
    assert chunks(folder) == before


def test_a_lost_chunk_comes_back_the_same(folder):
    before = chunks(folder)
    (folder / sorted(before)[0]).unlink()
    run(folder)
    assert chunks(folder) == before


def interrupt(progress: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def interrupted(tmp_path) -> Path:
    """A folder whose run was stopped after its first chunk."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", on_progress=interrupt)
    return tmp_path / "stopped"


def test_an_interrupted_study_is_continued(interrupted, stored):
    assert len(chunks(interrupted)) == 1
    continued = run(interrupted)
    assert continued.manifest["summary"]["runs_trained"] == CONDITIONS * SEEDS // 2
    assert chunks(interrupted) == chunks(stored)
    assert len(continued.runs) == CONDITIONS * SEEDS


def test_an_interrupted_study_is_not_loaded(interrupted):
    refused(lambda: scaling_study.load(interrupted), str(interrupted), "interrupted")


def test_an_interrupted_study_is_not_taken_for_another(interrupted):
    before = contents(interrupted)
    refused(lambda: run(interrupted, {**STUDY, "name": "other"}), "name is tiny, not other")
    refused(lambda: run(interrupted, chunk_size=WIDTH), "chunk_size")
    assert contents(interrupted) == before


def test_seeds_that_were_never_trained_are_not_promised(interrupted):
    less = run(interrupted, seeds="0:2")
    assert less.study.seeds == (0, 2)
    assert len(less.runs) == CONDITIONS * 2


# Seeds --------------------------------------------------------------------------------------


def test_a_wider_range_adds_chunks_and_keeps_rows(folder, results):
    before = chunks(folder)
    wide = run(folder, seeds=f"0:{WIDTH + 4}")
    after = chunks(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 * len(before)
    assert len(wide.runs) == CONDITIONS * (WIDTH + 4)
    assert not wide.runs.duplicated(TABLES["runs"]).any()
    for table, key in TABLES.items():
        frame = getattr(wide, table)
        kept = frame[frame["seed"] < SEEDS].sort_values(key, ignore_index=True)
        expected = getattr(results, table).sort_values(key, ignore_index=True)
        pd.testing.assert_frame_equal(kept, expected)


def test_only_the_first_eight_seeds_are_traced(folder):
    wide = run(folder, seeds="0:20")
    assert set(wide.runs["seed"]) == set(range(20))
    assert set(wide.traces["seed"]) == set(range(8))


def test_a_narrower_range_loses_nothing(folder, results):
    narrow = run(folder, seeds="1:2")
    pd.testing.assert_frame_equal(narrow.runs, results.runs)


def test_rows_do_not_depend_on_which_seeds_were_asked_for(tmp_path, results):
    other = run(tmp_path / "other", seeds="2:6").runs
    key = TABLES["runs"]
    both = other[other["seed"] < SEEDS].sort_values(key, ignore_index=True)
    expected = results.runs[results.runs["seed"] >= 2].sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(both, expected)


def test_seeds_that_are_not_traced_have_an_empty_table_of_traces(tmp_path, results):
    late = run(tmp_path / "late", seeds=f"{WIDTH}:{WIDTH + 2}")
    assert len(late.runs) == CONDITIONS * 2
    assert len(late.traces) == 0
    assert late.traces.columns.tolist() == results.traces.columns.tolist()
    assert (late.traces.dtypes.drop("condition") == results.traces.dtypes.drop("condition")).all()


# Whose folder it is -------------------------------------------------------------------------

OTHERS = {
    "name is tiny, not other": {"name": "other"},
    "record is standard, not curves": {"record": "curves"},
    "blocks.main.learning_rate is [0.001], not [0.5]": {"learning_rate": 0.5},
    "blocks.main.epochs is [2], not [3]": {"epochs": 3},
    "blocks.main.scaler is ['none', 'standard'], not ['none', 'standard', 'robust']": {
        "scaler": ["none", "standard", "robust"]
    },
    "blocks.main.target_loss is ['none'], not [1.0]": {"target_loss": 1.0},
    "blocks.second is missing, not": {"blocks": {"main": {}, "second": {"epochs": 3}}},
}


@pytest.mark.parametrize("words", OTHERS)
def test_another_study_is_refused_with_what_differs(words, folder):
    before = contents(folder)
    refused(lambda: run(folder, {**STUDY, **OTHERS[words]}), str(folder), words)
    assert contents(folder) == before


def test_another_chunk_size_is_refused(folder):
    before = contents(folder)
    refused(lambda: run(folder, chunk_size=WIDTH), str(folder), "chunk_size is None, not 256")
    assert contents(folder) == before


def test_other_versions_are_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["identity"]["packages"]["numpy"] = "1.0.0"
    write_manifest(folder, manifest)
    before = contents(folder)
    refused(lambda: run(folder), str(folder), "packages.numpy is 1.0.0, not")
    assert contents(folder) == before


@pytest.mark.parametrize("key", ["title", "description"])
def test_words_are_not_part_of_what_a_study_is(key, folder, results):
    again = run(folder, {**STUDY, key: "other words"})
    pd.testing.assert_frame_equal(again.runs, results.runs)
    assert getattr(again.study, key) == "other words"


def test_overwrite_replaces_another_study(folder):
    study = {**STUDY, "name": "other", "optimizer": "sgd"}
    replaced = run(folder, study, overwrite=True)
    assert replaced.study == parse(study)
    assert len(replaced.runs) == 2 * SEEDS
    assert set(replaced.runs["optimizer"]) == {"sgd"}
    assert len(chunks(folder)) == 1
    pd.testing.assert_frame_equal(scaling_study.load(folder).runs, replaced.runs)


def test_overwrite_trains_the_same_study_again(folder):
    before = chunks(folder)
    again = run(folder, overwrite=True)
    assert again.manifest["summary"]["runs_trained"] == CONDITIONS * SEEDS
    assert chunks(folder) == before


def test_overwrite_leaves_a_users_own_files_alone(folder):
    own = ["notes.md", "mine.toml", "report/figure.pdf", "chunks/notes.csv"]
    (folder / "report").mkdir()
    for name in own:
        (folder / name).write_text("mine", encoding="utf-8")
    run(folder, overwrite=True)
    for name in own:
        assert (folder / name).read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_refused(tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    refused(lambda: run(tmp_path, overwrite=overwrite), str(tmp_path))
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("below", [[], ["deeper"], ["deeper", "still"]])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path, below, overwrite):
    (tmp_path / "file").write_text("a file, no folder", encoding="utf-8")
    output = tmp_path.joinpath("file", *below)
    refused(lambda: run(output, overwrite=overwrite), str(output))
    assert contents(tmp_path) == {"file": b"a file, no folder"}


def test_a_study_that_is_wrong_leaves_no_folder(tmp_path):
    for wrong in ({"optimizer": "adm"}, {"model": "lineer"}, {"seeds": "3:1"}, {"updates": 7}):
        refused(lambda wrong=wrong: run(tmp_path / "new", {**STUDY, **wrong}))
    assert not (tmp_path / "new").exists()


FOREIGN = {
    "manifest.json": ['{"name": "my app", "icons": []}', '{"schema_version": 3}', "[]", "{"],
    "study.toml": ['name = "tiny"\n', "# my notes\n", ""],
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(("name", "text"), [(n, text) for n in FOREIGN for text in FOREIGN[n]])
def test_a_file_of_ours_by_its_name_alone_is_not_replaced(tmp_path, name, text, overwrite):
    (tmp_path / name).write_text(text, encoding="utf-8")
    refused(lambda: run(tmp_path, overwrite=overwrite), str(tmp_path), "choose another")
    assert contents(tmp_path) == {name: text.encode()}


@pytest.mark.parametrize("name", ["manifest.json", "study.toml"])
@pytest.mark.parametrize("change", ["lost", "cut", "edited"])
def test_a_run_of_the_same_study_mends_what_names_its_chunks_and_keeps_them(folder, name, change):
    before = contents(folder)
    text = (folder / name).read_text(encoding="utf-8")
    edited = {"lost": None, "cut": text[:60], "edited": text.replace("tiny", "tinx")}[change]
    if edited is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(edited, encoding="utf-8")
    for read in (folder_of.status, scaling_study.load):
        message = refused(lambda read=read: read(folder), str(folder))
        assert "--overwrite" not in message
    assert run(folder).manifest["summary"]["runs_trained"] == 0
    after = contents(folder)
    assert after["study.toml"] == before["study.toml"]
    assert chunks(folder) == {name: before[name] for name in chunks(folder)}
    assert folder_of.status(folder).complete


@pytest.mark.parametrize("name", ["manifest.json", "study.toml"])
def test_another_study_does_not_mend_what_names_chunks(folder, name):
    (folder / name).write_text("{", encoding="utf-8")
    before = contents(folder)
    message = refused(lambda: run(folder, {**STUDY, "epochs": 3}), name)
    assert "--overwrite" not in message
    assert contents(folder) == before
    assert run(folder, overwrite=True).statuses


def test_a_lost_manifest_is_not_made_again_over_chunks_of_another_make(folder):
    (folder / "manifest.json").unlink()
    file = sorted((folder / "chunks").iterdir())[0]
    table = pq.read_table(file)
    made = json.loads(table.schema.metadata[METADATA])
    made["packages"]["jax"] = "0.1"
    other = table.replace_schema_metadata({METADATA: json.dumps(made)})
    sink = io.BytesIO()
    pq.write_table(other, sink)
    chunk = file.stem.rpartition("-")[0]
    file.unlink()
    name = f"{chunk}-{checksum_of(sink.getvalue())}.parquet"
    (file.parent / name).write_bytes(sink.getvalue())
    before = contents(folder)
    refused(lambda: run(folder), name, "manifest.json", "packages.jax is 0.1")
    assert contents(folder) == before


def test_chunks_that_nobody_can_name_say_what_to_do(folder):
    for name in ("manifest.json", "study.toml"):
        (folder / name).unlink()
    before = contents(folder)
    refused(lambda: run(folder), str(folder), "not a results folder; choose another")
    assert contents(folder) == before


NOT_OURS = [
    "chunks/2024-01-02-sales.parquet",
    "chunks/000-0000-000000-short.parquet",
    "chunks/000-0000-000000-0123456789ABCDEF.parquet",
    "chunks/.mine.tmp",
    ".notes.tmp",
    ".2024-01-02-sales.parquet.tmp",
]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_we_would_not_have_written_is_left_alone(folder, overwrite):
    for name in NOT_OURS:
        (folder / name).write_text("mine", encoding="utf-8")
    run(folder, overwrite=overwrite)
    for name in NOT_OURS:
        assert (folder / name).read_text(encoding="utf-8") == "mine"
    assert folder_of.status(folder).complete


def test_a_folder_of_somebodys_chunks_is_no_studys(tmp_path):
    (tmp_path / "chunks").mkdir()
    (tmp_path / "chunks" / "sales.parquet").write_text("mine")
    refused(lambda: run(tmp_path), "choose another")


def test_a_lock_that_is_a_link_leads_nowhere(folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    (folder / ".lock").symlink_to(tmp_path / "thesis.txt")
    refused(lambda: run(folder), ".lock", "link")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert not folder_of.status(folder).in_use
    (folder / ".lock").unlink()
    (folder / ".lock").mkdir()
    refused(lambda: run(folder), ".lock")


@pytest.mark.parametrize("overwrite", [False, True])
def test_chunks_that_are_a_link_are_refused(folder, tmp_path, overwrite):
    elsewhere = tmp_path / "elsewhere"
    (folder / "chunks").rename(elsewhere)
    (folder / "chunks").symlink_to(elsewhere)
    before = contents(elsewhere)
    refused(lambda: run(folder, overwrite=overwrite), str(folder), "chunks is a link")
    assert contents(elsewhere) == before


@pytest.mark.parametrize("rows", [b"", b"garbage"])
def test_what_a_client_returns_that_is_no_chunk_is_not_written(folder, rows):
    study = scaling_study.load(folder).study
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    before = chunks(folder)
    with store.Store(folder, study, manifest["identity"]) as kept:
        kept.begin(plan(study))
        refused(lambda: kept.put(Chunk(0, 0, 0), rows), str(folder), "000-0000-000000")
    assert chunks(folder) == before


def test_a_name_that_is_too_long_is_one_line(tmp_path):
    long = tmp_path / ("x" * 300)
    for call in (run, folder_of.status, scaling_study.load):
        refused(lambda call=call: call(long), "name too long")
