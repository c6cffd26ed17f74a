"""What is kept of a chunk: one row per run, as a table and as Parquet bytes.

A run's features are columns of its row, ``weight/0``, ``weight/1`` and so on (Parquet takes
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

from scaling_study.engine import models
from scaling_study.engine.inputs import Goal, Members, goal_of, members_of
from scaling_study.engine.outcome import Loss, agrees, loss_of, of_network
from scaling_study.engine.train import NEVER, Loop, Training
from scaling_study.engine.watch import DIVERGED_ABOVE, to_array
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
    own: Group,
    chunk: Chunk,
    training: Training,
    encoding: Encoding,
    loop: Loop,
    scores: Mapping[str, np.ndarray],
    shares: Mapping[str, np.ndarray],
) -> pa.Table:
    """Return the rows of a chunk's runs, without its padding.

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
    scores : mapping of str to ndarray of shape (C, S)
        Further columns of the runs, `evaluate.scores`.
    shares : mapping of str to ndarray of shape (d, C, S)
        Further columns of the features, `importance.shares`.
    """
    members, seeds = own.members(chunk), own.seeds(chunk)
    training, encoding = _without_padding(training, encoding, len(members))
    codes = np.repeat(np.arange(len(members), dtype=np.int32), len(seeds))
    columns = {
        "condition": pa.DictionaryArray.from_arrays(codes, [c.id for c in members]),
        "seed": np.tile(np.asarray(seeds, dtype=np.int32), len(members)),
    }
    outcome = _outcome(own, chunk, training, encoding, loop)
    runs = _runs(training, encoding, outcome)
    runs |= {name: score[: len(members)] for name, score in scores.items()}
    columns |= {name: _column(x) for name, x in runs.items()}
    features = _features(training, encoding, loop, outcome)
    features |= {name: share[:, : len(members)] for name, share in shares.items()}
    columns |= {
        f"{name}/{feature}": _column(values)
        for name, of_features in features.items()
        for feature, values in enumerate(of_features)
    }
    return pa.table(columns | _traces(training, encoding, outcome, loop, seeds))


def failed(own: Group, chunk: Chunk, features: int, reasons: Mapping[str, str]) -> pa.Table:
    """Return the rows of those conditions of a chunk that could not be trained.

    Parameters
    ----------
    own, chunk : Group, Chunk
        Whose runs they are.
    features : int
        How many features each has.
    reasons : mapping of str to str
        Why, in one line, by the condition's id.
    """
    seeds = own.seeds(chunk)
    lost = [condition.id for condition in own.members(chunk) if condition.id in reasons]
    words = list(dict.fromkeys(reasons.values()))
    runs = len(lost) * len(seeds)

    def repeated(codes: Sequence[int], names: Sequence[str]) -> pa.Array:
        indices = np.repeat(np.asarray(codes, np.int32), len(seeds))
        return pa.DictionaryArray.from_arrays(indices, list(names))

    names = [f"{name}/{feature}" for name in FEATURE_COLUMNS for feature in range(features)]
    columns: dict[str, Any] = {
        "condition": repeated(range(len(lost)), lost),
        "seed": np.tile(np.asarray(seeds, dtype=np.int32), len(lost)),
        "status": repeated([0] * len(lost), ["failed"]),
        "reason": repeated([words.index(reasons[name]) for name in lost], words),
        "updates": np.zeros(runs, np.int32),
        **dict.fromkeys((*RUN_NUMBERS, *names), pa.nulls(runs, pa.float32())),
        **dict.fromkeys(TRACES, pa.nulls(runs, pa.list_(pa.float32()))),
    }
    return pa.table(columns)


def with_failures(
    table: pa.Table, own: Group, chunk: Chunk, reasons: Mapping[str, str]
) -> pa.Table:
    """Return a chunk's rows with those of some conditions replaced by failed ones.

    Parameters
    ----------
    table : Table
        Of `to_table`.
    own, chunk : Group, Chunk
        Whose runs they are.
    reasons : mapping of str to str
        Why, in one line, by the condition's id.
    """
    seeds = len(own.seeds(chunk))
    lost = np.repeat([condition.id in reasons for condition in own.members(chunk)], seeds)
    features = sum(name.startswith("weight_true/") for name in table.column_names)
    instead = failed(own, chunk, features, reasons)
    for field in table.schema:
        if field.name not in instead.column_names:
            instead = instead.append_column(field, pa.nulls(len(instead), field.type))
    instead = instead.select(table.column_names).cast(table.schema)
    whole = pa.concat_tables([table.filter(pa.array(~lost)), instead]).unify_dictionaries()
    places = np.concatenate([np.flatnonzero(~lost), np.flatnonzero(lost)])
    return whole.take(np.argsort(places)).combine_chunks()


def to_parquet(table: pa.Table, provenance: Mapping[str, Any]) -> bytes:
    """Return a table as a Parquet file that says who made it.

    Parameters
    ----------
    table : Table
        Of `to_table`, `failed` or `with_failures`.
    provenance : mapping
        What `scaling_study.storage.provenance.provenance` says, and the digest of the program.
    """
    ended = (
        table.select(["status", "reason"])
        .group_by(["status", "reason"], use_threads=False)
        .aggregate([])
    )
    failures = {row["reason"] for row in ended.to_pylist() if row["status"] == "failed"}
    made = {**provenance, "failures": sorted(failures)}
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({METADATA: json.dumps(made, sort_keys=True)}),
        sink,
        compression="lz4",
        use_dictionary=["condition", "status", "reason"],  # type: ignore[arg-type]
        write_statistics=False,
    )
    return sink.getvalue()


def _without_padding(
    training: Training, encoding: Encoding, members: int
) -> tuple[Training, Encoding]:
    def of_runs(array: Any) -> Any:
        return array[..., :members, :] if np.ndim(array) >= 2 else array

    state = training.state._replace(parameters=_whole(training.state.parameters))
    training = training._replace(state=state, initial=_whole(training.initial))
    if members == len(training.watch.loss):
        return training, encoding
    return jax.tree.map(of_runs, training), encoding.take(np.arange(members))


class _Outcome(NamedTuple):
    """What became of runs, arrays (C, S).

    Attributes
    ----------
    members, goal : Members, Goal
        What they are, and were to reach.
    classes : int
        Number of classes, 0 where the target is a quantity.
    dtype : str
        Of the training.
    initial, final : Loss
        In float64 where the model is linear.
    believed : ndarray of bool
        Whether the training's own loss is that of the parameters.
    diverged : ndarray of bool
        At the latest with the last update.
    updates : ndarray of int
        How many each run did.
    weight : ndarray of shape (d, C, S) or None
        A single unit's weights per original unit.
    """

    members: Members
    goal: Goal
    classes: int
    dtype: str
    initial: Loss
    final: Loss
    believed: np.ndarray
    diverged: np.ndarray
    updates: np.ndarray
    weight: np.ndarray | None


def _outcome(
    own: Group, chunk: Chunk, training: Training, encoding: Encoding, loop: Loop
) -> _Outcome:
    classes, dtype = problem_of(own.static.problem).classes, own.static.dtype
    members = members_of(own, chunk.condition_block).first(len(own.members(chunk)))
    seen = training.watch
    goal = goal_of(encoding, members, classes, np.arange(len(seen.loss)))
    believed = np.ones(seen.loss.shape, bool)
    if members.linear:
        initial, final = (
            loss_of(parameters, encoding, members, goal, classes, dtype)
            for parameters in (training.initial, training.state.parameters)
        )
        believed = agrees(final, seen.loss, dtype) & agrees(initial, seen.initial_loss, dtype)
    else:
        initial, final = (of_network(loss) for loss in (seen.initial_loss, seen.loss))
    diverged_at = np.asarray(training.state.diverged_at)
    ceiling = DIVERGED_ABOVE * np.maximum(initial.data, encoding.loss_null)
    late = ~np.isfinite(seen.loss) | ~(final.data <= ceiling)
    unit = bool(seen.above.distance)
    return _Outcome(
        members=members,
        goal=goal,
        classes=classes,
        dtype=dtype,
        initial=initial,
        final=final,
        believed=believed,
        diverged=(diverged_at != NEVER) | late,
        updates=np.minimum(diverged_at, np.int32(loop.epochs * loop.batches)),
        weight=_original(training, encoding) if unit else None,
    )


def _runs(training: Training, encoding: Encoding, outcome: _Outcome) -> dict[str, Any]:
    """Return the columns of the runs, arrays (C, S), masked where a model has no such thing."""
    watch, goal = training.watch, outcome.goal
    diverged, updates = outcome.diverged, outcome.updates
    status, reason = _judged(training, outcome)
    dtype = watch.loss.dtype
    with np.errstate(all="ignore"):
        share = (outcome.final.monitored + goal.floor - goal.least) / goal.reach
    share = np.where(diverged, np.inf, share)
    known = ~np.isnan(goal.least) & (goal.reach > 0)
    converged = status == STATUSES.index("converged")
    steps = np.minimum(watch.above.loss + 1, updates)
    columns = {
        "status": pa.DictionaryArray.from_arrays(status.ravel(), list(STATUSES)),
        "reason": pa.DictionaryArray.from_arrays(
            reason.ravel(), [text.format(dtype=outcome.dtype) for text in REASONS]
        ),
        "updates": updates,
        "initial_loss": outcome.initial.data.astype(dtype),
        "final_loss": outcome.final.data.astype(dtype),
        "loss_null": encoding.loss_null.astype(dtype),
        "loss_ols": np.ma.array(
            encoding.loss_least, mask=np.full(diverged.shape, bool(outcome.classes))
        ),
        "loss_least": np.ma.array(goal.least.astype(dtype), mask=np.isnan(goal.least)),
        "excess_loss": np.ma.array(
            outcome.final.excess.astype(dtype), mask=np.isnan(outcome.final.excess)
        ),
        "excess_share": np.ma.array(share.astype(dtype), mask=~known),
        "steps_to_target": np.ma.array(steps, mask=~converged),
        "diverged_at": np.ma.array(updates, mask=~diverged),
    }
    nothing = np.ma.masked_all(diverged.shape, np.float32)
    linear = dict.fromkeys(
        ("weight_error", "weight_error_ols", "bias_init", "bias", "bias_original"), nothing
    )
    if outcome.weight is not None:
        weight = outcome.weight
        linear = {
            "weight_error": _recovery_error(weight, encoding.weight_true, encoding.spread),
            "weight_error_ols": _recovery_error(weight, encoding.weight_ols, encoding.spread),
            "bias_init": _bias(training.initial),
            "bias": _bias(training.state.parameters),
            "bias_original": _original_bias(training, encoding, weight),
        }
    return columns | linear


def _judged(training: Training, outcome: _Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of `STATUSES` and `REASONS`, arrays (C, S).

    The last parameters are judged by their loss in float64; what was monitored while training
    says from when on a run was below its target.
    """
    goal, diverged = outcome.goal, outcome.diverged
    with np.errstate(invalid="ignore"):
        below = outcome.final.monitored <= goal.target
    asked = ~np.isnan(goal.target)
    not_finite = ~np.isfinite(training.watch.loss) | ~np.isfinite(training.watch.initial_loss)
    penalised = np.broadcast_to((outcome.members.l1 + outcome.members.l2) > 0, asked.shape)
    cases = [
        (diverged & not_finite, "diverged", NOT_FINITE),
        (diverged, "diverged", TOO_LARGE),
        (~outcome.believed, "failed", DISAGREES),
        (asked & below, "converged", REACHED),
        (asked, "not_converged", ABOVE),
        (np.full(asked.shape, not outcome.members.linear), "no_target", NETWORK),
        (np.isnan(goal.least) & penalised, "no_target", PENALTY),
        (np.isnan(goal.least), "no_target", SEPARATED),
    ]
    conditions = [condition for condition, _, _ in cases]
    status = np.select(conditions, [STATUSES.index(name) for _, name, _ in cases], 2)
    reason = np.select(conditions, [code for _, _, code in cases], USELESS)
    return status.astype(np.int32), reason.astype(np.int32)


