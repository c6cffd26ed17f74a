"""Chunks as they are found: each is what its name says, or it is damaged or foreign."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.errors import NotRegularError
from scaling_study.files import checksum_of, read_bytes
from scaling_study.storage.provenance import provenance_difference
from scaling_study.storage.schema import (
    CHUNKS,
    ESTIMATORS,
    Content,
    check_runs,
    chunk_of,
    members_digest,
    provenance_of,
)
from scaling_study.study.values import error_context

UNREADABLE = (OSError, ValueError, pa.ArrowException)  # what Arrow raises of a file's bytes


def chunk_files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the chunk, the checksum and the file of each chunk that is kept, in their order.

    A file under any other name is not ours.
    """
    place = folder / CHUNKS
    with error_context(place, OSError):
        names = sorted(os.listdir(place)) if os.path.lexists(place) else []
    for name in names:
        if found := chunk_of(name):
            yield *found, place / name


def holds_results(folder: Path) -> bool:
    return (folder / ESTIMATORS).exists() or any(True for _ in chunk_files(folder))


def open_parquet(data: bytes) -> pq.ParquetFile:
    """Open a Parquet file's bytes without Arrow's threads.

    They outlive what they are for: an interpreter that ends meanwhile is aborted.
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)


def fault_of(
    file: Path,
    checksum: str,
    content: Content | None = None,
    identity: Mapping[str, Any] | None = None,
    program: str = "",
) -> str:
    """Say why a file is not the chunk that was written; nothing if it is.

    Parameters
    ----------
    file : path
    checksum : str
        Empty in schema 1, which had none.
    content : Content, optional
        What it should hold.
    identity : mapping, optional
        Of the folder, which should have made it.
    program : str, optional
        The digest of its group's program, if it is known.
    """
    fault, made, _ = _look_at(file, checksum, content, identity)
    return fault or (_program_fault(made.get("program", ""), program) if program else "")


def _program_fault(made: str, program: str) -> str:
    """Say that a chunk is of another program; it is of none where all of its runs failed."""
    return f"foreign: made by program {made}, not {program}" if made not in ("", program) else ""


def _look_at(
    file: Path,
    checksum: str,
    content: Content | None,
    identity: Mapping[str, Any] | None,
) -> tuple[str, dict[str, Any], pa.Table | None]:
    """Return a file's fault, who made it, and how each of its runs ended."""
    try:
        with error_context(file, OSError):
            data = read_bytes(file)
    except NotRegularError as error:
        return str(error).removeprefix(f"{file}: "), {}, None
    if checksum and checksum_of(data) != checksum:
        return "damaged", {}, None
    made: dict[str, Any] = {}
    try:
        found = open_parquet(data)
        check_runs(found.schema_arrow)
        if checksum:
            made = provenance_of(found.schema_arrow)
        rows = found.read(columns=["condition", "seed", "status"], use_threads=False)
    except UNREADABLE as error:
        return no_table("chunk", error), {}, None
    if content and (fault := _content_fault(rows, content)):
        return f"foreign: {fault}", made, rows
    if checksum and identity and (fault := provenance_difference(made, identity)):
        return f"foreign: made by another release or platform ({fault})", made, rows
    return "", made, rows


def _content_fault(rows: pa.Table, content: Content) -> str:
    """Say in what the rows of a chunk are not those that its name and the plan say."""
    if len(rows) != content.rows:
        return f"{len(rows)} rows, not {content.rows}"
    shape = content.conditions, len(content.seeds)
    seeds = rows["seed"].to_numpy()
    if not np.array_equal(seeds.reshape(shape), np.broadcast_to(content.seeds, shape)):
        first = content.seeds.start
        return f"its seeds are not those from {first} to {content.seeds.stop - 1}"
    ids = rows["condition"].cast(pa.string()).to_numpy().reshape(shape)
    own = list(ids[:, 0])
    if not (ids == ids[:, :1]).all() or None in own:
        return "its rows are not in the order of its conditions"
    if content.members and members_digest(own) != content.members:
        return "its conditions are not those of its name"
    return ""


