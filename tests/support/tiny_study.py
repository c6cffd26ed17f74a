"""A study's rows that no training made, in the form that the store keeps."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.storage.provenance import METADATA, provenance
from scaling_study.storage.results import Results
from scaling_study.storage.schema import FEATURE_COLUMNS
from scaling_study.study import conditions as grid

UPDATES, POINTS = 40, 10
LINEAR = {"scaler": ["none", "standard"], "optimizer": ["adam", "sgd"]}
NETWORK = {"scaler": ["none", "standard"], "model": {"name": "mlp", "hidden": 4}}
Build = Callable[..., Results]
Change = Callable[[dict[str, Any], grid.Condition], None]


def run(condition: grid.Condition, seed: int) -> dict[str, Any]:
    """Return a run: raw by adam converges for even seeds, raw by sgd diverges."""
    linear, raw = condition.model.name == "linear", condition.scaler.name == "none"
    lost = linear and raw and condition.optimizer.name == "sgd"
    arrived = linear and raw and not lost and seed % 2 == 0
    random = np.random.default_rng([seed, raw, linear])
    start = random.uniform(-1, 1, 2)
    end = start + 0.04 * random.uniform(0.5, 1, 2)
    unit = np.array([1.0, 1.0]) if raw else np.array([0.3, 290.0])
    updates = np.arange(1, POINTS + 1) * (UPDATES // POINTS)
    loss = 8e4 * np.exp(-updates / 20.0) + 98 if raw else np.full(POINTS, 8e4)
    status = "diverged" if lost else "converged" if arrived else "not_converged"
    status = status if linear else "no_target"
    return {
        "condition": condition.id,
        "seed": seed,
        "status": status,
        "reason": ""
        if linear
        else "no target: the least loss of a network is not known; set target_loss",
        "updates": 2 if lost else UPDATES,
        "initial_loss": 8e4,
        "final_loss": 1e12 if lost else float(loss[-1]) + seed,
        "loss_null": 8e4,
        "loss_ols": 98.0,
        "loss_least": 98.0 if linear else None,
        "excess_loss": (1e12 if lost else float(loss[-1]) + seed - 98) if linear else None,
        "excess_share": (np.inf if lost else (loss[-1] + seed - 98) / 8e4) if linear else None,
        "steps_to_target": 20.0 + seed if arrived else None,
        "diverged_at": 2.0 if lost else None,
        "weight_error": (0.1 + 0.01 * seed if raw else 0.99 + 0.001 * seed) if linear else None,
        "weight_error_ols": (0.1 + 0.01 * seed if raw else 0.99) if linear else None,
        "bias_init": 0.0 if linear else None,
        "bias": 0.1 if linear else None,
        "bias_original": 0.1 if linear else None,
        "weight_init": start if linear else None,
        "weight": end if linear else None,
        "weight_original": end / unit if linear else None,
        "weight_true": np.array([2.0, 0.5]),
        "weight_ols": np.array([5.4, 0.5]),
        "t_ols": np.array([1.6, 150.0]),
        "steps_to_feature_target": np.array([np.nan, 12.0 if arrived else np.nan]),
        "grad_norm_init": np.array([300.0, 4e5 if raw else 300.0]),
        "grad_norm_first_epoch": np.array([300.0, 4e5 if raw else 300.0]),
        "grad_norm_mean": np.array([200.0, 3e5 if raw else 200.0]),
        "movement": np.abs(end - start),
        "trace_update": updates if seed < 8 else None,
        "trace_batch_loss": loss,
        "trace_loss": np.full(POINTS, 1e12) if lost else loss,
        "trace_grad_norm": np.zeros(2 * POINTS) if lost else np.repeat(loss / 100, 2),
        "trace_weight": np.zeros(2 * POINTS) if linear else None,
    }


def parquet(rows: list[dict[str, Any]]) -> bytes:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    arrays = {}
    for name, values in columns.items():
        kind: pa.DataType | None = None
        if name in FEATURE_COLUMNS:
            for feature in range(2):
                own = [None if pair is None else pair[feature] for pair in values]
                arrays[f"{name}/{feature}"] = pa.array(own, type=pa.float64())
            continue
        if name.startswith("trace_"):
            kind = pa.list_(pa.int32() if name == "trace_update" else pa.float32())
        elif isinstance(values[0], float) or values[0] is None:
            kind = pa.float64()
        arrays[name] = pa.array(values, type=kind)
        if name in ("condition", "status", "reason"):
            arrays[name] = arrays[name].dictionary_encode()
    sink = io.BytesIO()
    made = {**provenance("cpu", []), "program": "", "failures": []}
    pq.write_table(pa.table(arrays, metadata={METADATA: json.dumps(made)}), sink)
    return sink.getvalue()
