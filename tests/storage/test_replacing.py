"""A report takes another's place whole, and nothing is left beside it."""

import fcntl
import os
from pathlib import Path

import pytest

from scaling_study.report.labels import escape
from scaling_study.storage import replacing
from scaling_study.storage.replacing import exchange, tidy, written_whole


def write(target: Path, text: str) -> None:
    with written_whole(target) as folder:
        (folder / "index.html").write_text(text, encoding="utf-8")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=[True, False], ids=["in one step", "in two"])
def target(request, tmp_path, monkeypatch) -> Path:
    """A folder to be replaced, where the system can swap two and where it cannot."""
    if not request.param:
        monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    return tmp_path / "report"


def test_a_folder_takes_the_place_of_nothing_and_of_another(target):
    for text in ("one", "two"):
        write(target, text)
        assert (target / "index.html").read_text(encoding="utf-8") == text
        assert names(target.parent) == ["report"]


def test_a_failure_leaves_what_was_there(target):
    def fail() -> None:
        with written_whole(target) as folder:
            (folder / "half").touch()
            raise RuntimeError

    write(target, "one")
    with pytest.raises(RuntimeError):
        fail()
    assert names(target) == ["index.html"]
    assert names(target.parent) == ["report"]


def test_a_link_is_followed_and_stays(tmp_path):
    write(tmp_path / "real", "one")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "index.html").read_text(encoding="utf-8") == "two"
    assert names(tmp_path) == ["link", "real"]


def test_two_folders_are_swapped(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this system cannot")
    assert (names(tmp_path / "a"), names(tmp_path / "b")) == (["b"], ["a"])
    assert not exchange(tmp_path / "a", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["report", "a*b", "[x]", "q?"])
def test_what_a_killed_process_left_is_removed_and_others_are_not(name, tmp_path):
    ours = tmp_path / f".{name}.report-new-0123abcd"
    for folder in (ours, tmp_path / ".notes", tmp_path / ".other.report-new-0123abcd"):
        folder.mkdir()
    tidy(tmp_path / name)
    assert names(tmp_path) == [".notes", ".other.report-new-0123abcd"]


def test_what_another_process_builds_is_not_removed(tmp_path):
    building = tmp_path / ".report.report-new-0123abcd"
    building.mkdir()
    held = os.open(building, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    tidy(tmp_path / "report")
    assert building.exists()
    os.close(held)
    tidy(tmp_path / "report")
    assert not building.exists()


def test_a_kill_between_two_renames_is_undone_by_the_next(tmp_path):
    write(tmp_path / "report", "one")
    (tmp_path / "report").rename(tmp_path / ".report.report-old-0123abcd")
    tidy(tmp_path / "report")
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8") == "one"
    assert names(tmp_path) == ["report"]


# Links ----------------------------------------------------------------------------------------

HARMLESS = [
    "[a](https://example.org)", "[a](http://example.org)", "[a](HTTPS://example.org)",
    "[a](figures/x.svg)", "[a](#top)", "a (javascript: no link)", "![a](figures/x.png)",
]  # fmt: skip
HARMFUL = [
    "[a](javascript:alert(1))", "[a]( JavaScript:alert(1))", "![a](data:text/html;base64,xx)",
    "[a](file:///etc/passwd)", "[a]: vbscript:x", "[a](\n javascript:alert(1))",
]  # fmt: skip


@pytest.mark.parametrize("text", HARMLESS)
def test_links_to_the_web_and_to_a_reports_own_files_stay(text):
    assert escape(text) == text


@pytest.mark.parametrize("text", HARMFUL)
def test_links_that_lead_elsewhere_are_text(text):
    shown = escape(text)
    assert "](" not in shown
    assert "]:" not in shown
