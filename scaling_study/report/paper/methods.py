"""How the paper was made: the coverage of its intervals, and tables of blocks and conditions."""

import numpy as np
import pandas as pd

from scaling_study.analysis import coverage, summary
from scaling_study.report.labels import listing
from scaling_study.storage.results import Results

COVERAGE_SAMPLE_SIZES = (10, 30, 200)
COVERAGE_STUDIES = 10_000  # with fewer, coverages of 96 and 97 % cannot be told apart
COVERAGE_RNG_SEED = 7


def simulated_coverage(seed: int = COVERAGE_RNG_SEED) -> pd.DataFrame:
    """Return how often each interval covers the truth over simulated studies."""
    generator = np.random.default_rng(seed)
    frames = [
        coverage.coverage(n, COVERAGE_STUDIES, generator=generator) for n in COVERAGE_SAMPLE_SIZES
    ]
    return pd.concat(frames, ignore_index=True)


def coverage_table(covered: pd.DataFrame) -> pd.DataFrame:
    """Return the coverage of each interval as text."""
    shares = [f"{100 * share:.1f} %" for share in covered["coverage"]]
    return covered[["interval", "n"]].astype(str).assign(coverage=shares)


def blocks_table(results: Results) -> pd.DataFrame:
    """Return a row per block: its problem, updates and runs, and what varies in it."""
    rows = []
    counts = results.runs.groupby("block", observed=True).size()
    for block, conditions in results.conditions.groupby("block", sort=False):
        axes = [str(name) for name in conditions.drop(columns=["condition", "block"])]
        counted = {name: conditions[name].nunique() for name in axes if "." not in name}
        varied = [f"{n} of {name.replace('_', ' ')}" for name, n in counted.items() if n > 1]
        row = {"block": str(block), "problem": str(conditions["problem"].iloc[0])}
        updates = " and ".join(f"{n:,}" for n in sorted(conditions["updates"].unique()))
        row |= {"updates": updates, "runs": f"{counts[block]:,}", "varied": listing(varied)}
        rows.append(row)
    return pd.DataFrame(rows)


def conditions_table(results: Results) -> pd.DataFrame:
    """Return what became of each condition, with the axes that vary."""
    found = summary.summarize_runs(results.runs, results.conditions)
    axes = results.conditions.drop(columns="updates")
    varied = [name for name in axes if axes[name].astype(str).nunique() > 1]
    return axes[varied].merge(found, on="condition")
