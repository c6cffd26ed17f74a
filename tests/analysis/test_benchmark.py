"""The benchmark's scores: by hand, on controls, and equal to the leaderboard of one setting."""

import numpy as np
import pandas as pd
import pytest

import scaling_study
from scaling_study.analysis import benchmark, scale_sensitivity
from scaling_study.analysis.benchmark import Fold, fold_scores, folds, time_score
from scaling_study.analysis.metrics import Table
from scaling_study.analysis.scale_sensitivity import Grid
from scaling_study.errors import StudyError

SCALES, RATES, SEEDS = np.array([0.1, 1.0, 10.0]), 10.0 ** np.arange(-4, 2), np.arange(16)
BUDGET = 1000.0
NEWTON = "scaling_study.engine.optimizers:newton"
RESCALED = "scaling_study.engine.optimizers:adam_rescaled"


def grid(times: np.ndarray) -> Grid:
    """Return a grid of times (E, H) or (E, H, S)."""
    each = times[..., None] if times.ndim == 2 else times
    each = np.broadcast_to(each, (len(SCALES), len(RATES), len(SEEDS))).astype(float)
    none = np.zeros_like(each)
    return Grid(SCALES, RATES, SEEDS, none, none, each, none, none)


def basin(shift: float) -> np.ndarray:
    """Return times (E, H) that are least at rate 0.01, moved by scale to the power ``shift``."""
    distance = np.log10(RATES)[None] + 2 + shift * np.log10(SCALES)[:, None]
    return 10 * 4.0 ** np.abs(distance)


def test_the_time_score_is_the_area_under_a_performance_profile():
    times, fastest = np.array([10.0, 20.0, 400.0, np.inf]), 10.0
    ratios = np.geomspace(1, BUDGET / fastest, 20_001)
    area = ((times / fastest)[:, None] <= ratios).mean(axis=1)
    np.testing.assert_allclose(time_score(times, fastest, BUDGET), area, atol=1e-4)


def test_a_budget_no_one_uses_up_and_one_that_no_one_meets():
    assert time_score(np.array([np.inf, 5.0]), np.inf, BUDGET).tolist() == [0, 0]
    assert time_score(np.array([1.0, 5.0]), 5.0, BUDGET).tolist() == [1, 1]  # T* is the best


@pytest.mark.parametrize("seeds", [0, 1, 4, 12, 17])
def test_seeds_come_in_whole_sets(seeds):
    with pytest.raises(StudyError, match=f"sets of 8 seeds.*not {seeds} seeds"):
        folds(range(seeds))


def test_every_seed_is_reported_once_by_rates_that_its_set_chose():
    found = folds(range(32, 48))
    assert sorted(seed for fold in found for seed in fold.reported) == list(range(32, 48))
    for fold in found:
        used = {*fold.reported, *fold.tuned_by}
        assert not {*fold.reported} & {*fold.tuned_by}
        assert used == set(range(32, 40)) if fold.name.startswith("0") else set(range(40, 48))


@pytest.mark.parametrize(
    ("shift", "lost"),
    [(0.0, 0.0), (1.0, np.log(4) / np.log(100)), (2.0, np.log(16) / np.log(100))],
)
def test_controls_a_rate_times_a_power_of_the_scale_loses_what_its_basin_says(shift, lost):
    # An invariant optimizer loses nothing; one whose rate is multiplied by the scale does.
    (_, least, found), *_ = benchmark.scored({"p": {"x": grid(basin(shift))}}, {"p": BUDGET})
    assert least == 10
    frame = fold_scores(found["x"], folds(SEEDS)[0])
    np.testing.assert_allclose(frame["reference"], 1)
    np.testing.assert_allclose(frame["reference"] - frame["others"], lost, atol=1e-12)
    np.testing.assert_allclose(frame["below"], frame["above"])
    np.testing.assert_allclose(frame["retuned"], 1)  # the grid holds the best rate of each unit


