"""Scores on held-out rows: what counts as 0, whose rate is tuned, and what is paired."""

import numpy as np
import pandas as pd
import pytest

from scaling_study.analysis import held_out
from scaling_study.analysis.intervals import resampled_mean
from scaling_study.errors import StudyError
from scaling_study.study import datasets


def runs() -> pd.DataFrame:
    """Return eight seeds; standardised runs score 0.5 better, and best at 0.1."""
    cells = [(s, k, r) for s in range(8) for k in ("none", "standard") for r in (0.01, 0.1, 1.0)]
    frame = pd.DataFrame(cells, columns=["seed", "scaler", "learning_rate"])
    best = (frame["learning_rate"] == 0.1).astype(float)
    frame["test_r2"] = 0.2 * best + 0.5 * (frame["scaler"] == "standard") + 0.01 * frame["seed"]
    return frame.assign(
        block="b-raw", problem="p", model="linear", optimizer="sgd", scale_factor=1.0, status="ok"
    )


def test_what_is_worse_than_the_mean_or_diverged_counts_as_0():
    frame = runs().assign(test_r2=-3.0)
    assert (held_out.run_scores(frame)["value"] == 0).all()
    lost = held_out.run_scores(runs().assign(status="diverged", test_r2=np.nan))
    assert (lost["value"] == 0).all()
    assert set(lost["block"]) == {"b"}


def test_accuracy_is_kept_as_it_is():
    frame = held_out.run_scores(runs().assign(test_accuracy=0.7))
    assert (frame["value"] == 0.7).all()
    assert set(frame["measure"]) == {"accuracy"}


def test_one_half_of_the_seeds_tunes_the_other():
    frame = held_out.run_scores(runs())
    late = frame["seed"] >= 4
    frame.loc[late & (frame["learning_rate"] == 1.0), "value"] = 9.0  # not for it to see
    tuned = held_out.runs_at_tuned_rate(frame)
    assert set(tuned["seed"]) == {4, 5, 6, 7}
    assert set(tuned["learning_rate"]) == {0.1}
    assert not tuned["edge"].any()
    assert set(held_out.runs_at_default_rate(frame)["learning_rate"]) == {0.01}


def test_differences_are_within_a_seed():
    tuned = held_out.runs_at_tuned_rate(held_out.run_scores(runs()))
    (row,) = held_out.mean_differences(tuned, "scaler", "none").itertuples()
    assert row.scaler == "standard"
    assert (row.value, row.low, row.high) == pytest.approx((0.5, 0.5, 0.5))
    assert row.n == 4


def test_splits_of_one_data_set_have_the_corrected_interval():
    frame = runs().assign(problem="diabetes")
    noise = np.where(frame["scaler"] == "standard", 0.02 * (frame["seed"] % 3), 0)
    frame["test_r2"] += noise
    tuned = held_out.runs_at_tuned_rate(held_out.run_scores(frame))
    (row,) = held_out.mean_differences(tuned, "scaler", "none").itertuples()
    theirs = resampled_mean(0.5 + 0.02 * (np.arange(4, 8) % 3), 332, 110)  # 442 patients
    assert (row.value, row.low, row.high) == pytest.approx(theirs[:3])
    mean = held_out.mean_scores(tuned, held_out.CELL).set_index("scaler").loc["standard"]
    assert mean["high"] - mean["value"] > 2 * 0.02


def test_problems_that_draw_new_rows_have_students_interval():
    frame = held_out.run_scores(runs().assign(problem="friedman2(samples=50)"))
    assert (frame["overlap"] == 0).all()
    (scores,) = held_out.run_scores(runs().assign(problem="wine"))["overlap"].unique()
    assert scores == 44 / 134
    share = {"problem": "wine(test_share=0.5)", "problem.test_share": 0.5}
    assert (held_out.run_scores(runs().assign(**share))["overlap"] == 1).all()


def test_a_users_own_classes_have_the_chance_and_the_overlap_of_their_rows():
    wine = datasets.DATASETS["wine"]()
    frame = runs().assign(problem="mine:table(share=1)", test_accuracy=0.5)
    assert (held_out.run_scores(frame)[["chance", "overlap"]] == 0).all(axis=None)
    scores = held_out.run_scores(frame, {"mine:table(share=1)": wine})
    assert set(scores["chance"]) == {71 / 178}
    assert set(scores["overlap"]) == {44 / 134}


def test_an_interval_of_scores_ends_at_zero_and_one():
    frame = pd.DataFrame({"cell": 1, "value": [0.0, 1.0, 1.0], "overlap": 0.3})
    (row,) = held_out.mean_scores(frame, ["cell"]).itertuples()
    assert (row.low, row.high) == (0, 1)


def test_where_every_rate_is_alike_the_middle_is_picked_and_none_trained():
    tuned = held_out.runs_at_tuned_rate(held_out.run_scores(runs().assign(test_r2=-1.0)))
    assert set(tuned["learning_rate"]) == {0.1}
    assert not tuned["edge"].any()
    assert not held_out.better_than_chance(tuned).any()
    better = held_out.runs_at_tuned_rate(held_out.run_scores(runs()))
    assert held_out.better_than_chance(better).all()


def test_an_accuracy_of_always_the_same_class_is_not_trained():
    frame = runs().assign(problem="breast_cancer", test_accuracy=0.6)  # 357 of 569 are benign
    assert not held_out.better_than_chance(
        held_out.runs_at_tuned_rate(held_out.run_scores(frame))
    ).any()
    frame = frame.assign(test_accuracy=0.65)
    assert held_out.better_than_chance(
        held_out.runs_at_tuned_rate(held_out.run_scores(frame))
    ).all()


def test_what_a_block_of_further_rates_repeats_counts_once():
    frame = held_out.run_scores(pd.concat([runs(), runs().assign(block="b")], ignore_index=True))
    assert len(frame) == len(runs())
    other = runs().assign(block="b", test_r2=0.3)
    with pytest.raises(StudyError, match="differ in block, problem"):
        held_out.run_scores(pd.concat([runs(), other], ignore_index=True))
