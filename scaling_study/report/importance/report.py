"""The report on feature attributions: how far they are from the truth, and what changes them."""

from scaling_study.report.document import Figure, Report, Table, Words
from scaling_study.report.importance import data, figures
from scaling_study.storage.results import Results
from scaling_study.study.study import Study


def applies(study: Study) -> bool:
    """Say whether a study asks for this report."""
    return study.report == "importance"


def build(results: Results) -> Report:
    """Return the report of a study of design U that records importances."""
    frames, per_run = data.estimates(results)
    words = Words(__package__ or "", **data.facts_of(results, frames, per_run))
    sections: dict[str, list[Figure | Table]] = {
        name: [words.figure(name, frame, figures.DRAW[name], n=data.sample_sizes(frame))]
        for name, frame in data.figure_frames(results, frames).items()
    }
    tables = {"effects": data.effects_table(frames), "results": data.results_table(frames)}
    first = sections.pop("differences", [])
    first += [words.table(name, frame) for name, frame in tables.items() if len(frame)]
    thresholds = words.table("thresholds", data.thresholds_table(results))
    return Report(
        title=results.study.title or results.study.name,
        lead=words("lead"),
        sections=(
            words.section("differences", *first),
            *(words.section(name, *items) for name, items in sections.items()),
            words.section("methods", thresholds),
        ),
        limits=words("limits"),
        files={f"tables/{name}.csv": frame for name, frame in frames.items()},
    )
