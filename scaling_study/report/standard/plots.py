"""The figures of `Results.plot`: those of the reports, drawn from any results."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from scaling_study.errors import StudyError
from scaling_study.report import charts
from scaling_study.report.diagnosis.figures import shares
from scaling_study.report.labels import label_conditions
from scaling_study.report.standard import data, figures
from scaling_study.report.standard.scalers import importance_rows, measures
from scaling_study.report.traces import curves
from scaling_study.storage.results import Results

MOST_PANELS = 8
RATE = "learning_rate"


@dataclass(frozen=True)
class Plots:
    """Figures of results, as `matplotlib.figure.Figure`.

    Parameters
    ----------
    results : Results
    """

    results: Results

    def curves(self) -> Figure:
        """Return the loss over the updates by scaler, a panel for each of the first settings."""
        labels = label_conditions(self.results.conditions)
        rows = data.labelled(curves(self.results), labels)
        rows = _panelled(rows[rows["feature"] == 0])
        if not (rows["loss"] > 0).any():
            raise StudyError("no curve of a loss is stored: only the seeds 0 to 7 are traced")
        floors = data.labelled(self.results.runs, labels).groupby("setting", sort=False)
        medians = data.over_seeds(rows, "loss", ["scaler"])
        return figures.losses(medians, floors["loss_ols"].median())

    def importance(self, setting: str | None = None) -> Figure:
        """Return the share of each feature by scaler, a panel for each method.

        ``setting`` is the first one by default; the standard report names them.
        """
        found = importance_rows(self.results)
        if found.empty:
            raise StudyError("no importances are stored; write record = 'importances'")
        return shares(found[found["setting"] == (setting or found["setting"].iloc[0])])

    def basin(self) -> Figure:
        """Return the score, or else the excess share, over the learning rate by scaler."""
        conditions = self.results.conditions
        if conditions[RATE].nunique() < 2:
            raise StudyError("all runs have one learning rate; list several")
        rates = conditions.set_index("condition")[RATE]
        labels = label_conditions(conditions)
        others = labels["setting"].str.replace(r"(, )?learning rate [^,]+", "", regex=True)
        labels = labels.assign(setting=others.replace("", "all runs"))
        found = measures(self.results, labels.assign(rate=labels["condition"].map(rates)))
        measure = found["measure"].iloc[0]
        rows = _panelled(found[found["measure"] == measure])
        groups = rows.groupby(["panel", "scaler", "rate"], sort=False)["value"]
        medians = groups.agg(value="median", low="min", high="max").reset_index()
        figure, panels = charts.facets(medians["panel"], sharex=True, sharey=True)
        looks = charts.lines(panels, medians, "scaler", "rate")
        for axes in panels.values():
            axes.set_xscale("log")
        charts.label_axes(figure, "learning rate", str(measure))
        return charts.legend(figure, looks)


def _panelled(rows: pd.DataFrame) -> pd.DataFrame:
    shown = list(dict.fromkeys(rows["setting"]))[:MOST_PANELS]
    return rows[rows["setting"].isin(shown)].assign(panel=rows["setting"])
