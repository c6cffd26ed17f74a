"""The report on published results: what was printed, what comes out here, and a verdict by rule."""

from functools import partial

from scaling_study.report.document import Report, Section, Words
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
    draw = partial(figures.draw_splits, fits=results.estimators)
    splits = words.figure("splits", data.accuracies(found.over), draw)
    rows = data.accuracies_table(found)
    table = words.table("accuracies", rows, group="source", badge="verdict")
    gains = words.figure("gains", data.gains(found.over), figures.draw_gains)
    sections = [words.section("accuracies", splits, table), words.section("gains", gains)]
    sources = [name for name, text in data.SOURCES.items() if text in set(rows["source"])]
    return [*sections, *map(words.section, sources)]


def _of_centring(results: Results, found: data.Published, words: Words) -> list[Section]:
    times = words.figure("centring", found.times, figures.draw_centring)
    ratios = words.table("ratios", data.ratios_table(found.training), badge="verdict")
    sections = [words.section("centring", times, ratios)]
    if "full-batch" in set(found.times["block"]):
        table = words.table("theory", data.theory_table(results, found.times))
        sections.append(words.section("theory", table, folded=True))
    return sections
