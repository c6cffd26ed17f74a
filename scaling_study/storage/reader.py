"""A study's folder as it is found: its manifest, its tables, how far it is, who writes there."""

import fcntl
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from scaling_study.errors import DamagedError, StudyError
from scaling_study.files import checksum_of, read_bytes
from scaling_study.storage.inventory import (
    UNREADABLE,
    chunk_in,
    no_table,
    open_parquet,
    take_inventory,
)
from scaling_study.storage.provenance import SCHEMA_VERSION, study_digest
from scaling_study.storage.schema import (
    CONDITIONS,
    ESTIMATORS,
    FIT_COLUMNS,
    LOCK,
    MANIFEST,
    STUDY,
    check_conditions,
    check_fits,
    check_manifest,
    contents_of,
    has_valid_checksum,
    members_of,
)
from scaling_study.study.plan import Plan, plan
from scaling_study.study.study import Study, read_study
from scaling_study.study.values import error_context

ELSEWHERE = "choose another folder, or say --overwrite, which discards these results"
MEND = "run its study again to mend it"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest, whose keys are of the types that they should be.

    Raises
    ------
    StudyError
        If there is none, or it is not of a schema that this release reads.
    """
    file = folder / MANIFEST
    try:
        with error_context(file, OSError):
            data = read_bytes(file)
    except StudyError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise StudyError(f"{folder}: no results here (no {MANIFEST}); run a study first") from None
    with error_context(file):
        try:
            manifest = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"damaged: {error}; {MEND}") from None
        if not has_valid_checksum(manifest):
            raise DamagedError(f"damaged: its checksum is not that of what it holds; {MEND}")
        check_manifest(manifest)
    return manifest


def read_own_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder that this release may add to."""
    manifest = read_manifest(folder)
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise StudyError(
            f"{folder}: written in schema version {manifest['schema_version']}, which this"
            f" release reads and does not add to; {ELSEWHERE}"
        )
    return manifest


def read_own_study(folder: Path, manifest: Mapping[str, Any], *, allow_code: bool = False) -> Study:
    """Return the study that a folder's results are of.

    Raises
    ------
    StudyError
        If its file is not what was written.
    """
    file = folder / STUDY
    with error_context(file, OSError):
        data = read_bytes(file)
    mend = f"undo the change, or run the original study with -o {folder}, which keeps its results"
    if manifest.get("files", {}).get(STUDY, checksum_of(data)) != checksum_of(data):
        raise StudyError(f"{file}: damaged or edited since it was written; {mend}")
    study = read_study(file, allow_code=allow_code)
    # The file's checksum is not there while a run replaces it, and in earlier releases.
    digest = manifest["identity"].get("study")
    if digest is not None and digest != study_digest(study):
        raise StudyError(f"{file}: not the study of these results; {mend}")
    return study


# Tables beside the chunks --------------------------------------------------------------------


