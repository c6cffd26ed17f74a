"""Learning rates: half of the seeds pick one, the other half is judged."""

import numpy as np

from scaling_study.analysis import measures
from scaling_study.analysis.rates import tuned


def test_the_best_rate_is_picked_on_one_half_and_judged_on_the_other(paper):
    table = measures.Table(paper, ["practice-long"])
    picked = tuned(table)
    chosen = table.runs[picked["chosen"].to_numpy()]
    assert chosen["seed"].min() == 8
    one_rate = chosen.groupby(["scaler", "target_scaler", "optimizer"], observed=True)
    assert (one_rate["learning_rate"].nunique() == 1).all()
    share = measures.excess_share(table)
    left = np.where(np.isinf(share), 1.0, share / (1 + np.where(np.isinf(share), 0.0, share)))
    frame = table.runs.assign(left=left)
    tuning = frame[frame["seed"] < 8]
    for (scaler, target, optimizer), own in one_rate:
        cell = tuning[(tuning["scaler"] == scaler) & (tuning["target_scaler"] == target)
                      & (tuning["optimizer"] == optimizer)]  # fmt: skip
        if cell["steps_to_target"].notna().any():
            continue
        best = cell.groupby("learning_rate", observed=True)["left"].mean().idxmin()
        assert own["learning_rate"].iloc[0] == best
    grid = sorted(table.runs["learning_rate"].unique())
    at_end = one_rate["learning_rate"].first().isin([grid[0], grid[-1]]).sum()
    assert picked["edge"].sum() == at_end
