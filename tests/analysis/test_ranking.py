"""Groups of optimizers: known differences are found, and equal ones are not told apart."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scores import frame

from scaling_study.analysis import ranking
from scaling_study.analysis.benchmark import SCORES
from scaling_study.errors import StudyError


def test_optimizers_that_differ_are_in_groups_of_their_own_and_equal_ones_share_one():
    board = ranking.leaderboard(frame({"a": 0.9, "b": 0.3, "b2": 0.3, "c": 0.1}), 200)
    board = board.set_index("optimizer")
    assert board["group"].to_dict() == {"a": 1, "b": 2, "b2": 2, "c": 3}
    np.testing.assert_allclose(board["sensitivity"], 1 - np.array([0.9, 0.3, 0.3, 0.1]), atol=0.06)
    inside = board["sensitivity"].between(board["sensitivity_low"], board["sensitivity_high"])
    assert inside.all()


def test_a_border_lies_where_replicates_have_the_same_optimizers_on_each_side():
    values = np.array([0.9, 0.1, 0.5, 0.11, 0.52])
    random = np.random.default_rng(1)
    sure, unsure = (values + random.normal(0, noise, (200, 5)) for noise in (1e-4, 0.03))
    assert ranking.groups(values, sure) == [5, 1, 3, 2, 4]
    assert ranking.groups(values, unsure) == [3, 1, 2, 1, 2]
    assert ranking.groups(values, random.normal(size=(200, 5))) == [1] * 5
    assert ranking.groups(values[:1], sure[:, :1]) == [1]
    # One that jumps over a border in more than one of twenty replicates takes it away.
    jumping = sure.copy()
    jumping[:11, 1] = 0.7
    assert ranking.groups(values, jumping) == [2, 1, 1, 1, 1]


def test_a_replicate_without_an_estimate_takes_no_border_away():
    values = np.array([0.1, 0.5, 0.9])
    sampled = np.tile(values, (100, 1))
    sampled[:40, 1] = np.nan
    assert ranking.groups(values, sampled) == [1, 2, 3]


def test_equal_optimizers_are_never_in_two_groups():
    sampled = np.random.default_rng(0).normal(size=(50, 1)) + np.array([[0.5, 0.5, 10.0]])
    assert ranking.groups(np.array([0.5, 0.5, 10.0]), sampled) == [1, 1, 2]


def test_groups_of_given_sizes_are_cut_from_the_order():
    assert ranking.cut(np.array([0.3, 0.1, 0.9, 0.2]), np.array([1, 2, 1])).tolist() == [2, 1, 3, 2]


def test_sensitivity_is_one_less_the_ratio_of_sums():
    kept, reference = np.array([[0.1, 0.4], [0.2, np.nan]]), np.array([[0.2, 0.8], [0.5, 0.9]])
    np.testing.assert_allclose(ranking.sensitivity(kept, reference), [1 - 0.5 / 1.0, 1 - 0.2 / 0.5])
    weighted = ranking.sensitivity(kept, reference, np.array([[3, 1]]))
    np.testing.assert_allclose(weighted, [[1 - 0.7 / 1.4, 1 - 0.2 / 0.5]])


def test_one_that_is_not_trained_and_one_that_fails_have_no_group_and_are_last():
    rows = frame({"good": 0.5, "slow": 0.5, "broken": 0.5}, problems=3)
    slow, broken = rows["optimizer"] == "slow", rows["optimizer"] == "broken"
    rows.loc[slow, ["reference", "others"]] = 0.01
    rows.loc[broken, list(SCORES)], rows.loc[broken, "failed"] = 0.0, 1.0
    board = ranking.leaderboard(rows, 50)
    assert board["optimizer"].tolist() == ["good", "slow", "broken"]
    assert board["status"].tolist() == ["ranked", "not trained", "failed"]
    assert board["group"].isna().tolist() == [False, True, True]
    assert board["sensitivity"].isna().tolist() == [False, True, True]


def test_a_replicate_holds_whole_folds_and_compares_on_the_same_draws():
    rows = frame({"a": 0.5, "b": 0.5}, spread=0.0)
    rows["others"] += rows["seed"] * 0.01  # the same for both
    sampled = ranking.replicates(ranking.cube(rows), 50)
    np.testing.assert_allclose(sampled[:, 0], sampled[:, 1])
    assert sampled[:, 0].std() > 0.005


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    covered = []
    for seed in range(60):
        board = ranking.leaderboard(frame({"a": 0.5}, problems=12, seed=seed, spread=0.08), 200)
        covered.append(board["sensitivity_low"][0] <= 0.5 <= board["sensitivity_high"][0])
    assert 0.83 <= np.mean(covered) <= 1  # a bootstrap over few problems is a little narrow


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="reference"), "column 'reference' is missing: time score"),
        (lambda f: f.assign(speed=1), "unknown"),
        (lambda f: f.assign(others=1.5), "others must be from 0 to 1, not 1.5"),
        (lambda f: f.assign(reference=np.nan), "reference must be from 0 to 1"),
        (lambda f: pd.concat([f, f.head(1)], ignore_index=True), "two rows"),
    ],
)
def test_a_table_that_is_sent_in_is_checked(change, message):
    with pytest.raises(StudyError, match=message):
        ranking.check(change(frame({"a": 0.5}, problems=2)))


def test_every_order_of_the_rows_gives_the_same_leaderboard():
    rows = frame({"a": 0.9, "b": 0.3}, problems=3)
    orders = itertools.islice((rows.sample(frac=1, random_state=i) for i in itertools.count()), 3)
    first = ranking.leaderboard(rows, 50)[["optimizer", "group", "sensitivity"]]
    for shuffled in orders:
        again = ranking.leaderboard(shuffled, 50)[["optimizer", "group", "sensitivity"]]
        pd.testing.assert_frame_equal(first, again)
