"""The figures of the report on feature attributions: a frame in, a matplotlib figure out."""

from functools import partial
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from scaling_study.report import charts, style
from scaling_study.report.importance.data import label, short

DISTORTION = "distortion (total variation of shares)"
SHOWN = ("weight", "integrated_gradients", "permutation")  # for other networks, to be legible
DASHED: style.Look = {"linewidth": 0.9, "linestyle": (0, (2, 2))}
APART = 1.12  # factor between the markers of two problems at one scale factor


def draw_fit(frame: pd.DataFrame) -> Figure:
    """Draw the share of runs that fit, a panel a problem, a row an input."""
    figure = _dots(frame, "problem", "input", "scaler", style.looks("scaler", frame["scaler"]))
    figure.supxlabel("share of runs that fit held-out rows")
    figure.axes[0].set_xlim(-0.05, 1.05)
    figure.axes[0].set_xticks([0, 0.5, 1], ["0", "½", "1"])  # of all panels
    return figure


def draw_methods(frame: pd.DataFrame, quantity: str = DISTORTION) -> Figure:
    """Draw a quantity by input, a panel a problem, a row a method."""
    figure = _dots(frame, "problem", "method", "input", _looks(frame))
    for axes in figure.axes:
        axes.axvline(0, **style.REFERENCE)
    figure.supxlabel(quantity)
    return charts.legend(figure, _looks(frame).values())


def draw_networks(frame: pd.DataFrame) -> Figure:
    """Draw the distortion of each network, a row of panels a problem, a column a method."""
    shown = frame[frame["method"].isin(SHOWN)]
    panel = shown["problem"].map(short) + "\n" + shown["method"].map(label).str.replace(" ", "\n")
    figure = _dots(shown.assign(panel=panel), "panel", "network", "input", _looks(frame), columns=3)
    figure.supxlabel(DISTORTION)
    return charts.legend(figure, _looks(frame).values())


def draw_scales(frame: pd.DataFrame) -> Figure:
    """Draw the distortion over the scale factor, a panel a method, a line a problem."""
    methods, problems = style.ordered(frame["method"], style.METHODS), frame["problem"].unique()
    titles = [label(name) for name in methods]
    figure, panels = charts.facets(methods, height=1.75, titles=titles, sharex=True, sharey=True)
    looks = {name: style.numbered(place, short(name)) for place, name in enumerate(problems)}
    for (method, problem), rows in frame.groupby(["method", "problem"], sort=False):
        axes, look = panels[method], looks[problem]
        raw = rows[rows["scaler"] == "none"].sort_values("scale_factor")
        place = list(looks).index(problem) - (len(looks) - 1) / 2
        charts.intervals(axes, raw["scale_factor"] * APART**place, raw, across=False, **look)
        for level in rows.loc[rows["scaler"] == "standard", "value"]:
            axes.axhline(level, color=look["color"], zorder=1, **DASHED)
        axes.set_xscale("log")
    charts.label_axes(figure, "scale factor of the last feature, raw inputs", DISTORTION)
    standard = {"color": style.INK, "label": "standardised inputs", **DASHED}
    return charts.legend(figure, [*looks.values(), standard])


def draw_differences(frame: pd.DataFrame) -> Figure:
    """Draw what raw inputs add to the distortion, a map a problem."""
    methods = style.ordered(frame["method"], style.METHODS)
    inputs = {name: name.removeprefix("raw ").replace("raw", "× 1") for name in frame["input"]}
    frame = frame.assign(
        problem=frame["problem"].map(short),
        bold=np.sign(frame["low"]) * np.sign(frame["high"]) > 0,
    )
    height = 0.7 + 0.24 * len(methods)
    figure, panels = charts.facets(frame["problem"], height=height, sharex=True, sharey=True)
    colours: Any = {"norm": TwoSlopeNorm(0, -0.6, 0.6), "cmap": "RdBu_r"}
    for problem, axes in panels.items():
        wide = frame[frame["problem"] == problem].pivot(index="method", columns="input")
        values, bold = (
            wide[name].loc[methods, list(inputs)].rename(index=label, columns=inputs)
            for name in ("value", "bold")
        )
        charts.number_map(axes, values, bold, **colours)
        axes.tick_params(axis="x", labelrotation=90, labelsize=9)
    figure.supxlabel("raw last feature, times a scale factor or plus an offset")
    place: Any = {"ax": list(panels.values()), "location": "top", "shrink": 0.6, "aspect": 30}
    bar = figure.colorbar(ScalarMappable(**colours), **place)
    bar.set_label("distortion, raw minus standardised inputs", fontsize=10)
    return figure


def _dots(
    frame: pd.DataFrame,
    panel: str,
    row: str,
    kind: str,
    looks: dict[str, style.Look],
    **options: Any,
) -> Figure:
    """Draw an estimate in each row of each panel, with a marker for each kind, side by side."""
    readable = {"problem": short, "method": label, "input": _input_label}
    names, rows = (frame[column].map(readable.get(column, str)) for column in (panel, row))
    frame, of = frame.assign(row=rows), len(looks) if kind == "input" else 1
    height = 0.5 + (0.15 + 0.06 * of) * rows.nunique()
    options = {"columns": names.nunique(), "height": height, **options}
    figure, grid = charts.facets(names, sharex=True, sharey=True, **options)
    for name, axes in grid.items():
        for place, (value, look) in enumerate(looks.items()):
            found = frame[(names == name) & (frame[kind] == value)]
            charts.rows_of_dots(axes, found, rows.unique(), "row", place=place % of, of=of, **look)
    return figure


def _input_label(name: str) -> str:
    """Return an input's name with its scaler as it is called everywhere."""
    scaler, _, change = name.partition(" ")
    return " ".join([scaler if scaler == "raw" else style.scaler(scaler)["label"], change]).strip()


def _looks(frame: pd.DataFrame) -> dict[str, style.Look]:
    """Return how each input is drawn: raw ones in shades, those with an offset as open markers."""
    looks = {}
    rows: Any = frame.drop_duplicates("input").itertuples()
    for place, row in enumerate(rows):
        look = style.scaler(row.scaler) | {"label": _input_label(row.input), "linestyle": ""}
        if row.scaler == "none":
            look["marker"] = style.MARKERS[place % len(style.MARKERS)]
            look["color"] = matplotlib.colormaps["Oranges"](0.4 + 0.15 * place)
        looks[row.input] = look | ({"markerfacecolor": "white"} if row.offset else {})
    return looks


DRAW = {
    "differences": draw_differences,
    "scales": draw_scales,
    "fit": draw_fit,
    "rankings": partial(draw_methods, quantity="share of runs with a wrong ranking"),
    "decoy": partial(draw_methods, quantity="share of the irrelevant feature"),
    "scalers": draw_methods,
    "networks": draw_networks,
}
