"""The README and docs/: every number that they state is in the committed reports."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from scaling_study.analysis.attribution import FEWEST, UNIT_FREE
from scaling_study.study.study import AXES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
DOCUMENTATION = " ".join(" ".join(page.read_text(encoding="utf-8") for page in PAGES).split())
PAPER = (ROOT / "reports" / "paper" / "report.md").read_text(encoding="utf-8")
LEDGER = {
    entry["id"]: entry
    for entry in json.loads((ROOT / "reports" / "paper" / "claims.json").read_text("utf-8"))
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_picture_and_link_is_there(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_the_readme_is_read_in_one_sitting():
    assert len(README.splitlines()) <= 150


def test_every_page_can_be_reached_from_the_readme():
    seen, todo = set(), [PAGES[0]]
    while todo:
        page = todo.pop().resolve()
        if page in seen or page.suffix != ".md" or "reports" in page.parts:
            continue
        seen.add(page)
        text = page.read_text(encoding="utf-8")
        todo += [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    assert {page.resolve() for page in PAGES} <= seen


def test_the_runs_are_those_of_the_paper():
    (runs,) = re.findall(r"The study has ([\d,]+) runs", PAPER)
    assert round(int(runs.replace(",", "")) / 1e6, 2) == 1.67
    assert "1.67 million" in README
    assert "24 sentences" in README
    assert sum(name.startswith("C") for name in LEDGER) == 24


def test_theory_agrees_as_often_as_is_said():
    (said,) = re.findall(r"in every one of ([\d,]+) runs", DOCUMENTATION)
    assert f"of the {said} runs where neither is beyond the budget" in PAPER
    assert "100 % agree within 2 %" in PAPER


@pytest.mark.parametrize(
    ("claim", "verdict", "depends_on"),
    [("C4", "supported", None), ("C6", "refuted", None), ("C24", "depends", "target_scaler")],
)
def test_the_answer_is_the_papers(claim, verdict, depends_on):
    assert (LEDGER[claim]["verdict"], LEDGER[claim]["depends_on"]) == (verdict, depends_on)


def test_scaling_helps_as_often_as_is_said():
    cells = pd.read_csv(ROOT / "reports" / "paper" / "tables" / "claims" / "C24.csv")
    for rates in ("default", "tuned"):
        own = cells[cells["rates"] == rates]
        counts = own["outcome"].value_counts()
        said = f"{counts['beyond']} of {len(own)} cells at {rates} learning rates"
        assert said in DOCUMENTATION, said
    scaled = cells[(cells["rates"] == "tuned") & (cells["target_scaler"] == "none")]
    assert (scaled["outcome"] == "equivalent").all()  # where the target is raw, nothing trains


def test_raw_inputs_are_slower_in_every_cell():
    cells = pd.read_csv(ROOT / "reports" / "paper" / "tables" / "claims" / "C7.csv")
    assert (cells["outcome"] == "beyond").all()
    assert f"in all {len(cells)} cells" in DOCUMENTATION


def test_standardising_helps_real_tables_as_often_as_is_said():
    table = pd.read_csv(ROOT / "reports" / "real-data" / "tables" / "outcomes.csv", index_col=0)
    usual, tuned = (table.loc[rates, "better"] for rates in ("default", "tuned"))
    assert (table["combinations"] == 26).all()
    assert f"helps in {usual} of 26 combinations" in DOCUMENTATION
    assert f"and in {tuned} at tuned ones" in DOCUMENTATION


def test_intervals_cover_as_often_as_is_said():
    covered = pd.read_csv(ROOT / "reports" / "paper" / "tables" / "coverage.csv")
    most = covered[covered["n"] == covered["n"].max()]
    low, high = most["coverage"].min(), most["coverage"].max()
    said = f"cover {100 * low:.0f} to {100 * high:.0f} % of {most['studies'].max():,} simulated"
    assert said in DOCUMENTATION


@pytest.mark.parametrize("control", ["N1", "N2"])
def test_negative_controls_come_out_as_none(control):
    assert LEDGER[control]["verdict"] == "refuted"


def test_every_axis_is_explained():
    for axis in AXES:
        assert f"`{axis}`" in DOCUMENTATION, axis


def test_the_leaderboard_says_what_the_readme_does():
    board = pd.read_csv(ROOT / "reports" / "sensitivity" / "leaderboard.csv", index_col="optimizer")
    lost = board["sensitivity"]
    assert f"reproduce sensitivity              # {len(board)} optimizers" in README
    assert lost["newton"] < 1e-3
    assert 0.35 < lost["adam"] < 0.45  # two fifths
    assert 0.85 < lost["sgd"] < 0.95  # nine tenths
    assert set(board["rates"]) == {19}


def of_importances(name: str) -> pd.DataFrame:
    """Return a table of the report, of the last column as it comes but in another unit or zero."""
    file = ROOT / "reports" / "importance" / "tables" / f"{name}.csv"
    table = pd.read_csv(file, keep_default_na=False, na_values=[""])
    table = table[(table["part"] == "inputs") & (table["scaler"] == "none")]
    return table[(table["scale_factor"] != 1) | (table["offset"] != 0)]


def test_what_units_do_to_importances_is_what_the_report_measured():
    read = of_importances("differences").query("scale_factor != 1").dropna(subset=["value"])
    free = read["method"].isin(UNIT_FREE)
    counts = [f"{(own['low'] > 0.05).sum()} of {len(own)}" for own in (read[~free], read[free])]
    assert f"by more than 0.05 in {counts[0]} comparisons" in DOCUMENTATION
    assert f"and integrated gradients in {counts[1]}." in DOCUMENTATION
    fit = of_importances("fit")
    assert (
        f"In {(fit['fitting'] < FEWEST).sum()} of {len(fit)} cells of raw inputs" in DOCUMENTATION
    )
    last = of_importances("last")
    decoy = last["problem"].str.startswith("decoy") & (last["method"] == "weight")
    most = last[decoy].set_index("scale_factor")["value"]
    assert f"up to {most.max():.0%} of the weight".replace("%", " %") in DOCUMENTATION
    assert most.idxmax() < 1  # "in units that make its numbers small"
