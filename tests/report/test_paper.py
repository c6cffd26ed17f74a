"""The paper: figures, ledger and page from stored runs, and from nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changed import replace_chunk
from made_claims import CLAIM, judged
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scaling_study.analysis.claims import Claim, read_claims
from scaling_study.analysis.verdicts import judge, judge_all
from scaling_study.report.document import Figure, Words
from scaling_study.report.page import write_report
from scaling_study.report.paper import data, methods
from scaling_study.report.paper import report as paper_report
from scaling_study.report.paper.claims import NAMES, STANDINGS, dots, plain, standings
from scaling_study.storage.results import load

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, *_):
        if name.partition('.')[0] in ('jax', 'jaxlib', 'flax', 'optax'):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import scaling_study
from scaling_study.report.paper import methods
from scaling_study.report.paper.claims import NAMES, plain
methods.COVERAGE_STUDIES = 20
from scaling_study.report.page import write_report
write_report(scaling_study.load(sys.argv[1]), sys.argv[2])
"""


DRAWN = [entry for entries in paper_report.SECTIONS.values() for entry in entries]


@pytest.fixture(scope="module")
def tables(paper):
    wanted = [blocks for blocks, _ in DRAWN]
    assert sum(set(blocks) <= paper.study.blocks.keys() for blocks in wanted) == len(DRAWN) - 1
    return data.TableCache(paper)


@pytest.fixture(scope="module")
def figures(paper) -> dict[str, Figure]:
    words = Words("scaling_study.report.paper", seeds=paper.study.n_seeds)
    sections = paper_report.sections_of(paper, words)
    return {item.name: item for section in sections for item in section.items}


