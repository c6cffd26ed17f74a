"""The rows of a chunk: one row per run, as a table and as Parquet bytes.

The features of a run are columns of its row, ``weight/0``, ``weight/1`` and so on (Parquet takes
three times as long over lists), and its trace is lists, so that a chunk is one file and no row
can be there without the others. `scaling_study.storage.results` unfolds them into data frames.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.engine import models, outcome
from scaling_study.engine.inputs import ConditionArrays, Goal, arrays_of, goal_of
from scaling_study.engine.monitor import DIVERGED_ABOVE, to_array
from scaling_study.engine.objective import stack
from scaling_study.engine.outcome import Loss
from scaling_study.engine.train import NEVER, Budget, Training
from scaling_study.storage.provenance import METADATA
from scaling_study.storage.schema import FEATURE_COLUMNS, RUN_NUMBERS, TRACE_COLUMNS
from scaling_study.study.conditions import TRACED_SEEDS, Chunk, Group, problem_of
from scaling_study.study.encoding import Encoding

STATUSES = ("converged", "not_converged", "no_target", "diverged", "failed")
REASONS = (
    "",
    "budget ended above the target",
    "no target: the least loss of a network is not known; set target_loss",
    "no target: a hyperplane separates the classes, so the loss has no minimum",
    "no target: the least loss with this penalty is not known; set target_loss",
    "no target: least squares predicts no better than the mean",
    "non-finite loss",
    "loss above 1e6 times the initial loss and that of the best constant",
    "the loss in training is not that of the parameters, by more than rounding: the numbers are"
    " out of the range of {dtype}",
)
(REACHED, ABOVE, NETWORK, SEPARATED, PENALTY, USELESS, NOT_FINITE, TOO_LARGE, DISAGREES) = range(
    len(REASONS)
)
TRACES = tuple(f"trace_{name}" for name in TRACE_COLUMNS)


def to_table(
    group: Group,
    chunk: Chunk,
    training: Training,
    unique_data: Encoding,
    budget: Budget,
    scores: Mapping[str, np.ndarray],
    shares: Mapping[str, np.ndarray],
    named: Group | None = None,
) -> pa.Table:
    """Return the rows of a chunk's runs, without its padding.

    ``training`` has NumPy arrays ending in (C, S), and ``unique_data`` is the encoding of each
    unique data set. ``scores`` (C, S) and ``shares`` (d, C, S) are further columns of the runs and
    of the features. ``named`` is the group whose conditions the rows name, if not those trained.
    """
    members, seeds = (named or group).members(chunk), group.seeds(chunk)
    count = len(members)
    codes = np.repeat(np.arange(count, dtype=np.int32), len(seeds))
    columns: dict[str, Any] = {
        "condition": pa.DictionaryArray.from_arrays(codes, [c.id for c in members]),
        "seed": np.tile(np.asarray(seeds, dtype=np.int32), count),
    }
    runs = _Runs.of(group, chunk, _without_padding(training, count), unique_data, budget)
    of_runs = _run_columns(runs) | {name: score[:count] for name, score in scores.items()}
    columns |= {name: _column(values) for name, values in of_runs.items()}
    of_features = _feature_columns(runs) | {name: x[:, :count] for name, x in shares.items()}
    for name, values in of_features.items():
        columns |= {f"{name}/{j}": _column(values, j) for j in range(budget.features)}
    return pa.table(columns | _traces(runs, seeds))


def failed(group: Group, chunk: Chunk, features: int, reasons: Mapping[str, str]) -> pa.Table:
    """Return the rows of conditions that could not be trained; reasons are by their id."""
    seeds = group.seeds(chunk)
    lost = [condition.id for condition in group.members(chunk) if condition.id in reasons]
    texts = list(dict.fromkeys(reasons.values()))
    runs = len(lost) * len(seeds)

    def repeated(codes: Sequence[int], values: Sequence[str]) -> pa.Array:
        indices = np.repeat(np.asarray(codes, np.int32), len(seeds))
        return pa.DictionaryArray.from_arrays(indices, list(values))

    names = [f"{name}/{feature}" for name in FEATURE_COLUMNS for feature in range(features)]
    columns: dict[str, Any] = {
        "condition": repeated(range(len(lost)), lost),
        "seed": np.tile(np.asarray(seeds, dtype=np.int32), len(lost)),
        "status": repeated([0] * len(lost), ["failed"]),
        "reason": repeated([texts.index(reasons[name]) for name in lost], texts),
        "updates": np.zeros(runs, np.int32),
        **dict.fromkeys((*RUN_NUMBERS, *names), pa.nulls(runs, pa.float32())),
        **dict.fromkeys(TRACES, pa.nulls(runs, pa.list_(pa.float32()))),
    }
    return pa.table(columns)


def with_failures(
    table: pa.Table, group: Group, chunk: Chunk, reasons: Mapping[str, str]
) -> pa.Table:
    """Return a chunk's rows, `to_table`, with those of some conditions replaced by failed ones."""
    seeds = len(group.seeds(chunk))
    lost = np.repeat([condition.id in reasons for condition in group.members(chunk)], seeds)
    features = sum(name.startswith("weight_true/") for name in table.column_names)
    rows = failed(group, chunk, features, reasons)
    for field in table.schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    rows = rows.select(table.column_names).cast(table.schema)
    merged = pa.concat_tables([table.filter(pa.array(~lost)), rows]).unify_dictionaries()
    places = np.concatenate([np.flatnonzero(~lost), np.flatnonzero(lost)])
    return merged.take(np.argsort(places)).combine_chunks()