def _features(
    training: Training, encoding: Encoding, loop: Loop, outcome: _Outcome
) -> dict[str, Any]:
    """Return the columns of the features, arrays (d, C, S)."""
    watch = training.watch
    first, last = (
        models.first_kernel(parameters, loop.features)
        for parameters in (training.initial, training.state.parameters)
    )
    diverged, updates = outcome.diverged, outcome.updates
    nothing = np.ma.masked_all(encoding.weight_true.shape, np.float32)
    linear = dict.fromkeys(
        ("weight_init", "weight", "weight_original", "steps_to_feature_target"), nothing
    )
    if outcome.weight is not None:
        above = to_array(watch.above.distance)
        linear = {
            "weight_init": first[:, 0],
            "weight": last[:, 0],
            "weight_original": outcome.weight,
            "steps_to_feature_target": np.ma.array(
                above + 1, mask=diverged | ~outcome.believed | (above >= updates)
            ),
        }
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        count = np.where(updates > 0, updates, np.nan).astype(watch.loss.dtype)
        mean = to_array(watch.norm_sum) / count
        movement = np.sqrt(((last - first) ** 2).sum(axis=1))
        statistic = encoding.best / encoding.error
    return linear | {
        "weight_true": encoding.weight_true,
        "weight_ols": encoding.weight_ols,
        "t_ols": statistic.astype(watch.loss.dtype),
        "grad_norm_init": to_array(watch.norm_init),
        "grad_norm_first_epoch": to_array(watch.norm_first_epoch),
        "grad_norm_mean": mean,
        "movement": movement,
    }


