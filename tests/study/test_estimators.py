"""What scikit-learn's estimators are asked: read, refused in one line, written out again."""

from typing import Any

import pytest

from scaling_study.errors import StudyError
from scaling_study.study.estimators import (
    DATASETS,
    ESTIMATORS,
    PREPROCESSORS,
    preprocessor,
    read_comparisons,
)
from scaling_study.study.study import read_study

KNN: dict[str, Any] = {"dataset": "wine", "estimator": "knn"}


def test_defaults_are_filled_in():
    (found,) = read_comparisons({"a": KNN})
    assert found.scalers == ("none", "standard")
    assert (found.name, found.dataset, found.test_size, found.shared_steps) == (
        *("a", "wine", 0.3, False),
    )


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_is_built_not_fitted(name):
    (found,) = read_comparisons({"a": {**KNN, "estimator": name}})
    built = found.build(seed=3)
    assert {"fit", "predict"} <= set(dir(built))
    assert not hasattr(built, "classes_")


def test_the_seed_is_the_networks():
    (found,) = read_comparisons({"a": {**KNN, "estimator": {"name": "mlp", "max_iter": 7}}})
    built = found.build(seed=3)
    assert (built.random_state, built.max_iter) == (3, 7)


@pytest.mark.parametrize(("name", "shape"), [("wine", (178, 13)), ("breast-cancer", (569, 30))])
def test_data_sets_are_whole(name, shape):
    x, y = DATASETS[name]()
    assert x.shape == shape
    assert len(y) == len(x)


def test_malignant_is_one():
    _, y = DATASETS["breast-cancer"]()
    assert (y == 1).sum() == 212  # of 569; the other 357 are benign


@pytest.mark.parametrize("scaler", PREPROCESSORS)
def test_every_scaler_is_a_transformer(scaler):
    x, _ = DATASETS["wine"]()
    scaled = preprocessor(scaler).fit_transform(x)
    assert scaled.shape == x.shape
    assert (scaled == x).all() == (scaler == "none")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ("wine", "estimators: must be tables"),
        ({"a": 3}, r"estimators\.a: must be a table"),
        ({"a": {**KNN, "dataset": "whine"}}, "unknown dataset 'whine'; did you mean 'wine'"),
        ({"a": {**KNN, "estimator": "kmn"}}, "unknown estimator 'kmn'; did you mean 'knn'"),
        ({"a": {**KNN, "scaler": "standart"}}, "unknown scaler 'standart'; did you mean"),
        ({"a": {**KNN, "spilts": 3}}, "unknown key 'spilts'"),
        ({"a": {"estimator": "knn"}}, "estimators.a: lacks dataset"),
        ({"a": {"dataset": "wine"}}, "estimators.a: lacks estimator"),
        ({"a": {**KNN, "test_size": 1.0}}, "test_size: must be a share between 0 and 1, not 1.0"),
        ({"a": {**KNN, "shared_steps": 1}}, "shared_steps: must be true or false"),
        ({"a": {**KNN, "estimator": {"name": "knn", "k": 3}}}, "unknown parameter 'k'"),
        ({"a": {**KNN, "estimator": {"name": "knn", "n_neighbors": [3, 5]}}}, "not a grid"),
    ],
)
def test_bad_input_is_one_line_with_its_place(tables, said):
    with pytest.raises(StudyError, match=said) as error:
        read_study({"estimators": tables})
    assert str(error.value).startswith("study: ")
    assert "\n" not in str(error.value)


def test_a_study_writes_out_what_it_read():
    study = read_study({"estimators": {"a": {**KNN, "scaler": ["none", "robust"]}}})
    again = read_study(study)
    assert again == study
    assert again.estimators == {"a": {**KNN, "scaler": ["none", "robust"]}}
    assert "estimators" not in read_study({}).to_toml()
