"""The figures of a study: frames in, a matplotlib Figure out, no state left behind.

Each function takes the rows of the conditions it shows, with a text column ``panel`` that
says where a row is drawn, and draws nothing that diverged: it says how many did.
"""

import textwrap
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from scaling_study.analysis.summary import DIVERGED_OR_FAILED
from scaling_study.report.labels import MINUS, listing, scaler_name

STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "svg.hashsalt": "scaling-study",
    "savefig.dpi": 110,
}
WIDTH, ROW = 6.2, 2.35  # inches: two panels stay legible on a phone
# Okabe and Ito (2008), which readers with any colour vision can tell apart.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "-", "-", "-", (0, (4, 3)), "--", ":")

SCALERS = ("none", "minmax", "standard", "robust", "maxabs")
INK, PALE = "#222222", "#9a9a9a"


@matplotlib.rc_context(STYLE)
def weights(features: pd.DataFrame) -> Figure:
    """Draw where each run's first and last weight began, ended, and should have ended.

    Parameters
    ----------
    features : DataFrame
        ``panel, status, seed, feature, weight_init, weight, weight_true, weight_ols`` and
        ``training_unit``, which turns the last two into training units.
    """
    first, last = int(features["feature"].min()), int(features["feature"].max())
    figure, panels = _panels(_names(features), shared=True)
    for axes, own in _each(panels, features):
        lost = own["status"].isin(DIVERGED_OR_FAILED)
        if lost.any():
            _subtitle(axes, "all diverged" if lost.all() else f"{lost.mean():.1%} diverged")
        if not lost.all():
            _journeys(axes, own[~lost], first, last)
    for axes in panels.values():
        axes.set_yscale("symlog", linthresh=2, linscale=1.2)
        axes.set_xscale("symlog", linthresh=2, linscale=1.2)
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    figure.supxlabel(f"weight {first + 1} (training units)", fontsize=11)
    figure.supylabel(f"weight {last + 1} (training units)", fontsize=11)
    kinds = (
        ("start", "o", PALE),
        ("end of training", "o", COLOURS[1]),
        ("least squares", "*", COLOURS[0]),
        ("truth", "D", COLOURS[2]),
    )
    sizes = {"o": 5, "*": 12, "D": 6}
    handles = [
        Line2D([], [], ls="", marker=marker, markersize=sizes[marker], color=colour, label=kind)
        for kind, marker, colour in kinds
    ]
    return _legend(figure, panels, handles)


def _journeys(axes: Axes, own: pd.DataFrame, first: int, last: int) -> None:
    table = own.assign(
        truth=own["weight_true"] * own["training_unit"],
        solution=own["weight_ols"] * own["training_unit"],
    ).pivot(index="seed", columns="feature")
    start, end, truth, solution = (
        table[name][[first, last]].to_numpy()
        for name in ("weight_init", "weight", "truth", "solution")
    )
    lines = LineCollection(list(np.stack([start, end], axis=1)), colors=COLOURS[1])
    lines.set(linewidths=0.3, alpha=0.25, rasterized=True)
    axes.add_collection(lines)
    axes.scatter(*start.T, s=3, color=PALE, linewidths=0, rasterized=True, zorder=2)
    axes.scatter(*end.T, s=4, color=COLOURS[1], linewidths=0, rasterized=True, zorder=3)
    look: dict[str, Any] = {"edgecolors": "white", "zorder": 5}
    axes.scatter(*np.median(truth, axis=0), marker="D", s=36, color=COLOURS[2], **look)
    axes.scatter(*np.median(solution, axis=0), marker="*", s=130, color=COLOURS[0], **look)


@matplotlib.rc_context(STYLE)
def losses(curves: pd.DataFrame, floors: pd.Series) -> Figure:
    """Draw the loss on all rows over the updates: median and range of the traced seeds.

    Parameters
    ----------
    curves : DataFrame
        ``panel, scaler, seed, update, loss``, NaN once a run has diverged.
    floors : Series
        The loss of least squares by panel; NaN where it is no floor.
    """
    figure, panels = _panels(_names(curves), shared=True)
    scalers = _order(curves["scaler"])
    for axes, own in _each(panels, curves):
        ended = []
        for scaler, of_scaler in own.groupby("scaler", sort=False):
            _band(axes, of_scaler, "loss", **_look(str(scaler), scalers))
            last = of_scaler["update"] == of_scaler["update"].max()
            if of_scaler.loc[last, "loss"].isna().all():
                ended.append(scaler_name(str(scaler)))
        if ended:
            _subtitle(axes, f"diverged: {listing(ended)}")
    for name, axes in panels.items():
        if np.isfinite(floors.get(name, np.nan)):
            axes.axhline(floors[name], color=INK, linewidth=1, linestyle=(0, (1, 2)))
        axes.set_yscale("log")
    figure.supxlabel("updates", fontsize=11)
    figure.supylabel("loss on all rows (target units²)", fontsize=11)
    handles = _handles(scalers)
    if np.isfinite(floors).any():
        handles.append(Line2D([], [], color=INK, lw=1, ls=(0, (1, 2)), label="least squares"))
    return _legend(figure, panels, handles)


