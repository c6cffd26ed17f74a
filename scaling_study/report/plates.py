"""The paper's figures: a frame in, a matplotlib Figure out.

A frame of estimates has ``value, low, high``; lines are means or shares, bands 95 % intervals.
Which rows they are, and what the captions say, stands in `atlas`.
"""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, NullFormatter, NullLocator

from scaling_study.report.figures import COLOURS, INK, PALE, SCALERS, STYLE
from scaling_study.report.labels import number

OPTIMIZERS = ("sgd", "momentum", "adam", "rmsprop")
VERDICT_COLOURS = {
    "supported": COLOURS[2],
    "refuted": COLOURS[0],
    "depends": COLOURS[4],
    "inconclusive": PALE,
    "not testable": "#dddddd",
}
OUTCOME_COLOURS = {
    "beyond": COLOURS[2],
    "equivalent": COLOURS[5],
    "opposite": COLOURS[0],
    "inconclusive": PALE,
    "not measured": "#e4e4e4",
}
WIDTH = 6.2


def _look(names: tuple[str, ...], name: str) -> dict[str, Any]:
    place = names.index(name) if name in names else len(names)
    marker = "osD^vP*"[place % 7]
    return {"color": COLOURS[place % len(COLOURS)], "marker": marker, "markersize": 4}


