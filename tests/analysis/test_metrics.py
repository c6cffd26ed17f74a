"""Measures: each against arithmetic on the runs' own data."""

import numpy as np
import pytest
from scipy import stats

import scaling_study
from scaling_study.analysis.metrics import MEASURES, SHARES, Table
from scaling_study.study.problems import uniform


@pytest.fixture(scope="module")
def table(paper):
    return Table(paper, ["units-long"])


@pytest.fixture(scope="module")
def whole(paper):
    return Table(paper)


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_a_number_a_run_and_says_what_it_is(table, name):
    few = table.take(np.arange(len(table)) % 7 == 0)
    selected = few if "in_place" not in name else few.take(few.runs["scaler"].isin(["standard"]))
    values = MEASURES[name](selected)
    assert values.shape == (len(selected),)
    assert values.dtype == np.float64
    assert MEASURES[name].__doc__
    if name in SHARES:
        assert np.isin(values[~np.isnan(values)], (0, 0.5, 1)).all()


def test_first_and_last_are_the_runs_own_features(table, paper):
    features = paper.features
    run = table.runs.iloc[777]
    selected = features[
        (features["condition"] == run["condition"]) & (features["seed"] == run["seed"])
    ]
    assert selected.sort_values("feature")["weight"].tolist() == [
        run["weight_first"],
        run["weight_last"],
    ]
    assert table["updates"][777] == 200


def test_the_last_is_the_scaled_feature_and_the_first_the_only_other_one(tmp_path):
    # Of diabetes' ten columns the third is scaled.
    blocks = {"two": {"problem": "article"}, "ten": {"problem": "diabetes"}}
    study = {"design": "U", "sampling": "full", "epochs": 2, "seeds": 3, "blocks": blocks}
    results = scaling_study.run(study, output_dir=tmp_path / "wide", devices=1)
    weights = results.features.pivot_table(
        index=["block", "seed"], columns="feature", values="weight", observed=True
    )
    table = Table(results)
    runs = table.runs.set_index(["block", "seed"])
    assert runs.loc["two"]["weight_first"].tolist() == weights.loc["two"][0].tolist()
    assert runs.loc["two"]["weight_last"].tolist() == weights.loc["two"][1].tolist()
    assert runs.loc["ten"]["weight_last"].tolist() == weights.loc["ten"][2].tolist()
    assert runs.loc["ten"]["weight_first"].isna().all()
    of_ten = (table.runs["block"] == "ten").to_numpy()
    for name in (
        "share_weight",
        "distortion_permutation",
        "last_weight_larger",
        "log_curvature_ratio",
    ):
        values = MEASURES[name](table)
        assert np.isnan(values[of_ten]).all()
        assert np.isfinite(values[~of_ten]).all()


