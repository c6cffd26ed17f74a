"""The report on real data: whether the scaling of the columns matters for held-out scores."""

from scaling_study.report.document import Report, Words
from scaling_study.report.real_data import data, figures
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

FIGURES = {
    "gains": figures.gains,
    "scores": figures.scores,
    "rates": figures.learning_rates,
    "corruption": figures.corruption,
}
SECTIONS = {  # and their figures and tables
    "gains": ("gains", "outcomes"),
    "needed": ("needed",),
    "scores": ("scores",),
    "rates": ("rates",),
    "corruption": ("corruption",),
    "units": ("units", "units-default"),
}


def applies(study: Study) -> bool:
    """Say whether a study asks for this report."""
    return study.report == "real-data"


def build(results: Results) -> Report:
    """Return the report of a study of problems that hold rows out."""
    study, frames = results.study, data.frames(results)
    words = Words(__package__ or "", **data.facts(frames, study))
    shown, sections = data.shown(frames), []
    for section, names in SECTIONS.items():
        items = [
            words.figure(name, shown[name], FIGURES[name])
            if name in FIGURES
            else words.table(name, shown[name])
            for name in names
            if len(shown[name])
        ]
        if items:
            sections.append(words.section(section, *items, folded=section == "units"))
    files = {"scores": frames.scores, "differences": frames.differences, "rates": frames.by_rate}
    return Report(
        title=study.title or study.name,
        lead=words("lead"),
        sections=tuple(sections),
        limits=words("limits"),
        files={f"tables/{name}.csv": frame for name, frame in files.items()},
    )
