"""Where chunks are computed: the same bits on one device, on two, and on a cluster's workers."""

import json
import signal
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from cluster import cluster
from processes import command

import scaling_study
from scaling_study.errors import CONTINUE, RunInterrupted, StudyError
from scaling_study.execution import cluster as dask_cluster
from scaling_study.execution import runner
from scaling_study.execution.executors import LocalDevices, RemoteExecutor, in_order
from scaling_study.study.conditions import Chunk
from scaling_study.study.plan import plan
from scaling_study.study.study import read_study

STUDY: dict[str, Any] = {
    "name": "spread",
    "scale_factor": [1.0, 1000.0],
    "scaler": ["none", "standard"],
    "epochs": 20,
    "seeds": "0:2048",  # chunks of 256 seeds, of networks 32
    "blocks": {
        "linear": {"optimizer": ["adam", "sgd"]},
        "exact": {"dtype": "float64"},
    },
}
CHUNKS = 24


def chunks(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "chunks").iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Results of one device, which no test may change."""
    folder = tmp_path_factory.mktemp("executors") / "one"
    scaling_study.run(STUDY, output_dir=folder, devices=1)
    return folder


# Dask ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_give_the_same_bits_and_one_that_dies_loses_only_its_chunk(whole, tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(tomli_w.dumps(STUDY))
    with cluster(tmp_path, workers=2) as started:
        arguments = ["run", str(file), "--json", "-q", "--scheduler", "scheduler.json"]
        done = command(*arguments, "-o", "spread", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["runs_trained"] == plan(read_study(STUDY)).runs
        assert chunks(tmp_path / "spread") == chunks(whole)

        killed: list[float] = []

        def kill(progress: Any) -> None:
            if not killed and progress.runs_done > progress.runs / 4:
                started.workers[0].send_signal(signal.SIGKILL)
                killed.append(time.monotonic())

        from distributed import Client

        with Client(started.address) as client:
            results = scaling_study.run(
                STUDY, output_dir=tmp_path / "killed", client=client, on_progress=kill
            )
            assert len(client.scheduler_info()["workers"]) == 1
    assert killed
    assert chunks(tmp_path / "killed") == chunks(whole)
    assert not results.runs.duplicated(["condition", "seed"]).any()
    assert len(results.runs) == plan(read_study(STUDY)).runs


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_told_in_a_line(tmp_path, monkeypatch):
    done = command("run", "smoke", "--scheduler", "tcp://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--scheduler tcp://127.0.0.1:9: no Dask scheduler answers" in line
    done = command("run", "smoke", "--scheduler", "nonsense://x", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "results").exists()
    monkeypatch.setattr(dask_cluster, "WAIT", 0.2)
    with pytest.raises(StudyError, match=r"no address in 0\.2 s"):
        dask_cluster.connect(str(tmp_path / "never.json")).__enter__()


ENDING = """
import os
import optax
def factory(learning_rate):
    try:
        from distributed import get_worker
        get_worker()
    except ValueError:  # where the study is checked
        return optax.sgd(learning_rate)
    os.kill(os.getpid(), 9)  # as a system does for want of memory
"""


@pytest.mark.slow
@pytest.mark.parametrize("seeds", ["0:16", "0:4096"])  # a task each time, or another one
def test_workers_that_are_killed_again_and_again_stop_the_run(seeds, tmp_path):
    (tmp_path / "ending.py").write_text(ENDING, encoding="utf-8")
    with cluster(tmp_path, workers=1, nanny=True) as started:
        arguments = ["run", "smoke", "-q", "--seeds", seeds, "--scheduler", "scheduler.json"]
        arguments += ["--set", "linear.optimizer=ending:factory", "-o", "ended"]
        done = command(*arguments, cwd=tmp_path)
        assert started.scheduler.poll() is None
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "were killed" in line
    assert "--memory-limit" in line
    assert line.endswith(CONTINUE)


@pytest.mark.slow
def test_workers_that_are_all_paused_stop_the_run(tmp_path, monkeypatch):
    from distributed import Client

    monkeypatch.setattr(dask_cluster, "PAUSED", 5)
    paused = {"DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "0.001"}
    with (
        cluster(tmp_path, workers=1, nanny=True, env=paused) as started,
        Client(started.address) as client,
        pytest.raises(RunInterrupted, match=r"limit of [\d,]+ MiB are paused.*--memory-limit"),
    ):
        scaling_study.run(STUDY, output_dir=tmp_path / "paused", client=client)


class Watched:
    """A Dask client as the monitor sees it: a worker that dies, and comes back as another."""

    def __init__(self, expected: bool) -> None:
        self.expected = expected
        self.events: list[Any] = []

    def scheduler_info(self, n_workers):
        worker = {"memory_limit": 380 * 2**20, "status": "running", "metrics": {}}
        return {"workers": {f"tcp://{len(self.events)}": worker}}

    def get_events(self, topic):
        event = {"action": "remove-worker", "processing-tasks": {"run_chunk"}}
        self.events.append((0.0, {**event, "expected": self.expected}))
        return tuple(self.events)


@pytest.mark.parametrize("expected", [False, True])
def test_workers_that_die_with_another_task_each_time_are_counted(expected, monkeypatch):
    monkeypatch.setattr(dask_cluster, "INTERVAL", 0)
    monitor = dask_cluster.ClusterMonitor(Watched(expected))
    for _ in range(3):  # results arrive in between
        monitor.reset()
        for _ in range(4):
            monitor.check()
    if expected:  # as when a cluster shrinks
        monitor.check()
        return
    with pytest.raises(RunInterrupted, match="limit of 380 MiB were killed 4 times"):
        monitor.check()


@pytest.mark.slow
def test_a_scheduler_that_dies_is_one_line(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(tomli_w.dumps({**STUDY, "epochs": 2000}), encoding="utf-8")
    with cluster(tmp_path, workers=1) as started:
        threading.Timer(12, started.scheduler.kill).start()
        arguments = ["run", str(file), "-q", "--scheduler", "scheduler.json", "-o", "gone"]
        done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert "run the same command again to continue" in line


# Anything with submit -----------------------------------------------------------------------


class Here:
    """Computes at once, in this process, and counts."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def submit(self, function, *arguments):
        self.calls.append((function.__name__, *arguments[1:]))
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def test_anything_with_submit_will_do(whole, tmp_path):
    here = Here()
    scaling_study.run(STUDY, output_dir=tmp_path / "here", client=here)
    assert chunks(tmp_path / "here") == chunks(whole)
    asked = [call[1] for call in here.calls if call[0] == "run_chunk"]
    assert len(asked) == len(set(asked)) == CHUNKS  # by the text of the chunk, nothing twice


