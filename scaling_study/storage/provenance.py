"""Who made a result: the versions, the source and the code of a user's own that it comes from."""

import hashlib
import inspect
import json
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scaling_study.study.component import Component, import_module
from scaling_study.study.study import Study

SCHEMA_VERSION = 3
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "pandas", "pyarrow")
METADATA = b"scaling_study"  # the key, in a chunk's metadata, of who made it
SOURCE = ("study", "engine")  # what decides the bits of a run


@cache
def versions() -> dict[str, str]:
    """Return the versions of this package and of those that results depend on."""
    return {name: version(name) for name in ("scaling-study", *PACKAGES)}


@cache
def source_digest() -> str:
    """Return twelve hexadecimal digits of the source that computes a run."""
    here = Path(__file__).parents[1]
    files = sorted(file for part in SOURCE for file in (here / part).glob("*.py"))
    return _digest(file.read_bytes() for file in files)


def code_digests(components: Iterable[Component]) -> dict[str, str]:
    """Return twelve digits of the module of each ``module:name`` among some components.

    What such a module imports in turn is not looked at; a chunk's program is, see
    `scaling_study.storage.writer.Store.put`.
    """
    names = sorted({component.name for component in components if component.is_code})
    return {name: _module_digest(name.partition(":")[0]) for name in names}


def provenance(
    platform: str, components: Iterable[Component], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what two results must share to be of one make.

    Parameters
    ----------
    platform : str
        As JAX names it: ``"cpu"``, ``"gpu"``.
    components : iterable of Component
        What the study, or the chunk, names.
    environment : mapping of str to str, optional
        The settings that change bits, `scaling_study.engine.environment.environment`.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "platform": platform,
        "packages": versions(),
        "source": source_digest(),
        "code": code_digests(components),
        "environment": dict(environment or {}),
    }


def provenance_difference(made: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Return in what a chunk's make differs from a folder's identity, empty if in nothing.

    Parameters
    ----------
    made : mapping
        What a chunk's metadata say.
    identity : mapping
        What a folder's manifest says. A key that it lacks, because an earlier release kept
        no such thing, is not compared.
    """
    keys = ("schema_version", "platform", "packages", "source", "environment")
    theirs = {key: made.get(key, "missing") for key in keys if key in identity}
    ours = {key: identity[key] for key in theirs}
    if "code" in identity:
        theirs["code"] = {**identity["code"], **made["code"]}
        ours["code"] = identity["code"]
    return difference(theirs, ours)


def asked(study: Study) -> dict[str, Any]:
    """Return what makes results those of one study: all of its text but words and seeds."""
    text = tomllib.loads(study.to_toml())
    parts = {key: text[key] for key in ("name", "record", "blocks")}
    return {**parts, "estimators": text.get("estimators", {})}


def study_digest(study: Study) -> str:
    """Return twelve hexadecimal digits of `asked`."""
    return _digest([json.dumps(asked(study), sort_keys=True).encode()])


def difference(theirs: Any, ours: Any, where: str = "") -> str:
    """Return the first place where two nested mappings differ, empty if there is none."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        places = {**ours, **theirs}
        inner = (
            difference(theirs.get(key, "missing"), ours.get(key, "missing"), f"{where}.{key}")
            for key in places
        )
        return next(filter(None, inner), "")
    return "" if theirs == ours else f"{where[1:]} is {_short(theirs)}, not {_short(ours)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _module_digest(module: str) -> str:
    try:
        file = inspect.getsourcefile(import_module(module))
    except TypeError:  # a module built into Python has none
        file = None
    return _digest([Path(file).read_bytes()]) if file else "no source"


def _digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:12]
