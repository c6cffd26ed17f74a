"""The verdict on scaling: from scores of splits, whatever trained them."""

import numpy as np
import pandas as pd
import pytest

from scaling_study.analysis import diagnosis
from scaling_study.analysis.diagnosis import Splits
from scaling_study.analysis.intervals import resampled_mean

SEEDS = range(8)
TRAININGS = [("linear", "adam"), ("mlp", "adam"), ("mlp", "sgd")]


def scores(noise: float = 0.003, chance: float = 0.0, **means: float) -> pd.DataFrame:
    """Return scores around a mean for each scaler, the same in every training."""
    random = np.random.default_rng(1)
    rows = [
        (model, optimizer, rates, scaler, seed, mean + noise * random.standard_normal())
        for model, optimizer in TRAININGS
        for rates in diagnosis.RATES
        for scaler, mean in means.items()
        for seed in SEEDS
    ]
    columns = ["model", "optimizer", "rates", "scaler", "seed", "value"]
    return pd.DataFrame(rows, columns=columns).assign(
        learning_rate=0.01, excess_share=0.1, diverged=False, overlap=1 / 3, chance=chance
    )


def judged(frame: pd.DataFrame) -> tuple[str, str]:
    table, compared = diagnosis.score_table(frame), diagnosis.differences(frame)
    scaler = diagnosis.recommended(frame)
    return diagnosis.verdict(table, compared, scaler), scaler


@pytest.mark.parametrize(
    ("frame", "verdict", "scaler"),
    [
        (scores(none=0.5, standard=0.9, minmax=0.8), "scale", "standard"),
        (scores(none=0.5, standard=0.7, minmax=0.9), "scale", "minmax"),
        (scores(none=0.9, standard=0.9, minmax=0.9), "nothing", "standard"),
        (scores(none=0.9, standard=0.7, minmax=0.6), "raw", "standard"),
        (scores(noise=0.1, none=0.6, standard=0.62, minmax=0.6), "unclear", "standard"),
        (scores(chance=0.6, none=0.6, standard=0.6, minmax=0.6), "untrained", "standard"),
    ],
)
def test_the_verdict_follows_from_the_scores(frame, verdict, scaler):
    assert judged(frame) == (verdict, scaler)


def test_a_score_and_its_difference_from_0_have_one_interval():
    frame = scores(noise=0.1, none=0.0, standard=0.97)
    frame.loc[frame["scaler"] == "none", "value"] = 0.0
    ends = ["value", "low", "high"]
    table = diagnosis.score_table(frame)
    table = table[table["scaler"] == "standard"]
    assert table["high"].max() == 1
    found = diagnosis.differences(frame)
    np.testing.assert_allclose(table[ends].to_numpy(), found[ends].to_numpy())


def test_a_usual_scaler_is_named_where_the_best_is_not_better_beyond_noise():
    frame = scores(noise=0.02, none=0.5, standard=0.9, maxabs=0.904)
    assert diagnosis.recommended(frame) == "standard"
    assert diagnosis.recommended(scores(none=0.5, standard=0.8, maxabs=0.9)) == "maxabs"


def test_a_training_in_which_nothing_trains_does_not_count():
    frame = scores(none=0.5, standard=0.9)
    dead = (frame["model"] == "mlp") & (frame["optimizer"] == "sgd")
    frame.loc[dead, "value"] = 0.0
    table, compared = diagnosis.score_table(frame), diagnosis.differences(frame)
    assert len(diagnosis.counted(table, compared, "standard")) == 4
    assert diagnosis.verdict(table, compared, "standard") == "scale"


def test_opposite_effects_are_mixed():
    frame = scores(none=0.7, standard=0.9)
    worse = (frame["model"] == "linear") & (frame["scaler"] == "standard")
    frame.loc[worse, "value"] -= 0.4
    assert judged(frame)[0] == "mixed"


def test_differences_are_paired_and_corrected_for_splits_that_overlap():
    frame = scores(none=0.5, standard=0.9)
    found = diagnosis.differences(frame).iloc[0]
    rows = frame[(frame["model"] == "linear") & (frame["rates"] == "default")]
    wide = rows.pivot(index="seed", columns="scaler", values="value")
    expected = resampled_mean(wide["standard"] - wide["none"], 3, 1)
    assert found[["value", "low", "high", "n"]].tolist() == pytest.approx(list(expected))


