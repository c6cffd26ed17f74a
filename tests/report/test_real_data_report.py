"""The report on real data: words that follow whole intervals, and texts that fit the study."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_study import Build

from scaling_study.analysis import held_out
from scaling_study.report import real_data
from scaling_study.report.page import write_report
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
    assert {stem[3:] for stem in drawn} == {"scores", "standard-or-raw", "rates", "planted"}


def test_splits_of_the_same_rows_have_the_wider_intervals(report: Path) -> None:
    table = pd.read_csv(report / "tables" / "rates.csv", keep_default_na=False)
    own = table[(table["learning_rate"] == 0.01) & (table["scaler"] == "standard")]
    reach = (own["high"] - own["low"]).groupby(own["problem"]).first()
    overlap = held_out.datasets.overlap("diabetes")
    assert reach["diabetes"] / reach["friedman2"] == pytest.approx((1 + 8 * overlap) ** 0.5)
    assert set(own["n"]) == {8}


def test_where_no_rate_trained_it_says_so(report: Path) -> None:
    text = (report / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| diabetes | linear | adam")]
    tuned = [row for row in rows if "| tuned | none (raw) |" in row]
    assert len(tuned) == 1
    assert "| 0, none trained |" in tuned[0]
    assert "in 1 of 1 combinations no rate of the grid trained" in text
    assert "in 4, 4 of them of raw columns, no rate of the grid was better than chance" in text


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
    own = differences(
        *(("a", -0.1, 0.01), ("a", -0.01, 0.019)),
        *(("b", -0.1, 0.01), ("b", -0.01, 0.3)),  # one scaler may well be needed
        *(("c", 0.03, 0.3), ("c", -0.1, 0.3)),
        *(("d", np.nan, np.nan), ("d", -0.1, 0.01)),
    )
    text = " ".join(real_data._of_need(own))
    assert "some scaler surely gained more than 0.02 over the raw columns in 1 of 4" in text
    assert "For a (linear, sgd) no scaler was needed: at tuned rates none gained more" in text
    assert "For b (linear, sgd) and d (linear, sgd) it is undecided" in text


def test_limits_are_those_of_the_study() -> None:
    runs = held_out.run_scores(runs_of_one_cell())
    grid = {"problem": "friedman2", "model": {"name": "mlp", "hidden": 5}, "epochs": 7}
    text = " ".join(real_data.limits(read_study(grid), runs))
    assert "7 epochs" in text
    assert "mlp(hidden=5)" in text
    assert "best of 1 for scaled ones" in text
    for other in ("Outliers", "Nadeau", "powers of ten", "16 units"):
        assert other not in text


def test_the_caption_names_the_column_of_the_data(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert "The column is bmi of diabetes and worst area of breast cancer." in text
    assert "Heavy tails" not in text
    named = pd.Series(["diabetes(feature=age)"])
    assert not any("column" in words for words in real_data._planted(named))


def test_what_was_planted_is_named_by_its_numbers() -> None:
    assert real_data._trouble("diabetes", 1.0) == "as it is"
    assert real_data._trouble("diabetes", 100.0) == "unit × 100"
    assert real_data._trouble("diabetes(outliers=0.02)", 1.0) == "outliers, 2 %"
    assert real_data._trouble("diabetes(heavy_tails=True)", 1.0) == "heavy tails"
