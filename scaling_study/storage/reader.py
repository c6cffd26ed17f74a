"""Reading a results folder: its manifest, its study, the tables beside the chunks, its status."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from scaling_study.errors import DamagedError, StudyError
from scaling_study.files import checksum_of, read_bytes
from scaling_study.storage.contents import stored_contents
from scaling_study.storage.inventory import (
    UNREADABLE,
    chunk_of,
    open_parquet,
    take_inventory,
    unreadable_fault,
)
from scaling_study.storage.lock import is_locked
from scaling_study.storage.provenance import study_digest
from scaling_study.storage.schema import (
    CONDITIONS,
    ESTIMATORS,
    FIT_COLUMNS,
    MANIFEST,
    STUDY,
    check_conditions,
    check_fits,
    check_manifest,
    has_valid_checksum,
)
from scaling_study.study.axes import LATER_AXES
from scaling_study.study.study import Study, read_study
from scaling_study.study.values import error_context

OVERWRITE = "choose another folder, or use --overwrite, which deletes these results"
RUN_AGAIN = "run its study again to repair it"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest, whose keys have the types that they should have.

    Raises
    ------
    StudyError
        If there is none, or it has a schema that this release does not read.
    """
    file = folder / MANIFEST
    with error_context(file, OSError):
        try:
            data = read_bytes(file)
        except FileNotFoundError:
            data = None
    if data is None:
        raise StudyError(f"{folder}: no results here (no {MANIFEST}); run a study first")
    with error_context(file):
        try:
            manifest = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"damaged: {error}; {RUN_AGAIN}") from None
        if not has_valid_checksum(manifest):
            raise DamagedError(f"damaged: its checksum does not match its content; {RUN_AGAIN}")
        check_manifest(manifest)
    return manifest


def read_stored_study(
    folder: Path, manifest: Mapping[str, Any], *, allow_code: bool = False
) -> Study:
    """Return the study of a folder's results.

    Raises
    ------
    StudyError
        If its file has changed since it was written.
    """
    file = folder / STUDY
    with error_context(file, OSError):
        data = read_bytes(file)
    advice = f"undo the change, or run the original study with -o {folder} to keep its results"
    if _is_changed(data, STUDY, manifest):
        raise StudyError(f"{file}: damaged or edited since it was written; {advice}")
    study = read_study(file, allow_code=allow_code)
    # While a run replaces the file, the manifest has no checksum of it.
    if manifest["identity"].get("study") not in (None, study_digest(study)):
        raise StudyError(f"{file}: not the study of these results; {advice}")
    return study


def _is_changed(data: bytes, name: str, manifest: Mapping[str, Any]) -> bool:
    checksum = checksum_of(data)
    return manifest.get("files", {}).get(name, checksum) != checksum


# Tables beside the chunks ---------------------------------------------------------------------


