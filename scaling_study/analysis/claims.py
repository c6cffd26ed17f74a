"""Claims: hypotheses declared with a study, before anything runs.

    study.toml [claims.ID] ─► Claim

`scaling_study.analysis.verdicts` judges them.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from scaling_study.analysis.metrics import MEASURES, SHARES, unfit
from scaling_study.analysis.recorded import RECORDED
from scaling_study.analysis.tuning import CELL_AXES, RATES
from scaling_study.errors import StudyError, unknown
from scaling_study.study.conditions import Condition, expand
from scaling_study.study.study import Study
from scaling_study.study.values import error_context, listed, number

# Of what a claim is judged: one linear unit, networks, real tables, and networks on raw inputs
# with what people use in place of scaling.
MODELS = ("linear", "networks", "tables", "normalized", "clipped")
QUANTIFIERS = ("always", "usually", "sometimes")
EXPECTATIONS = ("beyond", "equivalent")
COMPARISONS = ("difference", "increase", "improvement", "equal")
SLOPE_AXES = ("scale_factor", "learning_rate", "batch_size", "updates")


class Versus(NamedTuple):
    """A comparison within each seed."""

    #: The axis that is compared, and the value that the others are compared with.
    axis: str
    baseline: str
    #: Each is a cell.
    others: tuple[str, ...]
    #: "difference": baseline minus other; "increase": other minus baseline; "improvement":
    #: whether the other is smaller (a tie counts half); "equal": whether both are, to the bit.
    how: str


@dataclass(frozen=True)
class Claim:
    """A sentence, and what is measured to test it."""

    id: str
    quote: str
    #: Of what it is judged, one of `MODELS`.
    models: str = "linear"
    #: Keys of `MEASURES`; a minus sign in front changes the sign. Each is a cell.
    measure: tuple[str, ...] = ()
    #: Measures that are shown beside it and decide nothing.
    beside: tuple[str, ...] = ()
    #: Blocks whose runs are read, and values of axes if not all of them.
    blocks: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Axes whose values are cells.
    by: tuple[str, ...] = ()
    #: Of how many cells the sentence speaks, by its own modal; one of `QUANTIFIERS`.
    quantifier: str = "always"
    #: 1 or -1: on which side of the null value "beyond" is.
    sign: int = 1
    #: Smallest effect of interest, and the value of no effect, in the measure's unit.
    smallest: float = 0.0
    null: float = 0.0
    #: Why this is the smallest effect of interest.
    reason: str = ""
    #: The outcome in which it holds, one of `EXPECTATIONS`.
    expect: str = "beyond"
    versus: Versus | None = None
    #: The axis on whose log10 the measure's slope is estimated.
    slope_on: str | None = None
    #: Which learning rates, of `RATES`.
    rates: tuple[str, ...] = ("all",)
    #: Whether it is a negative control, for which no effect is expected.
    control: bool = False
    #: Swap the labels of what is compared at random, for a negative control.
    shuffled: bool = False
    #: A file of recorded processes that is judged in place of runs, `recorded.FILES`.
    recorded: str = ""
    #: Why no run can test it.
    not_testable: str = ""

    @property
    def name(self) -> str:
        """Its id, and of what it is judged if that is not a linear unit."""
        return self.id if self.models == "linear" else f"{self.id}-{self.models}"

    @property
    def of_shares(self) -> bool:
        """Whether each seed's value says that something did or did not happen."""
        if self.versus is not None:
            return self.versus.how in ("improvement", "equal")
        return SHARES.issuperset(self.measure)


# Reading --------------------------------------------------------------------------------------


def read_claims(study: Study, more: Mapping[str, Any] | None = None) -> list[Claim]:
    """Return a study's claims, and those of a separate file.

    Raises
    ------
    StudyError
        If a claim has an unknown key, measure, block or axis.
    """
    more = more or {}
    conditions = expand(study) if study.claims or more else []
    with error_context(study.origin):
        found = {name: _read(study, conditions, name, raw) for name, raw in study.claims.items()}
    with error_context("--claims"):
        found |= {name: _read(study, conditions, name, raw) for name, raw in more.items()}
    return [claim for claims in found.values() for claim in claims]


