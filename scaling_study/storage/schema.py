"""The form of what is stored: the names of files, the manifest's keys, the columns of tables.

Each file is held to it where it is read, once, so that whoever reads on may rely on it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import pyarrow as pa

from scaling_study.errors import StudyError
from scaling_study.files import CHECKSUM, checksum_of
from scaling_study.storage.provenance import METADATA, SCHEMA_VERSION
from scaling_study.study.conditions import ChunkShape, Condition, Group
from scaling_study.study.plan import check_size
from scaling_study.study.study import read_seeds
from scaling_study.study.values import error_context, number, whole

# Names --------------------------------------------------------------------------------------

MANIFEST = "manifest.json"
STUDY = "study.toml"
CONDITIONS = "conditions.parquet"
ESTIMATORS = "estimators.parquet"
CHUNKS = "chunks"
LOCK = ".lock"
FILES = (CONDITIONS, ESTIMATORS, MANIFEST, STUDY)
_CHUNK = "[0-9]{3,}-[0-9]{4,}-[0-9]{6,}"
_CHUNK_FILE = re.compile(rf"({_CHUNK})-([0-9a-f]{{{CHECKSUM}}})\.parquet")


def chunk_of(name: str) -> tuple[str, str] | None:
    """Return the chunk and the checksum that a file's name says; None if it is no chunk's."""
    found = _CHUNK_FILE.fullmatch(name)
    return (found[1], found[2]) if found else None


def is_temporary(name: str) -> bool:
    """Say whether a name is that of a file of ours which was not written to its end."""
    inner = name.removeprefix(".").removesuffix(".tmp")
    return name == f".{inner}.tmp" and (inner in FILES or chunk_of(inner) is not None)


# The manifest -------------------------------------------------------------------------------


def is_manifest(found: Any) -> bool:
    """Say whether a value read from JSON is a manifest of ours, of whatever release."""
    return (
        isinstance(found, dict)
        and isinstance(found.get("schema_version"), int)
        and isinstance(found.get("identity"), dict)
    )


def check_manifest(manifest: Any) -> None:
    """Raise a `StudyError` unless a value read from JSON is a manifest that can be read."""
    _mapping(manifest)
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise StudyError(
            f"schema version {version}, and this release reads {SCHEMA_VERSION}, in which a run"
            " has converged by another target; run the study again into another folder, or read"
            " this one with the release that wrote it"
        )
    if "identity" not in manifest:
        raise StudyError("has no identity, without which nobody can add to its results")
    for key, check in _KEYS.items():
        if key in manifest:
            with error_context(key):
                check(manifest[key])
    with error_context("chunks"):
        named = [_chunk_named(name) for name in manifest.get("chunks", [])]
        for chunk, count in Counter(named).most_common(1):
            if count > 1:
                raise StudyError(f"names more than one file of chunk {chunk}")


def _chunk_named(name: str) -> str:
    found = chunk_of(name)
    if found is None:
        raise StudyError(f"{name!r} is no chunk's name")
    return found[0]


def signed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the checksum of all else that it holds, as its last key."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return {**rest, "checksum": checksum_of(text.encode())}


def has_valid_checksum(manifest: Any) -> bool:
    """Say whether a value read from JSON has its own checksum, or none as in earlier releases."""
    if not isinstance(manifest, dict) or "checksum" not in manifest:
        return True
    return manifest["checksum"] == signed(manifest)["checksum"]


class Content(NamedTuple):
    """What the file of a chunk holds, by the plan.

    Attributes
    ----------
    conditions : int
        How many there are.
    members : str
        The digest of their ids, `members_digest`; empty where it is not known.
    seeds : range
        Of each condition, one row a seed.
    """

    conditions: int
    members: str
    seeds: range

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.conditions * len(self.seeds)


def members_digest(ids: Iterable[str]) -> str:
    """Return sixteen hexadecimal digits that name conditions in their order."""
    return checksum_of("\n".join(ids).encode())


def members_of(own: Group) -> list[str]:
    """Return the digest of each block of a planned group's conditions."""
    ids = [condition.id for condition in own.conditions]
    width = own.shape.conditions
    return [members_digest(ids[k : k + width]) for k in range(0, len(ids), width)]


