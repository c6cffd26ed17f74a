"""One run in NumPy and Optax, as one would write it without a thought for speed."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import preprocessing

from scaling_study.engine import models, optimizers
from scaling_study.study import draws
from scaling_study.study.conditions import Condition, batches_per_epoch, problem_of, split

SCALERS: dict[str, Any] = {
    "none": preprocessing.FunctionTransformer,
    "minmax": preprocessing.MinMaxScaler,
    "standard": preprocessing.StandardScaler,
    "robust": preprocessing.RobustScaler,
    "maxabs": preprocessing.MaxAbsScaler,
    "power": preprocessing.PowerTransformer,
    "normalizer": preprocessing.Normalizer,
}
SLOPES = {"relu": lambda a: (a > 0) * 1.0, "tanh": lambda a: 1 - a**2}


class Network:
    """Layers of kernel and bias, and the slope of the mean squared error by hand."""

    def __init__(self, condition: Condition, seed: int, features: int) -> None:
        model = models.build(condition.model)
        drawn = model.init(jax.random.key(seed), jnp.zeros((1, features), jnp.float32))["params"]
        self.activation = getattr(model, "activation", "relu")
        self.start = [
            np.asarray(drawn[f"Dense_{i}"][name], np.float64)
            for i in range(len(drawn))
            for name in ("kernel", "bias")
        ]

    def outputs(self, parameters: list[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
        """Return what enters each layer, and what leaves the last."""
        entering = [x]
        for i in range(0, len(parameters), 2):
            x = x @ parameters[i] + parameters[i + 1]
            if i < len(parameters) - 2:
                x = np.asarray(getattr(nn, self.activation)(x))
            entering.append(x)
        return entering

    def loss(self, parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean((self.outputs(parameters, x)[-1][:, 0] - y) ** 2))

    def gradient(self, parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list:
        entering = self.outputs(parameters, x)
        back = 2 * (entering[-1] - y[:, None]) / len(y)
        slopes: list[np.ndarray] = []
        for i in range(len(parameters) - 2, -1, -2):
            layer = entering[i // 2]
            slopes = [layer.T @ back, back.sum(axis=0), *slopes]
            back = back @ parameters[i].T
            if i:
                back = back * SLOPES[self.activation](layer)
        return slopes


class LeastSquares:
    """The best linear model of some rows."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        (samples, features), design = x.shape, np.column_stack([x, np.ones(len(x))])
        solution = np.linalg.lstsq(design, y, rcond=None)[0]
        squares = (design @ solution - y) ** 2
        noise = squares.sum() / (samples - features - 1)
        errors = np.sqrt(noise * np.diag(np.linalg.inv(design.T @ design)))[:features]
        self.weights = solution[:features]
        self.loss = float(np.mean(squares))
        self.known = np.abs(self.weights) >= 2 * errors  # weights that have a target


@dataclass
class Training:
    """The histories of a run: of each update, or from before the first to after the last."""

    network: Network
    parameters: list[np.ndarray]  # at the end
    full_loss: np.ndarray  # (updates + 1,)
    weights: np.ndarray  # (updates + 1, features), of the first unit
    batch_loss: np.ndarray  # (epochs, batches)
    batch_norm: np.ndarray  # (epochs, batches, features)
    diverged_at: int | None
    judged_every: int  # updates: by samples those of an epoch, by moments one

    def steps(self, history: np.ndarray, bound: float) -> int | None:
        """Return the update from which on a history is below a bound, where it is judged."""
        judged = history[:: self.judged_every]
        first = np.flatnonzero(~(judged <= bound)).max(initial=-1) + 1
        if first == len(judged) or self.diverged_at is not None:
            return None
        return int(first) * self.judged_every


def plain_run(condition: Condition, seed: int) -> dict[str, Any]:
    """Return what a row should hold; traces have a point for each epoch."""
    x, y = rows_of(condition, seed)
    training = train(condition, seed, x, y)
    best, null = LeastSquares(x, y), float(np.var(y))
    linear = len(training.network.start) == 2
    excess = training.full_loss - best.loss
    target = condition.tolerance * (null - best.loss) if linear else np.nan
    if condition.target_loss != "none":
        target = condition.target_loss - best.loss
    steps = training.steps(excess, target)
    return {
        "status": status_of(training, target, steps),
        "initial_loss": training.full_loss[0],
        "final_loss": training.full_loss[-1],
        "loss_ols": best.loss,
        "loss_null": null,
        "steps_to_target": steps,
        "diverged_at": training.diverged_at,
        **of_linear(training, best, excess[-1], null, linear=linear),
        **of_gradients(condition, training, x, y),
    }


