"""The study file: TOML with axes, blocks and seeds, and the checks of its keys and values.

Top-level axes apply to every block; ``[blocks.NAME]`` overrides them. A scalar or a list is a
grid axis.
"""

import math
import tomllib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from scaling_study.errors import StudyError, unknown
from scaling_study.files import read_text
from scaling_study.study import tables, values
from scaling_study.study.axes import AXES, BUDGETS, LATER_AXES, read_grid
from scaling_study.study.component import (
    EVERYTHING,
    FEWER_CONDITIONS,
    MOST_CONDITIONS,
    Component,
)
from scaling_study.study.controls import check_controls
from scaling_study.study.estimators import Comparison, read_comparisons
from scaling_study.study.values import error_context

RECORDS = ("standard", "importances", "networks", "curves")
# A report is a folder with a module `report`; it is registered nowhere else.
REPORTS = tuple(
    sorted(
        folder.name.replace("_", "-")
        for folder in (resources.files("scaling_study") / "report").iterdir()
        if (folder / "report.py").is_file()
    )
)
TUNING_REPORTS = ("benchmark", "importance", "published", "real-data", "sensitivity")
OF_UNITS = ("benchmark", "sensitivity")  # reports that compare units with scale factor 1
FEWEST = 4  # seeds of a report that tunes: two pick a learning rate, two give an interval
RAW = "-raw"  # ends the name of a block of further learning rates for raw columns
PRESETS = resources.files("scaling_study") / "presets"


def _name(value: Any) -> str:
    if not values.text(value).replace("-", "").replace("_", "").isalnum():
        raise StudyError(f"may hold letters, digits, '-' and '_' only, not {value!r}")
    return value


# Keys of a study that are single values, with their readers.
SINGLE: dict[str, values.Reader] = {
    "name": _name,
    "title": values.text,
    "description": values.text,
    "record": values.one_of(RECORDS),
    "report": values.one_of(REPORTS),
    "estimators": values.of_type(Mapping, "tables, [estimators.NAME]"),
    "claims": values.of_type(Mapping, "tables, [claims.NAME]"),
}
STUDY_KEYS = (*SINGLE, "seeds", "blocks")


