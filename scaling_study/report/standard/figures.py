"""The figures of the standard report: frames with a text column ``panel`` in, a Figure out.

Curves are ``value, low, high`` over ``update``. Runs that diverged are counted, not drawn.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from scaling_study.analysis.summary import DIVERGED_OR_FAILED
from scaling_study.report import charts, style
from scaling_study.report.labels import MINUS, listing

MARKS = {
    "start": {"color": style.PALE, "marker": "o", "markersize": 5},
    "end of training": {"color": style.BLUE, "marker": "o", "markersize": 5},
    "least squares": {"color": style.VERMILION, "marker": "*", "markersize": 12},
    "truth": {"color": style.GREEN, "marker": "D", "markersize": 6},
}
DIVERGED: style.Look = {"linestyle": ":", "linewidth": 2.4}


def weights(frame: pd.DataFrame) -> Figure:
    """Draw where each run's first and last weight began, ended, and should have ended.

    `frame` has the weights as stored, ``status``, and ``training_unit``, which turns weights in
    units of the data into training units.
    """
    first, last = int(frame["feature"].min()), int(frame["feature"].max())
    figure, panels = charts.facets(frame["panel"], sharex=True, sharey=True)
    for name, axes in panels.items():
        rows = frame[frame["panel"] == name]
        lost = rows["status"].isin(DIVERGED_OR_FAILED)
        if lost.any():
            charts.subtitle(axes, "all diverged" if lost.all() else f"{lost.mean():.1%} diverged")
        if not lost.all():
            _paths(axes, rows[~lost], [first, last])
        axes.set_xscale("symlog", linthresh=2, linscale=1.2)
        axes.set_yscale("symlog", linthresh=2, linscale=1.2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", MINUS))
    ends = (f"weight {feature + 1} (training units)" for feature in (first, last))
    charts.label_axes(figure, *ends)
    looks = [{"linestyle": "", "label": label, **mark} for label, mark in MARKS.items()]
    return charts.legend(figure, looks)


def _paths(axes: Axes, rows: pd.DataFrame, ends: list[int]) -> None:
    table = rows.assign(
        truth=rows["weight_true"] * rows["training_unit"],
        solution=rows["weight_ols"] * rows["training_unit"],
    ).pivot(index="seed", columns="feature")
    start, end, truth, solution = (
        table[name][ends].to_numpy() for name in ("weight_init", "weight", "truth", "solution")
    )
    lines = LineCollection(list(np.stack([start, end], axis=1)), colors=style.BLUE)
    lines.set(linewidths=0.3, alpha=0.25, rasterized=True)
    axes.add_collection(lines)
    axes.scatter(*start.T, s=3, color=style.PALE, linewidths=0, rasterized=True, zorder=2)
    axes.scatter(*end.T, s=4, color=style.BLUE, linewidths=0, rasterized=True, zorder=3)
    for name, points, size in (("truth", truth, 36), ("least squares", solution, 130)):
        look: Any = {"marker": MARKS[name]["marker"], "color": MARKS[name]["color"], "s": size}
        axes.scatter(*np.median(points, axis=0), edgecolors="white", zorder=5, **look)


def losses(frame: pd.DataFrame, floors: pd.Series) -> Figure:
    """Draw the loss over the updates by ``scaler``, and that of least squares by panel."""
    figure, panels = charts.facets(frame["panel"], sharex=True, sharey=True)
    looks: list[style.Look] = charts.lines(panels, frame, "scaler", "update")
    for name, axes in panels.items():
        last = frame[frame["panel"] == name].groupby("scaler", sort=False)["update"].max()
        if (last < last.max()).any():
            charts.subtitle(axes, f"diverged: {listing(list(last.index[last < last.max()]))}")
        if np.isfinite(floors.get(name, np.nan)):
            axes.axhline(floors[name], **style.REFERENCE)
        axes.set_yscale("log")
    charts.label_axes(figure, "updates", "loss on all rows (target units²)")
    if np.isfinite(floors).any():
        looks.append({**style.REFERENCE, "label": "least squares"})
    return charts.legend(figure, looks, markers=False)


def gradients(frame: pd.DataFrame) -> Figure:
    """Draw the gradient norm of each ``feature`` over the updates."""
    figure, panels = charts.facets(frame["panel"], sharex=True, sharey=True)
    frame = frame[frame["feature"] < frame["feature"].min() + len(style.COLOURS)]
    looks = charts.lines(panels, frame.assign(feature=frame["feature"] + 1), "feature", "update")
    for axes in panels.values():
        axes.set_yscale("log")
    charts.label_axes(figure, "updates", "gradient norm (loss per unit of weight)")
    return charts.legend(figure, looks, markers=False)


def incidence(frame: pd.DataFrame, *, log: bool = False) -> Figure:
    """Draw the share of seeds that had reached the target, or diverged, by each update.

    `frame` is from `summary.cumulative_incidence`; with `log`, updates are drawn from 1 on.
    """
    figure, panels = charts.facets(frame["panel"], height=2.0, sharex=True, sharey=True)
    looks = style.looks("scaler", frame["scaler"])
    for name, axes in panels.items():
        rows = frame[frame["panel"] == name]
        for (scaler, outcome), curve in rows.groupby(["scaler", "outcome"], sort=False):
            if curve["share"].max() > 0:
                look: Any = looks[str(scaler)] | {"marker": ""}
                look |= DIVERGED if outcome == "diverged" else {}
                update = curve["update"].clip(lower=1 if log else 0)
                axes.step(update, curve["share"], where="post", **look)
        never = rows.groupby("scaler", sort=False)["share"].max() == 0
        if never.any():
            charts.subtitle(axes, f"always 0: {listing([str(n) for n in never.index[never]])}")
        axes.set(ylim=(-0.03, 1.05), xscale="log" if log else "linear")
    charts.label_axes(figure, "updates", "share of seeds")
    kinds = ({"color": style.INK, "label": "reached target"},
             {"color": style.INK, "label": "diverged", **DIVERGED})  # fmt: skip
    return charts.legend(figure, [*looks.values(), *kinds], markers=False)


def weight_errors(runs: pd.DataFrame) -> Figure:
    """Draw boxes of the weight-recovery errors of the runs that did not diverge, by scaler."""
    figure, panels = charts.facets(runs["panel"], columns=1, sharex=True, sharey=True)
    looks = style.looks("scaler", runs["scaler"])
    colours = {name: look["color"] for name, look in looks.items()}
    for name, axes in panels.items():
        rows = runs[runs["panel"] == name]
        lost = rows["status"].isin(DIVERGED_OR_FAILED)
        kept = rows[~lost & (rows["weight_error"] > 0)]
        charts.boxes(axes, kept, "scaler", "weight_error", looks)
        for scaler, count in rows[lost].groupby("scaler").size().items():
            place: Any = (list(looks).index(str(scaler)), 0.5)
            text: Any = {"xycoords": ("data", "axes fraction"), "ha": "center", "fontsize": 10}
            axes.annotate(f"{count:,} diverged", place, color=colours[str(scaler)], **text)
        axes.axhline(1, **style.REFERENCE)
        axes.set_yscale("log")
    charts.label_axes(figure, "scaler", "weight-recovery error E (unit-free)")
    return charts.legend(figure, [{**style.REFERENCE, "label": "E = 1: as weights of zero"}])