class Dying(Here):
    """Loses everything after some chunks."""

    def submit(self, function, *arguments):
        if len(self.calls) > 5:
            future: Future[Any] = Future()
            future.set_exception(ConnectionError("gone"))
            return future
        return super().submit(function, *arguments)


def test_a_cluster_that_is_gone_leaves_a_folder_that_continues(whole, tmp_path):
    with pytest.raises(RunInterrupted, match=r"ConnectionError: gone; .* to continue"):
        scaling_study.run(STUDY, output_dir=tmp_path / "gone", client=Dying())
    kept = chunks(tmp_path / "gone")
    assert 0 < len(kept) < CHUNKS
    scaling_study.run(STUDY, output_dir=tmp_path / "gone", devices=1)
    assert chunks(tmp_path / "gone") == chunks(whole)


def test_curves_stay_in_this_process(tmp_path):
    with pytest.raises(StudyError, match="curves"):
        scaling_study.run({**STUDY, "record": "curves"}, output_dir=tmp_path / "x", client=Here())
    assert not (tmp_path / "x").exists()


def test_a_bounded_number_is_under_way_and_the_rest_is_cancelled():
    submitted: list[int] = []
    cancelled: list[int] = []

    class Held(Future):
        def __init__(self, item):
            super().__init__()
            self.item = item
            self.set_result(item)

        def cancel(self):
            cancelled.append(self.item)
            return True

    def submit(item):
        submitted.append(item)
        return Held(item)

    executor = RemoteExecutor(Here(), max_pending=3)
    results = in_order(executor, range(10), submit)
    assert next(results) == (0, 0)
    assert submitted == [0, 1, 2]
    assert next(results) == (1, 1)
    results.close()
    assert submitted == [0, 1, 2, 3]
    assert cancelled == [2, 3]


# Local devices ------------------------------------------------------------------------------


def test_two_local_devices_give_the_same_bits(whole, tmp_path):
    (tmp_path / "study.toml").write_text(tomli_w.dumps(STUDY))
    arguments = ["run", "study.toml", "--devices", "2", "--json", "-q", "-o", "two"]
    done = command(*arguments, cwd=tmp_path)  # this process may have started with one
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["devices"] == 2
    assert chunks(tmp_path / "two") == chunks(whole)


@pytest.mark.parametrize("ahead", [1, 2])
def test_each_group_is_compiled_once_and_before_its_chunks_are_sent(ahead, monkeypatch):
    monkeypatch.setattr(runner, "COMPILERS", ahead)
    events = []

    class Recording(LocalDevices):
        def compile(self, group, record):
            events.append(("compile", group.index))
            return super().compile(group, record)

        def submit(self, function, *arguments):
            events.append(("chunk", Chunk.parse(arguments[1]).group))
            return super().submit(function, *arguments)

    planned = plan(read_study(STUDY))
    runner.train(planned, planned.chunks, Recording(1), lambda chunk, rows: [])
    groups = [index for what, index in events if what == "compile"]
    assert groups == sorted(set(groups)) == list(range(len(planned.groups)))
    for place, (what, index) in enumerate(events):
        if what == "chunk":
            begun = {group for kind, group in events[:place] if kind == "compile"}
            assert index in begun
            assert len(begun) <= index + 1 + ahead


def test_no_dask_is_told(monkeypatch):
    import builtins

    real = builtins.__import__

    def missing(name, *more, **keys):
        if name == "distributed":
            raise ImportError(name)
        return real(name, *more, **keys)

    monkeypatch.setattr(builtins, "__import__", missing)
    with (
        pytest.raises(StudyError, match=r"scaling-study\[cluster\]"),
        dask_cluster.connect("tcp://x:1"),
    ):
        pass