@dataclass(frozen=True, repr=False)
class Study:
    """A whole design: blocks of grids, and the seeds of each of their conditions.

    Parameters
    ----------
    name : str
        Name of the results folder and of the report.
    blocks : mapping of str to mapping of str to list
        For each block, every axis of `AXES` as a list of its values.
    seeds : tuple of int
        First seed, and one past the last.
    title, description : str
        Shown in the report.
    record : {"standard", "importances", "networks", "curves"}
        ``importances`` adds feature attributions, ``share_*``, and the fit on held-out rows;
        ``networks`` adds some of them for networks alone, and the curvature where those that are
        trained on the full batch ended;
        ``curves`` keeps only loss and gradient norms of every epoch, in memory.
    report : str
        One of `REPORTS`; a study with claims gets a paper.
    estimators : mapping of str to mapping
        Comparisons with scikit-learn's estimators; see
        `scaling_study.study.estimators.Comparison`.
    claims : mapping of str to mapping
        Claims that the study tests; see `scaling_study.analysis.claims.Claim`.
    origin : str
        The file it came from, for error messages.
    allowed : container of str
        References to code, ``module:name``, that may be imported.

    Examples
    --------
    >>> study = read_study({"scaler": ["none", "standard"], "seeds": "0:100"})
    >>> study.seeds, study.blocks["main"]["learning_rate"]
    ((0, 100), [0.001])
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

    def __repr__(self) -> str:
        counts = [math.prod(map(len, grid.values())) for grid in self.blocks.values()]
        first, last = self.seeds
        of = f"{sum(counts):,} conditions in {len(counts)} blocks, seeds {first}:{last}"
        return f"Study({self.name!r}: {of})"

    def _repr_html_(self) -> str:
        """Return the axes that vary in each block as a table."""
        rows = []
        for name, grid in self.blocks.items():
            varied = {axis: part for axis, part in grid.items() if len(part) > 1}
            cells = (f"{axis}: {', '.join(map(str, part))}" for axis, part in varied.items())
            rows.append(f"<tr><th>{escape(name)}</th><td>{escape('; '.join(cells))}</td></tr>")
        return f"<p>{escape(repr(self))}</p><table>{''.join(rows)}</table>"

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return self.seeds[1] - self.seeds[0]

    def comparisons(self) -> list[Comparison]:
        """Return the comparisons with scikit-learn's estimators."""
        return read_comparisons(self.estimators, self.allowed)

    def components(self) -> list[Component]:
        """Return every component that the study names, in its blocks and its estimators."""
        axes = (axis for grid in self.blocks.values() for axis in grid.values())
        named = [value for axis in axes for value in axis if isinstance(value, Component)]
        return named + [comparison.estimator for comparison in self.comparisons()]

    def to_toml(self) -> str:
        """Return the resolved study, with every default but `LATER_AXES`; `parse` reads it back."""
        blocks = {
            name: {
                key: [_plain(value) for value in values]
                for key, values in grid.items()
                if values != [LATER_AXES.get(key)]
            }
            for name, grid in self.blocks.items()
        }
        keys = ("name", "title", "description", "record", "report")
        tables = {"estimators": self.estimators, "claims": self.claims}
        return tomli_w.dumps(
            {
                **{key: getattr(self, key) for key in keys},
                "seeds": f"{self.seeds[0]}:{self.seeds[1]}",
                "blocks": blocks,
                **{key: dict(table) for key, table in tables.items() if table},
            }
        )

    def with_seeds(self, seeds: str | int | range | tuple[int, int] | None) -> "Study":
        """Return the study with other seeds, as of `read_seeds`; unchanged if None."""
        if seeds is None:
            return self
        changed = replace(self, seeds=read_seeds(seeds))
        with error_context(self.origin):
            _check_report(changed)
        return changed


