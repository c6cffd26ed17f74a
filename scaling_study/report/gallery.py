"""Which figures a study has, over which rows, and what their captions say."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scaling_study.analysis import summary
from scaling_study.report import figures
from scaling_study.report.labels import MINUS, label_conditions, listing, scaler_name, slug
from scaling_study.storage.results import Results

MOST_PANELS = 8
MOST_SETTINGS = 6
MOST_SEEDS = 300  # a cloud of more says no more, and weighs
MOST_POINTS = 67
MOST_DRAWN = 1e100  # matplotlib's scales overflow beyond some power of ten


class Drawing(NamedTuple):
    """A figure of the report.

    Attributes
    ----------
    name : str
        Names its files.
    caption : str
        What it shows, of how many seeds, and what the bands are.
    main : bool
        Whether it stands on the page itself, or folded beneath.
    figure : Figure
    """

    name: str
    caption: str
    main: bool
    figure: Figure


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield each figure that the study has something to show in.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`.
    """
    labels = label_conditions(results.conditions)
    results = _shown(results, labels)
    runs = _labelled(results.runs, labels)
    curves = _labelled(_curves(results), labels)
    features = _labelled(results.features, labels)
    features["training_unit"] = summary.training_units(features)
    settings = list(dict.fromkeys(labels["setting"]))
    for place, setting in enumerate(settings[:MOST_SETTINGS]):
        yield from _weights(features, runs, setting, place == 0)
    yield from _losses(curves, runs, settings)
    for place, setting in enumerate(settings[:MOST_SETTINGS]):
        yield from _gradients(curves, runs, setting, place == 0)
    incidence = _labelled(summary.cumulative_incidence(results.runs, results.conditions), labels)
    yield from _convergence(incidence, runs, settings)
    yield from _weight_errors(runs, settings)


def _shown(results: Results, labels: pd.DataFrame) -> Results:
    """Return the results of the settings that figures may show: the first, and the first linear."""
    linear = results.conditions["model"].astype(str).to_numpy() == "linear"
    first = labels["setting"].drop_duplicates()[:MOST_PANELS]
    first_linear = labels["setting"][linear].drop_duplicates()[:MOST_PANELS]
    own = labels["setting"].isin([*first, *first_linear])
    return results if own.all() else results.of(labels.loc[own, "condition"])


def _weights(
    features: pd.DataFrame, runs: pd.DataFrame, setting: str, main: bool
) -> Iterator[Drawing]:
    own = features[features["setting"] == setting]
    own = own.merge(runs[["condition", "seed", "status"]], on=["condition", "seed"])
    drawn = own["status"].isin(summary.DIVERGED_OR_FAILED) | own["training_unit"].notna()
    own = own[drawn & own["weight_init"].notna()]
    if own["feature"].nunique() < 2 or own["status"].isin(summary.DIVERGED_OR_FAILED).all():
        return
    lost = _lost(runs[runs["setting"] == setting])
    seeds = sorted(own["seed"].unique())
    which = _seeds(own)
    if len(seeds) > MOST_SEEDS:
        which = f"the first {MOST_SEEDS:,} of {which}"
        own = own[own["seed"].isin(seeds[:MOST_SEEDS])]
    yield Drawing(
        f"weights-{slug(setting)}",
        f"Where the weights of {which} began and ended ({setting}), one panel per scaler."
        " Each line joins a seed's start to its end. Least squares and truth are given in each"
        " panel's training units (medians over the seeds, if the data vary). Both axes are linear"
        f" from {MINUS}2 to 2 and logarithmic beyond.{lost}",
        main,
        figures.weights(own.assign(panel=own["scaler"].map(scaler_name))),
    )


def _losses(curves: pd.DataFrame, runs: pd.DataFrame, settings: list[str]) -> Iterator[Drawing]:
    own, cut = _panelled(curves[curves["feature"] == 0] if len(curves) else curves, settings)
    if not len(own) or not (own["loss"] > 0).any():
        return
    linear = runs[runs["weight_error"].notna()]
    floors = linear.groupby("setting", sort=False)["loss_ols"].median()
    yield Drawing(
        "loss",
        f"Loss on all training rows over the updates, {cut}. Line: median of the {_seeds(own)}"
        " whose traces are kept; band: their range. A curve ends where its seeds diverged."
        f"{_lost(runs[runs['setting'].isin(own['panel'])])}",
        True,
        figures.losses(own, floors),
    )


def _gradients(
    curves: pd.DataFrame, runs: pd.DataFrame, setting: str, main: bool
) -> Iterator[Drawing]:
    own = curves[curves["setting"] == setting] if len(curves) else curves
    own = own[own["grad_norm"] > 0] if len(own) else own
    if not len(own):
        return
    lost = _lost(runs[runs["setting"] == setting])
    yield Drawing(
        f"gradients-{slug(setting)}",
        f"Norm of the loss's gradient for each feature's first-layer weights ({setting}), in"
        " training units, the mean over the updates of an epoch, one panel per scaler. Line:"
        f" median of the {_seeds(own)} whose traces are kept; band: their range.{lost}",
        main,
        figures.gradients(own.assign(panel=own["scaler"].map(scaler_name))),
    )


