"""Recorded processes of other frameworks that a claim is judged by, in place of runs.

``keras_seeding.json``: the article's script up to its first kernel, in five fresh processes of
Keras 3. ``np.random.seed(42)`` draws the data, and Keras draws the initial weights from a generator
of its own.
"""

import json
from importlib import resources
from typing import Any

import numpy as np

RECORDED = {"keras_seeding": "keras_seeding.json"}


def processes(name: str) -> dict[str, np.ndarray]:
    """Return what each process after the first has equal to the first, to the bit, 1 or 0.

    Returns
    -------
    dict of str to ndarray of shape (n_processes - 1,)
        By what was recorded: ``data`` and ``initial weights``.
    """
    file = resources.files("scaling_study.analysis") / RECORDED[name]
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    first, *others = found["processes"]
    parts = {"data": ("sum_x", "sum_y"), "initial weights": ("kernel",)}
    return {
        part: np.array([float(all(one[k] == first[k] for k in keys)) for one in others])
        for part, keys in parts.items()
    }
