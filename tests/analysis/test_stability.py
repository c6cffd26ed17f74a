"""How a ranking changes: what is real comes again, and noise does not."""

import numpy as np
import pytest
from scores import frame

from scaling_study.analysis import stability


def test_leaving_out_the_one_problem_that_differs_is_noticed():
    rows = frame({"a": 0.5, "b": 0.5}, spread=0.0)
    odd = (rows["problem"] == "p3") & (rows["optimizer"] == "a")
    rows.loc[odd, "others"] = 0.0
    changes = stability.without_one(rows).set_index(["problem", "optimizer"])["change"]
    assert changes.abs().idxmax() == ("p3", "a")
    assert changes["p3", "a"] == pytest.approx(-0.05)
    np.testing.assert_allclose(changes[:, "b"], 0, atol=1e-12)


def test_halves_agree_where_problems_do_and_not_where_they_are_opposite():
    names = {f"o{i}": i / 10 for i in range(9)}
    same = frame(names, problems=4, spread=0.0)
    assert (stability.halves_of_problems(same) == 1).all()
    opposite = same.copy()
    turned = opposite["problem"].isin(["p0", "p1"])
    opposite.loc[turned, "others"] = 0.8 - opposite.loc[turned, "others"]
    assert np.nanmin(stability.halves_of_problems(opposite)) == pytest.approx(-1)


def test_two_sets_of_seeds_agree_on_what_is_real_and_noise_is_told_apart_by_neither():
    rows = frame({"a": 0.9, "b": 0.5, "c": 0.1})
    group = np.array([1.0, 2.0, 3.0])
    sets = stability.sets_of_seeds(rows, group)
    assert sets["group_0"].tolist() == sets["group_1"].tolist() == [1, 2, 3]
    assert stability.kept_groups(rows, group, 200) == 1
    assert stability.held_out_groups(rows, 200) == [(3, 3), (3, 3)]
    same, opposite, one = stability.contradictions(rows, 200)
    assert (same, opposite, one) == (3, 0, 0)
