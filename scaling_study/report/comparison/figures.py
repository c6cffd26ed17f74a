"""The figure of a comparison: differences with their intervals, beside the tolerance."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scaling_study.analysis.compare import DIFFERS, RATIO
from scaling_study.report import charts, style
from scaling_study.report.labels import MINUS

COLOURS = {True: style.VERMILION, False: style.PALE}


def differences(cells: pd.DataFrame, names: tuple[str, str]) -> Figure:
    """Draw the differences of each quantity, sorted, one panel a quantity.

    `names` are those of the two folders.
    """
    figure, panels = charts.facets(cells["quantity"], height=2.2)
    for name, axes in panels.items():
        rows = cells[cells["quantity"] == name].sort_values("value").reset_index(drop=True)
        is_ratio = rows["scale"].iloc[0] == RATIO
        for differs, own in rows.groupby(rows["outcome"] == DIFFERS):
            look = {"color": COLOURS[bool(differs)], "marker": "o", "markersize": 3}
            charts.intervals(axes, own.index, own, across=False, **look)
        axes.axhline(1.0 if is_ratio else 0.0, **style.REFERENCE)
        axes.set_yscale("log" if is_ratio else "linear")
        sign = "/" if is_ratio else MINUS
        axes.set_ylabel(textwrap.fill(f"{names[1]} {sign} {names[0]}", 28))
        axes.set_xticks([])
        axes.set_xlim(-0.6, max(len(rows) - 0.4, 1))
        if is_ratio and np.isclose(rows["value"].max(), rows["value"].min(), rtol=0.3):
            axes.set_yscale("linear")
    figure.supxlabel("conditions, in the order of their differences")
    looks = [
        {"color": COLOURS[d], "marker": "o", "linestyle": "", "label": label}
        for d, label in ((True, "differs"), (False, "same or unclear"))
    ]
    return charts.legend(figure, [*looks, {**style.REFERENCE, "label": "no difference"}])
