"""Replaying trajectories that were recorded with another framework.

A reference file holds one problem, one batch order and many cases. Cases that differ only in
numbers are trained together, as conditions of one block. The loss of every update and the final
parameters are compared with the record.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling_study.engine import inputs, models, monitor, objective, optimizers, train
from scaling_study.engine.batching import Batching
from scaling_study.engine.environment import check_platform, with_pinned
from scaling_study.errors import StudyError
from scaling_study.files import read_text
from scaling_study.study import draws
from scaling_study.study.component import Component
from scaling_study.study.conditions import Condition
from scaling_study.study.encoding import encode_unique
from scaling_study.study.problems import Problem
from scaling_study.study.study import parse

PARAMETER_TOLERANCE = 1e-4  # relative to the case's largest parameter
LOSS_TOLERANCE = 1e-3  # relative, of every update


class Deviation(NamedTuple):
    """The deviation of a replayed case from its record.

    Attributes
    ----------
    case : str
        Model, optimizer, scaler and target scaling.
    objective : str
        ``moments`` or ``samples``.
    loss, gradient_norm : float
        Largest deviation over all updates, relative to the recorded loss, or to the largest norm
        of the feature.
    parameters : float
        Largest deviation of a final parameter, relative to the case's largest parameter.
    """

    case: str
    objective: str
    loss: float
    gradient_norm: float
    parameters: float

    @property
    def holds(self) -> bool:
        """Whether parameters and losses are within their tolerances; NaN is not."""
        return self.parameters <= PARAMETER_TOLERANCE and self.loss <= LOSS_TOLERANCE


@with_pinned
def verify(path: str | Path) -> list[Deviation]:
    """Replay every case of a reference file, linear models with both objectives.

    Raises
    ------
    StudyError
        If the file cannot be read or is not a reference file.
    """
    reference = _read(path)
    check_platform()
    try:
        return _verify_cases(reference)
    except StudyError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StudyError(f"{path}: not a reference trajectory ({error!r})") from None


def summary_lines(deviations: Sequence[Deviation]) -> list[str]:
    """Return the deviations as a table, with a summary as the last line."""
    width = max(len(d.case) for d in deviations) + 2
    lines = [f"{'case':<{width}}{'objective':<10}{'loss':>9}{'gradient':>10}{'parameter':>10}"]
    for d in deviations:
        lines.append(
            f"{d.case:<{width}}{d.objective:<10}{d.loss:>9.1e}{d.gradient_norm:>10.1e}"
            f"{d.parameters:>10.1e}{'' if d.holds else '  FAILS'}"
        )
    holding = sum(d.holds for d in deviations)
    return [
        *lines,
        f"{holding} of {len(deviations)} replays agree (relative loss of every update within"
        f" {LOSS_TOLERANCE:g}, parameters within {PARAMETER_TOLERANCE:g} of the largest)",
    ]


def _verify_cases(reference: dict[str, Any]) -> list[Deviation]:
    cases = reference["cases"]
    groups: dict[tuple[Component, Component], list[int]] = {}
    for index, case in enumerate(cases):
        groups.setdefault((_model(case), _optimizer(case)), []).append(index)
    found: dict[int, list[Deviation]] = {}
    for (model, optimizer), indices in groups.items():
        for kind in ("moments", "samples") if model.name == "linear" else ("samples",):
            members = [cases[index] for index in indices]
            replayed = _replay(reference, members, model, optimizer, kind)
            for index, deviation in zip(indices, replayed, strict=True):
                found.setdefault(index, []).append(deviation)
    return [deviation for index in sorted(found) for deviation in found[index]]


def _replay(
    reference: dict[str, Any],
    cases: Sequence[dict[str, Any]],
    model: Component,
    optimizer: Component,
    kind: str,
) -> list[Deviation]:
    """Replay cases that share a model and an optimizer, as the conditions of one block."""
    problem, draw = _problem(reference)
    conditions = [_condition(case, problem, model, optimizer) for case in cases]
    arrays = inputs.ConditionArrays.of(conditions)
    unique_data = encode_unique(problem, draw, arrays.datasets, transformed=False)
    data = inputs.data_of("float32", unique_data, arrays, moments=kind == "moments")
    places = _places(reference, draw)
    loss = _objective(kind, model, Batching(places.shape[1], _batch_size(reference)), problem)
    rule = optimizers.BlockOptimizer(optimizers.build(optimizer, "optax"))
    update = train.Update(loss, rule)
    parameters = _parameters([case["initial_params"] for case in cases])
    parameters = objective.unstack(parameters) if kind == "moments" else parameters
    batches = loss.prepare(data.inputs, data.residual, jnp.asarray(places[None]))
    batches = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)

    def step(state: train.State, batch: Any) -> tuple[train.State, monitor.Info]:
        state, info, _ = update.step(state, data, batch, jnp.inf, train.NEVER)
        return state, info

    final, info = jax.jit(lambda p, b: jax.lax.scan(step, update.init(p, data), b))(
        parameters, batches
    )
    ended = jax.device_get(objective.stack(final.parameters))
    info = jax.device_get(info)
    norms = monitor.to_array(info.gradient_norm)
    return [
        _deviation(
            case,
            kind,
            info.loss[:, i, 0],
            norms[:, :, i, 0],
            jax.tree.map(lambda x, i=i: x[..., i, 0], ended),
        )
        for i, case in enumerate(cases)
    ]


def _objective(kind: str, model: Component, batching: Batching, problem: Problem) -> Any:
    if kind == "moments":
        return objective.of_moments(len(problem.coefficients), batching)
    return objective.PerSample(models.build(model), batching)


def _batch_size(reference: dict[str, Any]) -> int:
    size = int(reference["batch_size"])
    if size < 1:
        raise ValueError(f"batch_size is {size}")
    return size


def _places(reference: dict[str, Any], draw: draws.Draw) -> np.ndarray:
    """Return the place of each row in each epoch's order (epochs, rows)."""
    order = np.asarray(reference["batch_order"])
    if not (np.sort(order, axis=1) == np.arange(draw.u.shape[1])).all():
        raise ValueError("an epoch of batch_order is not every row once")
    return np.argsort(order, axis=1).astype(np.int32)


