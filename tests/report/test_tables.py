"""Every estimate reaches the files in full, and the page rounded."""

import pandas as pd
import pytest

from scaling_study.report import tables
from scaling_study.report.labels import MISSING
from scaling_study.storage.results import Results


@pytest.fixture(scope="module")
def summaries(results: Results) -> tables.Summaries:
    return tables.summarize(results)


def test_one_row_for_each_condition(summaries: tables.Summaries, results: Results) -> None:
    found = tables.conditions_file(summaries, results.conditions)
    assert found["condition"].tolist() == results.conditions["condition"].tolist()
    assert {"scaler", "converged_low", "weight_error_n", "larger_high", "updates"} <= set(found)
    assert len(tables.features_file(summaries)) == 2 * len(results.conditions)


def test_features_count_from_one_on_paper(summaries: tables.Summaries) -> None:
    assert set(tables.features_file(summaries)["feature"]) == {1, 2}


def test_page_says_beyond_the_budget_and_marks_what_was_not_measured(
    summaries: tables.Summaries,
) -> None:
    shown = tables.conditions_table(summaries)
    network = shown[shown["setting"].str.contains("mlp")]
    assert (network["reached target"] == MISSING).all()
    assert (network["error against truth"] == MISSING).all()
    lost = shown[(shown["scaler"] == "none") & shown["setting"].str.startswith("sgd")].iloc[0]
    assert lost["diverged"].startswith("100 %")
    assert lost["updates to target"] == "> 40"
    assert lost["final loss"] == MISSING


def test_columns_that_nothing_was_measured_in_are_left_out(summaries: tables.Summaries) -> None:
    networks = summaries.labels[summaries.labels["setting"].str.contains("mlp")]
    only = summaries._replace(labels=networks)
    assert "error against truth" not in tables.conditions_table(only)
    assert "recovered weight" not in tables.features_table(only)


def test_differences_are_between_scalers_of_one_setting(summaries: tables.Summaries) -> None:
    found = summaries.differences
    assert isinstance(found, pd.DataFrame)
    assert found["scaler"].unique().tolist() == ["standard"]
    measured = found[found["setting"].str.startswith("adam") & (found["n"] > 0)]
    assert measured["n"].tolist() == [6]


def test_a_study_too_large_for_one_frame_is_summarised_alike_in_parts(build, monkeypatch):
    def lose_some(row, condition):
        if row["seed"] % 3 == 0 and condition.scaler.name == "none":
            row |= {"status": "diverged", "diverged_at": 2.0}

    found = build(change=lose_some)
    whole = tables.summarize(found)
    monkeypatch.setattr(tables, "MOST_RUNS", 1)
    parts = list(tables._parts(found, whole.labels))
    assert len(parts) == whole.labels["setting"].nunique() > 1
    assert sum(len(part.runs) for part in parts) == len(found.runs)
    assert sum(len(part.features) for part in parts) == len(found.features)
    for one, other in zip(whole, tables.summarize(found), strict=True):
        key = [name for name in ("condition", "setting", "scaler", "feature") if name in one]
        first, second = (f.sort_values(key).reset_index(drop=True) for f in (one, other))
        pd.testing.assert_frame_equal(first, second, check_dtype=False)
