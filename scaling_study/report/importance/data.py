"""Results to frames and facts of the report on feature attributions."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from scaling_study.analysis import attribution
from scaling_study.analysis.attribution import FEWEST, GOOD_FIT, NETWORKS, UNIT_FREE, is_plain
from scaling_study.report import style
from scaling_study.report.labels import budgets_of, number, percent, values_of
from scaling_study.storage.results import Results
from scaling_study.study.component import Component
from scaling_study.study.conditions import expand

RELEVANT = 0.05  # the smallest difference of distortions that would matter to a reader
MOST = 0.8  # share of the cells from which on a statement without a number covers them all
THRESHOLDS = (0.8, GOOD_FIT, 0.95)  # R² from which on a run fits: the one in use, and two others
KINDS = ("per-unit", "unit-free")  # methods
SYMMETRIC = ("sines", "products", "decoy")  # features that matter alike, or not at all
Frames = dict[str, pd.DataFrame]


def short(problem: str) -> str:
    """Return a problem's name without its parameters."""
    return problem.partition("(")[0]


def label(method: str) -> str:
    """Return a method's name for reading."""
    return style.method(method)["label"]


def input_name(scaler: str, scale_factor: float, offset: float) -> str:
    """Return what was done to the last feature, such as ``raw × 10``."""
    parts = ["raw" if scaler == "none" else scaler]
    parts += [f"× {scale_factor:g}"] if scale_factor != 1 else []
    parts += [f"+ {offset:g}"] if offset else []
    return " ".join(parts)


def network_name(model: Component) -> str:
    """Return a network's widths, activation and initialisation for reading."""
    parameters = dict(model.parameters)
    if model.name != "mlp":
        return model.name
    hidden = parameters.get("hidden", 16)
    widths = "-".join(map(str, hidden if isinstance(hidden, tuple) else (hidden,)))
    start = str(parameters.get("kernel_init", "")).replace("_", " ")
    return f"{widths} {parameters.get('activation', 'relu')}" + (f", {start}" if start else "")


def estimates(results: Results, good_fit: float = GOOD_FIT) -> tuple[Frames, pd.DataFrame]:
    """Return the tables of estimates by name, and what each method says of each run."""
    kept = attribution.tuned_runs(results.runs, good_fit)
    fit = attribution.goodness_of_fit(kept)
    per_run = attribution.per_run(results.features, kept)
    frames = {"fit": fit, "differences": attribution.mean_differences(per_run, fit)}
    frames |= {name: attribution.cell_means(per_run, fit, name) for name in attribution.MEASURES}
    return {name: _with_input(frame) for name, frame in frames.items()}, per_run


def _with_input(frame: pd.DataFrame) -> pd.DataFrame:
    """Add ``input``, and order by problem, scaler, offset and scale factor."""
    keys = frame.reset_index(drop=True).assign(
        problem=pd.factorize(frame["problem"])[0],
        scaler=frame["scaler"].map({name: place for place, name in enumerate(style.SCALERS)}),
    )
    by = ["part", "problem", "scaler", "offset", "scale_factor"]
    frame = frame.iloc[keys.sort_values(by, kind="stable").index]
    names = map(input_name, frame["scaler"], frame["scale_factor"], frame["offset"])
    return frame.assign(input=list(names))


def figure_frames(results: Results, frames: Frames) -> Frames:
    """Return what each figure shows, in the order of the page, without empty ones."""
    distortion, differences = _inputs(frames["distortion"]), _inputs(frames["differences"])
    scales, last, flipped = (_rescaled(frames[name]) for name in ("distortion", "last", "flipped"))
    last = last[last["problem"].map(short) == "decoy"]
    scaled = distortion[distortion["scaler"] != "none"]
    found = {
        "differences": differences[differences["scaler"] == "none"],
        "scales": scales.sort_values("scaler", kind="stable"),
        "fit": _inputs(frames["fit"]),
        "rankings": flipped.dropna(subset=["value"]),
        "decoy": last.dropna(subset=["value"]),
        "scalers": scaled[is_plain(scaled) | (scaled["scaler"] == "maxabs")],
        "networks": _networks(results, frames["distortion"]),
    }
    return {name: frame for name, frame in found.items() if frame["value"].notna().any()}


def _inputs(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["part"] == "inputs"]