def _deviation(
    case: dict[str, Any], kind: str, loss: np.ndarray, norm: np.ndarray, ended: Any
) -> Deviation:
    recorded_loss = np.asarray(case["step_loss"])
    recorded_norm = np.asarray(case["step_feature_grad_norm"])
    recorded = [np.asarray(p, dtype=np.float64) for p in case["final_params"]]
    ours = [layer[name] for layer in _layers(ended) for name in ("kernel", "bias")]
    if loss.shape != recorded_loss.shape or norm.shape != recorded_norm.shape:
        raise ValueError(f"{len(recorded_loss)} recorded losses for {len(loss)} updates")
    largest = max(np.abs(p).max() for p in recorded)
    off = max(np.abs(a - b).max() for a, b in zip(ours, recorded, strict=True))
    model = " ".join(map(str, case["model"].values()))
    optimizer = f"{_optimizer(case).name} {case['optimizer']['learning_rate']:g}"
    target = "y standardised" if case["standardize_target"] else "y raw"
    return Deviation(
        case=f"{model}, {optimizer}, {case['scaler']}, {target}",
        objective=kind,
        loss=float(np.max(np.abs(loss - recorded_loss) / np.abs(recorded_loss))),
        gradient_norm=float(np.max(np.abs(norm - recorded_norm) / recorded_norm.max(axis=0))),
        parameters=float(off / largest),
    )


def _problem(reference: dict[str, Any]) -> tuple[Problem, draws.Draw]:
    """Return the file's data as a problem without signal: its targets are all noise."""
    x = np.asarray(reference["problem"]["X"], dtype=np.float64)
    y = np.asarray(reference["problem"]["y"], dtype=np.float64)
    features = x.shape[1]
    # Powers of two, so that u is x to the bit in another unit.
    scale = 2.0 ** np.round(np.log2(np.abs(x).max(axis=0)))
    problem = Problem(lambda seed: (x / scale, y), np.zeros(features), scale, features - 1)
    return problem, draws.Draw((x / scale)[None], y[None])


def _condition(
    case: dict[str, Any], problem: Problem, model: Component, optimizer: Component
) -> Condition:
    grid = parse({"name": "verify"}).blocks["main"]
    defaults = {key: values[0] for key, values in grid.items() if key != "epochs"}
    target = "standard" if case["standardize_target"] else "none"
    given = {
        "block": "verify",
        "design": "U",
        "scale_factor": float(problem.reference_scale[problem.scaled_feature]),
        "scaler": Component(case["scaler"]),
        "target_scaler": Component(target),
        "model": model,
        "optimizer": optimizer,
        "learning_rate": float(case["optimizer"]["learning_rate"]),
        "updates": 1,
    }
    return Condition(**{**defaults, **given})


def _model(case: dict[str, Any]) -> Component:
    model = case["model"]
    if model["kind"] == "linear":
        return Component("linear")
    hidden = tuple(model["hidden"])
    return Component("mlp", (("activation", model["activation"]), ("hidden", hidden)))


def _optimizer(case: dict[str, Any]) -> Component:
    given = {k: v for k, v in case["optimizer"].items() if k not in ("name", "learning_rate")}
    component = Component(case["optimizer"]["name"], tuple(sorted(given.items())))
    return component.within(())  # a file may not name code


def _parameters(recorded: Sequence[Sequence[Any]]) -> Any:
    """Return Flax parameters (..., C, 1) from lists of kernel, bias, kernel, bias ..."""
    stacked = [
        jnp.asarray(np.stack([np.asarray(p, np.float32) for p in same], axis=-1)[..., None])
        for same in zip(*recorded, strict=True)
    ]
    pairs = zip(stacked[::2], stacked[1::2], strict=True)
    return {"params": {f"Dense_{i}": {"kernel": k, "bias": b} for i, (k, b) in enumerate(pairs)}}


def _layers(parameters: Any) -> list[Any]:
    layers = parameters["params"]
    return [layers[f"Dense_{i}"] for i in range(len(layers))]


def _read(path: str | Path) -> dict[str, Any]:
    try:
        reference = json.loads(read_text(path))
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not valid JSON, perhaps truncated ({error})") from None
    parts = {"problem", "batch_size", "batch_order", "cases"}
    missing = parts - set(reference) if isinstance(reference, dict) else parts
    if missing:
        raise StudyError(f"{path}: not a reference trajectory (no {', '.join(sorted(missing))})")
    if not reference["cases"]:
        raise StudyError(f"{path}: not a reference trajectory (cases are empty)")
    return reference
