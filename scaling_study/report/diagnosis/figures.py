"""The figures of the diagnosis of a table."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scaling_study.analysis.tuning import pluralize
from scaling_study.report import charts, style
from scaling_study.report.labels import scaler_name

ROW = 0.27  # inches a feature


def scores(frame: pd.DataFrame, score: str) -> Figure:
    """Draw the score by scaler, a panel for each model and optimizer, both learning rates."""
    panels = frame["model"] + ", " + frame["optimizer"]
    frame = frame.assign(panel=panels, row=frame["scaler"].map(scaler_name))
    rows = [scaler_name(name) for name in style.ordered(frame["scaler"], style.SCALERS)]
    figure, grid = charts.facets(panels, height=0.6 + ROW * len(rows), sharex=True, sharey=True)
    looks: dict[str, Any] = {
        "default": style.numbered(0, "default learning rate"),
        "tuned": style.numbered(1, "tuned learning rate"),
    }
    for name, axes in grid.items():
        for place, (rates, look) in enumerate(looks.items()):
            found = frame[(frame["panel"] == name) & (frame["rates"] == rates)]
            charts.rows_of_dots(axes, found, rows, "row", place=place, of=2, **look)
        axes.set_xlim(-0.03, 1.03)
    figure.supxlabel(f"{score} on held-out rows")
    return charts.legend(figure, [look | {"linestyle": ""} for look in looks.values()])


def shares(frame: pd.DataFrame) -> Figure:
    """Draw the share of each feature by scaler, a panel for each method."""
    methods = style.ordered(frame["method"], style.METHODS)
    rows = list(dict.fromkeys(frame["feature"]))
    titles = [style.method(name)["label"] for name in methods]
    figure, grid = charts.facets(
        methods, height=0.6 + ROW * len(rows), titles=titles, sharex=True, sharey=True
    )
    names = style.ordered(frame["scaler"], style.SCALERS)
    looks = {name: _marked(style.scaler(name), frame[frame["scaler"] == name]) for name in names}
    for method, axes in grid.items():
        for place, name in enumerate(names):
            found = frame[(frame["method"] == method) & (frame["scaler"] == name)]
            look = looks[name]
            charts.rows_of_dots(axes, found, rows, "feature", place=place, of=len(names), **look)
        axes.set_yticks(range(len(rows)), [_short(row) for row in rows])
        axes.axvline(0, **style.REFERENCE)
    figure.supxlabel("share of importance")
    return charts.legend(figure, [look | {"linestyle": ""} for look in looks.values()])


def _marked(look: dict[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    """Return a look whose label says so where shares rest on fewer than half of the splits."""
    if not frame["few"].any():
        return look
    number = pluralize(int(frame.loc[frame["few"], "n"].max()), "split")
    return {**look, "label": f"{look['label']}, {number} only"}


def columns(frame: pd.DataFrame) -> Figure:
    """Draw where the values of each column lie: mean ± sd of |x|, on a logarithmic scale."""
    figure, grid = charts.facets([""], columns=1, height=0.5 + ROW * len(frame))
    axes = grid[""]
    places = range(len(frame))
    looks = {
        "sd": style.numbered(1, "standard deviation"),
        "mean": style.numbered(0, "|mean|"),
    }
    sizes = frame.assign(mean=frame["mean"].abs())
    for name, look in looks.items():
        known = sizes[name] > 0
        axes.plot(sizes[name].where(known), places, **{**look, "linestyle": ""})
    axes.set_yticks(places, [_short(str(name)) for name in frame["feature"]])
    axes.set_ylim(len(frame) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlabel("size, in the units of each column")
    return charts.legend(figure, [look | {"linestyle": ""} for look in looks.values()])


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