def test_policies_are_those_worked_out_by_hand():
    times = np.full((3, 6), np.inf)
    times[0, 4], times[1, 3], times[2, 2] = 20, 10, 40  # the best of each unit
    times[0, 3], times[2, 3], times[1, 1] = 100, 200, 500
    (_, _, found), *_ = benchmark.scored({"p": {"x": grid(times)}}, {"p": BUDGET})
    frame = fold_scores(found["x"], folds(SEEDS)[0], default=1e-3).mean(numeric_only=True)

    def score(*updates):
        return np.mean([np.log(BUDGET / t) / np.log(100) for t in updates])

    assert frame["others"] == pytest.approx(score(100, 200))
    assert frame["below"] == pytest.approx(score(100))
    assert frame["above"] == pytest.approx(score(200))
    assert frame["retuned"] == pytest.approx(score(20, 40))
    assert frame["one_rate"] == pytest.approx(score(100, 200))  # 0.1 is also the best for all
    assert frame["default"] == 0
    assert fold_scores(found["x"], folds(SEEDS)[0])["default"].isna().all()


def test_tied_rates_are_a_range_and_the_fastest_is_taken():
    times = np.full((3, 6), np.inf)
    times[1, 2:4] = 10.3, 10  # nearly alike in the reference unit, and not in the others
    times[0, 2:4] = times[2, 2:4] = 10, 900
    (_, _, found), *_ = benchmark.scored({"p": {"x": grid(times)}}, {"p": BUDGET})
    frame = fold_scores(found["x"], folds(SEEDS)[0]).mean(numeric_only=True)
    assert frame["others"] == frame["tied_low"] < 0.05
    assert frame["tied_high"] == 1


def test_rates_are_chosen_by_the_other_half_alone():
    times = np.full((3, 6, 16), 500.0)
    times[:, 1, :4], times[:, 2, 4:8] = 10, 10  # each half has a best rate of its own
    found = next(benchmark.scored({"p": {"x": grid(times)}}, {"p": BUDGET}, {"p": 10.0}))[2]
    for fold in folds(SEEDS)[:2]:
        frame = fold_scores(found["x"], fold)
        np.testing.assert_allclose(frame["reference"], time_score(np.array(500.0), 10, BUDGET))


def test_a_smaller_budget_counts_later_times_as_none():
    found = {"p": {"x": grid(basin(1.0))}}
    whole, part = (benchmark.scores(found, {"p": BUDGET}, share=share) for share in (1, 0.03))
    assert (whole["others"] > 0).all()
    assert (part["others"] == 0).all()
    assert (part["reference"] == 1).all()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("sensitivity") / "s"
    return scaling_study.run("sensitivity", settings=["optimizer=adam,sgd"], output_dir=place)


def test_the_single_setting_comes_out_of_the_benchmarks_folds(results):
    found = scale_sensitivity.grids(Table(results))
    board = scale_sensitivity.leaderboard(found).set_index("optimizer")
    half = Fold("0b", tuple(range(16)), tuple(range(16, 32)))
    for name, published in (("adam", 0.425), ("sgd", 0.914)):
        frame = fold_scores(found[name], half)
        lost = (frame["reference"] - frame["others"]).mean()
        assert lost == pytest.approx(board.loc[name, "sensitivity"], abs=1e-12)
        assert lost == pytest.approx(published, abs=5e-4)


def test_scores_of_runs_are_those_of_a_loop_over_them(results):
    found, budgets = benchmark.grids_of(results), benchmark.budgets_of(results)
    frame = benchmark.scores(found, budgets)
    runs = results.runs[results.runs["optimizer"] == "adam"]
    times = runs.assign(T=runs["steps_to_target"].fillna(np.inf))
    table = times.pivot_table(
        index="seed", columns=["scale_factor", "learning_rate"], values="T", observed=True
    ).sort_index()
    least, budget = frame["fastest"].iloc[0], budgets["main"]
    for start in range(0, 32, 8):
        for tuned, reported in ((0, 4), (4, 0)):
            chosen = table.iloc[start + tuned : start + tuned + 4][1.0]
            mean = chosen.apply(lambda t: time_score(t.to_numpy(), least, budget).mean())
            rate = mean.idxmax()
            rows = table.iloc[start + reported : start + reported + 4]
            units = [unit for unit in table.columns.levels[0] if unit != 1]
            lost = [time_score(rows[(unit, rate)].to_numpy(), least, budget) for unit in units]
            mine = frame[(frame["optimizer"] == "adam") & frame["seed"].isin(rows.index)]
            np.testing.assert_allclose(mine["others"], np.mean(lost, axis=0))


