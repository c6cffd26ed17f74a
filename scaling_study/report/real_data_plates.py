"""The figures of the report on real data, from tables of scores and of differences."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling_study.report.figures import COLOURS, INK, STYLE
from scaling_study.report.labels import scaler_name

SMALLEST = 0.02  # the smallest difference of a score that would matter to anyone
WIDTH = 6.2
ORDER = ("none", "minmax", "standard", "robust", "maxabs", "quantile")
AS_IT_IS = "as it is"
USUAL, TUNED = "default", "tuned"


def named(problem: str) -> str:
    """Return what a problem is called in words: its data set, and what was planted in it."""
    name, _, planted = problem.partition("(")
    trouble = {"outliers=0.01)": ", outliers", "heavy_tails=True)": ", heavy tails"}
    return name.replace("_", " ") + trouble.get(planted, planted and f" ({planted}")


def _grid(panels: int, height: float, **shared: Any) -> tuple[Figure, list[Any]]:
    rows = -(-panels // 2)
    figure = Figure(figsize=(WIDTH, 0.9 + height * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False, **shared)
    for axes in grid.flat[panels:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:panels])


def _pairs(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(frame["model"], frame["optimizer"], strict=True)))


def _pair_look(model: str, optimizer: str) -> dict[str, Any]:
    linear = model == "linear"
    colour = COLOURS[1] if optimizer == "adam" else COLOURS[0]
    face = {} if linear else {"markerfacecolor": "white"}
    return {"color": colour, "marker": "o" if linear else "s", "markersize": 5, **face}


def _pair_legend(figure: Figure, pairs: list[tuple[str, str]]) -> Figure:
    handles = [
        Line2D([], [], ls="", label=f"{m.partition('(')[0]}, {o}", **_pair_look(m, o))
        for m, o in pairs
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
    return figure


def _dots(
    axes: Axes, own: pd.DataFrame, names: list[str], column: str, pairs: list[tuple[str, str]]
) -> None:
    """Draw an estimate for each name from the top down, pairs side by side."""
    for place, (model, optimizer) in enumerate(pairs):
        mine = own[(own["model"] == model) & (own["optimizer"] == optimizer)]
        mine = mine.set_index(column).reindex(names)
        y = np.arange(len(names)) + 0.18 * (place - (len(pairs) - 1) / 2)
        reach = abs(mine[["low", "high"]].sub(mine["value"], axis=0)).to_numpy().T
        look = _pair_look(model, optimizer)
        axes.errorbar(mine["value"], y, xerr=reach, ls="", elinewidth=1.2, **look)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


@matplotlib.rc_context(STYLE)
def score_panels(frame: pd.DataFrame) -> Figure:
    """Draw each data set's score by scaler, models and optimizers side by side.

    Parameters
    ----------
    frame : DataFrame
        ``problem, scaler, model, optimizer, measure, value, low, high``.
    """
    problems, pairs = list(dict.fromkeys(frame["problem"])), _pairs(frame)
    figure, panels = _grid(len(problems), 2.0)
    for axes, problem in zip(panels, problems, strict=True):
        own = frame[frame["problem"] == problem]
        names = [name for name in ORDER if name in set(own["scaler"])]
        _dots(axes, own, names, "scaler", pairs)
        axes.set_title(f"{named(problem)} ({own['measure'].iloc[0]})")
    return _pair_legend(figure, pairs)


@matplotlib.rc_context(STYLE)
def forest(frame: pd.DataFrame) -> Figure:
    """Draw paired differences by data set, at the usual rate beside a tuned one.

    Parameters
    ----------
    frame : DataFrame
        ``problem, rates, model, optimizer, value, low, high``.
    """
    problems, pairs = list(dict.fromkeys(frame["problem"])), _pairs(frame)
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, rates in zip(panels, (USUAL, TUNED), strict=True):
        own = frame[frame["rates"] == rates]
        axes.axvspan(-SMALLEST, SMALLEST, color="#dddddd", linewidth=0)
        axes.axvline(0, color=INK, linewidth=0.8)
        _dots(axes, own, problems, "problem", pairs)
        axes.set_yticks(range(len(problems)), [named(name) for name in problems])
        axes.set_title("usual rate" if rates == USUAL else "tuned rate")
    figure.supxlabel("gain in R² or accuracy: standard less none", fontsize=11)
    return _pair_legend(figure, pairs)


@matplotlib.rc_context(STYLE)
def rate_panels(frame: pd.DataFrame) -> Figure:
    """Draw the score over the learning rate, a line a scaler; optimizers side by side.

    Parameters
    ----------
    frame : DataFrame
        ``problem, optimizer, scaler, learning_rate, measure, value, low, high``.
    """
    cells = list(dict.fromkeys(zip(frame["problem"], frame["optimizer"], strict=True)))
    figure, panels = _grid(len(cells), 1.9, sharex=True)
    names = [name for name in ORDER if name in set(frame["scaler"])]
    for axes, (problem, optimizer) in zip(panels, cells, strict=True):
        own = frame[(frame["problem"] == problem) & (frame["optimizer"] == optimizer)]
        for name in names:
            line = own[own["scaler"] == name].sort_values("learning_rate")
            colour = COLOURS[ORDER.index(name)]
            axes.plot(line["learning_rate"], line["value"], "o-", ms=3, lw=1.4, color=colour)
            axes.fill_between(
                line["learning_rate"], line["low"], line["high"], color=colour, alpha=0.15, lw=0
            )
        axes.set_xscale("log")
        axes.set_ylim(-0.04, 1.04)
        axes.set_title(f"{named(problem)}, {optimizer} ({own['measure'].iloc[0]})")
    figure.supxlabel("learning rate", fontsize=11)
    handles = [
        Line2D([], [], marker="o", ms=3, color=COLOURS[ORDER.index(n)], label=scaler_name(n))
        for n in names
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, columnspacing=1)
    return figure


@matplotlib.rc_context(STYLE)
def trouble_panels(frame: pd.DataFrame) -> Figure:
    """Draw the score by planted trouble, a row of dots a trouble, a colour a scaler.

    Parameters
    ----------
    frame : DataFrame
        ``dataset, model, trouble, scaler, measure, value, low, high``.
    """
    cells = list(dict.fromkeys(zip(frame["dataset"], frame["model"], strict=True)))
    figure, panels = _grid(len(cells), 2.6)
    names = [name for name in ORDER if name in set(frame["scaler"])]
    order = dict.fromkeys([AS_IT_IS, *frame["trouble"]])
    for axes, (dataset, model) in zip(panels, cells, strict=True):
        own = frame[(frame["dataset"] == dataset) & (frame["model"] == model)]
        kinds = [kind for kind in order if kind in set(own["trouble"])]
        for place, name in enumerate(names):
            mine = own[own["scaler"] == name].drop_duplicates("trouble")
            mine = mine.set_index("trouble").reindex(kinds)
            y = np.arange(len(kinds)) + 0.14 * (place - (len(names) - 1) / 2)
            reach = abs(mine[["low", "high"]].sub(mine["value"], axis=0)).to_numpy().T
            look = {"color": COLOURS[ORDER.index(name)], "marker": "osD^vP"[place], "ms": 4}
            axes.errorbar(mine["value"], y, xerr=reach, ls="", elinewidth=1.2, **look)
        axes.set_yticks(range(len(kinds)), kinds)
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        short = model.partition("(")[0]
        axes.set_title(f"{named(dataset)}, {short}")
        axes.set_xlabel(str(own["measure"].iloc[0]))
    handles = [
        Line2D(
            [], [], ls="", marker="osD^vP"[i], color=COLOURS[ORDER.index(n)], label=scaler_name(n)
        )
        for i, n in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
