"""The standard report: which figures and tables a study has, over which rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling_study.analysis import summary
from scaling_study.analysis.scaler_comparison import EXPLAINED
from scaling_study.report.diagnosis.figures import shares as shares_of
from scaling_study.report.document import Figure, Report, Table, Words
from scaling_study.report.labels import label_conditions, listing, scaler_name, slug
from scaling_study.report.standard import data, figures, scalers
from scaling_study.report.traces import curves
from scaling_study.storage.results import Results, numbered
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
    shared = _shared_axes(results.conditions)
    compared = scalers.compared(results)
    said = scalers.differing(compared)
    shown = data.tables(summaries)
    words = Words(
        __package__ or "",
        **{**data.facts(summaries), **said, "shared": shared, "columns": list(shown["conditions"])},
        explained=EXPLAINED in set(compared["measure"]),
    )
    rows = _rows(results, words)
    first, *others = rows.settings[:MOST_SETTINGS]
    more = [figure for s in others for figure in (*rows.weights(s), *rows.gradients(s))]
    tables = {
        name: words.table(name, frame, group="setting")
        for name, frame in shown.items()
        if len(frame)
    }
    moved = [tables[name] for name in ("movement", "differences") if name in tables]
    shares = scalers.importance_rows(results)
    sections = (
        words.section("scalers", *_compared(words, compared)),
        words.section("importance", *_importance(words, shares)),
        words.section("question", *rows.weights(first), tables["conditions"]),
        words.section("convergence", *rows.convergence(), *rows.losses()),
        words.section("weights", *rows.weight_errors(), *moved),
        words.section("gradients", *rows.gradients(first)),
        words.section("others", *more, folded=True),
        words.section("features", tables["features"], folded=True),
    )
    return Report(
        title=results.study.title or results.study.name,
        lead=words("lead"),
        sections=tuple(section for section in sections if section.items),
        limits=words("limits"),
        files={
            **data.files(summaries, results.conditions),
            **({"tables/scalers.csv": compared} if len(compared) else {}),
            **({"tables/importance.csv": shares} if len(shares) else {}),
        },
    )


def _compared(words: Words, compared: pd.DataFrame) -> Iterator[Table]:
    if compared["difference"].notna().any():
        yield words.table("scalers", scalers.comparison_table(compared), group="setting")


def _importance(words: Words, shares: pd.DataFrame) -> Iterator[Figure | Table]:
    if len(shares):
        first = shares[shares["setting"] == shares["setting"].iloc[0]]
        setting = first["setting"].iloc[0]
        yield words.figure("importance", first, shares_of, setting=setting)
        yield words.table("importance", scalers.importance_table(shares), group="setting")


def _shared_axes(conditions: pd.DataFrame) -> str:
    """Return the axes on which all conditions agree, with their values."""
    axes = conditions.drop(columns=["condition", *(c for c in conditions if "." in str(c))])
    texts = axes.astype(str)
    same = [name for name in texts if texts[name].nunique() == 1]
    return ", ".join(f"{str(name).replace('_', ' ')} {texts[name].iloc[0]}" for name in same)


@dataclass(frozen=True)
class _Rows:
    """The rows that figures are drawn from, with setting and scaler as text.

    Each method yields a figure, or nothing where the study has nothing to show in it.
    """

    words: Words
    settings: list[str]
    runs: pd.DataFrame
    features: pd.DataFrame
    curves: pd.DataFrame
    incidence: pd.DataFrame

    def weights(self, setting: str) -> Iterator[Figure]:
        rows = self.features[self.features["setting"] == setting]
        rows = rows.merge(self.runs[["condition", "seed", "status"]], on=["condition", "seed"])
        lost = rows["status"].isin(summary.DIVERGED_OR_FAILED)
        rows = rows[(lost | rows["training_unit"].notna()) & rows["weight_init"].notna()]
        if rows["feature"].nunique() < 2 or rows["status"].isin(summary.DIVERGED_OR_FAILED).all():
            return
        which, seeds = _seeds(rows), np.sort(rows["seed"].unique())
        if len(seeds) > MOST_SEEDS:
            which = f"the first {MOST_SEEDS:,} of {which}"
            rows = rows[rows["seed"].isin(seeds[:MOST_SEEDS])]
        rows = rows.assign(panel=rows["scaler"].map(scaler_name))
        columns = ["weight_init", "weight", "weight_true", "weight_ols", "training_unit"]
        medians = rows.groupby(["scaler", "feature"], sort=False)[columns].median().reset_index()
        medians["feature"] += 1
        facts = {"which": which, "setting": setting, "lost": self._lost([setting])}
        draw, suffix = (lambda _: figures.weights(rows)), f"-{slug(setting)}"
        yield self.words.figure("weights", medians, draw, suffix=suffix, **facts)

    def losses(self) -> Iterator[Figure]:
        rows, panels = self._panelled(self.curves[self.curves["feature"] == 0])
        if not (rows["loss"] > 0).any():
            return
        linear = self.runs[self.runs["weight_error"].notna()]
        floors = linear.groupby("setting", sort=False)["loss_ols"].median()
        facts = {"panels": panels, "seeds": _seeds(rows), "lost": self._lost(rows["panel"])}
        median = data.over_seeds(rows, "loss", ["scaler"])
        yield self.words.figure("loss", median, lambda of: figures.losses(of, floors), **facts)

    def gradients(self, setting: str) -> Iterator[Figure]:
        rows = self.curves[(self.curves["setting"] == setting) & (self.curves["grad_norm"] > 0)]
        if len(rows):
            rows = rows.assign(panel=rows["scaler"].map(scaler_name))
            facts = {"setting": setting, "seeds": _seeds(rows), "lost": self._lost([setting])}
            median, suffix = data.over_seeds(rows, "grad_norm", ["feature"]), f"-{slug(setting)}"
            yield self.words.figure("gradients", median, figures.gradients, suffix=suffix, **facts)

    def convergence(self) -> Iterator[Figure]:
        judged = self.runs[self.runs["status"].astype(str) != "no_target"]
        known = self.incidence["condition"].isin(judged["condition"].unique())
        rows, panels = self._panelled(self.incidence[known])
        if len(rows):
            rows = rows[["panel", "scaler", "outcome", "update", "share"]]
            facts = {"panels": panels, "seeds": _seeds(judged)}
            yield self.words.figure("convergence", rows, figures.incidence, **facts)

    def weight_errors(self) -> Iterator[Figure]:
        measured = self.runs.groupby("setting", sort=False)["weight_error"].transform("count") > 0
        rows, panels = self._panelled(self.runs[measured])
        kept = rows[~rows["status"].isin(summary.DIVERGED_OR_FAILED) & (rows["weight_error"] > 0)]
        if len(kept):
            quartiles = kept.groupby(["panel", "scaler"], sort=False)["weight_error"].describe()
            facts = {"panels": panels, "seeds": _seeds(rows)}
            yield self.words.figure(
                "weight-error",
                quartiles.reset_index(),
                lambda _: figures.weight_errors(rows),
                **facts,
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

    def _lost(self, settings: pd.Series | list[str]) -> str:
        """Return a sentence on the runs that diverged, by setting and scaler."""
        runs = self.runs[self.runs["setting"].isin(settings)]
        one = runs["setting"].nunique() == 1
        parts = []
        for (setting, scaler), rows in runs.groupby(["setting", "scaler"], sort=False):
            lost = int(rows["status"].isin(summary.DIVERGED_OR_FAILED).sum())
            if lost:
                where = "" if one else f" ({setting})"
                parts.append(f"{lost:,} of {len(rows):,} with {scaler_name(str(scaler))}{where}")
        return f"Diverged and not drawn: {listing(parts)}." if parts else ""


def _rows(results: Results, words: Words) -> _Rows:
    """Return the rows of the first settings, and of the first linear ones."""
    labels = label_conditions(results.conditions)
    linear = results.conditions["model"].astype(str).to_numpy() == "linear"
    shown = {
        setting
        for rows in (labels, labels[linear])
        for setting in rows["setting"].drop_duplicates()[:MOST_PANELS]
    }
    kept = labels["setting"].isin(shown)
    if not kept.all():
        results = results.of(labels.loc[kept, "condition"])
    features = data.labelled(numbered(results.features), labels)
    incidence = summary.cumulative_incidence(results.runs, results.conditions)
    return _Rows(
        words,
        list(dict.fromkeys(labels["setting"])),
        data.labelled(results.runs, labels),
        features.assign(training_unit=summary.training_units(features)),
        data.labelled(curves(results), labels),
        data.labelled(incidence, labels),
    )


def _seeds(rows: pd.DataFrame) -> str:
    n = rows["seed"].nunique()
    return f"{n:,} seed" + ("s" if n != 1 else "")
