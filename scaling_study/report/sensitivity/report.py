"""The sensitivity report: how much each optimizer loses when the unit of a feature changes."""

from functools import partial

from scaling_study.report.document import Figure, Report, Section, Table, Words
from scaling_study.report.sensitivity import data, figures
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

TITLES = {
    "leaderboard": "Progress lost by a change of unit",
    "kept_rate": "Progress by scale factor",
    "map": "Progress by learning rate and scale factor",
}


def applies(study: Study) -> bool:
    """Return whether the study asks for this report."""
    return study.report == "sensitivity"


def build(results: Results) -> Report:
    """Return the report of a study of optimizers, scale factors and learning rates."""
    study, (board, cells, kept_rate) = results.study, data.frames(results)
    words = Words(__package__ or "", **data.facts(board, study))
    order = list(board["optimizer"])
    drawn = {
        "leaderboard": (board, figures.leaderboard),
        "kept_rate": (kept_rate, partial(figures.kept_rate, order=order)),
        "map": (cells, partial(figures.learning_rate_map, order=order)),
    }
    leaderboard, one_rate, every_rate = (
        Figure(
            name=name.replace("_", "-"),
            title=TITLES[name],
            caption=words(f"caption_{name}"),
            data=frame,
            draw=draw,
        )
        for name, (frame, draw) in drawn.items()
    )
    main, more = data.for_page(board)
    ranking = Table(name="ranking", title="Leaderboard", frame=main, note=words("note_ranking"))
    details = Table(name="details", title="Further quantities", frame=more)
    return Report(
        title=study.title or study.name,
        lead=words("lead"),
        sections=(
            Section("", words("leaderboard"), (leaderboard, ranking)),
            Section("Further quantities", words("details"), (details,), folded=True),
            Section("One learning rate at every unit", words("kept_rate"), (one_rate,)),
            Section("Every learning rate at every unit", words("map"), (every_rate,)),
            Section("Quantities", words("quantities")),
        ),
        limits=words("limits"),
        files={"leaderboard.csv": board},
    )
