"""Which figures the paper has, over which runs, and what their captions say."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis import intervals, metrics, summary, theory
from scaling_study.analysis.metrics import MEASURES, Table
from scaling_study.analysis.tuning import select_learning_rates
from scaling_study.analysis.verdicts import Verdict
from scaling_study.report import figures, plates
from scaling_study.report.labels import hundredths, listing, number, percent, scaler_name
from scaling_study.report.sections import Plate
from scaling_study.storage.results import Results
from scaling_study.study import scalers

RATES = ("default", "tuned")
MOST_POINTS = 3_000  # of a cloud; more says no more, and weighs
FLOAT_TOLERANCE = 0.02  # share by which a predicted and a measured time may differ, or one update


class LackingError(LookupError):
    """A study has a figure's blocks, and not the conditions that it shows."""


class Shelf:
    """A study's tables, each made once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.of = lru_cache(maxsize=None)(lambda *blocks: Table(results, blocks))

    @property
    def n(self) -> int:
        """How many seeds the study has."""
        first, last = self.results.study.seeds
        return last - first


def plates_of(results: Results, verdicts: list[Verdict]) -> Iterator[Plate]:
    """Yield each of the paper's figures that the study has the blocks for."""
    shelf = Shelf(results)
    for blocks, draw in FIGURES:
        if set(blocks) <= results.study.blocks.keys():
            with suppress(LackingError):
                plate = draw(shelf)
                yield plate if plate.blocks is not None else plate._replace(blocks=blocks)
    if verdicts:
        yield _ledger(verdicts)


def _chosen(table: Table, **axes: Any) -> Table:
    """Return the runs whose axes have these values."""
    keep = np.ones(len(table), bool)
    for axis, value in axes.items():
        wanted = value if isinstance(value, tuple) else (value,)
        keep &= table.runs[axis].isin(wanted).to_numpy()
    if not keep.any():
        raise LackingError(f"no runs with {axes}")
    return table.take(keep)


def _said(table: Table, axis: str) -> str:
    """Return the values of an axis as a caption says them."""
    values = table.runs[axis].unique()
    texts = [f"{v:,}" if axis == "updates" else f"{v:g}" for v in sorted(values)]
    return listing(texts)


def _values(table: Table, measure: str, *axes: str) -> pd.DataFrame:
    """Return a measure's value for each run, with some of its axes."""
    frame = pd.DataFrame({axis: np.asarray(table.runs[axis]) for axis in axes})
    return frame.assign(seed=table.seeds, value=MEASURES[measure](table))


def _article(shelf: Shelf) -> Plate:
    table = _chosen(shelf.of("article"), optimizer="adam")
    runs = table.runs
    parts = []
    for place, end in enumerate(("first", "last")):
        names = ("weight_init", "weight", "weight_true", "weight_ols", "weight_original")
        part = runs[["condition", "seed", "status", "scaler"]].assign(
            feature=place, **{name: runs[f"{name}_{end}"] for name in names}
        )
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    frame["training_unit"] = summary.training_units(frame)
    frame = frame.assign(panel=frame["scaler"].astype(str).map(scaler_name))
    error = intervals.mean_by(_values(table, "log_weight_error", "scaler"), ["scaler"])
    said = ", ".join(
        f"{row['scaler']} {number(10 ** row['value'])}" for row in error.to_dict("records")
    )
    return Plate(
        "article",
        "The article, trained from many starts",
        f"The article's data and settings (Adam, rate {_said(table, 'learning_rate')},"
        f" {_said(table, 'updates')} updates) from {shelf.n} initialisations and batch orders,"
        " one panel per scaler. Each line joins a"
        " run's first weights to its last; the star is least squares and the diamond the truth,"
        " both in the panel's training units. Axes are linear to ±2 and logarithmic beyond."
        f" Geometric mean of the weight-recovery error E in original units: {said}.",
        figures.weights(frame),
        error,
    )


