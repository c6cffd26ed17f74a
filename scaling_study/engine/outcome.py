"""The loss of a run, in float64, from the parameters that are stored and the data.

What a device says of a loss has the rounding of its dtype, and of a column with a large offset
that can be more than the loss. So the loss of a linear model is computed again from its
parameters, and a run whose own loss was another one is not believed. NumPy.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from scaling_study.engine.inputs import Goal, Members
from scaling_study.study.encoding import Encoding

Array = np.ndarray
SLACK = 64.0  # roundings of the dtype that a loss may be off by, relative to its largest part


class Loss(NamedTuple):
    """The loss of runs, arrays (C, S).

    Attributes
    ----------
    data, excess : ndarray
        Mean loss over the training rows, without penalties; and how far it lies above the least
        loss of a linear model, NaN where that is not known.
    monitored : ndarray
        What convergence is judged by: what is minimised, less `Goal.floor`.
    rounding : ndarray
        By how much the root of the monitored loss may differ in the dtype of the training.
    """

    data: Array
    excess: Array
    monitored: Array
    rounding: Array


def loss_of(
    parameters: Any, own: Encoding, members: Members, goal: Goal, classes: int, dtype: str
) -> Loss:
    """Return the loss of linear models from their parameters.

    Parameters
    ----------
    parameters : pytree of ndarray of shape (..., C, S)
        Of one Dense unit or, of more than two classes, one a class.
    own : Encoding
        Of each condition.
    members : Members
    goal : Goal
    classes : int
        Number of classes, 0 where the target is a quantity.
    dtype : str
        Of the training.
    """
    layer = parameters["params"]["Dense_0"]
    kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    eps = float(np.finfo(dtype).eps)
    with np.errstate(all="ignore"):  # of runs that diverged
        moved, away = kernel * own.gain[:, None], kernel * own.shift[:, None]
        start = bias + away.sum(axis=0) - own.intercept
        size = np.abs(bias) + np.abs(away).sum(axis=0) + np.abs(own.intercept)
        if classes:
            loss = _log_loss(moved, start, own, classes)
            more = eps * (1 + size.max(axis=0) + np.abs(moved).sum(axis=(0, 1)))
            return Loss(loss, loss - own.loss_least, loss, more)
        parts = np.abs(moved[:, 0]) + np.abs(own.slope)
        rounding = eps * (size[0] + np.linalg.norm(_rotated(np.abs(own.factor), parts), axis=0))
        excess = _square(own.factor, moved[:, 0] - own.slope) + start[0] ** 2
        if goal.best is None:
            return Loss(excess + own.loss_least, excess, excess, rounding)
        l2 = np.where(members.l1 > 0, 0.0, members.l2)
        penalty = l2 * ((kernel[:, 0] - goal.best / own.gain) ** 2).sum(axis=0)
        monitored = _square(own.factor, moved[:, 0] - goal.best) + start[0] ** 2 + penalty
        return Loss(excess + own.loss_least, excess, monitored, rounding)


def of_network(loss: Any) -> Loss:
    """Return the loss of runs whose parameters nothing is computed from again."""
    data = np.asarray(loss, np.float64)
    return Loss(data, np.full_like(data, np.nan), data, np.zeros_like(data))


def agrees(loss: Loss, device: Any, dtype: str) -> Array:
    """Say of which runs the training's own loss is that of the parameters, within rounding."""
    eps = float(np.finfo(dtype).eps)
    with np.errstate(all="ignore"):
        one, other = np.sqrt(loss.monitored), np.sqrt(np.asarray(device, np.float64))
        allowed = SLACK * (loss.rounding + eps * one)
        return np.abs(one - other) <= allowed


def _rotated(factor: Array, vector: Array) -> Array:
    return (factor * vector[None]).sum(axis=1)


def _square(factor: Array, slope: Array) -> Array:
    """Return the mean square of ``u · slope`` over the rows, (C, S)."""
    return (_rotated(factor, slope) ** 2).sum(axis=0)


def _log_loss(kernel: Array, bias: Array, own: Encoding, classes: int) -> Array:
    """Return the mean log-loss in nats; one condition after the other, to hold few rows."""
    conditions, seeds = bias.shape[-2:]
    found = np.empty((conditions, seeds))
    for c, s in np.ndindex(conditions, seeds):
        u, labels = (part[c, s] if own.u.ndim == 4 else part[s] for part in (own.u, own.residual))
        logits = u @ kernel[..., c, s] + bias[:, c, s]
        if classes == 2:
            logits = np.column_stack([np.zeros(len(u)), logits])
        found[c, s] = -log_softmax(logits, axis=-1)[np.arange(len(u)), labels.astype(int)].mean()
    return found
