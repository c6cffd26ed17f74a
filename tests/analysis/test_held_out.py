"""Scores on held-out rows: what counts as 0, whose rate is tuned, and what is paired."""

import numpy as np
import pandas as pd
import pytest

from scaling_study.analysis import held_out


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
    assert (held_out.scored(frame)["value"] == 0).all()
    lost = held_out.scored(runs().assign(status="diverged", test_r2=np.nan))
    assert (lost["value"] == 0).all()
    assert set(lost["block"]) == {"b"}


def test_accuracy_is_kept_as_it_is():
    frame = held_out.scored(runs().assign(test_accuracy=0.7))
    assert (frame["value"] == 0.7).all()
    assert set(frame["measure"]) == {"accuracy"}


def test_one_half_of_the_seeds_tunes_the_other():
    frame = held_out.scored(runs())
    late = frame["seed"] >= 4
    frame.loc[late & (frame["learning_rate"] == 1.0), "value"] = 9.0  # not for it to see
    tuned = held_out.at_tuned(frame)
    assert set(tuned["seed"]) == {4, 5, 6, 7}
    assert set(tuned["learning_rate"]) == {0.1}
    assert not tuned["edge"].any()
    assert set(held_out.at_default(frame)["learning_rate"]) == {0.01}


def test_differences_are_within_a_seed():
    tuned = held_out.at_tuned(held_out.scored(runs()))
    (row,) = held_out.against(tuned, "scaler", "none").itertuples()
    assert row.scaler == "standard"
    assert (row.value, row.low, row.high) == pytest.approx((0.5, 0.5, 0.5))
    assert row.n == 4
