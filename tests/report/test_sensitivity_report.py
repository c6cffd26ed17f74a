"""The sensitivity report: everything is there, and says what the runs say."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scaling_study
from scaling_study.analysis import scale_sensitivity
from scaling_study.analysis.metrics import Table
from scaling_study.report.document import Words
from scaling_study.report.page import write_report
from scaling_study.report.sensitivity import data, figures
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


def block(name: str, board: pd.DataFrame, study: object = STUDY) -> str:
    """Return a block of the text for a leaderboard and a study."""
    return Words(data.__package__ or "", **data.facts(board, read_study(study)))(name)


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
    assert {stem[3:] for stem in drawn} == {"leaderboard", "kept-rate", "map"}


def test_the_lead_names_who_loses_most(report: Path) -> None:
    board = pd.read_csv(report / "leaderboard.csv")
    worst = board.dropna(subset=["rank"]).iloc[-1]
    text = (report / "report.md").read_text()
    assert f"{worst['optimizer']} loses {100 * worst['sensitivity']:.1f} %" in text.splitlines()[2]
    assert "Each of 3 optimizers was trained with the same 4 learning rates" in text


def test_the_same_runs_make_the_same_bytes(report: Path, results: Results, tmp_path: Path) -> None:
    again = write_report(results, tmp_path / "again").parent
    files = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert all((report / f).read_bytes() == (again / f).read_bytes() for f in files)


def board_of(*rows: tuple[str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["optimizer", "sensitivity"])
    ends = {"sensitivity_low": -0.05, "sensitivity_high": 0.5, "phi": 0.2}
    rank = pd.array(range(1, len(frame) + 1), "Int64")
    return frame.assign(status="ranked", rank=rank, rates=4, edges=0, n=4, **ends)


def test_where_none_is_ranked_that_is_the_answer() -> None:
    board = board_of(("sgd", 0.0), ("adam", 0.0))
    board["rank"] = pd.array([pd.NA, pd.NA], "Int64")
    lead = block("lead", board)
    assert "None of 2 optimizers makes half of the progress" in lead
    assert "4 learning rates" in lead


def test_a_loss_below_zero_is_not_called_a_small_one() -> None:
    board = board_of(("sgd", -0.05), ("adam", -0.05))
    lead = block("lead", board)
    assert "adam loses \N{MINUS SIGN}5.00 %" in lead
    assert "below 1 % for no optimizer" in lead
    assert "adam loses \N{MINUS SIGN}5.00 %" in block("section_kept_rate", board)
    assert "not scale-invariant" not in block("section_kept_rate", board)


def test_an_optimizer_is_insensitive_where_its_whole_interval_is() -> None:
    board = board_of(("rprop", 0.0), ("adam", 0.4)).assign(sensitivity_low=[0.0, 0.3])
    board["sensitivity_high"] = [0.01, 0.5]
    assert "The 95 % interval lies below 1 % only for rprop." in block("lead", board)
    assert "not scale-invariant" in block("section_kept_rate", board)


def test_what_has_no_numbers_is_named_and_its_cells_are_empty() -> None:
    numbers = {key: [0.1, np.nan, np.nan] for key in (*data.MAIN, *data.DETAILS, "edges")}
    board = pd.DataFrame(
        {
            "rank": pd.array([1, pd.NA, pd.NA], "Int64"),
            "optimizer": ["sgd", "mine:uphill", "mine:broken"],
            "status": ["ranked", "diverged", "failed"],
            **numbers,
            **{f"sensitivity_{end}": [0.1, np.nan, np.nan] for end in ("low", "high")},
            **{"rates": 4, "n": 4},
        }
    )
    table = data.shown(board)
    assert table["rank"].tolist() == ["1", "diverged", "failed"]
    assert (table.iloc[1:, 2:] == "").all(axis=None)
    main, details = data.for_page(board)
    assert main["sensitivity"].tolist() == ["0.10\n0.10 to 0.10", "", ""]
    assert (details.iloc[1:, 1:] == "").all(axis=None)
    lead = block("lead", board)
    assert "Every run of mine:uphill diverged without progress." in lead
    assert "Every run of mine:broken failed." in lead
    figure = figures.leaderboard(board)
    assert {text.get_text() for text in figure.axes[0].texts} == {"diverged", "failed"}


def test_limits_are_those_of_the_study(report: Path) -> None:
    board = board_of(("sgd", 0.1))
    limits = block("limits", board, {**STUDY, "framework": "torch", "sampling": "full"})
    assert "gaussian(samples=32)" in limits
    assert "The full batch, 100 updates" in limits
    assert "the default of PyTorch" in limits
    for other in ("Two features", "Optax", "Schedule-free", "mini-batches"):
        assert other not in limits
    assert "Schedule-free" in block("limits", board, "sensitivity")
    assert "Batches of 32, 100 updates" in (report / "report.md").read_text()
