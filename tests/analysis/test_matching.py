"""Which conditions are compared: equal ones, across axes that may differ, of one problem."""

import pandas as pd
import pytest

from scaling_study.analysis.matching import match
from scaling_study.errors import StudyError

CONDITIONS = pd.DataFrame(
    {
        "condition": ["a", "b"],
        "scaler": ["none", "standard"],
        "optimizer": "adam",
        "learning_rate": 0.1,
        "optimizer.eps": 1e-8,
    }
)


def test_conditions_of_equal_axes_are_matched():
    pairs, across = match(CONDITIONS, CONDITIONS.iloc[::-1].assign(condition=["y", "x"]))
    assert dict(zip(pairs["condition"], pairs["condition_second"], strict=True)) == {
        "a": "x",
        "b": "y",
    }
    assert across == {}


def test_where_none_match_axes_without_a_common_value_are_crossed():
    pairs, across = match(CONDITIONS, CONDITIONS.assign(optimizer="lion"))
    assert across == {"optimizer": ("adam", "lion")}
    assert pairs["optimizer"].tolist() == ["adam / lion"] * 2


def test_axes_are_crossed_on_request():
    other = CONDITIONS.assign(optimizer=["adam", "lion"], condition=["x", "y"])
    assert match(CONDITIONS, other)[0]["condition"].tolist() == ["a"]
    pairs, across = match(CONDITIONS, other, ["optimizer"])
    assert across["optimizer"] == ("adam", "adam, lion")
    assert pairs["optimizer"].tolist() == ["adam", "adam / lion"]


@pytest.mark.parametrize(
    ("first", "across", "message"),
    [
        (CONDITIONS.assign(optimizer=["sgd", "lion"], scaler="none"), None, "differ only in optim"),
        (CONDITIONS, ["momentum"], "--across momentum: no axis; known: scaler"),
        (CONDITIONS.assign(scaler="robust"), ["optimizer"], "no condition of one folder matches"),
    ],
)
def test_what_cannot_be_matched_is_refused(first, across, message):
    second = CONDITIONS.assign(scaler=["none", "minmax"])
    with pytest.raises(StudyError, match=message):
        match(first, second, across)


def test_problems_are_compared_only_on_request():
    first, second = CONDITIONS.assign(problem="article"), CONDITIONS.assign(problem="friedman1")
    for across in (None, ["optimizer"]):
        with pytest.raises(StudyError, match=r"article in the first.*friedman1 in the second"):
            match(first, second, across)
    pairs, crossed = match(first, second, ["problem"])
    assert (len(pairs), crossed) == (2, {"problem": ("article", "friedman1")})


def test_folders_with_some_problems_in_common_are_compared_on_those():
    one = CONDITIONS.assign(problem=["article", "sines"])
    other = CONDITIONS.assign(problem=["article", "friedman1"])
    assert match(one, other)[0]["condition"].tolist() == ["a"]
