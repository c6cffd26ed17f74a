"""What figures are drawn with: facets, lines with bands, dots with intervals, heat maps, legends.

A frame of estimates has the columns ``value, low, high``.
"""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling_study.report import style
from scaling_study.report.labels import MINUS
from scaling_study.report.style import FAINT, INK, WIDTH, Look

MOST_MARKERS = 20  # of a line


def facets(
    names: Iterable[Any],
    *,
    columns: int = 2,
    height: float = 2.3,
    titles: Sequence[str] | None = None,
    **shared: Any,
) -> tuple[Figure, dict[Any, Axes]]:
    """Return a figure with a panel for each name (each counts once), row by row.

    `height` is that of a row (inches); `titles` stand in place of the names; `shared` has
    ``sharex`` and ``sharey`` of `Figure.subplots`.
    """
    names = list(dict.fromkeys(names))
    columns = min(columns, max(1, len(names)))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, 0.9 + height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **shared)
    panels = dict(zip(names, grid.flat, strict=False))
    for title, axes in zip(titles or [str(name) for name in names], grid.flat, strict=False):
        lines = [textwrap.wrap(line, 62 // columns) for line in title.split("\n")]
        axes.set_title("\n".join(part for line in lines for part in line))
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(names) - columns) : len(names)]:
        axes.tick_params(labelbottom=True)  # the row above a hidden panel is a last row too
    return figure, panels


def line(axes: Axes, frame: pd.DataFrame, x: str, **look: Any) -> None:
    """Draw an estimate over a column, with its interval as a band."""
    frame = frame.dropna(subset=["value"]).sort_values(x)
    if len(frame) > MOST_MARKERS:
        look |= {"marker": ""}
    axes.plot(frame[x], frame["value"], **look)
    if {"low", "high"} <= set(frame):
        axes.fill_between(
            frame[x], frame["low"], frame["high"], color=look["color"], alpha=0.15, linewidth=0
        )


def lines(panels: dict[Any, Axes], frame: pd.DataFrame, kind: str, x: str) -> list[Look]:
    """Draw a line for each value of a column in each panel; return their looks in order.

    `frame` has the columns ``panel`` and `kind`: ``scaler, optimizer, method`` or any other.
    """
    looks = style.looks(kind, frame[kind])
    for (panel, name), rows in frame.groupby(["panel", kind], sort=False, observed=True):
        line(panels[panel], rows, x, **looks[str(name)])
    return list(looks.values())


def intervals(axes: Axes, at: Any, frame: pd.DataFrame, *, across: bool, **look: Any) -> None:
    """Draw estimates as markers with their intervals, lying (`across`) or upright.

    `at` holds the place of each row on the other axis.
    """
    reach = np.abs(frame[["low", "high"]].to_numpy(float).T - frame["value"].to_numpy(float))
    look = {"linestyle": "", "elinewidth": 1.2, **look}
    if across:
        axes.errorbar(frame["value"], at, xerr=reach, **look)
    else:
        axes.errorbar(at, frame["value"], yerr=reach, **look)


