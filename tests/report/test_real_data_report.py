"""The report on real data: outcomes that whole intervals decide, and texts that fit the study."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_study import Build

from scaling_study.analysis import held_out
from scaling_study.report.document import Words
from scaling_study.report.page import write_report
from scaling_study.report.real_data import data, figures
from scaling_study.storage.results import Results
from scaling_study.study.conditions import Condition
from scaling_study.study.study import read_study

BOTH = {"epochs": 3, "scaler": ["none", "standard"]}
RATES = [1e-3, 1e-2, 0.1]
BLOCKS: dict[str, Any] = {
    "regression": {"problem": ["diabetes", "friedman2"], **BOTH},
    "regression-raw": {"problem": ["diabetes", "friedman2"], "learning_rate": [1e-4], "epochs": 3},
    "classes": {"problem": "breast_cancer", **BOTH},
    "digits": {"problem": "digits", **BOTH},
    "factor": {"problem": "diabetes", "scale_factor": 1000.0, **BOTH},
    "factor-classes": {"problem": "breast_cancer", "scale_factor": 1000.0, **BOTH},
    "trouble": {"problem": {"name": "diabetes", "outliers": 0.02}, **BOTH},
    "trouble-classes": {"problem": {"name": "breast_cancer", "outliers": 0.02}, **BOTH},
    "untroubled": {"problem": "diabetes", "scaler": "quantile", "epochs": 3},
    "untroubled-classes": {"problem": "breast_cancer", "scaler": "quantile", "epochs": 3},
}


def score(row: dict[str, Any], condition: Condition) -> None:
    """Score best at 0.01; raw columns worse, and with a factor no better than chance."""
    raw, far = condition.scaler.name == "none", condition.scale_factor != 1
    good = 0.7 if condition.learning_rate == 0.01 else 0.65
    value = good - 0.2 * raw + 0.01 * (row["seed"] % 4)
    classes = condition.problem.name in ("breast_cancer", "digits")
    row["status"] = "not_converged"
    row["test_r2"] = None if classes else -1.0 if raw and far else value
    row["test_accuracy"] = (0.3 if raw and far else value) if classes else None


@pytest.fixture(scope="module")
def results(build: Build) -> Results:
    keys = {"design": "U", "scale_factor": 1.0, "learning_rate": RATES, "report": "real-data"}
    return build(BLOCKS, seeds=(0, 8), change=score, **keys)


@pytest.fixture(scope="module")
def report(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(results, tmp_path_factory.mktemp("reports") / "small").parent


def test_every_figure_is_shown_and_has_its_numbers(report: Path) -> None:
    page = (report / "index.html").read_text()
    drawn = {path.stem for path in (report / "figures").glob("*.svg")}
    assert drawn == set(re.findall(r"figures/([\w-]+)\.svg", page))
    assert {stem[3:] for stem in drawn} == {"gains", "scores", "rates", "corruption"}


def test_splits_of_the_same_rows_have_the_wider_intervals(report: Path) -> None:
    table = pd.read_csv(report / "tables" / "rates.csv", keep_default_na=False)
    rows = table[(table["learning_rate"] == 0.01) & (table["scaler"] == "standard")]
    reach = (rows["high"] - rows["low"]).groupby(rows["problem"]).first()
    overlap = held_out.datasets.overlap("diabetes")
    assert reach["diabetes"] / reach["friedman2"] == pytest.approx((1 + 8 * overlap) ** 0.5)
    assert set(rows["n"]) == {8}


def test_where_no_rate_trained_it_says_so(report: Path) -> None:
    text = (report / "report.md").read_text()
    table = text.partition("**Scores in two units, at tuned")[2].partition("\n**")[0]
    start = "| diabetes | none (raw) | linear, adam"
    (row,) = [line for line in table.splitlines() if line.startswith(start)]
    assert row.startswith(f"{start} | 0.515 | 0, none trained (×\N{NO-BREAK SPACE}1000)")
    assert "no learning rate of the grid trains on raw columns in 2 of 2 combinations" in text
    assert "In 4 cells (4 with raw columns) no learning rate is better than chance" in text


def runs_of_one_cell() -> pd.DataFrame:
    frame = pd.DataFrame({"seed": range(4), "learning_rate": 0.1, "test_r2": 0.5})
    return frame.assign(
        block="b", problem="p", model="m", optimizer="sgd", scale_factor=1, scaler="s", status="ok"
    )


def differences(*ends: tuple[str, float, float]) -> pd.DataFrame:
    """Return tuned differences of two scalers for each problem."""
    frame = pd.DataFrame(ends, columns=["problem", "low", "high"])
    return frame.assign(
        block="regression", model="linear", optimizer="sgd", scaler="standard", rates="tuned",
        value=(frame["low"] + frame["high"]) / 2,
    )  # fmt: skip


def test_what_is_undecided_is_not_called_fine() -> None:
    frame = differences(
        *(("a", -0.1, 0.01), ("a", -0.01, 0.019)),
        *(("b", -0.1, 0.01), ("b", -0.01, 0.3)),  # one scaler may well be needed
        *(("c", 0.03, 0.3), ("c", -0.1, 0.3)),
        *(("d", np.nan, np.nan), ("d", -0.1, 0.01)),
    )
    found = data.scaler_needed(frame).set_index("data")["linear, sgd"]
    assert found.to_dict() == {"a": "no", "b": "undecided", "c": "yes", "d": "undecided"}


def test_whole_intervals_decide_an_outcome() -> None:
    ends = [(0.021, 0.3), (-0.3, -0.021), (-0.019, 0.019), (-0.1, 0.021), (0.02, 0.3)]
    frame = differences(*(("p", low, high) for low, high in ends))
    counts = data.outcomes(frame).loc["tuned"].to_dict()
    assert counts == {"better": 1, "worse": 1, "same": 1, "undecided": 2, "combinations": 5}
    assert not len(data.outcomes(frame.iloc[:0]))


def block(name: str, runs: pd.DataFrame, study: object) -> str:
    """Return a block of the text of runs and a study."""
    tuned = held_out.runs_at_tuned_rate(runs)
    by = [*held_out.CELL, "rates", "measure", "trained"]
    scores = held_out.mean_scores(tuned.assign(rates="tuned", trained=True), by)
    by_rate = held_out.mean_scores(runs, [*held_out.CELL, "learning_rate"])
    frames = data.Frames(runs, tuned, scores, by_rate, differences(), differences())
    return Words(data.__package__ or "", **data.facts(frames, read_study(study)))(name)


def test_limits_are_those_of_the_study() -> None:
    runs = held_out.run_scores(runs_of_one_cell())
    grid = {"problem": "friedman2", "model": {"name": "mlp", "hidden": 5}, "epochs": 7}
    text = block("limits", runs, grid)
    assert "7 epochs" in text
    assert "mlp(hidden=5)" in text
    assert "best of 1 for scaled columns" in text
    for other in ("Outliers", "Nadeau", "powers of ten", "16 units"):
        assert other not in text
    assert "No combination" in block("lead", runs, grid)


def test_the_caption_names_the_column_of_the_data(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert "The column is bmi of diabetes and worst area of breast cancer." in text
    assert "Heavy tails:" not in text
    assert data.changed_columns(pd.Series(["diabetes(feature=age)"])) == ""


def test_what_was_changed_is_named_by_its_numbers() -> None:
    assert data.corruption_name("diabetes", 1.0) == "unchanged"
    assert data.corruption_name("diabetes", 100.0) == "unit × 100"
    assert data.corruption_name("diabetes(outliers=0.02)", 1.0) == "outliers, 2 %"
    assert data.corruption_name("diabetes(heavy_tails=True)", 1.0) == "heavy tails"


def test_unchanged_data_are_drawn_first(report: Path) -> None:
    frame = pd.read_csv(next(report.glob("tables/figures/*-corruption.csv")), keep_default_na=False)
    axes = figures.corruption(frame[::-1]).axes[0]
    kinds = [label.get_text() for label in axes.get_yticklabels()]
    assert kinds[0] == "unchanged"
    assert sorted(kinds[1:]) == ["outliers, 2 %", "unit × 1000"]
