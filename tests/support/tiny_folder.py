"""A tiny study, and the content of its results folder."""

from pathlib import Path
from typing import Any

import scaling_study

STUDY: dict[str, Any] = {
    "name": "tiny",
    "scale_factor": 1000.0,
    "scaler": ["none", "standard"],
    "optimizer": ["adam", "sgd"],
    "epochs": 2,
    "seeds": "0:4",
}
CONDITIONS, SEEDS, FEATURES, POINTS = 4, 4, 2, 2
WIDTH = 256  # seeds of a chunk, so that 0:260 needs a second one
TABLES = {
    "runs": ["condition", "seed"],
    "features": ["condition", "seed", "feature"],
    "traces": ["condition", "seed", "feature", "update"],
}


def run(folder: Path, study: dict[str, Any] = STUDY, **more: Any) -> scaling_study.Results:
    return scaling_study.run(study, output_dir=folder, devices=1, **more)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, to the byte."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def chunks(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.startswith("chunks")}