def test_scores_are_clipped_and_those_of_lost_runs_are_0():
    runs = pd.DataFrame(
        {
            "condition": list("abcd"),
            "model": "mlp(hidden=8)",
            "optimizer": "adam",
            "scaler": ["none", "none", "standard", "standard"],
            "block": ["x", "x", "y", "y"],
            "seed": 0,
            "learning_rate": [0.001, 0.1, 0.001, 0.1],
            "excess_share": np.nan,
            "status": ["no_target", "diverged", "no_target", "no_target"],
            "test_r2": [-3.0, 0.9, 0.5, 0.7],
        }
    )
    rates = {"x": [0.001, 0.1], "y": [0.1]}
    found = diagnosis.run_scores(runs, rates, Splits(0.3, 0.0))
    values = {(row.scaler, row.rates): row.value for row in found.itertuples()}
    assert values == {
        **{("none", "default"): 0.0, ("none", "tuned"): 0.0},
        **{("standard", "default"): 0.7, ("standard", "tuned"): 0.7},
    }
    assert set(found["model"]) == {"mlp"}


def test_the_best_rate_is_the_middle_one_of_those_tied():
    rates = [1e-4, 1e-3, 1e-2, 1e-1]
    runs = pd.DataFrame(
        [
            ("m", "adam", scaler, rate, "no_target", score)
            for scaler, means in {"a": [0.1, 0.9, 0.9, 0.9], "b": [0.1, 0.2, 0.3, 0.8]}.items()
            for rate, score in zip(rates, means, strict=True)
        ],
        columns=["model", "optimizer", "scaler", "learning_rate", "status", "test_r2"],
    )
    found = diagnosis.best_rates(runs).set_index("scaler")
    assert found["learning_rate"].to_dict() == {"a": 1e-2, "b": 1e-1}
    assert found["edge"].to_dict() == {"a": False, "b": True}


def test_of_tied_rates_one_that_does_not_diverge_is_chosen():
    grid = [(1e-15, "no_target"), *((rate, "diverged") for rate in (1e-9, 1e-6, 1e-3))]
    runs = pd.DataFrame(
        [("linear", "sgd", "none", rate, status, -9.0) for rate, status in grid],
        columns=["model", "optimizer", "scaler", "learning_rate", "status", "test_r2"],
    )
    found = diagnosis.best_rates(runs).iloc[0]
    assert (found["learning_rate"], found["value"], found["diverged"]) == (1e-15, 0, 0)


# Importances ----------------------------------------------------------------------------------


def long_shares(**means: dict[str, float]) -> pd.DataFrame:
    """Return shares by ``method_scaler`` and feature."""
    random = np.random.default_rng(2)
    rows = [
        (*name.rsplit("_", 1), feature, seed, mean + 0.005 * random.standard_normal())
        for name, features in means.items()
        for feature, mean in features.items()
        for seed in SEEDS
    ]
    frame = pd.DataFrame(rows, columns=["method", "scaler", "feature", "seed", "value"])
    return frame.assign(model="mlp", optimizer="adam", overlap=1 / 3)


SHARES = long_shares(
    permutation_none={"a": 0.7, "junk": 0.0, "shuffled a": 0.0},
    permutation_standard={"a": 0.7, "junk": 0.0, "shuffled a": 0.0},
    weight_none={"a": 0.2, "junk": 0.7, "shuffled a": 0.1},
    weight_standard={"a": 0.9, "junk": 0.05, "shuffled a": 0.05},
)


def test_changes_beyond_noise_are_found_and_others_are_not():
    found = diagnosis.share_changes(SHARES, "standard")
    changed = found[found["changed"]]
    assert set(changed["method"]) == {"weight"}
    assert {"a", "junk"} <= set(changed["feature"])
    top = changed.set_index("feature")["value"]
    assert top["junk"] == pytest.approx(-0.65, abs=0.02)


def test_shares_of_fewer_than_half_of_the_splits_are_marked():
    table = pd.DataFrame({"n": [3, 4, 8]})
    assert diagnosis.mark_few(table, 8)["few"].tolist() == [True, False, False]
    assert diagnosis.mark_few(table, 5)["few"].tolist() == [False, False, False]


def test_junk_is_what_is_as_irrelevant_as_the_control():
    cell = {"model": "mlp", "optimizer": "adam", "scaler": "standard"}
    assert diagnosis.irrelevant(SHARES, "shuffled a", cell) == ["junk"]


def test_agreement_is_with_permutation_importance():
    shares = long_shares(
        permutation_none={"a": 0.6, "b": 0.3, "c": 0.1}, weight_none={"a": 0.1, "b": 0.3, "c": 0.6}
    )
    found = diagnosis.agreement(diagnosis.share_table(shares)).set_index("method")["value"]
    assert found.to_dict() == {"weight": -1.0}


def test_nothing_is_compared_where_raw_columns_did_not_train():
    assert diagnosis.share_changes(SHARES[SHARES["scaler"] == "standard"], "standard").empty
