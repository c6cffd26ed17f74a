"""The columns of a chunk's file that hold several numbers a run: one of each feature, or a list."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scaling_study.storage.schema import FEATURE_COLUMNS, TRACE_COLUMNS

SHARE = "share_"  # prefix of the columns that record = "importances" adds
Columns = dict[str, np.ndarray]


class TracedLosses(NamedTuple):
    """The losses of R traced runs of a chunk, at P points."""

    condition: np.ndarray  # ids, (R,)
    seed: np.ndarray  # (R,)
    loss_null: np.ndarray  # of the best constant, (R,)
    loss_least: np.ndarray  # NaN where it is not known, (R,)
    update: np.ndarray  # (P,)
    loss: np.ndarray  # on all training rows, NaN from where a run has diverged, (R, P)


def stem_of(column: str) -> str:
    """Return a column's name without the index of its feature."""
    return column.partition("/")[0]


def feature_count(table: pa.Table) -> int:
    """Return the number of features of a chunk's problem."""
    return sum(stem_of(name) == "weight_true" for name in table.column_names)


def feature_columns(table: pa.Table) -> tuple[int, Columns]:
    """Return the number of rows per run of `Results.features`, and the columns of all."""
    width = feature_count(table)
    shares = [stem_of(name) for name in table.column_names if name.startswith(SHARE)]
    columns = {"position": np.tile(np.arange(width, dtype=np.int32), table.num_rows)}
    for name in dict.fromkeys((*FEATURE_COLUMNS, *shares)):
        values = [table[f"{name}/{feature}"].to_numpy() for feature in range(width)]
        columns[name] = np.stack(values, axis=-1).ravel()
    return width, columns


def trace_columns(table: pa.Table) -> tuple[int, Columns]:
    """Return the number of rows per run of `Results.traces`, and the columns of all."""
    rows, width = table.num_rows, feature_count(table)
    points = len(table["trace_update"][0]) if rows else 1
    shape = rows, points, width
    columns = {"position": np.broadcast_to(np.arange(width, dtype=np.int32), shape).ravel()}
    for name in TRACE_COLUMNS:
        per_point = width if name in ("grad_norm", "weight") else 1
        values = _lists(table, f"trace_{name}", points * per_point)
        columns[name] = np.broadcast_to(values.reshape(rows, points, per_point), shape).ravel()
    columns["update"] = columns["update"].astype(np.int32)
    return points * width, columns


def traced_losses(table: pa.Table) -> TracedLosses:
    """Return the losses of a chunk's rows, all of which are traced."""
    points = len(table["trace_update"][0])
    update, loss = (_lists(table, f"trace_{name}", points) for name in ("update", "loss"))
    seed, null, least = (table[name].to_numpy() for name in ("seed", "loss_null", "loss_least"))
    return TracedLosses(
        table["condition"].to_pandas().to_numpy(str), seed, null, least, update[0], loss
    )


def _lists(table: pa.Table, name: str, length: int) -> np.ndarray:
    """Return a list column as an array (rows, length), with NaN for null rows."""
    column = table[name].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    # Always a float type, so that the type does not depend on a chunk's null rows.
    array = np.full((len(column), length), np.nan, np.result_type(flat, np.float32))
    array[column.is_valid().to_numpy(zero_copy_only=False)] = flat.reshape(-1, length)
    return array
