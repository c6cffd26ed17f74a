"""The figures of the report on published results: a frame in, a matplotlib figure out."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scaling_study.report import charts, style
from scaling_study.report.labels import MINUS
from scaling_study.report.published.data import ESTIMATORS, SCALED

PUBLISHED: style.Look = {
    "color": style.INK,
    "marker": "D",
    "markersize": 7,
    "markeredgecolor": "white",
    "linestyle": "",
    "label": "published",
    "zorder": 5,
}


def draw_splits(frame: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """Draw the mean accuracy with its interval, what was published, and each split.

    `fits` has ``comparison, scaler, accuracy``, a row a split.
    """
    names = list(frame["comparison"].unique())
    figure, panels = charts.facets([""], columns=1, height=0.72 * len(names))
    axes, generator = panels[""], np.random.default_rng(0)
    looks = style.looks("scaler", frame["scaler"])
    for place, (name, look) in enumerate(looks.items()):
        rows = frame[frame["scaler"] == name]
        splits = fits[(fits["scaler"] == name) & fits["comparison"].isin(names)]
        step = 0.4 * (place - 0.5)
        at = splits["comparison"].map(names.index) + step
        at = at + generator.uniform(-0.14, 0.14, len(at))
        dots = {"s": 5, "alpha": 0.3, "linewidths": 0, "rasterized": True}
        axes.scatter(splits["accuracy"], at, color=look["color"], **dots)
        at = rows["comparison"].map(names.index) + step
        mean = {"elinewidth": 2.2, "linestyle": "", "markersize": 6, "markeredgecolor": "white"}
        charts.intervals(axes, at, rows, across=True, **look | mean)
        axes.plot(rows["published"], at, **PUBLISHED)
    _rows(axes, names)
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color=style.FAINT, linewidth=0.8)
    axes.set_xlabel("accuracy on held-out rows")
    return charts.legend(figure, [*looks.values(), PUBLISHED])


def draw_gains(frame: pd.DataFrame) -> Figure:
    """Draw the gain in accuracy by standardising, and the published gain."""
    names = list(frame["comparison"])
    figure, panels = charts.facets([""], columns=1, height=0.42 * len(names))
    axes = panels[""]
    ours: style.Look = style.scaler(SCALED) | {"label": "ours, 95 % interval"}
    axes.axvline(0, **style.REFERENCE)
    charts.rows_of_dots(axes, frame, names, "comparison", **ours)
    axes.plot(frame["published"], range(len(names)), **PUBLISHED)
    for place, verdict in enumerate(frame["verdict"]):
        text = {"va": "center", "fontsize": 9, "transform": axes.get_yaxis_transform()}
        axes.text(1.02, place, verdict, **text)
    _rows(axes, names)
    axes.set_xlabel("gain in accuracy by standardising")
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:+g}".replace("-", MINUS) if value else "0"
    )
    return charts.legend(figure, [ours | {"linestyle": ""}, PUBLISHED])


def draw_centring(frame: pd.DataFrame) -> Figure:
    """Draw the updates to the target over the offset, a panel a block, a line a scaler."""
    figure, panels = charts.facets(frame["panel"], height=2.7, sharey=True)
    looks = style.looks("scaler", frame["scaler"])
    for (panel, name), rows in frame.groupby(["panel", "scaler"], sort=False):
        axes, rows = panels[panel], rows.sort_values("offset")
        charts.intervals(axes, rows["offset"], rows, across=False, capsize=2, **looks[str(name)])
        axes.plot(rows["offset"], rows["predicted"], zorder=4, **style.REFERENCE)
        axes.set_yscale("log")
        axes.set_xticks(sorted(frame["offset"].unique()))
    offset = "offset of one feature (standard deviations)"
    charts.label_axes(figure, offset, "updates to target, tuned learning rate")
    return charts.legend(
        figure, [*looks.values(), style.REFERENCE | {"label": "theory"}], columns=5
    )


def _rows(axes: charts.Axes, names: list[str]) -> None:
    """Name the rows of a figure by their estimator, from the top down."""
    labels = [textwrap.fill(ESTIMATORS[name], 18) for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=9.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