def to_parquet(table: pa.Table, provenance: Mapping[str, Any]) -> bytes:
    """Return a table as a Parquet file with its provenance, and the digest of the program."""
    ended = (
        table.select(["status", "reason"])
        .group_by(["status", "reason"], use_threads=False)
        .aggregate([])
    )
    failures = {row["reason"] for row in ended.to_pylist() if row["status"] == "failed"}
    metadata = json.dumps({**provenance, "failures": sorted(failures)}, sort_keys=True)
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({METADATA: metadata}),
        sink,
        compression="lz4",
        use_dictionary=["condition", "status", "reason"],  # type: ignore[arg-type]
        write_statistics=False,
    )
    return sink.getvalue()


def _without_padding(training: Training, members: int) -> Training:
    """Return the training of the first conditions, its parameters as arrays."""
    state = training.state._replace(parameters=stack(training.state.parameters, np))
    training = training._replace(state=state, initial=stack(training.initial, np))
    if members == len(training.monitor.loss):
        return training
    return jax.tree.map(lambda x: x[..., :members, :] if np.ndim(x) >= 2 else x, training)


class _Masked(NamedTuple):
    """An array whose masked values are null."""

    values: np.ndarray
    mask: np.ndarray


class _Runs(NamedTuple):
    """The runs of a chunk and their outcome, arrays (C, S)."""

    arrays: ConditionArrays
    goal: Goal
    classes: int
    dtype: str  # of the training
    training: Training
    unique_data: Encoding
    budget: Budget
    initial: Loss  # in float64 where the model is linear
    final: Loss
    agrees: np.ndarray  # whether the training's own loss is that of the parameters
    diverged: np.ndarray  # at the latest with the last update
    updates: np.ndarray  # number of updates
    weight: np.ndarray | None  # (d, C, S), of a single unit, per original unit

    @classmethod
    def of(
        cls, group: Group, chunk: Chunk, training: Training, unique_data: Encoding, budget: Budget
    ) -> "_Runs":
        """Return the runs of a training without padding."""
        classes, dtype = problem_of(group.static.problem).classes, group.static.dtype
        arrays = arrays_of(group, chunk.condition_block).first(len(group.members(chunk)))
        monitor, parameters = training.monitor, training.state.parameters
        goal = goal_of(unique_data, arrays, classes)
        agrees = np.ones(monitor.loss.shape, bool)
        if arrays.linear:
            known = outcome.LinearModels(unique_data, arrays, goal, classes, dtype)
            initial, final = known.initial_loss(training.initial), known.loss(parameters)
            agrees &= outcome.agrees(final, monitor.loss, dtype)
            agrees &= outcome.agrees(initial, monitor.initial_loss, dtype)
        else:
            initial = outcome.of_network(monitor.initial_loss)
            final = outcome.of_network(monitor.loss)
        rows = arrays.datasets.inverse
        diverged_at = np.asarray(training.state.diverged_at)
        threshold = DIVERGED_ABOVE * np.maximum(initial.data, unique_data.loss_null[rows])
        late = ~np.isfinite(monitor.loss) | ~(final.data <= threshold)
        weight = None
        if len(monitor.last_above.distance):  # of a single unit
            kernel = parameters["params"]["Dense_0"]["kernel"][:, 0]
            with np.errstate(invalid="ignore", over="ignore"):
                weight = unique_data.target_divisor[rows] * kernel / unique_data.divisor[:, rows]
        return cls(
            *(arrays, goal, classes, dtype, training, unique_data, budget, initial, final, agrees),
            diverged=(diverged_at != NEVER) | late,
            updates=np.minimum(diverged_at, np.int32(budget.epochs * budget.batches)),
            weight=weight,
        )

    def expand(self, array: np.ndarray) -> np.ndarray:
        """Return an array (..., n_kinds, S) as (..., C, S)."""
        return array[..., self.arrays.datasets.inverse, :]

    def nulls(self, dtype: pa.DataType) -> pa.Array:
        """Return a column without values."""
        return pa.nulls(self.diverged.size, dtype)

    @property
    def float_type(self) -> np.dtype:
        """The type of most columns."""
        return self.training.monitor.loss.dtype


