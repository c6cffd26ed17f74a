"""The files of chunks as they are found: valid, damaged, or mismatched with the study."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.errors import NotRegularError
from scaling_study.files import checksum_of, read_bytes
from scaling_study.storage.contents import Content, digest_of
from scaling_study.storage.provenance import provenance_difference
from scaling_study.storage.schema import (
    CHUNKS,
    ESTIMATORS,
    check_runs,
    parse_chunk_name,
    read_provenance,
)
from scaling_study.study.values import error_context

UNREADABLE = (OSError, ValueError, pa.ArrowException)  # raised by Arrow for damaged bytes


def chunk_files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the chunk, the checksum and the path of each chunk's file, sorted by name."""
    place = folder / CHUNKS
    with error_context(place, OSError):
        names = sorted(os.listdir(place)) if os.path.lexists(place) else []
    for name in names:
        if found := parse_chunk_name(name):
            yield *found, place / name


def holds_results(folder: Path) -> bool:
    """Whether a folder has chunks or fits of estimators."""
    return (folder / ESTIMATORS).exists() or any(True for _ in chunk_files(folder))


def open_parquet(data: bytes) -> pq.ParquetFile:
    """Open a Parquet file's bytes without starting Arrow's threads.

    An interpreter that exits while such a thread runs is aborted.
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)


def read_chunk_provenance(source: Path | bytes) -> dict[str, Any]:
    """Return the provenance of a chunk, with the reasons why runs failed."""
    data = source if isinstance(source, bytes) else read_bytes(source)
    return read_provenance(open_parquet(data).schema_arrow)


def unreadable_fault(kind: str, error: Exception) -> str:
    """Return the fault of a file that is not a table of the expected kind."""
    first, *_ = str(error).splitlines() or [type(error).__name__]
    return f"not a {kind} of this package: {first}"


def chunk_fault(
    file: Path, checksum: str, content: Content, identity: Mapping[str, Any], program: str
) -> str:
    """Return why a file is not the chunk that its name says; empty if it is.

    Parameters
    ----------
    file : Path
    checksum : str
        The checksum in the file's name.
    content : Content
        The rows that the chunk must hold.
    identity : mapping
        What the chunks of a folder share, from its manifest: release, platform and components.
    program : str
        Digest of the compiled program of the chunk's group; empty if it is not known.
    """
    found = _inspect(file, checksum, content, identity)
    return found.fault or _program_fault(found.provenance["program"], program)


@dataclass
class _Inspected:
    fault: str
    provenance: dict[str, Any] = field(default_factory=dict)
    rows: pa.Table | None = None


def _inspect(
    file: Path, checksum: str, content: Content, identity: Mapping[str, Any]
) -> _Inspected:
    """Return a file's fault or, if it has none, its provenance and the status of each run."""
    try:
        with error_context(file, OSError):
            data = read_bytes(file)
    except NotRegularError as error:
        return _Inspected(str(error).removeprefix(f"{file}: "))
    if checksum_of(data) != checksum:
        return _Inspected("damaged")
    try:
        parquet = open_parquet(data)
        check_runs(parquet.schema_arrow)
        provenance = read_provenance(parquet.schema_arrow)
        rows = parquet.read(columns=["condition", "seed", "status"], use_threads=False)
    except UNREADABLE as error:
        return _Inspected(unreadable_fault("chunk", error))
    if fault := _content_fault(rows, content):
        return _Inspected(f"mismatched: {fault}")
    if fault := provenance_difference(provenance, identity):
        return _Inspected(f"mismatched: made by another release or platform ({fault})")
    return _Inspected("", provenance, rows)


def _content_fault(rows: pa.Table, content: Content) -> str:
    """Return how the rows of a chunk differ from those that it must hold."""
    shape = content.conditions, len(content.seeds)
    if len(rows) != np.prod(shape):
        return f"{len(rows)} rows, not {np.prod(shape)}"
    seeds = rows["seed"].to_numpy().reshape(shape)
    if not (seeds == np.asarray(content.seeds)).all():
        return f"its seeds are not those from {content.seeds[0]} to {content.seeds[-1]}"
    ids = rows["condition"].cast(pa.string()).to_numpy().reshape(shape)
    if not (ids == ids[:, :1]).all() or None in ids[:, 0]:
        return "its rows are not in the order of its conditions"
    if digest_of(ids[:, 0]) != content.digest:
        return "its conditions are not those of its name"
    return ""


