"""The examples of the README and of docs/ run, in the order in which a page shows them."""

import re
import shlex
from pathlib import Path

import pytest
from sklearn.datasets import load_diabetes

from scaling_study.cli import app as cli
from scaling_study.execution.preflight import read_plan

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "quickstart.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT_CODE = re.compile(r"# exit code (\d+)(:.*)?$")  # after a command that does not exit with 0
FILE = re.compile(r"# ([\w.]+\.(?:toml|py))\n")
# What needs minutes, a module of the reader's or a cluster.
NOT_RUN = ("reproduce", "rank my_package", "--scheduler")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of each code block of a page."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(text: str) -> list[tuple[list[str], int]]:
    """Return the words of each command of the package, and the exit code that the page states."""
    lines = (line[2:] for line in text.splitlines() if line.startswith("$ scaling-study"))
    kept = (line for line in lines if not any(words in line for words in NOT_RUN))
    return [(shlex.split(line, comments=True)[1:], exit_code(line)) for line in kept]


def exit_code(line: str) -> int:
    """Return the exit code that the end of a line states, 0 if it states none."""
    stated = EXIT_CODE.search(line.rstrip())
    return int(stated[1]) if stated else 0


def run_page(page: Path, folder: Path) -> None:
    """Write the files that a page shows, and run its commands and its Python."""
    for language, text in blocks(page):
        named = FILE.match(text)
        if named:
            (folder / named[1]).write_text(text, encoding="utf-8")
        elif language == "console":
            for words, expected in commands(text):
                with pytest.raises(SystemExit) as left:
                    cli.main(words)
                assert left.value.code == expected, words
        elif language == "python":
            exec(compile(text, str(page), "exec"), {})


@pytest.mark.slow  # each trains what it shows
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_of_the_documentation_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as of a notebook there
    run_page(page, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:vert:DeprecationWarning")  # seaborn's use of Matplotlib
@pytest.mark.filterwarnings("ignore:vert:PendingDeprecationWarning")
def test_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    houses = load_diabetes(as_frame=True).frame.rename(columns={"target": "price"})
    houses.to_csv("houses.csv", index=False)
    run_page(ROOT / "README.md", tmp_path)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_every_study_that_is_shown_is_valid(page):
    for language, text in blocks(page):
        if language == "toml":
            import tomllib

            study = {"name": "shown", **tomllib.loads(text)}
            if "mine:" not in text:
                assert read_plan(study, None, None, None).runs > 0


def test_every_command_that_is_shown_exists():
    known = {
        command.name or command.callback.__name__.strip("_")
        for command in cli.app.registered_commands
    }
    shown = {
        words[0]
        for page in (ROOT / "README.md", *PAGES, *(ROOT / "docs").glob("*.md"))
        for _, text in blocks(page)
        for words, _ in commands(text)
    }
    assert shown <= known
    assert {"run", "report", "compare", "plan"} <= shown


def test_the_end_of_a_line_states_its_exit_code():
    shown = "$ scaling-study list\n$ scaling-study compare a b  # exit code 1\nnot a command\n"
    shown += "$ scaling-study status a  # exit code 1 unless everything is stored\n"
    shown += "$ scaling-study verify a  # exit code 2: it is damaged\n"
    assert [code for _, code in commands(shown)] == [0, 1, 0, 2]
