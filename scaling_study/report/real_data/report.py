"""The report on real data: whether the scaling of the columns matters for held-out scores."""

import pandas as pd

from scaling_study.report.document import Figure, Report, Section, Table, Words
from scaling_study.report.real_data import data, figures
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

FIGURES = {
    "gains": ("Gain of standardized over raw columns", figures.gains),
    "scores": ("Held-out score by scaler, at tuned learning rates", figures.scores),
    "rates": ("Held-out score of linear models by learning rate", figures.learning_rates),
    "corruption": ("Held-out score of adam after a change to one column", figures.corruption),
}
TABLES = {
    "outcomes": "Combinations of data set, model and optimizer by outcome",
    "needed": "Was a scaler needed, at tuned learning rates?",
    "units": "Score in two units of one column, at tuned learning rates",
    "units_default": "Score in two units of one column, at default learning rates",
}
SECTIONS = {  # figures and tables by heading; the first names the text
    "": ("gains", "outcomes"),
    "Data and models that needed a scaler": ("needed",),
    "Scores by scaler": ("scores",),
    "Scores by learning rate": ("rates",),
    "A change to one column": ("corruption", "units"),
    "Default learning rates": ("units_default",),
}


def applies(study: Study) -> bool:
    """Return whether the study asks for this report."""
    return study.report == "real-data"


def build(results: Results) -> Report:
    """Return the report of a study of problems that hold rows out."""
    study, frames = results.study, data.frames(results)
    words = Words(__package__ or "", **data.facts(frames, study))
    shown = data.shown(frames)
    sections = []
    for heading, names in SECTIONS.items():
        items = tuple(_item(name, shown[name], words) for name in names if len(shown[name]))
        if items:
            folded = "units_default" in names
            sections.append(Section(heading, words(names[0]), items, folded))
    files = {"scores": frames.scores, "differences": frames.differences, "rates": frames.by_rate}
    return Report(
        title=study.title or study.name,
        lead=words("lead"),
        sections=tuple(sections),
        limits=words("limits"),
        files={f"tables/{name}.csv": frame for name, frame in files.items()},
    )


def _item(name: str, frame: pd.DataFrame, words: Words) -> Figure | Table:
    if name in TABLES:
        note = words(f"note_{name}")
        return Table(name=name.replace("_", "-"), title=TABLES[name], frame=frame, note=note)
    title, draw = FIGURES[name]
    return Figure(name=name, title=title, caption=words(f"caption_{name}"), data=frame, draw=draw)
