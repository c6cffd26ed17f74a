"""Writing a results folder: one folder for a study, written by one process at a time.

results/article/
  study.toml        the resolved study, with every default
  manifest.json     what the results share, and the checksums of the other files and of itself;
                    once a run is over, also its devices, commit and timings, and the names of
                    its chunks
  conditions.parquet
  chunks/           GROUP-CONDITIONS-SEEDS-CHECKSUM.parquet: one row per run; its features are
                    columns, its traces lists, its provenance metadata
  estimators.parquet  where the study asks for scikit-learn's estimators: one row per fit
  .lock             while a run writes

A file is written under a temporary name, synced and renamed, so that it is never incomplete.
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

from scaling_study.errors import CONTINUE, DamagedError, RunInterrupted, StudyError
from scaling_study.files import checksum_of, read_bytes
from scaling_study.storage import provenance as made
from scaling_study.storage.contents import manifest_groups, planned_contents
from scaling_study.storage.folder import check_is_ours, names_in
from scaling_study.storage.inventory import (
    Inventory,
    chunk_files,
    holds_results,
    read_chunk_provenance,
    take_inventory,
)
from scaling_study.storage.lock import lock
from scaling_study.storage.reader import (
    OVERWRITE,
    damaged_tables,
    read_manifest,
    read_stored_study,
    read_table,
)
from scaling_study.storage.schema import (
    CHUNKS,
    CONDITIONS,
    ESTIMATORS,
    FILES,
    LOCK,
    MANIFEST,
    STUDY,
    is_temporary,
    signed,
)
from scaling_study.study.conditions import Chunk
from scaling_study.study.plan import Plan
from scaling_study.study.study import Study, read_seeds, read_study
from scaling_study.study.values import error_context


class Store:
    """The only writer of a study's folder, until it is closed.

    Parameters
    ----------
    folder : Path
    study : Study
    identity : dict
        What the results in one folder must share, `identity`.
    overwrite : bool
        Whether to delete another study's results, and no other files.

    Attributes
    ----------
    study : Study
        The study that the folder will hold: with the seeds asked for, and those of a finished
        run if they are adjacent or overlap.
    damaged : list of str
        Chunks of that study that were damaged or mismatched and were removed, with the reason.

    Raises
    ------
    StudyError
        If the folder holds something else, is in use, or cannot be written.
    """

    def __init__(
        self, folder: Path, study: Study, identity: dict[str, Any], *, overwrite: bool = False
    ) -> None:
        self.folder, self.study = folder, study
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.damaged: list[str] = []
        self._manifest: dict[str, Any] = {}  # as found
        self._inventory = Inventory({}, {}, {}, {})
        self._checksums: dict[str, str] = {}  # of the files beside the chunks
        self._rebuilding = False  # the manifest was lost
        self._groups: list[dict[str, Any]] = []  # of the plan
        with error_context(folder, OSError):
            check_is_ours(folder)
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock: int | None = lock(folder)
        try:
            with _writing(folder):
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
        """Release the folder's lock."""
        if self._lock is not None:
            with suppress(OSError):  # the folder may have vanished
                (self.folder / LOCK).unlink()
            os.close(self._lock)
            self._lock = None

    # Opening ----------------------------------------------------------------------------------

    def _clear(self) -> None:
        """Remove a study's files, the chunks first, so that the rest stays recognisable."""
        chunks = [file for _, _, file in chunk_files(self.folder)]
        for file in [*chunks, *(self.folder / name for name in FILES)]:
            file.unlink(missing_ok=True)

    def _remove_temporary(self) -> None:
        for place in (self.folder, self.folder / CHUNKS):
            for name in names_in(place):
                if is_temporary(name):
                    (place / name).unlink()

    def _continue(self) -> None:
        """Refuse another study's results; extend the seeds by those of this study's results."""
        if not any((self.folder / name).exists() for name in (MANIFEST, STUDY)):
            if holds_results(self.folder):
                raise StudyError(
                    f"{self.folder}: has lost its {MANIFEST} and its {STUDY}, without which its"
                    f" results cannot be identified; {OVERWRITE}"
                )
            return
        try:
            if not (self.folder / MANIFEST).exists():
                raise DamagedError(f"{self.folder}: has lost its {MANIFEST}")
            self._manifest = read_manifest(self.folder)
        except DamagedError as error:
            self._rebuild(error)
        self._check_identity()
        if "seeds" in self._manifest:
            (first, last), (a, b) = self.study.seeds, read_seeds(self._manifest["seeds"])
            if a <= last and first <= b:
                self.study = self.study.with_seeds((min(first, a), max(last, b)))

    def _check_identity(self) -> None:
        theirs, ours = self._manifest["identity"], self.identity
        if theirs.get("study") not in (None, ours.get("study")):
            # Name the setting that differs, in place of the digest.
            stored = read_stored_study(self.folder, self._manifest)
            theirs, ours = (
                {**made.asked(study), **identity, "study": ""}
                for study, identity in ((stored, theirs), (self.study, ours))
            )
        if different := made.difference(theirs, ours):
            raise StudyError(f"{self.folder}: holds another study ({different}); {OVERWRITE}")

    def _rebuild(self, error: StudyError) -> None:
        """Replace a lost manifest; `begin` then compares every chunk with the plan."""
        try:
            stored = read_study(self.folder / STUDY)
        except StudyError:
            raise error from None
        if made.asked(stored) != made.asked(self.study):
            raise StudyError(
                f"{error}; to keep its results, run the study of its {STUDY} again"
            ) from None
        self._rebuilding = True
        self._manifest = {"schema_version": made.SCHEMA_VERSION, "identity": self.identity}

    # Writing ----------------------------------------------------------------------------------

    def begin(self, planned: Plan) -> list[Chunk]:
        """Write the study and its conditions, and return the chunks that are to be computed.

        Chunks with failed runs are among them.
        """
        with _writing(self.folder):
            (self.folder / CHUNKS).mkdir(exist_ok=True)
            self._remove_invalid(planned)
        self._groups = manifest_groups(planned.groups)
        frame = pd.DataFrame([condition.row() for condition in planned.conditions])
        texts = frame.columns[frame.dtypes == np.dtype(object)]
        self._write_tables(
            {
                STUDY: self.study.to_toml().encode(),
                CONDITIONS: frame.astype(dict.fromkeys(texts, "string")).to_parquet(index=False),
            }
        )
        if self.study.record == "curves":
            return list(planned.chunks)
        kept, failed = self._inventory.kept, self._inventory.failed
        return [c for c in planned.chunks if str(c) not in kept or str(c) in failed]

    def _remove_invalid(self, planned: Plan) -> None:
        """Remove the damaged files of the plan, which will be computed again."""
        seeds, curves = planned.study.seeds, planned.study.record == "curves"
        contents = {} if curves else planned_contents(planned.groups, seeds)
        manifest = {"identity": self.identity, **self._manifest}
        self._inventory = take_inventory(self.folder, contents, manifest, seeds)
        faults = self._inventory.faults
        mismatched = [file for file, fault in faults.items() if "mismatched" in fault]
        if self._rebuilding and mismatched:
            raise StudyError(
                f"{self.folder}: its {MANIFEST} is lost or damaged, and {mismatched[0].name} is not"
                f" a chunk of this run ({faults[mismatched[0]]}); {OVERWRITE}"
            )
        for file in faults:
            file.unlink()
        self.damaged = [f"{file.name}: {fault}" for file, fault in faults.items()]
        fits = self.folder / ESTIMATORS
        if ESTIMATORS in damaged_tables(self.folder, self.study, self._manifest):
            fits.unlink()
        if self.study.estimators and fits.exists():
            self._checksums[ESTIMATORS] = checksum_of(read_bytes(fits))

    def _write_tables(self, tables: dict[str, bytes]) -> None:
        """Write files beside the chunks.

        While a file changes, the manifest holds no checksum of it, so that a kill between two
        writes never leaves a wrong one.
        """
        changed = {}
        for name, data in tables.items():
            file = self.folder / name
            if file.is_file() and read_bytes(file) == data:
                self._checksums[name] = checksum_of(data)
            else:
                self._checksums.pop(name, None)
                changed[name] = data
        self._write_unfinished()
        for name, data in changed.items():
            self._write(name, data)
            self._checksums[name] = checksum_of(data)
        if changed:
            self._write_unfinished()

    def put(self, chunk: Chunk, rows: bytes) -> list[str]:
        """Write a chunk's file, and return the reasons why runs of it failed.

        Parameters
        ----------
        chunk : Chunk
        rows : bytes
            As `scaling_study.engine.chunk.run_chunk` returns them.

        Raises
        ------
        StudyError
            If it was made by other versions, on another platform or by another program than
            the stored chunks. Nothing has been written then.
        RunInterrupted
            If the file cannot be written, for example because the disk is full.
        """
        with error_context(f"{self.folder}: chunk {chunk}", ValueError, pa.ArrowException):
            provenance = read_chunk_provenance(rows)
        self._check_provenance(chunk, provenance)
        name = f"{chunk}-{checksum_of(rows)}.parquet"
        self._write(f"{CHUNKS}/{name}", rows)
        before = self._inventory.kept.get(str(chunk))
        self._inventory.kept[str(chunk)] = self.folder / CHUNKS / name
        if before is not None and before.name != name:  # it had failed runs
            with _writing(before, during_run=True):
                before.unlink(missing_ok=True)
        group = str(chunk).partition("-")[0]
        if provenance["program"] and group not in self._inventory.programs:
            self._inventory.programs[group] = provenance["program"]
            self._write_unfinished()
        return provenance["failures"]

    def _check_provenance(self, chunk: Chunk, provenance: dict[str, Any]) -> None:
        """Refuse a chunk that was not made as the others were."""
        if different := made.provenance_difference(provenance, self.identity):
            raise StudyError(
                f"{self.folder}: chunk {chunk} was made by another environment ({different});"
                " workers must have the versions and settings of this process"
            )
        program = self._inventory.programs.get(str(chunk).partition("-")[0])
        if program and provenance["program"] not in ("", program):
            raise StudyError(
                f"{self.folder}: the program of group {chunk.group} is {provenance['program']},"
                f" not {program}: code has changed since; {OVERWRITE}"
            )

    def estimators(self) -> pd.DataFrame:
        """Return the stored fits, of all seeds."""
        return read_table(self.folder, ESTIMATORS, {"files": self._checksums})

    def put_estimators(self, fits: pd.DataFrame) -> None:
        """Write the fits, including those that were stored before."""
        self._write_tables({ESTIMATORS: fits.to_parquet(index=False)})

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest of a finished run, after which `scaling_study.load` accepts it."""
        with _writing(self.folder / CHUNKS, during_run=True):
            _sync(self.folder / CHUNKS)
        names = [file.name for file in self._inventory.kept.values()]
        self._write_manifest({**manifest, "chunks": sorted(names)})

    def _write_unfinished(self) -> None:
        """Write the manifest of a run that is not over, with the seeds of a finished one."""
        kept = {k: v for k, v in self._manifest.items() if k == "seeds" and v}
        self._write_manifest({**kept, "groups": self._groups})

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        shared = {
            "schema_version": made.SCHEMA_VERSION,
            "identity": self.identity,
            "files": self._checksums,
            "programs": dict(sorted(self._inventory.programs.items())),
        }
        text = json.dumps(signed(json.loads(json.dumps({**shared, **manifest}))), indent=2)
        self._write(MANIFEST, text.encode() + b"\n")

    def _write(self, name: str, data: bytes) -> None:
        target = self.folder / name
        temporary = target.with_name(f".{target.name}.tmp")
        with _writing(target, during_run=True):
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
    """Return what the results in one folder must share; see `provenance`."""
    return {
        **made.provenance(platform, planned.study.components(), environment),
        "study": made.study_digest(planned.study),
        "chunk_size": planned.chunk_runs,
        "chunk_shapes": [list(group.shape) for group in planned.groups],
    }


@contextmanager
def _writing(target: Path, *, during_run: bool = False) -> Iterator[None]:
    """Report an error of the file system; during a run, say that it can be continued."""
    try:
        yield
    except OSError as error:
        message = f"{target}: cannot be written: {error.strerror or error}"
        if during_run:
            raise RunInterrupted(f"{message}; {CONTINUE}") from error
        raise StudyError(message) from error


def _sync(folder: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
