"""What is kept of a chunk: one row per run, as Parquet bytes.

A run's features and its trace are lists in its row, so that a chunk is one file and no row
can be there without the others. `scaling_study.store` unfolds them into data frames.
"""

import io
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.engine import models
from scaling_study.engine.train import NEVER, Loop, Training
from scaling_study.engine.watch import TRACED_SEEDS, Trace, to_array
from scaling_study.experiment.conditions import Chunk, Group
from scaling_study.experiment.draws import Encoding

STATUSES = ("converged", "not_converged", "diverged", "failed")
REASONS = (
    "",
    "budget ended above the target",
    "no target_loss, and no minimum is known",
    "non-finite loss",
    "loss above 1e6 times the initial loss",
)


def to_parquet(
    own: Group, chunk: Chunk, training: Training, encoding: Encoding, loop: Loop
) -> bytes:
    """Return the rows of a chunk's runs, without its padding, as a Parquet file.

    Parameters
    ----------
    own, chunk : Group, Chunk
        Whose runs they are.
    training : Training
        NumPy arrays ending in (C, S).
    encoding : Encoding
        What the runs were trained on.
    loop : Loop
        The budget's shape.
    """
    members, seeds = own.members(chunk), own.seeds(chunk)
    columns = {
        **_identity([c.id for c in members], seeds),
        **_runs(training, encoding, loop, len(members)),
        **_features(training, encoding, loop, len(members)),
        **_traces(training, encoding, loop, len(members), seeds),
    }
    sink = io.BytesIO()
    table = pa.table(columns)
    pq.write_table(
        table,
        sink,
        compression="lz4",
        write_statistics=False,
        use_dictionary=["condition", "status", "reason"],
        store_schema=True,
    )
    return sink.getvalue()


def _identity(ids: list[str], seeds: range) -> dict[str, Any]:
    codes = np.repeat(np.arange(len(ids), dtype=np.int32), len(seeds))
    return {
        "condition": pa.DictionaryArray.from_arrays(codes, ids),
        "seed": np.tile(np.asarray(seeds, dtype=np.int32), len(ids)),
    }


def _runs(training: Training, encoding: Encoding, loop: Loop, members: int) -> dict[str, Any]:
    state, watch = training.state, training.watch
    linear = encoding_is_linear(training, loop)
    diverged = state.diverged_at != NEVER
    budget = loop.epochs * loop.batches
    updates = np.where(diverged, state.diverged_at, budget)
    no_target = np.isnan(watch.target.excess)
    converged = ~diverged & (watch.above.excess < budget) & ~no_target
    status = np.select([diverged, converged], [2, 0], 1)
    finite = np.isfinite(watch.excess)
    reason = np.select([converged, diverged & ~finite, diverged, no_target], [0, 3, 4, 2], 1)
    bias = None, None
    error = error_ols = None
    if linear:
        kernel, bias = (
            _kernel(state.parameters, loop),
            (_bias(training.initial), _bias(state.parameters)),
        )
        original = encoding.target_divisor * kernel[:, 0] / encoding.divisor
        error = _recovery_error(original, encoding.weight_true, encoding)
        error_ols = _recovery_error(original, encoding.weight_ols, encoding)
    columns = {
        "status": _coded(status, STATUSES, members),
        "reason": _coded(reason, REASONS, members),
        "updates": updates.astype(np.int32),
        "initial_loss": watch.initial_excess + encoding.loss_ols.astype(watch.excess.dtype),
        "final_loss": watch.excess + encoding.loss_ols.astype(watch.excess.dtype),
        "loss_ols": encoding.loss_ols,
        "excess_loss": watch.excess,
        "steps_to_target": np.ma.array(watch.above.excess + 1, mask=~converged | loop.curves),
        "diverged_at": np.ma.array(state.diverged_at, mask=~diverged),
        "weight_error": error,
        "weight_error_ols": error_ols,
        "bias_init": bias[0],
        "bias": bias[1],
    }
    return {
        name: _column(value, members, (members * diverged.shape[1],))
        for name, value in columns.items()
    }


def _features(training: Training, encoding: Encoding, loop: Loop, members: int) -> dict[str, Any]:
    state, watch = training.state, training.watch
    first, last = _kernel(training.initial, loop), _kernel(state.parameters, loop)
    diverged = state.diverged_at != NEVER
    budget = loop.epochs * loop.batches
    updates = np.where(diverged, state.diverged_at, budget)
    watched = watch.above.distance and not loop.curves
    reached = to_array(watch.above.distance) if watched else None
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = to_array(watch.norm_sum) / np.where(updates > 0, updates, np.nan).astype(
            watch.excess.dtype
        )
        movement = np.sqrt(((last - first) ** 2).sum(axis=1))
        original = None
        if encoding_is_linear(training, loop):
            original = encoding.target_divisor * last[:, 0] / encoding.divisor
    linear = original is not None
    columns = {
        "weight_init": first[:, 0] if linear or first.shape[1] == 1 else None,
        "weight": last[:, 0] if linear or first.shape[1] == 1 else None,
        "weight_original": original,
        "weight_true": encoding.weight_true,
        "weight_ols": encoding.weight_ols,
        "steps_to_feature_target": None
        if reached is None
        else np.ma.array(reached + 1, mask=(reached >= budget) | diverged),
        "grad_norm_init": to_array(watch.norm_init),
        "grad_norm_first_epoch": to_array(watch.norm_first_epoch),
        "grad_norm_mean": mean,
        "movement": movement,
    }
    rows = (members * diverged.shape[1], loop.features)
    return {name: _column(value, members, rows) for name, value in columns.items()}


