"""The form of stored files: their names, the keys of the manifest, the columns of the tables.

Every file is checked where it is read, so that other modules can rely on its form.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import pyarrow as pa

from scaling_study.errors import StudyError
from scaling_study.files import CHECKSUM, checksum_of
from scaling_study.storage.provenance import METADATA, SCHEMA_VERSION, short
from scaling_study.study.axes import LATER_AXES
from scaling_study.study.chunk_shapes import ChunkShape
from scaling_study.study.conditions import Condition
from scaling_study.study.study import read_seeds
from scaling_study.study.values import error_context, number, whole

# Names of files ------------------------------------------------------------------------------

MANIFEST = "manifest.json"
STUDY = "study.toml"
CONDITIONS = "conditions.parquet"
ESTIMATORS = "estimators.parquet"
CHUNKS = "chunks"
LOCK = ".lock"
FILES = (CONDITIONS, ESTIMATORS, MANIFEST, STUDY)
_CHUNK_FILE = re.compile(
    rf"([0-9]{{3,}}-[0-9]{{4,}}-[0-9]{{6,}})-([0-9a-f]{{{CHECKSUM}}})\.parquet"
)


def parse_chunk_name(name: str) -> tuple[str, str] | None:
    """Return the chunk and the checksum in a file's name; None if it is not a chunk's name."""
    match = _CHUNK_FILE.fullmatch(name)
    return (match[1], match[2]) if match else None


def is_temporary(name: str) -> bool:
    """Whether a name is that of a temporary file, which a killed run leaves behind."""
    inner = name.removeprefix(".").removesuffix(".tmp")
    return name == f".{inner}.tmp" and (inner in FILES or parse_chunk_name(inner) is not None)


# JSON -----------------------------------------------------------------------------------------

_JSON_TYPES = {dict: "an object", list: "a list", str: "text"}


def check_form(value: Any, form: Any) -> None:
    """Raise a `StudyError` unless a value read from JSON has a form.

    Parameters
    ----------
    value : object
    form : object
        ``str``, for text. ``[form]``, for a list. ``{"key": form}``, for an object with this
        key, or without it if the key ends with ``?``; it may have others. ``{str: form}``, for
        an object with any keys. A function, which raises a `StudyError` itself.
    """
    if form is not str and callable(form):
        form(value)
        return
    kind = str if form is str else type(form)
    if not isinstance(value, kind):
        raise StudyError(f"must be {_JSON_TYPES[kind]}, not {short(repr(value))}")
    if isinstance(form, list):
        for item in value:
            check_form(item, form[0])
    if isinstance(form, dict):
        given = dict.fromkeys(value, form[str]) if str in form else form
        for key, inner in given.items():
            name = key.removesuffix("?") if key in form else key
            if name in value or name == key:
                with error_context(name):
                    if name not in value:
                        raise StudyError("is missing")
                    check_form(value[name], inner)


def _optional(form: Any) -> Callable[[Any], None]:
    return lambda value: None if value is None else check_form(value, form)


def _seconds(value: Any) -> None:
    number(value, 0)


def _chunk_files(value: Any) -> None:
    check_form(value, [str])
    chunks = [parse_chunk_name(name) for name in value]
    if None in chunks:
        raise StudyError(f"{value[chunks.index(None)]!r} is not the name of a chunk's file")
    for chunk, count in Counter(found[0] for found in chunks if found).most_common(1):
        if count > 1:
            raise StudyError(f"names more than one file of chunk {chunk}")


_GROUP = {"conditions": whole, "shape": [whole], "members": [str], "features?": [str]}


def _group(value: Any) -> None:
    check_form(value, _GROUP)
    if len(value["shape"]) != len(ChunkShape._fields):
        raise StudyError(f"a shape has {len(ChunkShape._fields)} numbers")
    if len(value["members"]) != -(-value["conditions"] // value["shape"][0]):
        raise StudyError("must have one digest for each block of conditions")


_TEXTS = {str: str}
_MANIFEST = {
    "identity": {"chunk_size": _optional(whole)},
    "seeds?": read_seeds,
    "chunks?": _chunk_files,
    "files?": _TEXTS,
    "groups?": [_group],
    "programs?": _TEXTS,
    "checksum?": str,
    "packages?": _TEXTS,
    "devices?": [str],
    **dict.fromkeys(("python?", "machine?", "finished?"), str),
    "git_commit?": _optional(str),
    **dict.fromkeys(("compile_seconds?", "run_seconds?", "estimator_seconds?"), _seconds),
    "summary?": {},
}
_PROVENANCE = {
    "schema_version": whole,
    **dict.fromkeys(("platform", "source", "program"), str),
    **dict.fromkeys(("packages", "code", "environment"), _TEXTS),
    "failures": [str],
}


def is_manifest(value: Any) -> bool:
    """Whether a value read from JSON is a manifest, of any release."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("schema_version"), int)
        and isinstance(value.get("identity"), dict)
    )