def _traces(
    training: Training, encoding: Encoding, outcome: _Outcome, loop: Loop, seeds: range
) -> dict[str, Any]:
    """Return the traces as lists, null where a seed is not traced."""
    trace = training.trace
    runs = training.state.diverged_at.shape
    kept = sum(seed < TRACED_SEEDS for seed in seeds)
    nothing = pa.nulls(runs[0] * runs[1], pa.list_(pa.float32()))
    if not kept:
        return dict.fromkeys(TRACES, nothing)
    done = loop.trace_updates
    # A run's trace ends where it diverged: how long its neighbours went on is not its own.
    over = done[:, None, None] > training.state.diverged_at[:, :kept]
    traced = np.tile(np.arange(runs[1]) < kept, runs[0])

    def until(points: np.ndarray) -> np.ndarray:
        own = points[..., :kept]
        gone = over if points.ndim == 3 else over[:, None]
        return np.where(gone | ~np.isfinite(own), np.nan, own)  # the last update may overflow

    def lists(points: np.ndarray) -> Any:
        width = int(np.prod(points.shape[:-2]))
        flat = np.moveaxis(points, (-2, -1), (0, 1)).reshape(-1)
        offsets = np.concatenate([[0], np.cumsum(traced * width)]).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, pa.array(flat), mask=pa.array(~traced))

    squared = outcome.members.linear and not outcome.classes
    loss = np.asarray(trace.loss)[..., :kept]
    if squared:  # it is traced from least squares on
        loss = loss + encoding.loss_least[:, :kept]
    columns = (
        np.broadcast_to(done[:, None, None], (len(done), runs[0], kept)),
        until(np.asarray(trace.mean.loss)),
        until(loss.astype(trace.mean.loss.dtype)),
        until(to_array(trace.mean.gradient_norm)),
        until(to_array(trace.weight)) if trace.weight else None,
    )
    return dict(zip(TRACES, (nothing if x is None else lists(x) for x in columns), strict=True))


