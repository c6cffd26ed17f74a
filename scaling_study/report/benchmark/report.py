"""The benchmark report: sensitivity of optimizers to units, over many problems."""

from functools import partial

from scaling_study.report.benchmark import data, figures
from scaling_study.report.document import Report, Words
from scaling_study.storage.results import Results
from scaling_study.study.study import Study


def applies(study: Study) -> bool:
    """Say whether a study asks for this report."""
    return study.report == "benchmark"


def build(results: Results) -> Report:
    """Return the report of a study whose blocks are problems."""
    study, frames = results.study, data.frames(results)
    board, order = frames.leaderboard, list(frames.leaderboard["optimizer"])
    words = Words(__package__ or "", **data.facts(frames, study))
    main, further = data.for_page(board, frames.marked)
    leaderboard = partial(figures.leaderboard, marked=frames.marked)
    by_problem = partial(figures.by_problem, order=order, marked=frames.marked)
    return Report(
        title=study.title or study.name,
        lead=words("lead"),
        sections=(
            words.section(
                "leaderboard",
                words.figure("leaderboard", board, leaderboard),
                words.table("ranking", main, group="group"),
            ),
            words.section("practice"),
            words.section("profiles", words.figure("profiles", frames.profiles, figures.profiles)),
            words.section("problems", words.figure("problems", frames.by_problem, by_problem)),
            words.section(
                "stability",
                words.table("stability", data.stability_table(frames)),
                words.table("controls", data.controls_table(frames.controls)),
                words.figure("budgets", frames.budgets, figures.budgets),
            ),
            words.section("further", words.table("further", further), folded=True),
            words.section("known"),
            words.section("send"),
            words.section("quantities"),
        ),
        limits=words("limits"),
        files={
            data.LEADERBOARD: board,
            "by_problem.csv": frames.by_problem,
            "scores.csv": frames.scores,
            "schema.json": data.schema(),
        },
    )