def contents_of(
    groups: Sequence[Group], seeds: tuple[int, int], members: Sequence[Sequence[str]]
) -> dict[str, Content]:
    """Return what the file of each chunk holds.

    Parameters
    ----------
    groups : sequence of Group
    seeds : (int, int)
        First seed, and one past the last.
    members : sequence of sequence of str
        For each group the digests of its blocks of conditions, `members_of`; none where they
        are not known.
    """
    check_size(groups, seeds)
    contents = {}
    for own, digests in zip(groups, members, strict=True):
        for chunk in own.chunks(seeds):
            digest = digests[chunk.condition_block] if digests else ""
            contents[str(chunk)] = Content(len(own.members(chunk)), digest, own.seeds(chunk))
    return contents


def groups_of(manifest: Mapping[str, Any]) -> list[Group]:
    """Return a manifest's groups, of which it says shapes and counts and nothing else."""
    unknown: Any = None
    counted: list[Any] = [range(own["conditions"]) for own in manifest["groups"]]
    return [
        Group(place, unknown, conditions, ChunkShape(*own["shape"]))
        for place, (own, conditions) in enumerate(zip(manifest["groups"], counted, strict=True))
    ]


def contents_in(manifest: Mapping[str, Any], seeds: tuple[int, int]) -> dict[str, Content]:
    """Return what the file of each chunk holds, as a manifest says and not a plan.

    A plan may need code of a user's own.
    """
    groups = groups_of(manifest)
    return contents_of(groups, seeds, [own.get("members", []) for own in manifest["groups"]])


def _mapping(value: Any) -> None:
    if not isinstance(value, dict):
        raise StudyError(f"must be an object, not {_short(value)}")


def _list(value: Any) -> None:
    if not isinstance(value, list):
        raise StudyError(f"must be a list, not {_short(value)}")


def _text(value: Any) -> None:
    if not isinstance(value, str):
        raise StudyError(f"must be text, not {_short(value)}")


def _text_or_null(value: Any) -> None:
    if value is not None:
        _text(value)


def _texts(value: Any) -> None:
    _list(value)
    for item in value:
        _text(item)


def _distinct_texts(value: Any) -> None:
    _texts(value)
    if len(set(value)) < len(value):
        raise StudyError("names one more than once")


def _texts_by_name(value: Any) -> None:
    _mapping(value)
    _texts(list(value.values()))


def _seconds(value: Any) -> None:
    number(value, 0)


def _identity(value: Any) -> None:
    _mapping(value)
    with error_context("chunk_size"):
        if "chunk_size" not in value:
            raise StudyError("is missing")
        if value["chunk_size"] is not None:
            whole(value["chunk_size"])


