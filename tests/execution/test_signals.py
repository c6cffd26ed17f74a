"""Signals: however and whenever they come, a run ends with exit code 130 and whole chunks."""

import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from processes import environment, has_signal, start_python
from tiny_folder import STUDY, chunks, run

from scaling_study.errors import CONTINUE
from scaling_study.execution import signals
from scaling_study.execution.executors import wait_for_result
from scaling_study.storage import reader as folder_of

# Chunks of some tens of milliseconds, for some seconds: a moment is rarely between two.
LONG: dict[str, Any] = {**STUDY, "epochs": 400, "seeds": "0:20000"}
KINDS = [signal.SIGINT, signal.SIGTERM]
HIDDEN = b"\x1b[?25l"  # what hides a terminal's cursor


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command, and wait until it handles signals."""
    # A shell's background jobs, a suite among them, have their children ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start_python("-m", "scaling_study", *arguments, cwd=folder)
    signal.signal(signal.SIGINT, before)
    while process.poll() is None and not has_signal(process.pid, "SigCgt", signal.SIGTERM):
        time.sleep(0.001)
    return process


def ends_whole(process: subprocess.Popen[str], kind: int, folder: Path) -> None:
    """Send a signal, and hold the process to how it should end."""
    process.send_signal(kind)
    begun = time.monotonic()
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert time.monotonic() - begun < 10
    (line,) = errors.splitlines()
    assert line == f"scaling-study: interrupted; {CONTINUE}"
    if (folder / "manifest.json").exists() and (folder / "study.toml").exists():
        assert not folder_of.status(folder).damaged


def signals_at_random_moments(count: int, folder: Path, choices: random.Random) -> None:
    """Run one study again and again, ended by a signal each time, and then to its end."""
    (folder / "long.toml").write_text(tomli_w.dumps(LONG), encoding="utf-8")
    arguments = ["run", "long.toml", "-q", "-o", "long", "--devices", "1"]
    for turn in range(count):
        process = start(folder, *arguments)
        time.sleep(choices.uniform(0, 4))
        ends_whole(process, KINDS[turn % 2], folder / "long")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_signal_at_a_random_moment_ends_a_run_with_whole_chunks(tmp_path):
    signals_at_random_moments(2, tmp_path, random.Random())  # one of each kind


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_hundred_signals_end_a_run_with_whole_chunks(tmp_path):
    signals_at_random_moments(100, tmp_path, random.Random())


SWALLOWING = """
import sys, time
from scaling_study.errors import CONTINUE
from scaling_study.execution import signals
signals.install()
print("ready", flush=True)
while True:
    try:
        {work}
    except BaseException:
        pass
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_ends_a_process_that_catches_every_exception(kind, tmp_path):
    code = SWALLOWING.format(work="time.sleep(10)")
    process = start_python("-c", code, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if kind == signal.SIGINT and has_signal(process.pid, "SigIgn", kind):
        process.kill()
        process.communicate()
        pytest.skip("SIGINT is ignored in a background job")
    ends_whole(process, kind, tmp_path)


SPINNING = """
import time
from scaling_study.cli.progress import busy
from scaling_study.execution import signals
signals.install()
with busy("waiting", quiet=False):
    while True:
        try:
            time.sleep(10)
        except BaseException:
            pass
"""


def test_a_signal_shows_the_cursor_that_a_spinner_hides():
    main, end = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SPINNING], env=environment(), stderr=end)
    os.close(end)
    shown = b""
    with os.fdopen(main, "rb", buffering=0) as terminal:
        while HIDDEN not in shown:
            shown += terminal.read(1000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
        with suppress(OSError):  # the other end is closed
            while more := terminal.read(1000):
                shown += more
    assert shown.rfind(signals.SHOW_CURSOR.encode()) > shown.rfind(HIDDEN)


def test_a_second_signal_ends_at_once(tmp_path):
    code = SWALLOWING.format(work="time.sleep(10)").replace(
        "signals.install()", "signals.GRACE = 60; signals.install()"
    )
    process = start_python("-c", code, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    ends_whole(process, signal.SIGTERM, tmp_path)


def test_an_interruption_from_python_is_raised_between_chunks(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:

        def interrupt(_: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", on_progress=interrupt)
        assert len(chunks(tmp_path / "stopped")) == 1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    run(tmp_path / "stopped")
    assert folder_of.status(tmp_path / "stopped").complete


def test_waiting_for_a_result_notices_a_signal(monkeypatch):
    monkeypatch.setattr(signals, "_received", threading.Event())
    threading.Timer(0.3, signals._received.set).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        wait_for_result(Future())
    assert time.monotonic() - begun < 5


def test_a_timeout_of_the_function_itself_is_its_result():
    def fails() -> None:
        raise TimeoutError("its own")

    with ThreadPoolExecutor(1) as threads, pytest.raises(TimeoutError, match="its own"):
        wait_for_result(threads.submit(fails))