def rows_of(condition: Condition, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and the target, in the units in which they are trained on."""
    problem = problem_of(condition.problem)
    u, noise = problem.draw(seed)
    scale = problem.reference_scale.copy()
    assert condition.design == "U"
    assert (scale == 1).all()
    y = noise + (problem.signal(u) if problem.signal else u @ problem.coefficients)
    scale[problem.scaled_feature] = condition.scale_factor
    x = u * scale + condition.offset * (np.arange(len(scale)) == problem.scaled_feature)
    x = SCALERS[condition.scaler.name]().fit_transform(x)
    y = SCALERS[condition.target_scaler.name]().fit_transform(y[:, None])[:, 0]
    return x, y


def train(condition: Condition, seed: int, x: np.ndarray, y: np.ndarray) -> Training:
    """Return the histories of a training, which stops where it diverges."""
    static, (samples, features) = split(condition), x.shape
    per_epoch = batches_per_epoch(static)
    epochs = condition.updates // per_epoch
    network = Network(condition, seed, features)
    optimizer = optimizers.build(condition.optimizer, condition.framework)(condition.learning_rate)
    now = network.start
    memory = optimizer.init([jnp.asarray(p) for p in now])
    ceiling = 1e6 * max(network.loss(now, x, y), float(np.var(y)))
    full_loss, weights = [network.loss(now, x, y)], [now[0][:, 0]]
    batch_loss = np.zeros((epochs, per_epoch))
    batch_norm = np.zeros((epochs, per_epoch, features))
    diverged_at = None
    for epoch, batch in np.ndindex(epochs, per_epoch):
        rows = rows_of_batch(static, seed, epoch, batch, samples)
        value = network.loss(now, x[rows], y[rows])
        if diverged_at is None and not value <= ceiling:
            diverged_at = epoch * per_epoch + batch
        if diverged_at is None:
            slopes = network.gradient(now, x[rows], y[rows])
            batch_loss[epoch, batch], batch_norm[epoch, batch] = value, norms(slopes)
            current = [jnp.asarray(p) for p in now]
            updates, memory = optimizer.update([jnp.asarray(g) for g in slopes], memory, current)
            now = [np.asarray(p) for p in optax.apply_updates(current, updates)]
        full_loss.append(network.loss(now, x, y))
        weights.append(now[0][:, 0])
    histories = np.array(full_loss), np.array(weights), batch_loss, batch_norm
    judged_every = 1 if static.objective == "moments" else per_epoch
    return Training(network, now, *histories, diverged_at, judged_every)


def norms(slopes: list[np.ndarray]) -> np.ndarray:
    return np.linalg.norm(slopes[0], axis=1)


def status_of(training: Training, target: float, steps: int | None) -> str:
    if training.diverged_at is not None:
        return "diverged"
    if np.isnan(target):
        return "no_target"
    return "not_converged" if steps is None else "converged"


def of_linear(
    training: Training, best: LeastSquares, excess: float, null: float, *, linear: bool
) -> dict[str, Any]:
    """Return the columns that only a linear model has."""
    if not linear:
        names = ("excess_loss", "excess_share", "weight", "bias", "steps_to_feature_target")
        return dict.fromkeys(names)
    kernel, bias = training.parameters
    distances = np.abs(training.weights - best.weights)
    steps = map(training.steps, distances.T, 0.1 * np.abs(best.weights))
    return {
        "excess_loss": excess,
        "excess_share": excess / (null - best.loss) if training.diverged_at is None else np.inf,
        "weight": kernel[:, 0],
        "bias": bias[0],
        "steps_to_feature_target": [
            step if known else None for step, known in zip(steps, best.known, strict=True)
        ],
    }


def of_gradients(
    condition: Condition, training: Training, x: np.ndarray, y: np.ndarray
) -> dict[str, Any]:
    """Return gradients, movement and the traces, which end where a run diverged."""
    epochs, per_epoch, _ = training.batch_norm.shape
    start, norm = training.network.start, training.batch_norm
    done = condition.updates if training.diverged_at is None else training.diverged_at
    points = per_epoch * np.arange(1, epochs + 1)
    over = (points > done)[:, None]

    def trace(history: np.ndarray) -> np.ndarray:
        return np.where(over, np.nan, history.reshape(epochs, -1)).ravel()

    return {
        "updates": done,
        "grad_norm_init": norms(training.network.gradient(start, x, y)),
        "grad_norm_first_epoch": norm[0].mean(axis=0),
        "grad_norm_mean": norm.sum(axis=(0, 1)) / done,
        "movement": np.linalg.norm(training.parameters[0] - start[0], axis=1),
        "trace_update": points,
        "trace_batch_loss": trace(training.batch_loss.mean(axis=1)),
        "trace_loss": trace(training.full_loss[per_epoch::per_epoch]),
        "trace_grad_norm": trace(norm.mean(axis=1)),
    }


def rows_of_batch(static: Any, seed: int, epoch: int, batch: int, samples: int) -> np.ndarray:
    """Return the samples of a batch, in no order."""
    if static.sampling == "full":
        return np.arange(samples)
    epochs = static.updates // batches_per_epoch(static)
    order = next(draws.orders(static, [seed], epochs))[0, epoch]
    size = static.batch_size
    if static.sampling == "replacement":
        return order[batch * size : (batch + 1) * size]
    return np.flatnonzero(order // size == batch)
