"""Builds the report on feature attributions: figures, tables and text in their order."""

from functools import partial

from scaling_study.report.document import Figure, Report, Section, Table, Words
from scaling_study.report.importance import data, figures
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

RANKINGS = partial(figures.draw_methods, quantity="share of runs with a wrong ranking")
DECOY = partial(figures.draw_methods, quantity="share of the irrelevant feature")
# By the name of a figure: the heading of its section, its title, and the function that draws it.
FIGURES = {
    "differences": ("", "Distortion, raw minus standardised inputs", figures.draw_differences),
    "scales": ("Scale factor", "Distortion by scale factor", figures.draw_scales),
    "fit": ("Goodness of fit", "Runs that fit", figures.draw_fit),
    "rankings": ("Rankings", "Wrong rankings", RANKINGS),
    "decoy": ("Irrelevant feature", "Share of the irrelevant feature", DECOY),
    "scalers": ("Scalers", "Distortion by scaler", figures.draw_methods),
    "networks": ("Other networks", "Distortion by network", figures.draw_networks),
}


def applies(study: Study) -> bool:
    """Say whether a study asks for this report."""
    return study.report == "importance"


def build(results: Results) -> Report:
    """Return the report of a study of design U that records importances."""
    frames, per_run = data.estimates(results)
    words = Words(__package__ or "", **data.facts_of(results, frames, per_run))
    drawn = data.figure_frames(results, frames)
    sections = []
    for name, (heading, title, draw) in FIGURES.items():
        if name in drawn:
            n = data.span(drawn[name].loc[drawn[name]["value"].notna(), "n"])
            caption = words(f"caption_{name}", n=n)
            figure = Figure(name=name, title=title, caption=caption, data=drawn[name], draw=draw)
            sections.append(Section(heading, words(name), (figure,)))
    tables = [
        Table(name=name, title=title, frame=frame, note=words(f"note_{name}"))
        for name, title, frame in (
            ("effects", "Effect of a change of the input", data.effects_table(frames)),
            ("results", "Further results", data.results_table(frames)),
            ("thresholds", "Other thresholds of a good fit", data.thresholds_table(results)),
        )
    ]
    sections.insert("differences" in drawn, Section("", "", tuple(tables[:2])))
    sections.append(Section("Methods", words("methods"), tuple(tables[2:])))
    return Report(
        title=results.study.title or results.study.name,
        lead=words("lead"),
        sections=tuple(sections),
        limits=words("limits"),
        files={f"tables/{name}.csv": frame for name, frame in frames.items()},
    )