def _importance(shelf: Shelf) -> Plate:
    table = _chosen(shelf.of("units-long"), scaler="none")
    parts = []
    for rates in RATES:
        own, _ = select_learning_rates(table, rates)
        axes = ["design", "optimizer", "scale_factor"]
        found = intervals.mean_by(_values(own, "share_permutation", *axes), axes)
        distortion = _values(own, "distortion_permutation", *axes)
        share = distortion.assign(value=MEASURES["share_permutation"](own) - distortion["value"])
        ols = intervals.mean_by(share, axes)
        parts.append(found.assign(rates=rates, ols=ols["value"]))
    frame = pd.concat(parts, ignore_index=True)
    return Plate(
        "importance",
        "Range and importance: two designs",
        "Share of permutation importance that the scaled feature has after"
        f" {_said(table, 'updates')} updates on raw inputs, over its scale factor. Left: its"
        " coefficient is fixed, so that it truly matters"
        " more as its range grows. Right: only its unit changes, so that it does not. Dotted: the"
        " same share under least squares. Mean over the seeds that did not diverge (at most"
        f" {shelf.n}; half as many where the rate is tuned, on the other half); band: 95 %"
        " interval. A negative share says that permuting the feature would lower the loss.",
        plates.importance(frame),
        frame,
    )


def _conditioning(_shelf: Shelf) -> Plate:
    # Theory alone; it is shown where a study has the runs that hold theory to measurement.
    ranges = np.logspace(-3, 4, 57)
    positive = np.logspace(-1, 4, 41)
    offsets = np.concatenate([-positive[positive <= 10][::-1], [0.0], positive])
    grid = np.array([(r, o) for o in offsets for r in ranges])
    u = np.stack(np.meshgrid(*[(np.arange(40) + 0.5) / 40] * 2), axis=-1).reshape(-1, 2)
    x = np.broadcast_to(u, (len(grid), *u.shape)).copy()
    x[..., 1] = x[..., 1] * grid[:, :1] + grid[:, 1:]
    values, _ = theory.spectrum(x)
    frame = pd.DataFrame(grid, columns=["range", "offset"]).assign(
        kappa=values[:, 0] / values[:, -1]
    )
    raw = u * [1.0, 1000.0] + [0.0, 1000.0]
    rows = []
    for name in scalers.AFFINE:
        shift, divisor = scalers.affine(name, raw)
        z = (raw - shift) / divisor
        own, _ = theory.spectrum(z)
        low = z[:, 1].min()
        rows.append(
            {"scaler": name, "range": np.ptp(z[:, 1]), "offset": low, "kappa": own[0] / own[-1]}
        )
    marks = pd.DataFrame(rows)
    said = ", ".join(f"{r['scaler']} {number(r['kappa'])}" for r in rows)
    return Plate(
        "conditioning",
        "Offset hurts more than range",
        "Condition number κ of the loss (theory, float64): feature 1 is uniform on [0, 1], feature"
        " 2 on [offset, offset + range]. Points: where each scaler puts the article's own example,"
        f" a feature from 1000 to 2000; κ beside them is of both features scaled: {said}.",
        plates.conditioning(frame, marks),
        marks,
        blocks=(),
    )


def predicted_times(table: Table) -> pd.DataFrame:
    """Return predicted and measured updates to target of each run of gradient descent.

    Returns
    -------
    DataFrame
        In the order of the runs: ``predicted``, infinite where the descent is unstable;
        ``measured``, NaN beyond the budget; ``budget``; ``agrees``, within 2 % or one update,
        where neither is censored, else NaN.
    """
    predicted = np.full(len(table), np.inf)
    start = np.stack([table["weight_init_first"], table["weight_init_last"], table["bias_init"]], 1)
    for name, rows in table.runs.groupby("condition", observed=True).indices.items():
        condition = table.conditions[str(name)]
        own = theory.quadratic(condition, table.seeds[rows].tolist())
        predicted[rows] = theory.steps_to_target(
            own.eigenvalues,
            own.components(start[rows]),
            np.full(len(rows), condition.learning_rate),
            condition.tolerance * own.loss_explained,
        )
    measured, budget = table["steps_to_target"], table["updates"]
    slack = np.maximum(1, FLOAT_TOLERANCE * predicted)
    both = np.isfinite(measured) & (predicted <= budget)
    with np.errstate(invalid="ignore"):
        agrees = np.where(both, np.abs(measured - predicted) <= slack, np.nan)
    return pd.DataFrame(
        {"predicted": predicted, "measured": measured, "budget": budget, "agrees": agrees}
    )


