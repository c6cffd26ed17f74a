"""The study file: what its keys are, what they default to, and what is accepted.

A study is TOML. Top-level axes hold for every block; ``[blocks.NAME]`` overrides them. A
scalar or a list is a grid axis. Every default stands in `AXES`, and nowhere else.
"""

import tomllib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from scaling_study.errors import StudyError, unknown
from scaling_study.files import read_text
from scaling_study.study.component import (
    EVERYTHING,
    FEWER_CONDITIONS,
    MOST_CONDITIONS,
    Component,
)
from scaling_study.study.estimators import Comparison, read_comparisons
from scaling_study.study.values import MOST, error_context, listed, number, positive, whole

TEXTS = ("name", "title", "description")
STUDY_KEYS = (*TEXTS, "seeds", "record", "report", "blocks", "estimators", "claims")
BUDGETS = ("epochs", "updates")
RECORDS = ("standard", "importances", "curves")
REPORTS = ("standard", "sensitivity", "real-data", "published", "importance")
FEWEST = 4  # seeds of a report that tunes: two pick a rate, and two have an interval
RAW = "-raw"  # ends the name of a block of further learning rates for raw columns
PRESETS = resources.files("scaling_study") / "presets"


class Axis(NamedTuple):
    """A key of a block: its default and the reader of one value."""

    default: Any
    read: Callable[[Any], Any]
    meaning: str


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise unknown("value", value, choices)
        return value

    return read


