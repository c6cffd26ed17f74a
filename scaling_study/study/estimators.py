"""What scikit-learn's own estimators are asked, beside the networks: ``[estimators.NAME]``.

    [estimators.wine-knn]
    dataset = "wine"
    estimator = "knn"                    # or { name = "knn", n_neighbors = 3 }
    scaler = ["none", "standard"]

Each seed of the study is a split: its rows are drawn with it, and so is what is random in the
estimator. scikit-learn is imported when a study has such a table, not before.
"""

from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from scaling_study.errors import StudyError, unknown
from scaling_study.study.component import EVERYTHING, Component
from scaling_study.study.values import error_context, listed, number


class Comparison(NamedTuple):
    """One estimator on one data set, under several scalers.

    Attributes
    ----------
    name : str
        Of its table.
    dataset : str
        A key of `DATASETS`.
    estimator : Component
        A key of `ESTIMATORS`, or a reference to a function of ``seed``, with parameters.
    scalers : tuple of str
        Keys of `PREPROCESSORS`, in the order in which the pipelines are fitted.
    test_size : float
        Share of the rows that is held out, in (0, 1).
    shared_steps : bool
        Whether the pipelines of all scalers hold the estimator's inner steps as one object, so
        that fitting a later pipeline changes an earlier one: a mistake, kept to be measured.
    """

    name: str
    dataset: str
    estimator: Component
    scalers: tuple[str, ...]
    test_size: float = 0.3
    shared_steps: bool = False

    def build(self, seed: int) -> Any:
        """Return the estimator, not fitted; what is random in it is drawn with the seed."""
        return self.estimator.build("estimator", ESTIMATORS, seed=seed)


def wine() -> tuple[Any, Any]:
    """Return scikit-learn's copy of UCI's wine: 178 rows, 13 features, 3 cultivars."""
    from sklearn.datasets import load_wine

    data: Any = load_wine()
    return data.data, data.target


def breast_cancer() -> tuple[Any, Any]:
    """Return scikit-learn's copy of UCI's breast cancer: 569 rows, 30 features, malignant = 1.

    scikit-learn codes malignant as 0. Whoever reads UCI's file and numbers its letters B and M
    has 1, and a network trained from the same seed is another then.
    """
    from sklearn.datasets import load_breast_cancer

    data: Any = load_breast_cancer()
    return data.data, 1 - data.target


def linear_svm(seed: int, *, max_iter: int = -1) -> Any:
    """Return `sklearn.svm.SVC` with a linear kernel, stopped after ``max_iter`` (-1: never)."""
    from sklearn.svm import SVC

    return SVC(kernel="linear", max_iter=max_iter)


def knn(seed: int, *, n_neighbors: int = 5) -> Any:
    """Return `sklearn.neighbors.KNeighborsClassifier`."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(n_neighbors=n_neighbors)


def mlp(seed: int, *, max_iter: int = 200) -> Any:
    """Return `sklearn.neural_network.MLPClassifier`: 100 rectified units under Adam."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(max_iter=max_iter, random_state=seed)


def pca_logistic(seed: int, *, n_components: int = 2) -> Any:
    """Return principal components under a cross-validated logistic regression.

    With the 20 strengths from 1e-5 to 1e5 of scikit-learn's "Importance of Feature Scaling".
    """
    import numpy as np
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline

    # Accuracy is what releases up to 1.10 choose the strength by where nothing is said.
    strengths: Any = np.logspace(-5, 5, 20)
    logistic = LogisticRegressionCV(Cs=strengths, scoring="accuracy")
    return make_pipeline(PCA(n_components=n_components), logistic)


DATASETS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "wine": wine,
    "breast-cancer": breast_cancer,
}
ESTIMATORS: dict[str, Callable[..., Any]] = {
    "linear-svm": linear_svm,
    "knn": knn,
    "mlp": mlp,
    "pca-logistic": pca_logistic,
}
# scikit-learn's own transformers, by the names that scalers have here.
PREPROCESSORS: dict[str, str] = {
    "none": "FunctionTransformer",
    "minmax": "MinMaxScaler",
    "standard": "StandardScaler",
    "robust": "RobustScaler",
    "maxabs": "MaxAbsScaler",
    "power": "PowerTransformer",
    "normalizer": "Normalizer",
}
KEYS = ("dataset", "estimator", "scaler", "test_size", "shared_steps")


def preprocessor(scaler: str) -> Any:
    """Return a scaler as a transformer of scikit-learn, not fitted."""
    from sklearn import preprocessing

    return getattr(preprocessing, PREPROCESSORS[scaler])()


def read_comparisons(tables: Any, allowed: Container[str] = EVERYTHING) -> list[Comparison]:
    """Read a study's tables ``[estimators.NAME]``, in their order.

    Parameters
    ----------
    tables : mapping
    allowed : container of str
        Which references to code may be imported.

    Raises
    ------
    StudyError
        If a key, a name or a value is not right.
    """
    if not isinstance(tables, Mapping):
        raise StudyError("estimators must be tables, [estimators.NAME]")
    return [_read(name, raw, allowed) for name, raw in tables.items()]


def _read(name: str, raw: Any, allowed: Container[str]) -> Comparison:
    with error_context(f"estimators.{name}"):
        if not isinstance(raw, Mapping):
            raise StudyError(f"must be a table, [estimators.{name}]")
        for key in raw:
            if key not in KEYS:
                raise unknown("key", key, KEYS)
        for key in KEYS[:2]:
            if key not in raw:
                raise StudyError(f"lacks {key}")
        if raw["dataset"] not in DATASETS:
            raise unknown("dataset", raw["dataset"], DATASETS)
        found = Component.expand(raw["estimator"])
        if len(found) > 1:
            raise StudyError("estimator is one, not a grid; give each a table of its own")
        scalers = tuple(listed(raw.get("scaler", ["none", "standard"])))
        for scaler in scalers:
            if scaler not in PREPROCESSORS:
                raise unknown("scaler", scaler, PREPROCESSORS)
        shared = raw.get("shared_steps", False)
        if not isinstance(shared, bool):
            raise StudyError(f"shared_steps must be true or false, not {shared!r}")
        with error_context("test_size"):
            share = number(raw.get("test_size", 0.3), 0, "a share between 0 and 1")
            if not 0 < share < 1:
                raise StudyError(f"must be a share between 0 and 1, not {share!r}")
        own = found[0].within(allowed)
        comparison = Comparison(name, raw["dataset"], own, scalers, share, shared)
        if own.allowed:
            comparison.build(seed=0)
        return comparison
