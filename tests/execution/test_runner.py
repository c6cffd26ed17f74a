"""The runner: the same bits for the same runs, however, wherever and how often it is run."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
import tomli_w
from changed import write_manifest
from processes import command, python

import scaling_study
from scaling_study.engine import compiling
from scaling_study.errors import StudyError
from scaling_study.execution import runner
from scaling_study.study.conditions import expand
from scaling_study.study.plan import plan
from scaling_study.study.study import presets, read_study

# Three programs, with chunks of 256 seeds and, of networks, 32.
STUDY: dict[str, Any] = {
    "name": "tiny",
    "scale_factor": 1000.0,
    "scaler": ["none", "standard"],
    "epochs": 3,
    "seeds": "0:40",
    "blocks": {
        "linear": {"optimizer": ["adam", "sgd"]},
        "network": {"model": {"name": "mlp", "hidden": 4}, "learning_rate": [1e-3, 1e-2]},
    },
}
CONDITIONS, GROUPS, CHUNKS = 8, 3, 4  # adam and sgd by themselves: 1 + 1 + 2 chunks


def run(folder: Path, **more: Any) -> scaling_study.Results:
    return scaling_study.run(STUDY, output_dir=folder, **{"devices": 1, **more})


def chunks(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "chunks").iterdir())}


def assert_same_rows(one: scaling_study.Results, other: scaling_study.Results) -> None:
    for table in ("runs", "features", "traces"):
        key = [k for k in ("condition", "seed", "feature", "update") if k in getattr(one, table)]
        frames = [getattr(results, table).astype({"condition": str}) for results in (one, other)]
        frames = [frame.sort_values(key).reset_index(drop=True) for frame in frames]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Results that no test may change."""
    place = tmp_path_factory.mktemp("runner") / "tiny"
    run(place)
    return place


@pytest.fixture(scope="module")
def results(folder) -> scaling_study.Results:
    return scaling_study.load(folder)


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("study") / "tiny.toml"
    file.write_text(tomli_w.dumps(STUDY))
    return file


