"""The numbers of the paper's figures, each from the runs of some blocks."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis import intervals, metrics, summary, theory
from scaling_study.analysis.metrics import MEASURES, Table
from scaling_study.analysis.tuning import select_learning_rates
from scaling_study.report.labels import listing
from scaling_study.report.style import OPTIMIZERS
from scaling_study.storage.results import Results
from scaling_study.study import scalers

RATES = ("default", "tuned")
# A predicted and a measured number of updates agree within this share, or within one update.
TIME_TOLERANCE = 0.02
# Optimizer and learning rate of the runs whose contributions are shown over training.
TRACED_OPTIMIZERS = (("sgd", 1e-6), ("adam", 1e-3))


class MissingConditionsError(LookupError):
    """A study has a figure's blocks, but lacks the conditions that it shows."""


class TableCache:
    """A study's tables, of which the last two are kept: one of the paper takes 200 MB."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.get = lru_cache(maxsize=2)(lambda *blocks: Table(results, blocks))


def choose(table: Table, **axes: Any) -> Table:
    """Return the runs whose axes have these values.

    Raises
    ------
    MissingConditionsError
        If there are none.
    """
    keep = np.ones(len(table), bool)
    for axis, value in axes.items():
        wanted = value if isinstance(value, tuple) else (value,)
        keep &= table.runs[axis].isin(wanted).to_numpy()
    if not keep.any():
        raise MissingConditionsError(f"no runs with {axes}")
    return table.take(keep)


def axis_text(table: Table, axis: str) -> str:
    """Return the values of an axis as a caption lists them."""
    values = table.runs[axis].unique()
    return listing([f"{v:,}" if axis == "updates" else f"{v:g}" for v in sorted(values)])


def values(table: Table, measure: str, *axes: str) -> pd.DataFrame:
    """Return a measure's value for each run, with some of its axes."""
    frame = pd.DataFrame({axis: np.asarray(table.runs[axis]) for axis in axes})
    return frame.assign(seed=table.seeds, value=MEASURES[measure](table))


# Importance -----------------------------------------------------------------------------------


