"""The README and docs/: every number that they state is in the committed reports."""

import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from scaling_study.analysis.attribution import FEWEST, UNIT_FREE
from scaling_study.cli.app import app
from scaling_study.cli.catalogue import scaled_feature
from scaling_study.study.datasets import EVERY_PROBLEM
from scaling_study.study.study import AXES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
DOCUMENTATION = " ".join(" ".join(page.read_text(encoding="utf-8") for page in PAGES).split())
PAPER = (ROOT / "reports" / "paper" / "report.md").read_text(encoding="utf-8")
LEDGER = {
    (entry["id"], entry["models"]): entry
    for entry in json.loads((ROOT / "reports" / "paper" / "claims.json").read_text("utf-8"))
}


def cells_of(claim: str) -> pd.DataFrame:
    """Return the cells of a claim in the committed paper."""
    return pd.read_csv(ROOT / "reports" / "paper" / "tables" / "claims" / f"{claim}.csv")


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
    (runs, networks) = re.findall(r"The study has ([\d,]+) runs, ([\d.]+) % of them", PAPER)[0]
    assert f"{int(runs.replace(',', '')) / 1e6:.2f} million trainings" in README
    assert 25 < float(networks) < 30  # more than a quarter
    assert "24 sentences" in README
    assert len({name for name, _ in LEDGER if name.startswith("C")}) == 24


def test_theory_agrees_as_often_as_is_said():
    (said,) = re.findall(r"in every one of ([\d,]+) runs", DOCUMENTATION)
    assert f"of the {said} runs where neither is beyond the budget" in PAPER
    assert "100 % agree within 2 %" in PAPER


def test_the_answer_is_the_papers():
    counts = Counter(
        entry["verdict"]
        for (_, models), entry in LEDGER.items()
        if models == "networks" and not entry["control"]
    )
    tested = counts.total() - counts["not testable"]
    said = f"of the {tested} sentences that could be tested on networks, {counts['supported']} are"
    assert f"{said} supported and {counts['refuted']} refuted" in DOCUMENTATION


def test_raw_inputs_are_slower_as_often_as_is_said():
    entry = LEDGER["C7", "networks"]
    assert f"slower than on scaled ones in {entry['beyond']} of {entry['cells']}" in DOCUMENTATION
    assert entry["opposite"] == 0  # faster in none
    linear = LEDGER["C7", "linear"]
    assert linear["beyond"] == linear["cells"] == 48  # as an independent replication found


def test_scaling_helps_as_often_as_is_said():
    entry, cells = LEDGER["C24", "networks"], cells_of("C24-networks")
    assert f"error in {entry['beyond']} of {entry['cells']};" in DOCUMENTATION
    tuned = cells[(cells["rates"] == "tuned") & (cells["optimizer"] == "adam")]
    beyond = (tuned["outcome"] == "beyond").sum()
    assert f"tuned learning rate, in {beyond} of {len(tuned)}." in DOCUMENTATION


def test_a_unit_changes_what_is_read_more_than_what_is_computed():
    cells = cells_of("C10-networks").query("rates == 'tuned'")
    cells = cells[cells["updates"] == cells["updates"].max()]
    computed = cells["measure"].str.endswith("permutation")
    for part, words in ((cells[~computed], "0.05 in {} of {} cells"),
                        (cells[computed], "computes, in {} of {}.")):  # fmt: skip
        beyond = (part["outcome"] == "beyond").sum()
        assert words.format(beyond, len(part)) in DOCUMENTATION


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


def test_no_cell_of_a_negative_control_has_an_effect():
    controls = [entry for entry in LEDGER.values() if entry["control"]]
    assert len(controls) == 5
    for entry in controls:
        assert entry["beyond"] + entry["opposite"] == 0
        assert entry["verdict"] != "supported"


def test_every_axis_is_explained():
    for axis in AXES:
        assert f"`{axis}`" in DOCUMENTATION, axis


def test_the_leaderboard_says_what_the_readme_does():
    board = pd.read_csv(ROOT / "reports" / "sensitivity" / "leaderboard.csv", index_col="optimizer")
    lost = board["sensitivity"]
    assert re.search(rf"reproduce sensitivity +# {len(board)} optimizers", README)
    assert lost["newton"] < 1e-3
    assert 0.35 < lost["adam"] < 0.45  # two fifths
    assert 0.85 < lost["sgd"] < 0.95  # nine tenths
    assert set(board["rates"]) == {19}


def test_the_benchmark_says_what_the_readme_does():
    folder = ROOT / "reports" / "benchmark"
    board = pd.read_csv(folder / "leaderboard.csv", index_col="optimizer")
    lost, problems = board["sensitivity"], board["problems"].max()
    assert f"# {len(board)} optimizers, {problems} problems" in README
    assert 0.2 < lost["rprop"] < 0.3  # a quarter
    assert f"Adam {lost['adam']:.0%}".replace("%", " %") in README
    assert 0.75 < lost["sgd"] < 0.85  # four fifths
    groups, text = board["group"].max(), (folder / "report.md").read_text("utf-8")
    assert f"optimizers in the same of {groups} groups on both sets | 33 of 33 |" in text
    assert groups == 7
    trials = pd.read_csv(ROOT / "reports" / "benchmark-trials" / "trials.csv")
    less = (trials["sensitivity"] < trials["sensitivity_alone"]).sum()
    assert f"makes {less} of\n{len(trials)} less sensitive" in README


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


def test_the_table_of_problems_is_that_of_the_registry():
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    for name, build in EVERY_PROBLEM.items():
        problem = build()
        scaled = scaled_feature(name).removeprefix("Scaled: ").removesuffix(".")
        target = f"{problem.classes} classes" if problem.classes else "a quantity"
        held_out = "yes" if problem.held_out else "no"
        assert f"| `{name}` | {scaled} | {target} | {held_out} |" in text
    assert scaled_feature("friedman1") == "Scaled: feature 5 of 5."


def test_the_page_of_commands_shows_every_registered_command(monkeypatch):
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    (cell,) = re.findall(r"```\{code-cell\} python\n(?::[^\n]*\n)*(.*?)```", page, re.DOTALL)
    shown = []
    monkeypatch.setattr(
        "subprocess.run", lambda words, **_: shown.append(words[3]) or SimpleNamespace(stdout="")
    )
    exec(cell, {})
    registered = {
        command.name or command.callback.__name__.strip("_") for command in app.registered_commands
    }
    assert set(shown) == {"--help", *registered}
    assert {"diagnose", "confirm", "verify"} <= registered
