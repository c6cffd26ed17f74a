"""One run in NumPy and Optax, as one would write it without a thought for speed."""

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


def plain_run(condition: Condition, seed: int) -> dict[str, Any]:
    """Return what a row should hold; traces have a point for each epoch."""
    static = split(condition)
    problem = problem_of(condition.problem)
    u, noise = problem.draw(seed)
    scale = problem.reference_scale.copy()
    y = noise + (
        problem.signal(u)
        if problem.signal is not None
        else (u * np.where(np.arange(len(scale)) == problem.scaled_feature, 1, scale))
        @ problem.coefficients
    )
    assert condition.design == "U"
    assert (problem.reference_scale == 1).all()
    scale[problem.scaled_feature] = condition.scale_factor
    x = u * scale + condition.offset * (np.arange(len(scale)) == problem.scaled_feature)
    x = SCALERS[condition.scaler.name]().fit_transform(x)
    y = SCALERS[condition.target_scaler.name]().fit_transform(y[:, None])[:, 0]
    samples, features = x.shape

    design = np.column_stack([x, np.ones(samples)])
    solution = np.linalg.lstsq(design, y, rcond=None)[0]
    loss_ols = float(np.mean((design @ solution - y) ** 2))

    network = Network(condition, seed, features)
    linear = len(network.start) == 2
    optimizer = optimizers.build(condition.optimizer, condition.framework)(condition.learning_rate)
    now = network.start
    memory = optimizer.init([jnp.asarray(p) for p in now])
    per_epoch = batches_per_epoch(static)
    epochs = condition.updates // per_epoch

    def norms(slopes: list) -> np.ndarray:
        return np.linalg.norm(slopes[0], axis=1)

    null = float(np.var(y))
    ceiling = 1e6 * max(network.loss(now, x, y), null)
    covariance = np.linalg.inv(design.T @ design)
    left = ((design @ solution - y) ** 2).sum() / (samples - features - 1)
    known = np.abs(solution[:features]) >= 2 * np.sqrt(left * np.diag(covariance)[:features])
    full_loss = [network.loss(now, x, y)]
    distances = [np.abs(now[0][:, 0] - solution[:features])]
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
        distances.append(np.abs(now[0][:, 0] - solution[:features]))

    excess = np.array(full_loss) - loss_ols
    if condition.target_loss != "none":
        target = condition.target_loss - loss_ols
    else:
        target = condition.tolerance * (null - loss_ols) if linear else np.nan
    asked = not np.isnan(target)

    def steps(history: np.ndarray, bound: float) -> int | None:
        late = np.flatnonzero(~(history <= bound))
        first = late.max(initial=-1) + 1
        return None if first == len(history) or diverged_at is not None else int(first)

    done = condition.updates if diverged_at is None else diverged_at
    points = per_epoch * np.arange(1, epochs + 1)
    over = points > done  # a trace ends where its run diverged

    def until(history: np.ndarray) -> np.ndarray:
        return np.where(over if history.ndim == 1 else over[:, None], np.nan, history)

    return {
        "status": "diverged"
        if diverged_at is not None
        else "no_target"
        if not asked
        else "not_converged"
        if steps(excess, target) is None
        else "converged",
        "updates": done,
        "initial_loss": full_loss[0],
        "final_loss": full_loss[-1],
        "loss_ols": loss_ols,
        "loss_null": null,
        "excess_loss": excess[-1] if linear else None,
        "excess_share": None
        if not linear
        else np.inf
        if diverged_at is not None
        else excess[-1] / (null - loss_ols),
        "steps_to_target": steps(excess, target),
        "diverged_at": diverged_at,
        "grad_norm_init": norms(network.gradient(network.start, x, y)),
        "grad_norm_first_epoch": batch_norm[0].mean(axis=0),
        "grad_norm_mean": batch_norm.sum(axis=(0, 1)) / done,
        "movement": np.linalg.norm(now[0] - network.start[0], axis=1),
        "weight": now[0][:, 0] if linear else None,
        "bias": now[1][0] if linear else None,
        "steps_to_feature_target": [
            steps(np.array(distances)[:, j], 0.1 * abs(solution[j])) if known[j] else None
            for j in range(features)
        ]
        if linear
        else None,
        "trace_update": points,
        "trace_batch_loss": until(batch_loss.mean(axis=1)),
        "trace_loss": until(np.array(full_loss[per_epoch::per_epoch])),
        "trace_grad_norm": until(batch_norm.mean(axis=1)).ravel(),
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
