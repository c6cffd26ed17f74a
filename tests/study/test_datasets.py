"""Data sets: a seed's split, the trouble that is planted, and what a wrong parameter is told."""

import numpy as np
import pytest
from scipy import stats
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from scaling_study.errors import StudyError
from scaling_study.study import draws, encoding
from scaling_study.study.conditions import expand, problem_of, split
from scaling_study.study.datasets import DATASETS, EVERY_PROBLEM, chance, load, overlap
from scaling_study.study.datasets import split as split_rows
from scaling_study.study.problems import PROBLEMS, Problem
from scaling_study.study.study import parse

REAL = ("diabetes", "wine", "breast_cancer", "digits")
every = pytest.mark.parametrize("name", DATASETS)
real = pytest.mark.parametrize("name", REAL)


def conditions_of(**axes):
    return expand(parse({"design": "U", **axes}))


def held_out_of(condition, seeds, new=None):
    """Return training encoding and held-out rows, the latter perhaps replaced."""
    static, problem = split(condition), problem_of(condition.problem)
    drawn, datasets = draws.draw(static, seeds), encoding.unique_datasets([condition])
    own = encoding.encode_unique(problem, drawn, datasets, static.transformed)
    new = draws.held_out(static, seeds) if new is None else new
    return own, encoding.encode_held_out(problem, drawn, new, datasets, own)


def in_training_units(own, held):
    """Return inputs (M, d) and target (M,) of the one condition and seed."""
    return (
        held.u[0, 0] * own.feature_scale[:, 0, 0] + own.feature_shift[:, 0, 0],
        held.target[0, 0] + own.intercept[0, 0],
    )


def test_every_problem_is_in_one_registry():
    assert {*EVERY_PROBLEM} == {*PROBLEMS, *DATASETS}


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("rows", [2, 178, 1797])
def test_a_split_is_disjoint_and_covers(rows, seed):
    train, test = split_rows(seed, rows, 0.25)
    assert sorted([*train, *test]) == list(range(rows))
    assert len(test) == max(1, round(rows / 4))


@real
def test_rows_are_those_of_the_data_set_each_with_its_target(name):
    x, y, names = load(name)
    problem = DATASETS[name]()
    own, theirs = problem.draw(3), problem.held_out(3)
    rows = np.column_stack([np.concatenate(part) for part in zip(own, theirs, strict=True)])
    whole = np.column_stack([x, y])
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(whole, axis=0))
    assert sorted(map(tuple, rows)) == sorted(map(tuple, whole))
    assert len(names) == x.shape[1]


@every
def test_a_seed_names_its_rows(name):
    problem, again = DATASETS[name](), DATASETS[name]()
    for rows in ("draw", "held_out"):
        for first, second in zip(getattr(problem, rows)(5), getattr(again, rows)(5), strict=True):
            np.testing.assert_array_equal(first, second)
        assert (getattr(problem, rows)(5)[1] != getattr(problem, rows)(6)[1]).any()
    u, target = problem.draw(0)
    assert u.shape == (len(target), len(problem.reference_scale))
    assert u.dtype == target.dtype == np.float64
    assert 0 <= problem.scaled_feature < u.shape[1]


@every
def test_the_global_generator_is_neither_read_nor_moved(name):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    DATASETS[name]().draw(3)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(("name", "classes"), [("wine", 3), ("breast_cancer", 2), ("digits", 10)])
def test_classes_are_numbered_from_0(name, classes):
    problem = DATASETS[name]()
    assert problem.classes == classes
    assert {*problem.draw(0)[1]} == {*range(classes)}


def test_diabetes_is_in_the_units_that_were_measured():
    u, _ = DATASETS["diabetes"]().draw(0)
    assert (u[:, 0] >= 19).all()  # years
    assert DATASETS["diabetes"]().scaled_feature == 2


