"""The figures of the sensitivity report."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling_study.report import charts, style

PANELS = 8  # of the optimizers whose progress is drawn by scale factor
ONCE: style.Look = {"color": style.INK, "marker": "o", "label": "tuned at scale factor 1"}
RETUNED: style.Look = {
    **{"color": style.INK, "marker": "o", "markerfacecolor": "white"},
    **{"linestyle": (0, (3, 2)), "label": "tuned at every scale factor"},
}
TUNED = {"once": ONCE, "at every unit": RETUNED}
DIVERGED: style.Look = {"marker": "x", "markersize": 2.2, "color": style.PALE}
CHOSEN: style.Look = {"marker": "o", "color": style.INK, "markeredgecolor": "white"}
AT_END: style.Look = {"marker": "o", "color": "white", "markeredgecolor": style.INK}


def leaderboard(board: pd.DataFrame) -> Figure:
    """Draw the sensitivity of each optimizer, tuned once and retuned."""
    figure = Figure(figsize=(style.WIDTH, 1.2 + 0.21 * len(board)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, **style.REFERENCE)
    names = [style.optimizer(name)["label"] for name in board["optimizer"]]
    columns = {"sensitivity": "value", "sensitivity_low": "low", "sensitivity_high": "high"}
    estimates = board.rename(columns=columns).assign(optimizer=names)
    once, retuned = ({**look, "linestyle": ""} for look in TUNED.values())
    axes.plot(board["sensitivity_tuned"], range(len(names)), **retuned)
    charts.rows_of_dots(axes, estimates, names, "optimizer", **once)
    for row in board.index[board["status"] != "ranked"]:
        place = {"va": "center", "transform": axes.get_yaxis_transform()}
        axes.text(0.01, row, board["status"][row], fontsize=8, **place)
    axes.set_xlabel("loss of progress Γ at other scale factors")
    return charts.legend(figure, [once, retuned])


def kept_rate(progress: pd.DataFrame, order: list[str]) -> Figure:
    """Draw progress over the scale factor, a panel for each known optimizer and the best others."""
    known = tuple(name for name in style.OPTIMIZERS if name in order)
    figure, panels = _panels(style.ordered(order, known)[:PANELS], columns=4, height=1.7)
    for name, axes in panels.items():
        rows = progress[progress["optimizer"] == name]
        for tuned, look in TUNED.items():
            line = rows[rows["tuned"] == tuned]
            charts.line(axes, line, "scale_factor", **{**look, "marker": ""})
        axes.set(xscale="log", ylim=(-0.05, 1.08))
    figure.supylabel("progress Γ")
    return charts.legend(figure, [{**look, "marker": ""} for look in TUNED.values()])


def learning_rate_map(cells: pd.DataFrame, order: list[str]) -> Figure:
    """Draw progress by learning rate and scale factor, a panel for each optimizer."""
    figure, panels = _panels(order, columns=5, height=1.35)
    mesh: Any = None
    for name, axes in panels.items():
        rows = cells[cells["optimizer"] == name]
        table = rows.pivot(index="learning_rate", columns="scale_factor", values="gone")
        mesh = charts.heat_map(axes, table, vmin=0, vmax=1)
        for chosen, look in (
            (rows["diverged"] > 0.5, DIVERGED),
            (rows["best"] & ~rows["edge"], CHOSEN),
            (rows["best"] & rows["edge"], AT_END),
        ):
            at = rows[chosen]
            axes.plot(at["scale_factor"], at["learning_rate"], ls="", **look)
        axes.set(xscale="log", yscale="log")
        axes.set_xticks([s for s in (1e-3, 1.0, 1e3) if s in table.columns])
        axes.minorticks_off()
        axes.tick_params(labelsize=8)
        axes.title.set_fontsize(8)
    figure.supylabel("learning rate")
    place = {"location": "top", "shrink": 0.5, "aspect": 30, "pad": 0.01}
    figure.colorbar(mesh, ax=[*panels.values()], label="progress Γ", **place)
    return figure


def _panels(names: list[str], **options: Any) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel for each optimizer over the scale factor."""
    titles = [style.optimizer(name)["label"] for name in names]
    figure, panels = charts.facets(names, titles=titles, sharex=True, sharey=True, **options)
    figure.supxlabel("scale factor of the last feature")
    return figure, panels
