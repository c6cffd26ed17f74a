"""The report's folder: whole, repeatable, offline, without JAX, for any study."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest
from processes import ROOT
from tiny_study import LINEAR, NETWORK, Build

from scaling_study.errors import StudyError
from scaling_study.report import page
from scaling_study.report.page import write_report
from scaling_study.report.render import how_to_repeat
from scaling_study.report.standard import figures
from scaling_study.storage.results import Results
from scaling_study.study.conditions import Condition
from scaling_study.study.study import read_study


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def results(build: Build) -> Results:
    """Return a smaller study than the other modules': a page is the same for any."""
    return build({"linear": {"scaler": ["none", "standard"]}})


@pytest.fixture(scope="module")
def report(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = write_report(results, tmp_path_factory.mktemp("reports") / "tiny")
    assert index.name == "index.html"
    return index.parent


def test_everything_is_there(report: Path, results: Results) -> None:
    listed = json.loads((report / "files.json").read_text())
    assert listed == sorted(digests(report))
    others = {"index.html", "report.md", "files.json", "study.toml", "manifest.json"}
    assert {name for name in listed if "/" not in name} == others
    for name in ("study.toml", "manifest.json"):
        assert (report / name).read_bytes() == (results.folder / name).read_bytes()
    assert str(results.folder.parent) not in (report / "manifest.json").read_text()
    assert (report / "tables" / "conditions.csv").read_text().count("\n") == 3
    drawn = {path.stem for path in (report / "figures").iterdir()}
    assert drawn == {path.stem for path in (report / "figures").glob("*.svg")}
    assert drawn == {path.stem for path in (report / "tables" / "figures").glob("*.csv")}
    for text in ("index.html", "report.md"):
        named = set(re.findall(r"figures/([\w-]+)\.svg", (report / text).read_text()))
        assert named == drawn
    for link in re.findall(r'(?:href|src)="([^"#]+)"', (report / "index.html").read_text()):
        assert link in listed, link


def test_figures_come_in_the_formats_asked_for(results: Results, tmp_path: Path) -> None:
    folder = write_report(results, tmp_path / "report", formats=["png", "pdf"]).parent
    stems = {path.stem for path in (folder / "figures").iterdir()}
    suffixes = [path.suffix for path in (folder / "figures").iterdir()]
    assert sorted(suffixes) == [".pdf"] * len(stems) + [".png"] * len(stems)
    assert ".svg" not in (folder / "report.md").read_text()
    for wrong in (["gif"], []):
        with pytest.raises(StudyError, match="svg"):
            write_report(results, tmp_path / "other", formats=wrong)
    assert not (tmp_path / "other").exists()


def test_no_half_written_folder_stays(report: Path) -> None:
    assert [path.name for path in report.parent.iterdir()] == ["tiny"]


def test_the_same_results_give_the_same_bytes(report: Path, results: Results) -> None:
    before = digests(report)
    write_report(results, report)
    assert digests(report) == before


def test_another_run_with_the_same_numbers_changes_nothing(
    report: Path, results: Results, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(report, tmp_path / "report"))
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(manifest | {"run_seconds": 77.0}))
    before = digests(place)
    write_report(results, place)
    assert digests(place) == before
    write_report(results, place, formats=["png"])
    assert json.loads((place / "manifest.json").read_text()) == manifest


@pytest.mark.parametrize("name", ["index.html", "report.md"])
def test_nothing_in_the_text_depends_on_the_run(report: Path, results: Results, name: str) -> None:
    text = (report / name).read_text()
    manifest = results.manifest
    for key in ("machine", "python", "finished", "git_commit"):
        assert not manifest.get(key) or str(manifest[key]) not in text
    assert f"numpy {manifest['packages']['numpy']}" not in text


def test_the_page_needs_no_network_and_no_script(report: Path) -> None:
    html = (report / "index.html").read_text()
    assert not re.search(r"https?:|//[a-z]|<script|@import|url\(", html)


def test_the_text_leads_with_the_finding(report: Path) -> None:
    for name in ("index.html", "report.md"):
        text = (report / name).read_text().replace("\N{NO-BREAK SPACE}", " ")
        assert text.index("50.0 % of 6 runs") < text.index("The runs of a setting differ")
        assert "scaling-study reproduce study.toml" in text  # "tiny" is no preset


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["optimizer=clipped:factory"], "`scaling-study reproduce PATH/study.toml --allow-code`"),
        (["optimizer=scaling_study.engine.optimizers:clipped"], "study.toml --allow-code`"),
        (["optimizer=adam"], "`scaling-study reproduce smoke`"),
    ],
)
def test_the_command_that_repeats_a_study_allows_its_code(settings, line) -> None:
    assert line in how_to_repeat(read_study("smoke", [f"blocks.linear.{s}" for s in settings]))


def test_code_of_a_notebook_is_repeated_by_the_notebook() -> None:
    study = read_study({"name": "mine", "optimizer": lambda rate: optax.sgd(rate)})
    assert "the notebook or script that ran it" in how_to_repeat(study)


def test_titles_are_text_and_presets_go_by_name(build: Build, tmp_path: Path) -> None:
    title = '<script>alert("x")</script> & more'
    results = build({"network": NETWORK}, seeds=(0, 2), title=title, name="article")
    page = write_report(results, tmp_path / "report")
    html = page.read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    text = (page.parent / "report.md").read_text(encoding="utf-8")
    assert "<script" not in text
    assert '# &lt;script>alert("x")&lt;/script> &amp; more' in text
    assert "&amp; more" in html
    assert "scaling-study reproduce article" in html


