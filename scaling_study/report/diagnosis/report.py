"""The report on a user's own table: whether, and how, its columns should be scaled."""

from functools import partial

from scaling_study.report.diagnosis import data, figures, rows
from scaling_study.report.diagnosis.data import Diagnosis
from scaling_study.report.document import Figure, Report, Section, Table, Words
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

FILES = ("columns", "conditioning", "scores", "differences", "shares", "changes", "agreement")
MOST_COLUMNS = 40  # of the figure


def applies(study: Study) -> bool:
    """Say whether a study asks for this report."""
    return study.report == "diagnosis"


def build(results: Results) -> Report:
    """Return the report of a study of one table, at a default and a tuned learning rate."""
    return report_of(Diagnosis(results))


def report_of(of: Diagnosis) -> Report:
    """Return the report of a diagnosis."""
    facts = data.facts(of)
    words = Words(__package__ or "", **facts)
    draw = partial(figures.scores, score=facts["score"])
    scores = rows.score_rows(of.scores, of.differences)
    first: tuple[Figure | Table, ...] = (
        words.figure("scores", of.scores, draw),
        words.table("summary", rows.summary_rows(of)),
    )
    sections = [words.section("scores", *first), _columns(of, words)]
    if facts["read"] and of.verdict != "untrained":
        shown = rows.shown_shares(of)
        shares = words.figure("shares", shown, figures.shares)
        agreed = rows.agreement_rows(of)
        agreement = [words.table("agreement", agreed)] if len(agreed) else []
        sections.append(words.section("importance", shares, *agreement))
    frames = {name: getattr(of, name) for name in FILES}
    return Report(
        title=of.results.study.title,
        lead=" ".join(of.answer),
        sections=(
            *sections,
            words.section("all", words.table("scores", scores, group="training"), folded=True),
            words.section("methods"),
        ),
        limits=words("limits"),
        files={f"tables/{name}.csv": frame for name, frame in frames.items() if len(frame)},
    )


def _columns(of: Diagnosis, words: Words) -> Section:
    shown = of.columns.head(MOST_COLUMNS)
    return words.section(
        "columns",
        words.figure("columns", shown, figures.columns),
        words.table("columns", rows.column_rows(of.columns)),
        words.table("conditioning", rows.conditioning_rows(of.conditioning)),
    )
