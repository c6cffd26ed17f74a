"""A kill, or a full disk, at each file operation of a run and of a report, one after the other.

The operations are those that Python audits below one folder, and each fsync. Every attempt is a
process of its own, which is killed by the system; chunks are replayed, so that JAX computes
nothing.

python tests/support/injector.py SCENARIO WHOLE FOLDER
"""

import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from scaling_study import load
from scaling_study.engine import chunk  # imported once, not in each attempt
from scaling_study.errors import StudyError
from scaling_study.execution import preflight, runner
from scaling_study.report import page
from scaling_study.storage import reader as folder_of
from scaling_study.storage import replacing
from scaling_study.study.study import read_study

NEVER = 10**9
FAILED, BROKEN = 1, 3  # exit codes of an attempt: told in one line, anything else
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Injection(NamedTuple):
    """What happens at which operation."""

    at: int
    kind: str  # "kill" or "full"


# Operations -----------------------------------------------------------------------------------


class Operations:
    """Counts the operations of this process that change a folder, and ends one of them.

    Parameters
    ----------
    root : Path
        What is counted lies below it.
    injection : Injection
    """

    def __init__(self, root: Path, injection: Injection) -> None:
        self.root, self.injection = f"{root}{os.sep}", injection
        self.count = 0
        self._sync, self._exchange = os.fsync, replacing.exchange
        os.fsync = self._fsync  # type: ignore[assignment]
        replacing.exchange = self._exchanged
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and self._is_below(path):
                self._step(writes=True)
        elif event in ("os.rename", "os.mkdir"):
            if any(map(self._is_below, arguments[:2])):
                self._step(writes=True)
        elif event in ("os.remove", "os.rmdir", "os.truncate") and self._is_below(arguments[0]):
            self._step(writes=False)

    def _is_below(self, path: Any) -> bool:
        with suppress(TypeError, ValueError):
            return os.path.abspath(os.fsdecode(path)).startswith(self.root)
        return False

    def _step(self, writes: bool, descriptor: int | None = None) -> None:
        self.count += 1
        if self.count != self.injection.at:
            return
        if self.injection.kind == "kill":
            if descriptor is not None:  # half of what was written is there
                with suppress(OSError):
                    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        elif writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _fsync(self, descriptor: int) -> None:
        self._step(writes=True, descriptor=descriptor)
        self._sync(descriptor)

    def _exchanged(self, one: Path, other: Path) -> bool:
        self._step(writes=False)
        done = self._exchange(one, other)
        self._step(writes=False)
        return done


