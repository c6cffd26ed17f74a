"""What is kept: one folder a study, written by one process at a time.

results/article/
  study.toml        the resolved study, every default written out
  manifest.json     what the results share, and the tables' checksums; once a run is over, also
                    its devices, commit and timings, and the names of its chunks
  conditions.parquet
  chunks/           GROUP-CONDITIONS-SEEDS-CHECKSUM.parquet: one row per run; its features are
                    columns of it, its trace lists; its metadata say who made it
  estimators.parquet  where the study asks scikit-learn's estimators: one row per fit
  .lock             while a run writes

A file is written under another name, synced and renamed: it is there whole or not at all.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.errors import Stopped, StudyError
from scaling_study.experiment.conditions import Chunk, Condition
from scaling_study.experiment.plan import Plan
from scaling_study.experiment.study import Study, read_seeds, read_study
from scaling_study.experiment.values import told
from scaling_study.folder import (
    ELSEWHERE,
    checksum_of,
    chunk_files,
    damaged_tables,
    holds_results,
    kept_chunks,
    lock,
    metadata_of,
    read_own_manifest,
    read_table,
)
from scaling_study.identity import SCHEMA_VERSION, asked, difference, made_by
from scaling_study.schema import (
    CHUNKS,
    CONDITIONS,
    ESTIMATORS,
    LOCK,
    MANIFEST,
    STUDY,
    chunk_of,
    is_manifest,
    is_temporary,
    rows_by_chunk,
)


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
    study : Study
        What the folder is to hold when the run is over: the seeds that were asked for, and
        those of a finished run that lie beside them.
    damaged : list of str
        The chunks of that study that were not what was written, and have been removed.

    Raises
    ------
    StudyError
        If the folder holds something else, is in use, or cannot be written.
    """

    def __init__(
        self, folder: Path, study: Study, identity: dict[str, Any], *, overwrite: bool = False
    ) -> None:
        self.folder, self.study, self.identity = folder, study, identity
        self.damaged: list[str] = []
        self._manifest: dict[str, Any] = {}  # as it was found
        self._kept: dict[str, Path] = {}  # the chunks of any seeds that are whole
        self._planned: set[str] = set()
        self._sums: dict[str, str] = {}  # of the tables beside the chunks
        self._programs: dict[int, str] = {}
        with told(folder, OSError):
            _refuse_what_is_no_study(folder)
        with _unwritable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._held = lock(folder)
        try:
            with _unwritable(folder):
                self._remove_temporary()
                if overwrite:
                    self._clear()
                else:
                    self._continue()
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
        chunks = [file for _, _, file in chunk_files(self.folder)]
        names = (CONDITIONS, ESTIMATORS, MANIFEST, STUDY)
        for file in [*chunks, *(self.folder / name for name in names)]:
            file.unlink(missing_ok=True)

    def _remove_temporary(self) -> None:
        for place in (self.folder, self.folder / CHUNKS):
            for name in _names_in(place):
                if is_temporary(name):
                    (place / name).unlink()

    def _continue(self) -> None:
        """Refuse another study's results; let the seeds grow by those of the same study's."""
        lost = [name for name in (MANIFEST, STUDY) if not (self.folder / name).exists()]
        if lost and holds_results(self.folder):
            raise StudyError(
                f"{self.folder}: has lost its {lost[0]}, without which nobody can say what its"
                f" results are; {ELSEWHERE}"
            )
        if lost:
            return
        self._manifest = read_own_manifest(self.folder)
        stored = read_study(self.folder / STUDY)
        theirs = {**asked(stored), **self._manifest["identity"]}
        ours = {**asked(self.study), **self.identity}
        different = difference(theirs, json.loads(json.dumps(ours)))
        if different:
            raise StudyError(f"{self.folder}: holds another study ({different}); {ELSEWHERE}")
        if "seeds" in self._manifest:
            (first, last), (a, b) = self.study.seeds, read_seeds(self._manifest["seeds"])
            if a <= last and first <= b:
                self.study = self.study.with_seeds((min(first, a), max(last, b)))

    def begin(self, planned: Plan) -> list[Chunk]:
        """Write what is known before anything has run, and return the chunks that are to be.

        Parameters
        ----------
        planned : Plan
            Of the store's study.
        """
        with _unwritable(self.folder):
            (self.folder / CHUNKS).mkdir(exist_ok=True)
            self._remove_damaged(planned)
        conditions = _parquet(_frame(planned.conditions))
        self._sums[CONDITIONS] = checksum_of(conditions)
        self._write_begun()
        self._write(STUDY, self.study.to_toml().encode())
        self._write(CONDITIONS, conditions)
        if self.study.record == "curves":
            return planned.chunks
        return [chunk for chunk in planned.chunks if str(chunk) not in self._kept]

    def _remove_damaged(self, planned: Plan) -> None:
        """Take stock of what is whole, and remove what is not and will be made again."""
        rows = rows_by_chunk(planned.groups, planned.study.seeds)
        self._planned = set(rows)
        self._kept, damaged = kept_chunks(self.folder, rows)
        for file in damaged:
            file.unlink()
        self.damaged = [file.name for file in damaged]
        fits = self.folder / ESTIMATORS
        if ESTIMATORS in damaged_tables(self.folder, self.study, self._manifest):
            fits.unlink()
        if self.study.estimators and fits.exists():
            self._sums[ESTIMATORS] = checksum_of(fits.read_bytes())

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
        with told(f"{self.folder}: chunk {chunk}", ValueError, pa.ArrowException):
            made = metadata_of(pa.BufferReader(rows))
        self._check_make(chunk, made)
        name = f"{chunk}-{checksum_of(rows)}.parquet"
        self._write(f"{CHUNKS}/{name}", rows)
        self._kept[str(chunk)] = self.folder / CHUNKS / name
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
            kept = (file for name, file in self._kept.items() if name.startswith(of_group))
            found = (metadata_of(file)["program"] for file in kept)
            self._programs[group] = next(filter(None, found), "")
        return self._programs[group]

    def estimators(self) -> pd.DataFrame:
        """Return the fits that are kept, whatever their seeds."""
        return read_table(self.folder, ESTIMATORS, {"files": self._sums})

    def put_estimators(self, fits: pd.DataFrame) -> None:
        """Write the fits, those that were kept before among them, whole or not at all."""
        data = _parquet(fits)
        # A kill between two writes must not leave a checksum that is of neither.
        self._sums.pop(ESTIMATORS, None)
        self._write_begun()
        self._write(ESTIMATORS, data)
        self._sums[ESTIMATORS] = checksum_of(data)
        self._write_begun()

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, which makes the folder one that `scaling_study.load` reads."""
        _sync(self.folder / CHUNKS)
        names = [file.name for chunk, file in self._kept.items() if chunk in self._planned]
        self._write_manifest({**manifest, "chunks": sorted(names)})

    def _write_begun(self) -> None:
        """Write the manifest of a run that is not over; what a finished one held stays promised."""
        seeds = self._manifest.get("seeds")
        self._write_manifest({"seeds": seeds} if seeds else {})

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        own = {"schema_version": SCHEMA_VERSION, "identity": self.identity, "files": self._sums}
        self._write(MANIFEST, json.dumps({**own, **manifest}, indent=2).encode() + b"\n")

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


def _parquet(frame: pd.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink)
    return sink.getvalue().to_pybytes()


def _frame(conditions: list[Condition]) -> pd.DataFrame:
    frame = pd.DataFrame([condition.row() for condition in conditions])
    for name in frame.columns[frame.dtypes == np.dtype(object)]:
        frame[name] = frame[name].astype("string")
    return frame


@contextmanager
def _unwritable(folder: Path) -> Iterator[None]:
    """Say of what the system refuses that it is the folder which cannot be written."""
    try:
        yield
    except OSError as error:
        raise StudyError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.exists() else []


def _refuse_what_is_no_study(folder: Path) -> None:
    if (folder / CHUNKS).is_symlink():
        raise StudyError(f"its {CHUNKS} is a link to somewhere else; choose another folder")
    names = _names_in(folder)
    ours = _is_a_studys(folder) if {MANIFEST, STUDY} & set(names) else _is_bare(folder, names)
    if not ours:
        raise StudyError("not empty and no study's folder; choose another")


def _is_a_studys(folder: Path) -> bool:
    """Say whether a manifest or, where it is lost, a study's text is one that we have written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        with suppress(StudyError):
            file = folder / STUDY
            return read_study(file).to_toml().encode() == file.read_bytes()
        return False
    return is_manifest(manifest)


def _is_bare(folder: Path, names: list[str]) -> bool:
    """Say whether there is nothing but what a run writes before its manifest, or keeps after."""
    inside = _names_in(folder / CHUNKS) if CHUNKS in names else []
    return all(name in (LOCK, CHUNKS) or is_temporary(name) for name in names) and all(
        chunk_of(name) or is_temporary(name) for name in inside
    )


def _sync(folder: Path) -> None:
    """Have the system write down which files a folder holds."""
    held = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)
