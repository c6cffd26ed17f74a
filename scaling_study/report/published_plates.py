"""The figures of the report on published results: a frame in, a matplotlib Figure out."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling_study.report.figures import COLOURS, INK, STYLE
from scaling_study.report.labels import MINUS

WIDTH = 6.2
LOOKS = {
    "none": ("raw", COLOURS[0]),
    "minmax": ("min-max", COLOURS[1]),
    "center": ("centred", COLOURS[3]),
    "standard": ("standardised", COLOURS[2]),
}
MARKERS = {"none": "o", "minmax": "s", "center": "D", "standard": "^"}
PUBLISHED: dict[str, Any] = {"marker": "D", "color": INK, "markeredgecolor": "white"}


@matplotlib.rc_context(STYLE)
def accuracies(fits: pd.DataFrame, estimates: pd.DataFrame) -> Figure:
    """Draw the accuracy on each split, the mean with its interval, and what was published.

    Parameters
    ----------
    fits : DataFrame
        ``label, scaler, accuracy``, one row a split; accuracy in [0, 1].
    estimates : DataFrame
        ``label, scaler, published, value, low, high``, in the order drawn from the top.
    """
    labels = list(dict.fromkeys(estimates["label"]))
    figure = Figure(figsize=(WIDTH, 1.1 + 0.72 * len(labels)), layout="constrained")
    axes = figure.subplots()
    generator = np.random.default_rng(0)
    row: Any
    for row in estimates.itertuples():
        place = len(labels) - 1 - labels.index(row.label) + (0.2 if row.scaler == "none" else -0.2)
        colour = LOOKS[row.scaler][1]
        own = fits[(fits["label"] == row.label) & (fits["scaler"] == row.scaler)]["accuracy"]
        across = place + generator.uniform(-0.14, 0.14, len(own))
        axes.scatter(own, across, s=5, color=colour, alpha=0.3, linewidths=0, rasterized=True)
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.2)
        axes.plot(row.value, place, "o", color=colour, markersize=6, markeredgecolor="white")
        axes.plot(row.published, place, markersize=7, linestyle="", zorder=5, **PUBLISHED)
    axes.set_yticks(range(len(labels)), labels[::-1], fontsize=9.5)
    axes.set(ylim=(-0.55, len(labels) - 0.45), xlabel="accuracy on the rows held out")
    axes.tick_params(axis="y", length=0)
    for place in range(1, len(labels)):
        axes.axhline(place - 0.5, color="#d0d0d0", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    kinds = [
        Line2D([], [], color=LOOKS[name][1], marker="o", markeredgecolor="white", lw=2.2,
               label=LOOKS[name][0])
        for name in dict.fromkeys(estimates["scaler"])
    ]  # fmt: skip
    published = Line2D([], [], ls="", markersize=7, label="published", **PUBLISHED)
    figure.legend(handles=[*kinds, published], loc="outside upper center", ncols=3)
    return figure


@matplotlib.rc_context(STYLE)
def gains(frame: pd.DataFrame) -> Figure:
    """Draw what standardising adds to the accuracy, beside what was published.

    Parameters
    ----------
    frame : DataFrame
        ``label, published, value, low, high, verdict``: standardised minus raw, accuracy in
        [0, 1], in the order drawn from the top.
    """
    figure = Figure(figsize=(WIDTH, 1.0 + 0.42 * len(frame)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(frame))[::-1]
    ends = np.abs(frame[["low", "high"]].to_numpy().T - frame["value"].to_numpy())
    axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (1, 2)))
    axes.errorbar(frame["value"], places, xerr=ends, fmt="o", markersize=6, color=COLOURS[1],
                  capsize=3, label="ours, 95 % interval")  # fmt: skip
    axes.plot(frame["published"], places, markersize=7, linestyle="", zorder=5, label="published",
              **PUBLISHED)  # fmt: skip
    for place, verdict in zip(places, frame["verdict"], strict=True):
        axes.text(1.02, place, verdict, va="center", fontsize=9,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_yticks(places, list(frame["label"]), fontsize=9.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set(ylim=(-0.6, len(frame) - 0.4), xlabel="gain in accuracy by standardising")
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:+g}".replace("-", MINUS) if value else "0"
    )
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def centring(times: pd.DataFrame) -> Figure:
    """Draw updates to the target over the offset, a line a scaler, theory dotted.

    Parameters
    ----------
    times : DataFrame
        ``panel, scaler, offset``; ``value, low, high``, the geometric mean of the updates; and
        ``predicted``, NaN where theory is silent.
    """
    panels = list(dict.fromkeys(times["panel"]))
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    scalers = [name for name in LOOKS if name in set(times["scaler"])]
    for axes, panel in zip(grid, panels, strict=True):
        own = times[times["panel"] == panel]
        for name in scalers:
            _times(axes, own[own["scaler"] == name].sort_values("offset"), name)
        axes.set(yscale="log", title=panel)
        axes.set_xticks(sorted(own["offset"].unique()))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.supxlabel("offset of one feature (its standard deviations)", fontsize=11)
    figure.supylabel("updates to target, tuned rate", fontsize=11)
    handles = [
        Line2D([], [], label=LOOKS[n][0], color=LOOKS[n][1], marker=MARKERS[n], markersize=5)
        for n in scalers
    ]
    if times["predicted"].notna().any():
        handles.append(Line2D([], [], color=INK, ls=(0, (1, 2)), label="theory"))
    figure.legend(handles=handles, loc="outside upper center", ncols=5, columnspacing=1.1,
                  handlelength=1.6)  # fmt: skip
    return figure


def _times(axes: Axes, own: pd.DataFrame, name: str) -> None:
    colour = LOOKS[name][1]
    ends = np.abs(own[["low", "high"]].to_numpy().T - own["value"].to_numpy())
    axes.errorbar(own["offset"], own["value"], yerr=ends, color=colour, linewidth=1.3, capsize=2,
                  marker=MARKERS[name], markersize=5)  # fmt: skip
    if own["predicted"].notna().any():
        axes.plot(own["offset"], own["predicted"], color=INK, linewidth=1.3, zorder=4,
                  linestyle=(0, (1, 2)))  # fmt: skip
