"""The environment of a process: it is part of a result, or it has no say in it."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tomli_w
from processes import command
from tiny_folder import STUDY, chunks

from scaling_study.engine.environment import PINNED, environment, instructions, pinned, xla_flags
from scaling_study.storage import reader as folder_of
from scaling_study.storage.inventory import read_chunk_provenance

# A linear model and a network: both objectives, in both types of numbers.
BOTH: dict[str, Any] = {
    **STUDY,
    "blocks": {
        "linear": {"dtype": "float64", "optimizer": "sgd"},
        "network": {"model": "mlp", "optimizer": "adam"},
    },
}
WITHOUT_A_SAY = {
    "JAX_DISABLE_JIT": "1",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_INFS": "1",
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
    "JAX_LEGACY_PRNG_KEY": "error",
    "JAX_TRANSFER_GUARD": "disallow",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=3",
    "OPENBLAS_NUM_THREADS": "1",
}
PART_OF_A_RESULT = {
    "XLA_FLAGS=--xla_cpu_enable_fast_math=true": "environment.XLA_FLAGS",
    "XLA_FLAGS=--xla_cpu_max_isa=AVX2": "environment.XLA_FLAGS",
    "XLA_FLAGS=--xla_backend_optimization_level=0": "environment.XLA_FLAGS",
    "JAX_RANDOM_SEED_OFFSET=7": "environment.jax_random_seed_offset",
    "JAX_DISABLE_MOST_OPTIMIZATIONS=1": "environment.jax_disable_most_optimizations",
    "OPENBLAS_CORETYPE=Haswell": "environment.OPENBLAS_CORETYPE",
}
if "jax_optimization_level" in jax.config.values:
    PART_OF_A_RESULT["JAX_OPTIMIZATION_LEVEL=O0"] = "environment.jax_optimization_level"
if "jax_exec_time_optimization_effort" in jax.config.values:
    PART_OF_A_RESULT["JAX_EXEC_TIME_OPTIMIZATION_EFFORT=-1"] = (
        "environment.jax_exec_time_optimization_effort"
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a study and its results, in an environment where nothing is set."""
    folder = tmp_path_factory.mktemp("environment")
    (folder / "tiny.toml").write_text(tomli_w.dumps(BOTH), encoding="utf-8")
    done = run(folder, "plain", {})
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def run(place: Path, output: str, env: dict[str, str]) -> Any:
    arguments = ["run", "tiny.toml", "-q", "--devices", "1", "-o", output]
    return command(*arguments, cwd=place, env=env)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_A_SAY)
def test_a_setting_without_a_say_changes_no_bit(name, place):
    done = run(place, name, {name: WITHOUT_A_SAY[name]})
    assert (done.returncode, done.stderr) == (0, "")
    assert chunks(place / name) == chunks(place / "plain")


@pytest.mark.sweep(2)
@pytest.mark.parametrize("setting", PART_OF_A_RESULT)
def test_a_setting_that_changes_bits_is_another_result_and_is_named(setting, place):
    name, _, value = setting.partition("=")
    before = chunks(place / "plain")
    done = run(place, "plain", {name: value})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert PART_OF_A_RESULT[setting] in line
    assert chunks(place / "plain") == before
    assert folder_of.status(place / "plain").complete


def test_settings_are_kept_in_the_manifest_and_in_each_chunk(place):
    manifest = json.loads((place / "plain" / "manifest.json").read_text(encoding="utf-8"))
    found = manifest["identity"]["environment"]
    assert found["instructions"] == instructions()
    assert found["device"] == "cpu"
    for file in (place / "plain" / "chunks").iterdir():
        assert read_chunk_provenance(file)["environment"] == found


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("", []),
        ("--b=1 --a=2", ["--a=2", "--b=1"]),
        ("--a=1 --a=2", ["--a=2"]),
        ("--xla_force_host_platform_device_count=8 --a", ["--a"]),
        ("--xla_dump_to=/tmp/x", []),
        ("flags.txt", ["--from=file"]),
        ("lost.txt", []),
    ],
)
def test_flags_are_those_that_may_change_bits(text, flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flags.txt").write_text("--from=file\n", encoding="utf-8")
    monkeypatch.setenv("XLA_FLAGS", text)
    assert xla_flags() == flags


def test_options_are_pinned_within_and_as_they_were_after():
    options = {name: value for name, value in PINNED.items() if name in jax.config.values}
    assert len(options) > 10
    with jax.debug_nans(True), jax.numpy_rank_promotion("raise"):
        with pinned():
            for name, value in options.items():
                found = jax.config.values[name] if name == "jax_transfer_guard" else None
                found = getattr(jax.config, name) if found is None else found
                assert getattr(found, "value", found) == value, name
        assert jax.config.jax_debug_nans
        assert jax.config.jax_numpy_rank_promotion == "raise"


def test_an_environment_is_text_by_name():
    found = environment()
    assert all(isinstance(value, str) and value for value in found.values())
    assert np.array([*found]).size >= 3
