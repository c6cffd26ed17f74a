"""The figures of the paper: frames of estimates (``value, low, high``) in, a Figure out.

Lines are means or shares, bands 95 % intervals.
"""

import itertools
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, NullFormatter, NullLocator

from scaling_study.report import charts, style
from scaling_study.report.labels import MINUS, number

STANDINGS = {"holds": style.GREEN, "contradicted": style.VERMILION, "undecided": style.PALE}
BAND = "#e9e9e9"
LEAST_SQUARES = {**style.REFERENCE, "label": "least squares"}
SCALE_FACTOR = "scale factor of the last feature"


def claims(frame: pd.DataFrame) -> Figure:
    """Draw the verdicts on networks beside those on a linear unit, and what their cells say.

    A row per verdict: ``id`` of the claim, ``models`` that it is about (linear unit or networks),
    ``verdict`` and a column of counts for each of `STANDINGS`.
    """
    kinds = [name for name in ("networks", "linear unit") if name in set(frame["models"])]
    names = list(dict.fromkeys(frame["id"]))
    height = 0.27 * len(names)
    figure, panels = charts.facets(kinds, height=height, sharey=True)
    for kind, axes in panels.items():
        rows = frame[frame["models"] == kind].set_index("id").reindex(names)
        _bars(axes, rows)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.set(xlim=(-0.02, 1), ylim=(len(names) - 0.4, -0.6), xlabel="share of cells")
    patches = [Patch(color=colour, label=name) for name, colour in STANDINGS.items()]
    figure.legend(
        handles=patches,
        loc="outside upper center",
        ncols=len(patches),
        fontsize=9,
        handlelength=1.2,
    )
    return figure


def _bars(axes: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))
    counts = rows[list(STANDINGS)].astype(float)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0).fillna(0)
    left = shares.cumsum(axis=1) - shares
    for name, colour in STANDINGS.items():
        axes.barh(places, shares[name], left=left[name], color=colour, height=0.62)
    for place, verdict in enumerate(rows["verdict"].fillna("not judged")):
        colour = style.VERDICTS.get(verdict, style.FAINT)
        axes.plot(-0.02, place, "s", markersize=7, clip_on=False, color=colour)
        if verdict.startswith("not "):
            axes.text(0.02, place, verdict, va="center", fontsize=8, color="#777777")
    axes.tick_params(axis="y", length=0, pad=12)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


def dots(frame: pd.DataFrame) -> Figure:
    """Draw the cells of a claim along the axis of its effect, with the threshold band.

    A row per cell: ``models`` that the verdict is about, ``unit, value, low, high, standing, null,
    smallest``. Models with another unit or threshold have a panel of their own.
    """
    scales = frame[["unit", "null", "smallest"]].astype(str).agg("|".join, axis=1)
    panels = list(dict.fromkeys(scales))
    rows = [frame.loc[scales == name, "models"].nunique() for name in panels]
    size = (style.WIDTH, 0.9 + 0.62 * sum(rows) + 0.4 * len(panels))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=rows).ravel()
    for name, ax in zip(panels, axes, strict=True):
        _dots_of_scale(ax, frame[scales == name])
    looks: list[Any] = [
        {"color": colour, "marker": "o", "linestyle": "", "label": name}
        for name, colour in STANDINGS.items()
    ]
    return charts.legend(figure, looks)


