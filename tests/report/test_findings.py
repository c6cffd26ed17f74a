"""The first paragraph follows the stored numbers."""

from typing import Any

import numpy as np
from tiny_study import LINEAR, Build, Change

from scaling_study.report.findings import first_paragraph, second_paragraph
from scaling_study.report.tables import summarize
from scaling_study.storage.results import Results
from scaling_study.study.conditions import Condition


def paragraph(build: Build, change: Change | None = None) -> str:
    return first_paragraph(summarize(build({"linear": LINEAR}, change=change)))


def test_it_counts_and_concludes(results: Results) -> None:
    text = first_paragraph(summarize(results))
    assert "3 of 6 runs (50.0 %) reached the target loss on raw inputs" in text
    assert "none of 6 runs reached the target loss with standard" in text
    assert "every scaler left the weights further from it" in text
    assert "learning rate times updates: 0.0400" in text
    assert "networks with standard were therefore stopped" in text


def test_the_other_settings_follow(results: Results) -> None:
    text = second_paragraph(summarize(results))
    assert "all 6 runs diverged on raw inputs" in text
    assert "no target loss is known" in text


def test_one_stored_value_changes_it(build: Build) -> None:
    def one_more(row: dict[str, Any], condition: Condition) -> None:
        if row["seed"] == 1 and condition.optimizer.name == "adam" and row["status"] != "diverged":
            row |= {"status": "converged", "steps_to_target": 30.0}

    before, after = paragraph(build), paragraph(build, one_more)
    assert "1 of 6 runs (16.7 %) reached the target loss with standard" in after
    assert "4 of 6 runs (66.7 %) reached the target loss on raw inputs" in after
    assert "therefore stopped" in before
    assert "therefore stopped" not in after


def test_the_comparison_turns_with_the_numbers(build: Build) -> None:
    def nearer(row: dict[str, Any], condition: Condition) -> None:
        if condition.scaler.name == "standard":
            row["weight_error_ols"] = 0.001

    def alike(row: dict[str, Any], condition: Condition) -> None:
        row["weight_error_ols"] = 0.1 + 0.01 * row["seed"]

    assert "every scaler brought the weights nearer to it" in paragraph(build, nearer)
    assert "do not all bring the weights nearer" in paragraph(build, alike)


def test_more_and_less_often_follow_the_paired_interval(build: Build) -> None:
    def sizes(raw: float, scaled: float) -> Change:
        def change(row: dict[str, Any], condition: Condition) -> None:
            row["weight"] = np.array([1.0, raw if condition.scaler.name == "none" else scaled])

        return change

    assert ", less often than with standard (100 %)" in paragraph(build, sizes(0.5, 2.0))
    assert ", more often than with standard (0 %)" in paragraph(build, sizes(2.0, 0.5))
    assert "not measurably more or less often" in paragraph(build, sizes(2.0, 2.0))


def test_another_optimizer_that_gets_there_is_told(build: Build) -> None:
    def arrives(row: dict[str, Any], condition: Condition) -> None:
        if condition.optimizer.name == "sgd" and condition.scaler.name == "standard":
            row |= {"status": "converged", "steps_to_target": 10.0}

    told = "how far its optimizer can move a weight"
    assert told in second_paragraph(summarize(build({"linear": LINEAR}, change=arrives)))
    assert told not in second_paragraph(summarize(build({"linear": LINEAR})))