def _rescaled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the raw inputs by scale factor, and the standardised ones without a factor."""
    rows = _inputs(frame)
    raw = (rows["scaler"] == "none") & (rows["offset"] == 0)
    return rows[raw | ((rows["scaler"] == "standard") & is_plain(rows))]


def _networks(results: Results, distortion: pd.DataFrame) -> pd.DataFrame:
    """Return the distortion of other networks, in the order in which the study names them."""
    conditions = [c for c in expand(results.study) if c.block.startswith(NETWORKS)]
    names = {str(condition.model): network_name(condition.model) for condition in conditions}
    rows = distortion[distortion["part"] == NETWORKS]
    places = {key: place for place, key in enumerate([*rows["problem"].unique(), *names])}
    rows = rows.sort_values(["problem", "model"], key=lambda keys: keys.map(places), kind="stable")
    return rows.assign(network=rows["model"].map(names))


class Count(NamedTuple):
    """How many cells differ from standardised inputs: intervals above, or within ±, `RELEVANT`."""

    distorted: int
    unchanged: int
    cells: int

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Count":
        """Return the count of rows with ``low`` and ``high``."""
        unchanged = (rows["low"] > -RELEVANT) & (rows["high"] < RELEVANT)
        return cls(int((rows["low"] > RELEVANT).sum()), int(unchanged.sum()), len(rows))


def effects(differences: pd.DataFrame, change: str) -> tuple[Count, Count]:
    """Return what a change, of ``unit`` or ``offset``, does to methods of each of `KINDS`."""
    rows = _inputs(differences).dropna(subset=["value"])
    changed = rows["scale_factor"] != 1 if change == "unit" else rows["offset"] != 0
    rows = rows[(rows["scaler"] == "none") & changed]
    free = rows["method"].isin(UNIT_FREE)
    return Count.of(rows[~free]), Count.of(rows[free])


def conclude(per_unit: Count, unit_free: Count) -> str:
    """Return what the counts of a change allow to conclude; the template has the words."""
    calm = [count.unchanged >= MOST * count.cells for count in (per_unit, unit_free)]
    if not per_unit.cells or not unit_free.cells:
        return "unknown"
    if 2 * per_unit.distorted >= per_unit.cells and calm[1]:
        return "attributions only"
    if 2 * unit_free.distorted >= unit_free.cells:
        return "the function"
    return "nothing" if all(calm) else "some"


def facts_of(results: Results, frames: Frames, per_run: pd.DataFrame) -> dict[str, Any]:
    """Return what the text is filled with."""
    blocks, fit, differences = results.study.blocks, frames["fit"], frames["differences"]
    methods = style.ordered(differences["method"], style.METHODS)
    raw = _inputs(fit)[lambda rows: (rows["scaler"] == "none") & ~is_plain(rows)]
    pairs = _inputs(attribution.paired_differences(per_run))
    axes = ("optimizer", "target_scaler", "learning_rate")
    limits = {"good_fit": GOOD_FIT, "fewest": FEWEST, "relevant": RELEVANT}
    return {
        **limits,
        "distinct": attribution.DISTINCT,
        "effects": {change: effects(differences, change) for change in ("unit", "offset")},
        "conclusion": conclude(*effects(differences, "unit")),
        "fit": _inputs(fit),
        "raw": raw["fitting"],
        "networks": fit[fit["part"] == NETWORKS],
        "per_unit": [label(name) for name in methods if name not in UNIT_FREE],
        "unit_free": [label(name) for name in methods if name in UNIT_FREE],
        "symmetric": SYMMETRIC,
        "problems": [short(problem) for problem in values_of(blocks, "problem")],
        "undone": pairs.loc[pairs["scaler"] == "standard", "value"].abs(),
        "budgets": budgets_of(blocks),
        **{f"{axis}s": values_of(blocks, axis) for axis in axes},
    }


def effects_table(frames: Frames) -> pd.DataFrame:
    """Return how many cells another unit or offset distorts, by kind of method."""
    rows = [
        (f"another {change}", kind, *map(str, count))
        for change in ("unit", "offset")
        for kind, count in zip(KINDS, effects(frames["differences"], change), strict=True)
        if count.cells
    ]
    return pd.DataFrame(rows, columns=["change", "methods", "distorted", "unchanged", "cells"])


def thresholds_table(results: Results) -> pd.DataFrame:
    """Return how many cells another unit distorts, for each threshold of a good fit."""
    rows = []
    for threshold in THRESHOLDS:
        counts = effects(estimates(results, threshold)[0]["differences"], "unit")
        rows.append((f"{threshold:g}", *(f"{c.distorted} of {c.cells}" for c in counts)))
    return pd.DataFrame(rows, columns=["least R²", *(f"{kind} methods" for kind in KINDS)])


def results_table(frames: Frames) -> pd.DataFrame:
    """Return the other results, a quantity and its value in each row."""
    fit, signed, last = (_inputs(frames[name]) for name in ("fit", "signed_bias", "last"))
    standard = fit[(fit["scaler"] == "standard") & is_plain(fit)]
    signed = signed.query("scaler == 'none' and method == 'weight' and offset == 0").dropna()
    last = last[(last["problem"].map(short) == "decoy") & (last["scaler"] == "none")].dropna()
    networks = frames["distortion"].query(f"part == '{NETWORKS}' and scaler == 'none'").dropna()
    cells, two = "cells where weight magnitude", partial(number, digits=2)
    rows = {
        "runs that fit, standardised inputs": span(standard["value"], percent),
        f"{cells} overrates a small feature": _share(signed["scale_factor"] < 1, signed["low"] > 0),
        f"{cells} underrates a large feature": _share(
            signed["scale_factor"] > 1, signed["high"] < 0
        ),
    }
    for method in ("weight", "permutation"):
        top: Any = last[last["method"] == method].nlargest(1, "value").itertuples()
        distortion = networks.loc[networks["method"] == method, "value"]
        rows[f"largest share of an irrelevant feature, {label(method)}"] = "".join(
            f"{two(row.value)}, {row.input}, n = {row.n}\n{two(row.low)} to {two(row.high)}"
            for row in top
        )
        rows[f"distortion of other networks, raw inputs, {label(method)}"] = span(distortion, two)
    known = [(name, text) for name, text in rows.items() if text]
    return pd.DataFrame(known, columns=["quantity", "result"])


def _share(chosen: pd.Series, found: pd.Series) -> str:
    return f"{(chosen & found).sum()} of {chosen.sum()}" if chosen.any() else ""


def sample_sizes(frame: pd.DataFrame) -> str:
    """Return how many seeds the estimates of a frame rest on."""
    return span(frame.loc[frame["value"].notna(), "n"])


def span(values: pd.Series, text: Callable[[Any], str] = str) -> str:
    """Return the least and the largest value as text, or the one that both are."""
    ends = dict.fromkeys(text(value) for value in (values.min(), values.max()) if len(values))
    return " to ".join(ends)
