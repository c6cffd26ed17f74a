"""Scores of optimizers as the benchmark has them, made up."""

import numpy as np
import pandas as pd

from scaling_study.analysis.benchmark import SCORES

FOLDS = ("0a", "0b", "1a", "1b")


def frame(kept, problems=10, spread=0.05, seed=0, reference=0.8):
    """Return scores of optimizers that keep a share of their score, with noise."""
    random = np.random.default_rng(seed)
    rows = []
    for problem in range(problems):
        of_problem = random.normal(0, spread)  # shared, as of the seeds
        for name, share in kept.items():
            for s in range(16):
                others = np.clip(share * reference + of_problem + random.normal(0, spread), 0, 1)
                values = dict.fromkeys(SCORES, others) | {"reference": reference}
                axes = {"optimizer": name, "problem": f"p{problem}", "fold": FOLDS[s // 4]}
                rows.append({**axes, "seed": s, **values, "failed": 0.0, "fastest": 10.0})
    return pd.DataFrame(rows)
