"""What is kept: one folder a study, written by one process at a time.

results/article/
  study.toml        the resolved study, every default written out
  manifest.json     what the results share, and the checksums of the other files and of itself;
                    once a run is over, also its devices, commit and timings, and the names of
                    its chunks
  conditions.parquet
  chunks/           GROUP-CONDITIONS-SEEDS-CHECKSUM.parquet: one row per run; its features are
                    columns of it, its trace lists; its metadata say who made it
  estimators.parquet  where the study asks scikit-learn's estimators: one row per fit
  .lock             while a run writes

A file is written under another name, synced and renamed: it is there whole or not at all.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.errors import DamagedError, RunInterrupted, StudyError
from scaling_study.files import checksum_of, read_bytes
from scaling_study.storage.inventory import (
    Inventory,
    chunk_files,
    holds_results,
    metadata_of,
    take_inventory,
)
from scaling_study.storage.provenance import (
    SCHEMA_VERSION,
    asked,
    difference,
    provenance,
    provenance_difference,
    study_digest,
)
from scaling_study.storage.reader import (
    ELSEWHERE,
    damaged_tables,
    lock,
    read_own_manifest,
    read_own_study,
    read_table,
)
from scaling_study.storage.schema import (
    CHUNKS,
    CONDITIONS,
    ESTIMATORS,
    LOCK,
    MANIFEST,
    STUDY,
    chunk_of,
    contents_of,
    is_manifest,
    is_temporary,
    members_of,
    signed,
)
from scaling_study.study.conditions import Chunk, Condition
from scaling_study.study.plan import Plan
from scaling_study.study.study import Study, read_seeds, read_study
from scaling_study.study.values import error_context


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
        The chunks of that study that were not what was written, and have been removed, each
        with the reason.

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
        self._stock = Inventory({}, {}, {}, {})
        self._sums: dict[str, str] = {}  # of the files beside the chunks
        self._rebuilding = False  # the manifest was lost
        with error_context(folder, OSError):
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
            held, self._held = self._held, None
            with suppress(OSError):  # the folder may have vanished
                (self.folder / LOCK).unlink()
            os.close(held)

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
        if not any((self.folder / name).exists() for name in (MANIFEST, STUDY)):
            if holds_results(self.folder):
                raise StudyError(
                    f"{self.folder}: has lost its {MANIFEST} and its {STUDY}, without which nobody"
                    f" can say what its results are; {ELSEWHERE}"
                )
            return
        try:
            if not (self.folder / MANIFEST).exists():
                raise DamagedError(f"{self.folder}: has lost its {MANIFEST}")
            self._manifest = read_own_manifest(self.folder)
        except DamagedError as error:
            self._rebuild(error)
        theirs, ours = self._manifest["identity"], self.identity
        if {"study"} & theirs.keys() and theirs["study"] != ours.get("study"):
            theirs, ours = self._named(theirs, ours)
        elif "study" not in theirs:  # an earlier release
            stored = read_study(self.folder / STUDY)
            theirs, ours = {**asked(stored), **theirs}, {**asked(self.study), **ours}
        different = difference(theirs, json.loads(json.dumps(ours)))
        if different:
            raise StudyError(f"{self.folder}: holds another study ({different}); {ELSEWHERE}")
        if "seeds" in self._manifest:
            (first, last), (a, b) = self.study.seeds, read_seeds(self._manifest["seeds"])
            if a <= last and first <= b:
                self.study = self.study.with_seeds((min(first, a), max(last, b)))

    def _named(self, theirs: dict[str, Any], ours: dict[str, Any]) -> tuple[Any, Any]:
        """Return two identities with the keys of their studies, which differ, in place of digests.

        Raises
        ------
        StudyError
            If the folder's study is not what was written, so that it cannot be compared.
        """
        stored = read_own_study(self.folder, self._manifest)
        return {**asked(stored), **theirs, "study": ""}, {**asked(self.study), **ours, "study": ""}

    def _rebuild(self, error: StudyError) -> None:
        """Go on without a manifest, if the chunks themselves say whose they are.

        They are then read against the plan and this identity; none may differ.
        """
        try:
            stored = read_study(self.folder / STUDY)
        except StudyError:
            raise error from None
        if asked(stored) != asked(self.study):
            raise StudyError(
                f"{error}; to keep its results, run the study of its {STUDY} again"
            ) from None
        self._rebuilding = True
        identity = json.loads(json.dumps(self.identity))
        self._manifest = {"schema_version": SCHEMA_VERSION, "identity": identity}

    def begin(self, planned: Plan) -> list[Chunk]:
        """Write what is known before anything has run, and return the chunks that are to be.

        Those in which runs have failed are among them.

        Parameters
        ----------
        planned : Plan
            Of the store's study.
        """
        with _unwritable(self.folder):
            (self.folder / CHUNKS).mkdir(exist_ok=True)
            self._take_stock(planned)
        self._write_tables(
            {STUDY: self.study.to_toml().encode(), CONDITIONS: _parquet(_frame(planned.conditions))}
        )
        if self.study.record == "curves":
            return list(planned.chunks)
        kept, failed = self._stock.kept, self._stock.failed
        return [c for c in planned.chunks if str(c) not in kept or str(c) in failed]

    def _take_stock(self, planned: Plan) -> None:
        """Find what is whole, and remove what is not and will be made again."""
        seeds, curves = planned.study.seeds, planned.study.record == "curves"
        members = [members_of(own) for own in planned.groups]
        contents = {} if curves else contents_of(planned.groups, seeds, members)
        found = {"identity": self.identity, **self._manifest}
        self._stock = take_inventory(self.folder, contents, found, seeds)
        foreign = [file for file, fault in self._stock.faults.items() if "foreign" in fault]
        if self._rebuilding and foreign:
            raise StudyError(
                f"{self.folder}: its {MANIFEST} is lost or damaged, and {foreign[0].name} is not a"
                f" chunk of this run ({self._stock.faults[foreign[0]]}); {ELSEWHERE}"
            )
        for file in self._stock.faults:
            file.unlink()
        self.damaged = [f"{file.name}: {fault}" for file, fault in self._stock.faults.items()]
        fits = self.folder / ESTIMATORS
        if ESTIMATORS in damaged_tables(self.folder, self.study, self._manifest):
            fits.unlink()
        if self.study.estimators and fits.exists():
            self._sums[ESTIMATORS] = checksum_of(read_bytes(fits))

    def _write_tables(self, tables: dict[str, bytes]) -> None:
        """Write files beside the chunks, and then their checksums.

        While a file changes the manifest has no checksum of it: a kill between two writes must
        not leave one that is of neither.
        """
        for name, data in tables.items():
            file = self.folder / name
            if file.is_file() and read_bytes(file) == data:
                self._sums[name] = checksum_of(data)
            else:
                self._sums.pop(name, None)
        self._write_begun()
        changed = tables.keys() - self._sums.keys()
        for name in tables:
            if name in changed:
                self._write(name, tables[name])
                self._sums[name] = checksum_of(tables[name])
        if changed:
            self._write_begun()

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
        RunInterrupted
            If the file cannot be written, because the disk is full, say.
        """
        with error_context(f"{self.folder}: chunk {chunk}", ValueError, pa.ArrowException):
            made = metadata_of(rows)
        self._check_make(chunk, made)
        name = f"{chunk}-{checksum_of(rows)}.parquet"
        self._write(f"{CHUNKS}/{name}", rows)
        before = self._stock.kept.get(str(chunk))
        self._stock.kept[str(chunk)] = self.folder / CHUNKS / name
        if before is not None and before.name != name:  # runs of it had failed
            with _stopping(before):
                before.unlink(missing_ok=True)
        group = str(chunk).partition("-")[0]
        if made["program"] and group not in self._stock.programs:
            self._stock.programs[group] = made["program"]
            self._write_begun()
        return made["failures"]

    def _check_make(self, chunk: Chunk, made: dict[str, Any]) -> None:
        """Refuse a chunk that is not of one make with the others."""
        different = provenance_difference(made, self.identity)
        if different:
            raise StudyError(
                f"{self.folder}: chunk {chunk} was made elsewhere ({different}); what computes"
                " must be what asks"
            )
        kept = self._stock.programs.get(str(chunk).partition("-")[0])
        if kept and made["program"] not in ("", kept):
            raise StudyError(
                f"{self.folder}: the program of group {chunk.group} is {made['program']}, not"
                f" {kept}: code has changed since; {ELSEWHERE}"
            )

    def estimators(self) -> pd.DataFrame:
        """Return the fits that are kept, whatever their seeds."""
        return read_table(self.folder, ESTIMATORS, {"files": self._sums})

    def put_estimators(self, fits: pd.DataFrame) -> None:
        """Write the fits, those that were kept before among them, whole or not at all."""
        self._write_tables({ESTIMATORS: _parquet(fits)})

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, which makes the folder one that `scaling_study.load` reads."""
        with _stopping(self.folder / CHUNKS):
            _sync(self.folder / CHUNKS)
        names = [file.name for file in self._stock.kept.values()]
        self._write_manifest({**manifest, "chunks": sorted(names)})

    def _write_begun(self) -> None:
        """Write the manifest of a run that is not over; what a finished one held stays promised."""
        seeds = self._manifest.get("seeds")
        self._write_manifest({"seeds": seeds} if seeds else {})

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        own = {
            "schema_version": SCHEMA_VERSION,
            "identity": self.identity,
            "files": self._sums,
            "programs": dict(sorted(self._stock.programs.items())),
        }
        text = json.dumps(signed(json.loads(json.dumps({**own, **manifest}))), indent=2)
        self._write(MANIFEST, text.encode() + b"\n")

    def _write(self, name: str, data: bytes) -> None:
        target = self.folder / name
        temporary = target.with_name(f".{target.name}.tmp")
        with _stopping(target):
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)


def identity(
    platform: str, planned: Plan, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what results must share to lie in one folder.

    Parameters
    ----------
    platform : str
        As JAX names it.
    planned : Plan
    environment : mapping of str to str, optional
        The settings that change bits, where the chunks are computed.
    """
    return {
        **provenance(platform, planned.study.components(), environment),
        "study": study_digest(planned.study),
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
def _stopping(target: Path) -> Iterator[None]:
    """Say of what the system refuses during a run that the same command continues it."""
    try:
        yield
    except OSError as error:
        raise RunInterrupted(
            f"{target}: cannot be written: {error.strerror or error}; all that is stored is"
            " whole, run the same command again to continue"
        ) from error


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
        manifest = json.loads(read_bytes(folder / MANIFEST).decode("utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        with suppress(StudyError):
            file = folder / STUDY
            return read_study(file).to_toml().encode() == read_bytes(file)
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
