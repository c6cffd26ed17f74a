"""Fits of scikit-learn's estimators: no leak, no shared object, the figures as printed."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from scaling_study.engine.estimators import fit, fit_all
from scaling_study.errors import StudyError
from scaling_study.storage.schema import FIT_COLUMNS
from scaling_study.study.estimators import Comparison, read_comparisons
from scaling_study.study.study import read_study

KNN: dict[str, Any] = {"dataset": "wine", "estimator": "knn"}


def comparison(**keys: Any) -> Comparison:
    return read_comparisons({"a": {**KNN, **keys}})[0]


def accuracies(which: Comparison, seed: int = 42) -> dict[str, float]:
    return {row["scaler"]: row["accuracy"] for row in fit(which, seed)}


def preset(name: str) -> Comparison:
    found = read_comparisons(read_study("published").estimators)
    return next(own for own in found if own.name == name)


def test_the_example_as_published_and_with_a_pca_for_each_pipeline():
    shared, separate = (accuracies(preset(name)) for name in ("pca-shared", "pca-separate"))
    assert f"{shared['none']:.2%} {shared['standard']:.2%}" == "35.19% 96.30%"
    assert f"{separate['none']:.2%} {separate['standard']:.2%}" == "70.37% 96.30%"


@pytest.mark.parametrize(
    ("name", "raw", "scaled"),
    [
        ("wine-svm-stopped", "0.593", "0.981"),
        ("wine-svm", "0.981", "0.981"),
        ("wine-knn", "0.741", "0.963"),
    ],
)
def test_pinheiro_on_the_published_split(name, raw, scaled):
    found = accuracies(preset(name))
    assert (f"{found['none']:.3f}", f"{found['standard']:.3f}") == (raw, scaled)


def test_the_stopped_solver_is_counted():
    (raw, scaled) = fit(preset("wine-svm-stopped"), 42)
    assert (raw["stopped_early"], scaled["stopped_early"]) == (True, False)
    assert not any(row["stopped_early"] for row in fit(preset("wine-svm"), 42))


def test_the_scaler_sees_training_rows_alone():
    x, y = load_wine(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=5)
    mean, sd = x_train.mean(axis=0), x_train.std(axis=0)
    by_hand = KNeighborsClassifier().fit((x_train - mean) / sd, y_train)
    score = np.mean(by_hand.predict((x_test - mean) / sd) == y_test)
    assert accuracies(comparison(), seed=5)["standard"] == score


def test_a_seed_is_a_split_and_always_the_same():
    rows = [fit(comparison(), seed) for seed in (1, 1, 2)]
    assert rows[0] == rows[1]
    assert [row["accuracy"] for row in rows[0]] != [row["accuracy"] for row in rows[2]]


def test_rows_have_the_stores_columns():
    study = read_study({"estimators": {"a": KNN, "b": {**KNN, "test_size": 0.5}}})
    rows = fit_all(study, [3, 4])
    assert len(rows) == 2 * 2 * 2
    assert all(row.keys() == set(FIT_COLUMNS) for row in rows)
    assert {(r["comparison"], r["train_rows"], r["test_rows"]) for r in rows} == {
        ("a", 124, 54),
        ("b", 89, 89),
    }


def test_a_value_that_the_estimator_does_not_take_is_one_line():
    with pytest.raises(StudyError, match=r"^estimators\.a: .*n_neighbors") as error:
        fit(comparison(estimator={"name": "knn", "n_neighbors": -1}), 0)
    assert "\n" not in str(error.value)
