"""The command that compares two results folders: what it prints, writes and returns."""

import json
import re

import pytest

from scaling_study.cli import app as cli
from scaling_study.report.comparison.page import names_of


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command in this process: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["compare", *map(str, arguments)])
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return called


@pytest.fixture(scope="module")
def more_seeds(tmp_path_factory):
    """Return results of the tiny study's runs of sgd alone, of more seeds."""
    from tiny_folder import STUDY, run

    folder = tmp_path_factory.mktemp("more") / "more"
    run(folder, {**STUDY, "optimizer": "sgd", "seeds": "0:8"})
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Return results of the tiny study with other seeds and another optimizer beside sgd."""
    from tiny_folder import STUDY, run

    folder = tmp_path_factory.mktemp("other") / "other"
    run(folder, {**STUDY, "optimizer": ["lion", "sgd"], "seeds": "2:6"})
    return folder


def test_results_do_not_differ_from_themselves(call, stored):
    code, out, err = call(stored, stored)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"\d+ comparisons of 4 conditions: \d+ identical\n", out)


def test_a_difference_is_exit_code_1(call, stored, more_seeds):
    code, out, _ = call(stored, more_seeds, "--tolerance", "0", "--json")
    found = json.loads(out)
    assert code == (1 if found["differences"] else 0)
    assert (found["conditions"], found["unmatched"]) == (2, [2, 0])
    assert {"what": "seeds", "first": "0:4", "second": "0:8"} in found["provenance"]


@pytest.fixture(scope="module")
def faster(tmp_path_factory):
    """Return results of the tiny study's runs of sgd at another learning rate."""
    from tiny_folder import STUDY, run

    folder = tmp_path_factory.mktemp("faster") / "faster"
    run(folder, {**STUDY, "optimizer": "sgd", "learning_rate": 1e-7, "seeds": "0:8"})
    return folder


FIELDS = {
    *("conditions", "unmatched", "across", "tolerance", "compared", "outcomes", "provenance"),
    *("differences", "page"),
}


def test_exit_codes_say_same_different_or_not_comparable(call, more_seeds, faster):
    code, out, _ = call(more_seeds, more_seeds, "--json")
    same = json.loads(out)
    assert (code, same["differences"], {*same}) == (0, [], FIELDS)
    code, out, _ = call(more_seeds, faster, "--across", "learning_rate", "--json")
    found = json.loads(out.splitlines()[-1])
    assert (code, {*found}) == (1, FIELDS)
    assert found["across"].keys() == {"learning_rate"}
    first = found["differences"][0]
    assert first["outcome"] == "differs"
    assert {"setting", "scaler", "quantity", "first", "second", "value", "low", "high"} <= {*first}
    assert first["p_adjusted"] < 0.05
    assert sum(found["outcomes"].values()) == found["compared"]
    assert call(more_seeds, "nowhere", "--json")[0] == 2


def test_another_problem_is_refused_unless_it_is_asked_for(call, more_seeds, tmp_path):
    from tiny_folder import STUDY, run

    run(tmp_path / "sines", {**STUDY, "problem": "sines", "design": "U", "optimizer": "sgd"})
    code, out, err = call(more_seeds, "sines")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "say --across problem" in err
    code, out, _ = call(more_seeds, "sines", "--across", "problem", "--across", "design")
    assert code in (0, 1)
    assert "problem: article in more, sines in sines" in out


def test_axes_that_leave_several_conditions_are_refused(call, stored, other):
    code, _, err = call(stored, other, "--across", "optimizer")
    assert (code, err.count("\n")) == (2, 1)
    assert "several conditions that differ only in optimizer" in err


def test_seeds_in_common_are_compared_to_the_bit(call, stored, other):
    code, out, _ = call(stored, other, "--json")
    found = json.loads(out)
    assert (code, found["conditions"], found["unmatched"]) == (0, 2, [2, 2])
    assert set(found["outcomes"]) == {"identical"}


def test_the_page_is_written_whole_and_replaced_only_where_it_is_one(call, stored, other, tmp_path):
    assert call(stored, other, "-q", "-o", "page")[0] == 0
    files = json.loads((tmp_path / "page" / "files.json").read_text())
    assert {"index.html", "report.md", "cells.csv", "first-study.toml", "second-manifest.json"} <= {
        *files
    }
    html = (tmp_path / "page" / "index.html").read_text()
    for link in re.findall(r'(?:href|src)="([^"#]+)"', html):
        assert link in files, link
    assert call(stored, stored, "-q", "-o", "page")[0] == 0
    assert "are identical, over" in (tmp_path / "page" / "report.md").read_text()
    (tmp_path / "page" / "mine.txt").write_text("")
    code, _, err = call(stored, stored, "-o", "page")
    assert (code, err.count("\n")) == (2, 1)
    assert "mine.txt" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no results here"),
        (["{stored}", "--across", "momentum"], "--across momentum: no axis; known: block"),
        (["{stored}", "--tolerance", "-1"], "tolerance"),
        (["{stored}", "-o", "p", "--formats", "gif"], "gif"),
    ],
)
def test_what_is_wrong_is_one_line(call, stored, arguments, message):
    code, out, err = call(stored, *(word.format(stored=stored) for word in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_folders_of_one_name_are_called_by_their_paths(tmp_path):
    assert names_of(tmp_path / "a", tmp_path / "b") == ("a", "b")
    one, other = tmp_path / "x" / "a", tmp_path / "y" / "a"
    assert names_of(one, other) == (str(one), str(other))
