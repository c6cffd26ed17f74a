"""What the report on importance says: the names of things, and an answer computed from runs."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling_study.analysis.attribution import FEWEST, GOOD_FIT, NETWORKS, UNIT_FREE, is_plain
from scaling_study.report.importance_plates import TITLES, short, titles_of
from scaling_study.report.labels import budgets_of, listing, number, percent, values_of
from scaling_study.study.component import Component
from scaling_study.study.study import Study

MOST = 0.8  # of the readings, for words that speak of them without a number
SMALLEST = 0.05  # the smallest difference of distortions that would matter to anyone
SCALERS = ("none", "minmax", "standard", "robust", "maxabs")
DECOY = "decoy"
MEASURED = (
    f"A run fits if its R² on held-out rows is at least {GOOD_FIT}, and is read only then; a cell"
    f" is read only where {FEWEST} runs or more fit. Each cell has the learning rate that is best,"
    " by mean held-out R², for the first half of the seeds, and is reported on the other half.",
    "A method's share of a feature is its importance over the sum of all features' magnitudes;"
    " weight magnitude, Garson, Olden and gradient are per unit of the network's own inputs,"
    " and gradient × input, integrated gradients and permutation read what it computes. The truth"
    " is the share of permutation importance that the law itself gives to the same held-out rows."
    " Distortion is the total variation between the two: 0 is the truth, and for two features that"
    " matter alike ½ is all for one of them.",
)
SYMMETRIC = ("sines", "products", DECOY)  # laws whose columns matter alike, or not at all


# Names ----------------------------------------------------------------------------------------


def input_name(scaler: str, scale_factor: float, offset: float) -> str:
    """Return what a column's input is called, such as ``raw × 10`` or ``standard``."""
    parts = ["raw" if scaler == "none" else scaler]
    parts += [f"× {scale_factor:g}"] if scale_factor != 1 else []
    parts += [f"+ {offset:g}"] if offset else []
    return " ".join(parts)


