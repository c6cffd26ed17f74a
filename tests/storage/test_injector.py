"""A kill and a full disk at every file operation: nothing is lost, and nothing is left over."""

import re

import pytest
from injector import SCENARIOS
from torture import run_injector


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_or_a_full_disk_at_any_operation_loses_nothing(name, tmp_path):
    (count,) = re.findall(r"(\d+) operations", run_injector(name, tmp_path))
    assert int(count) >= 10
