"""Problems: what a seed's data are, and that they are nobody else's business."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_study.errors import StudyError
from scaling_study.study.problems import PROBLEMS, article, gaussian

LINEAR = [name for name, factory in PROBLEMS.items() if factory().signal is None]


def articles_own_data() -> tuple[np.ndarray, np.ndarray]:
    """The article's listing, to the letter, leaving the global generator as it was."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(42)  # noqa: NPY002
    features = np.random.rand(100, 2)  # noqa: NPY002
    features[:, 1] *= 1000
    y = 2 * features[:, 0] + 0.5 * features[:, 1] + np.random.randn(100) * 10  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    return features, y


def test_seed_42_is_the_articles_data_to_the_bit():
    problem = article()
    u, noise = problem.draw(42)
    x = u * problem.reference_scale
    their_x, their_y = articles_own_data()
    np.testing.assert_array_equal(x, their_x)
    first, second = problem.coefficients
    np.testing.assert_array_equal(first * x[:, 0] + second * x[:, 1] + noise, their_y)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_seed_names_its_data(name):
    problem = PROBLEMS[name]()
    for first, again in zip(problem.draw(5), PROBLEMS[name]().draw(5), strict=True):
        np.testing.assert_array_equal(first, again)
    for one, other in zip(problem.draw(5), problem.draw(6), strict=True):
        assert not np.isin(one, other).any()


@pytest.mark.parametrize("name", PROBLEMS)
def test_shapes_and_types(name):
    problem = PROBLEMS[name](samples=17)
    u, noise = problem.draw(0)
    assert u.shape == (17, len(problem.reference_scale))
    assert noise.shape == (17,)
    assert u.dtype == noise.dtype == np.float64
    assert problem.coefficients.shape == problem.reference_scale.shape == u.shape[1:]
    assert 0 <= problem.scaled_feature < u.shape[1]
    assert (problem.reference_scale > 0).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_global_generator_is_neither_read_nor_moved(name):
    before = np.random.get_state()  # noqa: NPY002
    one = PROBLEMS[name]().draw(3)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    np.random.seed(0)  # noqa: NPY002
    other = PROBLEMS[name]().draw(3)
    np.random.set_state(before)  # noqa: NPY002
    np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("name", PROBLEMS)
def test_noise_is_proportional_and_leaves_the_features_alone(name):
    quiet, loud = PROBLEMS[name](noise=1.0).draw(9), PROBLEMS[name](noise=4.0).draw(9)
    np.testing.assert_array_equal(quiet[0], loud[0])
    np.testing.assert_array_equal(4 * quiet[1], loud[1])


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_law_has_coefficients(name):
    assert np.isfinite(PROBLEMS[name]().coefficients).all()


@pytest.mark.parametrize("name", ["uniform", "gaussian"])
@pytest.mark.parametrize("features", [1, 2, 5])
def test_the_number_of_features_is_a_parameter(name, features):
    problem = PROBLEMS[name](features=features)
    assert problem.draw(0)[0].shape == (100, features)
    assert problem.scaled_feature == features - 1


@pytest.mark.parametrize("correlation", [-0.4, 0.0, 0.9])
def test_gaussian_features_have_the_correlation_asked_for(correlation):
    u, _ = gaussian(samples=50_000, features=3, correlation=correlation).draw(1)
    expected = np.full((3, 3), correlation) + np.eye(3) * (1 - correlation)
    np.testing.assert_allclose(np.cov(u.T), expected, atol=0.03)  # six standard errors
    np.testing.assert_allclose(u.mean(axis=0), 0, atol=0.03)


@given(st.integers(2, 5), st.integers(0, 100))
def test_whitened_features_are_orthonormal_in_every_sample(features, seed):
    u, _ = PROBLEMS["gaussian"](samples=20, features=features, whitened=True).draw(seed)
    np.testing.assert_allclose(u.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(u.T @ u / 20, np.eye(features), atol=1e-12)


@pytest.mark.parametrize("more", [{"correlation": 0.5}, {"samples": 2}])
def test_what_cannot_be_whitened_is_refused(more):
    with pytest.raises(StudyError, match="whitened"):
        PROBLEMS["gaussian"](whitened=True, **more)


def test_an_ill_conditioned_problem_has_about_its_condition_number():
    for wanted in (1.0, 100.0, 10_000.0):
        u, _ = PROBLEMS["ill_conditioned"](samples=50_000, condition_number=wanted).draw(0)
        np.testing.assert_allclose(u.std(axis=0), 1, atol=0.03)
        assert 0.3 * wanted < np.linalg.cond(np.cov(u.T)) < 3 * wanted
