"""What is released: wheel and source archive install and run in an empty environment."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from processes import ROOT, python

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = ("scaling_study", "pyproject.toml", "README.md", "LICENSE")
OFFLINE = ("No matching distribution found", "Could not find a version")


def test_the_version_is_that_of_the_changelog_and_the_citation():
    version = PROJECT["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_all_names_every_extra_that_a_user_may_want():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = everything.partition("[")[2].rstrip("]").split(",")
    assert {*named} == {*extras} - {"all", "cuda", "docs", "lint", "test"}


def test_the_shell_completes_commands(tmp_path):
    environment = {"_SCALING_STUDY_COMPLETE": "complete_bash", "COMP_WORDS": "scaling-study re"}
    done = python("-m", "scaling_study", cwd=tmp_path, env={**environment, "COMP_CWORD": "1"})
    assert {"report", "reproduce"} <= {*done.stdout.split()}, done.stderr
    assert "rank" not in done.stdout


def run(*words: object, cwd: Path) -> str:
    """Run a program outside of this checkout; return what it prints."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=variables, capture_output=True, text=True
    )
    if done.returncode and any(text in done.stderr for text in OFFLINE):
        pytest.skip("no package index is reachable")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Return a folder with a wheel and a source archive, built from a copy of the sources."""
    place = tmp_path_factory.mktemp("release")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, place / name)
    run(sys.executable, "-m", "venv", "builder", cwd=place)
    run("builder/bin/python", "-m", "pip", "install", "--quiet", "build", cwd=place)
    run("builder/bin/python", "-m", "build", "--outdir", "dist", cwd=place)
    return place / "dist"


@pytest.mark.slow
def test_wheel_and_archive_hold_the_package(built):
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    assert f"-{PROJECT['version']}-py3-none-any" in wheel.name
    with zipfile.ZipFile(wheel) as one, tarfile.open(archive) as other:
        names = {*one.namelist()}
        packed = {name.partition("/")[2] for name in other.getnames()}
    for pattern in ("*.py", "*.toml", "*.jinja", "templates/*", "py.typed"):
        for file in (ROOT / "scaling_study").rglob(pattern):
            name = file.relative_to(ROOT).as_posix()
            assert name in names, name
            assert name in packed, name


@pytest.mark.slow
def test_a_new_environment_runs_a_study(built, tmp_path):
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    run(sys.executable, "-m", "venv", "new", cwd=tmp_path)
    pip = (tmp_path / "new" / "bin" / "python", "-m", "pip", "install", "--quiet")
    command = tmp_path / "new" / "bin" / "scaling-study"
    run(*pip, f"{wheel}[explore]", cwd=tmp_path)
    run(command, "run", "smoke", "--seeds", "0:2", "--set", "epochs=1", "-q", cwd=tmp_path)
    run(command, "report", "results/smoke", "--explore", "-q", cwd=tmp_path)
    assert (tmp_path / "reports" / "smoke" / "explore.html").exists()
    run(*pip, "--no-deps", "--force-reinstall", archive, cwd=tmp_path)
    assert run(command, "--version", cwd=tmp_path).split()[-1] == PROJECT["version"]
    run(command, "compare", "results/smoke", "results/smoke", cwd=tmp_path)
