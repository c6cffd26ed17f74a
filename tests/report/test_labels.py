"""What things are called."""

import pandas as pd
import pytest

from scaling_study.report.labels import (
    batches_of,
    budgets_of,
    hundredths,
    label_conditions,
    listing,
    number,
    percent,
    slug,
    values_of,
)
from scaling_study.study.study import read_study


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.99961, "1.00"),
        (0.01603, "0.0160"),
        (80015.46, "80,015"),
        (-2.5, "\N{MINUS SIGN}2.50"),
        (3.2e12, "3.20e+12"),
        (float("inf"), "∞"),
        (float("nan"), "\N{EN DASH}"),
    ],
)
def test_numbers_for_reading(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        *((0.0, "0 %"), (1.0, "100 %"), (0.312, "31.2 %")),
        *((0.9999, "> 99.9 %"), (0.999, "99.9 %"), (0.001, "0.1 %"), (0.00001, "< 0.1 %")),
    ],
)
def test_only_all_is_100_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize("value", [-0.05, 3.5])
def test_what_is_no_share_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="is no share"):
        percent(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.05, "\N{MINUS SIGN}5.00 %"),
        (3.5, "350 %"),
        (0.3812, "38.1 %"),
        (0.0, "0 %"),
        (float("nan"), "\N{EN DASH}"),
        (float("inf"), "∞"),
    ],
)
def test_any_number_reads_in_percent(value: float, text: str) -> None:
    assert hundredths(value) == text


def test_lists_read_as_sentences_do() -> None:
    assert [listing(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_file_names_are_plain() -> None:
    assert slug("adam, learning rate 0.001/../x") == "adam-learning-rate-0-001-x"


def test_settings_name_what_varies_and_blocks_only_if_they_must() -> None:
    frame = pd.DataFrame(
        {
            "condition": ["a", "b", "c"],
            "block": ["one", "two", "two"],
            "optimizer": ["adam", "sgd", "sgd"],
            "optimizer.eps": [1e-7, None, None],
            "scaler": ["none", "none", "standard"],
            "learning_rate": [0.001, 0.01, 0.01],
            "updates": [800, 800, 800],
        }
    )
    labels = label_conditions(frame)
    assert labels["setting"].tolist() == [
        "adam, learning rate 0.001",
        "sgd, learning rate 0.01",
        "sgd, learning rate 0.01",
    ]
    assert labels["reach"].tolist() == pytest.approx([0.8, 8, 8])
    same = frame.assign(optimizer="sgd", learning_rate=0.01)
    assert label_conditions(same)["setting"].tolist()[:2] == ["block one, sgd", "block two, sgd"]


def test_a_studys_values_are_named_once() -> None:
    blocks = read_study(
        {
            "updates": 1200,
            "blocks": {
                "a": {"learning_rate": [0.1, 0.01]},
                "b": {"learning_rate": 0.1, "epochs": 3, "sampling": ["full", "replacement"]},
                "c": {"epochs": [4, 3], "sampling": "full", "batch_size": 8},
            },
        }
    ).blocks
    assert values_of(blocks, "learning_rate") == ["0.1", "0.01", "0.001"]
    assert budgets_of(blocks) == "1,200 updates and 3 and 4 epochs"
    assert batches_of(blocks) == "batches of 32 and the full batch"
    assert batches_of({"c": blocks["c"]}) == "the full batch"
