"""Comparisons: conditions are matched, noise is not called a difference, and a shift is."""

import numpy as np
import pandas as pd
import pytest

from scaling_study.analysis import compare as module
from scaling_study.analysis.compare import (
    DIFFERS,
    IDENTICAL,
    QUANTITIES,
    RATIO,
    SAME,
    UNCLEAR,
    YES_NO,
    provenance_table,
)
from scaling_study.errors import StudyError

MATCHED = pd.DataFrame({"condition": ["a"], "condition_second": ["x"]})
RATIOS = [name for name, quantity in QUANTITIES.items() if quantity.scale == RATIO]


def sample(values: np.ndarray, quantity: str, condition: str, first_seed: int = 0) -> pd.DataFrame:
    columns = {"condition": condition, "seed": np.arange(len(values)) + first_seed}
    columns |= {"budget": 1e9, "quantity": quantity, "value": np.asarray(values, float)}
    return pd.DataFrame(columns)


def cells(
    one, other, quantity: str, *, first_seed: int = 0, tolerance: float = 0.01
) -> pd.DataFrame:
    """Return the cells of samples, a row a condition and a column a seed."""
    one, other = np.atleast_2d(one), np.atleast_2d(other)
    names = pd.DataFrame(
        {name: [f"{name} {k}" for k in range(len(one))] for name in ("condition", "other")}
    ).rename(columns={"other": "condition_second"})
    frames = [
        pd.concat([sample(row, quantity, c, seed) for row, c in zip(rows, names[n], strict=True)])
        for rows, n, seed in ((one, "condition", 0), (other, "condition_second", first_seed))
    ]
    return module._cells(names, *frames, tolerance)[0]


def cell(*samples, **options) -> pd.Series:
    """Return the one cell of two samples."""
    return module.judge(cells(*samples, **options), options.get("tolerance", 0.01)).iloc[0]


# Statistics ---------------------------------------------------------------------------------


@pytest.mark.sweep(4)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_equal_samples_are_identical(quantity):
    values = np.random.default_rng(0).integers(0, 2, 20)
    found = cell(values, values, quantity)
    assert (found["outcome"], found["n"], found["p"]) == (IDENTICAL, 20, 1.0)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("first_seed", [0, 100], ids=["paired", "independent"])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_large_shift_differs(quantity, first_seed):
    random = np.random.default_rng(1)
    yes_no = QUANTITIES[quantity].scale == YES_NO
    one = np.zeros(40) if yes_no else random.normal(2, 0.1, 40)
    other = np.ones(40) if yes_no else random.normal(3, 0.1, 40)
    found = cell(one, other, quantity, first_seed=first_seed)
    assert found["outcome"] == DIFFERS
    assert found["value"] == pytest.approx(10 if quantity in RATIOS else 1, rel=0.2)
    back = cell(other, one, quantity, first_seed=first_seed)
    assert back["p"] == pytest.approx(found["p"])


@pytest.mark.parametrize("first_seed", [0, 100], ids=["paired", "independent"])
def test_noise_is_not_called_a_difference_more_often_than_said(first_seed):
    noise = np.random.default_rng(2).normal(0, 1, (2, 400, 30))
    found = cells(*noise, "held-out R²", first_seed=first_seed, tolerance=0.0)
    assert 0.02 < (found["p"] < 0.05).mean() < 0.08  # 5 %, three standard errors to each side
    assert not (module.judge(found, 0.0)["outcome"] == DIFFERS).any()


def test_a_shift_within_the_tolerance_is_the_same_and_one_on_its_edge_no_difference():
    random = np.random.default_rng(3)
    one, noise = random.normal(2, 1, 200), random.normal(0, 1e-4, 200)
    assert cell(one, one + 0.001 + noise, "final loss")["outcome"] == SAME
    edge = np.log10(1.01)
    assert cell(one, one + edge + noise - noise.mean(), "final loss")["outcome"] != DIFFERS
    assert cell(one, one + 2 * edge + noise, "final loss")["outcome"] == DIFFERS


def test_few_seeds_are_unclear_and_pairs_see_what_independent_samples_cannot():
    random = np.random.default_rng(4)
    one = random.normal(2, 1, 30)
    other = one + 0.1 + random.normal(0, 0.01, 30)
    assert cell(one, other, "final loss")["outcome"] == DIFFERS
    assert cell(one, other, "final loss", first_seed=100)["outcome"] == UNCLEAR
    assert cell(one[:2], [*other[:1], other[1] + 1], "final loss")["outcome"] == UNCLEAR


@pytest.mark.parametrize("changed", range(8))
def test_yes_and_no_are_tested_by_the_pairs_that_differ(changed):
    first = np.random.default_rng(changed).integers(0, 2, 20)
    other = np.where(np.arange(20) < changed, 1, first)
    found = cell(first, other, "diverged")
    assert found["p"] == pytest.approx(min(1.0, 2 * 0.5 ** int((other != first).sum())))


def test_times_beyond_the_smaller_budget_count_as_it():
    one = sample(np.array([2.0, np.inf]), "updates to target", "a").assign(budget=1000)
    other = sample(np.array([2.0, 4.0]), "updates to target", "x").assign(budget=100_000)
    found, _ = module._cells(MATCHED, one, other, 0.01)
    assert found[["first", "second"]].to_numpy().tolist() == [[2.5, 2.5]]


# Results ------------------------------------------------------------------------------------


def test_results_are_identical_to_themselves(results):
    found = module.compare(results, results)
    assert set(found.cells["outcome"]) == {IDENTICAL}
    assert (found.unmatched, found.across, len(found.provenance)) == ((0, 0), {}, 0)
    assert set(found.cells["condition"]) == set(results.conditions["condition"])


@pytest.mark.parametrize("tolerance", [-0.1, np.nan, np.inf])
def test_a_tolerance_is_a_number_of_at_least_zero(results, tolerance):
    with pytest.raises(StudyError, match="tolerance"):
        module.compare(results, results, tolerance=tolerance)


def test_provenance_names_what_differs_alone():
    one = {"identity": {"platform": "cpu", "environment": {"x64": "0"}}, "seeds": [0, 4]}
    one |= {"packages": {"jax": "0.10", "optax": "1"}, "python": "3.12"}
    other = one | {"packages": {"jax": "0.12", "optax": "1"}, "seeds": [0, 8]}
    table = provenance_table(one, other)
    assert table.to_numpy().tolist() == [["jax", "0.10", "0.12"], ["seeds", "0:4", "0:8"]]