@pytest.fixture(scope="module")
def report(paper, tmp_path_factory) -> Path:
    """Write the report where JAX cannot be imported, by two further processes."""
    target = tmp_path_factory.mktemp("reports") / "small"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED, str(paper.folder), str(target)],
        env={**os.environ, "LOKY_MAX_CPU_COUNT": "2"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


def test_every_cell_links_to_the_lines_that_define_it(paper, report):
    listing = (report / "study.html").read_text(encoding="utf-8")
    anchors = set(re.findall(r'id="([^"]+)"', listing))
    pages = sorted((report / "cells").iterdir())
    assert len(pages) > 20
    linked = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found = set(re.findall(r'href="\.\./study\.html#([^"]+)"', text))
        recorded = "recorded" in paper.study.claims[page.stem]  # of Keras, not of runs
        assert any(name.startswith("blocks.") for name in found) != recorded, page.name
        linked |= found
    assert linked <= anchors
    assert {f"blocks.{name}" for name in paper.study.blocks} >= {
        name for name in linked if name.startswith("blocks.")
    }


def test_it_is_all_there(paper, report):
    files = {"index.html", "report.md", "claims.json", "study.toml", "manifest.json", "files.json"}
    files |= {"study.html"}
    assert {path.name for path in report.iterdir()} == {*files, "figures", "tables", "cells"}
    ledger = json.loads((report / "claims.json").read_text())
    ids = list(dict.fromkeys(entry["id"] for entry in ledger))
    assert ids[:3] == ["C1", "C2", "C3"]
    assert len(ids) == 27
    for entry in ledger:
        models = "" if entry["models"] == "linear" else f"-{entry['models']}"
        file = report / "tables" / "claims" / f"{entry['id']}{models}.csv"
        assert (len(pd.read_csv(file)) if entry["cells"] else 0) == entry["cells"]
    stems = {path.stem for path in (report / "figures").iterdir()}
    pictures = {stem for stem in stems if "-claim-" in stem}
    assert len(pictures) == 27
    assert len(stems - pictures) == 11  # the small paper lacks the blocks of one
    for stem in stems:
        assert (report / "figures" / f"{stem}.svg").stat().st_size > 1000
    text = (report / "index.html").read_text()
    assert set(re.findall(r"figures/([\w-]+)\.svg", text)) == stems
    for link in re.findall(r'href="([^"#]+)"', text):
        assert (report / link).exists(), link
    conditions = (report / "tables" / "conditions.csv").read_text().count("\n") - 1
    assert conditions == len(paper.conditions)


def test_tables_are_latex_that_closes(report):
    for name in ("claims", "conditions"):
        text = (report / "tables" / f"{name}.tex").read_text()
        assert text.count("\\begin{longtable}") == text.count("\\end{longtable}") == 1
        columns = re.search(r"\{(l+)\}", text)
        assert columns is not None
        rows = [line for line in text.splitlines() if line.endswith("\\\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns[1]) - 1}
        assert not re.search(r"(?<!\\)[_%#]", "\n".join(rows))


def test_the_page_says_what_the_ledger_says(report):
    text = (report / "index.html").read_text()
    for entry in json.loads((report / "claims.json").read_text()):
        row = text[text.index(f">{entry['id']}</a>") :]
        row = row[: row.index("</tr>")]
        column = row[row.index(f'data-column="{NAMES[entry["models"]]}"') :]
        assert f">{entry['verdict']}<" in column[: column.index("</td>")]
    counts = re.search(r"Of (\d+) claims about a linear unit", text)
    assert counts is not None
    assert counts[1] == "24"


def test_each_claim_has_a_plain_line_its_unit_its_null_and_its_threshold(report):
    text = (report / "report.md").read_text()
    for entry in json.loads((report / "claims.json").read_text()):
        caption = text[text.index(f"{entry['id']}: “") :]
        caption = caption[caption.index(NAMES[entry["models"]].capitalize()) :]
        assert re.match(r"[\w ]+\*\*: [A-Z][^.]*", caption), caption[:80]
        if entry["cells"]:
            assert "no effect is" in caption
            assert "smallest of interest" in caption


@pytest.mark.parametrize(
    ("quantifier", "centres", "line"),
    [("always", [3, 3], "It holds in all 2 cases that were tried."),
     ("always", [3], "It holds in the one case that was tried, read as always."),
     ("usually", [0], "It does not hold in the one case that was tried, read as usually."),
     ("always", [3, 0], "It does not always hold: 1 of 2 cases surely contradict it, 1 show it."),
     ("sometimes", [3, 0], "It happens: in 1 of 2 cases."),
     ("sometimes", [0, 0], "It does not happen: in none of 2 cases."),
     ("usually", [0, 0], "It does not usually hold: it shows in 0 of 2 cases."),
     ("always", [3, 0.5], "Not decided: it shows in 1 of 2 cases, 0 surely contradict it.")],
)  # fmt: skip
def test_a_verdict_is_said_in_one_plain_line(quantifier, centres, line):
    claim = replace(CLAIM, quantifier=quantifier)
    assert plain(judged(0, centres, claim)) == line


@pytest.mark.parametrize("expect", ["beyond", "equivalent"])
def test_cells_hold_or_contradict_a_claim_or_leave_it_undecided(expect):
    found = judged(0, [3, 0, -3, 0.5], replace(CLAIM, expect=expect))
    (row,) = standings([found]).to_dict("records")
    assert [row[name] for name in STANDINGS] == [1, 2, 1]
    cells = dots({"linear": found})["standing"]
    holds = {"beyond": 3, "equivalent": 0}[expect]
    assert [3, 0, -3, 0.5][cells.tolist().index("holds")] == holds


def test_what_cannot_be_tested_and_controls_are_said():
    assert plain(judge(Claim("X", "q", not_testable="why"), None)) == "Cannot be tested: why."
    control = replace(CLAIM, control=True, quantifier="sometimes")
    assert plain(judged(0, [0, 0], control)).startswith("The control passes: no case has an effect")
    assert plain(judged(0, [0, 3], control)) == "The control fails: 1 of 2 cases have an effect."


@pytest.mark.slow
def test_fresh_seeds_stand_beside_the_claims(paper, undrawn, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "COVERAGE_STUDIES", 5)
    write_report(paper, tmp_path / "report", fresh=paper)
    text = (tmp_path / "report" / "report.md").read_text()
    assert "On fresh seeds" in text
    assert re.search(r"0 of \d+ verdicts differ, and 0 of", text)


def test_the_lead_is_short(report):
    text = (report / "report.md").read_text()
    assert len(text.split("\n\n")[1].split()) <= 60


@pytest.mark.slow
def test_a_changed_run_changes_the_text(paper, report, undrawn, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "COVERAGE_STUDIES", 20)
    folder = tmp_path / "results"
    shutil.copytree(paper.folder, folder)
    ids = paper.conditions[paper.conditions["block"] == "article"]["condition"]
    for file in sorted((folder / "chunks").iterdir()):
        table = pq.read_table(file)
        if not set(ids) & set(table["condition"].to_pylist()):
            continue
        place = table.schema.get_field_index("weight/1")
        tripled = pa.array(10 * table["weight/1"].to_numpy())
        replace_chunk(file, table.set_column(place, "weight/1", tripled))
    changed = load(folder)
    write_report(changed, tmp_path / "report")
    before, after = (
        {
            entry["id"]: entry
            for entry in json.loads((where / "claims.json").read_text())
            if entry["models"] == "linear"
        }
        for where in (report, tmp_path / "report")
    )
    assert before["C13"]["median"] != after["C13"]["median"]
    assert after["C13"]["median"] > 0.5
    assert before["C4"] == after["C4"]
    first, second = ((where / "report.md").read_text() for where in (report, tmp_path / "report"))
    assert first != second


def test_prediction_and_measurement_agree(tables):
    found = data.predicted_times(tables.get("descent", "descent-scaled"))
    judged = found.dropna(subset=["agrees"])
    assert len(judged) > 100
    assert (judged["agrees"] == 1).all()
    in_time = found["predicted"] <= found["budget"]
    assert (in_time == found["measured"].notna()).all()
    # Were the prediction 5 % off, it would be noticed.
    late = judged[judged["predicted"] > 40]
    assert (np.abs(1.05 * late["predicted"] - late["measured"]) > 0.02 * late["predicted"]).all()


def test_slopes_of_gradient_descent_are_minus_two(tables):
    _, slopes = data.exponents(tables.get("exponents"))
    assert len(slopes) == 2
    by_start = slopes.set_index("start")["value"]
    np.testing.assert_allclose(by_start["zero"], -2, atol=0.1)
    assert -2 < by_start["Glorot"] < -1.5  # it does not shrink with s, as the weight does
    assert (slopes["predicted"] == -2).all()


def test_every_figure_says_its_n_and_what_its_band_is(figures):
    assert len(figures) == len(DRAWN) - 1
    for name, figure in figures.items():
        drawn = figure.draw(figure.data)
        pixels = np.asarray(drawn.canvas.buffer_rgba() if _draw(drawn) else None)
        assert pixels.std() > 5, name
        shown = [axes for axes in drawn.axes if axes.get_visible() and axes.axison]
        assert all(axes.has_data() for axes in shown), name
        assert len(figure.data), name
        if name != "conditioning":  # theory has neither
            assert re.search(r"\b(16|8)\b", figure.caption), figure.caption
        assert not re.search(r"\b(800|8,000|20,000|256)\b", figure.caption), "of another study"
        words = ("interval", "no band", "their range", "Each line", "theory")
        assert any(word in figure.caption for word in words), figure.caption


def _draw(figure) -> bool:
    FigureCanvasAgg(figure).draw()
    return True


def test_a_study_with_one_claim_of_its_own_has_a_ledger(build, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "COVERAGE_STUDIES", 20)
    results = build({"linear": {"scaler": ["none", "standard"]}})
    claim = {"quote": "Less than 1 <b>percent</b>", "measure": "last_weight_larger",
             "blocks": "linear", "by": "scaler", "smallest": 0.1}  # fmt: skip
    write_report(results, tmp_path / "r", {"MINE": claim})
    (entry,) = json.loads((tmp_path / "r" / "claims.json").read_text())
    assert entry["id"] == "MINE"
    assert "<b>" not in (tmp_path / "r" / "index.html").read_text().split("MINE")[1][:300]
    (found,) = judge_all(results, read_claims(results.study, {"MINE": claim}))
    assert found.entry() == entry


def test_a_study_with_blocks_of_these_names_and_other_runs_lacks_the_figures(build):
    results = build({"article": {"optimizer": "sgd"}, "units-long": {"scaler": ["minmax"]}})
    words = Words("scaling_study.report.paper")
    assert list(paper_report.sections_of(results, words)) == []
