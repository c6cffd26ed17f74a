"""The study file: what its keys are, what they default to, and what is accepted.

A study is TOML. Top-level axes hold for every block; ``[blocks.NAME]`` overrides them. A
scalar or a list is a grid axis. Every default stands in `AXES`, and nowhere else.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from scaling_study.errors import StudyError, unknown
from scaling_study.experiment.component import Component

RECORDS = ("standard", "curves")
PRESETS = resources.files("scaling_study") / "presets"


class Axis(NamedTuple):
    """A key of a block: its default and the reader of one value."""

    default: Any
    read: Callable[[Any], Any]
    meaning: str


def _number(value: Any, *, above: float = float("-inf"), what: str = "a finite number") -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise StudyError(f"must be {what}, not {value!r}")
    if not above < value < float("inf"):
        raise StudyError(f"must be {what}, not {value!r}")
    return float(value)


def _positive(value: Any) -> float:
    return _number(value, above=0, what="a finite number above 0")


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise StudyError(f"must be a whole number of at least 1, not {value!r}")
    return value


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise unknown("value", value, choices)
        return value

    return read


def _stream(value: Any) -> int | str:
    if value == "vary" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise StudyError(f'must be "vary" or a seed (a whole number of at least 0), not {value!r}')


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: "none" if value == "none" else read(value)


AXES: dict[str, Axis] = {
    "problem": Axis("article", Component.expand, "where the data come from"),
    "design": Axis("F", _one_of("F", "U"), "F: fixed coefficient; U: unit change"),
    "scale_factor": Axis(1.0, _positive, "what the scaled feature is multiplied by"),
    "offset": Axis(0.0, _number, "what is then added to it"),
    "scaler": Axis("none", Component.expand, "feature scaler"),
    "target_scaler": Axis("none", Component.expand, "target scaler (an affine one)"),
    "model": Axis("linear", Component.expand, "network"),
    "dialect": Axis("keras", _one_of("keras", "torch", "optax"), "whose optimizer defaults hold"),
    "optimizer": Axis("adam", Component.expand, "Optax optimizer and its hyperparameters"),
    "learning_rate": Axis(1e-3, _positive, "learning rate"),
    "batch_size": Axis(32, _count, "rows per batch; the last of an epoch may be smaller"),
    "sampling": Axis(
        "reshuffled", _one_of("reshuffled", "replacement", "full"), "how batches are drawn"
    ),
    "epochs": Axis(200, _count, "passes over the data (an update each, if sampling is full)"),
    "updates": Axis("none", _or_none(_count), "budget in updates, in place of epochs"),
    "dtype": Axis("float32", _one_of("float32", "float64"), "arithmetic of the training"),
    "objective": Axis(
        "auto", _one_of("auto", "moments", "samples"), "how the loss is computed, not what it is"
    ),
    "data_seed": Axis("vary", _stream, "the data stream: varied with the seed, or held"),
    "init_seed": Axis("vary", _stream, "the initialisation stream"),
    "order_seed": Axis("vary", _stream, "the batch-order stream"),
    "tolerance": Axis(1e-3, _positive, "share of the initial excess loss that counts as converged"),
    "target_loss": Axis("none", _or_none(_positive), "explicit loss that counts as converged"),
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
    record : {"standard", "curves"}
        ``curves`` keeps loss and gradient norms of every epoch in memory, and nothing else.
    """

    name: str
    blocks: Mapping[str, Mapping[str, list[Any]]]
    seeds: tuple[int, int] = (0, 16)
    title: str = ""
    description: str = ""
    record: str = "standard"
    origin: str = field(default="", compare=False)

    def to_toml(self) -> str:
        """Return the resolved study, every default written out; `parse` reads it back."""
        blocks = {
            name: {key: [_plain(value) for value in values] for key, values in grid.items()}
            for name, grid in self.blocks.items()
        }
        text = {"name": self.name, "title": self.title, "description": self.description}
        seeds = f"{self.seeds[0]}:{self.seeds[1]}"
        return tomli_w.dumps({**text, "record": self.record, "seeds": seeds, "blocks": blocks})

    def with_seeds(self, seeds: str | tuple[int, int] | None) -> "Study":
        """Return the study with other seeds, ``"A:B"`` or a pair; unchanged if None."""
        return self if seeds is None else replace(self, seeds=read_seeds(seeds))


def read_seeds(value: object) -> tuple[int, int]:
    """Read ``"A:B"`` (from A, up to but without B), a pair, or a count.

    Raises
    ------
    StudyError
        If the range is malformed, negative or empty.
    """
    right = "write A:B with 0 <= A < B, such as 0:1000"
    try:
        if isinstance(value, str):
            first, last = (int(part) for part in value.split(":"))
        elif isinstance(value, int) and not isinstance(value, bool):
            first, last = 0, value
        else:
            first, last = (int(part) for part in value)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        raise StudyError(f"seeds {value!r} is not a range; {right}") from None
    if not 0 <= first < last <= 2**31:
        raise StudyError(f"seeds {value!r} is empty or out of range; {right}")
    return first, last