def _grid(rows: int, columns: int, height: float = 2.3, **shared: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, 0.9 + height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _used(grid: Any, count: int) -> list[Axes]:
    """Return the first panels, and hide those that nothing is drawn in."""
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return list(grid.flat[:count])


def _line(axes: Axes, own: pd.DataFrame, x: str, **look: Any) -> None:
    """Draw an estimate over x, with its interval as a band."""
    own = own.dropna(subset=["value"]).sort_values(x)
    axes.plot(own[x], own["value"], linewidth=1.4, **look)
    if {"low", "high"} <= set(own):
        axes.fill_between(
            own[x], own["low"], own["high"], color=look["color"], alpha=0.15, linewidth=0
        )


def _handles(names: list[str], order: tuple[str, ...]) -> list[Line2D]:
    return [Line2D([], [], label=name, linewidth=1.4, **_look(order, name)) for name in names]


def _legend(figure: Figure, handles: list[Any], columns: int = 4) -> Figure:
    figure.legend(handles=handles, loc="outside upper center", ncols=min(columns, len(handles)))
    return figure


def _present(frame: pd.DataFrame, column: str, order: tuple[str, ...]) -> list[str]:
    found = list(dict.fromkeys(frame[column]))
    return [n for n in order if n in found] + [n for n in found if n not in order]


@matplotlib.rc_context(STYLE)
def importance(frame: pd.DataFrame) -> Figure:
    """Draw the share of permutation importance over the scale factor, F beside U.

    Parameters
    ----------
    frame : DataFrame
        ``design, rates, optimizer, scale_factor, value, low, high`` and ``ols``, the share
        under least squares.
    """
    designs, rates = ("F", "U"), list(dict.fromkeys(frame["rates"]))
    figure, grid = _grid(len(rates), 2, sharex=True, sharey=True)
    names = _present(frame, "optimizer", OPTIMIZERS)
    titles = {"F": "F: coefficient fixed", "U": "U: only the unit changes"}
    for row, rate in enumerate(rates):
        for column, design in enumerate(designs):
            axes = grid[row, column]
            own = frame[(frame["design"] == design) & (frame["rates"] == rate)]
            for name in names:
                _line(
                    axes, own[own["optimizer"] == name], "scale_factor", **_look(OPTIMIZERS, name)
                )
            truth = own.groupby("scale_factor")["ols"].mean()
            axes.plot(truth.index, truth, color=INK, linestyle=(0, (1, 2)))
            axes.set_xscale("log")
            axes.set_title(f"{titles[design]}\n{rate} rate")
            axes.set_ylim(-1.08, 1.08)
    figure.supxlabel("scale factor of the last feature", fontsize=11)
    figure.supylabel("its share of permutation importance", fontsize=11)
    ols = Line2D([], [], color=INK, ls=(0, (1, 2)), label="least squares")
    return _legend(figure, [*_handles(names, OPTIMIZERS), ols], 5)


@matplotlib.rc_context(STYLE)
def conditioning(frame: pd.DataFrame, marks: pd.DataFrame) -> Figure:
    """Draw the condition number over a feature's range and offset, with scalers marked.

    Parameters
    ----------
    frame : DataFrame
        ``range, offset, kappa`` on a grid: feature 1 is uniform on [0, 1], feature 2 on
        [offset, offset + range].
    marks : DataFrame
        ``scaler, range, offset, kappa``: where a scaler puts feature 2, and κ when it has
        scaled both.
    """
    figure, grid = _grid(1, 1, height=3.6)
    axes = grid[0, 0]
    table = frame.pivot(index="offset", columns="range", values="kappa")
    drawn = axes.pcolormesh(
        table.columns, table.index, table.to_numpy(), norm=LogNorm(), cmap="cividis",
        shading="nearest", rasterized=True,
    )  # fmt: skip
    axes.grid(visible=False)
    axes.set(xscale="log", xlabel="range of feature 2", ylabel="least value of feature 2 (offset)")
    axes.set_yscale("symlog", linthresh=0.1)
    beside = {"robust": (-9, 2, "right"), "none": (-9, 0, "right"), "standard": (9, -9, "left")}
    row: Any
    for row in marks.itertuples():
        axes.plot(row.range, row.offset, "o", color="white", markeredgecolor=INK, markersize=7)
        right, up, align = beside.get(str(row.scaler), (9, -3, "left"))
        axes.annotate(
            f"{row.scaler}, κ = {number(row.kappa, 2)}", (row.range, row.offset),
            xytext=(right, up), textcoords="offset points", fontsize=9, color="white", ha=align,
            bbox={"boxstyle": "round,pad=0.15", "fc": INK, "alpha": 0.65, "lw": 0},
        )  # fmt: skip
    figure.colorbar(drawn, ax=axes, label="condition number κ of the Hessian")
    return figure


@matplotlib.rc_context(STYLE)
def descent(times: pd.DataFrame, floors: pd.DataFrame) -> Figure:
    """Draw measured against predicted: updates to target, and the floor of SGD.

    Parameters
    ----------
    times : DataFrame
        ``predicted, measured`` (updates) and ``scaler``.
    floors : DataFrame
        ``predicted, value, low, high`` (loss above least squares) and ``sampling``.
    """
    figure, grid = _grid(1, 2, height=2.9)
    left, right = grid[0]
    for name in _present(times, "scaler", SCALERS):
        own = times[times["scaler"] == name]
        look = _look(SCALERS, name)
        look.pop("markersize")
        left.scatter(own["predicted"], own["measured"], s=6, linewidths=0, alpha=0.5, label=name,
                     rasterized=True, **look)  # fmt: skip
    low, high = times["predicted"].min(), times["predicted"].max()
    left.plot([low, high], [low, high], color=INK, linewidth=0.8)
    left.set(xscale="log", yscale="log", xlabel="predicted updates", ylabel="measured updates")
    left.set_title("updates to target")
    left.legend(fontsize=8.5, handletextpad=0.2, markerscale=1.8, loc="upper left")
    for place, (name, own) in enumerate(floors.groupby("sampling", sort=False)):
        error = np.abs(own[["low", "high"]].to_numpy().T - own["value"].to_numpy())
        right.errorbar(own["predicted"], own["value"], yerr=error, fmt="os"[place % 2],
                       color=COLOURS[(1, 0)[place % 2]], markersize=5, label=str(name))  # fmt: skip
    low, high = floors["predicted"].min(), floors["predicted"].max()
    right.plot([low, high], [low, high], color=INK, linewidth=0.8)
    right.set(xscale="log", yscale="log", xlabel="predicted loss above OLS",
              ylabel="measured loss above OLS")  # fmt: skip
    right.set_title("where SGD stays")
    right.xaxis.set_minor_formatter(NullFormatter())
    right.legend(fontsize=8.5, loc="upper left")
    return figure


@matplotlib.rc_context(STYLE)
def exponents(frame: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Draw the updates that the scaled feature's weight takes, over its scale factor.

    Parameters
    ----------
    frame : DataFrame
        ``start, optimizer, scale_factor, value, low, high`` (updates).
    slopes : DataFrame
        ``start, optimizer, value, low, high, predicted``.
    """
    starts = list(dict.fromkeys(frame["start"]))
    figure, grid = _grid(1, len(starts), height=3.0, sharey=True)
    names = _present(frame, "optimizer", OPTIMIZERS)
    for axes, start in zip(grid[0], starts, strict=True):
        own = frame[frame["start"] == start]
        for name in names:
            _line(axes, own[own["optimizer"] == name], "scale_factor", **_look(OPTIMIZERS, name))
        known = slopes[slopes["start"] == start].set_index("optimizer")
        said = "\n".join(
            f"{name}: {known.loc[name, 'value']:.2f} (theory {known.loc[name, 'predicted']:.0f})"
            for name in names
        ).replace("-", "\N{MINUS SIGN}")
        axes.text(0.04, 0.04, said, transform=axes.transAxes, fontsize=9, va="bottom")
        axes.set(xscale="log", yscale="log", title=f"start: {start}")
        axes.set_xticks(sorted(own["scale_factor"].unique()))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_locator(NullLocator())
    figure.supxlabel("scale factor of the last feature", fontsize=11)
    figure.supylabel("updates to its weight", fontsize=11)
    return _legend(figure, _handles(names, OPTIMIZERS))


@matplotlib.rc_context(STYLE)
def basins(frame: pd.DataFrame) -> Figure:
    """Draw the loss that is left over the learning rate, a line for each scale factor.

    Parameters
    ----------
    frame : DataFrame
        ``optimizer, inputs, learning_rate, value, low, high``: ``inputs`` is the raw
        feature's scale factor as text, or ``scaled``; value in [1e-3, 1].
    """
    names = _present(frame, "optimizer", OPTIMIZERS)
    figure, grid = _grid(-(-len(names) // 2), 2, sharex=True, sharey=True)
    inputs = [n for n in dict.fromkeys(frame["inputs"]) if n != "scaled"]
    shades = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.9, len(inputs)))
    looks = {n: {"color": c} for n, c in zip(inputs, shades, strict=True)}
    looks["scaled"] = {"color": INK, "linestyle": (0, (3, 1.5))}
    for axes, name in zip(_used(grid, len(names)), names, strict=True):
        own = frame[frame["optimizer"] == name]
        for kind, look in looks.items():
            _line(axes, own[own["inputs"] == kind], "learning_rate", **look)
        axes.set(xscale="log", yscale="log", title=name)
    figure.supxlabel("learning rate", fontsize=11)
    figure.supylabel("excess share (1: no better than the mean)", fontsize=11)
    handles = [
        Line2D([], [], label="standardised" if n == "scaled" else f"s = {n}", **look)
        for n, look in looks.items()
    ]
    return _legend(figure, handles)


@matplotlib.rc_context(STYLE)
def incidence(frame: pd.DataFrame) -> Figure:
    """Draw the share of seeds that had reached the target, or diverged, by each update.

    Parameters
    ----------
    frame : DataFrame
        ``panel, scaler, outcome, update, share``.
    """
    panels = list(dict.fromkeys(frame["panel"]))
    figure, grid = _grid(-(-len(panels) // 2), 2, height=1.9, sharex=True, sharey=True)
    names = _present(frame, "scaler", SCALERS)
    for axes, panel in zip(_used(grid, len(panels)), panels, strict=True):
        own = frame[frame["panel"] == panel]
        for (name, outcome), curve in own.groupby(["scaler", "outcome"], sort=False):
            if outcome == "reached" or curve["share"].max() > 0:
                ls, lw = (":", 2.2) if outcome == "diverged" else ("-", 1.5)
                axes.step(curve["update"].clip(lower=1), curve["share"], where="post", ls=ls, lw=lw,
                          color=_look(SCALERS, name)["color"])  # fmt: skip
        axes.set(xscale="log", title=panel, ylim=(-0.03, 1.05))
    figure.supxlabel("updates", fontsize=11)
    figure.supylabel("share of seeds", fontsize=11)
    handles = [Line2D([], [], label=name, color=_look(SCALERS, name)["color"]) for name in names]
    kinds = [
        Line2D([], [], color=INK, label="reached"),
        Line2D([], [], color=INK, ls=":", lw=2.2, label="diverged"),
    ]
    return _legend(figure, [*handles, *kinds], 5)


@matplotlib.rc_context(STYLE)
def training_time(frame: pd.DataFrame) -> Figure:
    """Draw the scaled feature's share of contribution over training.

    Parameters
    ----------
    frame : DataFrame
        ``panel, scaler, update, value, low, high, ols``; low and high are the range.
    """
    panels = list(dict.fromkeys(frame["panel"]))
    figure, grid = _grid(-(-len(panels) // 2), 2, sharex=True, sharey=True)
    names = _present(frame, "scaler", SCALERS)
    for axes, panel in zip(_used(grid, len(panels)), panels, strict=True):
        own = frame[frame["panel"] == panel]
        for name in names:
            look = {"color": _look(SCALERS, name)["color"]}
            _line(axes, own[own["scaler"] == name], "update", **look)
        axes.axhline(own["ols"].mean(), color=INK, linestyle=(0, (1, 2)))
        axes.set(title=panel, ylim=(-0.03, 1.03), xscale="log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.supxlabel("updates", fontsize=11)
    figure.supylabel("share of contribution |w|·sd", fontsize=11)
    handles = [Line2D([], [], label=n, color=_look(SCALERS, n)["color"]) for n in names]
    ols = Line2D([], [], color=INK, ls=(0, (1, 2)), label="least squares")
    return _legend(figure, [*handles, ols])


@matplotlib.rc_context(STYLE)
def invariance(frame: pd.DataFrame) -> Figure:
    """Draw how far a run with a scaled feature ends from the run without.

    Parameters
    ----------
    frame : DataFrame
        ``variant, scale_factor, value, low, high``: largest difference of the function's
        weights, as a share of the largest weight; zero is drawn at the axis' end.
    """
    figure, grid = _grid(1, 1, height=2.9)
    axes = grid[0, 0]
    variants = list(dict.fromkeys(frame["variant"]))[::-1]
    factors = sorted(frame["scale_factor"].unique())
    floor = 1e-17
    for place, factor in enumerate(factors):
        own = frame[frame["scale_factor"] == factor].set_index("variant").loc[variants]
        at = np.arange(len(variants)) + 0.18 * (place - (len(factors) - 1) / 2)
        value = own["value"].clip(lower=floor)
        ends = np.abs(own[["low", "high"]].clip(lower=floor).to_numpy().T - value.to_numpy())
        axes.errorbar(value, at, xerr=ends, fmt="os"[place % 2], markersize=6,
                      color=COLOURS[(1, 0)[place % 2]], label=f"s = {factor:g}")  # fmt: skip
    axes.set_yticks(range(len(variants)), variants)
    axes.set(xscale="log", ylim=(-0.6, len(variants) - 0.4))
    axes.set_xlabel("difference from the run with s = 1 (relative)")
    axes.legend(loc="lower left")
    return figure


@matplotlib.rc_context(STYLE)
def penalties(frame: pd.DataFrame, theory: pd.DataFrame) -> Figure:
    """Draw what a penalty leaves of the scaled feature's contribution.

    Parameters
    ----------
    frame : DataFrame
        ``penalty, strength, scale_factor, value, low, high``: s w over least squares.
    theory : DataFrame
        ``penalty, strength, scale_factor, value`` on a fine grid.
    """
    kinds = list(dict.fromkeys(frame["penalty"]))
    figure, grid = _grid(1, len(kinds), height=2.7, sharey=True)
    for axes, kind in zip(grid[0], kinds, strict=True):
        own = frame[frame["penalty"] == kind]
        for place, strength in enumerate(sorted(own["strength"].unique())):
            colour = COLOURS[(5, 1, 0)[place % 3]]
            line = theory[(theory["penalty"] == kind) & (theory["strength"] == strength)]
            axes.plot(line["scale_factor"], line["value"], color=colour, linewidth=1)
            dots = own[own["strength"] == strength]
            ends = np.abs(dots[["low", "high"]].to_numpy().T - dots["value"].to_numpy())
            axes.errorbar(dots["scale_factor"], dots["value"], yerr=ends, fmt="o", markersize=4.5,
                          color=colour, label=f"λ = {strength:g}")  # fmt: skip
        axes.set(xscale="log", title=kind)
        axes.legend(loc="lower right", fontsize=8.5, handletextpad=0.2)
    figure.supxlabel("scale factor of the last feature", fontsize=11)
    figure.supylabel("share of its contribution kept", fontsize=11)
    return figure


@matplotlib.rc_context(STYLE)
def gradients(frame: pd.DataFrame) -> Figure:
    """Draw the ratio of the features' gradient norms over the scale factor.

    Parameters
    ----------
    frame : DataFrame
        ``when, optimizer, scale_factor, value, low, high`` (log10 of last over first).
    """
    whens = list(dict.fromkeys(frame["when"]))
    figure, grid = _grid(1, len(whens), height=2.7, sharex=True, sharey=True)
    names = _present(frame, "optimizer", OPTIMIZERS)
    for axes, when in zip(grid[0], whens, strict=True):
        own = frame[frame["when"] == when]
        for name in names:
            _line(axes, own[own["optimizer"] == name], "scale_factor", **_look(OPTIMIZERS, name))
        s = np.sort(own["scale_factor"].unique())
        axes.plot(s, np.log10(s), color=INK, linestyle=(0, (1, 2)))
        axes.set(xscale="log", title=when)
    figure.supxlabel("scale factor of the last feature", fontsize=11)
    figure.supylabel("log10 gradient norm, last over first", fontsize=11)
    slope = Line2D([], [], color=INK, ls=(0, (1, 2)), label="ratio = s")
    return _legend(figure, [*_handles(names, OPTIMIZERS), slope], 5)


@matplotlib.rc_context(STYLE)
def ledger(frame: pd.DataFrame) -> Figure:
    """Draw every claim's verdict, and the share of its cells with each outcome.

    Parameters
    ----------
    frame : DataFrame
        One row a claim, in order: ``id, verdict`` and a column of counts for each outcome.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 0.26 * len(frame)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(frame))
    places = np.arange(len(frame))[::-1]
    total = frame[list(OUTCOME_COLOURS)].sum(axis=1).to_numpy(float)
    for outcome, colour in OUTCOME_COLOURS.items():
        share = frame[outcome].to_numpy(float) / np.maximum(total, 1)
        axes.barh(places, share, left=left, color=colour, height=0.62)
        left += share
    row: Any
    for place, row in zip(places, frame.itertuples(), strict=True):
        colour = VERDICT_COLOURS[row.verdict]
        axes.plot(-0.025, place, "s", color=colour, markersize=8, clip_on=False)
        axes.text(1.015, place, f"{row.verdict}", va="center", fontsize=9)
    axes.set_yticks(places, frame["id"], fontsize=9)
    axes.tick_params(axis="y", length=0, pad=16)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(frame) - 0.4), xlabel="share of the claim's cells")
    handles = [Patch(color=colour, label=outcome) for outcome, colour in OUTCOME_COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, fontsize=9,
                  columnspacing=1, handlelength=1.2)  # fmt: skip
    return figure