def all_diverged(row: dict[str, Any], _: Condition) -> None:
    nothing = np.full(2, np.nan)
    row |= {"status": "diverged", "diverged_at": 1.0, "steps_to_target": None}
    row |= {"final_loss": np.inf, "weight_error": np.nan, "weight": nothing}
    row |= {"weight_original": nothing, "movement": nothing, "grad_norm_mean": nothing}


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    "study",
    [
        {"blocks": {"linear": {"scaler": ["none", "standard"]}}, "seeds": (3, 4)},
        {"blocks": {"linear": LINEAR}, "change": all_diverged},
        {"blocks": {"linear": {"scaler": ["minmax", "quantile"]}}, "seeds": (0, 2)},
        {"blocks": {"linear": {"scale_factor": [1.0, 10.0]}}, "seeds": (8, 10)},
    ],
    ids=["one seed", "all diverged", "no baseline", "no scalers, no traces"],
)
def test_any_study_has_a_report(build: Build, tmp_path: Path, study: dict[str, Any]) -> None:
    html = write_report(build(**study), tmp_path / "report").read_text()
    lead = re.search(r'<p class="lead">(.+?)</p>', html, re.DOTALL)
    assert lead
    assert not re.search(r"\bnan\b|\binf\b|None", lead[1])


def test_what_is_no_report_is_not_replaced(results: Results, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match=r"holds 'thesis\.txt'"):
        write_report(results, tmp_path)
    with pytest.raises(StudyError, match="holds 'chunks'"):
        write_report(results, results.folder)
    with pytest.raises(StudyError, match="is a file"):
        write_report(results, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_users_own_folder_with_names_like_a_reports_is_left_alone(
    results: Results, tmp_path: Path
) -> None:
    for own in (["figures/mine.png"], ["index.html", "report.md"], ["manifest.json"]):
        thesis = tmp_path / own[0].replace("/", "-")
        for name in own:
            (thesis / name).parent.mkdir(parents=True, exist_ok=True)
            (thesis / name).write_text("{}")
        before = digests(thesis)
        with pytest.raises(StudyError, match="name another folder with -o"):
            write_report(results, thesis, overwrite=True)
        assert digests(thesis) == before


OWN = ["figures/mine.png", "figures/notes/a.svg", "tables/mine.csv", "tables/figures/mine.csv"]


@pytest.mark.parametrize("name", [*OWN, "tables/claims/mine.csv", "figures/.DS_Store"])
def test_a_report_in_which_somebody_keeps_a_file_is_not_replaced(
    results: Results, report: Path, tmp_path: Path, name: str
) -> None:
    kept = Path(shutil.copytree(report, tmp_path / "kept"))
    (kept / name).parent.mkdir(exist_ok=True)
    (kept / name).write_text("mine")
    with pytest.raises(StudyError, match=f"holds '{name[:13]}"):
        write_report(results, kept)
    assert (kept / name).read_text() == "mine"


def test_every_kind_of_report_of_ours_is_known_for_one() -> None:
    kinds = [file.parent for file in (ROOT / "reports").glob("*/index.html")]
    assert len(kinds) >= 6
    for report in kinds:
        assert page._strange(report) == ""
        assert page._is_report(report)


def test_a_list_that_names_other_things_makes_no_report(
    results: Results, report: Path, tmp_path: Path
) -> None:
    for content in ("[1, {}]", "{}", "[" * 100_000, "not json", '["../x"]'):
        place = Path(shutil.copytree(report, tmp_path / "kept", dirs_exist_ok=True))
        (place / "files.json").write_text(content)
        with pytest.raises(StudyError, match="not in the list of a report's files"):
            write_report(results, place, overwrite=True)


def test_the_report_of_another_study_is_replaced_only_where_that_is_said(
    build: Build, results: Results, report: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(report, tmp_path / "report"))
    before = digests(place)
    other = build({"linear": {"scaler": ["none", "minmax"]}})
    with pytest.raises(StudyError, match=r"report of another study .*scaler.* with -o"):
        write_report(other, place)
    assert digests(place) == before
    write_report(other, place, overwrite=True)
    assert (place / "study.toml").read_bytes() == (other.folder / "study.toml").read_bytes()
    same = build({"linear": {"scaler": ["none", "minmax"]}}, seeds=(0, 2), title="Other words")
    write_report(same, place)
    assert "Other words" in (place / "report.md").read_text()


def test_a_report_that_cannot_be_read_is_another_study(
    results: Results, report: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(report, tmp_path / "report"))
    (place / "study.toml").write_text("of_a_later_release = 1\n")
    with pytest.raises(StudyError, match="this release cannot read"):
        write_report(results, place)
    write_report(results, place, overwrite=True)


def test_a_place_that_cannot_be_looked_at_is_one_line(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StudyError, match="name too long"):
        write_report(results, tmp_path / ("x" * 300))

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)  # a superuser is never refused
    with pytest.raises(StudyError, match="secret: Permission denied"):
        write_report(results, tmp_path / "secret")


def test_a_failure_leaves_what_was_there(
    results: Results, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(report.parent)

    def fail(*_: object) -> None:
        raise RuntimeError("the lights went out")

    monkeypatch.setattr(figures, "incidence", fail)
    with pytest.raises(RuntimeError, match="lights"):
        write_report(results, report)
    assert digests(report.parent) == before


def test_it_builds_where_jax_is_not_importable(build: Build, tmp_path: Path) -> None:
    folder = build({"network": NETWORK}, seeds=(0, 2)).folder
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('jax', 'jaxlib', 'flax', 'optax'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "import scaling_study\n"
        "from scaling_study.report.page import write_report\n"
        f"print(write_report(scaling_study.load({str(folder)!r}), {str(tmp_path / 'r')!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "index.html").exists()
