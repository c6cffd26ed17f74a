"""Measures: each against arithmetic on the runs' own data."""

import numpy as np
import pytest
from scipy import stats

import scaling_study
from scaling_study.analysis.metrics import MEASURES, SHARES, Table, share_left
from scaling_study.study import draws
from scaling_study.study.conditions import split
from scaling_study.study.problems import uniform


@pytest.fixture(scope="module")
def table(paper):
    blocks = ["units-long", "units-long-scaled", "units-long-fixed", "units-long-fixed-scaled"]
    return Table(paper, blocks)


@pytest.fixture(scope="module")
def whole(paper):
    return Table(paper)


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_a_number_a_run_and_says_what_it_is(table, whole, name):
    few = table.take(np.arange(len(table)) % 7 == 0)
    if name.endswith(("minimum", "saddle", "slope")):
        few = whole.take((whole.runs["sampling"] == "full").to_numpy())
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
        table["weight_first"][777],
        table["weight_last"][777],
    ]
    assert table["updates"][777] == 200


def test_the_last_is_the_scaled_feature_and_the_first_the_only_other_one(tmp_path):
    # Of diabetes' ten columns the third, bmi, is scaled.
    blocks = {"two": {"problem": "article"}, "ten": {"problem": "diabetes"}}
    study = {"design": "U", "sampling": "full", "epochs": 2, "seeds": 3, "blocks": blocks}
    results = scaling_study.run(study, output_dir=tmp_path / "wide", devices=1)
    weights = results.features.pivot_table(
        index=["block", "seed"], columns="feature", values="weight", observed=True
    )
    table = Table(results)
    ends = {name: table[name] for name in ("weight_first", "weight_last")}
    runs = table.runs.assign(**ends).set_index(["block", "seed"])
    assert runs.loc["two"]["weight_first"].tolist() == weights.loc["two"][0].tolist()
    assert runs.loc["two"]["weight_last"].tolist() == weights.loc["two"][1].tolist()
    assert runs.loc["ten"]["weight_last"].tolist() == weights.loc["ten"]["bmi"].tolist()
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


def _ends(table, name, place):
    """Return a column of the first and of the last feature of a run."""
    return np.array([table[f"{name}_{end}"][place] for end in ("first", "last")])


def test_permutation_share_is_that_of_every_permutation(table):
    names = ("share_permutation", "distortion_permutation", "lead_permutation")
    shares, distortion, lead = (MEASURES[name](table) for name in names)
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
            swapped = [weight[j] * (u[:, j][:, None] - u[:, j][None]) for j in range(2)]
            parts = np.array([((e[:, None] + moved) ** 2).mean() for moved in swapped])
            parts -= (e**2).mean()
            return parts / np.abs(parts).sum()

        weight = scale * _ends(table, "weight_original", place)
        wanted = importance(weight)
        assert shares[place] == pytest.approx(wanted[1], rel=1e-6)
        rows = np.column_stack([u, np.ones(len(u))])
        ols = np.linalg.lstsq(rows, y, rcond=None)[0][:2]
        missed = wanted - importance(ols)
        assert distortion[place] == pytest.approx(missed[1], rel=1e-5, abs=1e-9)
        assert lead[place] == pytest.approx((missed[1] - missed[0]) / 2, rel=1e-5, abs=1e-9)


def test_the_lead_is_reversed_where_the_features_are_exchanged(whole, monkeypatch):
    of_pair = ~np.isnan(MEASURES["lead_permutation"](whole))
    runs = whole.take(of_pair)
    networks = ~runs.runs["model"].astype(str).str.startswith("linear").to_numpy()
    assert networks.any()
    assert not networks.all()
    lead = MEASURES["lead_permutation"](runs)
    exchanged = runs.take(np.arange(len(runs)))
    swap = {"first": "last", "last": "first"}
    ends = [str(name).rpartition("_") for name in runs._pairs]
    names = {f"{name}_{end}": f"{name}_{swap[end]}" for name, _, end in ends}
    exchanged._pairs = runs._pairs.rename(columns=names)
    monkeypatch.setattr(type(runs), "scales", runs.scales[:, ::-1])
    monkeypatch.setattr(type(runs), "covariance", runs.covariance[:, ::-1, ::-1])
    np.testing.assert_allclose(MEASURES["lead_permutation"](exchanged), -lead, atol=1e-12)
    recorded = [runs[f"share_{name}_{end}"][networks] for name in ("permutation", "true")
                for end in swap]  # fmt: skip
    wanted = (recorded[1] - recorded[0] - recorded[3] + recorded[2]) / 2
    np.testing.assert_allclose(lead[networks], wanted, atol=1e-12)


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


