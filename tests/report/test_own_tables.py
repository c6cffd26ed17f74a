"""The recommended scaler on tables that others ship, against scikit-learn's own network.

The network is scikit-learn's of the same width, activation, optimizer and batch size, on other
splits of the same share, at the best of three learning rates by mean held-out score. It differs in
its penalty (0.0001), in the number of its updates (at most 200 epochs) and in its loss' target.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from statsmodels.datasets import longley, spector, stackloss

import scaling_study
from scaling_study.analysis.intervals import resampled_mean
from scaling_study.study.estimators import preprocessor

SCALERS = ("standard", "minmax", "robust", "maxabs")
SPLITS, RATES, NOISE = 8, (1e-3, 1e-2, 1e-1), 0.02


def shipped(load):
    return lambda: load(as_frame=True).frame


def made(rows, *, classes=False, size=1.0):
    """Return a table with a category, missing values, and columns of different units."""
    random = np.random.default_rng(rows)
    z = random.standard_normal((rows, 3))
    kind = random.choice(["a", "b", "c"], rows)
    y = z[:, 0] - z[:, 1] + (kind == "a") + 0.3 * random.standard_normal(rows)
    frame = pd.DataFrame({"p": z[:, 0], "q": size * z[:, 1], "r": 1e-2 * z[:, 2], "kind": kind})
    frame = frame.mask(random.random(frame.shape) < 0.05)
    return frame.assign(target=np.where(y > 0, "yes", "no") if classes else y)


TABLES = {
    "wine": (shipped(datasets.load_wine), "target"),
    "breast_cancer": (shipped(datasets.load_breast_cancer), "target"),
    "diabetes": (shipped(datasets.load_diabetes), "target"),
    "longley": (lambda: longley.load_pandas().data, "TOTEMP"),
    "spector": (lambda: spector.load_pandas().data, "GRADE"),
    "stackloss": (lambda: stackloss.load_pandas().data, "STACKLOSS"),
    "made": (lambda: made(200), "target"),
    "made_of_classes": (lambda: made(240, classes=True), "target"),
    "made_in_units": (lambda: made(160, size=1e4), "target"),
}


def scores_of_scikit_learn(frame, target, scaler, classes):
    """Return the held-out scores of scikit-learn's network, at the best learning rate."""
    x, y = frame.drop(columns=target), frame[target]
    numbers = make_column_selector(dtype_include="number")
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    parts = [
        ("numbers", make_pipeline(SimpleImputer(strategy="median"), preprocessor(scaler)), numbers),
        ("texts", texts, make_column_selector(dtype_exclude="number")),
    ]
    found = []
    for rate in RATES:
        how = {"hidden_layer_sizes": (16,), "activation": "tanh", "random_state": 0}
        how |= {"learning_rate_init": rate, "batch_size": min(32, int(0.75 * len(x)))}
        network = MLPClassifier(**how) if classes else MLPRegressor(**how)
        if not classes:
            network = TransformedTargetRegressor(network, transformer=StandardScaler())
        split = (StratifiedShuffleSplit if classes else ShuffleSplit)(
            SPLITS, test_size=0.25, random_state=0
        )
        model = make_pipeline(ColumnTransformer(parts), network)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a budget that ended before it converged
            found.append(cross_val_score(model, x, y, cv=split))
    return np.clip(max(found, key=np.mean), 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_the_recommended_scaler_is_within_noise_of_scikit_learns_best(name, tmp_path):
    make, target = TABLES[name]
    file = tmp_path / f"{name}.csv"
    make().to_csv(file, index=False)
    diagnosis = scaling_study.diagnose(
        file, target=target, optimizers=["adam"], output_dir=tmp_path / name, updates=600
    )
    classes = diagnosis.problem.classes
    frame = pd.read_csv(file)
    scores = {scaler: scores_of_scikit_learn(frame, target, scaler, classes) for scaler in SCALERS}
    best = max(scores, key=lambda scaler: scores[scaler].mean())
    # The best of three others is chosen after the fact (Bonferroni).
    level = 1 - 0.05 / (len(SCALERS) - 1)
    gap = resampled_mean(scores[best] - scores[diagnosis.scaler], 3, 1, confidence=level)
    means = {scaler: round(float(part.mean()), 3) for scaler, part in scores.items()}
    print(name, diagnosis.verdict, diagnosis.scaler, best, gap, means)
    assert gap.low <= 0 or gap.value < NOISE
    if diagnosis.verdict == "scale":  # scaling helps scikit-learn's network as well
        raw = scores_of_scikit_learn(frame, target, "none", classes)
        assert scores[diagnosis.scaler].mean() >= raw.mean() - NOISE