def _or(word: str, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def either(value: Any) -> Any:
        try:
            return word if value == word else read(value)
        except StudyError as error:
            raise StudyError(f'{error}; or write "{word}"') from None

    return either


def _strength(value: Any) -> float:
    return number(value, 0, "a finite number of at least 0")


_seed = _or("vary", partial(whole, least=0))


AXES: dict[str, Axis] = {
    "problem": Axis("article", Component.expand, "where the data come from"),
    "design": Axis("F", _one_of("F", "U"), "F: fixed coefficient; U: unit change"),
    "scale_factor": Axis(1.0, positive, "what the scaled feature is multiplied by"),
    "offset": Axis(0.0, number, "what is then added to it"),
    "scaler": Axis("none", Component.expand, "feature scaler"),
    "target_scaler": Axis("none", Component.expand, "target scaler (an affine one)"),
    "model": Axis("linear", Component.expand, "network"),
    "dialect": Axis("keras", _one_of("keras", "torch", "optax"), "whose optimizer defaults hold"),
    "optimizer": Axis("adam", Component.expand, "Optax optimizer and its hyperparameters"),
    "learning_rate": Axis(1e-3, positive, "learning rate"),
    "l1_penalty": Axis(
        0.0, _strength, "penalty on the sum of |weight|, in the loss that is minimised"
    ),
    "l2_penalty": Axis(0.0, _strength, "penalty on the sum of weight squared, likewise"),
    "batch_size": Axis(32, whole, "rows per batch; the last of an epoch may be smaller"),
    "sampling": Axis(
        "reshuffled", _one_of("reshuffled", "replacement", "full"), "how batches are drawn"
    ),
    "epochs": Axis(200, whole, "passes over the data (an update each, if sampling is full)"),
    "updates": Axis("none", _or("none", whole), "budget in updates, in place of epochs"),
    "dtype": Axis("float32", _one_of("float32", "float64"), "arithmetic of the training"),
    "objective": Axis(
        "auto", _one_of("auto", "moments", "samples"), "how the loss is computed, not what it is"
    ),
    "data_seed": Axis("vary", _seed, "the data stream: varied with the seed, or held"),
    "init_seed": Axis("vary", _seed, "the initialisation stream"),
    "order_seed": Axis("vary", _seed, "the batch-order stream"),
    "tolerance": Axis(
        1e-3,
        positive,
        "excess share that counts as converged: 0 is the least loss, 1 predicting the mean",
    ),
    "target_loss": Axis("none", _or("none", positive), "explicit loss that counts as converged"),
}


@dataclass(frozen=True)
class Study:
    """A whole design: blocks of grids, and the seeds that each of their conditions gets.

    Parameters
    ----------
    name : str
        Names the results folder and the report.
    blocks : mapping of str to mapping of str to list
        For each block, every axis of `AXES` as a list of its values.
    seeds : tuple of int
        First seed, and one past the last.
    title, description : str
        For the report.
    record : {"standard", "importances", "curves"}
        ``importances`` adds what each method holds for important, ``share_*``, and the fit on
        held-out rows; ``curves`` keeps loss and gradient norms of every epoch in memory, and
        nothing else.
    report : str
        One of `REPORTS`: which report is written of it; a paper where it makes claims.
    estimators : mapping of str to mapping
        What scikit-learn's estimators are asked beside the networks, as tables; see
        `scaling_study.study.estimators.Comparison`.
    claims : mapping of str to mapping
        What the study is to judge, as tables; see `scaling_study.analysis.claims.Claim`.
    origin : str
        The file it came from, for error messages.
    allowed : container of str
        Which references to code, ``module:name``, may be imported; all, unless it is a file's.
    """

    name: str
    blocks: Mapping[str, Mapping[str, list[Any]]]
    seeds: tuple[int, int] = (0, 16)
    title: str = ""
    description: str = ""
    record: str = "standard"
    report: str = field(default="standard", compare=False)
    estimators: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False)
    origin: str = field(default="study", compare=False)
    allowed: Container[str] = field(default=EVERYTHING, compare=False, repr=False)

    def comparisons(self) -> list[Comparison]:
        """Return what scikit-learn's estimators are asked."""
        return read_comparisons(self.estimators, self.allowed)

    def components(self) -> list[Component]:
        """Return every component that the study names, in its blocks and of its estimators."""
        axes = (axis for grid in self.blocks.values() for axis in grid.values())
        named = [value for axis in axes for value in axis if isinstance(value, Component)]
        return named + [comparison.estimator for comparison in self.comparisons()]

    def to_toml(self) -> str:
        """Return the resolved study, every default written out; `parse` reads it back."""
        blocks = {
            name: {key: [_plain(value) for value in values] for key, values in grid.items()}
            for name, grid in self.blocks.items()
        }
        text = {"name": self.name, "title": self.title, "description": self.description}
        seeds = f"{self.seeds[0]}:{self.seeds[1]}"
        tables = {"estimators": self.estimators, "claims": self.claims}
        whole = {
            **text,
            "record": self.record,
            "report": self.report,
            "seeds": seeds,
            "blocks": blocks,
            **{key: dict(table) for key, table in tables.items() if table},
        }
        return tomli_w.dumps(whole)

    def with_seeds(self, seeds: str | tuple[int, int] | None) -> "Study":
        """Return the study with other seeds, ``"A:B"`` or a pair; unchanged if None.

        Raises
        ------
        StudyError
            If the range is malformed, or too small for the report.
        """
        if seeds is None:
            return self
        own = replace(self, seeds=read_seeds(seeds))
        with error_context(self.origin), error_context(f"report = {self.report!r}"):
            _check_report(own.report, own.record, own.blocks, own.estimators, own.seeds)
        return own


def read_seeds(value: Any) -> tuple[int, int]:
    """Read ``"A:B"`` (from A, up to but without B), a pair, or a count.

    Raises
    ------
    StudyError
        If the range is malformed, negative or empty.
    """
    try:
        if isinstance(value, str):
            first, last = (int(part) for part in value.split(":"))
        else:
            first, last = (0, value) if isinstance(value, int) else value
        if isinstance(value, bool):
            raise TypeError
        whole(first, 0)
        whole(last - 1, first)
    except (TypeError, ValueError):
        raise StudyError(
            f"seeds {value!r} is not a range; write A:B with 0 <= A < B <= {MOST + 1},"
            " such as 0:1000"
        ) from None
    return first, last


def read_study(
    source: "Study | str | Path | Mapping[str, Any]",
    settings: list[str] = [],  # noqa: B006
    *,
    allow_code: bool = False,
) -> Study:
    """Read a study from a preset's name, a path, a mapping, or a `Study`.

    Parameters
    ----------
    source : Study, str, Path or mapping
        A name without a suffix is a preset, anything else a TOML file.
    settings : list of str
        ``key=value`` overrides, the value as TOML or as a bare word. A plain key holds for
        every block; ``blocks.NAME.key`` for one.
    allow_code : bool
        Whether a file's references to code, ``module:name``, may be imported. Those of a
        setting, a mapping, a `Study` or a preset may: whoever wrote them is asking.

    Raises
    ------
    StudyError
        If it cannot be found, parsed, or holds a key or value that is not right.
    """
    allowed = EVERYTHING
    if isinstance(source, Study):
        raw, origin, allowed = tomllib.loads(source.to_toml()), source.origin, source.allowed
    elif isinstance(source, Mapping):
        raw, origin = dict(source), "study"
    else:
        raw, origin, ours = _load(source)
        if not ours and not allow_code:
            allowed = frozenset[str]()
    for setting in settings:
        raw, value = _set(raw, setting)
        if isinstance(allowed, frozenset):
            allowed |= set(_references(value))
    return parse(raw, origin, allowed)


