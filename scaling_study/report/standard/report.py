"""The standard report: which figures and tables a study has, over which rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling_study.analysis import summary
from scaling_study.report.document import Figure, Report, Section, Table, Words
from scaling_study.report.labels import label_conditions, listing, scaler_name, slug
from scaling_study.report.standard import data, figures
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

MOST_PANELS = 8
MOST_SETTINGS = 6
MOST_SEEDS = 300  # of a cloud of points


def applies(study: Study) -> bool:
    """Say whether this is the report of a study."""
    return study.report == "standard"


def build(results: Results) -> Report:
    """Return the report of a study's results."""
    summaries = data.summarize(results)
    words = Words(
        __package__ or "", **data.facts(summaries), shared=_shared_axes(results.conditions)
    )
    drawn = Drawn.of(results, words)
    settings = drawn.settings[:MOST_SETTINGS]
    weights, gradients = (
        {s: [*draw(s)] for s in settings} for draw in (drawn.weights, drawn.gradients)
    )
    conditions = Table(
        name="conditions",
        title="Results by condition",
        frame=data.conditions_table(summaries),
        note=words("note_conditions"),
        group="setting",
    )
    first, *others = settings
    more = [figure for s in others for figure in (*weights[s], *gradients[s])]
    sections = (
        Section("", words("question"), (*weights[first], conditions)),
        Section("Convergence", words("convergence"), (*drawn.convergence(), *drawn.losses())),
        Section("Weights", words("movement"), (*drawn.weight_errors(), *_tables(summaries, words))),
        Section("Gradients", "", tuple(gradients[first])),
        Section("Other settings", "", tuple(more), folded=True),
        Section(
            "Weights and gradients by feature", "", (_features(summaries, words),), folded=True
        ),
    )
    return Report(
        title=results.study.title or results.study.name,
        lead=words("lead"),
        sections=tuple(section for section in sections if section.items),
        limits=words("limits"),
        files=data.files(summaries, results.conditions),
    )


def _tables(summaries: data.Summaries, words: Words) -> Iterator[Table]:
    for name, title, make in (
        ("movement", "Movement of the weights", data.movement_table),
        ("differences", "How often the last weight ends larger", data.differences_table),
    ):
        frame = make(summaries)
        if len(frame):
            note = words(f"note_{name}")
            yield Table(name=name, title=title, frame=frame, note=note, group="setting")


def _features(summaries: data.Summaries, words: Words) -> Table:
    return Table(
        name="features",
        title="Weights and gradients",
        frame=data.features_table(summaries),
        note=words("note_features"),
        group="setting",
    )


def _shared_axes(conditions: pd.DataFrame) -> str:
    """Return the axes on which all conditions agree, with their values."""
    axes = conditions.drop(columns=["condition", *(c for c in conditions if "." in str(c))])
    texts = axes.astype(str)
    same = [name for name in texts if texts[name].nunique() == 1]
    return ", ".join(f"{str(name).replace('_', ' ')} {texts[name].iloc[0]}" for name in same)