def test_newton_and_an_equivariant_first_order_method_lose_nothing(tmp_path):
    # Adam that is told the unit is equivariant; each unit has an optimizer of its own.
    units, rates = (0.01, 1.0, 100.0), [0.03, 0.1, 0.3, 1.0]
    study = {
        "problem": {"name": "gaussian", "samples": 32},
        "design": "U",
        "model": {"name": "linear", "kernel_init": "zeros"},
        "sampling": "full",
        "learning_rate": rates,
        "updates": 300,
        "seeds": 8,
        "blocks": {
            f"unit-{place}": {
                "scale_factor": unit,
                "optimizer": [NEWTON, {"name": RESCALED, "factor": unit}, "adam", "sgd"],
            }
            for place, unit in enumerate(units)
        },
    }
    runs = scaling_study.run(study, output_dir=tmp_path / "s").runs
    names = runs["optimizer"].astype(str).str.partition("(")[0]
    times = runs.assign(T=runs["steps_to_target"].fillna(np.inf))
    lost = {}
    for name, rows in times.groupby(names):
        ordered = rows.sort_values(["scale_factor", "learning_rate", "seed"])
        each = ordered["T"].to_numpy(float).reshape(3, len(rates), 8)
        none = np.zeros_like(each)
        grid = Grid(np.array(units), np.array(rates), np.arange(8), none, none, each, none, none)
        frame = benchmark.scores({"p": {name: grid}}, {"p": 300.0})
        lost[name] = 1 - frame["others"].sum() / frame["reference"].sum()
    assert abs(lost[NEWTON]) < 0.01
    assert abs(lost[RESCALED]) < 0.01
    assert lost["adam"] > 0.1
    assert lost["sgd"] > 0.9


def test_controls_made_of_runs_lose_nothing_and_most(results):
    found, budgets = benchmark.grids_of(results), benchmark.budgets_of(results)
    frame = benchmark.scores(benchmark.controls(found, "adam"), budgets)
    sums = frame.groupby("optimizer")[["reference", "others"]].sum()
    lost = 1 - sums["others"] / sums["reference"]
    assert lost["told the unit"] == 0
    assert lost["rate times unit"] > 0.8


def test_a_rate_times_the_unit_has_the_runs_at_the_nearest_rate():
    updates = np.arange(12.0).reshape(3, 4, 1)
    none = np.zeros_like(updates)
    grid = Grid(
        *(np.array([0.1, 1.0, 10.0]), np.array([0.01, 0.1, 1.0, 10.0]), np.arange(1)),
        *(none, none, updates, none, none),
    )
    made = benchmark.controls({"p": {"sgd": grid}, "q": {}}, "sgd")
    assert list(made) == ["p"]
    np.testing.assert_array_equal(
        made["p"]["rate times unit"].updates[..., 0],
        [[0, 0, 1, 2], [4, 5, 6, 7], [9, 10, 11, 11]],
    )


def test_a_method_whose_rate_does_not_matter_loses_nothing_as_a_control(results):
    found, budgets = benchmark.grids_of(results), benchmark.budgets_of(results)
    (grid,) = (grids["adam"] for grids in found.values())
    flat = grid._replace(updates=np.full(grid.updates.shape, 50.0))
    made = benchmark.controls({"main": {"adam": flat}}, "adam")
    frame = benchmark.scores(made, budgets, {"main": 20.0})
    np.testing.assert_array_equal(frame["others"], frame["reference"])


def test_profiles_end_at_the_share_that_arrives_and_have_the_score_as_area(results):
    found, budgets = benchmark.grids_of(results), benchmark.budgets_of(results)
    frame = benchmark.scores(found, budgets)
    least = frame["fastest"].iloc[0]
    ratios = np.geomspace(1, budgets["main"] / least, 4001)
    profile = benchmark.profiles(found, budgets, ratios)
    area = profile.groupby(["optimizer", "units"])["share"].mean().unstack()
    scores = frame.groupby("optimizer")[["reference", "below", "above"]].mean()
    pd.testing.assert_frame_equal(area[scores.columns], scores, atol=2e-3, check_names=False)
