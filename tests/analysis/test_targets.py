"""Times to other targets: those of a plain loop over the traces, and near those that are stored."""

import itertools

import numpy as np
import pytest

import scaling_study
from scaling_study.analysis import benchmark, targets
from scaling_study.storage.columns import TracedLosses

STUDY = {
    "design": "U",
    "sampling": "full",
    "scale_factor": [1.0, 10.0],
    "learning_rate": [0.03, 0.3, 3.0],
    "optimizer": ["sgd", "adam"],
    "updates": 400,
    "seeds": 16,
    "blocks": {
        "linear": {"problem": {"name": "gaussian", "samples": 32}},
        "network": {
            "problem": {"name": "sines", "samples": 32},
            "model": {"name": "mlp", "hidden": 4},
            "target_scaler": "standard",
            "target_loss": 0.5,
        },
    },
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return scaling_study.run(STUDY, output_dir=tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def found(results):
    return benchmark.grids_of(results)


def losses(loss, update=(2.0, 4.0, 6.0)):
    loss = np.array(loss)
    ones = np.ones(len(loss))
    return TracedLosses(np.array(["c"] * len(loss)), ones, ones, ones, np.array(update), loss)


def test_a_target_is_reached_where_the_loss_stays_below():
    part = losses([[1, 1, 1], [9, 1, 1], [9, 9, 1], [1, 1, 9], [1, 9, 1], [1, np.nan, np.nan]])
    found = targets.first_below(part, np.full(6, 2.0))
    assert found.tolist() == [2, 4, 6, np.inf, 6, np.inf]


def test_at_its_own_target_a_time_is_that_of_the_run_but_for_the_points_between(results, found):
    grids = targets.grids_at(results, found, [1.0])[1.0]
    for problem, kinds in found.items():
        for name, grid in kinds.items():
            traced = grids[problem][name]
            assert traced.seeds.tolist() == list(range(8))
            exact = grid.updates[..., :8]
            reached = np.isfinite(exact) & np.isfinite(traced.updates)
            assert (np.isfinite(exact) == np.isfinite(traced.updates)).mean() > 0.97
            late = traced.updates[reached] - exact[reached]
            assert late.max() <= 3
            assert (late > -0.5).mean() > 0.85  # a loss that rises between two points is not seen


def test_times_are_those_of_a_loop_over_the_traces(results, found):
    share = 0.5
    grids = targets.grids_at(results, found, [share])[share]
    runs = results.runs.set_index(["condition", "seed"])
    traces = results.traces.query("position == 0").groupby(["condition", "seed"], observed=True)
    for (condition, seed), rows in list(traces)[::7]:
        run, given = runs.loc[(condition, seed)], results.by_id[condition]
        least, of_target = 0.0, given.tolerance
        if given.target_loss == "none":
            least = run["loss_least"]
        else:
            of_target = given.target_loss / run["loss_null"]
        bound = least + (run["loss_null"] - least) * of_target**share
        above = np.flatnonzero(~(rows["loss"].to_numpy() <= bound))
        after = above[-1] + 1 if len(above) else 0
        wanted = np.append(rows["update"].to_numpy(), np.inf)[after]
        grid = grids[given.block][str(given.optimizer)]
        cell = (grid.scales == given.scale_factor, grid.rates == given.learning_rate)
        assert grid.updates[..., seed][np.ix_(*cell)].item() == wanted


def test_easier_targets_are_reached_sooner(results, found):
    grids = targets.grids_at(results, found)
    for problem, kinds in found.items():
        for name in kinds:
            each = [grids[share][problem][name].updates for share in targets.SHARES]
            assert all((one <= other).all() for one, other in itertools.pairwise(each))


@pytest.mark.parametrize("seeds", ["8:16", "4:12"])
def test_without_a_whole_set_of_traced_seeds_there_are_no_times(seeds, tmp_path):
    small = STUDY | {"seeds": seeds, "blocks": {"linear": STUDY["blocks"]["linear"]}}
    results = scaling_study.run(small, output_dir=tmp_path / "s")
    assert targets.grids_at(results, benchmark.grids_of(results)) == {}
