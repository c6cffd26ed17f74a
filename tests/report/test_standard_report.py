"""The standard report: every estimate in its files, rounded tables, and a lead that follows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_study import LINEAR, Build, Change

from scaling_study.report.document import Report
from scaling_study.report.labels import MISSING
from scaling_study.report.standard import data
from scaling_study.report.standard.report import build as build_report
from scaling_study.storage.results import Results
from scaling_study.study.conditions import Condition

# Tables ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def summaries(results: Results) -> data.Summaries:
    return data.summarize(results)


def test_one_row_for_each_condition(summaries: data.Summaries, results: Results) -> None:
    files = data.files(summaries, results.conditions)
    found = files["tables/conditions.csv"]
    assert found["condition"].tolist() == results.conditions["condition"].tolist()
    assert {
        "scaler",
        "converged_low",
        "weight_error_n",
        "last_weight_larger_high",
        "updates",
    } <= set(found)
    assert len(files["tables/features.csv"]) == 2 * len(results.conditions)
    assert set(files["tables/features.csv"]["feature"]) == {1, 2}


def test_tables_say_beyond_the_budget_and_mark_what_was_not_measured(
    summaries: data.Summaries,
) -> None:
    shown = data.tables(summaries)["conditions"]
    network = shown[shown["setting"].str.contains("mlp")]
    assert (network["reached target"] == MISSING).all()
    assert (network["error against least squares"] == MISSING).all()
    lost = shown[(shown["scaler"] == "none") & shown["setting"].str.startswith("sgd")].iloc[0]
    assert lost["diverged"].startswith("100 %")
    assert lost["updates to target"] == "> 40"
    assert lost["final loss"] == MISSING


def test_the_main_table_fits_the_window(summaries: data.Summaries) -> None:
    assert len(data.tables(summaries)["conditions"].columns.drop("setting")) <= 7


def test_columns_that_nothing_was_measured_in_are_left_out(summaries: data.Summaries) -> None:
    networks = summaries.labels[summaries.labels["setting"].str.contains("mlp")]
    only = summaries._replace(labels=networks)
    shown = data.tables(only)
    assert "error against least squares" not in shown["conditions"]
    assert "recovered weight" not in shown["features"]
    assert shown["movement"].empty


def test_differences_are_between_scalers_of_one_setting(summaries: data.Summaries) -> None:
    found = summaries.differences
    assert found["scaler"].unique().tolist() == ["standard"]
    measured = found[found["setting"].str.startswith("adam") & (found["n"] > 0)]
    assert measured["n"].tolist() == [6]


def test_movement_says_who_was_stopped(summaries: data.Summaries) -> None:
    shown = data.tables(summaries)["movement"].set_index(["setting", "scaler"])
    assert shown.loc[("adam, linear", "standard"), "stopped early"] == "yes"
    assert shown.loc[("adam, linear", "none"), "stopped early"] == "no"
    assert set(shown["learning rate × updates"]) == {"0.0400"}


def test_a_study_too_large_for_one_frame_is_summarised_alike_in_parts(build, monkeypatch):
    def lose_some(row, condition):
        if row["seed"] % 3 == 0 and condition.scaler.name == "none":
            row |= {"status": "diverged", "diverged_at": 2.0}

    found = build(change=lose_some)
    whole = data.summarize(found)
    monkeypatch.setattr(data, "MOST_RUNS", 1)
    parts = list(data._parts(found, whole.labels))
    assert len(parts) == whole.labels["setting"].nunique() > 1
    assert sum(len(part.runs) for part in parts) == len(found.runs)
    assert sum(len(part.features) for part in parts) == len(found.features)
    for one, other in zip(whole, data.summarize(found), strict=True):
        key = [name for name in ("condition", "setting", "scaler", "feature") if name in one]
        first, second = (f.sort_values(key).reset_index(drop=True) for f in (one, other))
        pd.testing.assert_frame_equal(first, second, check_dtype=False)


# Lead and text --------------------------------------------------------------------------------


def text(report: Report) -> str:
    return " ".join([report.lead, *(section.text for section in report.sections)])


@pytest.fixture
def lead_of(build: Build):
    """Return a function that gives the text of the linear study's report, runs changed."""

    def of(change: Change | None = None) -> str:
        return text(build_report(build({"linear": LINEAR}, change=change)))

    return of