def restarts(whole):
    """Return the raw networks of the restarts, of which a test sets where they ended."""
    chosen = (whole.runs["block"] == "restarts") & (whole.runs["scaler"] == "none")
    table = whole.take(chosen.to_numpy())
    ends = {"final_loss": 0.1, "loss_null": 1.0, "status": "not_converged"}
    ends |= {"gradient_norm": 1e-5, "curvature_least": 1e-4, "curvature_most": 1.0}
    table.runs = table.runs.assign(**ends)
    return table


ENDS = ("in_worse_minimum", "at_worse_saddle", "on_worse_slope")


@pytest.mark.parametrize(
    ("gradient", "curvature", "loss", "wanted"),
    [(1e-5, 1e-4, 0.5, (1, 0, 0)), (1e-5, -0.1, 0.5, (0, 1, 0)), (0.1, 1e-4, 0.5, (0, 0, 1)),
     (0.1, -0.1, 0.5, (0, 0, 1)), (1e-5, 1e-4, 0.105, (0, 0, 0))],
)  # fmt: skip
def test_where_a_restart_ended_is_named_by_gradient_and_curvature(
    whole, gradient, curvature, loss, wanted
):
    table = restarts(whole)
    second = (table.runs["init_seed"].astype(str) == "1").to_numpy()
    assert second.any()
    assert not second.all()
    for name, value in (("gradient_norm", gradient), ("curvature_least", curvature),
                        ("final_loss", loss)):  # fmt: skip
        table.runs.loc[second, name] = value
    for name, expected in zip(ENDS, wanted, strict=True):
        found = MEASURES[name](table)
        assert (found[second] == expected).all()
        assert (found[~second] == 0).all()  # the best of its restarts


def test_a_convex_loss_has_no_worse_minimum(whole):
    table = whole.take((whole.runs["block"] == "restarts-linear").to_numpy())
    assert (MEASURES["in_worse_minimum"](table) == 0).all()


def test_curvature_and_gradient_of_networks_are_recorded(whole):
    table = whole.take((whole.runs["block"] == "restarts").to_numpy())
    assert (table["gradient_norm"] > 0).all()
    assert (table["curvature_most"] > np.abs(table["curvature_least"])).all()
    ratio = MEASURES["log_curvature_ratio"](table)
    raw = (table.runs["scaler"] == "none").to_numpy()
    assert ratio[raw].mean() > ratio[~raw].mean() + 1  # 4 more, s = 100 squared, unless saturated


def test_what_is_left_of_a_networks_loss_is_counted_from_the_law(whole):
    table = whole.take((whole.runs["block"] == "networks-scaled").to_numpy())
    left = share_left(table)
    for place in range(0, len(table), 97):
        run = table.runs.iloc[place]
        u, noise = uniform().draw(int(run["seed"]))
        least = (noise**2).mean() / (u.sum(axis=1) + noise).var()  # the target has variance 1
        assert run["loss_null"] == pytest.approx(1, rel=1e-5)
        assert left[place] == pytest.approx((run["final_loss"] - least) / (1 - least), rel=1e-4)


def test_the_held_out_error_of_a_linear_model_is_that_of_its_predictions(table):
    found = MEASURES["held_out_error"](table)
    assert np.isinf(found[table.diverged]).all()
    for place in np.flatnonzero(np.isfinite(found))[::301]:
        run = table.runs.iloc[place]
        condition = table.conditions[str(run["condition"])]
        new = draws.held_out(split(condition), [int(run["seed"])])
        s = np.array([1.0, float(run["scale_factor"])])
        u = np.asarray(new.u)[0]
        y = u @ (s if run["design"] == "F" else np.ones(2)) + np.asarray(new.noise)[0]
        weights = _ends(table, "weight_original", place)
        missed = y - (u * s) @ weights - run["bias_original"]
        assert found[place] == pytest.approx((missed**2).mean() / y.var(), rel=1e-6)


def test_a_scaler_keeps_its_promise_on_the_rows_it_was_fitted_on(table):
    rows = table.runs["scaler"].isin(["minmax", "standard"]) & (table.runs["design"] == "U")
    selected = table.take(rows.to_numpy())
    assert (MEASURES["in_place_train"](selected) == 1).all()
    held_out, scaler = MEASURES["in_place_held_out"](selected), selected.runs["scaler"]
    assert held_out[scaler == "minmax"].mean() < 0.5  # new rows leave [0, 1]
    assert held_out[scaler == "standard"].mean() > 0.9  # and are close to mean 0 and sd 1


def test_two_features_agree_or_do_not(table):
    found = MEASURES["rank_agreement_init"](table)
    known = ~np.isnan(found)
    for place in np.flatnonzero(known)[::501]:
        ends, starts = (np.abs(_ends(table, name, place)) for name in ("weight", "weight_init"))
        assert found[place] == pytest.approx(stats.spearmanr(ends, starts).statistic)