class Inventory(NamedTuple):
    """What of a study's chunks a folder holds.

    Attributes
    ----------
    kept : dict of str to Path
        The file of each chunk that is what was written.
    failed : dict of str to int
        How many of the runs asked for have failed, of each chunk that has any.
    faults : dict of Path to str
        Why each file is not the chunk that its name says.
    programs : dict of str to str
        The digest of the program that made each group's chunks.
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
    """Compare the files of a study's chunks with the plan, the manifest and each other.

    Parameters
    ----------
    folder : path
    contents : mapping of str to Content
        What each chunk of the plan holds. There may be others, of other seeds.
    manifest : mapping
        With the folder's identity, and where a run has ended with the names of its chunks and
        their programs.
    seeds : (int, int)
        Those asked for, of which failed runs are counted.
    """
    listed = {chunk_in(Path(name)): name for name in manifest.get("chunks", [])}
    faults, failed = dict[Path, str](), dict[str, int]()
    programs: dict[Path, str] = {}  # of each file that is whole
    for chunk, checksum, file in chunk_files(folder):
        if chunk not in contents:
            continue
        fault, made, rows = _look_at(file, checksum, contents[chunk], manifest["identity"])
        if not fault and listed.get(chunk, file.name) != file.name:
            fault = f"foreign: the manifest lists {listed[chunk]}"
        if fault:
            faults[file] = fault
            continue
        programs[file] = made["program"]
        if made["failures"] and rows is not None:
            failed[chunk] = _failed_in(rows, seeds)
    faults |= _twice(programs)
    whole = programs.keys() - faults.keys()
    own = _programs_of(whole, programs, manifest.get("programs", {}))
    for file in whole:
        if fault := _program_fault(programs[file], own.get(_group_in(file), "another")):
            faults[file] = fault
    kept = {chunk_in(file): file for file in sorted(whole - faults.keys())}
    failed = {chunk: count for chunk, count in failed.items() if chunk in kept and count}
    return Inventory(kept, failed, dict(sorted(faults.items())), own)


def _twice(files: Iterable[Path]) -> dict[Path, str]:
    """Return the fault of files that are of one chunk: which was written cannot be told."""
    counts = Counter(map(chunk_in, files))
    twice = [file for file in files if counts[chunk_in(file)] > 1]
    return {
        file: f"foreign: one of {counts[chunk_in(file)]} files of chunk {chunk_in(file)}"
        for file in twice
    }


def _programs_of(
    files: Iterable[Path], programs: Mapping[Path, str], recorded: Mapping[str, str]
) -> dict[str, str]:
    """Return each group's program: the one recorded, or that of most of its chunks."""
    counts: dict[str, Counter[str]] = {}
    for file in files:
        if programs[file]:
            counts.setdefault(_group_in(file), Counter())[programs[file]] += 1
    own = dict(recorded)
    for group, count in counts.items():
        (first, most), *others = count.most_common(2)
        if not others or others[0][1] < most:
            own.setdefault(group, first)
    return own


def _failed_in(rows: pa.Table, seeds: tuple[int, int]) -> int:
    named = rows["seed"].to_numpy()
    lost = rows["status"].cast(pa.string()).to_numpy() == "failed"
    return int((lost & (named >= seeds[0]) & (named < seeds[1])).sum())


def _group_in(file: Path) -> str:
    return file.name.partition("-")[0]


def chunk_in(file: Path) -> str:
    """Return the chunk that a file's name says."""
    return file.stem.rpartition("-")[0]


def metadata_of(source: Any) -> dict[str, Any]:
    """Return who made a chunk, and why runs of it failed, from its file or bytes."""
    data = source if isinstance(source, bytes) else read_bytes(source)
    return provenance_of(open_parquet(data).schema_arrow)


def no_table(what: str, error: Exception) -> str:
    (first, *_) = str(error).splitlines() or [type(error).__name__]
    return f"no {what} of ours: {first}"