def test_outliers_are_planted_in_a_share_of_the_training_rows_of_one_column():
    clean, planted = DATASETS["diabetes"](), DATASETS["diabetes"](outliers=0.01)
    u, own = clean.draw(4)[0], planted.draw(4)[0]
    rows, columns = np.nonzero(u != own)
    assert {*columns} == {2}
    assert len(rows) == round(0.01 * len(u))
    np.testing.assert_array_equal(own[rows, 2], 1000 * u[rows, 2])
    np.testing.assert_array_equal(clean.held_out(4)[0], planted.held_out(4)[0])
    np.testing.assert_array_equal(clean.draw(4)[1], planted.draw(4)[1])


def test_heavy_tails_keep_the_order_and_stretch_the_ends():
    clean, planted = DATASETS["diabetes"](), DATASETS["diabetes"](heavy_tails=True)
    for rows in ("draw", "held_out"):
        u, own = getattr(clean, rows)(4)[0], getattr(planted, rows)(4)[0]
        np.testing.assert_array_equal(np.delete(u, 2, axis=1), np.delete(own, 2, axis=1))
        np.testing.assert_array_equal(stats.rankdata(u[:, 2]), stats.rankdata(own[:, 2]))
        assert stats.kurtosis(own[:, 2]) > 20 > stats.kurtosis(u[:, 2])


def test_correlated_columns_are():
    correlation = np.corrcoef(DATASETS["correlated"](samples=2000).draw(0)[0].T)
    assert np.linalg.eigvalsh(correlation)[-4:].sum() > 7  # of ten


@pytest.mark.parametrize("scaler", ["none", "minmax", "standard", "robust", "maxabs"])
def test_held_out_rows_do_not_move_the_training_inputs(scaler):
    (condition,) = conditions_of(problem="diabetes", scaler=scaler, target_scaler="standard")
    new = draws.held_out(split(condition), [0, 1])
    first, one = held_out_of(condition, [0, 1])
    second, other = held_out_of(condition, [0, 1], new._replace(u=1e6 * new.u))
    for name in first._fields:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert (one.u != other.u).any()


@pytest.mark.parametrize(
    ("scaler", "theirs"),
    [("standard", StandardScaler()), ("quantile", QuantileTransformer(n_quantiles=100))],
)
def test_held_out_rows_are_scaled_by_what_was_fitted_to_the_training_rows(scaler, theirs):
    (condition,) = conditions_of(problem="diabetes", scaler=scaler, target_scaler="standard")
    found, target = in_training_units(*held_out_of(condition, [3]))
    problem = problem_of(condition.problem)
    (x, y), (new_x, new_y) = problem.draw(3), problem.held_out(3)
    np.testing.assert_allclose(found, theirs.fit(x).transform(new_x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(target, (new_y - y.mean()) / y.std(), rtol=1e-9)


@pytest.mark.parametrize("outliers", [0.0, 0.5])
@real
def test_overlap_and_chance_of_rows_are_those_of_the_name(name, outliers):
    problem = DATASETS[name](outliers=outliers)
    assert overlap(problem) == overlap(name)
    assert chance(problem) == chance(name)


@pytest.mark.parametrize("name", [n for n in EVERY_PROBLEM if n not in REAL])
def test_problems_that_draw_new_rows_do_not_overlap(name):
    problem = EVERY_PROBLEM[name]()
    assert overlap(problem) == overlap(name) == 0
    assert chance(problem) == chance(name)
    assert (chance(problem) > 0) == bool(problem.classes)


def test_chance_of_a_users_own_classes_is_the_largest_share():
    rows = np.arange(12.0).reshape(6, 2), np.array([0.0, 1, 1, 1, 2, 1])
    ones = np.ones(2)
    law = {"signal": lambda u: np.zeros(u.shape[:-1]), "classes": 3}
    own = Problem(lambda seed: rows, ones, ones, scaled_feature=0, **law)
    assert chance(own) == 4 / 6
    assert overlap(own) == 0
    held = own._replace(held_out=lambda seed: (rows[0][:2], np.zeros(2)))
    assert chance(held) == 4 / 8
    assert overlap(held) == 2 / 6


def test_a_target_of_classes_has_no_least_squares():
    (condition,) = conditions_of(problem="wine", scaler="standard")
    own, _ = held_out_of(condition, [0])
    assert np.isnan(own.loss_least).all()  # a hyperplane separates them
    assert not own.ols_coefficient.any()
    assert np.isnan(own.weight_ols).all()
    labels = problem_of(condition.problem).draw(0)[1]
    np.testing.assert_array_equal(own.residual[0], labels)
    share = np.bincount(labels.astype(int)) / len(labels)
    np.testing.assert_allclose(own.loss_null, stats.entropy(share), rtol=1e-12)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ({"name": "diabetes", "feature": "bmj"}, ("feature", "'bmj'", "'bmi'")),
        ({"name": "wine", "feature": 13}, ("feature", "from 0 to 12")),
        ({"name": "wine", "outliers": 0.7}, ("outliers", "0.7")),
        ({"name": "wine", "test_share": 0}, ("test_share", "above 0")),
        ({"name": "digits", "heavy_tails": "yes"}, ("heavy_tails", "'yes'")),
        ({"name": "diabetes", "samples": 3}, ("'samples'",)),
        ({"name": "friedman2", "samples": 0}, ("samples",)),
        ({"name": "friedman3", "noise": -1}, ("noise",)),
        ({"name": "correlated", "effective_rank": 0}, ("effective_rank",)),
        ({"name": "correlated", "informative": 11}, ("informative", "11", "10")),
        ({"name": "digits", "feature": 0, "heavy_tails": True}, ("heavy_tails", "'pixel_0_0'")),
        ({"name": "digits", "feature": 0, "outliers": 0.1}, ("outliers", "'pixel_0_0'")),
    ],
)
def test_a_wrong_parameter_is_told_in_a_line(problem, words, refused):
    refused(lambda: conditions_of(problem=problem), *words)


