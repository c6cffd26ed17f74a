"""A real Dask scheduler and workers on the loopback, started by Dask's own commands."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from processes import environment


class Cluster(NamedTuple):
    """Where it listens, and the processes of its workers."""

    address: str
    scheduler: subprocess.Popen[Any]
    workers: list[subprocess.Popen[Any]]


@contextmanager
def cluster(folder: Path, workers: int, *, nanny: bool = False) -> Iterator[Cluster]:
    """Run a scheduler and workers, and end them; a nanny starts a worker that ended again."""
    file = folder / "scheduler.json"
    here = ["--no-dashboard", "--host", "127.0.0.1"]
    started = [_dask(folder, "scheduler", *here, "--port", "0", "--scheduler-file", str(file))]
    try:
        while not file.exists() or not file.read_text():
            assert started[0].poll() is None, "the scheduler ended"
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        one = [address, *here, "--nthreads", "1", "--nanny" if nanny else "--no-nanny"]
        started += [_dask(folder, "worker", *one) for _ in range(workers)]
        _wait(address, workers)
        yield Cluster(address, started[0], started[1:])
    finally:
        for process in reversed(started):
            if nanny:  # which ends its worker when it is asked to end
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
            process.kill()
            process.wait()


def _wait(address: str, workers: int) -> None:
    from distributed import Client

    with Client(address, timeout="30s") as client:
        client.wait_for_workers(workers, timeout=60)


def _dask(folder: Path, *arguments: str) -> subprocess.Popen[Any]:
    with (folder / f"{arguments[0]}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=folder,
            env=environment({"JAX_PLATFORMS": "cpu"}),
            stdout=log,
            stderr=log,
        )