@matplotlib.rc_context(STYLE)
def gradients(curves: pd.DataFrame) -> Figure:
    """Draw each feature's gradient norm over the updates: median and range of traced seeds.

    Parameters
    ----------
    curves : DataFrame
        ``panel, feature, seed, update, grad_norm``, NaN once a run has diverged.
    """
    figure, panels = _panels(_names(curves), shared=True)
    features = sorted(curves["feature"].unique())[: len(COLOURS)]
    looks: dict[int, dict[str, Any]] = {
        f: {"color": COLOURS[(1, 0, 2, 3, 4, 5, 6)[i]]} for i, f in enumerate(features)
    }
    for axes, own in _each(panels, curves):
        for feature in features:
            _band(axes, own[own["feature"] == feature], "grad_norm", **looks[feature])
    for axes in panels.values():
        axes.set_yscale("log")
    figure.supxlabel("updates", fontsize=11)
    figure.supylabel("gradient norm (loss per unit of weight)", fontsize=11)
    handles = [Line2D([], [], label=f"feature {f + 1}", **looks[f]) for f in features]
    return _legend(figure, panels, handles)


@matplotlib.rc_context(STYLE)
def convergence(incidence: pd.DataFrame) -> Figure:
    """Draw which share of the seeds had reached the target, or diverged, by each update.

    Parameters
    ----------
    incidence : DataFrame
        ``panel, scaler, outcome, update, share``, from `summary.cumulative_incidence`.
    """
    figure, panels = _panels(_names(incidence), shared=True)
    scalers = _order(incidence["scaler"])
    for axes, own in _each(panels, incidence):
        still = []
        for scaler, of_scaler in own.groupby("scaler", sort=False):
            look = _look(str(scaler), scalers)
            for outcome, curve in of_scaler.groupby("outcome"):
                if curve["share"].max() > 0:
                    style = {"linestyle": ":", "linewidth": 2.4} if outcome == "diverged" else {}
                    axes.step(curve["update"], curve["share"], where="post", **{**look, **style})
            if of_scaler["share"].max() == 0:
                still.append(scaler_name(str(scaler)))
        if still:
            _subtitle(axes, f"always 0: {listing(still)}")
        axes.set_ylim(-0.03, 1.05)
    figure.supxlabel("updates", fontsize=11)
    figure.supylabel("share of seeds", fontsize=11)
    kinds = [
        Line2D([], [], color=INK, label="reached target"),
        Line2D([], [], color=INK, ls=":", lw=2.4, label="diverged"),
    ]
    return _legend(figure, panels, [*_handles(scalers), *kinds])


@matplotlib.rc_context(STYLE)
def weight_errors(runs: pd.DataFrame) -> Figure:
    """Draw the weight-recovery error of each run that did not diverge, by scaler.

    Parameters
    ----------
    runs : DataFrame
        ``panel, scaler, status, weight_error``; the error is against the truth, unit-free.
    """
    figure, panels = _panels(_names(runs), shared=True, columns=1)
    scalers = _order(runs["scaler"])
    places = {scaler: place for place, scaler in enumerate(scalers)}
    for axes, own in _each(panels, runs):
        lost = own[own["status"].isin(DIVERGED_OR_FAILED)].groupby("scaler").size()
        kept = own[~own["status"].isin(DIVERGED_OR_FAILED) & (own["weight_error"] > 0)]
        palette = {scaler: _look(scaler, scalers)["color"] for scaler in scalers}
        _dots(axes, kept, places, palette)
        axes.axhline(1, color=INK, linewidth=1, linestyle=(0, (1, 2)))
        for scaler, count in lost.items():
            axes.annotate(
                f"{count:,} diverged",
                (places[str(scaler)], 0.5),
                ha="center",
                va="center",
                xycoords=("data", "axes fraction"),
                color=palette[str(scaler)],
                fontsize=10,
            )
        axes.set(xlabel="", ylabel="")
        axes.set_xticks(range(len(scalers)), [scaler_name(scaler) for scaler in scalers])
        axes.set_xlim(-0.6, len(scalers) - 0.4)
    for axes in panels.values():
        axes.set_yscale("log")
    figure.supxlabel("scaler", fontsize=11)
    figure.supylabel("weight-recovery error E (unit-free)", fontsize=11)
    dots = Line2D([], [], color=INK, lw=1, ls=(0, (1, 2)), label="E = 1: as weights of zero")
    return _legend(figure, panels, [dots])


