"""What several modules share: a tiny study's folder, and a small paper's results."""

import os
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import PROGRAMS
from tiny_folder import run

import scaling_study
from scaling_study.analysis.claims import MODELS
from scaling_study.cli import progress
from scaling_study.storage.results import Results
from scaling_study.study.study import PRESETS

# A suite writes nothing into its user's cache: its programs are kept in the checkout, and the next
# suite compiles what has changed. JAX 0.10, that of Python 3.11, aborted once while it serialized
# one of the many hundred programs of a process.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", str(sys.version_info >= (3, 12)).lower())
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(PROGRAMS)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
MOST_BYTES = 2**31  # of programs, above which a suite begins with none
# Two processes run the suite: reports of many figures need start no others, which each import
# what draws them. The small paper's own report and test_processes.py do start them.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")
# What tests compute beside the engine is as precise as the engine on a GPU, too.
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")

# A tiny study -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of results that no test may change."""
    folder = tmp_path_factory.mktemp("store") / "tiny"
    run(folder)
    return folder


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    """Return a copy of the results, to be changed."""
    return Path(shutil.copytree(stored, tmp_path / "copy"))


@pytest.fixture(scope="session")
def results(stored: Path) -> Results:
    """Return the results of that folder."""
    return scaling_study.load(stored)


# A small paper: the preset's own blocks and claims, with few seeds, rates and updates --------

NETWORK = {"name": "mlp", "hidden": 4, "activation": "tanh"}
FEWER: dict[str, dict[str, Any]] = {
    "article": {"optimizer": "adam", "epochs": 25},
    "practice": {"optimizer": ["sgd", "adam"], "learning_rate": [1e-6, 1e-2, 1.0]},
    "units": {"optimizer": ["sgd", "adam"], "learning_rate": [1e-7, 1e-6, 1e-3, 1e-2]},
    "descent": {"scale_factor": [1.0, 10.0], "offset": [0.0, 10.0], "updates": 2000},
    "descent-scaled": {"updates": 2000},
    "floor": {"updates": 500},
    "exponents": {"optimizer": "sgd", "learning_rate": 1e-3, "updates": 2000},
    "l2": {"optimizer": "sgd", "learning_rate": 1e-3, "updates": 4000},
    "l1": {"optimizer": "sgd", "learning_rate": 1e-3, "updates": 4000},
    "decay": {"updates": 500, "optimizer": {"name": "adamw", "weight_decay": 0.5}},
    "networks": {"model": NETWORK, "learning_rate": [1e-4, 1e-3, 1e-2], "updates": 100},
    "restarts": {"init_seed": [0, 1], "updates": 40},
    "control": {"epochs": 25},
}
FACTORS = {"units-long": [1.0, 100.0, 1000.0], "networks": [1.0, 100.0, 1000.0]}
DROPPED = (
    *("article-sgd", "practice-short", "scale-aware-8", "units-short", "networks-long"),
    *("networks-sines", "clipped", "normalized", "tables"),
)


def small_paper() -> dict[str, Any]:
    """Return the study; claims about a short budget read the other."""
    raw = tomllib.loads((PRESETS / "paper.toml").read_text(encoding="utf-8"))
    blocks = {name: own for name, own in raw["blocks"].items() if not name.startswith(DROPPED)}
    for name, own in blocks.items():
        own.update(FEWER.get(name, FEWER.get(name.partition("-")[0], {})))
        if name in FACTORS:
            own["scale_factor"] = FACTORS[name]
        if name.endswith("-long") or "-long-" in name:
            own["updates"] = 200
    for claim in raw["claims"].values():
        whole = dict(claim)
        _keep_blocks(claim, whole, blocks)
        for models in MODELS[1:]:
            if "blocks" in claim.get(models, {}):
                _keep_blocks(claim[models], whole, blocks)
                if not claim[models]["blocks"]:
                    del claim[models]
    return {**raw, "name": "small", "seeds": "0:16", "blocks": blocks}


def _keep_blocks(claim: dict[str, Any], whole: dict[str, Any], blocks: Any) -> None:
    """Let a claim, or a part of it, read what is left of its blocks and of their axes."""
    if "blocks" not in claim:
        return
    kept = [block.replace("-short", "-long") for block in claim["blocks"]]
    claim["blocks"] = [block for block in dict.fromkeys(kept) if block in blocks]
    where = claim.get("where", whole.get("where", {}))
    claim["where"] = {
        axis: _still_there(axis, values, blocks, claim["blocks"])
        if isinstance(values, list)
        else values
        for axis, values in where.items()
    }
    versus = claim.get("versus", whole.get("versus"))
    if versus and isinstance(versus["others"], list):
        others = _still_there(versus["axis"], versus["others"], blocks, claim["blocks"])
        claim["versus"] = {**versus, "others": others}


def _still_there(axis: str, values: list[Any], blocks: Any, names: list[str]) -> list[Any]:
    """Return those of a claim's values that some of its blocks still have."""
    grids = [blocks[name].get(axis, values) for name in names]
    left = [item for grid in grids for item in (grid if isinstance(grid, list) else [grid])]
    return [value for value in values if value in left]


@pytest.fixture(scope="session")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Return the small paper's results."""
    return scaling_study.run(small_paper(), output_dir=tmp_path_factory.mktemp("paper") / "small")


# How a suite runs ---------------------------------------------------------------------------

# Two processes share the files: those that take longest come first, so that both end together.
ORDER = ("report", "engine", "cli", "execution", "storage", "tests", "analysis", "study")
# Files of one process, because the small paper is trained once.
PAPER = ("report/test_paper", "analysis/test_tuning", "analysis/test_metrics")
PAPER += ("analysis/test_verdicts",)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests to one process, and those of the small paper.

    The mark ``xdist_group`` would say so, but pytest 9.2 does not let pytest-xdist 3.8 read it.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "paper" if file.removesuffix(".py").endswith(PAPER) else file

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the small paper, then what takes longest; the order within a folder stays."""
    _thin_sweeps(items)
    papers = {item.path for item in items if "paper" in getattr(item, "fixturenames", ())}
    unknown = [path for path in papers if not str(path.with_suffix("")).endswith(PAPER)]
    assert unknown == [], "PAPER lacks files that use the small paper"
    items.sort(key=lambda item: (item.path not in papers, ORDER.index(item.path.parent.name)))


def _thin_sweeps(items: list[pytest.Item]) -> None:
    """Mark as slow all but n cases, evenly spread, of a test with the marker ``sweep(n)``."""
    sweeps: dict[Any, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sweep"):
            sweeps.setdefault((item.path, item.name.partition("[")[0]), []).append(item)
    for cases in sweeps.values():
        marker: Any = cases[0].get_closest_marker("sweep")
        quick = {round(i) for i in np.linspace(0, len(cases) - 1, marker.args[0])}
        for place, item in enumerate(cases):
            if place not in quick:
                item.add_marker(pytest.mark.slow)


def pytest_configure(config: pytest.Config) -> None:
    """Delete the compiled programs of earlier suites, if there are many."""
    files = PROGRAMS.glob("*")
    if not hasattr(config, "workerinput") and sum(f.stat().st_size for f in files) > MOST_BYTES:
        shutil.rmtree(PROGRAMS, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch):
    """Commands in this process print none, however slow the machine is."""
    monkeypatch.setattr(progress, "FIRST", 1e6)


@pytest.fixture(scope="module", autouse=True)
def _few_programs():
    """Let go of a module's compiled programs: hundreds crash JAX 0.10, and take gigabytes."""
    yield
    import jax

    from scaling_study.engine import compiling

    compiling._programs.clear()
    jax.clear_caches()
