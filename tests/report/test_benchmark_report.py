"""The benchmark report: everything is there, and says what the runs say."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scaling_study
from scaling_study.analysis import benchmark, ranking
from scaling_study.errors import StudyError
from scaling_study.report import labels
from scaling_study.report.benchmark import data
from scaling_study.report.benchmark.facts import facts
from scaling_study.report.document import Words
from scaling_study.report.page import write_report
from scaling_study.storage.results import Results, load
from scaling_study.study.study import parse, read_study

STUDY = {
    "name": "small",
    "report": "benchmark",
    "design": "U",
    "model": {"name": "linear", "kernel_init": "zeros"},
    "sampling": "full",
    "scale_factor": [0.1, 1.0, 10.0],
    "learning_rate": [1e-3, 1e-2, 0.1, 0.3, 1.0],
    "updates": 200,
    "optimizer": ["sgd", "adam", "sign_sgd"],
    "seeds": 16,
    "blocks": {
        "easy": {"problem": {"name": "gaussian", "samples": 32}},
        "correlated": {"problem": {"name": "gaussian", "samples": 32, "correlation": 0.5}},
        "wide": {"problem": {"name": "gaussian", "samples": 32, "features": 3}},
        "wide-control": {
            "problem": {"name": "gaussian", "samples": 32, "features": 3},
            "optimizer": "scaling_study.engine.optimizers:newton",
        },
    },
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return scaling_study.run(STUDY, output_dir=tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def report(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(results, tmp_path_factory.mktemp("reports") / "small").parent


def test_the_leaderboard_is_computed_from_the_scores_that_are_written(report, results) -> None:
    scores = ranking.check(pd.read_csv(report / "scores.csv"))
    board = pd.read_csv(report / "leaderboard.csv", dtype={"group": "Int64"})
    again = ranking.leaderboard(scores)
    pd.testing.assert_frame_equal(board, again, check_dtype=False, atol=1e-6)
    computed = benchmark.scores(benchmark.grids_of(results), benchmark.budgets_of(results))
    np.testing.assert_allclose(scores["others"], computed["others"], atol=1e-4)
    assert len(scores) == 3 * 3 * 16


def test_every_figure_is_shown_and_has_its_numbers(report: Path) -> None:
    page = (report / "index.html").read_text()
    drawn = {path.stem for path in (report / "figures").glob("*.svg")}
    assert drawn == set(re.findall(r"figures/([\w-]+)\.svg", page))
    names = {"leaderboard", "profiles", "problems", "budgets", "targets"}
    assert {stem[3:] for stem in drawn} == names


def test_the_lead_says_what_adam_and_sgd_lose(report: Path) -> None:
    board = pd.read_csv(report / "leaderboard.csv").set_index("optimizer")
    text = " ".join((report / "report.md").read_text().split())
    for name in ("adam", "sgd"):
        share = labels.hundredths(board.loc[name, "sensitivity"])
        assert re.search(rf"{name}( loses)? {share}", text)
    assert "over 3 small problems" in text


def test_the_controls_are_shown(report: Path) -> None:
    text = (report / "report.md").read_text()
    told = next(line for line in text.splitlines() if line.startswith("| adam that is told"))
    assert "| nothing |" in told
    assert "0.00" in told
    newton = next(line for line in text.splitlines() if line.startswith("| newton"))
    assert re.search(r"\| nothing \| -?0\.0\d .*\| 1 \|", newton)
    board = pd.read_csv(report / "leaderboard.csv")
    assert not board["optimizer"].str.contains("newton").any()  # controls are not ranked


@pytest.mark.slow
def test_a_list_of_trials_is_shown_beside_the_rate_alone(tmp_path: Path) -> None:
    study = read_study("benchmark-trials")
    grid = study.blocks["linear-2"]
    few = [o for o in grid["optimizer"] if dict(o.parameters)["rule"] in ("adam", "sgd")]
    small = replace(study, blocks={"linear-2": {**grid, "optimizer": few}})
    runs = scaling_study.run(small, output_dir=tmp_path / "runs")
    page = write_report(runs, tmp_path / "page").parent
    text = (page / "report.md").read_text()
    board = pd.read_csv(page / "leaderboard.csv").set_index("optimizer")
    assert set(board.index) == {"adam", "sgd"}
    alone = ranking.by_optimizer(data.committed().query("problem == 'linear-2'"))
    alone = alone.set_index("optimizer")["sensitivity"]
    table = pd.read_csv(page / "trials.csv").set_index("optimizer")
    for name in board.index:
        np.testing.assert_allclose(table.loc[name, "sensitivity_alone"], alone[name])
        np.testing.assert_allclose(table.loc[name, "sensitivity"], board.loc[name, "sensitivity"])
    less = (table["sensitivity"] < table["sensitivity_alone"]).sum()
    assert f"With the list of trials {less} of 2 optimizers are less sensitive" in text


def test_the_schema_describes_every_column_of_the_scores(report: Path) -> None:
    schema = json.loads((report / "schema.json").read_text())
    scores = pd.read_csv(report / "scores.csv")
    assert list(scores) == [name for name in schema["properties"] if name in scores]
    assert set(scores) == set(schema["required"])
    for name, rule in schema["properties"].items():
        kinds = np.atleast_1d(rule["type"])
        assert scores[name].notna().all() or "null" in kinds
        if "number" in kinds:
            assert scores[name].dropna().between(rule["minimum"], rule.get("maximum", np.inf)).all()


@pytest.mark.slow
def test_the_same_runs_make_the_same_bytes(report, results, tmp_path) -> None:
    again = write_report(results, tmp_path / "again").parent
    files = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert all((report / f).read_bytes() == (again / f).read_bytes() for f in files)


def test_stability_is_told_of_problems_and_seeds(report: Path) -> None:
    text = (report / "report.md").read_text()
    for part in ("two halves of the problems", "without one problem", "two sets of seeds"):
        assert part in text


def test_committed_results_stand_beside_those_of_the_same_problems_only() -> None:
    known = read_study("benchmark")
    mine = {"optimizer": ["my_module:mine"]}
    block = {**next(iter(known.blocks.values())), **mine}
    study = replace(known, blocks={"linear-2": block})
    found = data.beside(study)
    assert set(found["problem"]) == {"linear-2"}
    assert set(found["optimizer"]) == set(data.committed()["optimizer"])
    other = replace(known, blocks={"linear-2": {**block, "updates": [60]}})
    assert data.beside(other).empty
    assert data.beside(study.with_seeds("16:32")).empty


def test_the_committed_scores_are_those_of_the_preset() -> None:
    for name in ("benchmark", "benchmark-trials"):
        stored = Path(__file__).parents[2] / "reports" / name / "study.toml"
        assert stored.read_text(encoding="utf-8") == read_study(name).to_toml()
    assert list(data.committed()["problem"].unique()) == benchmark.problems_of(
        read_study("benchmark")
    )


def test_controls_without_their_problem_are_refused() -> None:
    control = STUDY["blocks"]["wide-control"]
    with pytest.raises(StudyError, match=r"blocks.wide-control has controls of blocks.wide, which"):
        parse({**STUDY, "blocks": {"wide-control": control}})


def test_the_rate_alone_is_that_of_the_same_problems_and_seeds_only() -> None:
    study = read_study("benchmark-trials")
    assert set(data._rate_alone(study)["problem"]) == set(study.blocks)
    assert data._rate_alone(study.with_seeds("0:8")).empty
    other = replace(study, blocks={"linear-2": {**study.blocks["linear-2"], "updates": [60]}})
    assert data._rate_alone(other).empty
    assert data._rate_alone(read_study("benchmark")).empty


def test_what_is_trained_is_not_also_taken_from_the_committed_results() -> None:
    assert data.beside(read_study("benchmark")).empty


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of one optimizer that stands beside committed results."""
    from scaling_study.execution.rank import study_of

    folder = tmp_path_factory.mktemp("ranked")
    study = study_of(["sign_sgd"], ["linear-2"])
    return write_report(
        scaling_study.run(study, output_dir=folder / "runs"), folder / "page"
    ).parent


