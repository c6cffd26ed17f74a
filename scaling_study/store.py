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

import json
import os
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.errors import Stopped, StudyError
from scaling_study.experiment.conditions import Chunk, Condition
from scaling_study.experiment.plan import Plan
from scaling_study.experiment.study import Study, read_study
from scaling_study.experiment.values import told
from scaling_study.folder import (
    ELSEWHERE,
    ESTIMATORS,
    LOCK,
    checksum_of,
    chunk_files,
    damaged_in,
    holds_results,
    lock,
    metadata_of,
    read_estimators,
    read_own_manifest,
)
from scaling_study.identity import SCHEMA_VERSION, difference, made_by


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
            self._held = lock(folder)
        try:
            with told(f"{folder}: cannot be written", OSError):
                if overwrite:
                    self._clear()
                else:
                    self._continue()
                self.damaged = self._remove_damaged()
                self._chunks = {chunk: file for chunk, _, file in chunk_files(folder)}
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
        if not begun and not holds_results(self.folder):
            return
        manifest = read_own_manifest(self.folder)
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
        damaged = damaged_in(self.folder)
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
        made = metadata_of(pa.BufferReader(rows))
        self._check_make(chunk, made)
        name = f"{chunk}-{checksum_of(rows)}.parquet"
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
            found = (metadata_of(file)["program"] for file in kept)
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


def _plain(study: Study) -> dict[str, Any]:
    """Return what makes results those of one study: all of its text but words and seeds."""
    text = tomllib.loads(study.to_toml())
    asked = {key: text[key] for key in ("name", "record", "blocks")}
    return {**asked, "estimators": text.get("estimators", {})}


def _refuse_what_is_no_study(folder: Path) -> None:
    names = set(os.listdir(folder)) if folder.exists() else set[str]()
    if names & {"study.toml", "manifest.json"}:
        return
    others = [name for name in names if name not in (LOCK, "chunks") and not _is_temporary(name)]
    if others:
        raise StudyError("not empty and no study's folder; choose another")


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _sync(folder: Path) -> None:
    """Have the system write down which files a folder holds."""
    held = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)
