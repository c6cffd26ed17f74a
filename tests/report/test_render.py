"""The renderer numbers, writes in every form, and escapes what a report is given."""

import json

import pandas as pd
import pytest
from matplotlib.figure import Figure as Drawing
from tiny_study import LINEAR

from scaling_study.errors import StudyError
from scaling_study.report import charts, discovery, style
from scaling_study.report.document import Figure, Report, Section, Table, Words
from scaling_study.report.render import about_study, render, write_list
from scaling_study.study.study import read_study

CELLS = pd.DataFrame(
    {
        "setting": ["one", "two"],
        "claim": ["C1", "C2"],
        "words": ["a | <b>b</b>", "[x](javascript:y) & 5 %"],
        "verdict": ["not testable", "supported"],
        "estimate": ["0.33\n0.2 to 0.4", "1"],
    }
)


def draw(frame: pd.DataFrame) -> Drawing:
    figure, panels = charts.facets(["only"])
    charts.line(panels["only"], frame, "x", **style.scaler("none"))
    return figure


@pytest.fixture(scope="module")
def folder(build, tmp_path_factory):
    results = build({"linear": LINEAR})
    frame = pd.DataFrame({"x": [1, 2], "value": [0.1, 1 / 3], "low": 0.0, "high": 1.0})
    one, two = (
        Figure(name=name, title=f"Of <{name}>", caption="A *band*.", data=frame, draw=draw)
        for name in ("first", "second")
    )
    links = {"claim": "tables/claims/{}.csv"}
    shown = Table(name="shown", title="A table", frame=CELLS, group="setting", badge="verdict",
                  links=links, note="Of **notes**.")  # fmt: skip
    full = Table(name="full", title="Another", frame=CELLS)
    report = Report(
        title="Does <it> help?",
        lead="Yes & no.",
        sections=(Section("", "", (two, shown)), Section("More", "- a\n- b", (one, full), True)),
        limits="One.\n\nTwo.",
        files={"tables/full.csv": frame, "notes.json": "{}\n"},
    )
    place = tmp_path_factory.mktemp("rendered")
    render(report, about_study(results), place, ("svg", "png"))
    write_list(place)
    return place


def test_figures_are_numbered_in_the_order_of_the_page(folder) -> None:
    stems = [path.name for path in sorted((folder / "figures").iterdir())]
    assert stems == ["01-second.png", "01-second.svg", "02-first.png", "02-first.svg"]
    for name in ("index.html", "report.md"):
        text = (folder / name).read_text()
        assert text.index("Figure 1. Of &lt;second") < text.index("Figure 2. Of &lt;first")
    data = pd.read_csv(folder / "tables" / "figures" / "01-second.csv")
    assert data["value"].tolist() == [0.1, 1 / 3]


def test_tables_are_written_as_shown_or_in_full(folder) -> None:
    shown = pd.read_csv(folder / "tables" / "shown.csv", keep_default_na=False)
    assert shown["estimate"].tolist() == ["0.33 (0.2 to 0.4)", "1"]
    assert list(pd.read_csv(folder / "tables" / "full.csv")) == ["x", "value", "low", "high"]
    text = (folder / "tables" / "shown.tex").read_text()
    assert "5 \\%" in text
    assert text.count("\\\\") == 3


def test_cells_are_escaped_linked_and_labelled(folder) -> None:
    page = (folder / "index.html").read_text()
    assert "<b>b" not in page
    assert "a | &lt;b&gt;b" in page
    assert '<a href="tables/claims/C1.csv">C1</a>' in page
    assert '<span class="badge not-testable">not testable</span>' in page
    assert '<span>0.33</span><small class="short">0.2 to 0.4</small>' in page
    assert "javascript:" not in page.replace("[x](javascript:y)", "")
    text = (folder / "report.md").read_text()
    assert "a \\| &lt;b>b" in text
    assert "](javascript:" not in text
    assert "| one | [C1](tables/claims/C1.csv) |" in text


def test_the_list_names_every_file(folder) -> None:
    listed = json.loads((folder / "files.json").read_text())
    files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    assert listed == sorted(files)


def test_words_fill_in_numbers_and_escape_text(tmp_path, monkeypatch) -> None:
    package = tmp_path / "worded"
    package.mkdir()
    (package / "__init__.py").write_text("")
    block = "{% block a %}{{ n | count }} of {{ names | listing }}\nin {{ share | percent }}\n\n"
    (package / "report.md.jinja").write_text(block + "- {{ text }}\n- two\n{% endblock %}")
    monkeypatch.syspath_prepend(tmp_path)
    words = Words("worded", n=1200, names=["a", "b"], text="<i> [x](javascript:y)")
    said = words("a", share=0.25)
    assert said == "1,200 of a and b in 25.0 %\n\n- &lt;i> [x]\\(javascript:y)\n- two"
    with pytest.raises(Exception, match="undefined"):
        words("a")


def test_reports_are_found_by_their_folders() -> None:
    found = discovery.reports()
    assert {"standard", "paper"} <= found.keys()
    for name in found:
        if name != "paper":
            study = read_study({"name": "mine"})
            object.__setattr__(study, "report", name)
            assert discovery.report_of(study) is found[name]
    claim = {"quote": "x", "measure": "last_weight_larger", "blocks": "main", "smallest": 0.1}
    study = read_study({"name": "mine", "claims": {"C": claim}})
    assert discovery.report_of(study) is found["paper"]
    object.__setattr__(study, "claims", {})
    object.__setattr__(study, "report", "unheard-of")
    with pytest.raises(StudyError, match="unheard-of"):
        discovery.report_of(study)
