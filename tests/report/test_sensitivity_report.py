"""The sensitivity's page: everything is there, and says what the runs say."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scaling_study
from scaling_study.analysis import scale_sensitivity
from scaling_study.analysis.metrics import Table
from scaling_study.report import sensitivity as page
from scaling_study.report.page import write_report
from scaling_study.storage.results import Results
from scaling_study.study.study import read_study

STUDY = {
    "name": "small",
    "report": "sensitivity",
    "problem": {"name": "gaussian", "samples": 32},
    "design": "U",
    "model": {"name": "linear", "kernel_init": "zeros"},
    "scale_factor": [0.1, 1.0, 10.0],
    "learning_rate": [1e-3, 1e-2, 0.1, 1.0],
    "updates": 100,
    "optimizer": ["sgd", "adam", "rprop"],
    "seeds": 8,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return scaling_study.run(STUDY, output_dir=tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def report(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(results, tmp_path_factory.mktemp("reports") / "small").parent


def test_the_leaderboard_is_that_of_the_runs(report: Path, results: Results) -> None:
    stored = pd.read_csv(report / "leaderboard.csv")
    found = scale_sensitivity.leaderboard(scale_sensitivity.grids(Table(results)))
    pd.testing.assert_frame_equal(stored, found, check_dtype=False)
    assert len(stored) == 3


def test_every_figure_is_shown_and_has_its_numbers(report: Path) -> None:
    page = (report / "index.html").read_text()
    drawn = {path.stem for path in (report / "figures").glob("*.svg")}
    assert drawn == set(re.findall(r"figures/([\w-]+)\.svg", page))
    assert drawn == {path.stem for path in (report / "tables" / "figures").glob("*.csv")}
    assert len(drawn) == 3


def test_the_answer_names_who_loses_most(report: Path) -> None:
    board = pd.read_csv(report / "leaderboard.csv")
    worst = board.dropna(subset=["rank"]).iloc[-1]
    said = (report / "report.md").read_text().splitlines()[2]
    assert f"{worst['optimizer']} loses {100 * worst['sensitivity']:.1f} %" in said
    assert said.startswith("3 optimizers, each with the same 4 learning rates")


def test_the_same_runs_make_the_same_bytes(report: Path, results: Results, tmp_path: Path) -> None:
    again = write_report(results, tmp_path / "again").parent
    files = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert all((report / f).read_bytes() == (again / f).read_bytes() for f in files)


def board_of(*rows: tuple[str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["optimizer", "sensitivity"])
    ends = {"sensitivity_low": -0.05, "sensitivity_high": 0.5, "phi": 0.2, "rates": 4}
    frame["status"] = "ranked"
    return frame.assign(rank=pd.array(range(1, len(frame) + 1), "Int64"), **ends)


def test_where_none_is_ranked_that_is_the_answer() -> None:
    board = board_of(("sgd", 0.0), ("adam", 0.0))
    board["rank"] = pd.array([pd.NA, pd.NA], "Int64")
    (said,) = page.answer(board)
    assert "None of 2 optimizers goes half of the way at scale factor 1" in said
    assert "4 learning rates" in said


def test_a_loss_below_zero_is_not_called_a_small_one() -> None:
    said = " ".join(page.answer(board_of(("sgd", -0.05), ("adam", -0.05))))
    assert "adam loses \N{MINUS SIGN}5.00 %" in said
    assert "Adam loses \N{MINUS SIGN}5.00 %" in said


def test_what_has_no_numbers_is_named_and_its_cells_are_empty() -> None:
    numbers = {key: [0.1, np.nan, np.nan] for key in page.COLUMNS}
    board = pd.DataFrame(
        {
            "rank": pd.array([1, pd.NA, pd.NA], "Int64"),
            "optimizer": ["sgd", "mine:uphill", "mine:broken"],
            "status": ["ranked", "diverged", "failed"],
            **numbers,
            **{f"sensitivity_{end}": [0.1, np.nan, np.nan] for end in ("low", "high")},
            "rates": 4,
        }
    )
    table = page.shown(board)
    assert table["rank"].tolist() == ["1", "diverged", "failed"]
    assert (table.iloc[1:, 2:] == "").all(axis=None)
    said = " ".join(page.answer(board))
    assert "Every run of mine:uphill made no progress and diverged." in said
    assert "Every run of mine:broken failed." in said
    figure = page.draw_leaderboard(board)
    assert {text.get_text() for text in figure.axes[0].texts} == {"diverged", "failed"}


def test_limits_are_those_of_the_study(report: Path) -> None:
    said = " ".join(page.limits(read_study({**STUDY, "dialect": "torch", "sampling": "full"})))
    assert "gaussian(samples=32)" in said
    assert "The full batch, 100 updates" in said
    assert "PyTorch's default" in said
    for other in ("Two features", "Optax", "Schedule-free", "mini-batches"):
        assert other not in said
    assert "Schedule-free" in " ".join(page.limits(read_study("sensitivity")))
    assert "Batches of 32, 100 updates" in (report / "report.md").read_text()