def article(table: Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a run's first and last weights as two rows, and the mean log error by scaler."""
    names = ("weight_init", "weight", "weight_true", "weight_ols", "weight_original")
    parts = [
        table.runs[["condition", "seed", "status", "scaler"]].assign(
            feature=place, **{name: table[f"{name}_{end}"] for name in names}
        )
        for place, end in enumerate(("first", "last"))
    ]
    frame = pd.concat(parts, ignore_index=True)
    frame["training_unit"] = summary.training_units(frame)
    error = intervals.mean_by(values(table, "log_weight_error", "scaler"), ["scaler"])
    return frame, error


def importance(table: Table) -> pd.DataFrame:
    """Return the scaled feature's share of permutation importance, and that of least squares."""
    parts, axes = [], ["design", "optimizer", "scale_factor"]
    for rates in RATES:
        chosen, _ = select_learning_rates(table, rates)
        found = intervals.mean_by(values(chosen, "share_permutation", *axes), axes)
        distortion = values(chosen, "distortion_permutation", *axes)
        share = MEASURES["share_permutation"](chosen) - distortion["value"]
        ols = intervals.mean_by(distortion.assign(value=share), axes)
        parts.append(found.assign(rates=rates, ols=ols["value"]))
    return pd.concat(parts, ignore_index=True)


def contribution_over_training(results: Results, table: Table) -> pd.DataFrame:
    """Return the scaled feature's share of contribution along the traced runs, by update.

    Scaled runs are the same for every factor, and are trained at one.
    """
    parts = []
    for optimizer, rate in TRACED_OPTIMIZERS:
        for factor in (100.0, 1000.0):
            chosen = choose(table, optimizer=optimizer, learning_rate=rate)
            raw = chosen.runs["scaler"] == "none"
            chosen = chosen.take((~raw | (chosen.runs["scale_factor"] == factor)).to_numpy())
            if not (chosen.runs["scaler"] == "none").any():
                raise MissingConditionsError(f"no raw runs with scale factor {factor:g}")
            panel = f"{optimizer}, rate {rate:g}, s = {factor:g}"
            traced = results.of(chosen.runs["condition"].astype(str).unique()).traces
            parts.append(_shares_over_time(traced, chosen).assign(panel=panel))
    return pd.concat(parts, ignore_index=True)


def _shares_over_time(traces: pd.DataFrame, table: Table) -> pd.DataFrame:
    keys = ["condition", "seed"]
    runs = table.runs.assign(condition=table.runs["condition"].astype(str))
    traces = traces.astype({"condition": str})
    wide = traces.pivot(index=[*keys, "update"], columns="feature", values="weight").reset_index()
    deviation = np.sqrt(np.diagonal(table.covariance, axis1=-2, axis2=-1))
    units = np.stack(
        [table[f"weight_original_{end}"] / table[f"weight_{end}"] for end in ("first", "last")], 1
    )
    scale = table.scales * deviation * units
    of_run = runs[keys].assign(
        scaler=runs["scaler"].astype(str),
        first=scale[:, 0],
        last=scale[:, 1],
        ols=metrics.share_contribution(table) - metrics.distortion_contribution(table),
    )
    both = wide.merge(of_run, on=keys)
    parts = np.abs(np.stack([both[0] * both["first"], both[1] * both["last"]], axis=-1))
    both["value"] = metrics.share_of(parts)
    grouped = both.dropna(subset=["value"]).groupby(["scaler", "update"], sort=False)
    found = grouped["value"].agg(value="median", low="min", high="max", n="count").reset_index()
    return found.assign(ols=both["ols"].mean())


# Optimization ---------------------------------------------------------------------------------


def conditioning() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return κ over range and offset, and where each scaler puts a feature from 1000 to 2000."""
    ranges = np.logspace(-3, 4, 57)
    positive = np.logspace(-1, 4, 41)
    offsets = np.concatenate([-positive[positive <= 10][::-1], [0.0], positive])
    grid = np.array([(r, o) for o in offsets for r in ranges])
    u = np.stack(np.meshgrid(*[(np.arange(40) + 0.5) / 40] * 2), axis=-1).reshape(-1, 2)
    x = np.broadcast_to(u, (len(grid), *u.shape)).copy()
    x[..., 1] = x[..., 1] * grid[:, :1] + grid[:, 1:]
    spectrum, _ = theory.spectrum(x)
    kappa = spectrum[:, 0] / spectrum[:, -1]
    rows, raw = [], u * [1.0, 1000.0] + [0.0, 1000.0]
    for name in scalers.AFFINE:
        shift, divisor = scalers.affine(name, raw)
        z = (raw - shift) / divisor
        largest, *_, least = theory.spectrum(z)[0]
        column = z[:, 1]
        rows.append((name, np.ptp(column), column.min(), largest / least))
    marks = pd.DataFrame(rows, columns=["scaler", "range", "offset", "kappa"])
    return pd.DataFrame(grid, columns=["range", "offset"]).assign(kappa=kappa), marks


def predicted_times(table: Table) -> pd.DataFrame:
    """Return ``predicted`` and ``measured`` updates to target, in the order of the runs.

    ``predicted`` is infinite where the descent is unstable, and ``measured`` is NaN beyond the
    ``budget``. ``agrees`` says whether the two agree within 2 % or one update; it is NaN where
    either is censored.
    """
    predicted = np.full(len(table), np.inf)
    start = np.stack([table["weight_init_first"], table["weight_init_last"], table["bias_init"]], 1)
    for name, rows in table.places.items():
        condition = table.conditions[name]
        loss = theory.quadratic(condition, table.seeds[rows].tolist())
        predicted[rows] = theory.steps_to_target(
            loss.eigenvalues,
            loss.components(start[rows]),
            np.full(len(rows), condition.learning_rate),
            condition.tolerance * loss.loss_explained,
        )
    measured, budget = table["steps_to_target"], table["updates"]
    slack = np.maximum(1, TIME_TOLERANCE * predicted)
    both = np.isfinite(measured) & (predicted <= budget)
    with np.errstate(invalid="ignore"):
        agrees = np.where(both, np.abs(measured - predicted) <= slack, np.nan)
    columns = {"predicted": predicted, "measured": measured, "budget": budget, "agrees": agrees}
    return pd.DataFrame(columns).assign(scaler=np.asarray(table.runs["scaler"].astype(str)))


def agreement(times: pd.DataFrame) -> pd.DataFrame:
    """Return how `predicted_times` compare, as quantities and their values."""
    judged = times.dropna(subset=["agrees"])
    off = (judged["measured"] / judged["predicted"] - 1).abs()
    off = off[(judged["measured"] - judged["predicted"]).abs() > 1]
    mismatch = ((times["predicted"] <= times["budget"]) != np.isfinite(times["measured"])).sum()
    found = {
        "runs compared": len(judged),
        "agree": judged["agrees"].sum(),
        "largest deviation beyond one update": off.max() if len(off) else 0.0,
        "censored in one and not in the other": mismatch,
    }
    return pd.DataFrame({"quantity": list(found), "value": list(found.values())})


def sgd_noise_floor(table: Table) -> pd.DataFrame:
    """Return the asymptotic loss of SGD above least squares, predicted and measured."""
    rows = []
    for name, places in table.places.items():
        condition = table.conditions[name]
        loss = theory.quadratic(condition, table.seeds[places].tolist())
        rate, batch = condition.learning_rate, condition.batch_size
        floor = theory.sgd_floor(loss.eigenvalues, rate, batch, loss.loss_ols)
        row = {"sampling": condition.sampling, "learning_rate": rate, "predicted": floor.mean()}
        rows.append(row | intervals.mean(table["excess_loss"][places])._asdict())
    return pd.DataFrame(rows)


def exponents(table: Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return updates to the scaled weight by scale factor, and the log-log slopes."""
    frame = values(table, "log_steps_last", "model", "optimizer", "scale_factor")
    frame["start"] = np.where(frame["model"].astype(str).str.contains("zeros"), "zero", "Glorot")
    frame["value"] = frame["value"].where(np.isfinite(frame["value"]))
    frame["log_s"] = np.log10(frame["scale_factor"].astype(float))
    rows = []
    groups = frame.groupby(["start", "optimizer"], sort=False, observed=True)
    for (start, optimizer), part in groups:
        known = part.dropna(subset=["value"])
        predicted = -theory.EXPONENTS[str(optimizer)]
        found = intervals.slope(known["log_s"], known["value"], known["seed"])
        row = {"start": start, "optimizer": optimizer, "predicted": predicted}
        rows.append(row | found._asdict() | {"censored": len(part) - len(known)})
    means = intervals.mean_by(frame, ["start", "optimizer", "scale_factor"])
    means[["value", "low", "high"]] = 10 ** means[["value", "low", "high"]]
    means["scale_factor"] = means["scale_factor"].astype(float)
    return means.sort_values("start", ascending=False), pd.DataFrame(rows)


def remaining_loss(table: Table) -> pd.DataFrame:
    """Return the excess share by learning rate, for raw inputs by scale factor and for scaled."""
    frame = values(
        table, "remaining_excess", "optimizer", "scaler", "scale_factor", "learning_rate"
    )
    scaled = frame["scaler"] == "standard"
    # Scaled inputs do not depend on the scale factor: results repeat across scale factors, and
    # one is kept.
    frame = frame[~scaled | (frame["scale_factor"] == frame["scale_factor"].max())]
    raw = frame["scale_factor"].map(lambda s: f"{s:g}")
    frame["inputs"] = np.where(frame["scaler"] == "standard", "scaled", raw)
    # The excess share is capped at the loss of predicting the mean.
    frame["value"] = frame["value"].clip(upper=1.0)
    means = intervals.mean_by(frame, ["optimizer", "inputs", "learning_rate"])
    means["low"] = means["low"].clip(lower=metrics.TOLERANCE)
    return means.astype({"learning_rate": float})


def incidence(table: Table) -> pd.DataFrame:
    """Return the share of seeds that had reached the target, or diverged, by update."""
    parts = []
    for rates in RATES:
        chosen, _ = select_learning_rates(table, rates)
        names = chosen.runs["condition"].astype(str).unique()
        budgets = [chosen.conditions[name].updates for name in names]
        budget = pd.DataFrame({"condition": names, "updates": budgets})
        found = summary.cumulative_incidence(chosen.runs, budget)
        of = [chosen.conditions[name] for name in found["condition"]]
        found["panel"] = [f"{condition.optimizer}, {rates} rate" for condition in of]
        parts.append(found.assign(scaler=[str(condition.scaler) for condition in of]))
    frame = pd.concat(parts, ignore_index=True)
    order = [f"{optimizer}, {rates} rate" for optimizer in OPTIMIZERS for rates in RATES]
    frame["panel"] = pd.Categorical(frame["panel"], order, ordered=True)
    return frame.sort_values("panel", kind="stable").astype({"panel": str})


def gradients(table: Table) -> pd.DataFrame:
    """Return the log ratio of the features' gradient norms by scale factor."""
    parts = []
    for when, measure in (
        ("at the start", "log_gradient_ratio_init"),
        (f"mean over {axis_text(table, 'updates')} updates", "log_gradient_ratio_mean"),
    ):
        ratio = values(table, measure, "optimizer", "scale_factor")
        parts.append(intervals.mean_by(ratio, ["optimizer", "scale_factor"]).assign(when=when))
    return pd.concat(parts, ignore_index=True).astype({"scale_factor": float})


# Each variant's Adam, what the optimizer's text contains, and the start.
VARIANTS = {
    "told the factor: exact": ("scale-aware", "", "zeros"),
    "eps not multiplied by s": ("scale-aware", "gradient=False", "zeros"),
    "rate not divided by s": ("scale-aware", "update=False", "zeros"),
    "start not divided by s": ("scale-aware", "", "glorot_uniform"),
    "plain Adam": ("plain", "", "zeros"),
}


def invariance(tables: TableCache) -> pd.DataFrame:
    """Return the distance of variants of Adam on a scaled feature from plain Adam without scaling.

    The variants are plain Adam and scale-aware Adam (`adam_rescaled`, in blocks
    ``scale-aware-*``), whole or without one of its parts. The distance is the largest difference
    of the two weights in function space (s w), as a share of the reference's largest.
    """
    plain_adam = tables.get("plain")
    reference = choose(plain_adam, scale_factor=1.0)
    rows = []
    for factor, block in ((8.0, "scale-aware-8"), (512.0, "scale-aware-512")):
        sources = {
            "scale-aware": choose(tables.get(block), scale_factor=factor),
            "plain": choose(plain_adam, scale_factor=factor),
        }
        for variant, (kind, part, start) in VARIANTS.items():
            source = sources[kind]
            names = source.runs["optimizer"].astype(str)
            wanted = names.str.contains(part) if part else ~names.str.contains("gradient=|update=")
            changed = _function_weights(source.take((wanted & _starts(source, start)).to_numpy()))
            base = _function_weights(reference.take(_starts(reference, start).to_numpy()))
            off = np.abs(changed - base).max(axis=1) / np.abs(base).max(axis=1)
            found = intervals.mean(off)
            rows.append({"variant": variant, "scale_factor": factor, **found._asdict()})
    return pd.DataFrame(rows)


def _starts(table: Table, start: str) -> pd.Series:
    return table.runs["model"].astype(str).str.contains(start)


def _function_weights(table: Table) -> Any:
    return table.function_weights("weight_original")[np.argsort(table.seeds)]


PENALTIES: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "l2": ("L2: λ w²", "l2_penalty", lambda ols, s, λ: theory.ridge(ols, s**2, λ)),
    "l1": ("L1: λ |w|", "l1_penalty", lambda ols, s, λ: theory.lasso(ols, s**2, λ)),
    "decay": ("decoupled decay λ", "", lambda ols, s, λ: theory.decoupled_decay(ols, λ)),
}


def penalties(tables: TableCache) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the share of the scaled feature's contribution that is kept, measured and in theory.

    Theory is for a coefficient of 1.
    """
    parts, lines, fine = [], [], np.logspace(-1.4, 1.4, 57)
    for block, (title, axis, predict) in PENALTIES.items():
        table = tables.get(block)
        frame = values(table, "weight_last", "optimizer", "scale_factor")
        written = frame["optimizer"].astype(str).str.extract(r"weight_decay=([\d.e-]+)")[0]
        strength = np.asarray(table[axis] if axis else written.astype(float))
        frame["value"] = frame["value"] / table["weight_ols_last"]
        frame = frame.assign(strength=strength, penalty=title)
        parts.append(intervals.mean_by(frame, ["penalty", "strength", "scale_factor"]))
        for λ in np.unique(strength):
            kept = {"scale_factor": fine, "value": predict(1 / fine, fine, λ) * fine}
            lines.append(pd.DataFrame({"penalty": title, "strength": λ, **kept}))
    means = pd.concat(parts, ignore_index=True).astype({"scale_factor": float})
    return means, pd.concat(lines, ignore_index=True)
