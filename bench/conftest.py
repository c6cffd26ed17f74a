"""What the benchmarks share: a study's program kept warm, and rates beside times."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from scaling_study.execution import preflight, runner
from scaling_study.execution.executors import LocalDevices, device_slots
from scaling_study.study.plan import plan
from scaling_study.study.study import read_study


class Trainer:
    """A study, planned and compiled: called, it trains every run and drops what comes of it."""

    def __init__(
        self,
        study: str,
        settings: Sequence[str] = (),
        devices: int | None = None,
        chunk_size: int | None = None,
    ) -> None:
        self.executor = LocalDevices(devices)
        planned = plan(read_study(study, list(settings)), chunk_size)
        self.planned = preflight.for_device(planned, self.executor.memory)
        self.runs = self.planned.runs
        self()

    def __call__(self) -> None:
        runner.train(self.planned, self.planned.chunks, self.executor, lambda chunk, rows: [])


@pytest.fixture(scope="session")
def devices() -> int:
    """Return the number of calls that may compute at the same time."""
    return len(device_slots())


@pytest.fixture
def measure(benchmark: Any, devices: int) -> Callable[..., None]:
    """Return ``measure(function, runs, rounds, **labels)``: times it, notes runs per second."""

    def measured(function: Callable[[], Any], runs: int, rounds: int = 7, **labels: Any) -> None:
        benchmark.pedantic(function, rounds=rounds, iterations=1, warmup_rounds=rounds > 1)
        seconds = statistics.median(benchmark.stats.stats.data) if benchmark.stats else None
        benchmark.extra_info |= labels | {"runs": runs}
        if seconds:
            benchmark.extra_info["runs_per_second"] = runs / seconds

    return measured
