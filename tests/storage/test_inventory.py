"""The inventory: a file that is not the chunk of its name is reported, and made again."""

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changed import write_manifest
from refusals import refused
from tiny_folder import STUDY, TABLES, chunks, run

import scaling_study
from scaling_study.files import checksum_of
from scaling_study.storage import reader as folder_of
from scaling_study.storage.provenance import METADATA

# Two groups of two blocks of conditions each, and two blocks of seeds: eight chunks.
WIDE: dict[str, Any] = {**STUDY, "seeds": "0:260", "scale_factor": [1.0, 1000.0]}
SIZE = 512  # runs of a chunk: 2 conditions by 256 seeds
CHUNKS, RUNS = 8, 8 * 260


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Results that no test may change."""
    folder = tmp_path_factory.mktemp("stock") / "tiny"
    run(folder, WIDE, chunk_size=SIZE)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Results of another study, of the same groups and shapes."""
    folder = tmp_path_factory.mktemp("others") / "tiny"
    run(folder, {**WIDE, "learning_rate": 0.5}, chunk_size=SIZE)
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def files(folder: Path) -> dict[str, Path]:
    """Return a folder's files by their chunk."""
    return {file.stem.rpartition("-")[0]: file for file in sorted((folder / "chunks").iterdir())}


def put(folder: Path, chunk: str, data: bytes) -> Path:
    """Write bytes as a chunk, under the checksum that they have."""
    file = folder / "chunks" / f"{chunk}-{checksum_of(data)}.parquet"
    file.write_bytes(data)
    return file


def rewritten(data: bytes, change: Callable[[pa.Table], pa.Table]) -> bytes:
    """Return a chunk with another table in it."""
    sink = io.BytesIO()
    pq.write_table(change(pq.read_table(io.BytesIO(data))), sink)
    return sink.getvalue()


def made(**changes: Any) -> Callable[[pa.Table], pa.Table]:
    """Return a change of who made a chunk."""

    def change(table: pa.Table) -> pa.Table:
        own = json.loads(table.schema.metadata[METADATA])
        for key, value in changes.items():
            own[key] = {**own[key], **value} if isinstance(value, dict) else value
        return table.replace_schema_metadata({METADATA: json.dumps(own)})

    return change


def reversed_rows(table: pa.Table) -> pa.Table:
    return table.take(np.arange(len(table))[::-1])


