"""Recorded trajectories of other frameworks: they replay, and what is altered does not."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling_study.errors import StudyError
from scaling_study.execution import verify
from scaling_study.execution.verify import Deviation

REFERENCE = Path(__file__).parents[1] / "reference"
FRAMEWORKS = ("keras", "torch")
# Of each framework a linear case by each optimizer, and a network.
FEW = {"keras": [4, 12, 20, 26], "torch": [2, 6, 10, 14]}


@pytest.fixture(scope="module", params=FRAMEWORKS)
def few(request) -> dict[str, Any]:
    """A reference file of a few cases."""
    reference = json.loads((REFERENCE / f"{request.param}.json").read_text())
    return {**reference, "cases": [reference["cases"][i] for i in FEW[request.param]]}


@pytest.fixture
def replay(few, tmp_path):
    """Return a function that alters the file and replays it."""

    def altered(change=lambda reference: None) -> list[Deviation]:
        reference = copy.deepcopy(few)
        change(reference)
        file = tmp_path / "altered.json"
        file.write_text(json.dumps(reference))
        return verify.verify(file)

    return altered


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_recorded_trajectory_replays(framework):
    file = REFERENCE / f"{framework}.json"
    cases = json.loads(file.read_text())["cases"]
    found = verify.verify(file)
    linear = sum(case["model"]["kind"] == "linear" for case in cases)
    assert len(found) == len(cases) + linear  # a linear one by both objectives
    assert [d for d in found if not d.holds] == []
    assert max(d.gradient_norm for d in found) < 1e-3


def test_a_file_of_a_few_cases_replays(replay, few):
    found = replay()
    assert [d.objective for d in found] == ["moments", "samples"] * 3 + ["samples"]
    assert all(d.holds for d in found)


def test_code_that_a_file_names_is_not_imported(replay, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "marking.py").write_text("from pathlib import Path\nPath('mark').touch()\n")
    monkeypatch.chdir(tmp_path)

    def name_code(reference: dict[str, Any]) -> None:
        reference["cases"][0]["optimizer"]["name"] = "marking:factory"

    with pytest.raises(StudyError, match=r"marking:factory.* is code"):
        replay(name_code)
    assert not (tmp_path / "mark").exists()


def test_a_file_that_is_too_deep_is_refused(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(StudyError, match=r"deep\.json: not valid JSON"):
        verify.verify(tmp_path / "deep.json")


def test_cases_do_not_meet(replay):
    straight, reversed_ = replay(), replay(lambda r: r["cases"].reverse())
    assert {(d.case, d.objective) for d in straight} == {(d.case, d.objective) for d in reversed_}
    for one in straight:
        (other,) = [d for d in reversed_ if (d.case, d.objective) == (one.case, one.objective)]
        np.testing.assert_allclose(one[2:], other[2:], rtol=1e-6, atol=1e-12)


def test_the_order_within_a_batch_is_nothing(replay, few):
    def swap(reference):
        for order in reference["batch_order"]:
            size = reference["batch_size"]
            order[:size] = order[:size][::-1]

    assert all(d.holds for d in replay(swap))


def learning_rate(reference):
    for case in reference["cases"]:
        case["optimizer"]["learning_rate"] *= 1.5


def one_epochs_order(reference):
    reference["batch_order"][7].reverse()


def an_initial_weight(reference):
    for case in reference["cases"]:
        case["initial_params"][0][1][0] += 0.01


def an_initial_bias(reference):
    for case in reference["cases"]:
        case["initial_params"][1][0] += 0.01


def a_final_weight(reference):
    for case in reference["cases"]:
        case["final_params"][0][0][0] *= 1 + 1e-2


def a_loss(reference):
    for case in reference["cases"]:
        case["step_loss"][50] *= 1 + 1e-2


def a_row_of_the_data(reference):
    reference["problem"]["y"][3] += 10.0


def the_batch_size(reference):
    reference["batch_size"] = 25


def the_scaler(reference):
    for case in reference["cases"]:
        case["scaler"] = "minmax" if case["scaler"] != "minmax" else "standard"


def the_target(reference):
    for case in reference["cases"]:
        case["standardize_target"] = not case["standardize_target"]


def a_number_that_is_none(reference):
    for case in reference["cases"]:
        case["step_loss"][50] = float("nan")


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    "change",
    [
        learning_rate,
        one_epochs_order,
        a_loss,
        a_row_of_the_data,
        the_batch_size,
        the_scaler,
        the_target,
        a_number_that_is_none,
    ],
)
def test_what_was_altered_is_found_in_every_case(replay, change):
    found = replay(change)
    assert [d.case for d in found if d.holds] == []


@pytest.mark.parametrize("change", [an_initial_weight, an_initial_bias, a_final_weight])
def test_what_some_trainings_forget_is_found_in_others(replay, change):
    assert not all(d.holds for d in replay(change))


def test_one_altered_case_fails_and_the_others_hold(replay):
    def change(reference):
        reference["cases"][1]["optimizer"]["learning_rate"] *= 1.5

    assert [d.holds for d in replay(change)] == [True] * 2 + [False] * 2 + [True] * 3


@pytest.mark.parametrize("key", ["problem", "batch_size", "batch_order", "cases"])
def test_a_file_without_a_part_is_refused(replay, key):
    with pytest.raises(StudyError, match=key):
        replay(lambda reference: reference.pop(key))


@pytest.mark.parametrize(
    "key",
    ["model", "optimizer", "scaler", "standardize_target", "initial_params", "step_loss"],
)
def test_a_case_without_a_part_is_refused(replay, key):
    with pytest.raises(StudyError, match=key):
        replay(lambda reference: reference["cases"][0].pop(key))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["cases"][0]["step_loss"].pop(),
        lambda r: r["cases"][0]["final_params"].pop(),
        lambda r: r["cases"][0]["initial_params"][0].pop(),
        lambda r: r["cases"].clear(),
        lambda r: r["batch_order"].pop(),
        lambda r: r["batch_order"][0].pop(),
        lambda r: r["batch_order"][0].__setitem__(0, 10**6),
        lambda r: r["batch_order"][0].__setitem__(0, r["batch_order"][0][1]),
        lambda r: r["problem"]["X"].pop(),
        lambda r: r["problem"]["y"].pop(),
        lambda r: r.__setitem__("batch_size", 0),
        lambda r: r.__setitem__("cases", 3),
        lambda r: r["cases"][0]["optimizer"].__setitem__("name", "adm"),
        lambda r: r["cases"][0]["optimizer"].__setitem__("epsilon", 1),
        lambda r: r["cases"][0].__setitem__("scaler", "standrd"),
        lambda r: r["cases"][0].__setitem__("model", {"kind": "linea"}),
    ],
    ids=range(16),
)
def test_a_file_that_does_not_add_up_is_refused_in_a_line(replay, change):
    with pytest.raises(StudyError) as caught:
        replay(change)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"cases"', "{}", "\x00\xff"])
def test_what_is_no_reference_file_is_refused_in_a_line(tmp_path, text):
    file = tmp_path / "other.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(StudyError, match=r"other\.json") as caught:
        verify.verify(file)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    whole = (REFERENCE / "torch.json").read_text()
    file = tmp_path / "cut.json"
    file.write_text(whole[: int(share * len(whole))])
    with pytest.raises(StudyError, match="truncated"):
        verify.verify(file)


@pytest.mark.parametrize("place", ["nowhere.json", "."])
def test_a_file_that_is_not_there_is_refused(tmp_path, place):
    with pytest.raises(StudyError, match="cannot be read"):
        verify.verify(tmp_path / place)


@pytest.mark.parametrize(
    ("loss", "parameters", "holds"),
    [
        (1e-3, 1e-4, True),
        (1.1e-3, 0.0, False),
        (0.0, 1.1e-4, False),
        (np.nan, 0.0, False),
        (0.0, np.nan, False),
    ],
)
def test_a_replay_holds_within_both_tolerances(loss, parameters, holds):
    assert Deviation("case", "moments", loss, np.inf, parameters).holds == holds
