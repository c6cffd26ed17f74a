"""Kills at random moments and at every operation, and study files good and bad.

A little of it is in the suite, much by hand:

make torture                             50 kills, 1,000 studies, kills at each operation
python tests/support/torture.py --kills 5 --studies 20 --no-injector
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from injector import SCENARIOS
from processes import ROOT, command, environment, python
from tiny_folder import STUDY as TINY
from tiny_folder import run

from scaling_study import load
from scaling_study.cli import app as cli
from scaling_study.storage import reader as folder_of
from scaling_study.study.study import AXES

# 37 chunks in three programs, one of them in float64: long enough to be killed anywhere.
STUDY: dict[str, Any] = {
    "name": "tortured",
    "scale_factor": [1.0, 1000.0],
    "scaler": ["none", "standard"],
    "epochs": 60,
    "seeds": "0:3072",
    "blocks": {
        "linear": {"optimizer": ["adam", "sgd"], "learning_rate": [1e-3, 1e-1]},
        "exact": {"dtype": "float64"},
    },
}
RUNS = (4 * 4 + 4) * 3072


# Kills --------------------------------------------------------------------------------------


class Torture:
    """A study that is killed again and again, in a folder with a compilation cache of its own.

    Parameters
    ----------
    folder : Path
        Empty.
    choices : random.Random
        When to kill.
    """

    def __init__(self, folder: Path, choices: random.Random) -> None:
        self.folder, self.choices = folder, choices
        self.kills = self.completed = 0
        self.study = folder / "study.toml"
        self.study.write_text(tomli_w.dumps(STUDY), encoding="utf-8")
        begun = time.monotonic()
        arguments = ["run", str(self.study), "-q", "-o", "whole", "--devices", "1"]
        done = command(*arguments, cwd=folder, env=self._cache())
        assert done.returncode == 0, done.stderr
        self.seconds = time.monotonic() - begun
        self.whole = chunk_bytes(folder / "whole")

    def _cache(self) -> dict[str, str]:
        # Emptied by nobody: a killed process may leave part of a program there.
        return {
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def kill(self) -> None:
        """Start the run in its folder and kill it at a random moment."""
        process = subprocess.Popen(
            [sys.executable, "-m", "scaling_study", "run", str(self.study), "-q", "-o", "killed"],
            cwd=self.folder,
            env=environment(self._cache()),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        begun = time.monotonic()
        try:
            _, errors = process.communicate(timeout=self.choices.uniform(0, self.seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            self.kills += 1
        else:
            assert (process.returncode, errors) == (0, b""), errors
            self.seconds = min(self.seconds, time.monotonic() - begun)  # programs are kept by now
            self.check()

    def finish(self) -> None:
        """Run to the end what has been killed, and hold it to the run that never was."""
        done = command(
            "run", str(self.study), "-q", "-o", "killed", cwd=self.folder, env=self._cache()
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        self.check()

    def check(self) -> None:
        """Hold a folder that is complete to one that was never killed, and begin anew."""
        folder = self.folder / "killed"
        assert chunk_bytes(folder) == self.whole
        assert folder_of.status(folder).complete
        runs = load(folder).runs
        assert len(runs) == RUNS
        assert not runs.duplicated(["condition", "seed"]).any()
        left = [path.name for path in folder.rglob("*") if path.name.startswith(".")]
        assert not left, left
        for file in sorted(folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        self.completed += 1


def chunk_bytes(folder: Path) -> dict[str, bytes]:
    """Return every chunk file of a folder, to the byte."""
    return {file.name: file.read_bytes() for file in sorted(folder.glob("chunks/*"))}


# Studies ------------------------------------------------------------------------------------

GOOD: dict[str, list[Any]] = {
    "problem": ["article", "uniform", "sines", "decoy", {"name": "gaussian", "samples": 9}, "wine"],
    "design": ["U", "F"],
    "scale_factor": [1.0, 1e-300, 1e3, 1e300],
    "offset": [0.0, 1e4, -1e300],
    "scaler": ["none", "standard", "minmax", "robust", "quantile", "normalizer"],
    "target_scaler": ["none", "standard"],
    "model": ["linear", "mlp", {"name": "mlp", "hidden": 3, "activation": "tanh"}],
    "framework": ["keras", "torch", "optax"],
    "optimizer": ["adam", "sgd", "lion", "muon", {"name": "adam", "eps": 1e-3}],
    "learning_rate": [1e-3, 1e-300, 1.0, 1e300],
    "l1_penalty": [0.0, 0.1],
    "l2_penalty": [0.0, 1e30],
    "batch_size": [1, 7, 32, 2**31 - 1],
    "sampling": ["reshuffled", "replacement", "full"],
    "epochs": [1, 2],
    "updates": [4, 8, 12],
    "dtype": ["float32", "float64"],
    "objective": ["auto", "moments", "samples"],
    "data_seed": ["vary", 3],
    "init_seed": ["vary", 2**31 - 1],
    "order_seed": ["vary", 0],
    "tolerance": [1e-3, 1e300],
    "target_loss": ["none", 1e-300, 1.0],
    "start": ["parameters", "function"],
}
ODD = st.one_of(
    *(st.booleans(), st.text(max_size=5), st.floats(), st.integers(), st.just([])),
    st.sampled_from(["os:getcwd", "builtins:print", "nowhere:at_all", "none", 0, -1, 2**31, 2**63]),
    st.fixed_dictionaries(
        {"name": st.sampled_from(["adam", "mlp", "article"]), "x": st.integers()}
    ),
)


def _values(key: str) -> st.SearchStrategy[Any]:
    good = st.sampled_from(GOOD[key])
    right = good | st.lists(good, min_size=1, max_size=2, unique_by=repr)
    return st.integers(0, 24).flatmap(lambda chance: ODD if chance == 0 else right)


GRIDS = st.lists(st.sampled_from(sorted(AXES)), max_size=4, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: _values(key) for key in keys})
)
KEYS = {
    "title": st.text(max_size=20),
    "seeds": st.sampled_from(["0:2", "3:4", 2, [1, 2], "0:5", "2:1", "x", 2**40]),
    "record": st.sampled_from(["standard", "importances", "importances", "curves", "all"]),
    "report": st.sampled_from(["standard", "sensitivity", "real-data", "published", "lost"]),
    "name": st.sampled_from(["a", "b-c", "résumé", "../a", "a/b", "", "<b>"]),
}


def _toml(raw: dict[str, Any]) -> str:
    return tomli_w.dumps(_of_64_bits(raw))


def _of_64_bits(value: Any) -> Any:
    """Return a value in which no whole number is beyond what TOML has."""
    if isinstance(value, dict):
        return {key: _of_64_bits(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_of_64_bits(item) for item in value]
    return str(value) if isinstance(value, int) and abs(value) >= 2**63 else value


@st.composite
def study_texts(draw: st.DrawFn) -> str:
    """Return a study's text: a good one, one with odd values, or one that is no TOML."""
    raw: dict[str, Any] = draw(GRIDS)
    for key in draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=1)):
        raw[key] = draw(KEYS[key])
    raw.setdefault("seeds", "0:2")
    if not raw.keys() & {"epochs", "updates"}:
        raw["epochs"] = 1
    if draw(st.booleans()):
        raw["blocks"] = draw(
            st.dictionaries(st.sampled_from(["a", "b b", "../c"]), GRIDS, min_size=1)
        )
    text = _toml(raw)
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.text(max_size=3)) + text[place + draw(st.integers(0, 3)) :]
    return text