def rows_of_dots(
    axes: Axes,
    frame: pd.DataFrame,
    rows: Sequence[Any],
    column: str,
    *,
    place: int = 0,
    of: int = 1,
    **look: Any,
) -> None:
    """Draw an estimate with its interval in each row, from the top down.

    Rows are values of the column, and their labels. `place` says which of how many kinds this is;
    kinds stand beside each other in a row.
    """
    found = frame.set_index(column).reindex(list(rows))
    step = min(0.22, 0.7 / of)
    at = np.arange(len(rows)) + step * (place - (of - 1) / 2)
    intervals(axes, at, found, across=True, **{**look, "linestyle": ""})
    axes.set_yticks(range(len(rows)), [str(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)


def heat_map(axes: Axes, table: pd.DataFrame, **options: Any) -> Any:
    """Draw a table of numbers over its columns and index, both numbers; return the mesh."""
    axes.grid(visible=False)
    look = {"cmap": "cividis", "shading": "nearest", "rasterized": True, **options}
    return axes.pcolormesh(table.columns, table.index, table.to_numpy(float), **look)


def number_map(
    axes: Axes, table: pd.DataFrame, bold: pd.DataFrame, norm: Normalize, cmap: Any
) -> None:
    """Draw numbers of size below 1 on their colours, over named columns and rows.

    What is `bold` is set so; a missing number is a grey cell with the word ``few``.
    """
    axes.set_facecolor(FAINT)
    look: dict[str, Any] = {"cbar": False, "fmt": "", "annot_kws": {"fontsize": 7.5}}
    look |= {"norm": norm, "cmap": cmap, "vmin": norm.vmin, "vmax": norm.vmax}
    missing = table.isna()
    sns.heatmap(table, ax=axes, annot=table.map(_digits), mask=missing, **look)
    for text, is_bold in zip(axes.texts, bold.to_numpy()[~missing.to_numpy()], strict=True):
        text.set_fontweight("bold" if is_bold else "normal")
    for row, column in np.argwhere(missing.to_numpy()):
        middle: Any = {"ha": "center", "va": "center", "fontsize": 7, "color": "#555555"}
        axes.text(column + 0.5, row + 0.5, "few", **middle)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(axis="y", labelrotation=0)
    axes.tick_params(length=0)


def _digits(value: float) -> str:
    digits = f"{abs(value):.2f}".removeprefix("0")
    return (MINUS if value < 0 and float(digits) else "") + digits


def boxes(axes: Axes, frame: pd.DataFrame, x: str, y: str, looks: dict[str, Look]) -> None:
    """Draw a box for the values of each name, in the order and the colours of their looks."""
    # Not seaborn's, which uses an argument that matplotlib 3.11 has deprecated.
    values = {str(name): group for name, group in frame.groupby(x, sort=False)[y]}
    options: Any = {"patch_artist": True, "medianprops": {"color": INK}, "widths": 0.5}
    options |= {"flierprops": {"markersize": 2}, "manage_ticks": False}
    places = [list(looks).index(name) for name in values]
    drawn = axes.boxplot(list(values.values()), positions=places, **options)["boxes"]
    for box, name in zip(drawn, values, strict=True):
        box.set(facecolor=looks[name]["color"], alpha=0.6)
    axes.set_xticks(range(len(looks)), [look["label"] for look in looks.values()])
    axes.set_xlim(-0.6, len(looks) - 0.4)


def legend(
    figure: Figure, looks: Iterable[Any], *, columns: int = 4, markers: bool = True
) -> Figure:
    """Put a legend of looks or artists above the panels, or in an empty panel."""
    plain = {} if markers else {"marker": ""}
    handles = [key(look | plain) if isinstance(look, dict) else look for look in looks]
    empty = [axes for axes in figure.axes if not axes.get_visible()]
    if empty and len(handles) <= 8:
        empty[0].set_visible(True)
        empty[0].set_axis_off()
        empty[0].legend(handles=handles, loc="center")
    else:
        figure.legend(handles=handles, loc="outside upper center", ncols=min(columns, len(handles)))
    return figure


def label_axes(figure: Figure, x: str, y: str) -> None:
    """Name the axes that all panels share."""
    figure.supxlabel(x)
    figure.supylabel(y)


def key(look: Look) -> Line2D:
    """Return what stands for a look in a legend."""
    return Line2D([], [], **look)


def subtitle(axes: Axes, text: str) -> None:
    """Put a small grey text between a panel's title and the panel."""
    lines = textwrap.wrap(text, 34)
    axes.set_title(axes.get_title(), pad=5 + 13 * len(lines))
    axes.annotate(
        "\n".join(lines),
        (0.5, 1),
        xytext=(0, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=9.5,
        color="#555555",
    )
