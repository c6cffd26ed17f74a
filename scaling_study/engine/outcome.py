"""The loss of a run, in float64, from the stored parameters and the data; NumPy.

The loss that a device computes has the rounding of its dtype, which for a column with a large
offset can be more than the loss. So the loss of a linear model is computed again from its
parameters, and a run whose own loss differs has failed.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from scaling_study.engine.inputs import ConditionArrays, Goal
from scaling_study.study.encoding import DATA, Encoding

Array = np.ndarray
SLACK = 64.0  # roundings of the dtype by which a loss may differ, relative to its largest part


class Loss(NamedTuple):
    """The loss of runs, arrays (C, S)."""

    data: Array  # mean over the training rows, without penalties
    excess: Array  # over the least loss of a linear model, NaN where that is not known
    monitored: Array  # judged for convergence: what is minimised, less `Goal.floor`
    rounding: Array  # of the root of the monitored loss, in the dtype of the training


class LinearModels(NamedTuple):
    """The runs of linear models whose loss is computed."""

    unique_data: Encoding  # encoding of each unique data set
    arrays: ConditionArrays
    goal: Goal
    classes: int  # 0 where the target is a quantity
    dtype: str  # of the training

    def loss(self, parameters: Any) -> Loss:
        """Return the loss of parameters, arrays (..., C, S)."""
        unique_data, rows, l1, l2 = self.unique_data, self.rows, self.arrays.l1, self.arrays.l2
        names = ["feature_scale", "feature_shift", "ols_coefficient", "intercept", "loss_least"]
        needed = {name: getattr(unique_data, name)[..., rows, :] for name in names}
        if unique_data.u.ndim == 4:  # each data set has inputs of its own
            needed |= {name: getattr(unique_data, name)[rows] for name in DATA}
            needed["factor"] = unique_data.factor[..., rows, :]
        l2 = np.where(l1 > 0, 0.0, l2)
        return self._loss(parameters, unique_data._replace(**needed), self.goal.coefficient, l2)

    def initial_loss(self, parameters: Any) -> Loss:
        """Return the loss of initial parameters.

        All conditions of a data set share it, unless their penalties or starts differ.
        """
        if self.goal.coefficient is not None or self.arrays.from_function.any():
            return self.loss(parameters)
        used, first, place = np.unique(self.rows, return_index=True, return_inverse=True)
        layer = parameters["params"]["Dense_0"]
        start = {"params": {"Dense_0": {name: part[..., first, :] for name, part in layer.items()}}}
        encoding = self.unique_data
        encoding = encoding if len(used) == len(encoding.loss_least) else encoding.take(used)
        return Loss(*(part[place] for part in self._loss(start, encoding, None, None)))

    @property
    def rows(self) -> Array:
        """The kind of each condition."""
        return self.arrays.datasets.inverse

    def _loss(self, parameters: Any, encoding: Encoding, best: Array | None, l2: Any) -> Loss:
        layer = parameters["params"]["Dense_0"]
        kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
        eps = float(np.finfo(self.dtype).eps)
        with np.errstate(all="ignore"):  # of runs that diverged
            scaled, shift = (
                kernel * encoding.feature_scale[:, None],
                kernel * encoding.feature_shift[:, None],
            )
            start = bias + shift.sum(axis=0) - encoding.intercept
            size = np.abs(bias) + np.abs(shift).sum(axis=0) + np.abs(encoding.intercept)
            if self.classes:
                loss = _log_loss(scaled, start, encoding, self.classes)
                rounding = eps * (1 + size.max(axis=0) + np.abs(scaled).sum(axis=(0, 1)))
                return Loss(loss, loss - encoding.loss_least, loss, rounding)
            factor, start, scaled = encoding.factor, start[0] ** 2, scaled[:, 0]
            largest = np.sqrt(
                _mean_square(np.abs(factor), np.abs(scaled) + np.abs(encoding.ols_coefficient))
            )
            rounding = eps * (size[0] + largest)
            monitored = excess = _mean_square(factor, scaled - encoding.ols_coefficient) + start
            if best is not None:
                penalty = l2 * ((kernel[:, 0] - best / encoding.feature_scale) ** 2).sum(axis=0)
                monitored = _mean_square(factor, scaled - best) + start + penalty
            return Loss(excess + encoding.loss_least, excess, monitored, rounding)


def of_network(loss: Any) -> Loss:
    """Return the loss of runs as it was computed on the device."""
    data = np.asarray(loss, np.float64)
    return Loss(data, np.full_like(data, np.nan), data, np.zeros_like(data))


def agrees(loss: Loss, device: Any, dtype: str) -> Array:
    """Return for which runs the loss of the device is that of the parameters, within rounding."""
    eps = float(np.finfo(dtype).eps)
    with np.errstate(all="ignore"):
        one, other = np.sqrt(loss.monitored), np.sqrt(np.asarray(device, np.float64))
        allowed = SLACK * (loss.rounding + eps * one)
        return np.abs(one - other) <= allowed


def _mean_square(factor: Array, coefficient: Array) -> Array:
    """Return the mean square of ``u · coefficient`` over the rows, (C, S)."""
    return ((factor * coefficient[None]).sum(axis=1) ** 2).sum(axis=0)


def _log_loss(kernel: Array, bias: Array, encoding: Encoding, classes: int) -> Array:
    """Return the mean log-loss in nats; one condition after the other, to hold few rows."""
    conditions, seeds = bias.shape[-2:]
    loss, shared = np.empty((conditions, seeds)), encoding.u.ndim == 3
    for c, s in np.ndindex(conditions, seeds):
        u, labels = (x[s] if shared else x[c, s] for x in (encoding.u, encoding.residual))
        logits = u @ kernel[..., c, s] + bias[:, c, s]
        if classes == 2:
            logits = np.column_stack([np.zeros(len(u)), logits])
        loss[c, s] = -log_softmax(logits, axis=-1)[np.arange(len(u)), labels.astype(int)].mean()
    return loss
