"""Tables of what networks hold for important: by hand, and read only of what fits."""

import numpy as np
import pandas as pd
import pytest

from scaling_study.analysis import attribution
from scaling_study.analysis.attribution import CELL, FEWEST, METHODS
from scaling_study.analysis.intervals import proportion
from scaling_study.errors import StudyError

SEEDS, RATES = range(16), (0.01, 0.1)
TRUTH = np.array([0.5, 0.3, 0.2])
SHARES = {"weight": np.array([0.1, 0.3, 0.6]), "permutation": TRUTH}


def study(scalers=("none", "standard"), **changed) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return runs and features: all fit, best at 0.1; raw |weight| is distorted by 0.4."""
    cells = [(s, r, k) for s in scalers for r in RATES for k in SEEDS]
    runs = pd.DataFrame(cells, columns=["scaler", "learning_rate", "seed"])
    runs = runs.assign(
        condition=runs["scaler"] + runs["learning_rate"].astype(str),
        r2_held_out=np.where(runs["learning_rate"] == 0.1, 0.95, 0.92),
        status="not_converged",
        **{"block": "scale", "problem": "p", "model": "m", "scale_factor": 1.0, "offset": 0.0},
    ).assign(**changed)
    features = pd.concat([runs.assign(feature=j) for j in range(3)], ignore_index=True)
    scaled = features["scaler"] == "standard"
    for method in ("true", *METHODS):
        shares = {**SHARES, "true": TRUTH}.get(method, np.full(3, np.nan))[features["feature"]]
        truth = TRUTH[features["feature"]]
        features[f"share_{method}"] = np.where(scaled & ~np.isnan(shares), truth, shares)
    return runs, features.drop(columns=["block", "problem", "model", "scale_factor", "offset"])


def read_of(runs: pd.DataFrame, features: pd.DataFrame):
    kept = attribution.tuned_runs(runs)
    return attribution.per_run(features, kept), attribution.goodness_of_fit(kept)


def at(frame: pd.DataFrame, method: str, scaler: str = "none") -> pd.Series:
    (row,) = frame[(frame["method"] == method) & (frame["scaler"] == scaler)].iloc
    return row


def test_what_says_the_truth_is_not_distorted_and_all_for_the_wrong_one_is_by_one():
    shares = np.array([TRUTH, [0, 0, 1], [1, 0, 0]])
    truth = np.array([TRUTH, [1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(attribution.distortion(shares, truth), [0, 1, 0])


def test_negative_shares_are_kept():
    shares, truth = np.array([[1.0, -0.2]]), np.array([[1.0, 0.0]])
    np.testing.assert_allclose(attribution.distortion(shares, truth), 0.1)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.6, 0.3, 0.1], 0),
        ([0.3, 0.6, 0.1], 1),
        ([0.5, 0.2, 0.3], 1),
        ([0.5, np.nan, 0.3], np.nan),
    ],
)
def test_a_ranking_is_flipped_by_one_pair_that_truly_differs(shares, expected):
    found = attribution.flipped(np.array([shares]), np.array([[0.55, 0.3, 0.15]]))
    np.testing.assert_equal(found, [expected])


def test_features_that_matter_alike_have_no_order():
    truth = np.array([[0.54, 0.46]])
    np.testing.assert_equal(attribution.flipped(np.array([[0.1, 0.9]]), truth), [np.nan])


def test_distortion_lean_and_flips_are_those_worked_out_by_hand():
    read, cells = read_of(*study())
    found = {name: attribution.cell_means(read, cells, name) for name in attribution.MEASURES}
    # ½ (0.4 + 0 + 0.4); 0.6 - 0.2; 0.6
    for name, expected in (("distortion", 0.4), ("signed_bias", 0.4), ("last", 0.6)):
        assert at(found[name], "weight")[["value", "low", "high"]].to_numpy(float) == pytest.approx(
            expected
        )
        assert at(found[name], "weight")["n"] == 8
    assert at(found["distortion"], "permutation")["value"] == 0
    assert at(found["distortion"], "weight", "standard")["value"] == 0
    assert tuple(at(found["flipped"], "weight")[["value", "low", "high"]]) == pytest.approx(
        proportion(8, 8)[:3]
    )
    assert at(found["flipped"], "permutation")["value"] == 0
    assert set(found["distortion"]["method"]) == set(SHARES)  # the others could not read it


def test_half_of_the_seeds_picks_the_rate_and_the_other_half_is_reported():
    runs, _ = study()
    late = runs["seed"] >= 8
    runs.loc[late & (runs["learning_rate"] == 0.01), "r2_held_out"] = 0.99  # not for it to see
    kept = attribution.tuned_runs(runs)
    assert set(kept["seed"]) == set(range(8, 16))
    assert set(kept["learning_rate"]) == {0.1}
    assert kept["edge"].all()


@pytest.mark.parametrize(
    "spoilt", [{"r2_held_out": 0.89}, {"r2_held_out": np.nan}, {"status": "diverged"}]
)
def test_a_run_that_does_not_fit_enters_nothing_but_the_share_that_fits(spoilt):
    runs, features = study()
    bad = {14, 15}
    for name, value in spoilt.items():
        runs.loc[runs["seed"].isin(bad) & (runs["scaler"] == "none"), name] = value
    off = features["seed"].isin(bad) & (features["scaler"] == "none")
    features.loc[off, "share_weight"] = np.nan if "status" in spoilt else 100.0
    read, cells = read_of(runs, features)
    assert set(read.loc[read["scaler"] == "none", "seed"]) == set(range(8, 14))
    weight = at(attribution.cell_means(read, cells, "distortion"), "weight")
    assert (weight["value"], weight["n"]) == (pytest.approx(0.4), 6)
    (raw,) = cells[cells["scaler"] == "none"].iloc
    assert tuple(raw[["value", "low", "high", "n"]]) == pytest.approx(proportion(6, 8))
    assert raw["fitting"] == 6
    assert raw["lost"] == (0 if spoilt == {"r2_held_out": 0.89} else 2)


def test_infinity_is_no_fit_and_no_median():
    runs, _ = study()
    runs.loc[runs["seed"] == 15, "r2_held_out"] = -np.inf
    cells = attribution.goodness_of_fit(attribution.tuned_runs(runs))
    assert set(cells["lost"]) == {1}
    assert set(cells["r2"]) == {0.95}


@pytest.mark.parametrize("fitting", [FEWEST - 1, FEWEST])
def test_a_cell_with_too_few_fitting_runs_is_not_read_and_says_so(fitting):
    runs, features = study()
    raw = (runs["scaler"] == "none") & (runs["seed"] >= 8 + fitting)
    runs.loc[raw, "r2_held_out"] = 0.5
    read, cells = read_of(runs, features)
    for frame in (
        attribution.cell_means(read, cells, "distortion"),
        attribution.cell_means(read, cells, "flipped"),
        attribution.mean_differences(read, cells),
    ):
        row = at(frame, "weight")
        assert row["n"] == fitting
        assert np.isnan(row[["value", "low", "high"]].to_numpy(float)).all() == (fitting < FEWEST)


def test_a_cell_without_any_fitting_run_is_there_and_empty():
    runs, features = study()
    runs.loc[runs["scaler"] == "none", "r2_held_out"] = 0.1
    read, cells = read_of(runs, features)
    row = at(attribution.cell_means(read, cells, "distortion"), "weight")
    assert row["n"] == 0
    assert np.isnan(row["value"])
    assert at(attribution.cell_means(read, cells, "distortion"), "weight", "standard")["n"] == 8
    runs["r2_held_out"] = 0.1
    read, cells = read_of(runs, features)
    assert len(read) == 0
    assert len(attribution.cell_means(read, cells, "distortion")) == 0
    assert len(attribution.mean_differences(read, cells)) == 0


def test_differences_are_within_the_seeds_that_fit_both_ways():
    runs, features = study()
    truth = (features["feature"] == 0) & (features["scaler"] == "standard")
    # A share that varies with the seed, alike in both, leaves no trace in the difference.
    shift = np.where(features["feature"] == 0, 1, np.where(features["feature"] == 1, -1, 0))
    features["share_weight"] += shift * 0.01 * (features["seed"] - 8) * truth.any()
    runs.loc[(runs["seed"] == 9) & (runs["scaler"] == "standard"), "r2_held_out"] = 0.0
    runs.loc[(runs["seed"] == 10) & (runs["scaler"] == "none"), "r2_held_out"] = 0.0
    read, cells = read_of(runs, features)
    differences = attribution.paired_differences(read)
    assert set(differences["seed"]) == set(range(8, 16)) - {9, 10}
    assert set(differences["scaler"]) == {"none"}
    by_seed = {
        scaler: rows[rows["method"] == "weight"].set_index("seed")["distortion"]
        for scaler, rows in read.groupby("scaler")
    }
    weight = differences[differences["method"] == "weight"].set_index("seed")["value"]
    expected = (by_seed["none"] - by_seed["standard"]).dropna()
    pd.testing.assert_series_equal(weight.sort_index(), expected.sort_index(), check_names=False)
    row = at(attribution.mean_differences(read, cells), "weight")
    assert (row["value"], row["n"]) == (pytest.approx(expected.mean()), 6)


def test_the_order_of_rows_does_not_matter():
    runs, features = study()
    features["share_weight"] += 0.01 * features["seed"] * (features["feature"] - 1)
    random = np.random.default_rng(0)
    shuffled = (frame.iloc[random.permutation(len(frame))] for frame in (runs, features))
    found = [
        attribution.cell_means(*read_of(*pair), "distortion").sort_values([*CELL, "method"])
        for pair in ((runs, features), tuple(shuffled))
    ]
    pd.testing.assert_frame_equal(*(frame.reset_index(drop=True) for frame in found))


def test_blocks_of_networks_are_a_part_of_their_own():
    runs, _ = study()
    kept = attribution.tuned_runs(pd.concat([runs, runs.assign(block="networks-width", model="n")]))
    assert set(zip(kept["part"], kept["model"], strict=True)) == {
        ("inputs", "m"),
        ("networks", "n"),
    }


def test_what_cannot_be_read_is_refused():
    runs, _ = study()
    with pytest.raises(StudyError, match='record = "importances"'):
        attribution.tuned_runs(runs.drop(columns="r2_held_out"))
    with pytest.raises(StudyError, match="differ in problem, model"):
        attribution.tuned_runs(pd.concat([runs, runs]))
    with pytest.raises(StudyError, match="more than one model needs blocks"):
        attribution.tuned_runs(pd.concat([runs, runs.assign(model="n")]))
