"""Fitting and scoring scikit-learn's estimators, on one split per seed; no JAX."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from scaling_study.study.estimators import DATASETS, Comparison, preprocessor
from scaling_study.study.study import Study
from scaling_study.study.values import error_context

SEEDS_PER_PROCESS = 16  # fewer are fitted before another process has started


def fit_all(study: Study, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Fit every estimator of a study on every seed's split, on all cores.

    Returns
    -------
    list of dict
        One row per comparison, seed and scaler, `scaling_study.storage.schema.FIT_COLUMNS`.

    Raises
    ------
    StudyError
        If an estimator does not take a parameter's value.
    """
    comparisons = study.comparisons()
    jobs = max(1, min(os.cpu_count() or 1, len(seeds) // SEEDS_PER_PROCESS))
    tasks = [(comparison, seed) for seed in seeds for comparison in comparisons]
    found: Any = Parallel(n_jobs=jobs)(delayed(fit)(*task) for task in tasks)
    return [row for rows in found for row in rows]


def fit(comparison: Comparison, seed: int) -> list[dict[str, Any]]:
    """Fit one estimator under each scaler on a seed's split, and score it on the held-out rows.

    A scaler is fitted to the training rows alone, and each pipeline has its own estimators,
    unless the comparison shares inner steps: then all pipelines are scored with the last fit.
    One row per scaler: ``accuracy`` in [0, 1], and ``stopped_early``, whether a solver warned
    that it had not converged.
    """
    x, y = DATASETS[comparison.dataset]()
    with error_context(f"estimators.{comparison.name}", ValueError):
        x_train, x_test, y_train, y_test = train_test_split(
            x, y, test_size=comparison.test_size, random_state=seed
        )
        estimator = comparison.build(seed)
        pipelines = [_pipeline(comparison, scaler, estimator) for scaler in comparison.scalers]
        stopped = [_fit(pipeline, x_train, y_train) for pipeline in pipelines]
        scores = [pipeline.score(x_test, y_test) for pipeline in pipelines]
    shared = {
        "comparison": comparison.name,
        "dataset": comparison.dataset,
        "estimator": str(comparison.estimator),
        "seed": seed,
        "train_rows": len(x_train),
        "test_rows": len(x_test),
    }
    return [
        {**shared, "scaler": scaler, "accuracy": float(score), "stopped_early": early}
        for scaler, score, early in zip(comparison.scalers, scores, stopped, strict=True)
    ]


def _pipeline(comparison: Comparison, scaler: str, estimator: Any) -> Pipeline:
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    inner = steps[:-1] if comparison.shared_steps else [clone(step) for step in steps[:-1]]
    return make_pipeline(preprocessor(scaler), *inner, clone(steps[-1]))


def _fit(pipeline: Pipeline, x: Any, y: Any) -> bool:
    """Fit, and return whether a solver stopped before it had converged."""
    # For data sets this small a second thread of BLAS costs more than it gains.
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        # Defaults that later releases change; those that matter are set explicitly.
        warnings.simplefilter("ignore", FutureWarning)
        pipeline.fit(x, y)
    return any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