@pytest.mark.slow
def test_an_optimizer_beside_committed_results_opens_the_page_and_is_marked(ranked: Path) -> None:
    board = pd.read_csv(ranked / "leaderboard.csv", dtype={"group": "Int64"})
    mine = board.set_index("optimizer").loc["sign_sgd"]
    text = (ranked / "report.md").read_text()
    lead = text.split("\n\n")[1]
    assert lead.startswith(f"sign sgd loses {labels.hundredths(mine['sensitivity'])} of its time")
    assert f"group {mine['group']} of {board['group'].max()}; adam loses" in lead
    assert text.count("An asterisk marks what was trained here") == 3
    assert text.count("| * sign sgd |") == 2  # both parts of the leaderboard
    assert "In each of thirteen" not in text


def test_an_optimizer_that_is_not_ranked_is_named_first(ranked: Path) -> None:
    results = load(ranked.parent / "runs")
    frames = data.frames(results)
    mine = frames.leaderboard["optimizer"] == "sign_sgd"
    board = frames.leaderboard.assign(
        group=frames.leaderboard["group"].mask(mine),
        status=frames.leaderboard["status"].mask(mine, "not trained"),
    )
    found = facts(frames._replace(leaderboard=board), results.study)
    lead = Words(data.__package__ or "", **found)("lead")
    assert lead.startswith("Not ranked, as hardly trained in unit 1 or failed: sign sgd. When one")
    assert "adam loses" in lead


def test_nothing_is_marked_where_all_was_trained(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert "asterisk" not in text
    assert "groups, between which other seeds rarely move one: adam; " in text.split("\n\n")[1]
