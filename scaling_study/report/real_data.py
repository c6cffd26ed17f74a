"""The report on real data: held-out scores by scaler, what was planted, and what it did."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling_study.analysis import held_out
from scaling_study.analysis.held_out import against, at_default, at_tuned, scored
from scaling_study.analysis.statistics import mean_by
from scaling_study.report.figures import COLOURS, INK, STYLE
from scaling_study.report.labels import listing, number, scaler_name
from scaling_study.report.sections import Plate, Section, write_sections
from scaling_study.results import Results

SMALLEST = 0.02  # the smallest difference of a score that would matter to anyone
WIDTH = 6.2
ORDER = ("none", "minmax", "standard", "robust", "maxabs", "quantile")
PLAIN = ("regression", "classes", "digits")
BY = [*held_out.CELL, "rates", "measure"]
LIMITS = [
    "The splits of one data set overlap: two of them share most of their rows. So the intervals"
    " speak of other random splits (and initialisations and batch orders) of these rows, not of"
    " new data; of new data they are too narrow. Only the generated problems draw new rows.",
    "A tuned rate is the best of six powers of ten, of nine for raw columns (of four for digits, of"
    " six for planted factors), by the held-out score of"
    " the first half of the seeds, and scored on the other half. Rows held out for the one half"
    " are trained on in the other; a rate is one number, and little can leak through it. Where"
    " the best rate is an end of the grid, a longer grid could do better.",
    "Budgets are equal, short and in epochs. A raw linear model that lags here may catch up"
    " later; its least-squares solution predicts the same in any affine scaling. One network, of"
    " 16 units, no regularisation and no early stopping.",
    "R² below 0, and that of a run that diverged, count as 0. Outliers are planted in training"
    " rows only, in one column; errors in the rows that are predicted would be another question.",
]


def write_real_data(results: Results, folder: Path) -> None:
    """Write the report of a study of data sets into an empty folder.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`, of problems that hold rows out.
    folder : Path
    """
    runs = scored(results.runs)
    tuned = at_tuned(runs)
    both = {"default": at_default(runs), "tuned": tuned}
    scores = pd.concat(
        [mean_by(of.assign(rates=name), BY) for name, of in both.items()], ignore_index=True
    )
    differences = pd.concat(
        [against(of, "scaler", "none").assign(rates=name) for name, of in both.items()],
        ignore_index=True,
    )
    by_rate = mean_by(runs, [*held_out.CELL, "measure", "learning_rate"])
    answer = _answer(results, scores, differences)
    sections = [
        _of_scores(scores, differences, tuned),
        _of_rates(by_rate),
        _of_trouble(results, scores, both),
    ]
    tables = {"scores.csv": scores, "differences.csv": differences, "rates.csv": by_rate}
    tables = {f"tables/{name}": table for name, table in tables.items()}
    write_sections(results, folder, answer, sections, LIMITS, tables)


# Words ----------------------------------------------------------------------------------------


def _counts(differences: pd.DataFrame, rates: str) -> tuple[int, int, int, int]:
    """Return how many cells' standardised score is better, worse, the same, of how many."""
    own = differences[
        differences["block"].isin(PLAIN)
        & (differences["scaler"] == "standard")
        & (differences["rates"] == rates)
    ]
    better, worse = (own["low"] > SMALLEST).sum(), (own["high"] < -SMALLEST).sum()
    same = ((own["low"] > -SMALLEST) & (own["high"] < SMALLEST)).sum()
    return int(better), int(worse), int(same), len(own)


def _answer(results: Results, scores: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    words = []
    for rates, what in (
        ("default", "With each optimizer's usual learning rate"),
        ("tuned", "With a learning rate that other splits picked"),
    ):
        better, worse, same, cells = _counts(differences, rates)
        words.append(
            f"{what}, standardising scored better than the raw columns in {better} of {cells}"
            f" pairs of data set, model and optimizer, worse in {worse}, and within {SMALLEST} of"
            f" them in {same}; the others are undecided."
        )
    fine = _fine_without(differences)
    words.append(
        f"No scaler was fine, tuned, for {listing(fine)}: no scaler was surely more than"
        f" {SMALLEST} better."
        if fine
        else f"In every pair some scaler was surely more than {SMALLEST} better than none."
    )
    return [*words, *_of_factor(scores)]


def _fine_without(differences: pd.DataFrame) -> list[str]:
    """Return the pairs where, tuned, no scaler is surely better by what matters."""
    own = differences[differences["block"].isin(PLAIN) & (differences["rates"] == "tuned")]
    most = own.groupby(["problem", "model", "optimizer"], sort=False)["low"].max().reset_index()
    return [
        f"{_named(problem)} ({model.partition('(')[0]}, {optimizer})"
        for problem, model, optimizer, low in most.to_numpy()
        if low <= SMALLEST
    ]


def _named(problem: str) -> str:
    name, _, planted = problem.partition("(")
    trouble = {"outliers=0.01)": ", outliers", "heavy_tails=True)": ", heavy tails"}
    return name.replace("_", " ") + trouble.get(planted, planted and f" ({planted}")


def _of_factor(scores: pd.DataFrame) -> list[str]:
    """Return what a thousandfold unit did to the raw and to the standardised columns."""
    words = []
    for problem in ("diabetes", "breast_cancer"):
        own = scores[(scores["problem"] == problem) & (scores["rates"] == "tuned")]
        mean = own.groupby(["scale_factor", "scaler"])["value"].mean()
        if {(f, s) for f in (1.0, 1000.0) for s in ("none", "standard")} <= {*mean.index}:
            parts = [
                f"{scaler_name(s)} from {number(mean[1.0, s])} to {number(mean[1000.0, s])}"
                for s in ("none", "standard")
            ]
            words.append(
                f"One column of {_named(problem)} in units a thousand times smaller took the"
                f" mean score over models and optimizers, tuned, with {listing(parts)}."
            )
    return words


# Sections -------------------------------------------------------------------------------------


def _of_scores(scores: pd.DataFrame, differences: pd.DataFrame, tuned: pd.DataFrame) -> Section:
    plain = scores[scores["block"].isin(PLAIN)]
    of_standard = differences[
        differences["block"].isin(PLAIN) & (differences["scaler"] == "standard")
    ]
    edges = tuned.groupby(held_out.CELL)["edge"].first()
    n = int(scores.loc[scores["rates"] == "tuned", "n"].max())
    plates = (
        Plate(
            "scores",
            "Held-out score by scaler, with tuned rates",
            f"Mean of {n} splits, 95 % intervals over splits. R² for diabetes, friedman and"
            " correlated, accuracy for the rest; every panel has a scale of its own.",
            score_panels(plain[plain["rates"] == "tuned"]),
            plain,
        ),
        Plate(
            "standard-or-raw",
            "What standardising gains over raw columns, within a split",
            f"Standard less none, paired by split; bars are 95 % intervals ({n} splits tuned, all"
            f" at the usual rate). Grey: less than {SMALLEST} either way.",
            forest(of_standard),
            of_standard,
        ),
    )
    paragraphs = (
        "Equal budgets, the same splits, initialisations and batch orders for every scaler."
        f" The tuned rate lies on an end of its grid in {int(edges.sum())} of {len(edges)} cells,"
        f" {int(edges.xs('none', level='scaler').sum())} of them of raw columns.",
    )
    return Section("What scalers did for data as they come", paragraphs, plates=plates)


def _of_rates(by_rate: pd.DataFrame) -> Section:
    shown = ("diabetes", "friedman2", "wine", "breast_cancer")
    own = by_rate[
        by_rate["block"].isin(PLAIN) & by_rate["problem"].isin(shown) & (by_rate["model"] != "")
    ]
    own = own[own["model"] == "linear"]
    n = int(own["n"].max())
    plate = Plate(
        "rates",
        "Score of linear models over the learning rate",
        f"Mean of {n} splits, bands 95 % intervals. For raw columns the grid"
        " goes on to either side.",
        rate_panels(own),
        own,
    )
    return Section("It is a matter of the learning rate", plates=(plate,))


def _of_trouble(results: Results, scores: pd.DataFrame, both: dict[str, pd.DataFrame]) -> Section:
    adam = scores[
        scores["problem"].str.startswith(("diabetes", "breast_cancer"))
        & (scores["optimizer"] == "adam")
    ]
    adam = adam.assign(
        trouble=[
            _trouble(problem, factor)
            for problem, factor in zip(adam["problem"], adam["scale_factor"], strict=True)
        ],
        dataset=adam["problem"].str.partition("(")[0],
    )
    factor = pd.concat(
        [
            against(
                of[of["problem"].isin(["diabetes", "breast_cancer"])], "scale_factor", 1.0
            ).assign(rates=name)
            for name, of in both.items()
        ],
        ignore_index=True,
    )
    plate = Plate(
        "planted",
        "Held-out score of Adam with trouble in one column, tuned rates",
        "Mean and 95 % interval over splits. Outliers: 1 % of the training rows a thousandfold;"
        " heavy tails: sinh of twice the standardised value. The column is the body mass index,"
        " and the tumour's worst area.",
        trouble_panels(adam[adam["rates"] == "tuned"]),
        adam,
    )
    table = pd.DataFrame(
        {
            "data": factor["problem"].map(_named),
            "model": factor["model"].str.partition("(")[0],
            "optimizer": factor["optimizer"],
            "rate": factor["rates"],
            "scaler": factor["scaler"].map(scaler_name),
            "score at 1000 less at 1": [
                f"{number(value)} [{number(low)}, {number(high)}]"
                for value, low, high in factor[["value", "low", "high"]].to_numpy()
            ],
        }
    )
    paragraph = (
        "The planted factor changes a unit and nothing else. A scaler undoes it, up to rounding."
        " Outliers are another matter: minmax and standard divide by what the outliers made;"
        " robust does not, and leaves them as far out as they were; quantile brings them in."
    )
    note = "Difference of scores within a split, with its 95 % interval."
    return Section("Trouble that was planted", (paragraph,), table, note, (plate,))


def _trouble(problem: str, factor: float) -> str:
    if factor != 1:
        return "thousandfold unit"
    return {"o": "outliers", "h": "heavy tails"}.get(problem.partition("(")[2][:1], "as it is")


# Figures --------------------------------------------------------------------------------------


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
        axes.set_title(f"{_named(problem)} ({own['measure'].iloc[0]})")
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
    for axes, rates in zip(panels, ("default", "tuned"), strict=True):
        own = frame[frame["rates"] == rates]
        axes.axvspan(-SMALLEST, SMALLEST, color="#dddddd", linewidth=0)
        axes.axvline(0, color=INK, linewidth=0.8)
        _dots(axes, own, problems, "problem", pairs)
        axes.set_yticks(range(len(problems)), [_named(name) for name in problems])
        axes.set_title("usual rate" if rates == "default" else "tuned rate")
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
    problems = list(dict.fromkeys(frame["problem"]))
    cells = [(problem, optimizer) for problem in problems for optimizer in ("sgd", "adam")]
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
        axes.set_title(f"{_named(problem)}, {optimizer} ({own['measure'].iloc[0]})")
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
    order = ("as it is", "thousandfold unit", "outliers", "heavy tails")
    for axes, (dataset, model) in zip(panels, cells, strict=True):
        own = frame[(frame["dataset"] == dataset) & (frame["model"] == model)]
        kinds = [kind for kind in order if kind in set(own["trouble"])]
        for place, name in enumerate(names):
            mine = own[own["scaler"] == name].set_index("trouble").reindex(kinds)
            y = np.arange(len(kinds)) + 0.14 * (place - (len(names) - 1) / 2)
            reach = abs(mine[["low", "high"]].sub(mine["value"], axis=0)).to_numpy().T
            look = {"color": COLOURS[ORDER.index(name)], "marker": "osD^vP"[place], "ms": 4}
            axes.errorbar(mine["value"], y, xerr=reach, ls="", elinewidth=1.2, **look)
        axes.set_yticks(range(len(kinds)), [kind.replace("d u", "d\nu") for kind in kinds])
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        short = model.partition("(")[0]
        axes.set_title(f"{_named(dataset)}, {short}")
        axes.set_xlabel(str(own["measure"].iloc[0]))
    handles = [
        Line2D(
            [], [], ls="", marker="osD^vP"[i], color=COLOURS[ORDER.index(n)], label=scaler_name(n)
        )
        for i, n in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
