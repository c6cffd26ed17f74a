"""Claims: sentences declared as hypotheses, and one small machinery that judges them.

    study.toml [claims.ID] ─► Claim ─► cells, each an Estimate ─► outcome ─► verdict

A cell's interval is *beyond* the smallest effect of interest, *opposite*, *equivalent* (inside
the band around the null value) or *inconclusive*. The claim says in which of them it holds, and
whether it speaks of some, of most or of all cells. No verdict is written by hand.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_mutual_info_score

from scaling_study.analysis import statistics, tuning
from scaling_study.analysis.measures import MEASURES, SHARES, Table, log_steps, remaining
from scaling_study.analysis.statistics import Estimate
from scaling_study.errors import StudyError, unknown
from scaling_study.experiment.study import AXES, Study
from scaling_study.experiment.values import listed, number, told
from scaling_study.results import Results

QUANTIFIERS = ("some", "most", "all")
EXPECTATIONS = ("beyond", "equivalent")
COMPARISONS = ("difference", "improvement", "equal")
RATES = ("all", "default", "tuned")
VERDICTS = ("supported", "refuted", "depends", "inconclusive", "not testable")
CELL_AXES = (*AXES.keys() - {"epochs"}, "block")
SLOPE_AXES = ("scale_factor", "learning_rate", "batch_size", "updates")
# What Keras trains with where nobody says otherwise.
DEFAULT_RATES = {"adam": 1e-3, "rmsprop": 1e-3, "sgd": 1e-2, "momentum": 1e-2}
MOST_MISSING = 0.1  # share of a cell's seeds without a value, from which it is not measured
CLAIM_SEED = 24  # of the generator that permutes labels


class Versus(NamedTuple):
    """A comparison within each seed.

    Attributes
    ----------
    axis, baseline : str
        The axis that is compared along, and its value that the others are compared with.
    others : tuple of str
        Each is a cell of its own.
    how : {"difference", "improvement", "equal"}
        Baseline less other; how often the other is smaller (a tie counts half); how often both
        are the same to the bit.
    """

    axis: str
    baseline: str
    others: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class Claim:
    """A sentence, and what would have to be measured for it to hold.

    Parameters
    ----------
    id, quote : str
        Its name, and its words.
    measure : tuple of str
        Names in `MEASURES`; a minus sign in front turns one round. Each is a cell of its own.
    blocks : tuple of str
        Whose runs it reads.
    where : mapping of str to tuple of str
        Values of axes that it reads.
    by : tuple of str
        Axes whose values are cells.
    quantifier : {"some", "most", "all"}
        Of how many cells it speaks.
    sign : {1, -1}
        Which side of the null value is beyond.
    smallest, null : float
        Smallest effect of interest, and the value of no effect, in the measure's unit.
    expect : {"beyond", "equivalent"}
        Where it holds.
    versus : Versus or None
        What is compared, if anything.
    slope_on : str or None
        The axis on whose log10 the measure's slope is the estimate.
    rates : tuple of str
        Which learning rates: every one, the default, or the one that tuning seeds pick.
    control : bool
        Whether it is a negative control, where nothing should be found.
    shuffled : bool
        Swap the labels of what is compared at random: for a negative control.
    not_testable : str
        Why no run can speak of it.
    """

    id: str
    quote: str
    measure: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by: tuple[str, ...] = ()
    quantifier: str = "all"
    sign: int = 1
    smallest: float = 0.0
    null: float = 0.0
    expect: str = "beyond"
    versus: Versus | None = None
    slope_on: str | None = None
    rates: tuple[str, ...] = ("all",)
    control: bool = False
    shuffled: bool = False
    not_testable: str = ""


class Verdict(NamedTuple):
    """A judged claim.

    Attributes
    ----------
    claim : Claim
    verdict : str
        One of `VERDICTS`.
    estimate : Estimate
        Of the cell that decided; of all seeds where the claim speaks of most.
    depends_on : str or None
        The axis along which cells disagree.
    reason : str
        In words and counts.
    cells : DataFrame
        One row a cell: its axes, ``value, low, high, n, missing, outcome``.
    """

    claim: Claim
    verdict: str
    estimate: Estimate
    depends_on: str | None
    reason: str
    cells: pd.DataFrame

    def entry(self) -> dict[str, Any]:
        """Return what ``claims.json`` says of it."""
        value, low, high, n = self.estimate
        return {
            "id": self.claim.id,
            "quote": self.claim.quote,
            "verdict": self.verdict,
            "estimate": _plain(value),
            "interval": [_plain(low), _plain(high)],
            "n": n,
            "depends_on": self.depends_on,
            "reason": self.reason,
            "measure": list(self.claim.measure),
            "smallest_effect": self.claim.smallest,
            "null": self.claim.null,
            "quantifier": self.claim.quantifier,
            "blocks": list(self.claim.blocks),
            "cells": len(self.cells),
        }


# Reading --------------------------------------------------------------------------------------


def read_claims(study: Study, more: Mapping[str, Any] | None = None) -> list[Claim]:
    """Return a study's claims, and those of a file of claims beside it.

    Raises
    ------
    StudyError
        If one has a key, measure, block or axis that there is not.
    """
    more = more or {}
    with told(study.origin):
        own = {name: _read(study, name, raw) for name, raw in study.claims.items()}
    with told("--claims"):
        return list((own | {name: _read(study, name, raw) for name, raw in more.items()}).values())


def _read(study: Study, name: str, raw: Any) -> Claim:
    with told(f"claims.{name}"):
        if not name.replace("-", "").replace("_", "").isalnum():  # it names a file
            raise StudyError("its name may hold letters, digits, '-' and '_' only")
        if not isinstance(raw, Mapping):
            raise StudyError("must be a table")
        for key in raw:
            if key not in READERS:
                raise unknown("key", key, READERS)
        if not isinstance(raw.get("quote"), str):
            raise StudyError("quote must be the sentence that is judged, as text")
        given = {}
        for key, value in raw.items():
            with told(key, TypeError, ValueError, KeyError):
                given[READERS[key].field] = READERS[key].read(value)
        if given.get("quantifier") == "most":
            given = {"null": 0.5, **given}
        claim = Claim(id=name, **given)
        if not claim.not_testable:
            _check(claim, study)
        return claim


def _check(claim: Claim, study: Study) -> None:
    """Refuse a claim that no runs of the study could be held to."""
    if not claim.measure or not claim.blocks:
        raise StudyError("measure and blocks must be said")
    for block in claim.blocks:
        if block not in study.blocks:
            raise unknown("block", block, study.blocks)
    if claim.quantifier == "most" and not _of_shares(claim):
        raise StudyError(
            f"quantifier 'most' asks in how many runs something happens: one of {sorted(SHARES)},"
            " or versus with how = 'improvement' or 'equal'"
        )
    if claim.slope_on is not None and claim.slope_on not in SLOPE_AXES:
        raise StudyError(f"slope_on must be an axis of numbers above 0: {', '.join(SLOPE_AXES)}")
    first, last = study.seeds
    if "tuned" in claim.rates and last - first < 2:
        raise StudyError("rates = 'tuned' needs two seeds: half of them tune, half are judged")


class _Reader(NamedTuple):
    field: str
    read: Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise StudyError(f"must be text, not {value!r}")
    return value


def _choice(kind: str, choices: Iterable[str], value: Any) -> str:
    names = list(choices)
    if value not in names:
        raise unknown(kind, value, names)
    return value


def _choices(kind: str, choices: Iterable[str], value: Any) -> tuple[str, ...]:
    return tuple(_choice(kind, choices, item) for item in listed(value))


def _measures(value: Any) -> tuple[str, ...]:
    for item in listed(value):
        _choice("measure", MEASURES, _text(item).removeprefix("-"))
    return tuple(listed(value))


def _where(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise StudyError("must be a table of axes")
    return {
        _choice("axis", CELL_AXES, axis): tuple(_word(item) for item in listed(items))
        for axis, items in value.items()
    }


def _versus(value: Any) -> Versus:
    if not isinstance(value, Mapping) or value.keys() != {"axis", "baseline", "others", "how"}:
        raise StudyError("must be a table of axis, baseline, others and how")
    return Versus(
        _choice("axis", CELL_AXES, value["axis"]),
        _word(value["baseline"]),
        tuple(_word(item) for item in listed(value["others"])),
        _choice("comparison", COMPARISONS, value["how"]),
    )


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise StudyError(f"must be true or false, not {value!r}")
    return value


READERS: dict[str, _Reader] = {
    "quote": _Reader("quote", _text),
    "measure": _Reader("measure", _measures),
    "blocks": _Reader("blocks", lambda value: tuple(_text(item) for item in listed(value))),
    "where": _Reader("where", _where),
    "by": _Reader("by", partial(_choices, "axis", CELL_AXES)),
    "quantifier": _Reader("quantifier", partial(_choice, "quantifier", QUANTIFIERS)),
    "direction": _Reader(
        "sign", lambda value: {"+": 1, "-": -1}[_choice("direction", "+-", value)]
    ),
    "smallest": _Reader("smallest", lambda value: number(value, 0, "a number of at least 0")),
    "null": _Reader("null", number),
    "expect": _Reader("expect", partial(_choice, "expectation", EXPECTATIONS)),
    "versus": _Reader("versus", _versus),
    "slope_on": _Reader("slope_on", partial(_choice, "axis", CELL_AXES)),
    "rates": _Reader("rates", partial(_choices, "rates", RATES)),
    "control": _Reader("control", _bool),
    "shuffled": _Reader("shuffled", _bool),
    "not_testable": _Reader("not_testable", _text),
}


# Judging --------------------------------------------------------------------------------------


def judge_all(results: Results, claims: Sequence[Claim]) -> list[Verdict]:
    """Judge every claim from stored runs.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`.
    claims : sequence of Claim
        From `read_claims`.
    """
    tables: dict[tuple[str, ...], Table] = {}
    found = []
    for claim in claims:
        if claim.blocks not in tables and not claim.not_testable:
            tables[claim.blocks] = Table(results, claim.blocks)
        found.append(judge(claim, tables.get(claim.blocks)))
    return found


def judge(claim: Claim, table: Table | None) -> Verdict:
    """Judge one claim from the runs of its blocks."""
    if claim.not_testable or table is None:
        return _not_testable(claim, claim.not_testable)
    if lacking := _lacking(claim, table.runs):
        return _not_testable(claim, lacking)
    sample, notes = _sample(claim, table)
    if sample.empty:
        return _not_testable(claim, "no run of its blocks is what it speaks of")
    cells = _cells(claim, sample)
    measured = cells[cells["outcome"] != "not measured"]
    if len(measured) < len(cells):
        notes.append(
            f"{_count(len(cells) - len(measured), 'cell')} of {len(cells)} not measured: more than"
            f" {MOST_MISSING:.0%} of the runs have no value"
        )
    if measured.empty:
        return _not_testable(claim, "; ".join(notes))._replace(cells=cells)
    if claim.quantifier == "most":
        return _most(claim, sample, cells, notes)
    return _verdict(claim, cells, measured, notes)


def _not_testable(claim: Claim, reason: str) -> Verdict:
    nothing = Estimate(np.nan, np.nan, np.nan, 0)
    return Verdict(claim, "not testable", nothing, None, reason, pd.DataFrame())


def _lacking(claim: Claim, runs: pd.DataFrame) -> str:
    """Say which value that a claim names no run of its blocks has; empty if they have all."""
    named = dict(claim.where)
    if claim.versus is not None:
        axis, baseline, others, _ = claim.versus
        named[axis] = (*named.get(axis, ()), baseline, *others)
    for axis, values in named.items():
        present = [str(value) for value in runs[axis].unique()]
        for value in values:
            if value not in map(_word, present):
                return f"no run of its blocks has {axis} {value}; they have {', '.join(present)}"
    return ""


def outcome(claim: Claim, estimate: Estimate) -> str:
    """Return where an interval lies: beyond, opposite, equivalent or inconclusive."""
    ends = claim.sign * (estimate.low - claim.null), claim.sign * (estimate.high - claim.null)
    low, high = min(ends), max(ends)
    if np.isnan(low) or np.isnan(high):
        return "inconclusive"
    if low > claim.smallest:
        return "beyond"
    if high < -claim.smallest:
        return "opposite"
    if low >= -claim.smallest and high <= claim.smallest:
        return "equivalent"
    return "inconclusive"


def _verdict(
    claim: Claim, cells: pd.DataFrame, measured: pd.DataFrame, notes: list[str]
) -> Verdict:
    holds = measured["outcome"] == claim.expect
    unknown_ = measured["outcome"] == "inconclusive"
    fails = ~holds & ~unknown_
    depends_on = None
    if claim.quantifier == "some":
        verdict = "supported" if holds.any() else "inconclusive" if unknown_.any() else "refuted"
    elif holds.any() and fails.any():
        verdict, depends_on = "depends", _factor(measured[holds | fails], claim)
    elif unknown_.any():
        verdict = "inconclusive"
    else:
        verdict = "supported" if holds.all() else "refuted"
    deciding = _deciding(claim, measured, holds, fails, verdict)
    counts = measured["outcome"].value_counts()
    said = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if name in counts)
    parts = [f"{_count(len(measured), 'cell')}: {said}"]
    if depends_on is not None:
        parts.append(_along(depends_on, measured[holds | fails], claim))
    if len(measured) > 1:
        parts.append(f"the estimate is of {_where_is(deciding, cells)}")
    return Verdict(
        claim, verdict, _estimate_of(deciding), depends_on, "; ".join([*parts, *notes]), cells
    )


def _most(claim: Claim, sample: pd.DataFrame, cells: pd.DataFrame, notes: list[str]) -> Verdict:
    """Judge by the share of runs, all measured cells together, each seed one observation."""
    measured = cells[cells["outcome"] != "not measured"]
    if axes := _axes(cells):
        sample = sample.merge(measured[axes], on=axes)
    share = sample.dropna(subset=["value"]).groupby("seed")["value"].mean()
    estimate = _share(share.to_numpy())
    lies = outcome(claim, estimate)
    verdict = {claim.expect: "supported", "inconclusive": "inconclusive"}.get(lies, "refuted")
    against = "one half" if claim.null == 0.5 else f"{claim.null:g}"
    reason = f"the share of runs is held against {against}, over {_count(len(measured), 'cell')}"
    return Verdict(claim, verdict, estimate, None, "; ".join([reason, *notes]), cells)


OUTCOMES = ("beyond", "equivalent", "opposite", "inconclusive")


def _deciding(
    claim: Claim, measured: pd.DataFrame, holds: pd.Series, fails: pd.Series, verdict: str
) -> pd.Series:
    """Return the cell that the verdict hangs on."""
    effect = claim.sign * (measured["value"] - claim.null)
    distance = -effect.abs() if claim.expect == "equivalent" else effect
    if verdict == "supported":
        own = distance[holds]
        return measured.loc[own.idxmax() if claim.quantifier == "some" else own.idxmin()]
    if verdict == "depends":
        return measured.loc[distance[holds].idxmax()]
    left = distance[fails] if verdict == "refuted" else distance[~holds & ~fails]
    return measured.loc[(left if left.notna().any() else distance.fillna(-np.inf)).idxmax()]


def _factor(judged: pd.DataFrame, claim: Claim) -> str:
    """Return the axis whose values tell most about which cells hold.

    By mutual information adjusted for chance (Vinh, Epps and Bailey 2010), which an axis of
    many values does not have for that alone.
    """
    holds = judged["outcome"] == claim.expect
    known = {axis: adjusted_mutual_info_score(judged[axis], holds) for axis in _axes(judged)}
    return max(known, key=lambda axis: known[axis]) if known else "none of the named axes"


def _along(axis: str, judged: pd.DataFrame, claim: Claim) -> str:
    """Say in which share of the cells a claim holds, along an axis."""
    holds = (judged["outcome"] == claim.expect).groupby(judged[axis], sort=False)
    counts = holds.agg(["sum", "count"])
    parts = [f"{value}: {row['sum']} of {row['count']}" for value, row in counts.iterrows()]
    return f"holds by {axis.replace('_', ' ')}: {', '.join(parts)}"


def _axes(cells: pd.DataFrame) -> list[str]:
    return [str(name) for name in cells if name not in CELL_COLUMNS]


def _where_is(cell: pd.Series, cells: pd.DataFrame) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {str(cell[name]).replace('_', ' ')}"
        for name in _axes(cells)
        if cells[name].nunique() > 1
    )


def _estimate_of(cell: pd.Series) -> Estimate:
    return Estimate(float(cell["value"]), float(cell["low"]), float(cell["high"]), int(cell["n"]))


def differences(stored: Any, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how one ledger differs from another, a line for each claim that does.

    Verdicts and factors must be equal. Estimates may differ by a tenth of the interval's width
    or 1 % of their size, which is what other versions and machines do to float32.

    Parameters
    ----------
    stored : list of dict
        From ``claims.json``.
    found : sequence of dict
        From `Verdict.entry`.

    Raises
    ------
    StudyError
        If what is stored is no ledger.
    """
    with told("claims.json", TypeError, KeyError, AttributeError):
        before = {entry["id"]: entry for entry in stored}
        lines = [f"{name}: is stored, and not found" for name in before.keys() - _ids(found)]
        for entry in found:
            own = before.get(entry["id"])
            if own is None:
                lines.append(f"{entry['id']}: is found, and not stored")
                continue
            for key in ("verdict", "depends_on"):
                if own[key] != entry[key]:
                    lines.append(f"{entry['id']}: {key} is {entry[key]}, stored {own[key]}")
            if not _near(own, entry):
                lines.append(
                    f"{entry['id']}: estimate is {entry['estimate']}, stored {own['estimate']}"
                )
        return sorted(lines)


def _ids(entries: Sequence[Mapping[str, Any]]) -> set[str]:
    return {entry["id"] for entry in entries}


def _near(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    one, two = own["estimate"], other["estimate"]
    if one is None or two is None:
        return one is two
    low, high = own["interval"]
    width = high - low if None not in (low, high) else 0.0
    return abs(one - two) <= max(0.1 * width, 0.01 * abs(one), 1e-9)


# Cells ----------------------------------------------------------------------------------------

CELL_COLUMNS = ("value", "low", "high", "n", "missing", "outcome")


def _cells(claim: Claim, sample: pd.DataFrame) -> pd.DataFrame:
    """Return an estimate and its outcome for each cell of a sample."""
    axes = [name for name in sample if name not in ("seed", "value", "x")]
    rows = []
    groups = sample.groupby(axes, sort=False, observed=True) if axes else [((), sample)]
    for key, own in groups:
        known = own.dropna(subset=["value"])
        missing = 1 - known["seed"].nunique() / own["seed"].nunique()
        estimate = _estimate(claim, known)
        measured = missing <= MOST_MISSING
        rows.append(
            dict(zip(axes, key, strict=True))
            | {**estimate._asdict(), "missing": missing}
            | {"outcome": outcome(claim, estimate) if measured else "not measured"}
        )
    return pd.DataFrame(rows)


def _estimate(claim: Claim, known: pd.DataFrame) -> Estimate:
    seeds, values = known["seed"].to_numpy(), known["value"].to_numpy(np.float64)
    if claim.slope_on is not None:
        return statistics.slope(known["x"].to_numpy(np.float64), values, seeds)
    if _of_shares(claim):
        return _share(values)
    return statistics.mean(values)


def _of_shares(claim: Claim) -> bool:
    """Say whether each seed's value is that something did, or did not, happen."""
    if claim.versus is not None:
        return claim.versus.how != "difference"
    return SHARES.issuperset(claim.measure)


def _share(values: np.ndarray) -> Estimate:
    """Return the mean, by Wilson's interval where nothing but 0 and 1 is there."""
    if len(values) and np.isin(values, (0.0, 1.0)).all():
        return statistics.proportion(int(values.sum()), len(values))
    return statistics.mean(values)


def _sample(claim: Claim, table: Table) -> tuple[pd.DataFrame, list[str]]:
    """Return one value for each seed of each cell: ``seed, value`` and the cell's axes."""
    chosen = table.take(_matching(table.runs, claim.where))
    if not len(chosen):
        return pd.DataFrame(), []
    parts, notes = [], []
    for rates in claim.rates:
        own, said = at_rates(chosen, rates)
        notes += said
        for name in claim.measure if len(own) else ():
            value = MEASURES[name.removeprefix("-")](own)
            frame = pd.DataFrame({"seed": own.seeds, "value": -value if name[0] == "-" else value})
            for axis in _kept(claim):
                frame[axis] = own.runs[axis].astype(str).to_numpy()
            if len(claim.measure) > 1:
                frame["measure"] = name
            if len(claim.rates) > 1:
                frame["rates"] = rates
            parts.append(frame)
    if not parts:
        return pd.DataFrame(), notes
    whole = _per_seed(pd.concat(parts, ignore_index=True))
    whole = _compared(claim, whole) if claim.versus else whole
    # What lies beyond the budget has an order and no size: as a number it is missing.
    whole["value"] = whole["value"].where(np.isfinite(whole["value"]))
    if claim.slope_on is not None:
        whole["x"] = np.log10(whole.pop(claim.slope_on).astype(float))
    return whole, notes


def _kept(claim: Claim) -> list[str]:
    more = [claim.versus.axis] if claim.versus else []
    return list(dict.fromkeys([*claim.by, *more, *([claim.slope_on] if claim.slope_on else [])]))


def _per_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over a seed's runs in each cell; NaN where one of them is."""
    axes = [name for name in frame if name != "value"]
    grouped = frame.groupby(axes, sort=False, observed=True)["value"]
    means = grouped.mean()
    lacking = frame["value"].isna().groupby([frame[name] for name in axes], sort=False).any()
    return means.where(~lacking.reindex(means.index)).reset_index()


def _compared(claim: Claim, whole: pd.DataFrame) -> pd.DataFrame:
    """Return each other value of the compared axis beside the baseline, within the seed."""
    assert claim.versus is not None
    axis, baseline, others, how = claim.versus
    keys = [name for name in whole if name not in (axis, "value")]
    words = whole[axis].map(_word)
    base = whole[words == baseline].drop(columns=axis)
    generator = np.random.default_rng(CLAIM_SEED)
    parts = []
    for other in others:
        own = whole[words == other].drop(columns=axis)
        both = base.merge(own, on=keys, suffixes=("", "_other"))
        first, second = both["value"].to_numpy(), both.pop("value_other").to_numpy()
        if claim.shuffled:
            swap = generator.random(len(both)) < 0.5
            first, second = np.where(swap, second, first), np.where(swap, first, second)
        known = ~np.isnan(first) & ~np.isnan(second)
        with np.errstate(invalid="ignore"):
            value = {
                "difference": lambda a, b: a - b,
                "improvement": lambda a, b: (b < a) + 0.5 * (a == b),
                "equal": lambda a, b: (a == b).astype(float),
            }[how](first, second)
        both["value"] = np.where(known, value, np.nan)
        if len(others) > 1:
            both[axis] = other
        parts.append(both)
    return pd.concat(parts, ignore_index=True)


def _matching(runs: pd.DataFrame, where: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    chosen = np.ones(len(runs), bool)
    for axis, wanted in where.items():
        column = runs[axis]
        names = [_word(value) for value in column.cat.categories]
        chosen &= np.isin(np.array(names, dtype=object), list(wanted))[column.cat.codes.to_numpy()]
    return chosen


# Learning rates -------------------------------------------------------------------------------


def at_rates(table: Table, rates: str) -> tuple[Table, list[str]]:
    """Return the runs of every rate, of the default rates, or of those that tuning picks.

    Parameters
    ----------
    table : Table
    rates : {"all", "default", "tuned"}

    Returns
    -------
    table : Table
    notes : list of str
        How many tuned rates are bounds, because they are an end of their grid.
    """
    if rates == "all":
        return table, []
    rate = table["learning_rate"]
    if rates == "default":
        usual = table.runs["optimizer"].astype(str).map(DEFAULT_RATES).to_numpy(np.float64)
        return table.take(np.isclose(rate, usual)), []
    picked = tuned(table)
    keep = picked["chosen"].to_numpy()
    edges = int(picked["edge"].sum())
    note = f"{_count(edges, 'tuned rate')} of {int(picked['cells'].iloc[0])} on the grid's edge"
    return table.take(keep), [note] if edges else []


def tuned(table: Table) -> pd.DataFrame:
    """Return which runs are of the best learning rate of their cell, and judged.

    The first half of the seeds tunes, the second is reported on. Best is the least mean of the
    updates to the target, where a run that did not get there counts as its budget times one
    plus the share of its initial excess loss that is left; the middle one of rates that tie.

    Returns
    -------
    DataFrame
        In the order of the runs: ``chosen``; ``edge``, at one run of each cell whose best rate
        is an end of its grid, where it is a bound; ``cells``, how many there are.
    """
    runs = table.runs
    budget = table.by_condition(lambda c, _: np.float64(c.updates))
    steps = 10 ** log_steps(table)
    cost = np.where(np.isfinite(steps), steps, budget * (1 + remaining(table)))
    of_rates = {*CELL_AXES} - {"learning_rate"}
    cell = runs.groupby([n for n in runs if n in of_rates], observed=True, sort=False).ngroup()
    rate, tunes = table["learning_rate"], tuning.halves(table.seeds)
    frame = pd.DataFrame({"cell": cell.to_numpy(), "rate": rate, "cost": cost})
    costs = frame[tunes].groupby(["cell", "rate"])["cost"].mean().unstack().fillna(np.inf)
    best = pd.Series(costs.columns.to_numpy()[tuning.best(-costs)], index=costs.index)
    ends = frame.groupby("cell")["rate"].agg(["min", "max"])
    edge = (best == ends["min"]) | (best == ends["max"])
    chosen = (frame["cell"].map(best).to_numpy() == rate) & ~tunes
    first = ~frame["cell"].duplicated().to_numpy()
    on_edge = first & frame["cell"].map(edge).to_numpy(bool)
    return pd.DataFrame({"chosen": chosen, "edge": on_edge, "cells": len(best)})


def _word(value: Any) -> str:
    """Return an axis' value as text, numbers alike however they are written."""
    try:
        return str(float(value))
    except (TypeError, ValueError):
        return str(value)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
