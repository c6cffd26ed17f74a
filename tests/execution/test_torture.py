"""Torture in small: `make torture` does it at length."""

import random

import pytest
from torture import run_kills, run_studies


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(tmp_path):
    done = run_kills(5, random.randrange(2**32), tmp_path)
    assert done.kills == 5
    assert done.completed >= 1
    assert len(done.whole) == 36


@pytest.mark.slow
def test_no_study_file_ends_in_a_traceback():
    codes = run_studies(12, random.randrange(2**32))
    assert sum(codes.values()) >= 12
    assert codes.keys() <= {0, 1, 2}
