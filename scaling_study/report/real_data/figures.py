"""The figures of the report on real data."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling_study.report import charts, style
from scaling_study.report.real_data import data

Looks = Mapping[str, style.Look]


def gains(differences: pd.DataFrame) -> Figure:
    """Draw paired differences by data set, at the default and at the tuned learning rate.

    The columns are ``problem, rates, model, optimizer, value, low, high``.
    """
    differences, looks = _by_training(differences)
    problems = list(dict.fromkeys(differences["problem"]))
    titles = ["default learning rate", "tuned learning rate"]
    figure, panels = charts.facets(
        (data.DEFAULT, data.TUNED), height=4.3, titles=titles, sharey=True
    )
    for rates, axes in panels.items():
        axes.axvspan(-data.SMALLEST, data.SMALLEST, color=style.FAINT, linewidth=0)
        axes.axvline(0, **style.REFERENCE)
        rows = differences[differences["rates"] == rates]
        _dots(axes, rows, "problem", problems, "training", looks)
        axes.set_yticklabels([data.data_name(name) for name in problems])
    figure.supxlabel("gain in R² or accuracy, standard less none")
    return charts.legend(figure, looks.values())


def scores(means: pd.DataFrame) -> Figure:
    """Draw the tuned score of each scaler, a panel for each data set.

    The columns are ``problem, rates, scaler, model, optimizer, measure, value, low, high``.
    """
    means, looks = _by_training(means[means["rates"] == data.TUNED])
    cells = _cells(means, "problem", "measure")
    titles = [f"{data.data_name(problem)} ({measure})" for problem, measure in cells]
    figure, panels = charts.facets(cells, height=2.0, titles=titles)
    for cell, rows in means.groupby(["problem", "measure"]):
        names = style.looks("scaler", rows["scaler"])
        _dots(panels[cell], rows, "scaler", [*names], "training", looks)
        panels[cell].set_yticklabels([look["label"] for look in names.values()])
    return charts.legend(figure, looks.values())


def learning_rates(means: pd.DataFrame) -> Figure:
    """Draw the score over the learning rate, a line for each scaler.

    The columns are ``problem, optimizer, scaler, learning_rate, measure, value, low, high``.
    """
    cells = _cells(means, "problem", "optimizer", "measure")
    titles = [f"{data.data_name(p)}, {style.optimizer(o)['label']} ({m})" for p, o, m in cells]
    figure, panels = charts.facets(cells, height=1.9, titles=titles, sharex=True)
    looks = style.looks("scaler", means["scaler"])
    for cell, rows in means.groupby(["problem", "optimizer", "measure"]):
        for name, look in looks.items():
            line = rows[rows["scaler"] == name]
            charts.line(panels[cell], line, "learning_rate", markersize=3, **look)
        panels[cell].set(xscale="log", ylim=(-0.04, 1.04))
    figure.supxlabel("learning rate")
    return charts.legend(figure, looks.values(), columns=5)


def corruption(means: pd.DataFrame) -> Figure:
    """Draw the tuned score by what was changed in a column, a colour for each scaler.

    The columns are ``dataset, model, rates, corruption, scaler, measure, value, low, high``.
    """
    means = means[means["rates"] == data.TUNED].sort_values(
        "corruption", key=lambda names: names != data.UNCHANGED, kind="stable"
    )
    cells = _cells(means, "dataset", "model", "measure")
    titles = [
        f"{data.data_name(dataset)}, {model.partition('(')[0]}" for dataset, model, _ in cells
    ]
    figure, panels = charts.facets(cells, height=2.6, titles=titles)
    looks = {
        name: {**look, "linestyle": ""}
        for name, look in style.looks("scaler", means["scaler"]).items()
    }
    for cell, rows in means.groupby(["dataset", "model", "measure"]):
        once = rows.drop_duplicates(["scaler", "corruption"])
        kinds = list(dict.fromkeys(once["corruption"]))
        _dots(panels[cell], once, "corruption", kinds, "scaler", looks)
        panels[cell].set_xlabel(rows["measure"].iloc[0])
    return charts.legend(figure, looks.values(), columns=3)


def _cells(frame: pd.DataFrame, *columns: str) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(zip(*(frame[name] for name in columns), strict=True)))


def _by_training(frame: pd.DataFrame) -> tuple[pd.DataFrame, Looks]:
    """Return a frame with a column ``training`` of models and optimizers, and their looks.

    A look is that of the optimizer, filled for a linear model and open for a network.
    """
    looks = {}
    for model, optimizer in _cells(frame, "model", "optimizer"):
        name, look = data.training_name(model, optimizer), style.optimizer(optimizer)
        face = look["color"] if model == "linear" else "white"
        looks[name] = {**look, "linestyle": "", "markerfacecolor": face, "label": name}
    training = [*map(data.training_name, frame["model"], frame["optimizer"])]
    return frame.assign(training=training), looks


def _dots(
    axes: Axes, frame: pd.DataFrame, column: str, rows: Sequence[str], by: str, looks: Looks
) -> None:
    """Draw an estimate in each row for each look, beside each other."""
    for place, (name, look) in enumerate(looks.items()):
        of_look = frame[frame[by] == name]
        charts.rows_of_dots(axes, of_look, rows, column, place=place, of=len(looks), **look)
