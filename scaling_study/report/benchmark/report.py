"""The benchmark report: sensitivity of optimizers to units, over many problems."""

from functools import partial

import pandas as pd

from scaling_study.report.benchmark import data, figures, tables
from scaling_study.report.benchmark.facts import facts
from scaling_study.report.document import Report, Section, Words
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

BUDGETS = "share of the budget that counts"
TARGETS = "share of the decades from the null loss to the target"


def applies(study: Study) -> bool:
    """Say whether a study asks for this report."""
    return study.report == "benchmark"


def _trials(words: Words, frame: pd.DataFrame) -> tuple[Section, ...]:
    table = words.table("trials", tables.trials_table(frame))
    return (words.section("trials", table),)


def build(results: Results) -> Report:
    """Return the report of a study whose blocks are problems."""
    study, frames = results.study, data.frames(results)
    board, order = frames.leaderboard, list(frames.leaderboard["optimizer"])
    words = Words(__package__ or "", **facts(frames, study))
    main, further = tables.for_page(board, frames.marked)
    leaderboard = partial(figures.leaderboard, marked=frames.marked)
    budgets = partial(figures.over_shares, label=BUDGETS, scale="log")
    targets = partial(figures.over_shares, label=TARGETS, scale="linear")
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
            *(_trials(words, frames.trials) if len(frames.trials) else ()),
            words.section("practice"),
            words.section("profiles", words.figure("profiles", frames.profiles, figures.profiles)),
            words.section("problems", words.figure("problems", frames.by_problem, by_problem)),
            words.section(
                "stability",
                words.table("stability", tables.stability_table(frames)),
                words.table("controls", tables.controls_table(frames.controls)),
                words.figure("budgets", frames.budgets, budgets),
                *(
                    (words.figure("targets", frames.targets, targets),)
                    if len(frames.targets)
                    else ()
                ),
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
            **({"trials.csv": frames.trials} if len(frames.trials) else {}),
        },
    )