def _dots_of_scale(axes: Axes, frame: pd.DataFrame) -> None:
    first = frame.iloc[0]
    axes.axvspan(first["null"] - first["smallest"], first["null"] + first["smallest"], color=BAND)
    axes.axvline(first["null"], color=style.INK, linewidth=0.8)
    kinds = list(dict.fromkeys(frame["models"]))
    for place, kind in enumerate(kinds):
        rows = frame[frame["models"] == kind].sort_values("value")
        # Dots lie one above the other in a fixed pattern, so that many cells stay apart.
        beside = place + 0.28 * np.tile([0, 1, -1, 0.5, -0.5], len(rows) // 5 + 1)[: len(rows)]
        colours = [STANDINGS[name] for name in rows["standing"]]
        alpha = 0.9 if len(rows) < 60 else 0.55
        axes.hlines(beside, rows["low"], rows["high"], color=colours, linewidth=0.8, alpha=alpha)
        edge: Any = {"edgecolors": style.INK, "linewidths": 0.3, "zorder": 3}
        axes.scatter(rows["value"], beside, c=colours, s=15, alpha=alpha, **edge)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set(ylim=(len(kinds) - 0.5, -0.5), xlabel=str(first["unit"]))
    shown = frame[["value", "low", "high"]].to_numpy(float)
    shown = shown[np.isfinite(shown)]
    if len(shown) and np.ptp(shown) > 0:  # an interval may be as wide as all that is possible
        low, high = np.percentile(shown, [1, 99])
        ends = [low, high, first["null"] - first["smallest"], first["null"] + first["smallest"]]
        room = 0.06 * (max(ends) - min(ends))
        axes.set_xlim(min(ends) - room, max(ends) + room)


def importance(frame: pd.DataFrame) -> Figure:
    """Draw the share of permutation importance over the scale factor, F beside U.

    ``design, optimizer, scale_factor``; ``rates``, whether learning rates are the ``default`` or
    the ``tuned`` ones; ``ols``, the share under least squares.
    """
    designs = {"F": "F: coefficient fixed", "U": "U: only the unit changes"}
    names = list(itertools.product(dict.fromkeys(frame["rates"]), designs))
    titles = [f"{designs[design]}\n{chosen} rate" for chosen, design in names]
    figure, panels = charts.facets(names, titles=titles, sharex=True, sharey=True)
    pairs = list(zip(frame["rates"], frame["design"], strict=True))
    frame = frame.assign(panel=pd.Series(pairs, index=frame.index))
    optimizers = charts.lines(panels, frame, "optimizer", "scale_factor")
    for name, axes in panels.items():
        truth = frame[frame["panel"] == name].groupby("scale_factor")["ols"].mean()
        axes.plot(truth.index, truth, **style.REFERENCE)
        axes.set(xscale="log", ylim=(-1.08, 1.08))
    charts.label_axes(figure, SCALE_FACTOR, "its share of permutation importance")
    return charts.legend(figure, [*optimizers, LEAST_SQUARES], columns=5)


def conditioning(frame: pd.DataFrame, marks: pd.DataFrame) -> Figure:
    """Draw the condition number over a feature's range and offset, with scalers marked.

    ``range, offset, kappa`` on a grid, and for each ``scaler`` of `marks`.
    """
    figure, panels = charts.facets([""], height=3.6)
    (axes,) = panels.values()
    table = frame.pivot(index="offset", columns="range", values="kappa")
    drawn = charts.heat_map(axes, table, norm=LogNorm())
    axes.set(xscale="log", xlabel="range of feature 2", ylabel="least value of feature 2 (offset)")
    axes.set_yscale("symlog", linthresh=0.1)
    beside = {"robust": (-9, 2, "right"), "none": (-9, 0, "right"), "standard": (9, -9, "left")}
    row: Any
    for row in marks.itertuples():
        axes.plot(row.range, row.offset, "o", color="white", markeredgecolor=style.INK, ms=7)
        right, up, align = beside.get(str(row.scaler), (9, -3, "left"))
        box: Any = {"boxstyle": "round,pad=0.15", "fc": style.INK, "alpha": 0.65, "lw": 0}
        place: Any = {"xytext": (right, up), "textcoords": "offset points", "ha": align}
        text = f"{row.scaler}, κ = {number(row.kappa, 2)}"
        axes.annotate(text, (row.range, row.offset), fontsize=9, color="white", bbox=box, **place)
    figure.colorbar(drawn, ax=axes, label="condition number κ of the Hessian")
    return figure


def descent(times: pd.DataFrame, noise_floor: pd.DataFrame) -> Figure:
    """Draw measured against predicted: updates to target, and the noise floor of SGD.

    ``predicted, measured, scaler``; `noise_floor`: ``predicted, sampling`` and the loss.
    """
    figure, panels = charts.facets(["updates to target", "asymptotic loss of SGD"], height=2.9)
    left, right = panels.values()
    for name, look in style.looks("scaler", times["scaler"]).items():
        rows = times[times["scaler"] == name]
        cloud: Any = {"s": 6, "linewidths": 0, "alpha": 0.5, "rasterized": True}
        cloud |= {part: look[part] for part in ("color", "marker", "label")}
        left.scatter(rows["predicted"], rows["measured"], **cloud)
    for place, (name, rows) in enumerate(noise_floor.groupby("sampling", sort=False)):
        look = style.numbered(place, str(name)) | {"linestyle": ""}
        charts.intervals(right, rows["predicted"], rows, across=False, **look)
    for axes, frame, what in ((left, times, "updates"), (right, noise_floor, "loss above OLS")):
        ends = [frame["predicted"].min(), frame["predicted"].max()]
        axes.plot(ends, ends, color=style.INK, linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel=f"predicted {what}", ylabel=f"measured {what}")
        axes.legend(fontsize=8.5, handletextpad=0.2, markerscale=1.5, loc="upper left")
    right.xaxis.set_minor_formatter(NullFormatter())
    return figure


def exponents(frame: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Draw the updates until the scaled feature's weight arrives, over its scale factor.

    ``start, optimizer, scale_factor``; `slopes`: ``start, optimizer, predicted``.
    """
    starts = list(dict.fromkeys(frame["start"]))
    titles = [f"start: {start}" for start in starts]
    figure, panels = charts.facets(starts, titles=titles, height=3.0, sharey=True)
    frame = frame.assign(panel=frame["start"])
    optimizers = charts.lines(panels, frame, "optimizer", "scale_factor")
    for start, axes in panels.items():
        known = slopes[slopes["start"] == start].set_index("optimizer")
        text = "\n".join(
            f"{look['label']}: {known.loc[look['label'], 'value']:.2f}"
            f" (theory {known.loc[look['label'], 'predicted']:.0f})"
            for look in optimizers
        )
        place: Any = {"transform": axes.transAxes, "fontsize": 9, "va": "bottom"}
        axes.text(0.04, 0.04, text.replace("-", MINUS), **place)
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(sorted(frame["scale_factor"].unique()))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_locator(NullLocator())
    charts.label_axes(figure, SCALE_FACTOR, "updates of its weight to least squares")
    return charts.legend(figure, optimizers)


def remaining_loss(frame: pd.DataFrame) -> Figure:
    """Draw the remaining loss over the learning rate, a line for each scale factor.

    ``optimizer, learning_rate, inputs``: the raw scale factor as text, or ``scaled``.
    """
    optimizers = style.looks("optimizer", frame["optimizer"])
    figure, panels = charts.facets(optimizers, sharex=True, sharey=True)
    raw = [name for name in dict.fromkeys(frame["inputs"]) if name != "scaled"]
    shades = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.9, len(raw)))
    looks = {n: {"color": c, "label": f"s = {n}"} for n, c in zip(raw, shades, strict=True)}
    looks["scaled"] = {"color": style.INK, "linestyle": (0, (3, 1.5)), "label": "standardised"}
    for name, axes in panels.items():
        for kind, look in looks.items():
            of_kind = (frame["optimizer"] == name) & (frame["inputs"] == kind)
            charts.line(axes, frame[of_kind], "learning_rate", **look)
        axes.set(xscale="log", yscale="log")
    charts.label_axes(figure, "learning rate", "excess share (1: no better than the mean)")
    return charts.legend(figure, looks.values())


def contribution_over_training(frame: pd.DataFrame) -> Figure:
    """Draw the scaled feature's share of contribution over training.

    ``panel, scaler, update, ols``; low and high are the range.
    """
    figure, panels = charts.facets(frame["panel"], sharex=True, sharey=True)
    scalers = charts.lines(panels, frame, "scaler", "update")
    for name, axes in panels.items():
        axes.axhline(frame.loc[frame["panel"] == name, "ols"].mean(), **style.REFERENCE)
        axes.set(ylim=(-0.03, 1.03), xscale="log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    charts.label_axes(figure, "updates", "share of contribution |w|·sd")
    return charts.legend(figure, [*scalers, LEAST_SQUARES], markers=False)


def invariance(frame: pd.DataFrame) -> Figure:
    """Draw how far a run with a scaled feature ends from the run without.

    ``variant, scale_factor``; zero is drawn at the end of the axis.
    """
    figure, panels = charts.facets([""], height=2.9)
    (axes,) = panels.values()
    columns = ["value", "low", "high"]
    frame = frame.copy()
    frame[columns] = frame[columns].clip(lower=1e-17)
    variants = list(dict.fromkeys(frame["variant"]))
    factors = sorted(frame["scale_factor"].unique())
    looks = [style.numbered(i, f"s = {s:g}") | {"linestyle": ""} for i, s in enumerate(factors)]
    for place, (factor, look) in enumerate(zip(factors, looks, strict=True)):
        rows = frame[frame["scale_factor"] == factor]
        options: Any = {"place": place, "of": len(factors), **look}
        charts.rows_of_dots(axes, rows, variants, "variant", **options)
    axes.set(xscale="log", xlabel="difference from the run with s = 1 (relative)")
    return charts.legend(figure, looks)


def penalties(frame: pd.DataFrame, theory: pd.DataFrame) -> Figure:
    """Draw the share of the scaled feature's contribution that a penalty keeps.

    ``penalty, strength, scale_factor``, as in `theory`, which has no intervals.
    """
    figure, panels = charts.facets(frame["penalty"], columns=3, height=2.7, sharey=True)
    for kind, axes in panels.items():
        rows = frame[frame["penalty"] == kind]
        for place, (strength, dots) in enumerate(rows.groupby("strength")):
            look = style.numbered(place, f"λ = {strength:g}") | {"linestyle": ""}
            charts.intervals(axes, dots["scale_factor"], dots, across=False, **look)
            line = theory[(theory["penalty"] == kind) & (theory["strength"] == strength)]
            axes.plot(line["scale_factor"], line["value"], color=look["color"], linewidth=1)
        axes.set(xscale="log")
        axes.legend(loc="lower right", fontsize=8.5, handletextpad=0.2)
    charts.label_axes(figure, SCALE_FACTOR, "share of its contribution kept")
    return figure


def gradients(frame: pd.DataFrame) -> Figure:
    """Draw the ratio of the features' gradient norms over the scale factor.

    ``when, optimizer, scale_factor``; log10 of last over first.
    """
    figure, panels = charts.facets(frame["when"], height=2.7, sharex=True, sharey=True)
    frame = frame.assign(panel=frame["when"])
    optimizers = charts.lines(panels, frame, "optimizer", "scale_factor")
    s = np.sort(frame["scale_factor"].unique())
    for axes in panels.values():
        axes.plot(s, np.log10(s), **style.REFERENCE)
        axes.set(xscale="log")
    charts.label_axes(figure, SCALE_FACTOR, "log10 gradient norm, last over first")
    return charts.legend(
        figure, [*optimizers, {**style.REFERENCE, "label": "ratio = s"}], columns=5
    )