def read_seeds(value: Any) -> tuple[int, int]:
    """Read ``"A:B"`` (from A up to but not including B), a range, a pair, or a count."""
    try:
        if isinstance(value, range) and value.step == 1:
            value = value.start, value.stop
        if isinstance(value, str):
            first, last = (int(part) for part in value.split(":"))
        else:
            first, last = (0, value) if isinstance(value, int) else value
        if isinstance(value, bool):
            raise TypeError
        values.whole(first, 0)
        values.whole(last - 1, first)
    except (TypeError, ValueError):
        raise StudyError(
            f"seeds {value!r} is not a range; write A:B with 0 <= A < B <= {values.MOST + 1},"
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
        ``key=value`` overrides, the value as TOML or as a bare word. A plain key applies to
        every block; ``blocks.NAME.key`` to one.
    allow_code : bool
        Whether a file's references to code, ``module:name``, may be imported. References in a
        setting, a mapping, a `Study` or a preset are always allowed.

    Raises
    ------
    StudyError
        If it is not found, cannot be parsed, or has a wrong key or value.

    Examples
    --------
    >>> read_study("smoke", ["seeds=0:4", "blocks.linear.scaler=none,robust"]).seeds
    (0, 4)
    """
    allowed = EVERYTHING
    if isinstance(source, Study):
        raw, origin, allowed = tomllib.loads(source.to_toml()), source.origin, source.allowed
    elif isinstance(source, Mapping):
        raw, origin = dict(source), "study"
    else:
        raw, origin, is_preset = _load(source)
        raw = raw if is_preset else tables.located(raw, Path(source).parent)
        if not is_preset and not allow_code:
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
    """Check the keys and values of a study as read from TOML, and fill in every default.

    A `StudyError` begins with ``origin``, the file's name; see `Study` for ``allowed``.
    """
    with error_context(origin):
        values.check_keys(raw, [*AXES, *STUDY_KEYS])
        given = {"name": Path(origin).stem, **raw}
        single = values.read_known(given, SINGLE)
        axes = {key: value for key, value in raw.items() if key in AXES}
        blocks, count = {}, 0
        for name, block in _blocks(raw).items():
            with error_context(f"blocks.{name}"):
                _refuse_study_keys(block)
                blocks[name] = read_grid(block, axes, allowed)
            count += math.prod(map(len, blocks[name].values()))
            if count > MOST_CONDITIONS:  # the blocks that follow are not read
                raise StudyError(f"{count:,} conditions or more; {FEWER_CONDITIONS}")
        study = Study(
            blocks=blocks,
            seeds=read_seeds(raw.get("seeds", 16)),
            origin=origin,
            allowed=allowed,
            **single,
        )
        study.comparisons()
        _check_report(study)
        return study


def _refuse_study_keys(block: Mapping[str, Any]) -> None:
    for key in block:
        if key in STUDY_KEYS:
            raise StudyError(f"{key!r} is a key of the whole study; write it above the blocks")


def _check_report(study: Study) -> None:
    """Refuse a report that the study's runs could not fill, before they are trained."""
    report, count = study.report, study.n_seeds
    if report == "paper" and not study.claims:
        raise StudyError("report = 'paper': needs claims, [claims.NAME]")
    if report not in TUNING_REPORTS:
        return
    with error_context(f"report = {report!r}"):
        if report == "importance" and study.record != "importances":
            raise StudyError("needs record = 'importances'")
        if count < FEWEST:
            raise StudyError(
                f"needs at least {FEWEST} seeds, half of which pick learning rates;"
                f" these are {count}"
            )
        if report in OF_UNITS:
            factors = [set(grid["scale_factor"]) for grid in study.blocks.values()]
            if not all(1.0 in values and len(values) > 1 for values in factors):
                raise StudyError("needs scale_factor 1 and another in every block")
            if report == "benchmark":
                check_controls(study.blocks)
        elif report != "importance":
            _check_blocks_of_preset(study, _preset(f"{report}.toml"))


def _check_blocks_of_preset(study: Study, preset: Mapping[str, Any]) -> None:
    """Refuse a study that lacks a block of the preset which its report describes."""
    # Blocks of further learning rates for raw columns may be left out.
    needed = {block.removesuffix(RAW) for block in preset.get("blocks", {})}
    lacking = needed - study.blocks.keys()
    if lacking and not preset.get("estimators", {}).keys() & study.estimators.keys():
        raise StudyError(
            f"describes the blocks of the preset of that name, and there is no"
            f" blocks.{min(lacking)}; write report = 'standard'"
        )


def _blocks(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a copy of each block's keys; a study without blocks has one."""
    blocks = raw.get("blocks", {"main": {}})
    if not isinstance(blocks, Mapping) or not blocks:
        raise StudyError("blocks must be tables, [blocks.NAME]")
    for name, block in blocks.items():
        if not isinstance(block, Mapping):
            raise StudyError(f"blocks.{name} must be a table, [blocks.{name}]")
    return {name: dict(block) for name, block in blocks.items()}


def _references(value: Any) -> Iterator[str]:
    """Yield each text of a nested value that could be a reference to code."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _references(item)


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
    key, equals, text = (part.strip() for part in setting.partition("="))
    with error_context(f"--set {setting!r}"):
        if not equals or not key:
            raise StudyError("write key=value")
        if key == "blocks":
            raise StudyError("write blocks.NAME.key=value")
        value = _value(text)
        if key in STUDY_KEYS:
            return {**raw, key: value}, value
        blocks = _blocks(raw)
        place, dot, axis = key.rpartition(".")
        name = place.removeprefix("blocks.")
        if dot and name not in blocks:
            raise unknown("block", name, blocks)
        if not dot:
            values.check_keys([axis], [*AXES, *STUDY_KEYS])
        dropped = BUDGETS if axis in BUDGETS else ()
        for block in [blocks[name]] if dot else blocks.values():
            for budget in dropped:
                block.pop(budget, None)
            block[axis] = value
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