def _original(training: Training, encoding: Encoding) -> np.ndarray:
    """Return a single unit's weights per original unit, (d, C, S)."""
    weight = training.state.parameters["params"]["Dense_0"]["kernel"][:, 0]
    with np.errstate(invalid="ignore", over="ignore"):
        return encoding.target_divisor * weight / encoding.divisor


def _original_bias(training: Training, encoding: Encoding, weight: np.ndarray) -> np.ndarray:
    """Return a single unit's bias in original units, (C, S), from its weights there."""
    bias = _bias(training.state.parameters).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        own = encoding.target_shift + encoding.target_divisor * bias
        return own - (weight * encoding.centre).sum(axis=0)


def _recovery_error(weight: np.ndarray, reference: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return E = sqrt(sum (spread (w - reference))² / sum (spread reference)²) of each run."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        missed = ((spread * (weight - reference)) ** 2).sum(axis=0)
        return np.sqrt(missed / ((spread * reference) ** 2).sum(axis=0))


def _leaf(node: Any) -> np.ndarray:
    """Return an array from an array or from nested lists of arrays."""
    return np.stack([_leaf(part) for part in node]) if isinstance(node, list) else node


def _whole(parameters: Any) -> Any:
    """Return parameters as arrays, where `objective.explode` made lists of them."""
    return jax.tree.map(_leaf, parameters, is_leaf=lambda node: isinstance(node, list))


def _bias(parameters: Any) -> np.ndarray:
    return parameters["params"]["Dense_0"]["bias"][0]


def _column(values: Any) -> Any:
    """Return an array (C, S) as a column, null where it is masked."""
    if isinstance(values, pa.Array):
        return values
    flat = values.ravel()
    mask = np.ma.getmaskarray(flat) if np.ma.isMaskedArray(flat) else None
    return pa.array(np.ma.getdata(flat), mask=mask)
