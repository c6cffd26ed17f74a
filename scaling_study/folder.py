"""A study's folder as it is found: its manifest, its chunks, what is damaged, who writes there."""

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from scaling_study.errors import StudyError
from scaling_study.experiment.plan import Plan, plan
from scaling_study.experiment.study import read_study
from scaling_study.experiment.values import told
from scaling_study.identity import METADATA, SCHEMA_VERSION

READABLE = (1, SCHEMA_VERSION)
LOCK = ".lock"
CHECKSUM = 16  # hexadecimal digits of it
ESTIMATORS = "estimators.parquet"
FIT_COLUMNS = (
    *("comparison", "dataset", "estimator", "scaler", "seed"),
    *("train_rows", "test_rows", "accuracy", "stopped_early"),
)
ELSEWHERE = "choose another folder or say --overwrite"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a folder's manifest.

    Raises
    ------
    StudyError
        If there is none, or it is not of a schema that this release reads.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        raise StudyError(f"{folder}: no results here (no manifest.json); run a study first")
    with told(file, OSError, ValueError):
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise StudyError("not a manifest")
        version = manifest.get("schema_version")
        if version not in READABLE or isinstance(version, bool):
            raise StudyError(
                f"schema version {version}, this release reads {' and '.join(map(str, READABLE))};"
                " read it with the release that wrote it"
            )
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


def check_chunk(file: Path) -> None:
    """Raise a `StudyError` unless a chunk's file is what was written.

    Those of schema 1 have no checksum, and pass.
    """
    checksum = file.stem.rpartition("-")[2]
    if len(checksum) == CHECKSUM and _sum(file) != checksum:
        raise StudyError("damaged; run its study again to mend it")


def read_estimators(folder: Path) -> pd.DataFrame:
    """Return the fits of scikit-learn's estimators that a folder keeps."""
    file = folder / ESTIMATORS
    if not file.exists():
        return pd.DataFrame(columns=list(FIT_COLUMNS))
    with told(file, OSError, ValueError):
        return pq.read_table(file).to_pandas()


def _fits_missing(folder: Path, planned: Plan) -> int:
    if not planned.study.estimators:
        return 0
    return len(set(range(*planned.study.seeds)) - set(read_estimators(folder)["seed"]))


def holds_results(folder: Path) -> bool:
    return (folder / ESTIMATORS).exists() or any(True for _ in chunk_files(folder))


def chunk_files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the chunk, the checksum and the file of each chunk that is kept, in their order."""
    for file in sorted(folder.glob("chunks/*-*-*-*.parquet")):
        chunk, _, checksum = file.stem.rpartition("-")
        yield chunk, checksum, file


def damaged_in(folder: Path) -> list[str]:
    """Return the names of chunk files that are not what was written."""
    return [file.name for _, checksum, file in chunk_files(folder) if _sum(file) != checksum]


def metadata_of(source: Any) -> dict[str, Any]:
    """Return who made a chunk, and why runs of it failed, from its file or bytes."""
    return json.loads(pq.read_schema(source).metadata[METADATA])


def checksum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:CHECKSUM]


def _sum(file: Path) -> str:
    with told(file, OSError):
        return checksum_of(file.read_bytes())


def lock(folder: Path) -> int:
    """Return a file descriptor that holds a folder's lock, which ends with its process."""
    file = folder / LOCK
    while True:
        held = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
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
        held = os.open(folder / LOCK, os.O_RDWR)
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
        Chunks that are kept, and those that are not.
    damaged : list of str
        Files that are not what was written; their chunks are missing too.
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
        return not (self.missing or self.fits_missing)

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
    study = read_study(folder / "study.toml", allow_code=allow_code)
    planned = plan(study, manifest["identity"]["chunk_size"])
    damaged = damaged_in(folder)
    whole = {chunk for chunk, _, file in chunk_files(folder) if file.name not in damaged}
    wanted = [] if study.record == "curves" else planned.chunks
    done = [chunk for chunk in wanted if str(chunk) in whole]
    missing = [str(chunk) for chunk in wanted if str(chunk) not in whole]
    fits = _fits_missing(folder, planned)
    return Status(
        study=study.name,
        runs=planned.runs if wanted else 0,
        runs_done=planned.runs_of(done),
        chunks=len(wanted),
        done=[str(chunk) for chunk in done],
        missing=missing,
        damaged=damaged,
        fits_missing=fits,
        in_use=is_in_use(folder),
    )
