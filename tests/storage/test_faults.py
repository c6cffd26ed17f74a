"""What goes wrong on a real machine: each is told in a line, and nothing is lost by it."""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pandas as pd
import pytest
import tomli_w
from changed import write_study
from processes import command
from sklearn.preprocessing import StandardScaler

import scaling_study
from scaling_study.engine import cache, chunk, compiling
from scaling_study.errors import CodeError, RunInterrupted, StudyError
from scaling_study.files import checksum_of
from scaling_study.storage import reader as folder_of
from scaling_study.storage import writer as store
from scaling_study.storage.inventory import read_chunk_provenance
from scaling_study.study import problems
from scaling_study.study.conditions import Chunk

STUDY: dict[str, Any] = {
    "name": "tiny",
    "scale_factor": 1000.0,
    "scaler": ["none", "standard"],
    "epochs": 2,
    "seeds": "0:600",  # chunks of 256 seeds
    "blocks": {"linear": {"optimizer": ["adam", "sgd"]}},
}
CHUNKS = 6


def run(folder: Path, study: dict[str, Any] = STUDY, **more: Any) -> scaling_study.Results:
    return scaling_study.run(study, output_dir=folder, **{"devices": 1, **more})


def chunks(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "chunks").iterdir())}


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """Results that no test may change."""
    folder = tmp_path_factory.mktemp("faults") / "tiny"
    run(folder)
    return folder


@pytest.fixture
def folder(stored, tmp_path) -> Path:
    """A copy of the results, to be damaged."""
    return Path(shutil.copytree(stored, tmp_path / "copy"))


@pytest.fixture
def study_file(tmp_path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(tomli_w.dumps(STUDY), encoding="utf-8")
    return file


# Damage -------------------------------------------------------------------------------------


def flip(data: bytes) -> bytes:
    """Change one bit, somewhere."""
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


DAMAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: random.randrange(1, len(data))],
    "one bit": flip,
    "longer": lambda data: data + b"\0",
    "another chunk's": None,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_chunk_is_told_and_trained_again(how, folder, stored):
    file, other = sorted((folder / "chunks").iterdir())[:2]
    change = DAMAGE[how]
    file.write_bytes(change(file.read_bytes()) if change else other.read_bytes())
    found = folder_of.status(folder)
    assert found.damaged == [file.name]
    assert len(found.done) == CHUNKS - 1
    assert not found.complete
    assert str(file.name) in "\n".join(found.lines())
    again = run(folder)
    assert again.manifest["summary"]["chunks_damaged"] == 1
    assert 0 < again.manifest["summary"]["runs_trained"] <= 2 * 256
    assert chunks(folder) == chunks(stored)
    assert folder_of.status(folder).complete


def test_a_bit_that_changed_is_never_read_as_a_number(stored, tmp_path):
    for copy in range(20):
        folder = Path(shutil.copytree(stored, tmp_path / str(copy)))
        file = random.choice(sorted((folder / "chunks").iterdir()))
        file.write_bytes(flip(file.read_bytes()))
        with pytest.raises(StudyError, match=f"{file.name}: damaged; run its study again"):
            scaling_study.load(folder).runs  # noqa: B018


def test_a_lost_chunk_is_missing(folder, stored):
    file = sorted((folder / "chunks").iterdir())[-1]
    file.unlink()
    found = folder_of.status(folder)
    assert found.missing == [file.name.rpartition("-")[0]]
    assert (found.chunks, len(found.done), found.runs) == (CHUNKS, CHUNKS - 1, 4 * 600)
    assert found.runs_done == 4 * 600 - 2 * (600 - 512)
    run(folder)
    assert chunks(folder) == chunks(stored)


def test_a_narrower_run_mends_all_that_the_folder_promises(folder, stored):
    file = sorted((folder / "chunks").iterdir())[-1]
    file.write_bytes(file.read_bytes()[:100])
    narrow = run(folder, seeds="0:100")
    assert narrow.study.seeds == (0, 600)
    assert len(narrow.runs) == narrow.manifest["summary"]["runs"] == 4 * 600
    assert narrow.manifest["summary"]["chunks_damaged"] == 1
    assert narrow.manifest["summary"]["runs_trained"] == 2 * (600 - 512)
    assert chunks(folder) == chunks(stored)


def test_an_interrupted_narrower_run_is_continued_by_the_same_command(folder, stored):
    for file in sorted((folder / "chunks").iterdir())[1:]:
        file.unlink()

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, seeds="0:100", on_progress=interrupt)
    assert not folder_of.status(folder).complete
    assert run(folder, seeds="0:100").study.seeds == (0, 600)
    assert chunks(folder) == chunks(stored)