def _traces(
    training: Training, encoding: Encoding, loop: Loop, members: int, seeds: range
) -> dict[str, Any]:
    trace = _with_rest(training, loop)
    kept = trace.mean.loss.shape[-1]
    traced = np.arange(len(seeds)) < (kept if seeds[0] + kept <= TRACED_SEEDS else 0)
    traced = np.tile(traced, members)
    loss_ols = encoding.loss_ols[:members, :kept]

    def lists(array: np.ndarray | None) -> Any:
        if array is None or not array.size or not traced.any():
            return pa.nulls(len(traced), pa.list_(pa.float32()))
        width = int(np.prod(array.shape[:-2]))
        flat = np.moveaxis(array[..., :members, :], (-2, -1), (0, 1)).reshape(-1, width)
        offsets = np.concatenate([[0], np.cumsum(np.where(traced, width, 0))]).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, pa.array(flat.ravel()), mask=pa.array(~traced))

    full = trace.excess[..., :members, :] + loss_ols if trace.excess is not None else None
    return {
        "trace_update": lists(
            np.broadcast_to(
                trace_updates(loop).reshape(-1, 1, 1), (loop.slots, members, kept)
            ).astype(np.int32)
        )
        if traced.any()
        else pa.nulls(len(traced), pa.list_(pa.int32())),
        "trace_batch_loss": lists(trace.mean.loss),
        "trace_loss": lists(None if full is None else full.astype(trace.mean.loss.dtype)),
        "trace_grad_norm": lists(to_array(trace.mean.gradient_norm)),
        "trace_weight": lists(to_array(trace.weight) if trace.weight else None),
    }


def _with_rest(training: Training, loop: Loop) -> Trace:
    """Return the trace with what a diverged run is left at in all later points.

    Training stops once all runs of a tile have diverged, so that the points that it wrote
    would depend on a run's neighbours.
    """
    trace, watch = training.trace, training.watch
    if trace.excess is None:
        return trace
    kept = trace.mean.loss.shape[-1]
    diverged_at = training.state.diverged_at[..., :kept]
    done = trace_updates(loop).reshape(-1, 1, 1)

    def fill(points: np.ndarray, last: Any, after: np.ndarray) -> np.ndarray:
        return np.where(after if points.ndim == 3 else after[:, None], last, points)

    frozen, idle = done > diverged_at, done - loop.batches >= diverged_at
    weights = [*_kernel(training.state.parameters, loop)[:, 0, :, :kept]] if trace.weight else []
    return Trace(
        mean=jax.tree.map(lambda points: fill(points, points.dtype.type(0), idle), trace.mean),
        excess=fill(trace.excess, watch.excess[..., :kept], frozen),
        weight=[fill(w, last, frozen) for w, last in zip(trace.weight, weights, strict=True)],
    )


def trace_updates(loop: Loop) -> np.ndarray:
    """Return the number of updates done at each point of a trace."""
    slot = np.arange(loop.epochs, dtype=np.int64) * loop.slots // loop.epochs
    last = np.searchsorted(slot, np.arange(loop.slots), side="right")
    return last * loop.batches


def encoding_is_linear(training: Training, loop: Loop) -> bool:
    """Say whether the trained model is one Dense unit."""
    layers = training.state.parameters["params"]
    return list(layers) == ["Dense_0"] and len(_leaf(layers["Dense_0"]["bias"])) == 1


def _leaf(node: Any) -> np.ndarray:
    """Return an array from an array or from the nested lists of `objective.explode`."""
    return np.stack([_leaf(part) for part in node]) if isinstance(node, list) else node


def _kernel(parameters: Any, loop: Loop) -> np.ndarray:
    return _leaf(models.first_kernel(parameters, loop.features))


def _bias(parameters: Any) -> np.ndarray:
    return _leaf(parameters["params"]["Dense_0"]["bias"])[0]


def _recovery_error(weight: np.ndarray, reference: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Return E = sqrt(sum (sd (w - reference))² / sum (sd reference)²) of each run."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        missed = ((encoding.spread * (weight - reference)) ** 2).sum(axis=0)
        return np.sqrt(missed / ((encoding.spread * reference) ** 2).sum(axis=0))


def _coded(codes: np.ndarray, words: tuple[str, ...], members: int) -> Any:
    return pa.DictionaryArray.from_arrays(codes[:members].ravel().astype(np.int32), list(words))


def _column(value: Any, members: int, shape: tuple[int, ...]) -> Any:
    """Return an array ([d, ]C, S) as a column of rows, or of rows of d-lists."""
    if value is None:
        kind = pa.float32() if len(shape) == 1 else pa.list_(pa.float32(), shape[1])
        return pa.nulls(shape[0], kind)
    if isinstance(value, pa.Array):
        return value
    if len(shape) == 1:
        flat = value[:members].reshape(shape[0])
    else:
        flat = np.moveaxis(value[:, :members], 0, -1).reshape(-1)
    mask = np.ma.getmaskarray(flat) if isinstance(flat, np.ma.MaskedArray) else None
    array = pa.array(np.ma.getdata(flat), mask=mask)
    return array if len(shape) == 1 else pa.FixedSizeListArray.from_arrays(array, shape[1])
