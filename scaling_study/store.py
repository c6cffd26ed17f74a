"""What is kept: one folder a study, written by one process at a time.

results/article/
  study.toml        the resolved study, every default written out
  manifest.json     what the results share; once a run is over, also its devices, commit and
                    timings, and the names of its chunks
  conditions.parquet
  chunks/           GROUP-CONDITIONS-SEEDS-CHECKSUM.parquet: one row per run; its features are
                    columns of it, its trace lists; its metadata say who made it
  estimators.parquet  where the study asks scikit-learn's estimators: one row per fit
  .lock             while a run writes

A file is written under another name, synced and renamed: it is there whole or not at all.
"""

import fcntl
import hashlib
import json
import os
import socket
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.errors import Stopped, StudyError
from scaling_study.experiment.conditions import Chunk, Condition
from scaling_study.experiment.plan import Plan, plan
from scaling_study.experiment.study import Study, read_study
from scaling_study.experiment.values import told
from scaling_study.identity import METADATA, SCHEMA_VERSION, difference, made_by

READABLE = (1, SCHEMA_VERSION)
LOCK = ".lock"
CHECKSUM = 16  # hexadecimal digits of it
ESTIMATORS = "estimators.parquet"
FIT_COLUMNS = (
    *("comparison", "dataset", "estimator", "scaler", "seed"),
    *("train_rows", "test_rows", "accuracy", "stopped_early"),
)
ELSEWHERE = "choose another folder or say --overwrite"


