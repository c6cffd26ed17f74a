"""Comparisons of networks with scikit-learn's own estimators: ``[estimators.NAME]``.

    [estimators.wine-knn]
    dataset = "wine"
    estimator = "knn"                    # or { name = "knn", n_neighbors = 3 }
    scaler = ["none", "standard"]

Each seed of the study is a split; the same seed is the estimator's. scikit-learn is imported
only for a study that has such a table.
"""

from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from scaling_study.errors import StudyError
from scaling_study.study import values
from scaling_study.study.component import EVERYTHING, Component
from scaling_study.study.datasets import load
from scaling_study.study.values import error_context

BELOW_ONE = 1 - 2**-53  # the largest float below 1


def by_name(*functions: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return a registry of functions by their names, with hyphens."""
    return {function.__name__.replace("_", "-"): function for function in functions}


class Comparison(NamedTuple):
    """One estimator on one data set, under several scalers."""

    name: str  # of its table
    dataset: str  # a key of `DATASETS`
    estimator: Component  # a key of `ESTIMATORS`, or a reference to a function of ``seed``
    scalers: tuple[str, ...]  # in the order in which the pipelines are fitted
    test_size: float = 0.3  # share of the rows that is held out
    # Whether the pipelines of all scalers share one estimator object, so that fitting a later
    # pipeline changes an earlier one: a published mistake, reproduced to measure its effect.
    shared_steps: bool = False

    def build(self, seed: int) -> Any:
        """Return the estimator, not fitted; the seed is its random state."""
        return self.estimator.build("estimator", ESTIMATORS, seed=seed)


def wine() -> tuple[Any, Any]:
    """Return scikit-learn's copy of UCI's wine: 178 rows, 13 features, 3 cultivars."""
    x, y, _ = load("wine")
    return x, y.astype(int)


def breast_cancer() -> tuple[Any, Any]:
    """Return scikit-learn's copy of UCI's breast cancer: 569 rows, 30 features, malignant = 1.

    scikit-learn codes malignant as 0. Numbering the letters B and M of UCI's file gives 1, and a
    network that is trained from the same seed differs.
    """
    x, y, _ = load("breast_cancer")
    return x, 1 - y.astype(int)


def linear_svm(seed: int, *, max_iter: int = -1) -> Any:
    """Return `sklearn.svm.SVC` with a linear kernel, stopped after ``max_iter`` (-1: never)."""
    from sklearn.svm import SVC

    return SVC(kernel="linear", max_iter=max_iter)


def knn(seed: int, *, n_neighbors: int = 5) -> Any:
    """Return `sklearn.neighbors.KNeighborsClassifier`."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=n_neighbors)


def mlp(seed: int, *, max_iter: int = 200) -> Any:
    """Return `sklearn.neural_network.MLPClassifier`: 100 rectified units, Adam."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(max_iter=max_iter, random_state=seed)


def pca_logistic(seed: int, *, n_components: int = 2) -> Any:
    """Return principal components with a cross-validated logistic regression.

    The 20 strengths are those of scikit-learn's "Importance of Feature Scaling".
    """
    import numpy as np
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline

    # Accuracy is the default of releases up to 1.10.
    strengths: Any = np.logspace(-5, 5, 20)
    logistic = LogisticRegressionCV(Cs=strengths, scoring="accuracy")
    return make_pipeline(PCA(n_components=n_components), logistic)


DATASETS = by_name(wine, breast_cancer)
ESTIMATORS = by_name(linear_svm, knn, mlp, pca_logistic)
# scikit-learn's transformers, by the names of scalers.
PREPROCESSORS: dict[str, str] = {
    "none": "FunctionTransformer",
    "minmax": "MinMaxScaler",
    "standard": "StandardScaler",
    "robust": "RobustScaler",
    "maxabs": "MaxAbsScaler",
    "power": "PowerTransformer",
    "normalizer": "Normalizer",
}


def preprocessor(scaler: str) -> Any:
    """Return a scaler as a transformer of scikit-learn, not fitted."""
    from sklearn import preprocessing

    return getattr(preprocessing, PREPROCESSORS[scaler])()


def _one_estimator(value: Any) -> Component:
    found = Component.expand(value)
    if len(found) > 1:
        raise StudyError("is one, not a grid; give each a table of its own")
    return found[0]


READERS: dict[str, values.Reader] = {
    "dataset": values.one_of(DATASETS, "dataset"),
    "estimator": _one_estimator,
    "scaler": lambda x: tuple(map(values.one_of(PREPROCESSORS, "scaler"), values.listed(x))),
    "test_size": lambda x: values.number(x, 2**-1074, "a share between 0 and 1", BELOW_ONE),
    "shared_steps": values.truth,
}


def read_comparisons(tables: Any, allowed: Container[str] = EVERYTHING) -> list[Comparison]:
    """Read a study's tables ``[estimators.NAME]``, in their order; `Study` explains ``allowed``."""
    return [_read(name, table, allowed) for name, table in tables.items()]


def _read(name: str, table: Any, allowed: Container[str]) -> Comparison:
    with error_context(f"estimators.{name}"):
        if not isinstance(table, Mapping):
            raise StudyError(f"must be a table, [estimators.{name}]")
        values.check_keys(table, READERS)
        for key in ("dataset", "estimator"):
            if key not in table:
                raise StudyError(f"lacks {key}")
        found = values.read_known({"scaler": ["none", "standard"], **table}, READERS)
        comparison = Comparison(name, scalers=found.pop("scaler"), **found)
        estimator = comparison.estimator.within(allowed)
        if estimator.allowed:
            comparison.build(seed=0)
        return comparison._replace(estimator=estimator)
