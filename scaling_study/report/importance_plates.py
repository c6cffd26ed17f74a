"""The figures of what networks hold for important: frames in, a matplotlib Figure out."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from scaling_study.report.figures import COLOURS, INK, PALE, STYLE
from scaling_study.report.labels import MINUS

Array = NDArray[np.float64]
WIDTH = 6.2  # inches
TITLES = {
    "weight": "weight magnitude",
    "garson": "Garson",
    "olden": "Olden",
    "gradient": "gradient",
    "gradient_input": "gradient × input",
    "integrated_gradients": "integrated gradients",
    "permutation": "permutation",
    "linear_shap": "linear SHAP",
}
MARKERS = "osD^vPX*"
FEW = "#d9d9d9"


def titles_of(methods: pd.Series) -> list[str]:
    """Return the methods that are there, in their order."""
    return [name for name in TITLES if name in set(methods)]


def unique(values: pd.Series) -> list[Any]:
    """Return a column's values in the order in which they come."""
    return list(dict.fromkeys(values))


def short(problem: str) -> str:
    """Return a problem's name without its parameters."""
    return problem.partition("(")[0]


@matplotlib.rc_context(STYLE)
def draw_fit(cells: pd.DataFrame) -> Figure:
    """Draw the share of runs that fit, a panel a problem, a row an input.

    Parameters
    ----------
    cells : DataFrame
        ``problem, input, value, low, high``.
    """
    names, problems = unique(cells["input"]), unique(cells["problem"])
    figure, panels = _side_by_side(len(problems), names)
    for axes, problem in zip(panels, problems, strict=True):
        own = cells[cells["problem"] == problem].set_index("input").reindex(names)
        colours = [COLOURS[0] if name.startswith("raw") else COLOURS[1] for name in names]
        for place, (row, colour) in enumerate(zip(own.itertuples(), colours, strict=True)):
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.2)
            axes.plot(row.value, place, "o", color=colour, markersize=4.5)
        axes.set_title(short(problem))
        axes.set_xlim(-0.05, 1.05)
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    figure.supxlabel("share of runs that fit held-out rows", fontsize=11)
    handles = [
        Line2D([], [], marker="o", color=colour, markersize=4.5, label=label)
        for label, colour in (("as it comes", COLOURS[0]), ("scaled", COLOURS[1]))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def draw_scales(raw: pd.DataFrame, standard: pd.DataFrame) -> Figure:
    """Draw each method's distortion over the scale factor, a panel a method, a line a problem.

    Parameters
    ----------
    raw : DataFrame
        ``problem, method, scale_factor, value, low, high``; NaN where too few runs fit.
    standard : DataFrame
        ``problem, method, value``, of standardised columns.
    """
    methods, problems = titles_of(raw["method"]), unique(raw["problem"])
    rows = -(-(len(methods) + 1) // 2)
    figure = Figure(figsize=(WIDTH, 0.8 + 1.75 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False, sharex=True, sharey=True)
    for axes, method in zip(grid.flat, methods, strict=False):
        for place, problem in enumerate(problems):
            of_both = [
                f[(f["problem"] == problem) & (f["method"] == method)] for f in (raw, standard)
            ]
            own, colour = of_both[0].sort_values("scale_factor"), COLOURS[place]
            reach = abs(own[["low", "high"]].sub(own["value"], axis=0)).to_numpy().T
            x = own["scale_factor"] * 1.12 ** (place - (len(problems) - 1) / 2)
            look: dict[str, Any] = {"color": colour, "marker": MARKERS[place], "markersize": 4.5}
            axes.errorbar(x, own["value"], yerr=reach, linewidth=1.3, elinewidth=1.1, **look)
            for level in of_both[1]["value"]:
                axes.axhline(level, color=colour, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.set_xscale("log")
        axes.set_title(TITLES[method])
    empty = list(grid.flat[len(methods) :])
    for axes in empty:
        axes.set_axis_off()
    for axes in grid[-2, 1:] if len(empty) else ():
        axes.tick_params(labelbottom=True)
    handles = [
        Line2D([], [], color=COLOURS[i], marker=MARKERS[i], markersize=4.5, label=short(name))
        for i, name in enumerate(problems)
    ]
    dashed = Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (2, 2)), label="standardised")
    empty[0].legend(handles=[*handles, dashed], loc="center")
    figure.supxlabel("scale factor of the last column, as it comes", fontsize=11)
    figure.supylabel("distortion (total variation of shares)", fontsize=11)
    return figure


@matplotlib.rc_context(STYLE)
def draw_differences(frame: pd.DataFrame) -> Figure:
    """Draw what the distortion gains over standardised columns, a map a problem.

    Parameters
    ----------
    frame : DataFrame
        ``problem, method, input, value, low, high``; NaN where too few seeds fit both ways.
    """
    problems = unique(frame["problem"])
    methods, inputs = titles_of(frame["method"]), unique(frame["input"])
    changes = ["× 1" if name == "raw" else name.removeprefix("raw ") for name in inputs]
    rows = -(-len(problems) // 2)
    height = 1.5 + rows * (0.5 + 0.24 * len(methods))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, min(2, len(problems)), squeeze=False, sharey=True, sharex=True)
    norm = TwoSlopeNorm(0, -0.6, 0.6)
    for axes, problem in zip(grid.flat, problems, strict=False):
        own = frame[frame["problem"] == problem]
        own = own.assign(sure=np.sign(own["low"]) * np.sign(own["high"]))
        table, sure = (
            own.pivot(index="method", columns="input", values=name).loc[methods, inputs]
            for name in ("value", "sure")
        )
        _map(axes, table.to_numpy(np.float64), sure.to_numpy(np.float64), norm)
        axes.set_title(short(problem))
        axes.set_yticks(range(len(methods)), [TITLES[name] for name in methods])
        axes.set_xticks(range(len(inputs)), changes)
        axes.tick_params(axis="x", labelrotation=90, length=0, labelsize=9)
        axes.tick_params(axis="y", length=0)
    for axes in grid.flat[len(problems) :]:
        axes.set_visible(False)
    figure.supxlabel(
        "the last column, as it comes: times a scale factor, or plus an offset", fontsize=11
    )
    bar = figure.colorbar(
        ScalarMappable(norm, "RdBu_r"), ax=grid, location="top", shrink=0.6, aspect=30
    )
    bar.set_label("distortion less that of standardised columns", fontsize=10)
    bar.set_ticks([-0.6, -0.3, 0, 0.3, 0.6])
    return figure


def _map(axes: Axes, values: Array, sure: Array, norm: TwoSlopeNorm) -> None:
    """Draw numbers on their colours; bold where the interval excludes 0, grey where none is."""
    axes.set_facecolor(FEW)
    axes.grid(visible=False)
    axes.imshow(np.ma.masked_invalid(values), cmap="RdBu_r", norm=norm, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            axes.text(column, row, "few", ha="center", va="center", fontsize=7, color="#555555")
            continue
        text = f"{abs(value):.2f}".removeprefix("0")
        axes.text(
            *(column, row, (MINUS if value < 0 and float(text) else "") + text),
            **{"ha": "center", "va": "center", "fontsize": 7.5},
            weight="bold" if sure[row, column] > 0 else "normal",
            color="white" if abs(value) > 0.3 else INK,
        )


@matplotlib.rc_context(STYLE)
def draw_methods(frame: pd.DataFrame, column: str, label: str, *, truth: float | None) -> Figure:
    """Draw an estimate by method, a panel a problem, a marker a value of a column.

    Parameters
    ----------
    frame : DataFrame
        ``problem, method, value, low, high`` and the column.
    column : str
        Whose values have markers, such as ``input``.
    label : str
        Of the axis.
    truth : float or None
        Where a line is drawn.
    """
    problems, kinds = unique(frame["problem"]), unique(frame[column])
    methods = titles_of(frame["method"])
    figure, panels = _side_by_side(len(problems), [TITLES[name] for name in methods], step=0.42)
    for axes, problem in zip(panels, problems, strict=True):
        for place, kind in enumerate(kinds):
            own = frame[(frame["problem"] == problem) & (frame[column] == kind)]
            _dots(axes, own.set_index("method").reindex(methods), place, len(kinds))
        if truth is not None:
            axes.axvline(truth, color=INK, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        if len(problems) > 1:
            axes.set_title(short(problem))
    figure.supxlabel(label, fontsize=11)
    _kinds_legend(figure, kinds)
    return figure


@matplotlib.rc_context(STYLE)
def draw_networks(frame: pd.DataFrame, methods: tuple[str, ...]) -> Figure:
    """Draw the distortion of each network, a row of panels a problem, a column a method.

    Parameters
    ----------
    frame : DataFrame
        ``problem, network, input, method, value, low, high``.
    methods : tuple of str
        Which are drawn.
    """
    problems, names = unique(frame["problem"]), unique(frame["network"])
    kinds = unique(frame["input"])
    height = 0.9 + len(problems) * (0.5 + 0.3 * len(names))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(len(problems), len(methods), squeeze=False, sharey=True, sharex="row")
    for row, problem in zip(grid, problems, strict=True):
        for axes, method in zip(row, methods, strict=True):
            own = frame[(frame["problem"] == problem) & (frame["method"] == method)]
            for place, kind in enumerate(kinds):
                of_kind = own[own["input"] == kind].set_index("network").reindex(names)
                _dots(axes, of_kind, place, len(kinds))
            axes.set_title(f"{short(problem)}\n{TITLES[method]}", fontsize=10)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_xlim(left=-0.02)
    figure.supxlabel("distortion (total variation of shares)", fontsize=11)
    _kinds_legend(figure, kinds)
    return figure


def _side_by_side(panels: int, names: list[str], step: float = 0.24) -> tuple[Figure, list[Axes]]:
    """Return panels beside each other that share their rows, which are named on the left."""
    figure = Figure(figsize=(WIDTH, 1.5 + step * len(names)), layout="constrained")
    (axes,) = figure.subplots(1, panels, squeeze=False, sharey=True, sharex=True)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return figure, list(axes)


def _dots(axes: Axes, own: pd.DataFrame, place: int, kinds: int) -> None:
    """Draw an estimate and its interval for each row, beside those of the other kinds."""
    y = np.arange(len(own)) + 0.7 / kinds * (place - (kinds - 1) / 2)
    reach = abs(own[["low", "high"]].sub(own["value"], axis=0)).to_numpy().T
    axes.errorbar(own["value"], y, xerr=reach, ls="", elinewidth=1.1, **_look(place))


def _look(place: int) -> dict[str, Any]:
    colour = (*COLOURS, PALE)[(1, 0, 4, 2, 3, 5, 6, 7)[place % 8]]
    return {"color": colour, "marker": MARKERS[place % len(MARKERS)], "markersize": 4.5}


def _kinds_legend(figure: Figure, kinds: list[str]) -> None:
    handles = [
        Line2D([], [], ls="", label=kind, **_look(place)) for place, kind in enumerate(kinds)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(kinds)))