def outcome(text: str, folder: Path) -> int:
    """Return the exit code of a study that is run and reported; anything else raises."""
    file = folder / "study.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    status, errors = _call("run", str(file), "-q", "--overwrite", "-o", str(folder / "results"))
    if status == 0 and "curves" not in text:
        reported = _call("report", str(folder / "results"), "-q", "-o", str(folder / "report"))
        assert reported[0] in (0, 2), reported
        errors += reported[1]
    assert status in (0, 1, 2), status
    assert "Traceback" not in errors, errors
    assert status == 0 or 1 <= len(errors.splitlines()) <= 3, errors
    return status


def _call(*arguments: str) -> tuple[int, str]:
    errors = StringIO()
    with redirect_stderr(errors), redirect_stdout(StringIO()):
        try:
            cli.main(arguments)
        except SystemExit as left:
            return int(left.code or 0), errors.getvalue()
    raise AssertionError("the command did not exit")


@contextmanager
def watched() -> Iterator[dict[int, int]]:
    """Count exit codes while warnings are errors, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield {}


def run_studies(count: int, choice: int) -> dict[int, int]:
    """Run generated studies, none of which may end in a traceback; count their exit codes."""
    with watched() as codes:

        @seed(choice)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(study_texts())
        def one(text: str) -> None:
            status = outcome(text, Path.cwd())
            codes[status] = codes.get(status, 0) + 1
            if sum(codes.values()) % 100 == 0:
                print(f"{sum(codes.values())} studies, exit codes {codes}", flush=True)

        one()
        return codes


def run_kills(count: int, choice: int, folder: Path) -> Torture:
    """Kill a study's run so often, run it to its end, and hold it to one that never was."""
    torture = Torture(folder, random.Random(choice))
    while torture.kills < count:
        torture.kill()
    torture.finish()
    return torture


def run_injector(name: str, folder: Path) -> str:
    """End a scenario at each of its file operations; return how many there were, in words."""
    run(folder / "whole", {**TINY, "seeds": "0:260"})
    (folder / "place").mkdir()
    arguments = [name, str(folder / "whole"), str(folder / "place")]
    done = python(
        "-W", "ignore", str(ROOT / "tests" / "support" / "injector.py"), *arguments, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def main() -> None:
    """Torture at length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--injector", action=argparse.BooleanOptionalAction, default=True)
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        done = run_kills(asked.kills, asked.seed, Path(folder))
        print(
            f"{done.kills} kills, {done.completed} runs completed in between: every one of"
            f" {len(done.whole)} chunk files is what it is without; no row is missing or twice",
            flush=True,
        )
    for name in SCENARIOS if asked.injector else ():
        with tempfile.TemporaryDirectory() as folder:
            print(run_injector(name, Path(folder)), flush=True)
    codes = run_studies(asked.studies, asked.seed) if asked.studies else {}
    print(f"{sum(codes.values())} studies, exit codes {codes}: no traceback")


if __name__ == "__main__":
    main()