def read_table(folder: Path, name: str, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Return the conditions, or the fits of scikit-learn's estimators, that a folder keeps.

    Raises
    ------
    StudyError
        If they are not what was written.
    """
    file = folder / name
    if name == ESTIMATORS and not file.exists():
        return pd.DataFrame(columns=list(FIT_COLUMNS))
    with error_context(file, OSError):
        data = read_bytes(file)
    with error_context(file):
        if fault := _table_fault(data, name, manifest):
            raise StudyError(f"{fault}; {MEND}")
        frame = open_parquet(data).read(use_threads=False).to_pandas(use_threads=False)
        if name == CONDITIONS and frame["condition"].duplicated().any():
            raise StudyError("names a condition more than once")
    return frame


def damaged_tables(folder: Path, study: Study, manifest: Mapping[str, Any]) -> list[str]:
    """Return which of a study's conditions and fits are there and not what was written."""
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
    # Earlier releases of schema 2 kept no checksum of these.
    if manifest.get("files", {}).get(name, checksum_of(data)) != checksum_of(data):
        return "damaged"
    try:
        # All of it is decoded: it is small, and without a checksum nothing else would tell.
        schema = open_parquet(data).read(use_threads=False).schema
        if name == CONDITIONS:
            check_conditions(schema)
        else:
            check_fits(schema)
    except UNREADABLE as error:
        return no_table("table", error)
    return ""


# Who writes ---------------------------------------------------------------------------------


def lock(folder: Path) -> int:
    """Return a file descriptor that holds a folder's lock, which ends with its process."""
    file = folder / LOCK
    while True:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise StudyError(f"{file}: is a link or no file; remove it or choose another folder")
        # Through a link this would truncate a file of somebody's.
        held = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(held, 200).decode(errors="replace").strip()
            os.close(held)
            raise StudyError(
                f"{folder}: in use by another run ({owner or 'just begun'}); wait for it, or"
                " choose another folder"
            ) from None
        try:
            if _is_still(file, held):
                os.truncate(held, 0)
                os.write(held, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return held
        except OSError:
            os.close(held)
            raise
        os.close(held)


def _is_still(file: Path, held: int) -> bool:
    """Say whether an open file is the one under its name: its last holder may have removed it."""
    try:
        return os.stat(file).st_ino == os.fstat(held).st_ino
    except FileNotFoundError:
        return False


def is_in_use(folder: Path) -> bool:
    try:
        held = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(held)


class Status(NamedTuple):
    """How far a folder's study has come.

    Attributes
    ----------
    study : str
        Its name.
    runs, runs_done : int
        Trainings asked for, and those that are kept.
    chunks : int
        How many there are to be.
    done, missing : list of str
        Chunks that are kept, and those of which there is nothing.
    damaged : list of str
        Files that are not what was written, or that something else has made.
    faults : list of str
        Why, of each of them.
    runs_failed : int
        Those of the runs that are kept which have failed; the next run tries them again.
    fits_missing : int
        Seeds for which estimators are still to be fitted.
    in_use : bool
        Whether a run is writing there now.
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
        """Whether nothing is left to do."""
        return not (self.missing or self.damaged or self.fits_missing)

    def lines(self) -> list[str]:
        """Return the status in words."""
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
            return [*lines, "a run is writing there now"]
        return lines if self.complete else [*lines, "run the same command again to continue"]


def status(folder: str | Path, *, allow_code: bool = False) -> Status:
    """Return how far a folder's study has come; nothing is changed.

    Parameters
    ----------
    folder : path
    allow_code : bool
        Whether a problem or scaler of a user's own, which the study names, may be imported.

    Raises
    ------
    StudyError
        If the folder is no study's.
    """
    folder = Path(folder)
    manifest = read_own_manifest(folder)
    study = read_own_study(folder, manifest, allow_code=allow_code)
    planned = plan(study, manifest["identity"]["chunk_size"])
    wanted = [] if study.record == "curves" else planned.chunks
    members = [members_of(own) for own in planned.groups]
    contents = contents_of(planned.groups, study.seeds, members) if wanted else {}
    stock = take_inventory(folder, contents, manifest, study.seeds)
    done = [chunk for chunk in wanted if str(chunk) in stock.kept]
    lost = {chunk_in(file) for file in stock.faults} | stock.kept.keys()
    tables = damaged_tables(folder, study, manifest)
    return Status(
        study=study.name,
        runs=planned.runs if wanted else 0,
        runs_done=planned.runs_of(done),
        chunks=len(wanted),
        done=[str(chunk) for chunk in done],
        missing=[
            *(name for name in map(str, wanted) if name not in lost),
            *_tables_missing(folder, manifest),
        ],
        damaged=[*(file.name for file in stock.faults), *tables],
        faults=[*stock.faults.values(), *("damaged" for _ in tables)],
        runs_failed=sum(stock.failed.values()),
        fits_missing=0 if ESTIMATORS in tables else _fits_missing(folder, planned, manifest),
        in_use=is_in_use(folder),
    )


def _tables_missing(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    return [name for name in manifest.get("files", {}) if not (folder / name).exists()]


def _fits_missing(folder: Path, planned: Plan, manifest: Mapping[str, Any]) -> int:
    if not planned.study.estimators:
        return 0
    return len(seeds_to_fit(planned.study, read_table(folder, ESTIMATORS, manifest)))


def seeds_to_fit(study: Study, fits: pd.DataFrame) -> list[int]:
    """Return the seeds on which a study's estimators are still to be fitted."""
    fitted = set(fits["seed"])
    return [seed for seed in range(*study.seeds) if seed not in fitted]
