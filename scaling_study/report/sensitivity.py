"""The report of the optimizers' sensitivity: leaderboard, maps of every rate and unit, limits."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling_study.analysis import scale_sensitivity
from scaling_study.analysis.metrics import Table
from scaling_study.report.figures import COLOURS, INK, PALE, STYLE
from scaling_study.report.labels import (
    batches_of,
    budgets_of,
    hundredths,
    listing,
    number,
    values_of,
)
from scaling_study.report.sections import Plate, Section, write_sections
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

LEADERBOARD = "leaderboard.csv"
COLUMNS = {
    "sensitivity": "sensitivity (95 % interval)",
    "sensitivity_tuned": "tuned anew",
    "phi": "Φ",
    "one_rate": "Γ, one rate",
    "basin_width": "basin, decades",
    "excess": "E_η",
    "rate_slope_above": "best-rate slope, s ≥ 1",
    "diverged": "diverged",
}
FAMILIAR = ("sgd", "momentum", "adam", "rmsprop", "adagrad", "lion")
DEFAULTS = {"keras": "Keras'", "torch": "PyTorch's", "optax": "Optax'"}


def write_sensitivity(results: Results, folder: Path) -> None:
    """Write the report into an empty folder, ``leaderboard.csv`` in it.

    Parameters
    ----------
    results : Results
        Of a study of every optimizer with every scale factor and learning rate.
    folder : Path

    Raises
    ------
    StudyError
        If a cell of the grid is missing.
    """
    found = {short(name): grid for name, grid in scale_sensitivity.grids(Table(results)).items()}
    board = scale_sensitivity.leaderboard(found)
    order = list(board["optimizer"])
    cells, kept = (
        scale_sensitivity.progress_by_rate(found),
        scale_sensitivity.progress_by_scale(found),
    )
    board_plate = Plate(
        "leaderboard",
        "What another unit costs",
        f"Mean, over the other scale factors, of the way that is lost (in shares of the"
        f" {scale_sensitivity.DECADES:g} decades of excess loss to the target) by whoever tuned the"
        " rate once, at scale factor 1 (filled), and by whoever tunes it anew at every unit (open)."
        f" Lines are 95 % t intervals over {board['n'].iloc[0]} seeds that chose no rate.",
        draw_leaderboard(board),
        board,
    )
    kept_plate = Plate(
        "kept-rate",
        "The way gone, by the unit",
        "Share of the way to the target at each scale factor, with the rate tuned once at 1"
        " (solid) and tuned anew (dashed); bands are 95 % t intervals.",
        draw_kept(kept, _shown(order)),
        kept,
    )
    map_plate = Plate(
        "map",
        "Every rate at every unit",
        "Share of the way to the target, dark is all of it; crosses where more than half of the"
        " runs diverged, dots the rate that tuning chose, hollow where it is an end of the grid.",
        draw_map(cells, order),
        cells,
    )
    write_sections(
        results,
        folder,
        answer(board),
        [
            Section("What is measured", MEASURED),
            Section("Leaderboard", (), shown(board), NOTE, (board_plate,)),
            Section("One rate, many units", (), None, "", (kept_plate,)),
            Section("Divergence and the best rates", (), None, "", (map_plate,)),
        ],
        limits(results.study),
        {LEADERBOARD: board},
    )


MEASURED = (
    "Γ of a run is the share of the way it has gone from its initial excess loss to a thousandth"
    " of it, counted in decades. The sensitivity of an optimizer is what Γ loses, on average over"
    " the other units, at the rate that is best for scale factor 1, or at rates tuned anew; Φ is"
    " what tuning the rate at every unit buys over the one rate that is best for all of them; the"
    " basin is the range of rates within twice the fewest updates to the target; E_η is the share"
    " of the initial excess loss that is left, averaged over every rate and every unit.",
)
NOTE = (
    "In order of sensitivity. An optimizer that is not trained goes less than half of the way at"
    " scale factor 1 with every rate, so that it has nothing to lose; one that diverged or failed"
    " made no progress at any rate and unit. leaderboard.csv has an interval"
    " for every column; best-rate slopes rest on all seeds, the rest on those that chose no rate."
)


def short(name: str) -> str:
    """Return an optimizer's name for reading: of a module's, the factory alone."""
    head, colon, tail = name.partition(":")
    return tail if colon else head


def answer(board: pd.DataFrame) -> list[str]:
    """Return the answer in sentences, each number from the leaderboard."""
    ranked = board[board["rank"].notna()]
    if not len(ranked):
        return [
            f"None of {len(board)} optimizers goes half of the way at scale factor 1, with any of"
            f" {board['rates'].iloc[0]} learning rates, so that there is nothing to lose and no"
            " order.",
            *_of_lost(board),
        ]
    unmoved = ranked[ranked["sensitivity_high"] <= INSENSITIVE]
    worst = ranked.iloc[-1]
    sentences = [
        f"{len(board)} optimizers, each with the same {board['rates'].iloc[0]} learning rates at"
        f" every unit: tuned once, {_named(worst['optimizer'])} loses"
        f" {hundredths(worst['sensitivity'])} of the way when only the unit of a feature changes."
    ]
    if len(unmoved):
        names = listing([_named(name) for name in unmoved["optimizer"]])
        sentences.append(
            f"Less than {hundredths(INSENSITIVE)} is lost by {names}, and by no other."
        )
    sentences += _of_lost(board)
    adam = ranked[ranked["optimizer"] == "adam"]
    if len(adam):
        own = adam.iloc[0]
        sentences.append(
            f"Adam is not scale-invariant: it loses {hundredths(own['sensitivity'])}"
            f" ({hundredths(own['sensitivity_low'])} to {hundredths(own['sensitivity_high'])}),"
            f" and tuning at every unit buys {hundredths(own['phi'])} over one rate for all."
            if own["sensitivity_low"] > INSENSITIVE
            else f"Adam loses {hundredths(own['sensitivity'])}."
        )
    return sentences


INSENSITIVE = 0.01


def _of_lost(board: pd.DataFrame) -> list[str]:
    """Name the optimizers that have no numbers, and why."""
    found = []
    for status, words in (("diverged", "made no progress and diverged"), ("failed", "failed")):
        names = [_named(name) for name in board.loc[board["status"] == status, "optimizer"]]
        if names:
            found.append(f"Every run of {listing(names)} {words}.")
    return found


def limits(study: Study) -> list[str]:
    """Return where the report of a study could be wrong, a paragraph each."""
    blocks = study.blocks
    dialect = listing([DEFAULTS[name] for name in values_of(blocks, "dialect")])
    return [
        f"Data: {listing(values_of(blocks, 'problem'))}. Model:"
        f" {listing(values_of(blocks, 'model'))}. {batches_of(blocks).capitalize()},"
        f" {budgets_of(blocks)}. Other data, models or budgets may rank otherwise.",
        f"Hyperparameters that the study does not set are at {dialect} default. An optimizer that"
        f" another eps, decay or trust coefficient would help has not been helped."
        + _of_schedules(values_of(blocks, "optimizer")),
        "Γ stops counting at a thousandth of the initial excess loss: an optimizer that goes"
        " further has no more of it. Where the best rate is an end of the grid, the figure is a"
        " bound, and is counted under edges in the table of numbers.",
        "Intervals are over seeds of these data; optimizers share their seeds, so that two of them"
        " differ by less than the intervals suggest. An optimizer that is insensitive is not"
        " thereby a good one.",
    ]


def _of_schedules(optimizers: list[str]) -> str:
    if not any(name.startswith("schedule_free") for name in optimizers):
        return ""
    return (
        " Schedule-free methods are read at the point where gradients are taken, not at their"
        " running average."
    )


def _named(name: str) -> str:
    return name if ":" in name else name.replace("_", " ")


def shown(board: pd.DataFrame) -> pd.DataFrame:
    """Return the leaderboard as the page shows it: a status in place of a rank that is not there.

    What an optimizer has no number of is left empty.
    """
    ranked = board["status"] == "ranked"
    found = pd.DataFrame({"optimizer": board["optimizer"].map(_named)})
    found.insert(1, "rank", board["rank"].astype(str).where(ranked, board["status"]))
    for key, title in COLUMNS.items():
        texts = [_text(value) for value in board[key].astype(float)]
        if key == "sensitivity":
            ends = zip(board["sensitivity_low"], board["sensitivity_high"], strict=True)
            texts = [
                f"{text} ({number(low, 2)} to {number(high, 2)})" if text else ""
                for text, (low, high) in zip(texts, ends, strict=True)
            ]
        found[title] = texts
    return found


def _text(value: float) -> str:
    return "" if np.isnan(value) else number(value, 2)


def _shown(order: list[str]) -> list[str]:
    """Return the optimizers that lines are drawn of: the familiar ones and the best others."""
    familiar = [name for name in FAMILIAR if name in order]
    return (familiar + [name for name in order if name not in familiar])[:8]


@matplotlib.rc_context(STYLE)
def draw_leaderboard(board: pd.DataFrame) -> Figure:
    """Draw each optimizer's sensitivity, tuned once and tuned at every unit."""
    figure = Figure(figsize=(6.2, 1.2 + 0.21 * len(board)), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(board))
    value = board["sensitivity"].to_numpy(float)
    reach = [
        value - board["sensitivity_low"].to_numpy(float),
        board["sensitivity_high"].to_numpy(float) - value,
    ]
    axes.errorbar(
        value, place, xerr=np.maximum(reach, 0), fmt="o", ms=4.5, color=COLOURS[1], lw=1.2
    )
    axes.plot(
        board["sensitivity_tuned"], place, "o", ms=4.5, mfc="white", color=COLOURS[0], zorder=1
    )
    axes.set_yticks(place, [_named(name) for name in board["optimizer"]])
    for row, status in enumerate(board["status"]):
        if status != "ranked":
            axes.annotate(
                status, (0, row), xycoords=("axes fraction", "data"), xytext=(4, 0),
                textcoords="offset points", va="center", fontsize=8, color=PALE,
            )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlabel("share of the way lost by a change of unit")
    axes.grid(visible=True, axis="y", linewidth=0.4, color="#e4e4e4")
    axes.axvline(0, color=PALE, linewidth=0.8, zorder=0)
    handles = [
        Line2D([], [], marker="o", ls="", color=COLOURS[1], label="rate tuned once"),
        Line2D([], [], marker="o", ls="", mfc="white", color=COLOURS[0], label="at every unit"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def draw_kept(kept: pd.DataFrame, names: list[str]) -> Figure:
    """Draw the way gone over the scale factor, a panel for each optimizer."""
    columns = 4
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(6.2, 0.8 + 1.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    styles = {"once": ("-", COLOURS[1]), "at every unit": ((0, (3, 2)), COLOURS[0])}
    for axes, name in zip(grid.flat, names, strict=False):
        for tuned, (dashes, colour) in styles.items():
            own = kept[(kept["optimizer"] == name) & (kept["tuned"] == tuned)]
            axes.plot(own["scale_factor"], own["value"], color=colour, linestyle=dashes, lw=1.4)
            axes.fill_between(
                own["scale_factor"], own["low"], own["high"], color=colour, alpha=0.2, lw=0
            )
        axes.set_xscale("log")
        axes.set_ylim(-0.05, 1.08)
        axes.set_title(_named(name))
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    handles = [
        Line2D([], [], linestyle=dashes, color=colour, label=f"rate tuned {tuned}")
        for tuned, (dashes, colour) in styles.items()
    ]
    figure.supxlabel("scale factor of the last feature", fontsize=11)
    figure.supylabel("share of the way gone", fontsize=11)
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def draw_map(cells: pd.DataFrame, order: list[str]) -> Figure:
    """Draw the way gone by rate and scale factor, a panel for each optimizer."""
    columns = 5
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(6.2, 0.7 + 1.35 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, name in zip(grid.flat, order, strict=False):
        own = cells[cells["optimizer"] == name]
        gone = own.pivot_table(index="learning_rate", columns="scale_factor", values="gone")
        rates, scales = gone.index.to_numpy(float), gone.columns.to_numpy(float)
        axes.pcolormesh(
            scales, rates, gone, cmap="Blues", vmin=0, vmax=1, shading="nearest", rasterized=True
        )
        lost = own[own["diverged"] > 0.5]
        axes.plot(lost["scale_factor"], lost["learning_rate"], "x", ms=2.2, mew=0.6, color=PALE)
        for edge, face in ((False, COLOURS[0]), (True, "white")):
            best = own[own["best"] & (own["edge"] == edge)]
            axes.plot(
                best["scale_factor"], best["learning_rate"], "o", ms=3, mfc=face, color=COLOURS[0]
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([s for s in (1e-3, 1.0, 1e3) if scales.min() <= s <= scales.max()])
        axes.minorticks_off()
        axes.set_title(_named(name), fontsize=8)
        axes.tick_params(labelsize=8)
    for axes in grid.flat[len(order) :]:
        axes.set_visible(False)
    figure.supxlabel("scale factor of the last feature", fontsize=11)
    figure.supylabel("learning rate", fontsize=11)
    shade = ScalarMappable(Normalize(0, 1), "Blues")
    bar = figure.colorbar(shade, ax=grid, location="top", shrink=0.5, aspect=30)
    bar.set_label("share of the way gone", color=INK, fontsize=10)
    return figure