def _groups(value: Any) -> None:
    _list(value)
    for own in value:
        _mapping(own)
        whole(own.get("conditions"))
        shape = own.get("shape")
        _list(shape)
        if len(shape) != len(ChunkShape._fields):
            raise StudyError(f"a shape has {len(ChunkShape._fields)} numbers, not {len(shape)}")
        for size in shape:
            whole(size)
        members = own.get("members", [])
        _texts(members)
        if members and len(members) != -(-own["conditions"] // shape[0]):
            raise StudyError("has not one digest for each block of conditions")


_KEYS: dict[str, Callable[[Any], object]] = {
    "identity": _identity,
    "seeds": read_seeds,
    "chunks": _distinct_texts,
    "files": _texts_by_name,
    "groups": _groups,
    "programs": _texts_by_name,
    "checksum": _text,
    "packages": _texts_by_name,
    "devices": _texts,
    **dict.fromkeys(("python", "machine", "finished"), _text),
    "git_commit": _text_or_null,
    **dict.fromkeys(("compile_seconds", "run_seconds", "estimator_seconds"), _seconds),
    "summary": _mapping,
}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


# Tables -------------------------------------------------------------------------------------

RUN_NUMBERS = (
    *("initial_loss", "final_loss", "loss_null", "loss_ols", "loss_least"),
    *("excess_loss", "excess_share", "steps_to_target", "diverged_at"),
    *("weight_error", "weight_error_ols", "bias_init", "bias", "bias_original"),
)
FEATURE_COLUMNS = (
    "weight_init",
    "weight",
    "weight_original",
    "weight_true",
    "weight_ols",
    "t_ols",
    "steps_to_feature_target",
    "grad_norm_init",
    "grad_norm_first_epoch",
    "grad_norm_mean",
    "movement",
)
TRACE_COLUMNS = ("update", "batch_loss", "loss", "grad_norm", "weight")
FIT_COLUMNS = (
    *("comparison", "dataset", "estimator", "scaler", "seed"),
    *("train_rows", "test_rows", "accuracy", "stopped_early"),
)
AXES = tuple(axis.name for axis in fields(Condition))
_KINDS = {
    **dict.fromkeys(("condition", "status", "reason"), "text"),
    **dict.fromkeys(("seed", "updates"), "whole numbers"),
    **dict.fromkeys(RUN_NUMBERS, "numbers"),
    **{f"trace_{name}": "lists" for name in TRACE_COLUMNS},
}
_FIT_KINDS = {
    **dict.fromkeys(FIT_COLUMNS, "text"),
    **dict.fromkeys(("seed", "train_rows", "test_rows"), "whole numbers"),
    "accuracy": "numbers",
    "stopped_early": "truth values",
}


def check_runs(schema: pa.Schema) -> None:
    """Raise a `StudyError` unless these are the columns of a chunk."""
    columns = [name for name in schema.names if "/" in name]
    width = sum(name.startswith("weight_true/") for name in columns)
    names = dict.fromkeys([*FEATURE_COLUMNS, *(name.rpartition("/")[0] for name in columns)])
    features = [f"{name}/{feature}" for name in names for feature in range(max(width, 1))]
    _check_columns(schema, _KINDS | dict.fromkeys(features, "numbers"))


def check_conditions(schema: pa.Schema) -> None:
    """Raise a `StudyError` unless these are the columns of a study's conditions."""
    _check_columns(schema, {"condition": "text"})
    lacking = sorted(set(AXES) - set(schema.names))
    if lacking:
        raise StudyError(f"has no column {lacking[0]!r}")


def check_fits(schema: pa.Schema) -> None:
    """Raise a `StudyError` unless these are the columns of estimators' fits."""
    _check_columns(schema, _FIT_KINDS)


def provenance_of(schema: pa.Schema) -> dict[str, Any]:
    """Return who made a chunk, and why runs of it failed, from its schema.

    Raises
    ------
    StudyError
        If it does not say.
    """
    text = (schema.metadata or {}).get(METADATA)
    if text is None:
        raise StudyError("does not say who made it")
    with error_context("who made it", ValueError, RecursionError):
        made = json.loads(text)
        _mapping(made)
        for key, check in _MADE.items():
            with error_context(key):
                check(made.get(key))
    return made


_MADE: dict[str, Callable[[Any], object]] = {
    "schema_version": whole,
    "platform": _text,
    "source": _text,
    "program": _text,
    "packages": _texts_by_name,
    "code": _texts_by_name,
    "failures": _texts,
    "environment": lambda value: value is None or _texts_by_name(value),  # earlier: none
}


def _check_columns(schema: pa.Schema, kinds: Mapping[str, str]) -> None:
    types = dict(zip(schema.names, schema.types, strict=True))
    if len(types) < len(schema.names):
        raise StudyError("has two columns of one name")
    for name, kind in kinds.items():
        if name not in types:
            raise StudyError(f"has no column {name!r}")
        if not _IS[kind](_plain(types[name])):
            raise StudyError(f"column {name!r} holds {types[name]}, not {kind}")


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if isinstance(kind, pa.DictionaryType) else kind


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)


_IS: dict[str, Callable[[Any], bool]] = {
    "text": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    "whole numbers": pa.types.is_integer,
    "numbers": _is_number,
    "lists": _is_list,
    "truth values": pa.types.is_boolean,
}