def test_it_counts_and_concludes(results: Results) -> None:
    report = build_report(results)
    assert "50.0 % of 6 runs on raw inputs reached the target loss within 40" in report.lead
    assert "and 0 % on scaled inputs" in report.lead
    assert "Every scaler left the weights further from least squares" in report.lead
    assert "Training with standard stopped before the weights arrived" in report.lead
    assert len(report.lead.split()) <= 60


def test_one_stored_value_changes_it(lead_of) -> None:
    def one_more(row: dict[str, Any], condition: Condition) -> None:
        if row["seed"] == 1 and condition.optimizer.name == "adam" and row["status"] != "diverged":
            row |= {"status": "converged", "steps_to_target": 30.0}

    before, after = lead_of(), lead_of(one_more)
    assert "66.7 % of 6 runs on raw inputs" in after
    assert "16.7 % on scaled inputs" in after
    assert "stopped before" in before
    assert "stopped before" not in after


def test_the_comparison_turns_with_the_numbers(lead_of) -> None:
    def nearer(row: dict[str, Any], condition: Condition) -> None:
        if condition.scaler.name == "standard":
            row["weight_error_ols"] = 0.001

    def alike(row: dict[str, Any], condition: Condition) -> None:
        row["weight_error_ols"] = 0.1 + 0.01 * row["seed"]

    assert "Every scaler left the weights nearer to least squares" in lead_of(nearer)
    assert "did not move all weights nearer" in lead_of(alike)


def test_more_and_less_often_follow_the_paired_interval(build: Build) -> None:
    def compared(raw: float, scaled: float) -> str:
        def change(row: dict[str, Any], condition: Condition) -> None:
            row["weight"] = np.array([1.0, raw if condition.scaler.name == "none" else scaled])

        found = data.summarize(build({"linear": LINEAR}, change=change))
        return data.tables(found)["differences"]["unscaled"].iloc[0]

    assert compared(0.5, 2.0) == "less often"
    assert compared(2.0, 0.5) == "more often"
    assert compared(2.0, 2.0) == "no clear difference"


def test_another_optimizer_that_gets_there_is_told(lead_of) -> None:
    def arrives(row: dict[str, Any], condition: Condition) -> None:
        if condition.optimizer.name == "sgd" and condition.scaler.name == "standard":
            row |= {"status": "converged", "steps_to_target": 10.0}

    said = "how far the optimizer can move a weight"
    assert said in lead_of(arrives)
    assert said not in lead_of()


def test_a_setting_in_which_all_diverged_and_one_without_a_target(build: Build) -> None:
    lost = build_report(build({"linear": {"optimizer": "sgd"}}))
    assert "All runs with none diverged" in lost.lead
    network = build_report(build({"network": {"model": {"name": "mlp", "hidden": 4}}}))
    assert "No target loss is known" in network.lead


# Figures --------------------------------------------------------------------------------------


def test_a_study_has_its_figures_with_captions(results: Results) -> None:
    report = build_report(results)
    found = {item.name: item for s in report.sections for item in s.items if hasattr(item, "draw")}
    linear = [name for name in found if name.startswith("weights-")]
    assert linear == ["weights-adam-linear", "weights-sgd-linear"]
    assert "6 of 6 with none (raw)" in found["weights-sgd-linear"].caption
    assert "median of the 6 seeds" in found["loss"].caption
    shown = [i.name for s in report.sections if not s.folded for i in s.items if i.name in found]
    assert shown == [
        "weights-adam-linear", "convergence", "loss", "weight-error", "gradients-adam-linear",
    ]  # fmt: skip
    assert "gradients-adam-mlp-hidden-4" in found
    for name, item in found.items():
        drawn = item.draw(item.data)
        assert all([drawn.get_supxlabel(), drawn.get_supylabel()]), name
        assert len(item.data), name