def test_classes_have_no_target_scaler_and_data_no_coefficients():
    with pytest.raises(StudyError, match="has classes, which no target_scaler scales"):
        conditions_of(problem="wine", target_scaler="standard")
    with pytest.raises(StudyError, match="use design U"):
        conditions_of(problem="diabetes", design="F")
    with pytest.raises(StudyError, match="of classes"):
        split(conditions_of(problem="wine", objective="moments")[0])


def test_a_part_of_a_table_is_what_its_parameters_say():
    _x, _y, names = load("breast_cancer")
    part = DATASETS["breast_cancer"](columns=10, rows=50, feature="mean area")
    u, label = part.draw(0)
    assert (u.shape, part.columns, part.classes) == ((50, 10), names[:10], 2)
    whole, labels = DATASETS["breast_cancer"]().draw(0)
    np.testing.assert_array_equal(u, whole[:50, :10])
    np.testing.assert_array_equal(label, labels[:50])


def test_a_column_can_be_the_target_and_is_no_feature_then():
    x, _, names = load("breast_cancer")
    problem = DATASETS["breast_cancer"](columns=10, target="worst area", feature="mean area")
    u, target = problem.draw(2)
    assert problem.classes == 0
    assert "worst area" not in problem.columns
    row = np.flatnonzero((x[:, :10] == u[0]).all(axis=1))[0]
    assert target[0] == x[row, names.index("worst area")]


def test_standardised_columns_have_mean_0_and_deviation_1_over_all_rows():
    problem = DATASETS["wine"](standardised=True, test_share=0.25)
    rows = np.vstack([problem.draw(0)[0], problem.held_out(0)[0]])
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(rows.std(axis=0), 1)


def test_a_class_against_the_others_is_two_classes():
    one, three = (DATASETS["wine"](**more) for more in ({"positive": 1}, {}))
    np.testing.assert_array_equal(one.draw(0)[1], three.draw(0)[1] == 1)
    assert one.classes == 2
    with pytest.raises(StudyError, match="positive: must be a class from 0 to 2, not 3"):
        DATASETS["wine"](positive=3)


def test_the_logistic_law_is_that_of_its_strength():
    problem = DATASETS["logistic"](samples=40_000, features=3, strength=2.0)
    u, label = problem.draw(0)
    probability = 1 / (1 + np.exp(-2 * u.sum(axis=1)))
    for low in (0.1, 0.4, 0.7):
        inside = (probability >= low) & (probability < low + 0.2)
        assert label[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.02)
