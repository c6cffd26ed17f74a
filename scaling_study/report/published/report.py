"""Builds the report on published results: figures, tables and text in their order."""

from functools import partial

from scaling_study.analysis.published import BACKPROP, EXAMPLE, PINHEIRO
from scaling_study.report.document import Figure, Report, Section, Table, Words
from scaling_study.report.published import data, figures
from scaling_study.storage.results import Results
from scaling_study.study.study import Study


def applies(study: Study) -> bool:
    """Say whether a study asks for this report."""
    return study.report == "published"


def build(results: Results) -> Report:
    """Return the report of a study with any of the published comparisons."""
    found = data.Published(results)
    words = Words(__package__ or "", **data.facts_of(results, found))
    accuracies = _of_accuracies(results, found, words) if len(found.over) else []
    centring = _of_centring(results, found, words) if len(found.training) else []
    return Report(
        title=results.study.title or results.study.name,
        lead=words("lead"),
        sections=(*accuracies, *centring),
        limits=words("limits"),
        files={"published.csv": found.table},
    )


def _of_accuracies(results: Results, found: data.Published, words: Words) -> list[Section]:
    splits = Figure(
        name="splits",
        title="Accuracy on one split and on many",
        caption=words("caption_splits"),
        data=data.accuracies(found.over),
        draw=partial(figures.draw_splits, fits=results.estimators),
    )
    gains = Figure(
        name="gains",
        title="Gain by standardising",
        caption=words("caption_gains"),
        data=data.gains(found.over),
        draw=figures.draw_gains,
    )
    table = Table(
        name="accuracies",
        title="Published accuracies",
        frame=data.accuracies_table(found),
        note=words("note_accuracies"),
        group="source",
        badge="verdict",
    )
    return [
        Section("", "", (splits, table)),
        Section("Gain by standardising", words("gains"), (gains,)),
        *(
            Section(source, words(name))
            for source, name in ((EXAMPLE, "example"), (PINHEIRO, "pinheiro"))
            if source in set(found.over["source"])
        ),
    ]


def _of_centring(results: Results, found: data.Published, words: Words) -> list[Section]:
    figure = Figure(
        name="centring",
        title="Updates to the target by offset",
        caption=words("caption_centring"),
        data=found.times,
        draw=figures.draw_centring,
    )
    ratios = Table(
        name="ratios",
        title="Published claims about centring",
        frame=data.ratios_table(found.training),
        note=words("note_ratios"),
        badge="verdict",
    )
    sections = [Section(f"{BACKPROP}: centring", words("centring"), (figure, ratios))]
    if "full-batch" in set(found.times["block"]):
        frame = data.theory_table(results, found.times)
        title = "Updates to the target, theory and measurement"
        table = Table(name="theory", title=title, frame=frame, note=words("note_theory"))
        sections.append(Section("Comparison with theory", "", (table,), folded=True))
    return sections