def _run_columns(runs: _Runs) -> dict[str, Any]:
    """Return the columns of the runs, null where a model has no such thing."""
    goal, unique_data, dtype, diverged = runs.goal, runs.unique_data, runs.float_type, runs.diverged
    status, reason = _status_and_reason(runs)
    with np.errstate(all="ignore"):
        share = (runs.final.monitored + goal.floor - goal.least) / goal.explained
    share[diverged] = np.inf
    unknown = np.isnan(goal.least)
    excess = runs.final.excess
    converged = status == STATUSES.index("converged")
    steps = np.minimum(runs.training.monitor.last_above.loss + 1, runs.updates)
    return {
        "status": pa.DictionaryArray.from_arrays(status.ravel(), list(STATUSES)),
        "reason": pa.DictionaryArray.from_arrays(
            reason.ravel(), [text.format(dtype=runs.dtype) for text in REASONS]
        ),
        "updates": runs.updates,
        "initial_loss": runs.initial.data.astype(dtype),
        "final_loss": runs.final.data.astype(dtype),
        "loss_null": runs.expand(unique_data.loss_null.astype(dtype)),
        "loss_ols": (
            runs.nulls(pa.float64()) if runs.classes else runs.expand(unique_data.loss_least)
        ),
        "loss_least": _Masked(goal.least.astype(dtype), unknown),
        "excess_loss": _Masked(excess.astype(dtype), np.isnan(excess)),
        "excess_share": _Masked(share.astype(dtype), unknown | ~(goal.explained > 0)),
        "steps_to_target": _Masked(steps, ~converged),
        "diverged_at": _Masked(runs.updates, ~diverged),
        **_unit_columns(runs),
    }


def _unit_columns(runs: _Runs) -> dict[str, Any]:
    """Return the columns of the runs that only a single unit has."""
    weight, unique_data = runs.weight, runs.unique_data
    if weight is None:
        names = ("weight_error", "weight_error_ols", "bias_init", "bias", "bias_original")
        return dict.fromkeys(names, runs.nulls(pa.float32()))
    bias = _bias(runs.training.state.parameters)
    with np.errstate(invalid="ignore", over="ignore"):
        divisor = runs.expand(unique_data.target_divisor)
        shift = runs.expand(unique_data.target_shift)
        original = shift + divisor * bias.astype(np.float64)
        original = original - (weight * runs.expand(unique_data.centre)).sum(axis=0)
    return {
        "weight_error": _recovery_error(runs, unique_data.weight_true),
        "weight_error_ols": _recovery_error(runs, unique_data.weight_ols),
        "bias_init": _bias(runs.training.initial),
        "bias": bias,
        "bias_original": original,
    }


def _recovery_error(runs: _Runs, reference: np.ndarray) -> np.ndarray:
    """Return E = sqrt(sum (spread (w - reference))² / sum (spread reference)²) of each run."""
    spread = runs.unique_data.spread
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        size = runs.expand(((spread * reference) ** 2).sum(axis=0))
        missed = runs.expand(spread) * (runs.weight - runs.expand(reference))
        return np.sqrt((missed**2).sum(axis=0) / size)


