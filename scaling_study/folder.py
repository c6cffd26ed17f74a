"""A study's folder as it is found: its manifest, its chunks, what is damaged, who writes there."""

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.errors import StudyError
from scaling_study.experiment.plan import Plan, plan
from scaling_study.experiment.study import Study, read_study
from scaling_study.experiment.values import told
from scaling_study.identity import SCHEMA_VERSION
from scaling_study.schema import (
    CHECKSUM,
    CHUNKS,
    CONDITIONS,
    ESTIMATORS,
    FIT_COLUMNS,
    LOCK,
    MANIFEST,
    STUDY,
    check_conditions,
    check_fits,
    check_manifest,
    check_runs,
    chunk_of,
    made_of,
    rows_by_chunk,
)

ELSEWHERE = "choose another folder or say --overwrite"
MEND = "run its study again to mend it"
UNREADABLE = (OSError, ValueError, pa.ArrowException)  # what Arrow raises of a file's bytes


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest, whose keys are of the types that they should be.

    Raises
    ------
    StudyError
        If there is none, or it is not of a schema that this release reads.
    """
    file = folder / MANIFEST
    with told(folder, OSError):
        if not file.is_file():
            raise StudyError(f"no results here (no {MANIFEST}); run a study first")
    with told(file, OSError, ValueError, RecursionError):
        manifest = json.loads(file.read_text(encoding="utf-8"))
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


# Chunks -------------------------------------------------------------------------------------


def chunk_files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the chunk, the checksum and the file of each chunk that is kept, in their order.

    A file under any other name is not ours.
    """
    place = folder / CHUNKS
    with told(place, OSError):
        names = sorted(os.listdir(place)) if os.path.lexists(place) else []
    for name in names:
        if found := chunk_of(name):
            yield *found, place / name


def holds_results(folder: Path) -> bool:
    return (folder / ESTIMATORS).exists() or any(True for _ in chunk_files(folder))


def fault_of(file: Path, checksum: str, rows: int | None = None) -> str:
    """Say why a file is not the chunk that was written; nothing if it is.

    Parameters
    ----------
    file : path
    checksum : str
        Empty in schema 1, which had none.
    rows : int, optional
        How many it should have.
    """
    with told(file, OSError):
        data = file.read_bytes()
    if checksum and checksum_of(data) != checksum:
        return "damaged"
    try:
        found = pq.ParquetFile(pa.BufferReader(data))
        check_runs(found.schema_arrow)
        if checksum:
            made_of(found.schema_arrow)
    except UNREADABLE as error:
        return _no_table("chunk", error)
    count = found.metadata.num_rows
    return "" if rows in (None, count) else f"no chunk of this study: {count} rows, not {rows}"


def kept_chunks(folder: Path, rows: Mapping[str, int]) -> tuple[dict[str, Path], list[Path]]:
    """Return the chunks that are whole with their files, and the files that are not.

    Parameters
    ----------
    folder : path
    rows : mapping of str to int
        How many rows each chunk of the study has. There may be others, of other seeds.
    """
    kept, damaged = dict[str, Path](), list[Path]()
    for chunk, checksum, file in chunk_files(folder):
        if not fault_of(file, checksum, rows.get(chunk)):
            kept[chunk] = file
        elif chunk in rows:
            damaged.append(file)
    return kept, damaged


def metadata_of(source: Any) -> dict[str, Any]:
    """Return who made a chunk, and why runs of it failed, from its file or bytes."""
    return made_of(pq.read_schema(source))


def checksum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:CHECKSUM]


def _no_table(what: str, error: Exception) -> str:
    (first, *_) = str(error).splitlines() or [type(error).__name__]
    return f"no {what} of ours: {first}"


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
    with told(file, OSError):
        data = file.read_bytes()
    with told(file):
        if fault := _table_fault(data, name, manifest):
            raise StudyError(f"{fault}; {MEND}")
        frame = pq.read_table(pa.BufferReader(data)).to_pandas()
        if name == CONDITIONS and frame["condition"].duplicated().any():
            raise StudyError("names a condition more than once")
    return frame


def damaged_tables(folder: Path, study: Study, manifest: Mapping[str, Any]) -> list[str]:
    """Return which of a study's conditions and fits are there and not what was written."""
    damaged = []
    for name in (CONDITIONS, ESTIMATORS) if study.estimators else (CONDITIONS,):
        file = folder / name
        with told(file, OSError):
            if file.exists() and _table_fault(file.read_bytes(), name, manifest):
                damaged.append(name)
    return damaged


def _table_fault(data: bytes, name: str, manifest: Mapping[str, Any]) -> str:
    # Earlier releases of schema 2 kept no checksum of these.
    if manifest.get("files", {}).get(name, checksum_of(data)) != checksum_of(data):
        return "damaged"
    try:
        # All of it is decoded: it is small, and without a checksum nothing else would tell.
        schema = pq.read_table(pa.BufferReader(data)).schema
        if name == CONDITIONS:
            check_conditions(schema, manifest["schema_version"])
        else:
            check_fits(schema)
    except UNREADABLE as error:
        return _no_table("table", error)
    return ""


# Who writes ---------------------------------------------------------------------------------


def lock(folder: Path) -> int:
    """Return a file descriptor that holds a folder's lock, which ends with its process."""
    file = folder / LOCK
    while True:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise StudyError(f"{file}: is a link or no file; remove it or choose another folder")
        # Through a link this would truncate a file of somebody's.
        held = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(held, 200).decode(errors="replace").strip()
            os.close(held)
            raise StudyError(
                f"{folder}: in use by another run ({owner or 'just begun'}); wait for it, or"
                " choose another folder"
            ) from None
        with suppress(FileNotFoundError):
            # Whoever held it before may have removed it in between.
            if os.stat(file).st_ino == os.fstat(held).st_ino:
                os.truncate(held, 0)
                os.write(held, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return held
        os.close(held)


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
        Files that are not what was written.
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
        if self.fits_missing:
            counts["estimators"] = f"{self.fits_missing:,} seeds to fit"
        lines = [f"{key:<12}{value}" for key, value in counts.items()]
        lines += [f"{'':<12}{name}" for name in self.damaged[:10]]
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
    study = read_study(folder / STUDY, allow_code=allow_code)
    planned = plan(study, manifest["identity"]["chunk_size"])
    wanted = [] if study.record == "curves" else planned.chunks
    whole, damaged = kept_chunks(folder, rows_by_chunk(planned.groups, study.seeds))
    lost = {chunk for chunk, _, file in chunk_files(folder) if file in damaged}
    done = [chunk for chunk in wanted if str(chunk) in whole]
    missing = [str(c) for c in wanted if str(c) not in whole and str(c) not in lost]
    tables = damaged_tables(folder, study, manifest)
    return Status(
        study=study.name,
        runs=planned.runs if wanted else 0,
        runs_done=planned.runs_of(done),
        chunks=len(wanted),
        done=[str(chunk) for chunk in done],
        missing=[*missing, *_tables_missing(folder, manifest)],
        damaged=[*(file.name for file in damaged), *tables],
        fits_missing=0 if ESTIMATORS in tables else _fits_missing(folder, planned, manifest),
        in_use=is_in_use(folder),
    )


def _tables_missing(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    return [name for name in manifest.get("files", {}) if not (folder / name).exists()]


def _fits_missing(folder: Path, planned: Plan, manifest: Mapping[str, Any]) -> int:
    if not planned.study.estimators:
        return 0
    fitted = set(read_table(folder, ESTIMATORS, manifest)["seed"])
    return len(set(range(*planned.study.seeds)) - fitted)