def _descent(shelf: Shelf) -> Plate:
    table = shelf.of("descent")
    times = predicted_times(table).assign(scaler=table.runs["scaler"].astype(str))
    judged = times.dropna(subset=["agrees"])
    off = (judged["measured"] / judged["predicted"] - 1).abs()
    off = off[(judged["measured"] - judged["predicted"]).abs() > 1]
    late = ((times["predicted"] <= times["budget"]) != np.isfinite(times["measured"])).sum()
    frame = _floors(shelf.of("floor"))
    plain = frame[frame["sampling"] == "replacement"]
    gap = (plain["value"] / plain["predicted"] - 1).abs().max()
    cloud = judged.iloc[:: max(1, len(judged) // MOST_POINTS)]
    table_ = pd.DataFrame(
        {
            "quantity": ["runs compared", "agree", "largest deviation beyond one update",
                         "censored in one and not in the other"],
            "value": [len(judged), judged["agrees"].sum(), off.max() if len(off) else 0.0, late],
        }
    )  # fmt: skip
    return Plate(
        "descent",
        "Gradient descent does what theory says",
        f"Left: updates to the target, predicted from the Hessian and measured in float64, of the"
        f" {len(judged):,} runs where neither is beyond the budget (a sample is drawn), over"
        f" ranges, offsets, scalers and rates; {percent(judged['agrees'].mean())} agree within 2 %"
        f" or one update, and in {late:,} of {len(times):,} runs one is beyond the budget and the"
        " other not. Right: loss above least squares where SGD stays, predicted for rows drawn"
        f" with replacement (largest deviation of a mean {hundredths(gap)}) and measured for both;"
        f" points are means over {shelf.n} seeds with 95 % intervals.",
        plates.descent(cloud, frame),
        table_,
    )


def _floors(table: Table) -> pd.DataFrame:
    rows = []
    for name, places in table.runs.groupby("condition", observed=True).indices.items():
        condition = table.conditions[str(name)]
        own = theory.quadratic(condition, table.seeds[places].tolist())
        floor = theory.sgd_floor(
            own.eigenvalues, condition.learning_rate, condition.batch_size, own.loss_ols
        )
        found = intervals.mean(table["excess_loss"][places])
        rows.append(
            {"sampling": condition.sampling, "learning_rate": condition.learning_rate,
             "predicted": floor.mean(), **found._asdict()}
        )  # fmt: skip
    return pd.DataFrame(rows)


def exponents_of(table: Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return updates to the scaled weight by scale factor, and their slopes in decades."""
    own = _values(table, "log_steps_last", "model", "optimizer", "scale_factor")
    own["start"] = np.where(own["model"].astype(str).str.contains("zeros"), "zero", "Glorot")
    own["value"] = own["value"].where(np.isfinite(own["value"]))
    own["log_s"] = np.log10(own["scale_factor"].astype(float))
    rows = []
    for (start, optimizer), part in own.groupby(["start", "optimizer"], sort=False, observed=True):
        known = part.dropna(subset=["value"])
        found = intervals.slope(known["log_s"], known["value"], known["seed"])
        rows.append(
            {"start": start, "optimizer": optimizer, "predicted": -theory.EXPONENTS[str(optimizer)],
             **found._asdict(), "censored": len(part) - len(known)}
        )  # fmt: skip
    frame = intervals.mean_by(own, ["start", "optimizer", "scale_factor"])
    for name in ("value", "low", "high"):
        frame[name] = 10 ** frame[name]
    frame["scale_factor"] = frame["scale_factor"].astype(float)
    return frame.sort_values("start", ascending=False), pd.DataFrame(rows)


def _exponents(shelf: Shelf) -> Plate:
    frame, slopes = exponents_of(shelf.of("exponents"))
    censored = int(slopes["censored"].sum())
    return Plate(
        "exponents",
        "A shared learning rate acts as rate times a power of s",
        "Updates until the scaled feature's weight stays within a tenth of its least-squares"
        f" value; centred orthogonal features, full batch, float64, {shelf.n} seeds."
        " Geometric mean with 95 % interval; the inset gives slopes in decades per decade"
        " (intervals, clustered by seed, in the table). From zero they are those of theory. A"
        " Glorot start does not shrink with s as the least-squares weight does, so that the slopes"
        f" are flatter, as expected. {censored:,} runs beyond the budget are left out.",
        plates.exponents(frame, slopes),
        slopes,
    )


def _basins(shelf: Shelf) -> Plate:
    table = _chosen(shelf.of("units-long"), design="U", scaler=("none", "standard"))
    own = _values(table, "unfinished", "optimizer", "scaler", "scale_factor", "learning_rate")
    scaled = own["scaler"] == "standard"
    # Every scale factor gives a scaler's output again: one of them is all of the evidence.
    own = own[~scaled | (own["scale_factor"] == own["scale_factor"].max())]
    raw = own["scale_factor"].map(lambda s: f"{s:g}")
    own["inputs"] = np.where(own["scaler"] == "standard", "scaled", raw)
    own["value"] = own["value"].clip(upper=1.0)  # what is worse than the mean is of no more use
    frame = intervals.mean_by(own, ["optimizer", "inputs", "learning_rate"])
    frame["low"] = frame["low"].clip(lower=metrics.TOLERANCE)
    frame["learning_rate"] = frame["learning_rate"].astype(float)
    return Plate(
        "basins",
        "Where a learning rate works",
        f"Excess share after {_said(table, 'updates')} updates over the learning rate, for raw"
        " inputs of several scale factors s (design U) and for standardised ones, which are the"
        " same for every s: 0 is least squares, 0.001 counts as converged, and 1 is predicting the"
        " mean, or worse, or a run that diverged. Mean"
        f" over {shelf.n} seeds with 95 % interval.",
        plates.basins(frame),
        frame,
    )


def _incidence(shelf: Shelf) -> Plate:
    whole = shelf.of("practice-long")
    table = _chosen(whole, target_scaler="standard")
    parts = []
    for rates in RATES:
        own, _ = select_learning_rates(table, rates)
        conditions = pd.DataFrame(
            {"condition": name, "updates": own.conditions[name].updates}
            for name in own.runs["condition"].astype(str).unique()
        )
        found = summary.cumulative_incidence(own.runs, conditions)
        names = found["condition"].map(lambda name, own=own: own.conditions[name])
        found["panel"] = [f"{c.optimizer}, {rates} rate" for c in names]
        parts.append(found.assign(scaler=[str(c.scaler) for c in names]))
    frame = pd.concat(parts, ignore_index=True)
    order = [f"{o}, {r} rate" for o in plates.OPTIMIZERS for r in RATES]
    frame["panel"] = pd.Categorical(frame["panel"], order, ordered=True)
    frame = frame.sort_values("panel", kind="stable").astype({"panel": str})
    return Plate(
        "incidence",
        "Reached and diverged over time",
        "The article's law with data of its own for each seed, the target standardised: share of"
        " seeds that had reached the target for good (solid), or diverged (dotted), by each"
        f" update. Default rates: {shelf.n} seeds; tuned rates: the half that did not tune. The"
        " budget is common to the seeds, so the shares are exact for these seeds and have no band.",
        plates.incidence(frame),
        frame.groupby(["panel", "scaler", "outcome"], sort=False)["share"].max().reset_index(),
    )


def _training_time(shelf: Shelf) -> Plate:
    whole = shelf.of("units-long")
    parts = []
    for optimizer, rate in (("sgd", 1e-6), ("adam", 1e-3)):
        for factor in (100.0, 1000.0):
            own = _chosen(
                whole, design="U", optimizer=optimizer, learning_rate=rate, scale_factor=factor
            )
            panel = f"{optimizer}, rate {rate:g}, s = {factor:g}"
            parts.append(_shares_over_time(shelf.results, own).assign(panel=panel))
    frame = pd.concat(parts, ignore_index=True)
    seeds = int(frame["n"].max())
    return Plate(
        "training-time",
        "Importance while training",
        "Share of contribution |w|·sd that the scaled feature has, over the updates (design U: by"
        f" least squares, dotted, both features matter alike). Median of the {seeds} seeds whose"
        " traces are kept; band: their range. Before a run has converged its weights say where"
        " training stands.",
        plates.training_time(frame),
        frame.groupby(["panel", "scaler"], sort=False).tail(1),
    )


def _shares_over_time(results: Results, table: Table) -> pd.DataFrame:
    """Return the last feature's share of contribution along each traced run."""
    runs = table.runs.assign(condition=table.runs["condition"].astype(str))
    names = list(table.conditions.keys() & set(runs["condition"]))
    traces = results.traces
    traces = traces[traces["condition"].isin(names)].astype({"condition": str})
    keys = ["condition", "seed"]
    wide = traces.pivot(index=[*keys, "update"], columns="feature", values="weight").reset_index()
    deviation = np.sqrt(np.diagonal(table.covariance, axis1=-2, axis2=-1))
    scale = table.scales * deviation
    units = np.stack(
        [table[f"weight_original_{end}"] / table[f"weight_{end}"] for end in ("first", "last")], 1
    )
    of_run = runs[keys].assign(
        scaler=runs["scaler"].astype(str),
        a=scale[:, 0] * units[:, 0],
        b=scale[:, 1] * units[:, 1],
        ols=metrics.share_contribution(table) - metrics.distortion_contribution(table),
    )
    both = wide.merge(of_run, on=keys)
    parts = np.abs(np.stack([both[0] * both["a"], both[1] * both["b"]], axis=-1))
    both["value"] = metrics.share_of(parts)
    grouped = both.dropna(subset=["value"]).groupby(["scaler", "update"], sort=False)
    found = grouped["value"].agg(["median", "min", "max", "count"]).reset_index()
    found.columns = ["scaler", "update", "value", "low", "high", "n"]
    return found.assign(ols=both["ols"].mean())


VARIANTS = {
    "told the factor: exact": ("told", "", "zeros"),
    "eps not multiplied by s": ("told", "gradient=False", "zeros"),
    "rate not divided by s": ("told", "update=False", "zeros"),
    "start not divided by s": ("told", "", "glorot_uniform"),
    "plain Adam": ("plain", "", "zeros"),
}


def invariance_of(shelf: Shelf) -> pd.DataFrame:
    """Return how far each variant of Adam on a scaled feature ends from plain Adam without.

    The difference is the largest of the two weights' in function space (s w), as a share of
    the reference's largest.
    """
    plain = shelf.of("plain")
    rows = []
    for factor, block in ((8.0, "told-8"), (512.0, "told-512")):
        told = _chosen(shelf.of(block), scale_factor=factor)
        for variant, (kind, part, start) in VARIANTS.items():
            source = told if kind == "told" else _chosen(plain, scale_factor=factor)
            names = source.runs["optimizer"].astype(str)
            ablated = names.str.contains("gradient=|update=")
            is_it = names.str.contains(part) if part else ~ablated
            model = source.runs["model"].astype(str).str.contains(start)
            own = source.take((is_it & model).to_numpy())
            reference = _chosen(plain, scale_factor=1.0)
            same = reference.runs["model"].astype(str).str.contains(start)
            one, other = own, reference.take(same.to_numpy())
            ours, theirs = (
                table.function_weights("weight_original")[np.argsort(table.seeds)]
                for table in (one, other)
            )
            off = np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max(axis=1)
            found = intervals.mean(off)
            rows.append({"variant": variant, "scale_factor": factor, **found._asdict()})
    return pd.DataFrame(rows)


def _invariance(shelf: Shelf) -> Plate:
    frame, plain = invariance_of(shelf), shelf.of("plain")
    exact = frame[frame["variant"].str.contains("exact")]["value"].max()
    return Plate(
        "invariance",
        "Adam is invariant to a factor only when it is told",
        f"Adam (rate {_said(plain, 'learning_rate')}, eps {_said(plain, 'optimizer.eps')},"
        f" {_said(plain, 'updates')} updates, float64) on a feature multiplied by s, beside the"
        " same run without. Told the factor (gradient divided by s, update divided by s, start at"
        f" w/s) it ends at the same function up to rounding (mean relative difference at most"
        f" {number(exact)}); each part left out breaks that. Means over {shelf.n} seeds with 95 %"
        " intervals.",
        plates.invariance(frame),
        frame,
    )


PENALTIES: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "l2": ("L2: λ w²", "l2_penalty", lambda ols, s, λ: theory.ridge(ols, s**2, λ)),
    "l1": ("L1: λ |w|", "l1_penalty", lambda ols, s, λ: theory.lasso(ols, s**2, λ)),
    "decay": ("decoupled decay λ", "", lambda ols, s, λ: theory.decoupled_decay(ols, λ)),
}


def _penalties(shelf: Shelf) -> Plate:
    parts, lines = [], []
    fine = np.logspace(-1.4, 1.4, 57)
    for block, (title, axis, predict) in PENALTIES.items():
        table = shelf.of(block)
        own = _values(table, "weight_last", "optimizer", "scale_factor")
        strength = (
            table[axis]
            if axis
            else own["optimizer"]
            .astype(str)
            .str.extract(r"weight_decay=([\d.e-]+)")[0]
            .astype(float)
        )
        own["value"] = own["value"] / table["weight_ols_last"]
        own = own.assign(strength=np.asarray(strength), penalty=title)
        parts.append(intervals.mean_by(own, ["penalty", "strength", "scale_factor"]))
        for λ in np.unique(np.asarray(strength)):
            # Two features that matter alike: least squares gives each 1 per unit of u.
            kept = predict(1 / fine, fine, λ) * fine
            lines.append(
                pd.DataFrame({"penalty": title, "strength": λ, "scale_factor": fine, "value": kept})
            )
    frame = pd.concat(parts, ignore_index=True).astype({"scale_factor": float})
    lines_ = pd.concat(lines, ignore_index=True)
    budget = _said(shelf.of(*PENALTIES), "updates")
    return Plate(
        "penalties",
        "With a penalty, range matters at convergence",
        "What is left of the scaled feature's contribution, relative to least squares, after"
        f" {budget} updates on centred orthogonal features (design U, float64). Lines: theory,"
        " for a"
        f" coefficient of 1; points: means over {shelf.n} seeds with 95 % intervals. A penalty"
        " sees a weight in its unit, and a feature in small units needs a large one.",
        plates.penalties(frame, lines_),
        frame,
    )


def _gradients(shelf: Shelf) -> Plate:
    table = _chosen(shelf.of("units-long"), design="U", scaler="none", learning_rate=1e-7)
    parts = []
    for when, measure in (
        ("at the start", "log_gradient_ratio_init"),
        (f"mean over {_said(table, 'updates')} updates", "log_gradient_ratio_mean"),
    ):
        own = _values(table, measure, "optimizer", "scale_factor")
        parts.append(intervals.mean_by(own, ["optimizer", "scale_factor"]).assign(when=when))
    frame = pd.concat(parts, ignore_index=True).astype({"scale_factor": float})
    return Plate(
        "gradients",
        "Gradients grow with the range",
        "Ratio of the scaled feature's gradient norm to the other's, in decades, on raw inputs"
        f" (design U, rate {_said(table, 'learning_rate')}). Mean over {shelf.n} seeds with 95 %"
        " interval; dotted: a ratio of s.",
        plates.gradients(frame),
        frame,
    )


def _ledger(verdicts: list[Verdict]) -> Plate:
    rows = []
    for found in verdicts:
        counts = found.cells["outcome"].value_counts() if len(found.cells) else {}
        row = {"id": found.claim.id, "verdict": found.verdict}
        rows.append(row | {name: int(counts.get(name, 0)) for name in plates.OUTCOME_COLOURS})
    frame = pd.DataFrame(rows)
    return Plate(
        "ledger",
        "The ledger as one picture",
        "Every claim, its verdict (square and word), and what share of its cells has an interval"
        " beyond the smallest effect of interest, inside the band around none, on the opposite"
        " side, or across an edge.",
        plates.ledger(frame),
        frame,
    )


FIGURES: tuple[tuple[tuple[str, ...], Callable[[Shelf], Plate]], ...] = (
    (("article",), _article),
    (("units-long",), _importance),
    (("descent",), _conditioning),
    (("descent", "floor"), _descent),
    (("exponents",), _exponents),
    (("units-long",), _basins),
    (("practice-long",), _incidence),
    (("units-long",), _training_time),
    (("plain", "told-8", "told-512"), _invariance),
    (("l2", "l1", "decay"), _penalties),
    (("units-long",), _gradients),
)
__all__ = ["Plate", "Shelf", "exponents_of", "invariance_of", "plates_of", "predicted_times"]