@dataclass(frozen=True)
class Drawn:
    """The rows that figures are drawn from, with setting and scaler as text.

    Attributes
    ----------
    settings : list of str
    runs, features, curves, incidence : DataFrame
    words : Words
    """

    settings: list[str]
    runs: pd.DataFrame
    features: pd.DataFrame
    curves: pd.DataFrame
    incidence: pd.DataFrame
    words: Words

    @classmethod
    def of(cls, results: Results, words: Words) -> "Drawn":
        """Return the rows of the first settings, and of the first linear ones."""
        labels = label_conditions(results.conditions)
        linear = results.conditions["model"].astype(str).to_numpy() == "linear"
        shown = pd.concat(
            labels["setting"][rows].drop_duplicates()[:MOST_PANELS]
            for rows in (np.ones(len(labels), bool), linear)
        )
        kept = labels["setting"].isin(shown)
        if not kept.all():
            results = results.of(labels.loc[kept, "condition"])
        features = data.labelled(results.features, labels)
        incidence = summary.cumulative_incidence(results.runs, results.conditions)
        return cls(
            list(dict.fromkeys(labels["setting"])),
            data.labelled(results.runs, labels),
            features.assign(training_unit=summary.training_units(features)),
            data.labelled(data.curves(results), labels),
            data.labelled(incidence, labels),
            words,
        )

    def weights(self, setting: str) -> Iterator[Figure]:
        """Yield the figure of a setting's first and last weights, if they were measured."""
        rows = self.features[self.features["setting"] == setting]
        rows = rows.merge(self.runs[["condition", "seed", "status"]], on=["condition", "seed"])
        lost = rows["status"].isin(summary.LOST)
        rows = rows[(lost | rows["training_unit"].notna()) & rows["weight_init"].notna()]
        if rows["feature"].nunique() < 2 or rows["status"].isin(summary.LOST).all():
            return
        which, seeds = _seeds(rows), np.sort(rows["seed"].unique())
        if len(seeds) > MOST_SEEDS:
            which = f"the first {MOST_SEEDS:,} of {which}"
            rows = rows[rows["seed"].isin(seeds[:MOST_SEEDS])]
        rows = rows.assign(panel=rows["scaler"].map(scaler_name))
        columns = ["weight_init", "weight", "weight_true", "weight_ols", "training_unit"]
        medians = rows.groupby(["scaler", "feature"], sort=False)[columns].median().reset_index()
        lost_runs = _lost(self.runs[self.runs["setting"] == setting])
        yield Figure(
            name=f"weights-{slug(setting)}",
            title="Weights before and after training",
            caption=self.words("caption_weights", which=which, setting=setting, lost=lost_runs),
            data=medians.assign(feature=medians["feature"] + 1),
            draw=lambda _: figures.weights(rows),
        )

    def losses(self) -> Iterator[Figure]:
        """Yield the figure of the loss over the updates, if any is traced."""
        rows, panels = self._panelled(self.curves[self.curves["feature"] == 0])
        if not (rows["loss"] > 0).any():
            return
        linear = self.runs[self.runs["weight_error"].notna()]
        floors = linear.groupby("setting", sort=False)["loss_ols"].median()
        lost = _lost(self.runs[self.runs["setting"].isin(rows["panel"])])
        yield Figure(
            name="loss",
            title="Loss over the updates",
            caption=self.words("caption_loss", panels=panels, seeds=_seeds(rows), lost=lost),
            data=data.over_seeds(rows, "loss", ["scaler"]),
            draw=lambda curves: figures.losses(curves, floors),
        )

    def gradients(self, setting: str) -> Iterator[Figure]:
        """Yield the figure of a setting's gradients over the updates, if any is traced."""
        rows = self.curves[(self.curves["setting"] == setting) & (self.curves["grad_norm"] > 0)]
        if not len(rows):
            return
        rows = rows.assign(panel=rows["scaler"].map(scaler_name))
        lost = _lost(self.runs[self.runs["setting"] == setting])
        facts = {"setting": setting, "seeds": _seeds(rows), "lost": lost}
        yield Figure(
            name=f"gradients-{slug(setting)}",
            title="Gradient norm by feature",
            caption=self.words("caption_gradients", **facts),
            data=data.over_seeds(rows, "grad_norm", ["feature"]),
            draw=figures.gradients,
        )

    def convergence(self) -> Iterator[Figure]:
        """Yield the figure of who had reached the target by when, if there is a target."""
        judged = self.runs[self.runs["status"].astype(str) != "no_target"]
        known = self.incidence["condition"].isin(judged["condition"].unique())
        rows, panels = self._panelled(self.incidence[known])
        if len(rows):
            yield Figure(
                name="convergence",
                title="Convergence and divergence over the updates",
                caption=self.words("caption_convergence", panels=panels, seeds=_seeds(judged)),
                data=rows[["panel", "scaler", "outcome", "update", "share"]],
                draw=figures.incidence,
            )

    def weight_errors(self) -> Iterator[Figure]:
        """Yield the figure of the weight-recovery errors, if weights can be recovered."""
        measured = self.runs.groupby("setting", sort=False)["weight_error"].transform("count") > 0
        rows, panels = self._panelled(self.runs[measured])
        kept = rows[~rows["status"].isin(summary.LOST) & (rows["weight_error"] > 0)]
        if len(kept):
            quartiles = kept.groupby(["panel", "scaler"], sort=False, observed=True)["weight_error"]
            yield Figure(
                name="weight-error",
                title="Weight-recovery error",
                caption=self.words("caption_weight_error", panels=panels, seeds=_seeds(rows)),
                data=quartiles.describe().reset_index(),
                draw=lambda _: figures.weight_errors(rows),
            )

    def _panelled(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
        """Return the rows of the first settings, one panel each, and how a caption says so."""
        present = [s for s in self.settings if (rows["setting"] == s).any()]
        shown = present[:MOST_PANELS]
        # Where a setting is absent, its runs may not have been read.
        more = len(present) > len(shown) or len(self.settings) > len(present) >= MOST_PANELS
        order = {setting: place for place, setting in enumerate(shown)}
        rows = rows[rows["setting"].isin(shown)]
        rows = rows.assign(panel=rows["setting"]).sort_values(
            "panel", kind="stable", key=lambda panel: panel.map(order)
        )
        cut = f" (the first {len(shown)}; the table has all)" if more else ""
        return rows, f"one panel per setting{cut}"


def _seeds(rows: pd.DataFrame) -> str:
    n = rows["seed"].nunique()
    return f"{n:,} seed" + ("s" if n != 1 else "")


def _lost(runs: pd.DataFrame) -> str:
    """Return a sentence on the runs that diverged, by setting and scaler."""
    one = runs["setting"].nunique() == 1
    parts = []
    for (setting, scaler), rows in runs.groupby(["setting", "scaler"], sort=False):
        lost = int(rows["status"].isin(summary.LOST).sum())
        if lost:
            where = "" if one else f" ({setting})"
            parts.append(f"{lost:,} of {len(rows):,} with {scaler_name(str(scaler))}{where}")
    return f"Diverged and not drawn: {listing(parts)}." if parts else ""