def test_permutation_share_is_that_of_every_permutation(table):
    shares, distortion = (
        MEASURES["share_permutation"](table),
        MEASURES["distortion_permutation"](table),
    )
    alive = np.flatnonzero(~np.isnan(shares))
    for place in alive[:: len(alive) // 5]:
        run = table.runs.iloc[place]
        u, noise = uniform().draw(int(run["seed"]))
        design, s = run["design"], float(run["scale_factor"])
        law = np.array([1.0, s if design == "F" else 1.0])
        y = u @ law + noise
        scale = np.array([1.0, s])

        def importance(weight, u=u, y=y):
            e = y - u @ weight
            e = e - e.mean()
            parts = [((e[:, None] + weight[j] * (u[:, j][:, None] - u[:, j][None])) ** 2).mean()
                     - (e**2).mean() for j in range(2)]  # fmt: skip
            return parts[1] / np.abs(parts).sum()

        weight = scale * run[["weight_original_first", "weight_original_last"]].to_numpy(float)
        wanted = importance(weight)
        assert shares[place] == pytest.approx(wanted, rel=1e-6)
        rows = np.column_stack([u, np.ones(len(u))])
        ols = np.linalg.lstsq(rows, y, rcond=None)[0][:2]
        assert distortion[place] == pytest.approx(wanted - importance(ols), rel=1e-5, abs=1e-9)


def test_scaled_weights_have_the_same_share_of_contribution_whatever_the_unit(table):
    selected = table.runs
    parts = {}
    for s in (100.0, 1000.0):
        rows = (
            (selected["scaler"] == "standard")
            & (selected["scale_factor"] == s)
            & (selected["design"] == "U")
        )
        parts[s] = MEASURES["share_contribution"](table.take(rows.to_numpy()))
    np.testing.assert_allclose(parts[100.0], parts[1000.0], rtol=1e-4)


def test_ratios_are_of_last_over_first(table):
    alive = table.completed
    found = MEASURES["log_movement_ratio"](table)[alive]
    wanted = np.log10(table["movement_last"] / table["movement_first"])[alive]
    np.testing.assert_allclose(found[np.isfinite(wanted)], wanted[np.isfinite(wanted)])
    assert np.isnan(MEASURES["log_movement_ratio"](table)[~alive]).all()
    raw = table.take(((table.runs["scaler"] == "none") & (table.runs["design"] == "U")).to_numpy())
    curvature = MEASURES["log_curvature_ratio"](raw)
    np.testing.assert_allclose(curvature, 2 * np.log10(raw["scale_factor"]), atol=0.4)


def test_what_did_not_arrive_is_beyond_and_not_missing(table):
    steps = MEASURES["log_steps"](table)
    assert np.isinf(steps[np.isnan(table["steps_to_target"])]).all()
    assert np.isinf(steps[~table.completed]).all()
    share, left = MEASURES["excess_share"](table), MEASURES["remaining_excess"](table)
    assert (share >= 0).all()
    assert np.isinf(share[~table.completed]).all()
    np.testing.assert_array_equal(left, np.maximum(share, 1e-3))


def test_a_convex_loss_is_slow_and_never_stuck(whole):
    selected = whole.take((whole.runs["block"] == "restarts-linear").to_numpy())
    found = MEASURES["plateaued"](selected)
    by_seed = selected.runs.assign(found=found).groupby(
        ["scale_factor", "scaler", "seed"], observed=True
    )
    assert (by_seed["found"].nunique() == 1).all()  # a run and its shorter self are judged as one


def test_stuck_is_high_and_still(whole):
    selected = whole.take(((whole.runs["block"] == "restarts-linear")
                      & (whole.runs["scaler"] == "none")
                      & (whole.runs["scale_factor"] == 1.0)).to_numpy())  # fmt: skip
    short = selected.runs["updates"].astype(int) == 20
    final = np.where(selected.runs["seed"] < 3, 9.0, 1.0)  # three restarts end high
    selected.runs["final_loss"] = final
    selected.runs["status"] = "not_converged"
    assert MEASURES["plateaued"](selected)[(selected.runs["seed"] < 3).to_numpy()].all()
    assert not MEASURES["plateaued"](selected)[(selected.runs["seed"] >= 3).to_numpy()].any()
    selected.runs.loc[short, "final_loss"] = 2 * final[short]  # and still falls: slow
    assert not MEASURES["plateaued"](selected).any()


def test_a_scaler_keeps_its_promise_on_the_rows_it_was_fitted_on(table):
    rows = table.runs["scaler"].isin(["minmax", "standard"]) & (table.runs["scale_factor"] == 100.0)
    selected = table.take(rows.to_numpy())
    assert (MEASURES["in_place_train"](selected) == 1).all()
    assert MEASURES["in_place_held_out"](selected).mean() < 0.5


def test_two_features_agree_or_do_not(table):
    found = MEASURES["rank_agreement_init"](table)
    known = ~np.isnan(found)
    for place in np.flatnonzero(known)[::501]:
        run = table.runs.iloc[place]
        ends = np.abs(run[["weight_first", "weight_last"]].to_numpy(float))
        starts = np.abs(run[["weight_init_first", "weight_init_last"]].to_numpy(float))
        assert found[place] == pytest.approx(stats.spearmanr(ends, starts).statistic)