def read_study(source: "Study | str | Path | Mapping[str, Any]", settings: list[str] = []) -> Study:  # noqa: B006
    """Read a study from a preset's name, a path, a mapping, or a `Study`.

    Parameters
    ----------
    source : Study, str, Path or mapping
        A name without a suffix is a preset, anything else a TOML file.
    settings : list of str
        ``key=value`` overrides, the value as TOML or as a bare word. A plain key holds for
        every block; ``blocks.NAME.key`` for one.

    Raises
    ------
    StudyError
        If it cannot be found, parsed, or holds a key or value that is not right.
    """
    if isinstance(source, Study):
        raw, origin = tomllib.loads(source.to_toml()), source.origin
    elif isinstance(source, Mapping):
        raw, origin = dict(source), "study"
    else:
        raw, origin = _load(source)
    for setting in settings:
        raw = _set(raw, setting)
    return parse(raw, origin)


def presets() -> dict[str, str]:
    """Return the name and title of each preset."""
    files = sorted(PRESETS.iterdir(), key=lambda file: file.name)
    texts = {f.name.removesuffix(".toml"): f.read_text() for f in files if f.name[-5:] == ".toml"}
    return {name: tomllib.loads(text)["title"] for name, text in texts.items()}


def parse(raw: Mapping[str, Any], origin: str = "study") -> Study:
    """Check a study's keys and values, and fill in every default."""
    raw = dict(raw)
    blocks = raw.pop("blocks", {"main": {}})
    plain = {key: raw.pop(key) for key in ("name", "title", "description") if key in raw}
    for key, value in plain.items():
        if not isinstance(value, str):
            raise StudyError(f"{origin}: {key} must be text, not {value!r}")
    record = raw.pop("record", "standard")
    if record not in RECORDS:
        raise StudyError(f"{origin}: record: {unknown('value', record, RECORDS)}")
    seeds = read_seeds(raw.pop("seeds", 16))
    if not isinstance(blocks, Mapping) or not blocks:
        raise StudyError(f"{origin}: blocks must be tables, [blocks.NAME]")
    name = plain.pop("name", Path(origin).stem)
    if not name.replace("-", "").replace("_", "").isalnum():
        raise StudyError(f"{origin}: name {name!r} may hold letters, digits, '-' and '_' only")
    grids = {}
    for block, grid in blocks.items():
        if not isinstance(grid, Mapping):
            raise StudyError(f"{origin}: blocks.{block} must be a table")
        # A block that names one of the two budgets does not inherit the other.
        inherited = {
            k: v
            for k, v in raw.items()
            if not ({"epochs", "updates"} & {k} and {"epochs", "updates"} & set(grid))
        }
        grids[block] = _grid({**inherited, **grid}, f"{origin}: blocks.{block}")
    return Study(name=name, blocks=grids, seeds=seeds, record=record, origin=origin, **plain)


def _grid(raw: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    for key in raw:
        if key not in AXES:
            keys = [*AXES, "name", "title", "description", "seeds", "record", "blocks"]
            raise StudyError(f"{where}: {unknown('key', key, keys)}")
    return {key: _values(key, raw.get(key, axis.default), where) for key, axis in AXES.items()}


def _values(key: str, raw: Any, where: str) -> list[Any]:
    values: list[Any] = []
    for item in raw if isinstance(raw, list) else [raw]:
        try:
            read = AXES[key].read(item)
        except StudyError as error:
            raise StudyError(f"{where}: {key}: {error}") from None
        values.extend(read if isinstance(read, list) else [read])
    if not values:
        raise StudyError(f"{where}: {key} is an empty list; give at least one value")
    repeated = [value for i, value in enumerate(values) if value in values[:i]]
    if repeated:
        raise StudyError(f"{where}: {key} lists {repeated[0]!s} more than once")
    return values


def _load(source: str | Path) -> tuple[dict[str, Any], str]:
    text = str(source)
    if not text.endswith(".toml") and "/" not in text:
        if text not in presets():
            raise unknown("preset", text, presets())
        return {"name": text, **tomllib.loads((PRESETS / f"{text}.toml").read_text())}, text
    try:
        return tomllib.loads(Path(source).read_text()), text
    except FileNotFoundError:
        raise StudyError(f"{text}: no such study file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{text}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{text}: not valid TOML: {error}") from None


def _set(raw: dict[str, Any], setting: str) -> dict[str, Any]:
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not key:
        raise StudyError(f"--set {setting!r}: write key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        words = [word.strip() for word in text.split(",")]
        value = words[0] if len(words) == 1 else words
    blocks = {name: dict(grid) for name, grid in raw.get("blocks", {}).items()}
    place, dot, axis = key.rpartition(".")
    if dot:
        name = place.removeprefix("blocks.")
        if name not in blocks:
            raise StudyError(f"--set {setting!r}: {unknown('block', name, blocks)}")
        blocks[name] |= _budget(axis) | {axis: value}
        return {**raw, "blocks": blocks}
    if key not in AXES:
        if key not in ("name", "title", "description", "seeds", "record"):
            known = [*AXES, "name", "title", "description", "seeds", "record"]
            raise StudyError(f"--set {setting!r}: {unknown('key', key, known)}")
        return {**raw, key: value}
    for grid in blocks.values():
        grid |= _budget(key) | {key: value}
    result = {**raw, **_budget(key), key: value}
    return {**result, "blocks": blocks} if blocks else result


def _budget(key: str) -> dict[str, Any]:
    """Return what setting one of the two budgets says of the other."""
    return {"updates": "none"} if key == "epochs" else {}


def _plain(value: Any) -> Any:
    return value.plain() if isinstance(value, Component) else value
