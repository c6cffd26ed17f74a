"""The provenance of results: the versions, source and user's code that they were made by."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scaling_study.study import code
from scaling_study.study.component import TABLE, Component, import_module
from scaling_study.study.study import Study

SCHEMA_VERSION = 3
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "pandas", "pyarrow")
METADATA = b"scaling_study"  # the key of the provenance in a chunk's metadata
SOURCE = ("study", "engine")  # the subpackages that determine the bits of a run


@cache
def versions() -> dict[str, str]:
    """Return the versions of this package and of those that results depend on."""
    return {name: version(name) for name in ("scaling-study", *PACKAGES)}


@cache
def source_digest() -> str:
    """Return twelve hexadecimal digits of the source that computes a run."""
    package = Path(__file__).parents[1]
    files = sorted(file for part in SOURCE for file in (package / part).glob("*.py"))
    return _digest(file.read_bytes() for file in files)


def code_digests(components: Iterable[Component]) -> dict[str, str]:
    """Return twelve digits of the source of each ``module:name`` among some components.

    It is of what defines the name in its module. Modules that it imports are covered by the
    digest of the compiled program. The name of an object of this process has its digest.
    """
    named = {part.name for part in components if part.is_code and not part.is_of_process}
    pairs = [(name, *name.partition(":")[::2]) for name in sorted(named)]
    return {name: code.source_digest(import_module(home), own) for name, home, own in pairs}


def provenance(
    platform: str, components: Iterable[Component], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the provenance that the chunks of one folder must share.

    Parameters
    ----------
    platform : str
        As JAX names it: ``"cpu"``, ``"gpu"``.
    components : iterable of Component
        All components of the study, or of the chunk.
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


def provenance_difference(chunk: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Return how a chunk's provenance differs from a folder's identity; empty if it does not.

    A chunk names only the code that it uses, out of the code of its study.
    """
    keys = ("schema_version", "platform", "packages", "source", "code", "environment")
    ours = {key: identity[key] for key in keys if key in identity}
    theirs = {key: chunk[key] for key in ours}
    if "code" in ours:
        theirs["code"] = {**ours["code"], **theirs["code"]}
    return difference(theirs, ours)


def asked(study: Study) -> dict[str, Any]:
    """Return what identifies a study's results: all of its text except words and seeds."""
    text = tomllib.loads(study.to_toml())
    for block in text["blocks"].values():  # the content of a table counts, not its path
        for problem in block["problem"]:
            if isinstance(problem, dict):
                problem.pop(TABLE, None)
    parts = {key: text[key] for key in ("name", "record", "blocks")}
    return {**parts, "estimators": text.get("estimators", {})}


def study_digest(study: Study) -> str:
    """Return twelve hexadecimal digits of `asked`."""
    return _digest([json.dumps(asked(study), sort_keys=True).encode()])


def difference(theirs: Any, ours: Any, where: str = "") -> str:
    """Return the first place where two nested mappings differ, empty if there is none."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        inner = (
            difference(theirs.get(key, "missing"), ours.get(key, "missing"), f"{where}.{key}")
            for key in {**ours, **theirs}
        )
        return next(filter(None, inner), "")
    if theirs == ours:
        return ""
    return f"{where[1:]} is {short(str(theirs))}, not {short(str(ours))}"


def short(text: str) -> str:
    """Return at most 60 characters of a text."""
    return text if len(text) <= 60 else text[:57] + "..."


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]
