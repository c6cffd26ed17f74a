"""Code: nothing is imported from where a command is run, unless its user named it."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from processes import call, command

from scaling_study.study.component import Component, import_module

# What pandas, Arrow, JAX and others import if it is there, and modules of Python's own.
NAMES = [
    *("bottleneck", "numexpr", "pytz", "zstandard", "jax_plugins/mine", "xarray", "numba"),
    *("pyarrow_hotfix", "sitecustomize", "sklearnex", "IPython", "cloudpickle", "mine"),
]
TOUCH = "from pathlib import Path\nPath(__file__).with_suffix('.imported').touch()\n"


@pytest.fixture
def downloaded(stored, tmp_path) -> Path:
    """A folder of somebody's, with results and with modules that leave a mark."""
    shutil.copytree(stored, tmp_path / "results" / "tiny")
    for name in NAMES:
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(TOUCH, encoding="utf-8")
    return tmp_path


COMMANDS = {
    "status": ["status", "results/tiny"],
    "report": ["report", "results/tiny", "-q", "-o", "report"],
    "run": ["run", "smoke", "-q", "--seeds", "0:1", "-o", "x", "--devices", "1"],
    "list": ["list", "problems"],
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("how", ["-m", "script"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports_nothing_from_where_it_is_run(name, how, downloaded):
    script = Path(sysconfig.get_path("scripts")) / "scaling-study"
    if how == "script" and not script.exists():
        pytest.skip("the command is not installed")
    start = [sys.executable, "-m", "scaling_study"] if how == "-m" else [str(script)]
    done = call(*start, *COMMANDS[name], cwd=downloaded)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in downloaded.rglob("*.imported")] == []


@pytest.mark.slow
def test_a_reference_is_found_where_the_command_is_run_and_its_neighbours_too(downloaded):
    (downloaded / "own.py").write_text(
        "import helping\nimport optax\n\n\ndef factory(learning_rate):\n"
        "    return optax.sgd(helping.FACTOR * learning_rate)\n",
        encoding="utf-8",
    )
    (downloaded / "helping.py").write_text("FACTOR = 2\n", encoding="utf-8")
    arguments = ["run", "smoke", "-q", "--seeds", "0:1", "-o", "x", "--devices", "1"]
    done = command(*arguments, "--set", "optimizer=own:factory", cwd=downloaded)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in downloaded.rglob("*.imported")] == []


def test_the_search_path_is_what_it_was_after_an_import(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "found_once.py").write_text("import sys\nPATH = list(sys.path)\n")
    (tmp_path / "fails_once.py").write_text("raise RuntimeError\n")
    before = list(sys.path)
    assert [*before, str(tmp_path)] == import_module("found_once").PATH
    assert sys.path == before
    for name in ("fails_once", "never_there"):
        with pytest.raises((RuntimeError, ImportError)):
            import_module(name)
        assert sys.path == before
    sys.modules.pop("found_once")


def test_a_reference_is_imported_where_there_is_no_directory(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    assert Component("builtins:dict").resolve("thing", {}) is dict
    monkeypatch.chdir(tmp_path)
