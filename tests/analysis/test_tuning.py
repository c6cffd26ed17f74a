"""Half of the seeds picks a learning rate, the other half is reported on."""

import numpy as np
import pytest

from scaling_study.analysis import metrics
from scaling_study.analysis.tuning import best_index, tuned, tuning_seeds


@pytest.mark.parametrize(
    ("seeds", "tuning"),
    [
        ([0, 1, 2, 3], [True, True, False, False]),
        ([3, 0, 3, 1, 2], [False, True, False, True, False]),
        ([10, 11, 12], [True, False, False]),
        ([5], [False]),
    ],
)
def test_the_smaller_half_of_the_seeds_tunes(seeds, tuning):
    assert tuning_seeds(seeds).tolist() == tuning


@pytest.mark.parametrize(
    ("scores", "place"),
    [
        ([0.1, 0.9, 0.2], 1),
        ([0.0, 0.0, 0.0], 1),  # a tie of all is not at an edge
        ([0.0, 1.0, 1.0 - 1e-12, 1.0, 0.5], 2),
        ([1.0, 1.0, 0.0], 0),
        ([1.0, 0.0, 0.0, 1.0], 0),  # the nearest to the middle of those alike, the smaller
    ],
)
def test_the_best_is_the_middle_of_those_alike(scores, place):
    assert best_index(scores) == place


def test_the_best_goes_along_the_last_axis():
    assert best_index(np.eye(3)).tolist() == [0, 1, 2]


def test_the_best_rate_is_picked_on_one_half_and_judged_on_the_other(paper):
    table = metrics.Table(paper, ["practice-long"])
    picked = tuned(table)
    chosen = table.runs[picked["chosen"].to_numpy()]
    assert chosen["seed"].min() == 8
    one_rate = chosen.groupby(["scaler", "target_scaler", "optimizer"], observed=True)
    assert (one_rate["learning_rate"].nunique() == 1).all()
    share = metrics.excess_share(table)
    left = np.where(np.isinf(share), 1.0, share / (1 + np.where(np.isinf(share), 0.0, share)))
    frame = table.runs.assign(left=left)
    tuning = frame[frame["seed"] < 8]
    for (scaler, target, optimizer), group in one_rate:
        cell = tuning[(tuning["scaler"] == scaler) & (tuning["target_scaler"] == target)
                      & (tuning["optimizer"] == optimizer)]  # fmt: skip
        if cell["steps_to_target"].notna().any():
            continue
        best = cell.groupby("learning_rate", observed=True)["left"].mean().idxmin()
        assert group["learning_rate"].iloc[0] == best
    grid = sorted(table.runs["learning_rate"].unique())
    at_end = one_rate["learning_rate"].first().isin([grid[0], grid[-1]]).sum()
    assert picked["edge"].sum() == at_end
