"""Work that other processes do."""

import os

import joblib
import pytest

from scaling_study.report.processes import each


@pytest.mark.parametrize("cores", [1, 2])
def test_values_are_in_the_order_of_the_items(monkeypatch, cores):
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    offset = 10  # a function of this test, which no process could import
    found = list(each(lambda item: (item + offset, os.getpid()), range(5)))
    assert [value for value, _ in found] == [10, 11, 12, 13, 14]
    assert (os.getpid() in {process for _, process in found}) == (cores == 1)


def test_an_error_arrives(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        list(each(lambda item: 1 / item, [0]))