def _program_fault(made_by: str, program: str | None) -> str:
    """Return the fault of a chunk that another program made.

    ``made_by`` is empty if all runs of the chunk failed; such a chunk has no fault. ``program`` is
    empty if it is not known, and None if no program of the group has a majority.
    """
    if program is None and made_by:
        return f"mismatched: made by program {made_by}; the chunks of its group differ in program"
    if program and made_by not in ("", program):
        return f"mismatched: made by program {made_by}, not {program}"
    return ""


class Inventory(NamedTuple):
    """The chunks of a study that a folder holds.

    Attributes
    ----------
    kept : dict of str to Path
        The file of each chunk that is valid.
    failed : dict of str to int
        Number of failed runs of each chunk that has any, among the seeds asked for.
    faults : dict of Path to str
        Why each of the other files is not the chunk that its name says.
    programs : dict of str to str
        Digest of the compiled program of each group.
    """

    kept: dict[str, Path]
    failed: dict[str, int]
    faults: dict[Path, str]
    programs: dict[str, str]


def take_inventory(
    folder: Path,
    contents: Mapping[str, Content],
    manifest: Mapping[str, Any],
    seeds: tuple[int, int],
) -> Inventory:
    """Compare the files of the plan's chunks with the plan, the manifest and each other.

    Failed runs are counted for seeds in [first, last).
    """
    listed = {chunk_of(Path(name)): name for name in manifest.get("chunks", [])}
    faults: dict[Path, str] = {}
    valid: dict[Path, _Inspected] = {}
    for chunk, checksum, file in chunk_files(folder):
        if chunk not in contents:
            continue
        found = _inspect(file, checksum, contents[chunk], manifest["identity"])
        if found.fault:
            faults[file] = found.fault
        elif listed.get(chunk, file.name) != file.name:
            faults[file] = f"mismatched: the manifest lists {listed[chunk]}"
        else:
            valid[file] = found
    faults |= _duplicate_faults(valid)
    made_by = {f: v.provenance["program"] for f, v in valid.items() if f not in faults}
    programs = _programs_of(made_by, manifest.get("programs", {}))
    for file, program in made_by.items():
        if fault := _program_fault(program, programs.get(_group_of(file))):
            faults[file] = fault
    kept = {chunk_of(file): file for file in made_by if file not in faults}
    failed = {chunk: _count_failed(valid[file], seeds) for chunk, file in kept.items()}
    return Inventory(
        kept, {k: n for k, n in failed.items() if n}, dict(sorted(faults.items())), programs
    )


def _duplicate_faults(files: Iterable[Path]) -> dict[Path, str]:
    """Return the fault of each file whose chunk has several files."""
    counts = Counter(map(chunk_of, files))
    return {
        file: f"mismatched: one of {count} files of chunk {chunk_of(file)}"
        for file in files
        if (count := counts[chunk_of(file)]) > 1
    }


def _programs_of(made_by: Mapping[Path, str], recorded: Mapping[str, str]) -> dict[str, str]:
    """Return each group's program: the recorded one, or that of most of its chunks."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for file, program in made_by.items():
        if program:
            counts[_group_of(file)][program] += 1
    programs = dict(recorded)
    for group, count in counts.items():
        (first, most), *others = count.most_common(2)
        if not others or others[0][1] < most:
            programs.setdefault(group, first)
    return programs


def _count_failed(found: _Inspected, seeds: tuple[int, int]) -> int:
    if not found.provenance["failures"] or found.rows is None:
        return 0
    named = found.rows["seed"].to_numpy()
    failed = found.rows["status"].cast(pa.string()).to_numpy() == "failed"
    return int((failed & (named >= seeds[0]) & (named < seeds[1])).sum())


def chunk_of(file: Path) -> str:
    """Return the id of the chunk in a file's name."""
    return file.stem.rpartition("-")[0]


def _group_of(file: Path) -> str:
    return file.name.partition("-")[0]