def _dots(axes: Axes, kept: pd.DataFrame, places: dict[str, int], palette: dict[str, str]) -> None:
    """Draw each run as a dot and each scaler's runs as a box.

    Not seaborn's strips, which jitter from NumPy's global generator.
    """
    generator = np.random.default_rng(0)
    for scaler, own in kept.groupby("scaler", sort=False):
        place, errors = places[str(scaler)], own["weight_error"].to_numpy()
        across = place + generator.uniform(-0.3, 0.3, len(own))
        axes.scatter(
            across,
            errors,
            s=4 if len(own) > 200 else 16,
            linewidths=0,
            alpha=0.35,
            color=palette[str(scaler)],
            rasterized=True,
        )
        axes.boxplot(
            errors,
            positions=[place],
            widths=0.5,
            showfliers=False,
            medianprops={"color": INK},
            manage_ticks=False,
        )


def _panels(names: list[str], *, shared: bool, columns: int = 2) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure and its panels by name, as many rows as it takes."""
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, 0.9 + ROW * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False)
    for name, axes in zip(names, grid.flat, strict=False):
        axes.set_title("\n".join(textwrap.wrap(name, 30 if columns > 1 else 70)))
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(names) - columns) : len(names)]:
        axes.tick_params(labelbottom=True)  # the row above a hidden panel is a last row too
    return figure, dict(zip(names, grid.flat, strict=False))


def _legend(figure: Figure, panels: dict[str, Axes], handles: list[Any]) -> Figure:
    """Put the legend where a panel is missing, else above the panels."""
    empty = [axes for axes in figure.axes if axes not in panels.values()]
    if empty and len(handles) <= 8:
        empty[0].set_visible(True)
        empty[0].set_axis_off()
        empty[0].legend(handles=handles, loc="center")
    else:
        figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
    return figure


def _names(frame: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(frame["panel"].astype(str)))


def _each(panels: dict[str, Axes], frame: pd.DataFrame) -> Iterator[tuple[Axes, pd.DataFrame]]:
    for name, axes in panels.items():
        yield axes, frame[frame["panel"].astype(str) == name]


def _order(scalers: pd.Series) -> list[str]:
    found = list(dict.fromkeys(scalers.astype(str)))
    return sorted(found, key=lambda s: SCALERS.index(s) if s in SCALERS else len(SCALERS))


def _look(scaler: str, scalers: list[str]) -> dict[str, Any]:
    """Return a scaler's colour and dashes, the same in every figure."""
    others = [s for s in scalers if s not in SCALERS]
    place = SCALERS.index(scaler) if scaler in SCALERS else len(SCALERS) + others.index(scaler)
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[place % len(DASHES)],
    }


def _handles(scalers: list[str]) -> list[Line2D]:
    return [
        Line2D([], [], label=scaler_name(scaler), **_look(scaler, scalers)) for scaler in scalers
    ]


def _band(axes: Axes, curves: pd.DataFrame, name: str, **look: Any) -> None:
    """Draw the median over seeds, and their range as a band, where any seed is left."""
    kept = curves.dropna(subset=[name])
    if not len(kept):
        return
    if kept["update"].nunique() == 1:
        look["marker"] = "o"
    sns.lineplot(
        kept,
        x="update",
        y=name,
        estimator="median",
        errorbar=("pi", 100),
        ax=axes,
        linewidth=1.6,
        err_kws={"alpha": 0.15, "linewidth": 0},
        legend=False,
        **look,
    )
    axes.set(xlabel="", ylabel="")


def _subtitle(axes: Axes, text: str) -> None:
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


def _tick(value: float, _: object) -> str:
    return f"{value:g}".replace("-", MINUS)
