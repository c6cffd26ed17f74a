"""What the numbers say, in sentences. Each word that compares follows from a comparison."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from scaling_study.report.labels import BASELINE, listing, number, percent
from scaling_study.report.tables import Summaries

MOST_SETTINGS = 4


def first_paragraph(summaries: Summaries) -> str:
    """Return what the study's first setting shows, as a paragraph.

    Parameters
    ----------
    summaries : Summaries
        From `scaling_study.report.tables.summarize`.
    """
    setting = summaries.labels["setting"].iloc[0]
    own = _rows(summaries, setting)
    sentences = [
        _larger(summaries, own, setting),
        _outcomes(own, "Within"),
        _errors(own),
        _movement(summaries, own),
        _losses(own),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def second_paragraph(summaries: Summaries) -> str:
    """Return what the other settings show, or nothing if there is but one.

    Parameters
    ----------
    summaries : Summaries
        From `scaling_study.report.tables.summarize`.
    """
    first, *others = dict.fromkeys(summaries.labels["setting"])
    shown = others[:MOST_SETTINGS]
    sentences = [
        _outcomes(_rows(summaries, setting), f"With {setting}, within") for setting in shown
    ]
    if len(shown) < len(others):
        sentences.append(f"The table has {len(others) - len(shown)} more settings.")
    sentences.append(_elsewhere(summaries, first, others))
    return " ".join(sentence for sentence in sentences if sentence)


def _rows(summaries: Summaries, setting: str) -> pd.DataFrame:
    labels = summaries.labels[summaries.labels["setting"] == setting]
    return labels.merge(summaries.runs, on="condition").merge(
        summaries.larger, on="condition", how="left"
    )


def _larger(summaries: Summaries, own: pd.DataFrame, setting: str) -> str:
    """Say how often the last weight ended the larger, and how scaling changed that."""
    own = own[own["larger_n"].fillna(0) > 0]
    if not len(own):
        return ""
    last = int(summaries.features["feature"].max()) + 1
    shares = own.set_index("scaler")["larger"]
    start = f"With {setting}, weight {last} ended larger in size than weight 1 in"
    if BASELINE not in shares:
        each = [f"{percent(share)} of the runs with {name}" for name, share in shares.items()]
        return f"{start} {listing(each)}."
    raw: dict[Any, Any] = own[own["scaler"] == BASELINE].iloc[0].to_dict()
    text = (
        f"{start} {percent(raw['larger'])} of {int(raw['larger_n']):,} runs on raw inputs"
        f" (95 % interval {percent(raw['larger_low'])} to {percent(raw['larger_high'])})"
    )
    differences = summaries.differences[summaries.differences["setting"] == setting]
    groups: dict[str, list[str]] = {}
    for scaler, low, high in differences[["scaler", "low", "high"]].itertuples(index=False):
        word = _word(low, high)
        if word and scaler in shares:
            groups.setdefault(word, []).append(f"{scaler} ({percent(float(shares[scaler]))})")
    parts = [f"{word} with {listing(names)}" for word, names in groups.items()]
    return f"{text}{', ' if parts else ''}{listing(parts)}."


def _word(low: float, high: float) -> str:
    if math.isnan(low):
        return ""
    if high < 0:
        return "less often than"
    return "more often than" if low > 0 else "not measurably more or less often than"


def _outcomes(own: pd.DataFrame, start: str) -> str:
    """Say how many runs reached the target and how many diverged, equal scalers together."""
    judged = own[own["has_target"]]
    parts = [
        *_counted(judged[judged["diverged"] < 1], "converged", "reached the target loss"),
        *_counted(own[own["diverged"] > 0], "diverged", "diverged"),
    ]
    if len(judged) < len(own):
        missing = _on(list(own.loc[~own["has_target"], "scaler"]))
        parts.append(f"no target loss is known {missing}, so convergence is not judged")
    return f"{start} {_span(own['updates'])} updates, {'; '.join(parts)}." if parts else ""


def _counted(own: pd.DataFrame, share: str, verb: str) -> list[str]:
    """Return how many runs did it, scalers with equal counts together."""
    groups: dict[tuple[int, int], list[str]] = {}
    for scaler, part, n in zip(own["scaler"], own[share], own["n"], strict=True):
        groups.setdefault((round(part * n), int(n)), []).append(scaler)
    return [f"{_of(*count, verb)} {_on(scalers)}" for count, scalers in groups.items()]


def _of(count: int, n: int, verb: str) -> str:
    if n == 1:
        return f"the one run {verb}" if count else f"the one run never {verb}"
    if count in (0, n):
        return f"{'none of' if count == 0 else 'all'} {n:,} runs {verb}"
    return f"{count:,} of {n:,} runs ({percent(count / n)}) {verb}"


def _on(scalers: list[str]) -> str:
    """Return scalers as where something happened."""
    named = [scaler for scaler in scalers if scaler != BASELINE]
    parts = ["on raw inputs"] if len(named) < len(scalers) else []
    return " and ".join([*parts, f"with {listing(named)}"] if named else parts)


def _errors(own: pd.DataFrame) -> str:
    """Say how far the weights ended from least squares, and which inputs came nearer."""
    own = own[own["weight_error_ols_n"] > 0]
    scaled, raw = own[own["scaler"] != BASELINE], own[own["scaler"] == BASELINE]
    if not len(own):
        return ""
    text = "The median error of the recovered weights against least squares, in which weights of"
    text += " zero score 1, was "
    parts = []
    if len(raw):
        parts.append(f"{number(raw['weight_error_ols'].iloc[0])} on raw inputs")
    if len(scaled):
        parts.append(f"{_span(scaled['weight_error_ols'])} on scaled ones")
    text += listing(parts)
    if not len(raw) or not len(scaled):
        return f"{text}."
    low, high = raw["weight_error_ols_low"].iloc[0], raw["weight_error_ols_high"].iloc[0]
    if (scaled["weight_error_ols_low"] > high).all():
        return f"{text}: every scaler left the weights further from it."
    if (scaled["weight_error_ols_high"] < low).all():
        return f"{text}: every scaler brought the weights nearer to it."
    return f"{text}: the scalers do not all bring the weights nearer, nor all leave them further."


def _movement(summaries: Summaries, own: pd.DataFrame) -> str:
    """Say how far weights moved, how far they had to, and who was stopped on the way."""
    way = _way(summaries, own)
    if not len(way):
        return ""
    text = (
        f"No weight moved further than {number(way['movement_most'].max())} (learning rate times"
        f" updates: {_span(way['reach'])})"
    )
    scaled = way[way["scaler"] != BASELINE]
    short = [str(name) for name in way.loc[way["stopped"], "scaler"]]
    if len(scaled):
        text += (
            f", while from a start at zero the farther weight"
            f" had {_span(scaled['distance'])} to go on scaled inputs"
        )
    if not short:
        return f"{text}."
    return (
        f"{text}. The networks {_on(short)} were therefore stopped"
        " long before they were trained: their weights tell where training began, not which"
        " feature matters, and are not to be called more accurate."
    )


def _way(summaries: Summaries, own: pd.DataFrame) -> pd.DataFrame:
    """Return, by scaler, the most any weight moved, the way to least squares, and who stopped.

    A scaler's runs count as stopped if none converged and the farther weight had more than
    twice as far to go as any weight moved.
    """
    features = summaries.features[summaries.features["training_unit"].notna()]
    features = features.assign(distance=(features["weight_ols"] * features["training_unit"]).abs())
    most = features.groupby("condition")[["movement_most", "distance"]].max().reset_index()
    way = own.merge(most.dropna(), on="condition")
    far = way["distance"] > 2 * way["movement_most"]
    return way.assign(stopped=far & (way["converged"] == 0) & (way["diverged"] == 0))


def _losses(own: pd.DataFrame) -> str:
    """Say where the loss ended, in a setting whose networks have no weights to recover."""
    own = own[(own["final_loss_n"] > 0) & (own["weight_error_n"] == 0)]
    each = [
        f"{number(loss)} {_on([scaler])}"
        for loss, scaler in zip(own["final_loss"], own["scaler"], strict=True)
    ]
    return f"The median final loss was {listing(each)}." if each else ""


def _elsewhere(summaries: Summaries, first: str, others: list[str]) -> str:
    """Say if scalers that were stopped in the first setting converge in another."""
    way = _way(summaries, _rows(summaries, first))
    stopped = set(way.loc[way["stopped"], "scaler"]) if len(way) else set()
    for setting in others:
        own = _rows(summaries, setting)
        trained = own[own["scaler"].isin(stopped) & (own["converged_low"] > 0.5)]
        if len(trained):
            names = listing([str(name) for name in trained["scaler"]])
            return (
                f"What stopped {names} in the first setting is therefore how far its optimizer"
                f" can move a weight, and not the scaling: with {setting} most of their runs"
                " converged."
            )
    return ""


def _span(values: Iterable[float]) -> str:
    """Return the least and the largest of some numbers, as one where they read the same."""
    values = list(values)
    whole = all(float(value).is_integer() for value in values)
    low, high = (f"{v:,.0f}" if whole else number(v) for v in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
