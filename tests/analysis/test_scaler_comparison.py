"""Scalers compared with raw inputs: which differ, and what is not said of too few or lost runs."""

import numpy as np
import pandas as pd
import pytest

from scaling_study.analysis.intervals import mean, resampled_mean
from scaling_study.analysis.scaler_comparison import compare_scalers, mean_shares, run_measures

SEEDS = range(8)
MEANS = {"none": 0.5, "standard": 0.9, "minmax": 0.5}
CONDITIONS = {name: f"c-{name}" for name in MEANS}
LABELS = pd.DataFrame({"condition": CONDITIONS.values(), "scaler": CONDITIONS.keys()})
LABELS = LABELS.assign(setting="adam, scale factor 1000")


def runs(noise=0.01, **changes) -> pd.DataFrame:
    random = np.random.default_rng(3)
    common = dict(zip(SEEDS, random.normal(0, 0.1, len(SEEDS)), strict=True))  # of a seed
    rows = [
        {
            "condition": CONDITIONS[scaler],
            "seed": seed,
            "status": "not_converged",
            "test_r2": value + common[seed] + noise * random.normal(),
            "excess_share": 1 - value,
        }
        for scaler, value in MEANS.items()
        for seed in SEEDS
    ]
    return pd.DataFrame(rows).assign(**changes)


def row_of(table, scaler, measure="held-out R²"):
    return table[(table["scaler"] == scaler) & (table["measure"] == measure)].iloc[0]


def test_a_scaler_that_differs_is_named_and_one_that_does_not_is_not():
    table = compare_scalers(run_measures(runs(), LABELS))
    assert row_of(table, "standard")["difference"] == pytest.approx(0.4, abs=0.02)
    assert table.groupby("scaler")["differs"].all().to_dict() == {
        **{"minmax": False, "none": False, "standard": True}
    }
    assert row_of(table, "standard", "excess share")["difference"] == pytest.approx(-0.4)


@pytest.mark.parametrize("overlap", [0.0, 1 / 3])
def test_differences_are_paired_corrected_and_allow_for_splits_that_share_rows(overlap):
    measured = run_measures(runs(), LABELS.assign(overlap=overlap))
    found = row_of(compare_scalers(measured), "standard")
    rows = measured[measured["measure"] == "held-out R²"]
    wide = rows.pivot(index="seed", columns="scaler", values="value")
    gaps, level = wide["standard"] - wide["none"], 1 - 0.05 / 2
    expected = mean(gaps, confidence=level)
    if overlap:
        expected = resampled_mean(gaps, 3, 1, confidence=level)
    ends = ["difference", "difference_low", "difference_high"]
    assert found[ends].tolist() == pytest.approx(list(expected)[:3])


def test_a_run_that_diverged_is_the_worst_there_is():
    lost = runs(status="diverged", test_r2=0.9, excess_share=np.inf)
    table = compare_scalers(run_measures(lost, LABELS)).set_index(["measure", "scaler"])["value"]
    assert (table["held-out R²"] == 0).all()
    assert (table["excess share"] == 1).all()


def test_nothing_is_compared_where_nothing_is_measured():
    bare = runs().drop(columns=["test_r2", "excess_share"])
    assert compare_scalers(run_measures(bare, LABELS)).empty
    alone = LABELS[LABELS["scaler"] == "standard"]
    assert not compare_scalers(run_measures(runs(), alone))["differs"].any()


def test_shares_are_of_runs_that_fit():
    features = pd.DataFrame(
        {"condition": "c-none", "seed": [0, 0, 1, 1], "feature": list("abab"), "share_weight": 0.5}
    )
    features["share_permutation"] = [0.8, 0.2, 0.1, 0.9]
    fitted = runs()[lambda rows: rows["condition"] == "c-none"]
    fitted = fitted.assign(r2_held_out=[0.9, -1.0, *[0.5] * 6])
    found = mean_shares(features, fitted, LABELS).set_index(["method", "feature"])
    assert found.loc[("permutation", "a"), ["value", "n"]].tolist() == [0.8, 1]
    assert mean_shares(features.iloc[:, :3], fitted, LABELS).empty


def test_held_out_scores_of_importances_count_where_there_is_no_other():
    drawn = runs().rename(columns={"test_r2": "r2_held_out"})
    pd.testing.assert_frame_equal(run_measures(drawn, LABELS), run_measures(runs(), LABELS))
    both = runs().assign(r2_held_out=0.1)
    pd.testing.assert_frame_equal(run_measures(both, LABELS), run_measures(runs(), LABELS))


def test_networks_are_compared_by_the_loss_that_they_explain():
    network = runs(excess_share=np.nan, test_r2=np.nan, status="no_target", loss_null=2.0)
    scaled = network["condition"] == CONDITIONS["standard"]
    network = network.assign(final_loss=np.where(scaled, 0.2, 1.0))
    network.loc[network["condition"] == CONDITIONS["minmax"], "status"] = "diverged"
    table = compare_scalers(run_measures(network, LABELS))
    assert set(table["measure"]) == {"explained training loss"}
    assert row_of(table, "standard", "explained training loss")["value"] == pytest.approx(0.9)
    assert row_of(table, "standard", "explained training loss")["difference"] == pytest.approx(0.4)
    assert row_of(table, "minmax", "explained training loss")["value"] == 0


def test_lost_runs_count_for_no_measure_that_their_setting_does_not_have():
    linear = runs(test_r2=np.nan, final_loss=1.0, loss_null=2.0)
    linear.loc[:3, "status"] = "diverged"
    assert set(run_measures(linear, LABELS)["measure"]) == {"excess share"}
