"""What a machine or a shell can get wrong: one line each, no traceback, and nothing that waits."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, call
from refusals import refused
from tiny_folder import STUDY, chunks, run

import scaling_study
import scaling_study.report.page
from scaling_study.execution import cluster
from scaling_study.storage import reader as folder_of

REFERENCE = ROOT / "tests" / "reference" / "torch.json"
SMALL = ["run", "smoke", "-q", "--seeds", "0:1", "--devices", "1"]


def shell(
    text: str, cwd: Path, *, python: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell in which ``STUDY`` is the command."""
    command = f"{sys.executable} {python} -m scaling_study"
    return call("bash", "-c", text.replace("STUDY", command), cwd=cwd, env=env, timeout=120)


def says(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Hold a process to one line on standard error and its exit code."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("scaling-study: ")
    assert [word for word in words if word not in line] == []


# Devices -------------------------------------------------------------------------------------


@pytest.mark.sweep(2)
@pytest.mark.parametrize("platform", ["cuda", "cpuu"])
@pytest.mark.parametrize(
    "arguments", ["run smoke -o x", "plan smoke", f"verify {REFERENCE}"], ids=str
)
def test_a_platform_that_is_not_here_is_named(platform, arguments, tmp_path):
    if platform == "cuda" and shutil.which("nvidia-smi"):
        pytest.skip("it may be here")
    done = shell(f"STUDY {arguments}", tmp_path, env={"JAX_PLATFORMS": platform})
    says(done, 2, f"JAX_PLATFORMS={platform}")
    assert not list(tmp_path.iterdir())


def test_too_few_addresses_are_told_before_jax_aborts(tmp_path):
    for arguments in ("run smoke -o x", "plan smoke", f"verify {REFERENCE}"):
        says(shell(f"ulimit -v 1500000; STUDY {arguments}", tmp_path), 2, "1.5 GB", "ulimit -v")


# Streams and folders --------------------------------------------------------------------------


def test_a_closed_output_is_told(tmp_path):
    says(shell("STUDY list >&-", tmp_path), 1, "standard output is closed")


def test_no_descriptor_of_the_shell_becomes_a_file_of_results(tmp_path):
    done = shell(f"STUDY {' '.join(SMALL)} -o x <&- 2>&- >/dev/null", tmp_path)
    assert done.returncode == 0
    assert folder_of.status(tmp_path / "x").missing == []


def test_a_reader_that_has_left_is_no_error(tmp_path):
    done = shell("STUDY list | head -1", tmp_path)
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [" ".join(SMALL), "status x", "report x"])
def test_a_working_directory_that_is_gone_is_one_line(arguments, tmp_path):
    (tmp_path / "gone").mkdir()
    says(shell(f"cd gone && rmdir ../gone && STUDY {arguments}", tmp_path), 2)


@pytest.mark.slow
def test_python_without_its_words_runs_and_lists(tmp_path):
    for arguments in ("list", "run --help", " ".join([*SMALL, "-o", "x"])):
        done = shell(f"STUDY {arguments}", tmp_path, python="-OO")  # without assertions, as by -O
        assert (done.returncode, done.stderr) == (0, "")
    assert folder_of.status(tmp_path / "x").missing == []


def test_a_path_that_is_not_in_utf_8_is_refused_before_training(tmp_path):
    says(shell(rf"STUDY {' '.join(SMALL)} -o $'x\xff'", tmp_path), 2, "UTF-8")
    refused(lambda: run(tmp_path / os.fsdecode(b"x\xff")), "UTF-8")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_vanishes_during_a_run_is_one_line(tmp_path):
    def remove(_: Any) -> None:
        shutil.rmtree(tmp_path / "x", ignore_errors=True)

    with pytest.raises(scaling_study.StudyError, match="No such file or directory") as caught:
        run(tmp_path / "x", on_progress=remove)
    assert len(str(caught.value).splitlines()) == 1
    run(tmp_path / "x")
    assert folder_of.status(tmp_path / "x").complete


@pytest.mark.sweep(1)
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_files_have_the_modes_that_the_umask_leaves(mask, tmp_path):
    before = os.umask(mask)
    try:
        results = run(tmp_path / "x", {**STUDY, "seeds": "0:1"})
        scaling_study.report.page.write_report(results, tmp_path / "report")
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        whole = 0o777 if path.is_dir() else 0o666
        assert path.stat().st_mode & 0o777 == whole & ~mask, path


# Named pipes ----------------------------------------------------------------------------------

PIPES = ["manifest.json", "study.toml", "conditions.parquet"]


def pipe_in_place_of(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_in_place_of_a_file_is_named_and_nothing_waits(name, folder):
    pipe_in_place_of(folder / name)
    begun = time.monotonic()
    for read in (folder_of.status, lambda place: scaling_study.load(place).runs):
        try:
            assert read(folder).damaged == [name]
        except scaling_study.StudyError as error:
            assert f"{name}: is not a regular file" in str(error)  # noqa: PT017
    assert time.monotonic() - begun < 10


def test_a_pipe_in_place_of_a_chunk_is_damaged_and_made_again(folder):
    before = chunks(folder)
    file = sorted((folder / "chunks").iterdir())[0]
    pipe_in_place_of(file)
    found = folder_of.status(folder)
    assert (found.damaged, found.faults) == ([file.name], ["is not a regular file"])
    run(folder)
    assert chunks(folder) == before


@pytest.mark.parametrize("command", ["run x.toml", "plan x.toml", "verify x.toml"])
def test_a_pipe_in_place_of_an_argument_is_named(command, tmp_path):
    os.mkfifo(tmp_path / "x.toml")
    says(shell(f"STUDY {command}", tmp_path), 2, "x.toml", "not a regular file")


def test_what_a_shell_substitutes_is_read(tmp_path):
    done = shell("STUDY plan <(echo 'epochs = 3') --json", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["runs"] == 16


# Clusters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{}", "[]", '{"address": 3}', '"text"', '{"address": ""}'])
def test_a_scheduler_file_without_an_address_is_told_at_once(text, tmp_path):
    (tmp_path / "s.json").write_text(text, encoding="utf-8")
    begun = time.monotonic()
    message = refused(lambda: cluster.connect(str(tmp_path / "s.json")).__enter__(), "s.json")
    assert message.endswith("holds no address; name the file that dask scheduler has written")
    assert time.monotonic() - begun < 10


def test_a_scheduler_file_that_is_written_meanwhile_is_read(tmp_path, monkeypatch):
    (tmp_path / "s.json").write_text('{"addr', encoding="utf-8")

    def write(_: float) -> None:
        (tmp_path / "s.json").write_text('{"address": "tcp://127.0.0.1:9"}', encoding="utf-8")

    monkeypatch.setattr(cluster.time, "sleep", write)
    assert cluster._address_in(tmp_path / "s.json") == "tcp://127.0.0.1:9"


class KilledWorker(Exception):
    """As Dask's."""


def test_a_chunk_that_ends_its_workers_says_why_that_may_be():
    why = cluster.failure_reason(KilledWorker("Attempted to run\ntask"))
    assert "killed again and again" in why
    assert "--memory-limit" in why
    assert len(why.splitlines()) == 1


@pytest.mark.slow
def test_status_is_never_aborted(folder):
    for _ in range(200):
        done = shell(f"STUDY status {folder}", folder.parent)
        assert (done.returncode, done.stderr) == (0, "")