def network_name(model: Component) -> str:
    """Return a network's widths, activation and initialisation for reading."""
    own = dict(model.parameters)
    hidden = own.get("hidden", 16) if model.name == "mlp" else ()
    widths = "-".join(str(w) for w in (hidden if isinstance(hidden, tuple) else (hidden,)))
    words = [widths or model.name, str(own.get("activation", "relu"))]
    start = own.get("kernel_init")
    return " ".join(words if widths else words[:1]) + (f", {start}" if start else "").replace(
        "_", " "
    )


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with ``input``, in the order of scalers, offsets and factors."""
    place = frame["scaler"].map(lambda name: SCALERS.index(name) if name in SCALERS else 9)
    ordered = frame.assign(place=place, at=np.arange(len(frame)))
    first = ordered.groupby("problem", sort=False)["at"].transform("min")
    ordered = ordered.assign(first=first).sort_values(
        ["part", "first", "place", "offset", "scale_factor", "at"], kind="stable"
    )
    triples = zip(ordered["scaler"], ordered["scale_factor"], ordered["offset"], strict=True)
    names = [input_name(*triple) for triple in triples]
    return ordered.drop(columns=["place", "at", "first"]).assign(input=names)


def inputs_of(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["part"] == "inputs"]


def _interval(value: float, low: float, high: float) -> str:
    return f"{number(value, 2)} [{number(low, 2)}, {number(high, 2)}]"


def measured(study: Study) -> tuple[str, ...]:
    """Return what is measured, a paragraph each, the last of the laws that a study has."""
    names = list(dict.fromkeys(short(problem) for problem in values_of(study.blocks, "problem")))
    alike = [name for name in names if name in SYMMETRIC]
    others = [name for name in names if name not in SYMMETRIC]
    words = []
    if alike:
        words.append(f"For {listing(alike)} every sensible method has the same truth, by symmetry.")
    if others:
        words.append(
            f"The columns of {listing(others)} may matter differently, and there permutation counts"
            " squares where other methods count magnitudes: those differ from the truth even of a"
            " perfect network, and only their change with the input can be blamed on it."
        )
    return (*MEASURED, " ".join(words))


def limits(study: Study, by_threshold: dict[float, pd.DataFrame]) -> list[str]:
    """Return where the report could be wrong.

    Parameters
    ----------
    study : Study
    by_threshold : dict of float to DataFrame
        `scaling_study.analysis.attribution.mean_differences`, by the R² from which on a run fits.
    """
    parts = []
    for good_fit, differences in by_threshold.items():
        bound, free = counts(differences, "unit")
        parts.append(f"{bound.far} of {bound.read} and {free.far} of {free.read} with {good_fit:g}")
    return [
        f"Whether a run fits is decided by a threshold, {GOOD_FIT:g} of R², and runs that fit are"
        " no random sample of those that were begun. Where few fit, those that do may be special;"
        " the differences within a seed compare the same seeds only. Another threshold reads other"
        " cells: of the readings of weights and of functions, another unit surely distorts"
        f" {listing(parts)}.",
        "Only the last column's unit or zero is changed; the target's scaler is"
        f" {listing(values_of(study.blocks, 'target_scaler'))}. With correlated columns permuting"
        " makes rows that do not occur, and no definition of the truth is the only one.",
        f"Optimizer: {listing(values_of(study.blocks, 'optimizer'))}; {budgets_of(study.blocks)}."
        f" {_rates(study)} Where an end of the grid is the best, a longer one could fit more.",
        "Cells share their seeds: data, initialisation and batch order. So cells are no independent"
        " evidence, and the counts above say how often, not how surely over all problems. All"
        " affine scalers of a column differ by a factor and an offset only.",
    ]


def _rates(study: Study) -> str:
    """Say which learning rates there are to choose from."""
    other = {name: own for name, own in study.blocks.items() if name.startswith(NETWORKS)}
    first = {name: own for name, own in study.blocks.items() if name not in other}
    parts = [
        f"{listing(values_of(blocks, 'learning_rate'), 'or')}{what}"
        for blocks, what in ((first, ""), (other, " for other networks"))
        if blocks
    ]
    return f"The learning rate is the best of {'; '.join(parts)}."


# The answer -----------------------------------------------------------------------------------


def answer_of_fit(cells: pd.DataFrame) -> list[str]:
    """Return how often networks fit on standardised columns, and which raw cells are not read."""
    own = inputs_of(cells)
    standard = own[(own["scaler"] == "standard") & is_plain(own)]
    raw = own[(own["scaler"] == "none") & ~is_plain(own)]
    words = []
    if len(standard):
        least, most = standard["value"].min(), standard["value"].max()
        span = percent(least) if least == most else f"{percent(least)} to {percent(most)}"
        words.append(f"On standardised columns {span} of the runs fit rows they had not seen.")
    unread = raw[raw["fitting"] < FEWEST]
    if len(unread):
        words.append(
            f"As the columns come, {len(unread)} of {len(raw)} pairs of a problem and another unit"
            f" or offset have fewer than {FEWEST} runs that fit, and no importance is read there."
        )
    return words


class Count(NamedTuple):
    """Of the differences that are read: how many surely distort, how many surely do not.

    Attributes
    ----------
    far, near, read : int
        Intervals wholly above `SMALLEST`, wholly within it of 0, and all.
    """

    far: int
    near: int
    read: int

    @classmethod
    def of(cls, own: pd.DataFrame) -> "Count":
        """Return the count of rows with ``low`` and ``high``."""
        near = (own["low"] > -SMALLEST) & (own["high"] < SMALLEST)
        return cls(int((own["low"] > SMALLEST).sum()), int(near.sum()), len(own))


def counts(differences: pd.DataFrame, what: str) -> tuple[Count, Count]:
    """Return what a change of raw inputs did to readings of weights, and of functions.

    Parameters
    ----------
    differences : DataFrame
        From `scaling_study.analysis.attribution.mean_differences`.
    what : {"unit", "offset"}
        What is changed.
    """
    own = inputs_of(differences)
    changed = own["scale_factor"] != 1 if what == "unit" else own["offset"] != 0
    own = own[(own["scaler"] == "none") & changed & own["value"].notna()]
    free = own["method"].isin(UNIT_FREE)
    return Count.of(own[~free]), Count.of(own[free])


def answer_of_units(differences: pd.DataFrame) -> list[str]:
    """Return in how many read cells a unit, and an offset, surely distorted, by kind of method."""
    methods = titles_of(differences["method"])
    bound = listing([TITLES[m] for m in methods if m not in UNIT_FREE])
    free = listing([TITLES[m] for m in methods if m in UNIT_FREE])
    words = []
    for what in ("unit", "offset"):
        of_bound, of_free = counts(differences, what)
        if not of_bound.read or not of_free.read:
            continue
        how = (
            f"read by {bound}, raw inputs were surely further from the truth than standardised ones"
            f" of the same seed, by more than {SMALLEST}, in {of_bound.far} of {of_bound.read}"
            f" readings; read by {free}, in {of_free.far} of {of_free.read}, and surely within"
            f" {SMALLEST} of them in {of_free.near}."
            if not words
            else f"they were further in {of_bound.far} of {of_bound.read} of the former readings,"
            f" and in {of_free.far} of {of_free.read} of the latter."
        )
        words.append(f"{verdict(of_bound, of_free, what)} {how}")
    return words


def verdict(bound: Count, free: Count, what: str) -> str:
    """Return the words that the counts, of weights and of functions, allow."""
    if bound.far >= bound.read / 2 and free.near >= MOST * free.read:
        return (
            f"Where networks fit, another {what} distorts how they are read, not what they learn:"
        )
    if free.far >= free.read / 2:
        return f"Where networks fit, another {what} distorts what they learn:"
    if bound.near >= MOST * bound.read and free.near >= MOST * free.read:
        return f"Where networks fit, another {what} hardly distorts what is read of them:"
    return f"Where networks fit, another {what} distorts some readings and leaves others:"


def answer_of_lean(lean: pd.DataFrame) -> list[str]:
    """Return which way weight magnitude leans where a raw column's numbers shrink or grow."""
    own = inputs_of(lean)
    own = own[(own["scaler"] == "none") & (own["method"] == "weight") & (own["offset"] == 0)]
    own = own[own["value"].notna()]
    small, large = own[own["scale_factor"] < 1], own[own["scale_factor"] > 1]
    if not len(small) or not len(large):
        return []
    more, less = int((small["low"] > 0).sum()), int((large["high"] < 0).sum())
    known = more + less > (len(small) + len(large)) / 2
    return [
        ("Smaller numbers drew larger weights: where" if known else "Where")
        + " a column's numbers shrank, it surely got more than its true share of weight magnitude"
        f" in {more} of {len(small)} cells; where they grew, less in {less} of {len(large)}."
    ]