# The same bits ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_another_process_writes_the_same_bytes_on_one_device_or_two(
    folder, study_file, tmp_path, devices
):
    arguments = ["--devices", str(devices), "--output-dir", "again", "--json", "--quiet"]
    done = command("run", str(study_file), *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert summary["devices"] == devices
    assert chunks(tmp_path / "again") == chunks(folder)
    assert_same_rows(scaling_study.load(tmp_path / "again"), scaling_study.load(folder))


def test_seeds_are_the_same_bits_among_many(folder, results, tmp_path):
    few, many = run(tmp_path / "few", seeds="0:10"), run(tmp_path / "many", seeds="0:260")
    # Chunks are cut at absolute seeds, so that a file's bytes do not say what was asked for.
    for name, data in chunks(tmp_path / "few").items():
        assert chunks(tmp_path / "many")[name] == chunks(folder)[name] == data
    assert len(chunks(tmp_path / "many")) == 2 + 2 + 9
    for table in ("runs", "features", "traces"):
        frames = [getattr(r, table).astype({"condition": str}) for r in (few, many, results)]
        frames = [frame[frame["seed"] < 10].reset_index(drop=True) for frame in frames]
        key = [k for k in ("condition", "seed", "feature", "update") if k in frames[0]]
        one, *others = (frame.sort_values(key, ignore_index=True) for frame in frames)
        assert len(one) >= 80
        for other in others:
            pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_range_in_the_middle_is_the_same_bits(results, tmp_path):
    middle = run(tmp_path / "middle", seeds=(20, 30)).runs.astype({"condition": str})
    whole = results.runs.astype({"condition": str})
    key = ["condition", "seed"]
    pd.testing.assert_frame_equal(
        middle.sort_values(key, ignore_index=True),
        whole[whole["seed"].between(20, 29)].sort_values(key, ignore_index=True),
        check_exact=True,
    )


def test_a_smaller_chunk_is_the_same_but_for_rounding(results, tmp_path):
    small = run(tmp_path / "small", chunk_size=16)
    assert len(chunks(tmp_path / "small")) > CHUNKS
    frames = [r.runs.astype({"condition": str}) for r in (small, results)]
    one, other = (f.sort_values(["condition", "seed"], ignore_index=True) for f in frames)
    np.testing.assert_allclose(one["final_loss"], other["final_loss"], rtol=1e-4)


# What is done and what is left --------------------------------------------------------------


def test_everything_is_trained_once(results):
    runs = results.runs
    assert len(runs) == CONDITIONS * 40
    assert not runs.duplicated(["condition", "seed"]).any()
    summary = results.manifest["summary"]
    assert summary["runs"] == summary["runs_trained"] == len(runs)
    assert (summary["groups"], summary["chunks"]) == (GROUPS, CHUNKS)
    assert sum(summary["statuses"].values()) == len(runs)


@pytest.mark.parametrize("lost", [[0], [1, 3], [0, 1, 2, 3]])
def test_an_interrupted_run_is_continued_where_it_stopped(folder, results, tmp_path, lost):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    files = sorted((copy / "chunks").iterdir())
    for place in lost:
        files[place].unlink()
    manifest = json.loads((copy / "manifest.json").read_text())
    begun = {key: manifest[key] for key in ("schema_version", "identity")}
    write_manifest(copy, begun)
    kept = {file: file.stat().st_mtime_ns for file in files if file.exists()}
    again = run(copy)
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
    assert chunks(copy) == chunks(folder)
    assert 0 < again.manifest["summary"]["runs_trained"] <= len(results.runs)
    assert_same_rows(again, results)


def test_a_larger_range_trains_what_is_missing(folder, results, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = chunks(copy)
    wider = run(copy, seeds="0:70")
    after = chunks(copy)
    assert {name: after[name] for name in before} == before
    (new,) = set(after) - set(before)
    assert new.startswith("002-0000-000002-")
    assert wider.manifest["summary"]["runs_trained"] == 4 * 6
    assert len(wider.runs) == CONDITIONS * 70
    assert wider.study.seeds == (0, 70)


def test_progress_is_told_after_each_chunk(tmp_path):
    told: list[runner.Progress] = []
    run(tmp_path / "told", on_progress=told.append)
    done = [progress.runs_done for progress in told]
    assert len(done) == CHUNKS
    assert done == sorted(set(done))
    assert done[-1] == CONDITIONS * 40 == told[-1].runs
    assert all(progress.seconds > 0 for progress in told)


# The same by any way to ask -----------------------------------------------------------------


@pytest.mark.parametrize("form", ["mapping", "path", "text", "study"])
def test_a_study_may_be_given_in_any_form(form, folder, study_file, tmp_path):
    source = {
        "mapping": STUDY,
        "path": study_file,
        "text": str(study_file),
        "study": read_study(STUDY),
    }[form]
    scaling_study.run(source, seeds="0:40", output_dir=tmp_path / form, devices=1)
    assert chunks(tmp_path / form) == chunks(folder)


def test_settings_are_part_of_the_study(tmp_path):
    own = run(tmp_path / "set", settings=["epochs=1", "network.learning_rate=0.5"])
    assert set(own.conditions["updates"]) == {4}
    assert set(own.conditions.loc[own.conditions["block"] == "network", "learning_rate"]) == {0.5}


# Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"devices": 0}, "devices"),
        ({"devices": -1}, "devices"),
        ({"devices": 99}, "between 1 and"),
        ({"seeds": "5:5"}, "A:B"),
        ({"seeds": (3, 1)}, "A:B"),
        ({"seeds": "0-5"}, "range"),
        ({"settings": ["epochs=0"]}, "epochs"),
        ({"settings": ["network.model={name='mlp', hidden=2.5}"]}, "hidden"),
        ({"settings": ["network.model={name='mlp', activation='rellu'}"]}, "relu"),
        ({"settings": ["linear.optimizer={name='adam', epsilon=1}"]}, "eps"),
        ({"settings": ["optimizer='test_runner:broken'"]}, "test_runner:broken fails: .*not today"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(more, word, tmp_path):
    with pytest.raises(StudyError, match=word) as caught:
        run(tmp_path / "never", **more)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "never").exists()


def broken(learning_rate):
    """A user's own optimizer that fails when it is built."""
    raise RuntimeError("not\ntoday")


def without_a_rate():
    """A user's own optimizer of a wrong signature."""
    return optax.sgd(0.1)


def misshapen(learning_rate):
    """A user's own optimizer whose updates are no parameters'."""
    return optax.stateless(lambda updates, _: jax.tree.map(lambda x: jnp.ones(7), updates))


def lost(learning_rate):
    """A user's own optimizer that returns NaN."""
    return optax.sgd(jnp.nan)


WRONG = {
    "broken": ("failed", "test_runner:broken fails: RuntimeError: not today"),
    "without_a_rate": ("failed", "without_a_rate() takes 0 positional arguments but 1 was given"),
    "misshapen": ("failed", "returns updates of shapes"),
    "lost": ("diverged", "every run has a non-finite loss after one update"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_optimizer_that_is_wrong_is_named_in_a_line_and_the_rest_completes(name, tmp_path):
    status, words = WRONG[name]
    own = f"test_runner:{name}"
    settings = [f"linear.optimizer=['adam', '{own}']"]
    found = run(tmp_path / "some", settings=settings)
    (line,) = found.manifest["summary"]["failures"]
    assert own in line
    assert words in line
    assert len(line.splitlines()) == 1
    wrong = found.runs["optimizer"] == own
    assert set(found.runs.loc[wrong, "status"]) == {status}
    assert not found.runs.loc[~wrong, "status"].isin(["failed", "diverged"]).any()
    assert found.features.groupby("optimizer", observed=True)["weight"].count()["adam"] > 0
    assert found.runs.loc[wrong, "initial_loss"].notna().all() == (status == "diverged")


# Plan ---------------------------------------------------------------------------------------


def test_a_plan_counts_what_a_run_does(results):
    planned = plan(read_study(STUDY))
    summary = planned.summary()
    for key in ("runs", "groups", "chunks"):
        assert summary[key] == results.manifest["summary"][key]
    conditions = expand(read_study(STUDY))
    assert summary["conditions"] == len(conditions) == CONDITIONS
    assert summary["updates"] == sum(40 * condition.updates for condition in conditions)
    assert min(summary["memory_bytes"], summary["disk_bytes"], summary["seconds"]) > 0


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    "name", ["smoke", "article", "throughput", "throughput-mlp", "throughput-network"]
)
def test_a_plans_memory_is_what_the_compiled_program_says(name, monkeypatch):
    # Memory is laid out before machine code is made, which takes longest and is not run here.
    monkeypatch.setattr(compiling, "_options", lambda _: {"xla_backend_optimization_level": 0})
    monkeypatch.setattr(compiling, "_programs", {})
    planned = plan(read_study(name))
    own = planned.groups[-1]
    held = compiling.compiled(own, "standard").memory_bytes
    assert 0.5 < planned.memory_of(own) / held < 2


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", presets())
def test_no_presets_chunk_is_too_large_for_a_small_machine(name):
    assert plan(read_study(name)).summary()["memory_bytes"] < 5e8


def test_a_plan_grows_with_the_seeds():
    few, many = (plan(read_study({**STUDY, "seeds": seeds})) for seeds in (40, 4000))
    assert many.runs == 100 * few.runs
    assert many.updates == 100 * few.updates
    assert many.summary()["disk_bytes"] > 10 * few.summary()["disk_bytes"]
    assert many.summary()["memory_bytes"] == few.summary()["memory_bytes"]  # of one chunk


def test_a_plan_does_not_import_jax(study_file, tmp_path):
    code = """
import sys
from scaling_study.study.plan import plan
from scaling_study.study.study import read_study
print(plan(read_study(sys.argv[1])).runs, "jax" in sys.modules)
"""
    done = python("-c", code, str(study_file), cwd=tmp_path)
    assert done.stdout.split() == [str(CONDITIONS * 40), "False"], done.stderr