def attempt(work: Callable[[], Any], root: Path, injection: Injection) -> tuple[int, int]:
    """Do some work in a process of its own; return its exit code and how far it counted."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        operations = Operations(root, injection)
        code = 0
        try:
            work()
        except StudyError as error:
            code = FAILED if len(str(error).splitlines()) == 1 else BROKEN
        except BaseException:
            traceback.print_exc()
            code = BROKEN
        os.write(write, str(operations.count).encode())
        os._exit(code)
    os.close(write)
    _, status = os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        counted = pipe.read()
    return os.waitstatus_to_exitcode(status), int(counted or 0)


# Scenarios ------------------------------------------------------------------------------------


class Replay:
    """A client that returns the chunks of a folder.

    Parameters
    ----------
    whole : Path
    """

    def __init__(self, whole: Path) -> None:
        files = sorted((whole / "chunks").iterdir())
        self.rows = {file.stem.rpartition("-")[0]: file.read_bytes() for file in files}
        manifest = json.loads((whole / "manifest.json").read_text(encoding="utf-8"))
        identity = manifest["identity"]
        self.described = identity["platform"], "replayed", identity["environment"]

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        described = function.__name__ == "describe_device"
        future.set_result(self.described if described else self.rows[arguments[1]])
        return future


class Scenario:
    """What is there before, what is done, and what is to be there in the end.

    Parameters
    ----------
    name : str
    whole : Path
        Results of seeds from 0 on, in two blocks.
    folder : Path
        Empty, to work in.
    """

    def __init__(self, name: str, whole: Path, folder: Path) -> None:
        self.name, self.whole, self.root = name, whole, folder / "work"
        self.target = self.root / ("report" if name == "reporting" else "results")
        self.client = Replay(whole)
        self.study = read_study(whole / "study.toml", allow_code=True)
        self.before = folder / "before"
        self._prepare()

    def _prepare(self) -> None:
        """Make what is there before each attempt."""
        self.before.mkdir()
        place = self.before / self.target.name
        if self.name == "growing":
            self._run(place, seeds=(0, 4))
        elif self.name in ("mending", "overwriting"):
            shutil.copytree(self.whole, place)
        if self.name == "mending":
            first, second, *_ = sorted((place / "chunks").iterdir())
            first.write_bytes(first.read_bytes()[:100])
            shutil.copy(second, second.with_name(f"001{second.name[3:]}"))
            (place / "study.toml").write_text("edited = 1\n", encoding="utf-8")
        if self.name == "reporting":
            page.write_report(load(self.whole), place)
            (place / "report.md").write_text("the old one", encoding="utf-8")

    def _run(self, place: Path, **more: Any) -> None:
        runner.run(self.study, output_dir=place, client=self.client, **more)

    def reset(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.before, self.root)

    def work(self) -> None:
        """Do what may be ended at any operation; done again it must come to its end."""
        if self.name == "reporting":
            page.write_report(load(self.whole), self.target)
        else:
            self._run(self.target, overwrite=self.name == "overwriting")

    def check_between(self) -> None:
        """Look at what an attempt that ended early has left."""
        if self.name == "reporting":
            assert digests(self.target) in (digests(self.before / "report"), self.new), "mixed"
        else:
            with suppress(StudyError):  # before a study is there, and while it is edited
                folder_of.status(self.target)

    def check(self) -> None:
        """Look at what is there in the end."""
        left = [str(path) for path in self.root.rglob("*") if path.name.startswith(".")]
        assert not left, left
        if self.name == "reporting":
            assert digests(self.target) == self.new
            return
        assert digests(self.target / "chunks") == digests(self.whole / "chunks")
        assert folder_of.status(self.target).complete
        runs = load(self.target).runs
        assert not runs.duplicated(["condition", "seed"]).any()
        assert len(runs) == load(self.whole).count

    @property
    def new(self) -> dict[str, str]:
        """What a report that is made without being ended comes to."""
        found = self.__dict__.get("_new")
        if found is None:
            place = self.before.parent / "new"
            page.write_report(load(self.whole), place)
            found = self.__dict__["_new"] = digests(place)
        return found


SCENARIOS = ("fresh", "growing", "mending", "overwriting", "reporting")


def digests(folder: Path) -> dict[str, str]:
    """Return what every file below a folder holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def small_report(_: Any, about: Any, folder: Path, formats: Any) -> None:
    """Write what stands for a report: its figures would take most of the time."""
    (folder / "figures").mkdir()
    for name in ("index.html", "report.md", *(f"figures/a.{suffix}" for suffix in formats)):
        (folder / name).write_text(f"{name} of {about.heading}", encoding="utf-8")


def inject(name: str, whole: Path, folder: Path) -> int:
    """End a scenario at each of its operations in each way; return how many there are."""
    page.report_of = lambda study: SimpleNamespace(build=lambda results: None)
    page.render = small_report
    preflight.check = lambda planned, local: None  # it was checked when it ran
    runner._commit = lambda: None
    assert chunk.run_chunk  # which is replayed
    scenario = Scenario(name, whole, folder)
    if name == "reporting":
        assert scenario.new
    scenario.reset()
    code, count = attempt(scenario.work, scenario.root, Injection(NEVER, "kill"))
    assert (code, count > 0) == (0, True), (code, count)
    scenario.check()
    for kind in ("kill", "full"):
        for at in range(1, count + 1):
            scenario.reset()
            code, _ = attempt(scenario.work, scenario.root, Injection(at, kind))
            told = (-signal.SIGKILL,) if kind == "kill" else (0, FAILED)
            assert code in told, f"{name}, {kind} at {at} of {count}: exit code {code}"
            try:
                scenario.check_between()
                code, _ = attempt(scenario.work, scenario.root, Injection(NEVER, kind))
                assert code == 0, f"exit code {code}"
                scenario.check()
            except AssertionError as error:
                raise AssertionError(f"{name}, {kind} at {at} of {count}: {error}") from error
    return count


if __name__ == "__main__":
    scenario_name, whole_folder, empty_folder = sys.argv[1:]
    operations = inject(scenario_name, Path(whole_folder), Path(empty_folder))
    print(f"{scenario_name}: {operations} operations, each killed and each refused by a full disk")
