"""The figures of the standard report: frames with a text column ``panel`` in, a Figure out.

Curves are ``value, low, high`` over ``update``. Runs that diverged are counted, not drawn.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from scaling_study.analysis.summary import LOST
from scaling_study.report import charts, style
from scaling_study.report.labels import MINUS, listing

MARKS = {
    "start": {"color": style.PALE, "marker": "o", "markersize": 5},
    "end of training": {"color": style.BLUE, "marker": "o", "markersize": 5},
    "least squares": {"color": style.VERMILLION, "marker": "*", "markersize": 12},
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
    for axes, rows in _each(panels, frame):
        lost = rows["status"].isin(LOST)
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
    scalers = style.ordered(frame["scaler"], style.SCALERS)
    for name, (axes, rows) in zip(panels, _each(panels, frame), strict=True):
        for scaler in scalers:
            _line(axes, rows[rows["scaler"] == scaler], style.scaler(scaler))
        last = rows.groupby("scaler", sort=False)["update"].max()
        if (last < last.max()).any():
            charts.subtitle(axes, f"diverged: {listing(list(last.index[last < last.max()]))}")
        if np.isfinite(floors.get(name, np.nan)):
            axes.axhline(floors[name], **style.REFERENCE)
        axes.set_yscale("log")
    charts.label_axes(figure, "updates", "loss on all rows (target units²)")
    looks = [style.scaler(name) | {"marker": ""} for name in scalers]
    floor = [{**style.REFERENCE, "label": "least squares"}] if np.isfinite(floors).any() else []
    return charts.legend(figure, [*looks, *floor])


def gradients(frame: pd.DataFrame) -> Figure:
    """Draw the gradient norm of each ``feature`` over the updates."""
    figure, panels = charts.facets(frame["panel"], sharex=True, sharey=True)
    features = sorted(frame["feature"].unique())[: len(style.COLOURS)]
    looks = [style.numbered(i, f"feature {f + 1}") for i, f in enumerate(features)]
    for axes, rows in _each(panels, frame):
        for feature, look in zip(features, looks, strict=True):
            _line(axes, rows[rows["feature"] == feature], look)
        axes.set_yscale("log")
    charts.label_axes(figure, "updates", "gradient norm (loss per unit of weight)")
    return charts.legend(figure, [look | {"marker": ""} for look in looks])


def incidence(frame: pd.DataFrame, *, log: bool = False) -> Figure:
    """Draw the share of seeds that had reached the target, or diverged, by each update.

    `frame` is from `summary.cumulative_incidence`; with `log`, updates are drawn from 1 on.
    """
    figure, panels = charts.facets(frame["panel"], height=2.0, sharex=True, sharey=True)
    scalers = style.ordered(frame["scaler"], style.SCALERS)
    for axes, rows in _each(panels, frame):
        for (scaler, outcome), curve in rows.groupby(["scaler", "outcome"], sort=False):
            if curve["share"].max() > 0:
                look: Any = style.scaler(str(scaler)) | {"marker": ""}
                look |= DIVERGED if outcome == "diverged" else {}
                update = curve["update"].clip(lower=1 if log else 0)
                axes.step(update, curve["share"], where="post", **look)
        never = rows.groupby("scaler", sort=False)["share"].max() == 0
        if never.any():
            charts.subtitle(axes, f"always 0: {listing([str(n) for n in never.index[never]])}")
        axes.set(ylim=(-0.03, 1.05), xscale="log" if log else "linear")
    charts.label_axes(figure, "updates", "share of seeds")
    looks: list[Any] = [style.scaler(name) | {"marker": ""} for name in scalers]
    for label, kind in (("reached target", {}), ("diverged", DIVERGED)):
        looks.append({"color": style.INK, "label": label, **kind})
    return charts.legend(figure, looks)


def weight_errors(runs: pd.DataFrame) -> Figure:
    """Draw the weight-recovery error of each run that did not diverge, by scaler."""
    figure, panels = charts.facets(runs["panel"], columns=1, sharex=True, sharey=True)
    scalers = style.ordered(runs["scaler"], style.SCALERS)
    for axes, rows in _each(panels, runs):
        lost = rows["status"].isin(LOST)
        _boxes(axes, rows[~lost & (rows["weight_error"] > 0)], scalers)
        for scaler, count in rows[lost].groupby("scaler").size().items():
            place: Any = (scalers.index(str(scaler)), 0.5)
            look: Any = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "center"}
            colour = style.scaler(str(scaler))["color"]
            axes.annotate(f"{count:,} diverged", place, color=colour, fontsize=10, **look)
        axes.axhline(1, **style.REFERENCE)
        axes.set_xticks(range(len(scalers)), [style.scaler(name)["label"] for name in scalers])
        axes.set(xlim=(-0.6, len(scalers) - 0.4), yscale="log")
    charts.label_axes(figure, "scaler", "weight-recovery error E (unit-free)")
    return charts.legend(figure, [{**style.REFERENCE, "label": "E = 1: as weights of zero"}])


def _boxes(axes: Axes, rows: pd.DataFrame, scalers: Sequence[str]) -> None:
    """Draw each run as a dot and each scaler's runs as a box.

    Not seaborn's strips, which jitter from NumPy's global generator.
    """
    generator = np.random.default_rng(0)
    for place, scaler in enumerate(scalers):
        errors = rows.loc[rows["scaler"] == scaler, "weight_error"].to_numpy()
        if len(errors):
            across = place + generator.uniform(-0.3, 0.3, len(errors))
            look: Any = {"color": style.scaler(scaler)["color"], "linewidths": 0, "alpha": 0.35}
            axes.scatter(across, errors, s=4 if len(errors) > 200 else 16, rasterized=True, **look)
            line: Any = {"medianprops": {"color": style.INK}, "showfliers": False}
            axes.boxplot(errors, positions=[place], widths=0.5, manage_ticks=False, **line)


def _line(axes: Axes, rows: pd.DataFrame, look: style.Look) -> None:
    """Draw a line without markers, unless it has one point."""
    if len(rows) != 1:
        look = look | {"marker": ""}
    charts.line(axes, rows, "update", **look)


def _each(panels: dict[Any, Axes], frame: pd.DataFrame) -> Iterator[tuple[Axes, pd.DataFrame]]:
    for name, axes in panels.items():
        yield axes, frame[frame["panel"] == name]