def digest(study: Study) -> str:
    """Return twelve hexadecimal digits of a study's claims, stored with its results."""
    text = json.dumps(study.claims, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _read(study: Study, conditions: Sequence[Condition], name: str, raw: Any) -> list[Claim]:
    """Return a claim, once for each kind of models of which it is judged."""
    with error_context(f"claims.{name}"):
        if not name.replace("-", "").replace("_", "").isalnum():  # it names a file
            raise StudyError("its name may hold letters, digits, '-' and '_' only")
        if not isinstance(raw, Mapping):
            raise StudyError("must be a table")
        if not isinstance(raw.get("quote"), str):
            raise StudyError("quote must be the sentence that is judged, as text")
        shared = {key: value for key, value in raw.items() if key not in MODELS[1:]}
        found = [_read_one(study, conditions, name, shared)]
    for models in MODELS[1:]:
        if models in raw:
            with error_context(f"claims.{name}.{models}"):
                if not isinstance(raw[models], Mapping):
                    raise StudyError("must be a table")
                changed = {**shared, **raw[models], "models": models}
                if "versus" in raw[models] and not raw[models]["versus"]:
                    del changed["versus"]
                found.append(_read_one(study, conditions, name, changed))
    return found


def _read_one(
    study: Study, conditions: Sequence[Condition], name: str, raw: Mapping[str, Any]
) -> Claim:
    for key in raw:
        if key not in READERS:
            raise unknown("key", key, [*READERS, *MODELS[1:]])
    given = {}
    for key, value in raw.items():
        with error_context(key, TypeError, ValueError, KeyError):
            given[READERS[key].field] = READERS[key].read(value)
    claim = Claim(id=name, **given)
    if claim.quantifier == "usually" and claim.of_shares and "null" not in given:
        claim = replace(claim, null=0.5)
    if not claim.not_testable and not claim.recorded:
        _check(claim, study)
        if reason := unmeasured(claim, conditions, study.record)[1]:
            raise StudyError(reason)
    return claim


def _check(claim: Claim, study: Study) -> None:
    """Refuse a claim that no runs of the study could test."""
    if not claim.measure or not claim.blocks:
        raise StudyError("measure and blocks must be said")
    for block in claim.blocks:
        if block not in study.blocks:
            raise unknown("block", block, study.blocks)
    if claim.slope_on is not None and claim.slope_on not in SLOPE_AXES:
        raise StudyError(f"slope_on must be an axis of numbers above 0: {', '.join(SLOPE_AXES)}")
    if "tuned" in claim.rates and study.n_seeds < 2:
        raise StudyError("rates = 'tuned' needs two seeds: half of them tune, half are judged")


def unmeasured(claim: Claim, conditions: Sequence[Condition], record: str) -> tuple[list[str], str]:
    """Return why measures of a claim do not fit some of its runs, and why one fits none of them.

    Returns
    -------
    some : list of str
        A line for each reason.
    none : str
        Empty if each measure fits some runs, or if the claim has none.
    """
    read = [c for c in conditions if c.block in claim.blocks and _reads(claim, c)]
    # Requirements depend on these fields only.
    kinds = {(c.problem, c.model, c.target_loss, c.l1_penalty > 0): c for c in read}.values()
    some: list[str] = []
    for measure in dict.fromkeys(claim.measure):
        found = [unfit(measure, condition, record) for condition in kinds]
        reasons = [f"measure {measure!r} {reason}" for reason in dict.fromkeys(found) if reason]
        if found and all(found):
            return [], reasons[0]
        some += reasons
    return some, ""


def _reads(claim: Claim, condition: Condition) -> bool:
    return all(
        word(str(getattr(condition, axis))) in values
        for axis, values in claim.where.items()
        if hasattr(condition, axis)
    )


class _Reader(NamedTuple):
    field: str
    read: Callable[[Any], Any]


def _typed(kind: type, description: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise StudyError(f"must be {description}, not {value!r}")
    return value


_text = partial(_typed, str, "text")
_bool = partial(_typed, bool, "true or false")


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
        _choice("axis", CELL_AXES, axis): tuple(word(item) for item in listed(items))
        for axis, items in value.items()
    }


def _versus(value: Any) -> Versus:
    if not isinstance(value, Mapping) or value.keys() != {"axis", "baseline", "others", "how"}:
        raise StudyError("must be a table of axis, baseline, others and how")
    return Versus(
        _choice("axis", CELL_AXES, value["axis"]),
        word(value["baseline"]),
        tuple(word(item) for item in listed(value["others"])),
        _choice("comparison", COMPARISONS, value["how"]),
    )


def _direction(value: Any) -> int:
    return {"+": 1, "-": -1}[_choice("direction", "+-", value)]


READERS: dict[str, _Reader] = {
    "quote": _Reader("quote", _text),
    "models": _Reader("models", partial(_choice, "models", MODELS)),
    "reason": _Reader("reason", _text),
    "recorded": _Reader("recorded", partial(_choice, "recorded file", RECORDED)),
    "measure": _Reader("measure", _measures),
    "beside": _Reader("beside", _measures),
    "blocks": _Reader("blocks", lambda value: tuple(_text(item) for item in listed(value))),
    "where": _Reader("where", _where),
    "by": _Reader("by", partial(_choices, "axis", CELL_AXES)),
    "quantifier": _Reader("quantifier", partial(_choice, "quantifier", QUANTIFIERS)),
    "direction": _Reader("sign", _direction),
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


def word(value: Any) -> str:
    """Return an axis value as text; equal numbers give equal texts."""
    try:
        return str(float(value))
    except (TypeError, ValueError):
        return str(value)
