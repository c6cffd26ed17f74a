"""Summaries of small frames whose answers can be counted by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling_study.analysis import summary

CONDITIONS = pd.DataFrame({"condition": ["raw", "scaled"], "updates": [100, 100]})


@pytest.fixture
def runs() -> pd.DataFrame:
    """Return four seeds: raw converges twice and diverges once, scaled never arrives."""
    nan = np.nan
    frame = pd.DataFrame(
        {
            "condition": ["raw"] * 4 + ["scaled"] * 4,
            "seed": [0, 1, 2, 3] * 2,
            "status": ["converged", "converged", "not_converged", "diverged"]
            + ["not_converged"] * 4,
            "reason": ["", "", "budget ended above the target", "non-finite loss"] + [""] * 4,
            "final_loss": [1.0, 2.0, 30.0, np.inf, 80.0, 80.0, 80.0, 80.0],
            "loss_ols": 1.0,
            "steps_to_target": [40.0, 60.0] + [nan] * 6,
            "diverged_at": [nan, nan, nan, 7.0] + [nan] * 4,
            "weight_error": [0.1, 0.2, 0.9, nan, 1.0, 1.0, 1.0, 1.0],
            "weight_error_ols": [0.1, 0.2, 0.9, np.inf, 1.0, 1.0, 1.0, 1.0],
        }
    )
    return frame.astype({"condition": "category", "status": "category", "reason": "category"})


@pytest.fixture
def features() -> pd.DataFrame:
    """Return their two weights; the scaled condition's second feature has divisor 1,000."""
    first = [1.0, -2.0, 0.5, np.nan, 1.0, 1.0, 1.0, 0.0]
    last = [0.5, 0.5, 0.6, np.inf, 0.0, 2.0, 3.0, 4.0]
    weights = np.stack([first, last], axis=1).ravel()
    divisors = np.array([1.0, 1.0] * 4 + [1.0, 1000.0] * 4)
    frame = pd.DataFrame(
        {
            "condition": ["raw"] * 8 + ["scaled"] * 8,
            "seed": np.tile(np.repeat([0, 1, 2, 3], 2), 2),
            "feature": np.tile([0, 1], 8),
            "weight_init": 0.0,
            "weight": weights,
            "weight_original": weights / divisors,
            "weight_true": [2.0, 0.5] * 8,
            "weight_ols": [5.0, 0.5] * 8,
            "t_ols": [1.5, -90.0] * 8,
            "steps_to_feature_target": [np.nan, 30.0] * 2 + [np.nan] * 12,
            "grad_norm_init": [1.0, 1000.0] * 8,
            "grad_norm_first_epoch": 1.0,
            "grad_norm_mean": 1.0,
            "movement": np.abs(weights),
        }
    )
    return frame.astype({"condition": "category"})


def rows(frame: pd.DataFrame, *keys: str) -> dict[Any, pd.Series]:
    return dict(frame.set_index(list(keys)).iterrows())


def test_what_became_of_the_runs(runs: pd.DataFrame) -> None:
    found = rows(summary.summarize_runs(runs, CONDITIONS), "condition")
    raw, scaled = found["raw"], found["scaled"]
    assert (raw["converged"], raw["diverged"], raw["failed"]) == (0.5, 0.25, 0)
    assert (raw["converged_n"], raw["updates"], raw["n"]) == (4, 100, 4)
    assert scaled["converged"] == 0 < scaled["converged_high"]


def test_diverged_runs_stand_in_no_median_and_are_counted(runs: pd.DataFrame) -> None:
    raw = rows(summary.summarize_runs(runs, CONDITIONS), "condition")["raw"]
    assert raw["final_loss"] == 2.0
    assert raw["weight_error_ols"] == 0.2
    assert (raw["final_loss_n"], raw["final_loss_missing"]) == (3, 0)


def test_a_value_that_is_not_finite_is_counted_as_missing(runs: pd.DataFrame) -> None:
    runs.loc[0, "weight_error"] = np.nan
    raw = rows(summary.summarize_runs(runs, CONDITIONS), "condition")["raw"]
    assert (raw["weight_error_n"], raw["weight_error_missing"]) == (2, 1)


def test_steps_are_censored_at_the_budget(runs: pd.DataFrame) -> None:
    found = rows(summary.summarize_runs(runs, CONDITIONS), "condition")
    assert found["raw"]["steps_to_target"] == np.inf  # two of four: the middle is not known
    runs.loc[2, ["status", "steps_to_target"]] = ["converged", 90.0]
    found = rows(summary.summarize_runs(runs, CONDITIONS), "condition")
    assert found["raw"]["steps_to_target"] == 75.0
    assert found["scaled"]["steps_to_target"] == np.inf


def test_convergence_is_not_judged_without_a_target(runs: pd.DataFrame) -> None:
    runs["status"] = "no_target"
    found = summary.summarize_runs(runs, CONDITIONS)
    assert not found["has_target"].any()
    assert found[["converged", "steps_to_target"]].isna().all(axis=None)
    assert (found["converged_n"] == 0).all()


def test_weights_by_feature(features: pd.DataFrame, runs: pd.DataFrame) -> None:
    found = rows(summary.summarize_features(features, runs), "condition", "feature")
    second = found["raw", 1]
    assert (second["weight"], second["weight_n"], second["movement_most"]) == (0.5, 3, 0.6)
    assert (second["reached"], second["reached_n"]) == (0.5, 4)
    assert second["grad_norm_init_n"] == 4  # known of the diverged run, too
    assert found["scaled", 1]["training_unit"] == pytest.approx(1000)
    assert found["scaled", 1]["weight_original"] == pytest.approx(0.0025)


def test_training_units_survive_weights_of_zero(features: pd.DataFrame) -> None:
    units = summary.training_units(features)
    scaled = features["condition"] == "scaled"
    expected = np.where(features["feature"] == 1, 1000.0, 1.0)[scaled]
    np.testing.assert_allclose(units[scaled], expected)
    networks = features.assign(weight=np.nan, weight_original=np.nan)
    assert summary.training_units(networks).isna().all()


def test_which_weight_ended_larger(features: pd.DataFrame, runs: pd.DataFrame) -> None:
    found = rows(summary.last_weight_larger(features, runs), "condition")
    assert (found["raw"]["last_weight_larger"], found["raw"]["last_weight_larger_n"]) == (
        pytest.approx(1 / 3),
        3,
    )
    assert (
        found["scaled"]["last_weight_larger"],
        found["scaled"]["last_weight_twice_as_large"],
    ) == (0.75, 0.5)


def test_difference_is_paired_by_the_seeds_both_kept(
    features: pd.DataFrame, runs: pd.DataFrame
) -> None:
    found = summary.last_weight_larger_difference(features, runs, "raw", "scaled")
    # Seeds 0, 1, 2: raw no, no, yes; scaled no, yes, yes.
    assert found.value == pytest.approx(-1 / 3)
    assert found.n == 3
    networks = features.assign(weight=np.nan)
    assert summary.last_weight_larger_difference(networks, runs, "raw", "scaled").n == 0
    assert summary.last_weight_larger(networks, runs).empty


def test_incidence_rises_where_seeds_arrive(runs: pd.DataFrame) -> None:
    found = summary.cumulative_incidence(runs, CONDITIONS)
    raw = found[found["condition"] == "raw"]
    reached = raw[raw["outcome"] == "reached"]
    assert reached["update"].tolist() == [0, 40, 60, 100]
    assert reached["share"].tolist() == [0, 0.25, 0.5, 0.5]
    assert raw.loc[raw["outcome"] == "diverged", "share"].max() == 0.25