def _status_and_reason(runs: _Runs) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of `STATUSES` and `REASONS`, arrays (C, S).

    The last parameters are judged by their loss in float64; what was monitored while training
    says since which update a run is below its target.
    """
    goal, diverged, monitor = runs.goal, runs.diverged, runs.training.monitor
    with np.errstate(invalid="ignore"):
        below = runs.final.monitored <= goal.target
    has_target, unknown = ~np.isnan(goal.target), np.isnan(goal.least)
    not_finite = ~np.isfinite(monitor.loss) | ~np.isfinite(monitor.initial_loss)
    cases = [
        (diverged & not_finite, "diverged", NOT_FINITE),
        (diverged, "diverged", TOO_LARGE),
        (~runs.agrees, "failed", DISAGREES),
        (has_target & below, "converged", REACHED),
        (has_target, "not_converged", ABOVE),
        (np.full(below.shape, not runs.arrays.linear), "no_target", NETWORK),
        (unknown & ((runs.arrays.l1 + runs.arrays.l2) > 0), "no_target", PENALTY),
        (unknown, "no_target", SEPARATED),
        (np.ones(below.shape, bool), "no_target", USELESS),
    ]
    case = np.select([found for found, _, _ in cases], range(len(cases)))
    status = np.array([STATUSES.index(name) for _, name, _ in cases], np.int32)
    return status[case], np.array([code for _, _, code in cases], np.int32)[case]


def _feature_columns(runs: _Runs) -> dict[str, Any]:
    """Return the columns of the features, arrays (d, C, S), null where a model has none."""
    training, unique_data, monitor = runs.training, runs.unique_data, runs.training.monitor
    first, last = (
        models.first_kernel(parameters, runs.budget.features)
        for parameters in (training.initial, training.state.parameters)
    )
    names = ("weight_init", "weight", "weight_original", "steps_to_feature_target")
    of_unit: dict[str, Any] = dict.fromkeys(names, runs.nulls(pa.float32()))
    if runs.weight is not None:
        above = to_array(monitor.last_above.distance)
        missed = runs.diverged | ~runs.agrees | (above >= runs.updates)
        steps = _Masked(above + 1, missed)
        of_unit = dict(zip(names, (first[:, 0], last[:, 0], runs.weight, steps), strict=True))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        count = np.where(runs.updates > 0, runs.updates, np.nan).astype(runs.float_type)
        mean = to_array(monitor.norm_sum) / count
        movement = np.sqrt(((last - first) ** 2).sum(axis=1))
        statistic = (unique_data.best / unique_data.error).astype(runs.float_type)
    return of_unit | {
        "weight_true": runs.expand(unique_data.weight_true),
        "weight_ols": runs.expand(unique_data.weight_ols),
        "t_ols": runs.expand(statistic),
        "grad_norm_init": to_array(monitor.norm_init),
        "grad_norm_first_epoch": to_array(monitor.norm_first_epoch),
        "grad_norm_mean": mean,
        "movement": movement,
    }


def _traces(runs: _Runs, seeds: range) -> dict[str, Any]:
    """Return the traces as lists, null where a seed is not traced."""
    trace, done = runs.training.trace, runs.budget.trace_updates
    conditions, width = runs.diverged.shape
    kept = sum(seed < TRACED_SEEDS for seed in seeds)
    nothing = runs.nulls(pa.list_(pa.float32()))
    if not kept:
        return dict.fromkeys(TRACES, nothing)
    # A run's trace ends where it diverged, however long its neighbours went on.
    over = done[:, None, None] > runs.training.state.diverged_at[:, :kept]
    traced = np.tile(np.arange(width) < kept, conditions)

    def until(points: np.ndarray) -> np.ndarray:
        points = points[..., :kept]
        ended = over if points.ndim == 3 else over[:, None]
        return np.where(ended | ~np.isfinite(points), np.nan, points)  # the last may overflow

    def lists(points: np.ndarray) -> Any:
        length = int(np.prod(points.shape[:-2]))
        flat = np.moveaxis(points, (-2, -1), (0, 1)).reshape(-1)
        offsets = np.concatenate([[0], np.cumsum(traced * length)]).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, pa.array(flat), mask=pa.array(~traced))

    loss = np.asarray(trace.loss)[..., :kept]
    if runs.arrays.linear and not runs.classes:  # traced as the excess over least squares
        loss = loss + runs.expand(runs.unique_data.loss_least)[:, :kept]
    columns = (
        np.broadcast_to(done[:, None, None], (len(done), conditions, kept)),
        until(np.asarray(trace.mean.loss)),
        until(loss.astype(trace.mean.loss.dtype)),
        until(to_array(trace.mean.gradient_norm)),
        until(to_array(trace.weight)) if len(trace.weight) else None,
    )
    return dict(zip(TRACES, (nothing if x is None else lists(x) for x in columns), strict=True))


def _bias(parameters: Any) -> np.ndarray:
    return parameters["params"]["Dense_0"]["bias"][0]


def _column(values: Any, feature: Any = ...) -> Any:
    """Return an array (C, S), or that of a feature of (d, C, S), as a column."""
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, _Masked):
        return pa.array(values.values[feature].ravel(), mask=values.mask[feature].ravel())
    return pa.array(values[feature].ravel())
