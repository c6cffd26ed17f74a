"""A real Dask scheduler and workers on the loopback, started by Dask's own commands."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from processes import environment


class Cluster(NamedTuple):
    """Its address, and its processes."""

    address: str
    scheduler: subprocess.Popen[Any]
    workers: list[subprocess.Popen[Any]]


@contextmanager
def cluster(
    folder: Path, workers: int, *, nanny: bool = False, env: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Run a scheduler and workers, and end them; a nanny restarts a worker that has ended."""
    file = folder / "scheduler.json"
    here = ["--no-dashboard", "--host", "127.0.0.1"]
    started = [_dask(folder, "scheduler", *here, "--port", "0", "--scheduler-file", str(file))]
    try:
        while not file.exists() or not file.read_text():
            assert started[0].poll() is None, "the scheduler ended"
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        one = [address, *here, "--nthreads", "1", "--nanny" if nanny else "--no-nanny"]
        started += [_dask(folder, "worker", *one, env=env) for _ in range(workers)]
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


def _dask(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[Any]:
    with (folder / f"{arguments[0]}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=folder,
            env=environment({"JAX_PLATFORMS": "cpu", **(env or {})}),
            stdout=log,
            stderr=log,
        )
