"""The traces of a study's runs as they are drawn."""

import numpy as np
import pandas as pd

from scaling_study.storage.results import Results, numbered

MOST_POINTS = 67  # of a curve


def curves(results: Results) -> pd.DataFrame:
    """Return the traces with the loss at update 0, and NaN from where a run has diverged."""
    columns = ["condition", "seed", "feature", "update", "loss", "grad_norm"]
    traces = numbered(results.traces)
    if traces.empty:  # no seed of the study is traced
        return pd.DataFrame(columns=columns)
    keys = ["condition", "seed"]
    points = np.unique(traces["update"])
    step = -(-len(points) // MOST_POINTS)
    kept = traces["update"].isin(points[::-1][::step])  # the last one among them
    traced = traces.loc[kept, columns].astype({"condition": str})
    ends = results.runs[[*keys, "initial_loss", "diverged_at"]].astype({"condition": str})
    start = traced[[*keys, "feature"]].drop_duplicates().merge(ends, on=keys)
    start = start.rename(columns={"initial_loss": "loss"}).assign(update=0, grad_norm=np.nan)
    whole = pd.concat([start[columns], traced.dropna(subset=["loss"])], ignore_index=True)
    whole = whole.merge(ends, on=keys, how="left")
    gone = (whole["update"] >= whole["diverged_at"]) & (whole["update"] > 0)
    whole.loc[gone, ["loss", "grad_norm"]] = np.nan
    return whole.replace([np.inf, -np.inf], np.nan)
