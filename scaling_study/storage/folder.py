"""Whose a folder is: a run writes into its own results, or where nothing is."""

import json
import os
from contextlib import suppress
from pathlib import Path

from scaling_study.errors import StudyError
from scaling_study.files import read_bytes
from scaling_study.storage.schema import (
    CHUNKS,
    LOCK,
    MANIFEST,
    STUDY,
    is_manifest,
    is_temporary,
    parse_chunk_name,
)
from scaling_study.study.study import read_study


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, none where there is no folder."""
    return os.listdir(folder) if folder.exists() else []


def check_is_ours(folder: Path) -> None:
    """Raise a `StudyError` if a folder holds anything but a study's results."""
    if (folder / CHUNKS).is_symlink():
        raise StudyError(f"its {CHUNKS} is a link to another folder; choose another folder")
    names = names_in(folder)
    ours = _has_study(folder) if {MANIFEST, STUDY} & set(names) else _is_bare(folder, names)
    if not ours:
        raise StudyError("not empty and not a results folder; choose another folder")


def _has_study(folder: Path) -> bool:
    """Whether the manifest or, beside a damaged one, the study was written by this package."""
    with suppress(FileNotFoundError, ValueError, RecursionError):
        if is_manifest(json.loads(read_bytes(folder / MANIFEST).decode("utf-8"))):
            return True
    with suppress(StudyError):
        file = folder / STUDY
        return read_study(file).to_toml().encode() == read_bytes(file)
    return False


def _is_bare(folder: Path, names: list[str]) -> bool:
    """Whether a folder holds only what a run writes before its manifest."""
    inside = names_in(folder / CHUNKS) if CHUNKS in names else []
    return all(name in (LOCK, CHUNKS) or is_temporary(name) for name in names) and all(
        parse_chunk_name(name) or is_temporary(name) for name in inside
    )