def read_table(folder: Path, name: str, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table of conditions, or of the fits of scikit-learn's estimators.

    Raises
    ------
    StudyError
        If it has changed since it was written.
    """
    file = folder / name
    if name == ESTIMATORS and not file.exists():
        return pd.DataFrame(columns=list(FIT_COLUMNS))
    with error_context(file, OSError):
        data = read_bytes(file)
    with error_context(file):
        if fault := _table_fault(data, name, manifest):
            raise StudyError(f"{fault}; {RUN_AGAIN}")
        frame = open_parquet(data).read(use_threads=False).to_pandas(use_threads=False)
        if name == CONDITIONS and frame["condition"].duplicated().any():
            raise StudyError("has a condition more than once")
    missing = {axis: value for axis, value in LATER_AXES.items() if axis not in frame}
    return frame.assign(**missing) if name == CONDITIONS else frame


def damaged_tables(folder: Path, study: Study, manifest: Mapping[str, Any]) -> list[str]:
    """Return the names of a study's tables that have changed since they were written."""
    damaged = []
    for name in (CONDITIONS, ESTIMATORS) if study.estimators else (CONDITIONS,):
        file = folder / name
        with error_context(file, OSError):
            if file.exists() and (
                not file.is_file() or _table_fault(read_bytes(file), name, manifest)
            ):
                damaged.append(name)
    return damaged


def _table_fault(data: bytes, name: str, manifest: Mapping[str, Any]) -> str:
    if _is_changed(data, name, manifest):
        return "damaged"
    try:
        # All of the table is decoded: it is small, and may have no checksum.
        schema = open_parquet(data).read(use_threads=False).schema
        (check_conditions if name == CONDITIONS else check_fits)(schema)
    except UNREADABLE as error:
        return unreadable_fault("table", error)
    return ""


def seeds_to_fit(study: Study, fits: pd.DataFrame) -> list[int]:
    """Return the seeds on which a study's estimators are still to be fitted."""
    fitted = set(fits["seed"])
    return [seed for seed in range(*study.seeds) if seed not in fitted]


# Status ---------------------------------------------------------------------------------------


class Status(NamedTuple):
    """How much of a study is stored in a folder.

    Attributes
    ----------
    study : str
        Its name.
    runs, runs_done : int
        Number of runs asked for, and stored.
    chunks : int
        Number of chunks asked for.
    done, missing : list of str
        Chunks that are stored, and chunks or tables without a file.
    damaged : list of str
        Files that have changed since they were written, or that another study has made.
    faults : list of str
        The reason for each of them.
    runs_failed : int
        Stored runs that have failed; the next run tries them again.
    fits_missing : int
        Number of seeds on which estimators are still to be fitted.
    in_use : bool
        Whether a run is writing to the folder.
    """

    study: str
    runs: int
    runs_done: int
    chunks: int
    done: list[str]
    missing: list[str]
    damaged: list[str]
    faults: list[str]
    runs_failed: int
    fits_missing: int
    in_use: bool

    @property
    def complete(self) -> bool:
        """Whether everything is stored."""
        return not (self.missing or self.damaged or self.fits_missing)

    def lines(self) -> list[str]:
        """Return the status as text."""
        counts = {
            "study": self.study,
            "runs": f"{self.runs_done:,} of {self.runs:,}",
            "chunks": f"{len(self.done):,} of {self.chunks:,}",
            "missing": f"{len(self.missing):,}",
            "damaged": f"{len(self.damaged):,}",
        }
        if self.runs_failed:
            counts["failed"] = f"{self.runs_failed:,} runs, which the next run tries again"
        if self.fits_missing:
            counts["estimators"] = f"{self.fits_missing:,} seeds to fit"
        lines = [f"{key:<12}{value}" for key, value in counts.items()]
        named = zip(self.damaged, self.faults, strict=True)
        lines += [f"{'':<12}{name}: {fault}" for name, fault in list(named)[:10]]
        if self.in_use:
            return [*lines, "a run is writing to this folder"]
        return lines if self.complete else [*lines, "run the same command again to continue"]


def status(folder: str | Path) -> Status:
    """Return how much of a study is stored in a folder, without changing it.

    Nothing that the study names is imported or read: the manifest says what is to be stored.

    Raises
    ------
    StudyError
        If the folder holds no study.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    study = read_stored_study(folder, manifest)
    if "groups" not in manifest:
        raise StudyError(f"{folder}: an earlier release began this run; run its study again")
    curves = study.record == "curves"
    contents = {} if curves else stored_contents(manifest, study.seeds)
    inventory = take_inventory(folder, contents, manifest, study.seeds)
    done = [chunk for chunk in contents if chunk in inventory.kept]
    found = {chunk_of(file) for file in inventory.faults} | inventory.kept.keys()
    tables = damaged_tables(folder, study, manifest)
    fits = study.estimators and ESTIMATORS not in tables
    missing = [chunk for chunk in contents if chunk not in found]
    runs = {chunk: content.runs_within(study.seeds) for chunk, content in contents.items()}
    return Status(
        study=study.name,
        runs=sum(runs.values()),
        runs_done=sum(runs[chunk] for chunk in done),
        chunks=len(contents),
        done=done,
        missing=missing + [n for n in manifest.get("files", {}) if not (folder / n).exists()],
        damaged=[*(file.name for file in inventory.faults), *tables],
        faults=[*inventory.faults.values(), *("damaged" for _ in tables)],
        runs_failed=sum(inventory.failed.values()),
        fits_missing=len(seeds_to_fit(study, read_table(folder, ESTIMATORS, manifest)))
        if fits
        else 0,
        in_use=is_locked(folder),
    )
