"""Results of a study that never ran: a store's own files, without JAX."""

import itertools
from typing import Any

import numpy as np
import pytest
from tiny_study import LINEAR, NETWORK, UPDATES, Build, Change, parquet, run

from scaling_study.report import render
from scaling_study.storage.contents import manifest_groups
from scaling_study.storage.results import Results, load
from scaling_study.storage.writer import Store, identity
from scaling_study.study.plan import plan
from scaling_study.study.study import read_study

CHUNK_RUNS = 8  # few, so that a chunk has few rows beyond the seeds of a study


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that writes a study's results and loads them.

    ``change(row, condition)`` may alter each run's row before it is stored.
    """

    def write(
        blocks: dict[str, Any] | None = None,
        *,
        seeds: tuple[int, int] = (0, 6),
        change: Change | None = None,
        **keys: Any,
    ) -> Results:
        folder = tmp_path_factory.mktemp("results")
        study = read_study(
            {
                "name": "tiny",
                "title": "A tiny study",
                "seeds": list(seeds),
                "problem": "article",
                "scale_factor": 1000.0,
                "updates": UPDATES,
                "blocks": blocks or {"linear": LINEAR, "network": NETWORK},
                **keys,
            }
        )
        planned = plan(study, CHUNK_RUNS)
        kept = Store(folder, study, identity("cpu", planned))
        kept.begin(planned)
        for chunk in planned.chunks:
            group = planned.groups[chunk.group]
            rows = []
            for condition, seed in itertools.product(group.members(chunk), group.seeds(chunk)):
                rows.append(run(condition, seed))
                if change is not None:
                    change(rows[-1], condition)
            kept.put(chunk, parquet(rows))
        manifest = {"packages": {"numpy": np.__version__}, "python": "3.12", "devices": ["cpu:0"]}
        manifest["groups"] = manifest_groups(planned.groups)
        kept.finish({**manifest, "machine": "a test", "compile_seconds": 1.0, "run_seconds": 2.0})
        kept.close()
        return load(folder)

    return write


@pytest.fixture(scope="session")
def results(build: Build) -> Results:
    """Return raw runs that train, scaled ones that are stopped, and two networks."""
    return build()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no figure of a report whose other files alone are read."""
    monkeypatch.setattr(render, "_drawn", lambda figure, formats: [b""] * len(formats))