def test_a_damaged_chunk_that_is_not_asked_for_is_left_and_not_told_as_trained(folder):
    first = sorted((folder / "chunks").iterdir())[0]
    first.write_bytes(b"half")
    other = run(folder, seeds="1000:1010")
    assert first.read_bytes() == b"half"
    assert other.manifest["summary"]["chunks_damaged"] == 0
    assert len(other.runs) == 4 * 10
    assert folder_of.status(folder).complete


@pytest.mark.parametrize("data", [b"", b"1234567", b"PAR1PAR1"])
def test_what_is_no_chunk_under_a_right_checksum_is_trained_again(data, folder, stored):
    file = sorted((folder / "chunks").iterdir())[0]
    wrong = file.with_name(f"{file.stem[:15]}-{checksum_of(data)}.parquet")
    file.rename(wrong).write_bytes(data)
    assert folder_of.status(folder).damaged == [wrong.name]
    run(folder)
    assert chunks(folder) == chunks(stored)


def test_chunks_that_cannot_be_listed_are_not_told_as_missing(folder):
    shutil.rmtree(folder / "chunks")
    (folder / "chunks").write_text("a file, no folder")
    for call in (folder_of.status, run):
        with pytest.raises(StudyError, match=r"chunks: Not a directory|cannot be written"):
            call(folder)


