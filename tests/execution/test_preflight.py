"""Checks before a run, and chunks that suit a device."""

import pytest
from tiny_folder import STUDY, run

from scaling_study.execution import preflight
from scaling_study.study.conditions import shape_of
from scaling_study.study.plan import plan
from scaling_study.study.study import read_study

GIB = 2**30


def planned(**changes):
    return plan(read_study({**STUDY, **changes}))


def largest(found):
    return max(group.shape.conditions * group.shape.seeds for group in found.groups)


def test_a_cpu_keeps_its_chunks(tmp_path):
    before = planned()
    assert preflight.for_device(before, None, tmp_path / "new") is before


def test_a_chunk_size_that_is_given_is_kept_on_any_device(tmp_path):
    before = plan(read_study(STUDY), 32)
    assert preflight.for_device(before, 64 * GIB, tmp_path / "new") is before


def test_a_gpu_gets_chunks_as_wide_as_the_study_and_no_wider_than_measured(tmp_path):
    wide = preflight.for_device(planned(seeds="0:100000"), 64 * GIB, tmp_path / "new")
    assert wide.chunk_runs == preflight.WIDEST
    assert preflight.WIDEST / 4 < largest(wide) <= preflight.WIDEST
    small = preflight.for_device(planned(seeds="0:8"), 64 * GIB, tmp_path / "new")
    assert small.chunk_runs < 8 * 2 * len(small.conditions)


@pytest.mark.parametrize("memory", [GIB, GIB // 4, GIB // 64])
def test_a_chunk_takes_at_most_a_quarter_of_a_devices_memory(memory, tmp_path):
    found = preflight.for_device(planned(seeds="0:100000"), memory, tmp_path / "new")
    needed = max(map(found.memory_of, found.groups))
    assert needed <= memory / 4 or found.chunk_runs == preflight.NARROWEST


def test_a_folder_keeps_its_chunk_size(tmp_path):
    run(tmp_path / "folder", chunk_size=16)
    found = preflight.for_device(planned(seeds="0:100000"), 64 * GIB, tmp_path / "folder")
    assert found.chunk_runs == 16


def test_results_that_are_replaced_have_no_say_in_the_chunk_size(tmp_path):
    run(tmp_path / "folder", chunk_size=16)
    found = preflight.for_device(planned(seeds="0:100000"), 64 * GIB)
    assert found.chunk_runs == preflight.WIDEST


def test_rows_and_their_hidden_layers_count_where_all_runs_train_at_once():
    found = planned(model={"name": "mlp", "hidden": [[64, 32]]})
    group = found.groups[0]
    runs = group.shape.conditions * group.shape.seeds
    (samples, features), size, passes = shape_of(group.static.problem), 4, 2
    rows = passes * size * runs * samples * (features + 64 + 32)
    assert found.memory_at_once(group) == found.memory_of(group) + rows
    found = planned(model="linear", objective="moments")
    group = found.groups[0]
    assert found.memory_at_once(group) == found.memory_of(group)
