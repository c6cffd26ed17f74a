"""A kill and a full disk at every file operation: nothing is lost, and nothing is left over."""

import re
from pathlib import Path
from typing import Any

import pytest
from injector import SCENARIOS
from processes import ROOT, python
from tiny_folder import STUDY, run

# Two groups, and two blocks of seeds.
WIDE: dict[str, Any] = {**STUDY, "seeds": "0:260"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("injector") / "whole"
    run(folder, WIDE)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_or_a_full_disk_at_any_operation_loses_nothing(name, whole, tmp_path):
    injector = str(ROOT / "tests" / "injector.py")
    done = python("-W", "ignore", injector, name, str(whole), str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (count,) = re.findall(r"(\d+) operations", done.stdout)
    assert int(count) >= 10
