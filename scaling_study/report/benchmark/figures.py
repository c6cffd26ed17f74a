"""The figures of the benchmark report."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from scaling_study.report import charts, style
from scaling_study.report.benchmark.tables import MARK, label

SIDES = {
    "reference": {"color": style.INK, "linestyle": "-", "label": "unit 1"},
    "below": {"color": style.BLUE, "linestyle": (0, (4, 2)), "label": "units below 1"},
    "above": {"color": style.VERMILION, "linestyle": (0, (1, 1)), "label": "units above 1"},
}
MEAN: style.Look = {"color": style.INK, "marker": "o", "label": "all other units"}
PANELS = 12  # of the optimizers whose profile is drawn


def leaderboard(board: pd.DataFrame, marked: Collection[str] = ()) -> Figure:
    """Draw each optimizer's sensitivity, and that to units below and above 1."""
    figure = Figure(figsize=(style.WIDTH, 1.3 + 0.22 * len(board)), layout="constrained")
    axes = figure.subplots()
    names = [label(name, marked) for name in board["optimizer"]]
    columns = {"sensitivity": "value", "sensitivity_low": "low", "sensitivity_high": "high"}
    charts.rows_of_dots(axes, board.rename(columns=columns).assign(row=names), names, "row", **MEAN)
    looks: list[Any] = [{**MEAN, "linestyle": ""}]
    for side, marker in (("below", "<"), ("above", ">")):
        look = {**SIDES[side], "marker": marker, "linestyle": "", "markerfacecolor": "white"}
        axes.plot(board[f"sensitivity_{side}"], np.arange(len(board)), **look)
        looks.append(look)
    for row in board.index[board["status"] != "ranked"]:
        place = {"va": "center", "transform": axes.get_yaxis_transform()}
        axes.text(0.01, row, board["status"][row], fontsize=8, **place)
    for row in board.index[1:]:
        if board["group"].iloc[row] is not pd.NA and (
            board["group"].iloc[row] != board["group"].iloc[row - 1]
        ):
            axes.axhline(row - 0.5, color=style.PALE, linewidth=0.8)
    axes.axvline(0, **style.REFERENCE)
    axes.set(xlabel="share of the time score that other units cost", xlim=(-0.25, 1.03))
    return charts.legend(figure, looks)


def profiles(frame: pd.DataFrame) -> Figure:
    """Draw the performance profile of each optimizer, a panel for each, a line for each side."""
    final = frame[frame["units"] != "reference"].groupby("optimizer")["share"].mean()
    names = list(final.sort_values(ascending=False, kind="stable").index[:PANELS])
    titles = [style.optimizer(str(name))["label"].rpartition(":")[2] for name in names]
    figure, panels = charts.facets(
        names, columns=4, height=1.6, titles=titles, sharex=True, sharey=True
    )
    for name, axes in panels.items():
        for side, look in SIDES.items():
            rows = frame[(frame["optimizer"] == name) & (frame["units"] == side)]
            axes.plot(rows["ratio"], rows["share"], **look)
        axes.set(xscale="log", ylim=(-0.03, 1.03))
    charts.label_axes(figure, "updates over the fewest, T / T*", "share of tasks")
    return charts.legend(figure, SIDES.values())


def by_problem(frame: pd.DataFrame, order: list[str], marked: Collection[str] = ()) -> Figure:
    """Draw the sensitivity of each optimizer on each problem as a map of numbers."""
    table = frame.pivot(index="optimizer", columns="problem", values="sensitivity")
    table = table.reindex(index=order, columns=list(dict.fromkeys(frame["problem"])))
    table.index = [_short(name, marked) for name in order]
    figure = Figure(figsize=(style.WIDTH, 1.9 + 0.24 * len(table)), layout="constrained")
    axes = figure.subplots()
    bold = pd.DataFrame(False, index=table.index, columns=table.columns)
    shown = table.astype(float).clip(-0.99, 0.99)
    charts.number_map(axes, shown, bold, Normalize(0, 1.4), "Purples")
    for text in axes.texts:  # what number_map calls few is a problem that was hardly trained
        if text.get_text() == "few":
            text.set_text("\N{EN DASH}")
    axes.set_xticks(axes.get_xticks(), list(table.columns), rotation=45, ha="right")
    return figure


def _short(name: str, marked: Collection[str]) -> str:
    """Return an optimizer's label without its module, which a map has no room for."""
    return f"{MARK if name in marked else ''}{label(name).rpartition(':')[2]}"


def over_shares(frame: pd.DataFrame, label: str, scale: str) -> Figure:
    """Draw the sensitivity of each optimizer over a share, on a linear or a log scale."""
    figure = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    names = [name for name in style.OPTIMIZERS if name in set(frame["optimizer"])]
    others = frame[~frame["optimizer"].isin(names)]
    for _, rows in others.groupby("optimizer"):
        axes.plot(rows["share"], rows["sensitivity"], color=style.PALE, linewidth=0.7)
    looks = [style.optimizer(name) for name in names]
    for name, look in zip(names, looks, strict=True):
        rows = frame[frame["optimizer"] == name]
        axes.plot(rows["share"], rows["sensitivity"], **look)
    axes.set(xscale=scale, xlabel=label, ylabel="sensitivity")
    grey = {"color": style.PALE, "linewidth": 0.7, "label": "other optimizers"}
    return charts.legend(figure, [*looks, *([grey] if len(others) else [])])
