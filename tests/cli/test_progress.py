"""What a command says while it works, where standard error is no terminal."""

import time

import pytest
from processes import PROGRESS

from scaling_study.cli import progress
from scaling_study.cli.progress import RunProgress, busy
from scaling_study.execution.runner import Progress

RUNS = 1000


@pytest.fixture
def at_once(monkeypatch):
    """Print the first line at once, and the next after a tenth of a second."""
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "APART", 0.1)


def chunk(done: int, failures: list[str] | None = None) -> Progress:
    return Progress(done, done, RUNS, 2.0, failures or [])


def test_a_long_command_says_what_it_does_and_for_how_long(at_once, capsys):
    with busy("writing", quiet=False):
        time.sleep(0.5)
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("scaling-study: writing, 0 s\n")
    assert 2 <= errors.count("\n") <= 7
    assert PROGRESS.sub("", errors) == ""


def test_a_short_or_quiet_command_says_nothing(capsys, monkeypatch):
    with busy("writing", quiet=False):
        pass
    monkeypatch.setattr(progress, "FIRST", 0.0)
    with busy("writing", quiet=True), RunProgress(quiet=True) as show:
        show(chunk(500))
    assert capsys.readouterr() == ("", "")


def test_a_run_has_a_line_for_each_tenth_of_its_runs(at_once, monkeypatch, capsys):
    monkeypatch.setattr(progress, "APART", 1e6)
    with RunProgress(quiet=False) as show:
        while not (first := capsys.readouterr().err):
            time.sleep(0.01)
        for done in range(50, RUNS + 1, 50):
            show(chunk(done))
    assert first == "scaling-study: reading, planning and compiling, 0 s\n"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "scaling-study: 100 of 1,000 runs, 50 runs/s, 0 s"
    assert lines[-1] == "scaling-study: 1,000 of 1,000 runs, 500 runs/s, 0 s"


def test_a_slow_run_has_a_line_every_while(at_once, capsys):
    with RunProgress(quiet=False) as show:
        show(chunk(10))
        time.sleep(0.5)
    assert capsys.readouterr().err.count("10 of 1,000 runs, 5 runs/s") >= 2


def test_a_run_goes_on_where_nobody_reads_its_progress(at_once, monkeypatch):
    tried = []

    def full(text: str) -> None:
        tried.append(text)
        raise OSError("no space left on device")

    monkeypatch.setattr("sys.stderr.write", full)
    with RunProgress(quiet=False) as show:
        show(chunk(500))
    assert any("500 of 1,000 runs" in text for text in tried)


@pytest.mark.parametrize("quiet", [False, True])
def test_reasons_of_failed_runs_are_printed_once_and_always(quiet, capsys):
    with RunProgress(quiet) as show:
        show(chunk(10, ["blocks.a fails"]))
        show(chunk(20, ["blocks.a fails"]))
    assert capsys.readouterr().err == "scaling-study: blocks.a fails\n"


def test_a_terminal_has_a_bar_from_the_beginning(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with RunProgress(quiet=False) as show:
        show(chunk(500))
    with busy("writing", quiet=False):
        time.sleep(0.2)
    assert "500 of 1,000 runs, 250 runs/s" in capsys.readouterr().err