def shifted_seeds(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("seed")
    return table.set_column(place, "seed", pa.array(table["seed"].to_numpy() + 1))


SWAPS = {
    "a neighbour of other seeds": "001-0000-000001",
    "a neighbour of other conditions": "001-0001-000000",
    "a chunk of another group": "000-0000-000000",
    "a chunk of another study": None,
    "another platform": made(platform="tpu"),
    "another release of JAX": made(packages={"jax": "0.1"}),
    "another source": made(source="0" * 12),
    "another environment": made(environment={"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}),
    "another program": made(program="0" * 12),
    "rows in another order": reversed_rows,
    "other seeds": shifted_seeds,
}
CHUNK = "001-0000-000000"


def swapped(how: str, folder: Path, others: Path) -> bytes:
    """Return what stands in for the chunk."""
    swap = SWAPS[how]
    if callable(swap):
        return rewritten(files(folder)[CHUNK].read_bytes(), swap)
    return files(others if swap is None else folder)[swap or CHUNK].read_bytes()


@pytest.mark.sweep(6)
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("how", SWAPS)
def test_a_chunk_that_is_not_what_its_name_says_is_named_and_made_again(
    how, finished, whole, copy, others
):
    data = swapped(how, copy, others)
    files(copy)[CHUNK].unlink()
    file = put(copy, CHUNK, data)
    if not finished:
        manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
        kept = ("schema_version", "identity", "groups", "files", "programs")
        write_manifest(copy, {key: manifest[key] for key in kept})
    found = folder_of.status(copy)
    assert found.damaged == [file.name]
    assert len(found.done) == CHUNKS - 1
    assert not found.complete
    refused(lambda: scaling_study.load(copy).runs, str(copy))
    again = run(copy, WIDE, chunk_size=SIZE)
    assert again.manifest["summary"]["chunks_damaged"] == 1
    assert chunks(copy) == chunks(whole)
    assert not again.runs.duplicated(TABLES["runs"]).any()
    assert len(again.runs) == RUNS


@pytest.mark.parametrize("how", SWAPS)
def test_load_reads_no_chunk_that_a_manifest_lists_and_the_plan_does_not_know(how, copy, others):
    data = swapped(how, copy, others)
    before = files(copy)[CHUNK]
    before.unlink()
    file = put(copy, CHUNK, data)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["chunks"] = [file.name if name == before.name else name for name in manifest["chunks"]]
    write_manifest(copy, manifest)
    refused(lambda: scaling_study.load(copy).runs, file.name, "mismatched")


@pytest.mark.parametrize("finished", [True, False])
def test_of_two_files_of_one_chunk_the_one_that_is_listed_is_kept(finished, whole, copy):
    first = files(copy)[CHUNK]
    second = put(copy, CHUNK, rewritten(first.read_bytes(), lambda table: table))
    if not finished:
        manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
        del manifest["chunks"]
        write_manifest(copy, manifest)
    found = folder_of.status(copy)
    named = [second.name] if finished else sorted([first.name, second.name])
    assert found.damaged == named
    assert all("mismatched" in fault for fault in found.faults)
    again = run(copy, WIDE, chunk_size=SIZE)
    assert chunks(copy) == chunks(whole)
    assert again.manifest["summary"]["runs_trained"] == (0 if finished else SIZE)
    assert len(again.runs) == RUNS


def test_a_manifest_that_lists_two_files_of_one_chunk_is_refused(copy):
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    name = manifest["chunks"][0]
    manifest["chunks"].append(name.replace(name[16:20], "0000"))
    write_manifest(copy, manifest)
    refused(lambda: scaling_study.load(copy), "more than one file of chunk", name[:15])


def test_chunks_of_every_pair_swapped_are_all_made_again(whole, copy):
    data = {chunk: file.read_bytes() for chunk, file in files(copy).items()}
    for file in files(copy).values():
        file.unlink()
    names = sorted(data)
    for chunk, other in zip(names, [*names[1:], names[0]], strict=True):
        put(copy, chunk, data[other])
    assert len(folder_of.status(copy).damaged) == CHUNKS
    run(copy, WIDE, chunk_size=SIZE)
    assert chunks(copy) == chunks(whole)


# Every file has a checksum --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["study.toml", "manifest.json", "conditions.parquet"])
def test_a_bit_that_changed_in_any_file_is_told_and_mended_without_training(name, whole, tmp_path):
    for copy in range(12):
        folder = Path(shutil.copytree(whole, tmp_path / str(copy)))
        data = bytearray((folder / name).read_bytes())
        place = random.choice([i for i, byte in enumerate(data) if byte not in b"eE"])
        data[place] ^= 1 << random.randrange(8)  # but 1E-7 is the same number as 1e-7
        (folder / name).write_bytes(data)
        try:
            assert folder_of.status(folder).damaged == [name]
        except scaling_study.StudyError as error:
            assert name in str(error)  # noqa: PT017
            assert "--overwrite" not in str(error)  # noqa: PT017
        again = run(folder, WIDE, chunk_size=SIZE)
        assert again.manifest["summary"]["runs_trained"] == 0
        assert chunks(folder) == chunks(whole)
        assert (folder / "study.toml").read_bytes() == (whole / "study.toml").read_bytes()


@pytest.mark.parametrize("key", [b'"schema_version"', b'"identity"', b'"study"', b'"chunks"'])
def test_a_key_that_changed_in_the_manifest_is_mended_without_training(key, copy, whole):
    data = (copy / "manifest.json").read_bytes()
    assert key in data
    (copy / "manifest.json").write_bytes(data.replace(key, key[:-2] + b'z"', 1))
    again = run(copy, WIDE, chunk_size=SIZE)
    assert again.manifest["summary"]["runs_trained"] == 0
    assert chunks(copy) == chunks(whole)


def test_an_edited_study_is_told_and_no_advice_discards_its_results(copy):
    text = (copy / "study.toml").read_text(encoding="utf-8")
    edited = text.replace("1000.0", "5000.0")
    assert edited != text
    (copy / "study.toml").write_text(edited, encoding="utf-8")
    for read in (folder_of.status, scaling_study.load):
        message = refused(lambda read=read: read(copy), "study.toml", "edited", "undo the change")
        assert "--overwrite" not in message
    other = {**WIDE, "scale_factor": [1.0, 5000.0]}
    refused(lambda: run(copy, other, chunk_size=SIZE), "study.toml", "edited")
    (copy / "study.toml").write_text(text, encoding="utf-8")
    assert folder_of.status(copy).complete