def answer_of_decoy(last: pd.DataFrame) -> list[str]:
    """Return the most that a column without any part in the law is given."""
    own = inputs_of(last)
    own = own[(own["problem"].map(short) == DECOY) & (own["scaler"] == "none")]
    tops = {}
    for method in ("weight", "permutation"):
        mine = own[(own["method"] == method) & own["value"].notna()]
        if not len(mine):
            return []
        tops[method] = mine.iloc[int(mine["value"].to_numpy().argmax())]
    weight, permutation = tops.values()
    return [
        f"A column that does nothing is given up to {_interval(*weight[['value', 'low', 'high']])}"
        f" of weight magnitude ({weight['input']}, n = {weight['n']}), and at most"
        f" {_interval(*permutation[['value', 'low', 'high']])} by permutation"
        f" ({permutation['input']}, n = {permutation['n']})."
    ]


def answer_of_networks(found: pd.DataFrame) -> list[str]:
    """Return the least and most mean distortion over other networks, raw."""
    own = found[(found["part"] == NETWORKS) & (found["scaler"] == "none") & found["value"].notna()]
    spans = {
        method: own.loc[own["method"] == method, "value"] for method in ("weight", "permutation")
    }
    if any(not len(values) for values in spans.values()):
        return []
    weight, permutation = spans.values()
    return [
        f"Over {own['model'].nunique()} networks of other width, depth, activation or"
        " initialisation, raw and in another unit, the mean distortion of permutation is"
        f" {number(permutation.min(), 2)} to {number(permutation.max(), 2)}, and that of weight"
        f" magnitude {number(weight.min(), 2)} to {number(weight.max(), 2)}."
    ]
