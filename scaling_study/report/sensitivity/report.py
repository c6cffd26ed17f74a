"""The sensitivity report: how much each optimizer loses when the unit of a feature changes."""

from functools import partial

from scaling_study.report.document import Report, Words
from scaling_study.report.sensitivity import data, figures
from scaling_study.storage.results import Results
from scaling_study.study.study import Study


def applies(study: Study) -> bool:
    """Say whether a study asks for this report."""
    return study.report == "sensitivity"


def build(results: Results) -> Report:
    """Return the report of a study of optimizers, scale factors and learning rates."""
    study, frames = results.study, data.frames(results)
    board, order = frames.leaderboard, list(frames.leaderboard["optimizer"])
    words = Words(__package__ or "", **data.facts(board, study))
    leaderboard = words.figure("leaderboard", board, figures.leaderboard)
    one_rate = words.figure(
        "kept-rate", frames.by_scale_factor, partial(figures.kept_rate, order=order)
    )
    every_rate = words.figure(
        "map", frames.by_learning_rate, partial(figures.learning_rate_map, order=order)
    )
    ranking, further = data.for_page(board)
    return Report(
        title=study.title or study.name,
        lead=words("lead"),
        sections=(
            words.section("leaderboard", leaderboard, words.table("ranking", ranking)),
            words.section("further", words.table("further", further), folded=True),
            words.section("kept_rate", one_rate),
            words.section("map", every_rate),
            words.section("quantities"),
        ),
        limits=words("limits"),
        files={"leaderboard.csv": board},
    )