def check_manifest(manifest: Any) -> None:
    """Raise a `StudyError` unless a value read from JSON is a manifest of this schema."""
    check_form(manifest, {})
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise StudyError(
            f"schema version {version}, but this release reads version {SCHEMA_VERSION}, which"
            " defines convergence by another target; run the study again into another folder, or"
            " read this one with the release that wrote it"
        )
    check_form(manifest, _MANIFEST)


def signed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with a checksum of its other keys as the last key."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return {**rest, "checksum": checksum_of(text.encode())}


def has_valid_checksum(manifest: Any) -> bool:
    """Whether a manifest matches its checksum, which those of earlier releases do not have."""
    if not isinstance(manifest, dict) or "checksum" not in manifest:
        return True
    return manifest["checksum"] == signed(manifest)["checksum"]


def read_provenance(schema: pa.Schema) -> dict[str, Any]:
    """Return the provenance of a chunk, with the reasons why runs failed, from its schema.

    Raises
    ------
    StudyError
        If the schema has none.
    """
    text = (schema.metadata or {}).get(METADATA)
    if text is None:
        raise StudyError("has no provenance")
    with error_context("provenance", ValueError, RecursionError):
        found = json.loads(text)
        check_form(found, _PROVENANCE)
    return found


# Tables ---------------------------------------------------------------------------------------

RUN_NUMBERS = (
    *("initial_loss", "final_loss", "loss_null", "loss_ols", "loss_least"),
    *("excess_loss", "excess_share", "steps_to_target", "diverged_at"),
    *("weight_error", "weight_error_ols", "bias_init", "bias", "bias_original"),
)
FEATURE_COLUMNS = (
    *("weight_init", "weight", "weight_original", "weight_true", "weight_ols", "t_ols"),
    *("steps_to_feature_target", "grad_norm_init", "grad_norm_first_epoch", "grad_norm_mean"),
    "movement",
)
TRACE_COLUMNS = ("update", "batch_loss", "loss", "grad_norm", "weight")
FIT_COLUMNS = (
    *("comparison", "dataset", "estimator", "scaler", "seed"),
    *("train_rows", "test_rows", "accuracy", "stopped_early"),
)
_RUN_KINDS = {
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
_TYPES: dict[str, tuple[Callable[[Any], bool], ...]] = {
    "text": (pa.types.is_string, pa.types.is_large_string),
    "whole numbers": (pa.types.is_integer,),
    "numbers": (pa.types.is_floating, pa.types.is_integer, pa.types.is_null),
    "lists": (pa.types.is_list, pa.types.is_fixed_size_list),
    "truth values": (pa.types.is_boolean,),
    "values": (lambda kind: True,),
}


def check_runs(schema: pa.Schema) -> None:
    """Raise a `StudyError` unless these are the columns of a chunk."""
    columns = [name for name in schema.names if "/" in name]
    width = sum(name.startswith("weight_true/") for name in columns)
    names = dict.fromkeys([*FEATURE_COLUMNS, *(name.rpartition("/")[0] for name in columns)])
    features = [f"{name}/{feature}" for name in names for feature in range(max(width, 1))]
    _check_columns(schema, _RUN_KINDS | dict.fromkeys(features, "numbers"))


def check_conditions(schema: pa.Schema) -> None:
    """Raise a `StudyError` unless these are the columns of the table of conditions."""
    missing = LATER_AXES.keys() - set(schema.names)
    axes = sorted({axis.name for axis in fields(Condition)} - missing)
    _check_columns(schema, {"condition": "text", **dict.fromkeys(axes, "values")})


def check_fits(schema: pa.Schema) -> None:
    """Raise a `StudyError` unless these are the columns of the table of estimators' fits."""
    _check_columns(schema, _FIT_KINDS)


def _check_columns(schema: pa.Schema, kinds: Mapping[str, str]) -> None:
    types = dict(zip(schema.names, schema.types, strict=True))
    if len(types) < len(schema.names):
        raise StudyError("has two columns of one name")
    for name, kind in kinds.items():
        if name not in types:
            raise StudyError(f"has no column {name!r}")
        column = types[name]
        inner = column.value_type if isinstance(column, pa.DictionaryType) else column
        if not any(test(inner) for test in _TYPES[kind]):
            raise StudyError(f"column {name!r} holds {column}, not {kind}")