class Store:
    """The one writer of a study's folder, from when it is made until it is closed.

    Parameters
    ----------
    folder : path
    study : Study
    identity : dict
        What, beside the study, results of one folder must share; see `identity`.
    overwrite : bool
        Remove what another study left there, and nothing that is not a study's.

    Attributes
    ----------
    damaged : list of str
        The chunks that were not what was written, and have been removed.

    Raises
    ------
    StudyError
        If the folder holds something else, is in use, or cannot be written.
    """

    def __init__(
        self, folder: Path, study: Study, identity: dict[str, Any], *, overwrite: bool = False
    ) -> None:
        self.folder, self.study, self.identity = folder, study, identity
        with told(folder, OSError):
            _refuse_what_is_no_study(folder)
        with told(f"{folder}: cannot be written", OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._held = _lock(folder)
        try:
            with told(f"{folder}: cannot be written", OSError):
                if overwrite:
                    self._clear()
                else:
                    self._continue()
                self.damaged = self._remove_damaged()
                self._chunks = {chunk: file for chunk, _, file in _chunk_files(folder)}
                self._programs: dict[int, str] = {}
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write."""
        if self._held is not None:
            (self.folder / LOCK).unlink(missing_ok=True)
            os.close(self._held)
            self._held = None

    def _clear(self) -> None:
        """Remove a study's files, the chunks first: what is left is always some study's."""
        chunks = self.folder.glob("chunks/*.parquet")
        names = ("conditions.parquet", ESTIMATORS, "manifest.json", "study.toml")
        for file in [*chunks, *(self.folder / name for name in names)]:
            file.unlink(missing_ok=True)
        self._remove_temporary()

    def _remove_temporary(self) -> None:
        for file in [*self.folder.glob(".*.tmp"), *self.folder.glob("chunks/.*.tmp")]:
            file.unlink(missing_ok=True)

    def _continue(self) -> None:
        """Refuse another study's results; let the seeds grow by those of the same study's."""
        self._remove_temporary()
        begun = all((self.folder / name).exists() for name in ("manifest.json", "study.toml"))
        if not begun and not _holds_results(self.folder):
            return
        manifest = _read_own_manifest(self.folder)
        stored = read_study(self.folder / "study.toml")
        theirs = {**_plain(stored), **manifest.get("identity", {})}
        ours = {**_plain(self.study), **self.identity}
        different = difference(theirs, json.loads(json.dumps(ours)))
        if different:
            raise StudyError(f"{self.folder}: holds another study ({different}); {ELSEWHERE}")
        (first, last), (a, b) = self.study.seeds, stored.seeds
        if "chunks" in manifest and a <= last and first <= b:
            self.study = self.study.with_seeds((min(first, a), max(last, b)))

    def _remove_damaged(self) -> list[str]:
        damaged = _damaged(self.folder)
        for name in damaged:
            (self.folder / "chunks" / name).unlink()
        return damaged

    def begin(self, conditions: list[Condition]) -> None:
        """Write what is known before anything has run."""
        self._write_manifest({})
        self._write("study.toml", self.study.to_toml().encode())
        (self.folder / "chunks").mkdir(exist_ok=True)
        frame = pd.DataFrame([condition.row() for condition in conditions])
        for name in frame.columns[frame.dtypes == np.dtype(object)]:
            frame[name] = frame[name].astype("string")
        self._write("conditions.parquet", _parquet(frame))

    def has(self, chunk: Chunk) -> bool:
        """Say whether a chunk is kept."""
        return str(chunk) in self._chunks

    def put(self, chunk: Chunk, rows: bytes) -> list[str]:
        """Write a chunk's file, whole or not at all, and return why runs of it failed.

        Parameters
        ----------
        chunk : Chunk
        rows : bytes
            Of `scaling_study.engine.chunk.run_chunk`.

        Raises
        ------
        StudyError
            If it was made by other versions, on another platform or by another program than
            the chunks that are kept. Nothing has been written then.
        Stopped
            If the file cannot be written, because the disk is full, say.
        """
        made = _metadata(pa.BufferReader(rows))
        self._check_make(chunk, made)
        name = f"{chunk}-{_digest(rows)}.parquet"
        self._write(f"chunks/{name}", rows)
        self._chunks[str(chunk)] = self.folder / "chunks" / name
        return made["failures"]

    def _check_make(self, chunk: Chunk, made: dict[str, Any]) -> None:
        """Refuse a chunk that is not of one make with the others."""
        theirs = {key: made[key] for key in ("schema_version", "platform", "packages", "source")}
        theirs |= {"code": {**self.identity["code"], **made["code"]}}
        ours = {key: self.identity[key] for key in theirs}
        different = difference(theirs, ours)
        if different:
            raise StudyError(
                f"{self.folder}: chunk {chunk} was made elsewhere ({different}); what computes"
                " must be what asks"
            )
        kept = self._program_of(chunk.group)
        if kept and made["program"] not in ("", kept):
            raise StudyError(
                f"{self.folder}: the program of group {chunk.group} is {made['program']}, not"
                f" {kept}: code has changed since; {ELSEWHERE}"
            )

    def _program_of(self, group: int) -> str:
        """Return the digest of the program that made a group's chunks, empty if none did."""
        if not self._programs.get(group):
            of_group = f"{Chunk(group, 0, 0)}".partition("-")[0] + "-"
            kept = (file for name, file in self._chunks.items() if name.startswith(of_group))
            found = (_metadata(file)["program"] for file in kept)
            self._programs[group] = next(filter(None, found), "")
        return self._programs[group]

    def estimators(self) -> pd.DataFrame:
        """Return the fits that are kept, whatever their seeds."""
        return read_estimators(self.folder)

    def put_estimators(self, fits: pd.DataFrame) -> None:
        """Write the fits, those that were kept before among them, whole or not at all."""
        self._write(ESTIMATORS, _parquet(fits))

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, which makes the folder one that `scaling_study.load` reads."""
        _sync(self.folder / "chunks")
        chunks = sorted(file.name for file in self._chunks.values())
        self._write_manifest({**manifest, "chunks": chunks})

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        whole = {"schema_version": SCHEMA_VERSION, "identity": self.identity, **manifest}
        self._write("manifest.json", json.dumps(whole, indent=2).encode() + b"\n")

    def _write(self, name: str, data: bytes) -> None:
        target = self.folder / name
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            raise Stopped(
                f"{target}: cannot be written: {error.strerror}; all that is stored is whole, run"
                " the same command again to continue"
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


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
    manifest = _read_own_manifest(folder)
    study = read_study(folder / "study.toml", allow_code=allow_code)
    planned = plan(study, manifest["identity"]["chunk_size"])
    damaged = _damaged(folder)
    whole = {chunk for chunk, _, file in _chunk_files(folder) if file.name not in damaged}
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
        in_use=_in_use(folder),
    )


def identity(platform: str, planned: Plan) -> dict[str, Any]:
    """Return what results must share, beside the study, to lie in one folder.

    Parameters
    ----------
    platform : str
        As JAX names it.
    planned : Plan
    """
    return {
        **made_by(platform, planned.study.components()),
        "chunk_size": planned.chunk_runs,
        "chunk_shapes": [list(group.shape) for group in planned.groups],
    }


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


def _read_own_manifest(folder: Path) -> dict[str, Any]:
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


def _refuse_what_is_no_study(folder: Path) -> None:
    names = set(os.listdir(folder)) if folder.exists() else set[str]()
    if names & {"study.toml", "manifest.json"}:
        return
    others = [name for name in names if name not in (LOCK, "chunks") and not _is_temporary(name)]
    if others:
        raise StudyError("not empty and no study's folder; choose another")


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _holds_results(folder: Path) -> bool:
    return (folder / ESTIMATORS).exists() or any(True for _ in _chunk_files(folder))


def _chunk_files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the chunk, the checksum and the file of each chunk that is kept, in their order."""
    for file in sorted(folder.glob("chunks/*-*-*-*.parquet")):
        chunk, _, checksum = file.stem.rpartition("-")
        yield chunk, checksum, file


def _damaged(folder: Path) -> list[str]:
    """Return the names of chunk files that are not what was written."""
    return [file.name for _, checksum, file in _chunk_files(folder) if _sum(file) != checksum]


def _metadata(source: Any) -> dict[str, Any]:
    """Return who made a chunk, and why runs of it failed, from its file or bytes."""
    return json.loads(pq.read_schema(source).metadata[METADATA])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:CHECKSUM]


def _sum(file: Path) -> str:
    with told(file, OSError):
        return _digest(file.read_bytes())


def _sync(folder: Path) -> None:
    """Have the system write down which files a folder holds."""
    held = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def _lock(folder: Path) -> int:
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


def _in_use(folder: Path) -> bool:
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


def _parquet(frame: pd.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink)
    return sink.getvalue().to_pybytes()


def _plain(study: Study) -> dict[str, Any]:
    """Return what makes results those of one study: all of its text but words and seeds."""
    text = tomllib.loads(study.to_toml())
    asked = {key: text[key] for key in ("name", "record", "blocks")}
    return {**asked, "estimators": text.get("estimators", {})}
