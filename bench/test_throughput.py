"""How fast the engine trains: throughput, scaling, and what surrounds a training."""

import os
import subprocess
import sys
import time

import jax
import pytest
from conftest import Trainer

from scaling_study.engine import chunk, compiling
from scaling_study.engine.record import to_parquet, to_table
from scaling_study.execution.executors import device_slots
from scaling_study.study.conditions import expand, group
from scaling_study.study.study import read_study

WORKLOADS = {"throughput": "linear", "throughput-mlp": "network"}


@pytest.mark.parametrize("record", ["curves", "standard"])
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("preset", WORKLOADS)
def test_throughput(measure, preset, devices, record):
    if len(device_slots()) < devices:
        pytest.skip(f"{devices} cores or devices are not here")
    trainer = Trainer(preset, [f"record={record}"], devices)
    name = f"scaling_study, {record}, {devices} device{'s' * (devices > 1)}"
    measure(trainer, trainer.runs, kind=WORKLOADS[preset], name=name)


@pytest.mark.parametrize("times", [1, 4, 16])
def test_scaling_in_runs(measure, times):
    trainer = Trainer("throughput", [f'seeds="0:{64 * times}"'])
    measure(trainer, trainer.runs, 5, kind="scaling", name=f"× {times} the runs, standard")


def test_compiling(benchmark):
    """A group's program, not from the cache."""
    own = group(expand(read_study("throughput")))[0]

    def compile_anew() -> None:
        compiling._programs.clear()
        jax.clear_caches()
        compiling.compiled(own, "standard")

    jax.config.update("jax_enable_compilation_cache", False)
    benchmark.pedantic(compile_anew, rounds=5, iterations=1)
    jax.config.update("jax_enable_compilation_cache", True)
    benchmark.extra_info |= {"kind": "other", "name": "compile one group for one device"}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("start Python", "pass"),
        ("import scaling_study", "import scaling_study"),
        (
            "import the runner and JAX",
            "import scaling_study.execution.runner",
        ),
    ],
)
def test_importing(benchmark, name, code):
    benchmark.pedantic(lambda: subprocess.run([sys.executable, "-c", code], check=True), rounds=5)
    benchmark.extra_info |= {"kind": "other", "name": name}


def test_asking_for_help(benchmark):
    command = [sys.executable, "-m", "scaling_study", "--help"]
    benchmark.pedantic(
        lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), rounds=5
    )
    benchmark.extra_info |= {"kind": "other", "name": "scaling-study --help"}


def test_writing_parquet(measure):
    own = group(expand(read_study("throughput")))[0]
    first = next(own.chunks((64, 72)))  # beyond the seeds that are traced
    training, unique_data = chunk.train_chunk(own, first, "standard")
    budget = compiling.budget_of(own, "standard")
    runs = own.shape.conditions * own.shape.seeds
    measure(
        lambda: to_parquet(to_table(own, first, training, unique_data, budget, {}, {}), {}),
        runs,
        kind="other",
        name="rows of a chunk to Parquet",
    )


@pytest.mark.parametrize("cache", ["empty", "warm"])
def test_whole_process(benchmark, cache, tmp_path_factory):
    """Start, compile, run, write, exit."""
    folder = tmp_path_factory.mktemp("process")

    def run() -> float:
        where = folder / str(time.monotonic_ns())
        cached = where if cache == "empty" else folder / "cache"
        command = [sys.executable, "-m", "scaling_study", "run", "throughput", "-q"]
        subprocess.run(
            [*command, "-o", str(where / "results")],
            check=True,
            env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cached / "jax")},
        )
        return 0.0

    benchmark.pedantic(run, rounds=3, warmup_rounds=int(cache == "warm"))
    name = f"scaling-study run throughput, whole process, {cache} compilation cache"
    benchmark.extra_info |= {"kind": "other", "name": name}