def presets() -> dict[str, str]:
    """Return the name and title of each preset."""
    names = sorted(file.name for file in PRESETS.iterdir() if file.name.endswith(".toml"))
    return {name.removesuffix(".toml"): _preset(name)["title"] for name in names}


def parse(
    raw: Mapping[str, Any], origin: str = "study", allowed: Container[str] = EVERYTHING
) -> Study:
    """Check a study's keys and values, and fill in every default.

    Parameters
    ----------
    raw : mapping
        As read from TOML.
    origin : str
        The file's name.
    allowed : container of str
        Which references to code may be imported.

    Raises
    ------
    StudyError
        If a key or value is not right; it begins with ``origin``, the file's name.
    """
    with error_context(origin):
        for key in raw:
            if key not in STUDY_KEYS and key not in AXES:
                raise unknown("key", key, [*AXES, *STUDY_KEYS])
        texts = {key: raw[key] for key in TEXTS if key in raw}
        for key, value in texts.items():
            if not isinstance(value, str):
                raise StudyError(f"{key} must be text, not {value!r}")
        name = texts.pop("name", Path(origin).stem)
        if not name.replace("-", "").replace("_", "").isalnum():
            raise StudyError(f"name {name!r} may hold letters, digits, '-' and '_' only")
        with error_context("record"):
            record = _one_of(*RECORDS)(raw.get("record", "standard"))
        with error_context("report"):
            report = _one_of(*REPORTS)(raw.get("report", "standard"))
        seeds = read_seeds(raw.get("seeds", 16))
        axes = {key: value for key, value in raw.items() if key in AXES}
        blocks = {block: _grid(block, own, axes) for block, own in _blocks(raw).items()}
        blocks = {block: _within(grid, allowed) for block, grid in blocks.items()}
        estimators = raw.get("estimators", {})
        read_comparisons(estimators, allowed)
        with error_context(f"report = {report!r}"):
            _check_report(report, record, blocks, estimators, seeds)
        claims = raw.get("claims", {})
        if not isinstance(claims, Mapping):
            raise StudyError("claims must be tables, [claims.NAME]")
        return Study(
            name=name,
            blocks=blocks,
            seeds=seeds,
            record=record,
            report=report,
            estimators=estimators,
            claims=claims,
            origin=origin,
            allowed=allowed,
            **texts,
        )


def _check_report(
    report: str,
    record: str,
    blocks: Mapping[str, Any],
    estimators: Mapping[str, Any],
    seeds: tuple[int, int],
) -> None:
    """Refuse a report that a study's runs could not fill, before they are trained."""
    if report == "standard":
        return
    if report == "importance" and record != "importances":
        raise StudyError("needs record = 'importances'")
    if seeds[1] - seeds[0] < FEWEST:
        raise StudyError(
            f"needs at least {FEWEST} seeds, half of which pick learning rates;"
            f" these are {seeds[1] - seeds[0]}"
        )
    if report == "importance":
        return
    if report == "sensitivity":
        factors = [set(grid["scale_factor"]) for grid in blocks.values()]
        if not all(1.0 in own and len(own) > 1 for own in factors):
            raise StudyError("needs scale_factor 1 and another in every block")
        return
    preset = _preset(f"{report}.toml")  # of the same name, whose blocks it speaks of
    # A block of further rates, for raw columns, may be left out.
    needed = {block.removesuffix(RAW) for block in preset.get("blocks", {})}
    lacking = needed - blocks.keys()
    partly = preset.get("estimators", {}).keys() & estimators.keys()
    if lacking and not partly:
        raise StudyError(
            f"speaks of the blocks of the preset of that name, and there is no"
            f" blocks.{min(lacking)}; write report = 'standard'"
        )


