"""The sensitivity of optimizers: known grids by hand, and factories of a known place."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scaling_study
from scaling_study.analysis import scale_sensitivity
from scaling_study.analysis.metrics import Table
from scaling_study.analysis.scale_sensitivity import Grid
from scaling_study.errors import StudyError
from scaling_study.report.sensitivity.data import shown

SCALES, RATES, SEEDS = np.array([0.1, 1.0, 10.0]), 10.0 ** np.arange(-3, 2), np.arange(8)
STUDY = {
    "problem": {"name": "gaussian", "samples": 32},
    "design": "U",
    "model": {"name": "linear", "kernel_init": "zeros"},
    "scale_factor": [0.1, 1.0, 10.0],
    "learning_rate": [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0],
    "updates": 600,
    "report": "sensitivity",
    "seeds": 8,
}


def of_units(power):
    """Return SGD whose rate on the last weight is times its column's scale to a power.

    The scale shows in the first gradient: from zero, and of features that matter alike, it is
    how many times the first's the last's is.
    """

    def factory(learning_rate):
        def init(params):
            return jnp.zeros(())

        def update(updates, state, params=None):
            kernel = updates["params"]["Dense_0"]["kernel"]
            scale = jnp.where(state > 0, state, jnp.abs(kernel[-1, 0] / kernel[0, 0]))
            kernel = kernel.at[-1].multiply(scale**power)
            layer = {**updates["params"]["Dense_0"], "kernel": kernel}
            new = jax.tree.map(lambda x: -learning_rate * x, {"params": {"Dense_0": layer}})
            return new, scale

        return optax.GradientTransformation(init, update)

    return factory


multiplied, divided = of_units(1), of_units(-1)
NEWTON = "scaling_study.engine.optimizers:newton"
USER_OPTIMIZERS = [f"test_scale_sensitivity:{name}" for name in ("multiplied", "divided")]


def grid(gone: np.ndarray, updates: np.ndarray | None = None) -> Grid:
    """Return a grid of (E, H) numbers that every seed shares."""
    each = np.broadcast_to(gone[..., None], (*gone.shape, len(SEEDS))).astype(float)
    times = np.full(gone.shape, np.inf) if updates is None else updates
    times = np.broadcast_to(times[..., None], each.shape).astype(float)
    none = np.zeros_like(each)
    return Grid(SCALES, RATES, SEEDS, each, 10 ** (-3 * each), times, none, none)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    names = ["sgd", "adam", NEWTON, *USER_OPTIMIZERS]
    results = scaling_study.run(
        {**STUDY, "optimizer": names}, output_dir=tmp_path_factory.mktemp("s") / "s"
    )
    found = scale_sensitivity.grids(Table(results))
    return scale_sensitivity.leaderboard(found).set_index("optimizer")


@pytest.mark.slow
def test_what_newton_loses_is_nothing(board):
    newton = board.loc[NEWTON]
    assert newton["rank"] <= 2  # with the factory that divides by the scale
    assert abs(newton["sensitivity"]) < 1e-3
    assert abs(newton["phi"]) < 1e-3
    assert newton["tuned_at_reference"] == pytest.approx(1)
    assert abs(newton["rate_slope_above"]) < 1e-6


def test_a_rate_times_the_columns_scale_is_worse_than_its_base_and_divided_better(board):
    multiplied, divided = (board.loc[name] for name in USER_OPTIMIZERS)
    base = board.loc["sgd"]
    assert divided["rank"] < base["rank"] < multiplied["rank"]
    assert divided["sensitivity_high"] < base["sensitivity_low"]
    assert base["sensitivity_high"] < multiplied["sensitivity_low"]


def test_the_best_rate_of_descent_falls_with_the_square_of_the_scale(board):
    # 2 / (λmax + λmin) is 1/2 at scale 1 and 1/101 at 10; the grid's steps are half decades.
    assert board.loc["sgd", "rate_slope_above"] == pytest.approx(-1.7, abs=0.3)
    assert board.loc["sgd", "diverged"] > 0.2


def test_everyone_gets_as_many_rates(board):
    assert set(board["rates"]) == {len(STUDY["learning_rate"])}
    assert set(board["n"]) == {4}


def test_sensitivity_and_phi_are_those_worked_out_by_hand():
    gone = np.zeros((3, 5))
    gone[0, 3], gone[1, 2], gone[2, 1] = 0.8, 1.0, 0.6  # best rates 1, 0.1, 0.01
    gone[0, 2], gone[2, 2] = 0.5, 0.1
    found = scale_sensitivity.per_seed(grid(gone))
    np.testing.assert_allclose(found["sensitivity"], (0.5 + 0.9) / 2)
    np.testing.assert_allclose(found["sensitivity_tuned"], (0.2 + 0.4) / 2)
    np.testing.assert_allclose(found["phi"], (0.8 + 1.0 + 0.6) / 3 - (0.5 + 1.0 + 0.1) / 3)
    np.testing.assert_allclose(found["excess"], (10 ** (-3 * gone)).mean())


def test_basin_and_slope_are_those_worked_out_by_hand():
    updates = np.full((3, 5), np.inf)
    updates[0, 3], updates[1, 2], updates[2, 1] = 10, 20, 30
    updates[1, 1], updates[1, 3] = 40, 41  # within twice, and not
    found = scale_sensitivity.per_seed(grid(np.zeros((3, 5)), updates))
    np.testing.assert_allclose(found["basin_width"], (1 + 2 + 1) / 3)
    toy_grid = grid(np.zeros((3, 5)), updates)
    assert scale_sensitivity.rate_slope(toy_grid, above=True).value == pytest.approx(-1)
    assert scale_sensitivity.rate_slope(toy_grid, above=False).value == pytest.approx(-1)


def test_a_rate_at_an_end_of_the_grid_is_marked():
    gone = np.zeros((3, 5))
    gone[0, 0], gone[1, 2], gone[2, 4] = 1, 1, 1
    assert grid(gone).edge.tolist() == [True, False, True]
    cells = scale_sensitivity.progress_by_rate({"x": grid(gone)})
    assert cells["best"].sum() == 3
    assert cells["edge"].sum() == 2


def test_rates_are_chosen_on_seeds_that_are_not_reported():
    gone = np.zeros((3, 5, len(SEEDS)))
    gone[:, 1, :4], gone[:, 3, 4:] = 1, 1  # what is best for one half is not for the other
    toy_grid = grid(np.zeros((3, 5)))._replace(score=gone)
    assert toy_grid.best.tolist() == [1, 1, 1]
    assert scale_sensitivity.per_seed(toy_grid)["tuned_at_reference"].tolist() == [0] * 4


def test_what_does_not_train_has_no_rank():
    board = scale_sensitivity.leaderboard(
        {"idle": grid(np.zeros((3, 5))), "full": grid(np.ones((3, 5)))}
    )
    assert board["optimizer"].tolist() == ["full", "idle"]
    assert board["rank"].isna().tolist() == [False, True]


def lost(gone: float, *, diverged: float, failed: float) -> Grid:
    toy_grid = grid(np.full((3, 5), gone))
    ones = np.ones_like(toy_grid.score)
    return toy_grid._replace(diverged=diverged * ones, failed=failed * ones)


def test_what_fails_diverges_or_does_not_train_comes_last_without_numbers_that_read_as_best():
    found = {
        "broken": lost(0, diverged=1, failed=1),
        "exploded": lost(0, diverged=1, failed=0),
        "uphill": grid(np.zeros((3, 5)))._replace(diverged=grid(np.eye(3, 5)).score),
        "idle": grid(np.zeros((3, 5))),
        "slow": grid(np.full((3, 5), 0.3)),
        "full": grid(np.ones((3, 5))),
    }
    board = scale_sensitivity.leaderboard(found).set_index("optimizer")
    assert board["status"].to_dict() == {
        "full": "ranked", "idle": "not trained", "slow": "not trained", "exploded": "diverged",
        "uphill": "diverged", "broken": "failed",
    }  # fmt: skip
    assert [*board["rank"].isna()] == [False] + 5 * [True]
    for name in ("exploded", "uphill", "broken"):
        for key in scale_sensitivity.ESTIMATES:
            assert board.loc[name, [key, f"{key}_low", f"{key}_high"]].isna().all()
    for name in ("idle", "slow"):
        assert board.loc[name, ["sensitivity", "sensitivity_tuned", "phi"]].isna().all()
    assert board.loc["slow", "tuned_at_reference"] == pytest.approx(0.3)
    cells = scale_sensitivity.progress_by_rate(found)
    assert {*cells.loc[cells["best"], "optimizer"]} == {"full", "idle", "slow"}


def test_one_run_that_fails_does_not_make_an_optimizer_failed():
    toy_grid = lost(1, diverged=0, failed=0)
    failed = toy_grid.failed.copy()
    failed[0, 0, 0] = 1
    assert toy_grid._replace(failed=failed, diverged=failed).status == "ranked"


def broken(learning_rate):
    raise RuntimeError("not today")


def uphill(learning_rate):
    return optax.scale(learning_rate)


def late(learning_rate):
    def update(updates, state, params=None):
        raise RuntimeError("not while training")

    return optax.GradientTransformation(lambda params: (), update)


def test_a_factory_that_raises_and_a_wrong_sign_are_failed_and_diverged(tmp_path):
    factories = [f"test_scale_sensitivity:{name}" for name in ("broken", "uphill", "late")]
    results = scaling_study.run(
        {**STUDY, "optimizer": ["sgd", *factories]}, output_dir=tmp_path / "s"
    )
    board = scale_sensitivity.leaderboard(scale_sensitivity.grids(Table(results)))
    assert [*board["status"]] == ["ranked", "diverged", "failed", "failed"]
    assert board["optimizer"][1] == factories[1]
    assert [*shown(board)["rank"]] == ["1", "diverged", "failed", "failed"]
    assert board.loc[1:, "sensitivity"].isna().all()


def test_a_grid_with_holes_is_refused(tmp_path):
    more = {"optimizer": "sgd", "seeds": 4, "updates": 1, "scaler": ["none", "standard"]}
    results = scaling_study.run({**STUDY, **more}, output_dir=tmp_path / "s")
    with pytest.raises(StudyError, match=r"optimizer sgd: .* nothing else that varies"):
        scale_sensitivity.grids(Table(results))