def _convergence(
    incidence: pd.DataFrame, runs: pd.DataFrame, settings: list[str]
) -> Iterator[Drawing]:
    judged = runs[runs["status"].astype(str) != "no_target"]
    own, cut = _panelled(
        incidence[incidence["condition"].isin(judged["condition"].unique())], settings
    )
    if not len(own):
        return
    yield Drawing(
        "convergence",
        "Share of seeds that had reached the target loss for good, and share that had diverged, by"
        f" each update, {cut}, {_seeds(judged)}. The budget is common to the seeds, so the shares"
        " are exact for these seeds and have no band.",
        True,
        figures.convergence(own),
    )


def _weight_errors(runs: pd.DataFrame, settings: list[str]) -> Iterator[Drawing]:
    measured = runs.groupby("setting", sort=False)["weight_error"].transform("count") > 0
    own, cut = _panelled(runs[measured], settings)
    lost = own["status"].isin(summary.DIVERGED_OR_FAILED) if len(own) else pd.Series(dtype=bool)
    if not len(own) or not (own.loc[~lost, "weight_error"] > 0).any():
        return
    yield Drawing(
        "weight-error",
        "Weight-recovery error E against the truth, in units of the data, by scaler,"
        f" {cut}, {_seeds(own)}. A point is a run; the box holds the middle half of them with"
        " the median, its whiskers reach 1.5 times as far. E = 1 is the error of weights of"
        " zero. Diverged runs are counted, not drawn.",
        True,
        figures.weight_errors(own),
    )


def _labelled(frame: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with its setting and scaler as text, NaN for what no axis can hold."""
    if not len(frame):
        return frame
    numbers = frame.select_dtypes("number")
    frame = frame.copy(deep=False)
    frame[numbers.columns] = numbers.where(~(numbers.astype(float).abs() > MOST_DRAWN))
    names = labels.set_index("condition")
    ids = frame["condition"].astype(str)
    return frame.assign(
        condition=ids, setting=ids.map(names["setting"]), scaler=ids.map(names["scaler"])
    )


def _panelled(frame: pd.DataFrame, settings: list[str]) -> tuple[pd.DataFrame, str]:
    """Return the rows of the first settings, one panel each, and how to say so."""
    if not len(frame):
        return frame, ""
    present = [setting for setting in settings if (frame["setting"] == setting).any()]
    shown = present[:MOST_PANELS]
    # Where a setting is absent, its runs may not have been read.
    more = len(present) > len(shown) or len(settings) > len(present) >= MOST_PANELS
    own = frame[frame["setting"].isin(shown)]
    order = pd.Categorical(own["setting"], categories=shown, ordered=True)
    own = own.assign(panel=order).sort_values("panel", kind="stable")
    cut = "one panel per setting"
    if more:
        cut += f" (the first {len(shown)}; the table has all)"
    return own, cut


def _curves(results: Results) -> pd.DataFrame:
    """Return the traces with the loss at update 0, and NaN from where a run has diverged."""
    traces = results.traces
    if traces.empty:  # no seed of the study is traced
        return pd.DataFrame()
    runs = results.runs
    columns = ["condition", "seed", "feature", "update", "loss", "grad_norm"]
    keys = ["condition", "seed"]
    text = {"condition": str}
    points = np.unique(traces["update"])
    step = -(-len(points) // MOST_POINTS)
    thin = traces["update"].isin(points[::-1][::step])  # the last one is kept
    traced = traces.loc[thin, columns].astype(text)
    ends = runs[[*keys, "initial_loss", "diverged_at"]].astype(text)
    start = traced[[*keys, "feature"]].drop_duplicates().merge(ends, on=keys)
    start = start.rename(columns={"initial_loss": "loss"}).assign(update=0, grad_norm=np.nan)
    whole = pd.concat([start[columns], traced.dropna(subset=["loss"])], ignore_index=True)
    whole = whole.merge(ends, on=keys, how="left")
    gone = (whole["update"] >= whole["diverged_at"]) & (whole["update"] > 0)
    whole.loc[gone, ["loss", "grad_norm"]] = np.nan
    return whole.replace([np.inf, -np.inf], np.nan)


def _seeds(frame: pd.DataFrame) -> str:
    n = frame["seed"].nunique()
    return f"{n:,} seed" + ("s" if n != 1 else "")


def _lost(runs: pd.DataFrame) -> str:
    """Return a sentence on the runs that diverged, by setting and scaler."""
    lost = runs[runs["status"].isin(summary.DIVERGED_OR_FAILED)]
    if not len(lost):
        return ""
    one = runs["setting"].nunique() == 1
    parts = []
    for (setting, scaler), own in lost.groupby(["setting", "scaler"], sort=False):
        n = len(runs[(runs["setting"] == setting) & (runs["scaler"] == scaler)])
        parts.append(
            f"{len(own):,} of {n:,} with {scaler_name(str(scaler))}"
            + ("" if one else f" ({setting})")
        )
    return f" Diverged and not drawn: {listing(parts)}."