def _blocks(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a copy of each block's own keys; a study without blocks has one."""
    blocks = raw.get("blocks", {"main": {}})
    if not isinstance(blocks, Mapping) or not blocks:
        raise StudyError("blocks must be tables, [blocks.NAME]")
    for block, own in blocks.items():
        if not isinstance(own, Mapping):
            raise StudyError(f"blocks.{block} must be a table, [blocks.{block}]")
    return {block: dict(own) for block, own in blocks.items()}


def _grid(block: str, own: dict[str, Any], above: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return every axis of a block, from its own keys, those above the blocks, and defaults."""
    # A block that names one of the two budgets does not inherit the other.
    dropped = BUDGETS if any(key in own for key in BUDGETS) else ()
    raw = {key: value for key, value in above.items() if key not in dropped} | own
    with error_context(f"blocks.{block}"):
        for key in own:
            if key in STUDY_KEYS:
                raise StudyError(f"{key!r} is the whole study's; write it above the blocks")
            if key not in AXES:
                raise unknown("key", key, AXES)
        return {key: _values(key, raw.get(key, axis.default)) for key, axis in AXES.items()}


def _within(grid: Mapping[str, list[Any]], allowed: Container[str]) -> dict[str, list[Any]]:
    """Return a grid whose components may import only the code that is allowed."""
    return {
        key: [value.within(allowed) if isinstance(value, Component) else value for value in values]
        for key, values in grid.items()
    }


def _references(value: Any) -> Iterator[str]:
    """Yield each text of a nested value that could be a reference to code."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _references(item)


def _values(key: str, raw: Any) -> list[Any]:
    with error_context(key):
        values = []
        for item in listed(raw):
            read = AXES[key].read(item)
            values += read if isinstance(read, list) else [read]
            if len(values) > MOST_CONDITIONS:
                raise StudyError(f"more than {MOST_CONDITIONS:,} values; {FEWER_CONDITIONS}")
        ((value, count),) = Counter(values).most_common(1)
        if count > 1:
            one = isinstance(value, Component) and value.parameters
            hint = "; a list that is one value stands in a list, [[16, 16]]" if one else ""
            raise StudyError(f"lists {value!s} more than once{hint}")
        return values


def _load(source: str | Path) -> tuple[dict[str, Any], str, bool]:
    """Return what a preset or a file holds, its name, and whether it is a preset."""
    text = str(source)
    if not text.endswith(".toml") and "/" not in text:
        if text not in presets():
            raise unknown("preset", text, presets())
        return {"name": text, **_preset(f"{text}.toml")}, text, True
    with error_context(text, OSError, ValueError):
        content = read_text(source)
    with error_context(f"{text}: not valid TOML", ValueError, RecursionError):
        return tomllib.loads(content), text, False


def _preset(file: str) -> dict[str, Any]:
    return tomllib.loads((PRESETS / file).read_text(encoding="utf-8"))


def _set(raw: Mapping[str, Any], setting: str) -> tuple[dict[str, Any], Any]:
    """Return a study's keys with one ``key=value`` put into every block, or one; the value."""
    key, equals, text = setting.partition("=")
    key = key.strip()
    with error_context(f"--set {setting!r}"):
        if not equals or not key:
            raise StudyError("write key=value")
        value = _value(text)
        if key == "blocks":
            raise StudyError("write blocks.NAME.key=value")
        if key in STUDY_KEYS:
            return {**raw, key: value}, value
        blocks = _blocks(raw)
        place, dot, axis = key.rpartition(".")
        name = place.removeprefix("blocks.")
        if dot and name not in blocks:
            raise unknown("block", name, blocks)
        if not dot and axis not in AXES:
            raise unknown("key", axis, [*AXES, *STUDY_KEYS])
        for own in [blocks[name]] if dot else blocks.values():
            if axis in BUDGETS:
                for budget in BUDGETS:
                    own.pop(budget, None)
            own[axis] = value
        return {**raw, "blocks": blocks}, value


def _value(text: str) -> Any:
    """Read a setting's value: TOML, or bare words with commas between them."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        words = text.split(",")
        return text.strip() if len(words) == 1 else [_value(word) for word in words]


def _plain(value: Any) -> Any:
    return value.plain() if isinstance(value, Component) else value