FITS: dict[str, Any] = {
    **STUDY,
    "seeds": "0:3",
    "estimators": {"a": {"dataset": "wine", "estimator": "knn"}},
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fits") / "tiny"
    run(folder, FITS)
    return folder


def other_numbers(data: bytes) -> bytes:
    """Return the same table with one column of other values, as whole a file as before."""
    frame = pd.read_parquet(io.BytesIO(data))
    numbers = frame.select_dtypes("number").columns[0]
    return frame.assign(**{numbers: frame[numbers] + 1}).to_parquet()


@pytest.mark.parametrize("name", ["estimators.parquet", "conditions.parquet"])
@pytest.mark.parametrize("change", [lambda data: b"", flip, other_numbers])
def test_a_damaged_table_is_told_and_made_again(name, change, fitted, tmp_path):
    folder = Path(shutil.copytree(fitted, tmp_path / "copy"))
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(change(before))
    found = folder_of.status(folder)
    assert (found.damaged, found.complete) == ([name], False)
    with pytest.raises(StudyError, match=f"{name}: .*; run its study again"):
        getattr(scaling_study.load(folder), name.removesuffix(".parquet"))
    assert run(folder, FITS).manifest["summary"]["runs_trained"] == 0
    assert (folder / name).read_bytes() == before
    assert folder_of.status(folder).complete


def test_fits_are_kept_with_their_checksum_when_seeds_are_added(fitted, tmp_path):
    folder = Path(shutil.copytree(fitted, tmp_path / "copy"))
    (folder / "estimators.parquet").unlink()
    assert folder_of.status(folder).fits_missing == 3
    run(folder, FITS)
    run(folder, FITS, seeds="0:4")
    assert len(scaling_study.load(folder).estimators) == 2 * 4
    assert folder_of.status(folder).complete


@pytest.mark.parametrize(
    "left",
    [
        [".study.toml.tmp"],
        ["manifest.json"],
        ["manifest.json", "study.toml"],
        [".lock"],
        ["study.toml"],
    ],
    ids=str,
)
def test_a_run_killed_before_its_first_chunk_is_begun_again(left, stored, tmp_path):
    folder = tmp_path / "begun"
    folder.mkdir()
    for name in left:
        source = stored / name
        (folder / name).write_bytes(source.read_bytes() if source.exists() else b"half")
    run(folder)
    assert chunks(folder) == chunks(stored)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_what_a_killed_write_left_is_removed(folder, stored):
    (folder / "chunks" / ".000-0000-000000-0123456789abcdef.parquet.tmp").write_bytes(b"half")
    (folder / ".manifest.json.tmp").write_bytes(b"half")
    run(folder)
    assert chunks(folder) == chunks(stored)
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


# Whose it is --------------------------------------------------------------------------------


def test_a_chunk_says_who_made_it(stored):
    file = sorted((stored / "chunks").iterdir())[0]
    made = read_chunk_provenance(file)
    assert made["schema_version"] == 3
    assert made["packages"]["jax"] == jax.__version__
    assert made["failures"] == []
    assert len(made["program"]) == 12


@pytest.mark.parametrize("key", ["source", "platform", "packages.numpy"])
def test_a_chunk_of_another_make_is_refused(key, stored, tmp_path):
    file = sorted((stored / "chunks").iterdir())[0]
    study = scaling_study.load(stored).study
    identity = json.loads((stored / "manifest.json").read_text())["identity"]
    place, _, inner = key.partition(".")
    identity[place] = {**identity[place], inner: "0"} if inner else "other"
    with store.Store(tmp_path / "new", study, identity) as kept:
        (tmp_path / "new" / "chunks").mkdir()
        name = file.name.rpartition("-")[0]
        with pytest.raises(StudyError, match=f"another environment .*{key}"):
            kept.put(Chunk.parse(name), file.read_bytes())
        assert not list((tmp_path / "new" / "chunks").iterdir())


OWN = """
import optax
def factory(learning_rate):
    return optax.sgd({factor} * learning_rate)
"""


def test_code_that_has_changed_is_another_study(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    own = tmp_path / "changing_optimizer.py"
    study = {**STUDY, "seeds": "0:2", "blocks": {"a": {"optimizer": "changing_optimizer:factory"}}}
    file = tmp_path / "own.toml"
    file.write_text(tomli_w.dumps(study))
    arguments = ["run", str(file), "--allow-code", "-q", "-o", "own", "--devices", "1"]
    for factor in (1, 2):
        own.write_text(OWN.format(factor=factor))
        done = command(*arguments, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
        if factor == 1:
            assert (done.returncode, done.stderr) == (0, "")
    assert done.returncode == 2
    assert "code.changing_optimizer:factory is" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_program_that_has_changed_adds_nothing_to_a_group(folder, monkeypatch):
    before = chunks(folder)
    monkeypatch.setattr(compiling, "_digest", lambda text: "another")
    monkeypatch.setattr(compiling, "_programs", {})
    with pytest.raises(StudyError, match="the program of group 0 is another, not"):
        run(folder, seeds="0:800")
    assert chunks(folder) == before


# One writer ---------------------------------------------------------------------------------


def test_a_second_run_is_refused_while_the_first_writes(tmp_path, stored):
    told: list[str] = []

    def second(_: Any) -> None:
        if not told:
            with pytest.raises(StudyError, match="in use by another run") as caught:
                run(tmp_path / "one", overwrite=random.choice([True, False]))
            told.append(str(caught.value))
            assert folder_of.status(tmp_path / "one").in_use

    run(tmp_path / "one", on_progress=second)
    assert f"process {os.getpid()}" in told[0]
    assert not folder_of.status(tmp_path / "one").in_use
    assert chunks(tmp_path / "one") == chunks(stored)


# Conditions that fail -----------------------------------------------------------------------


class Fragile(StandardScaler):
    """A user's own scaler, which cannot take large numbers."""

    def fit(self, X, y=None, sample_weight=None):
        if np.abs(X).max() > 100:
            raise ValueError("too\nlarge")
        return super().fit(X, y, sample_weight)


def sometimes(**_):
    """A user's own problem, which cannot be drawn for every seed."""
    whole = problems.uniform()

    def draw(seed):
        if seed == 40:
            raise RuntimeError(f"no data for {seed}")
        return whole.draw(seed)

    return whole._replace(draw=draw)


def test_a_condition_that_raises_fails_alone(tmp_path):
    study = {
        **STUDY,
        "seeds": "0:3",
        "scale_factor": [1.0, 1000.0, 10.0],
        "scaler": "test_faults:Fragile",
        "blocks": {"a": {}},
    }
    reasons: list[str] = []
    found = run(tmp_path / "some", study, on_progress=lambda told: reasons.extend(told.failures))
    assert len(reasons) == 1
    assert "ValueError" in reasons[0] or "too large" in reasons[0]
    assert found.manifest["summary"]["failures"] == reasons
    failed = found.runs["status"] == "failed"
    assert set(found.runs.loc[failed, "scale_factor"]) == {1000.0}
    assert failed.sum() == 3
    assert found.runs.loc[failed, "final_loss"].isna().all()
    assert found.features.loc[found.features["scale_factor"] == 1000.0, "weight"].isna().all()
    # Its neighbours are what they are without it.
    alone = run(tmp_path / "alone", {**study, "scale_factor": [1.0, 3.0, 10.0]})
    key = ["scale_factor", "seed"]
    kept, same = (
        frame[frame["scale_factor"].isin([1.0, 10.0])]
        .astype({"scale_factor": float})
        .sort_values(key)[[*key, "final_loss", "status"]]
        .reset_index(drop=True)
        for frame in (found.runs, alone.runs)
    )
    pd.testing.assert_frame_equal(kept, same)


def test_seeds_that_cannot_be_drawn_fail_with_their_chunk_alone(tmp_path):
    model = {"name": "mlp", "hidden": 2}  # chunks of 32 seeds
    study = {**STUDY, "seeds": "0:96", "problem": "test_faults:sometimes", "scale_factor": 1.0}
    found = run(tmp_path / "some", {**study, "blocks": {"a": {"model": model}}})
    lost = found.runs[found.runs["status"] == "failed"]
    assert set(lost["seed"]) == set(range(32, 64))
    assert set(lost["reason"].astype(str)).pop().endswith("RuntimeError: no data for 40")
    assert len(found.runs) == 2 * 96


def broken(learning_rate):
    """A user's own optimizer that fails when it is built."""
    raise RuntimeError("not today")


@pytest.mark.parametrize("fail_fast", [False, True])
def test_fail_fast_stops_at_the_first_failure(fail_fast, tmp_path):
    study = {**STUDY, "blocks": {"a": {"optimizer": ["test_faults:broken", "sgd"]}}}
    if not fail_fast:
        assert set(run(tmp_path / "all", study).statuses) > {"failed"}
        return
    with pytest.raises(RunInterrupted, match=r"--fail-fast: .*test_faults:broken fails"):
        run(tmp_path / "first", study, fail_fast=True)
    assert folder_of.status(tmp_path / "first").missing
    status = run(tmp_path / "first", study).statuses
    assert status["failed"] == 2 * 600
    assert sum(status.values()) == 4 * 600


FLAKY: list[str] = []  # what goes wrong


def flaky(learning_rate):
    """A user's own optimizer, which fails as long as something is wrong."""
    if FLAKY:
        raise RuntimeError(FLAKY[0])
    return optax.sgd(learning_rate)


@pytest.fixture
def wrong(monkeypatch):
    monkeypatch.setattr(compiling, "_programs", {})
    FLAKY[:] = ["a library is not there"]
    yield
    FLAKY.clear()


def test_runs_that_failed_are_counted_apart_and_tried_again(wrong, tmp_path):
    study = {**STUDY, "blocks": {"a": {"optimizer": ["test_faults:flaky", "sgd"]}}}
    first = run(tmp_path / "some", study)
    assert first.statuses["failed"] == 2 * 600
    found = folder_of.status(tmp_path / "some")
    assert (found.complete, found.runs_failed, found.damaged) == (True, 2 * 600, [])
    assert any("1,200 runs, which the next run tries again" in line for line in found.lines())
    kept = chunks(tmp_path / "some")
    # As long as they fail they are what they were; those that did not are not trained again.
    again = run(tmp_path / "some", study)
    assert again.manifest["summary"]["runs_trained"] == 2 * 600
    assert chunks(tmp_path / "some") == kept
    FLAKY.clear()
    compiling._programs.clear()
    mended = run(tmp_path / "some", study)
    assert "failed" not in mended.statuses
    assert mended.manifest["summary"]["failures"] == []
    assert len(mended.runs) == 4 * 600
    assert len(chunks(tmp_path / "some")) == len(kept)
    assert folder_of.status(tmp_path / "some").runs_failed == 0


# Memory and disk ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")]
)
@pytest.mark.parametrize("where", ["compiling", "training"])
def test_too_little_memory_says_which_chunk_size_to_try(error, where, tmp_path, monkeypatch):
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(compiling, "_programs", {})
    place = (compiling, "_compile") if where == "compiling" else (chunk, "_train")
    monkeypatch.setattr(*place, fails)
    with pytest.raises(RunInterrupted, match=r"chunk of 512 runs; try --chunk-size 256"):
        run(tmp_path / "large")
    monkeypatch.undo()
    assert chunks(tmp_path / "large") == {}
    assert run(tmp_path / "large").statuses


def test_a_chunk_that_no_machine_could_hold_is_refused_before_it_is_drawn(tmp_path):
    study = {**STUDY, "sampling": "replacement", "batch_size": 2**31 - 1}
    with pytest.raises(StudyError, match=r"blocks.linear: a chunk would need about [\d,]+ GB"):
        run(tmp_path / "never", study)
    assert not (tmp_path / "never").exists()


@contextmanager
def tiny_disk(folder: Path, size: str):
    """A file system of its own, so large and no larger."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path, stored, study_file):
    size = sum(len(data) for data in chunks(stored).values())
    with tiny_disk(tmp_path / "disk", f"{size // 2 // 1024}k"):
        arguments = ["run", str(study_file), "-q", "-o", "disk/tiny", "--devices", "1"]
        done = command(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "No space left on device" in line
        found = folder_of.status(tmp_path / "disk" / "tiny")
        assert not found.damaged
        assert 0 < len(found.done) < CHUNKS
        shutil.copytree(tmp_path / "disk" / "tiny", tmp_path / "roomy")
    arguments[arguments.index("disk/tiny")] = "roomy"
    assert command(*arguments, cwd=tmp_path).returncode == 0
    assert chunks(tmp_path / "roomy") == chunks(stored)


# The compilation cache ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"half", zlib.compress(b"no program"), "folder"])
def test_an_unreadable_cache_entry_is_deleted_and_compiled_again(damage, tmp_path, study_file):
    places = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    environment = {**places, "JAX_ENABLE_COMPILATION_CACHE": "true"}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    arguments = ["run", str(study_file), "-q", "--devices", "1", "--seeds", "0:2"]
    mended = damage in (b"", b"half")
    for again in range(2):
        done = command(*arguments, "-o", str(again), cwd=tmp_path, env=environment)
        assert done.returncode == 0
        assert ("compiles without it" in done.stderr) == (bool(again) and not mended)
        assert len(done.stderr.splitlines()) <= 1
        entries = sorted((tmp_path / "cache").glob("jit_*-cache"))
        assert entries
        if again:
            break
        for entry in entries:
            spoil(entry, damage)
    assert chunks(tmp_path / "0") == chunks(tmp_path / "1")
    if mended:
        assert all(cache._is_whole(entry.read_bytes()) for entry in entries)


@pytest.mark.slow
def test_curves_are_trained_with_a_truncated_cache(tmp_path, study_file):
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    settings = ["-q", "--devices", "1", "--seeds", "0:2", "--set", "record=curves"]
    for again in range(2):
        arguments = ["run", str(study_file), *settings, "-o", str(again)]
        done = command(*arguments, cwd=tmp_path, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        entries = sorted((tmp_path / "cache").glob("jit_*-cache"))
        for entry in entries:
            spoil(entry, b"half")
    assert any("of_tile" in entry.name for entry in entries)  # that draws initial parameters


def spoil(entry: Path, damage: bytes | str) -> None:
    """Leave something else, or a part of it, in the place of a file."""
    whole = entry.read_bytes()
    if damage == "folder":
        entry.unlink()
        entry.mkdir()
    else:
        entry.write_bytes(whole[: len(whole) // 2] if damage == b"half" else damage)


# Code ---------------------------------------------------------------------------------------

TOUCH = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
def factory(*_, **__): raise RuntimeError
"""
PLACES = {
    "problem": {"problem": "touching:factory"},
    "scaler": {"scaler": "touching:factory"},
    "target_scaler": {"target_scaler": "touching:factory"},
    "model": {"model": {"name": "touching:factory", "x": 1}},
    "optimizer": {"blocks": {"a": {"optimizer": ["sgd", "touching:factory"]}}},
    "estimator": {
        "estimators": {"a": {"dataset": "wine", "estimator": "touching:factory"}},
    },
}


@pytest.fixture
def touching(tmp_path, monkeypatch) -> Path:
    """A module that leaves a mark when it is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "touching", raising=False)
    (tmp_path / "touching.py").write_text(TOUCH)
    return tmp_path / "imported"


@pytest.mark.parametrize("place", PLACES)
def test_code_in_a_study_file_is_not_imported_unless_it_is_allowed(place, touching, tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(tomli_w.dumps({"name": "x", **PLACES[place]}))
    with pytest.raises(CodeError, match=r"touching:factory.*--allow-code"):
        scaling_study.run(file, output_dir=tmp_path / "results")
    assert not touching.exists()
    assert not (tmp_path / "results").exists()
    with suppress(StudyError):  # which it raises when it is called
        scaling_study.run(file, output_dir=tmp_path / "results", allow_code=True)
    assert touching.exists() == (place != "target_scaler")  # an affine one is never code


def test_code_named_on_the_command_line_is_allowed(touching, tmp_path, study_file):
    with pytest.raises(StudyError, match="touching:factory"):
        run(tmp_path / "results", study_file, settings=["linear.optimizer=touching:factory"])
    assert touching.exists()


def test_code_in_a_results_folder_is_not_imported_to_read_it(touching, tmp_path, folder):
    text = (folder / "study.toml").read_text()
    write_study(folder, text.replace('"article"', '"touching:factory"'))
    assert len(scaling_study.load(folder).runs) == 4 * 600
    assert folder_of.status(folder).runs_done == 4 * 600
    assert not touching.exists()


# In threads ---------------------------------------------------------------------------------


def test_two_folders_are_written_at_once(tmp_path, stored):
    threads = [threading.Thread(target=run, args=(tmp_path / str(n),)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chunks(tmp_path / "0") == chunks(tmp_path / "1") == chunks(stored)
