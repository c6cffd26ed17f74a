"""Stored results as data frames: runs, features, traces, and what scikit-learn was asked."""

import copy
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scaling_study.errors import StudyError
from scaling_study.files import read_bytes
from scaling_study.storage.inventory import UNREADABLE, fault_of, open_parquet
from scaling_study.storage.reader import MEND, read_manifest, read_own_study, read_table
from scaling_study.storage.schema import (
    CHUNKS,
    CONDITIONS,
    ESTIMATORS,
    FEATURE_COLUMNS,
    TRACE_COLUMNS,
    Content,
    chunk_of,
    contents_in,
)
from scaling_study.study.study import Study
from scaling_study.study.values import error_context

SHARE = "share_"  # begins what record = "importances" adds
Columns = dict[str, np.ndarray]


class Results:
    """A study's stored results.

    Parameters
    ----------
    folder : path
        As written by ``scaling-study run`` or `scaling_study.run`.
    allow_code : bool
        Whether code that the study names may be imported, which a report may need.

    Attributes
    ----------
    study : Study
    manifest : dict
        As stored; ``summary``, which is written last, is empty where a run was ended before.
    conditions : DataFrame
        One row per condition, every axis a column.
    runs : DataFrame
        One row per run: condition × seed, the condition's axes as categorical columns. Here
        ``updates`` is the number of updates done, fewer than the budget where a run diverged;
        the budget is ``updates`` in every other frame.
    features : DataFrame
        One row per run and feature; ``share_*`` where the study records importances.
    traces : DataFrame
        The first 8 seeds over the updates, one row per update kept and feature; no rows where
        the study's seeds begin later.
    estimators : DataFrame
        One row per fit of a scikit-learn estimator; none where the study asks for none.
    statuses : dict of str to int
        How many runs ended how.
    """

    def __init__(self, folder: str | Path, *, allow_code: bool = False) -> None:
        self.folder = Path(folder)
        self._whole: set[str] = set()  # the chunks that are known to be what was written
        self._only: set[str] | None = None  # conditions, where not all
        self.manifest: dict[str, Any] = read_manifest(self.folder)
        if "chunks" not in self.manifest:
            raise StudyError(f"{self.folder}: the run was interrupted; run it again to finish it")
        self.manifest.setdefault("summary", {})
        self.study: Study = read_own_study(self.folder, self.manifest, allow_code=allow_code)
        named = {name: chunk_of(name) for name in self.manifest["chunks"]}
        self._chunks = {name: found for name, found in named.items() if found}
        self._contents = self._contents_planned()

    def __repr__(self) -> str:
        first, last = self.study.seeds
        conditions = len(self.conditions)
        said = [f"{conditions * (last - first):,} runs of {conditions:,} conditions"]
        if self._only is None:
            statuses = self.manifest["summary"].get("statuses") or {}
            said += [f"{count:,} {name}" for name, count in statuses.items()]
        return f"Results({str(self.folder)!r}: {', '.join(said)})"

    def _contents_planned(self) -> dict[str, Content]:
        """Return what each chunk of the study holds, all of which are to be there.

        From the manifest's counts, not from a plan, which may need code of a user's own.
        """
        if "groups" not in self.manifest or self.study.record == "curves":
            return {}
        contents = contents_in(self.manifest, self.study.seeds)
        others = contents.keys() ^ {chunk for chunk, _ in self._chunks.values()}
        if others:
            raise StudyError(
                f"{self.folder}: its chunks are not those of its study and seeds ({min(others)} is"
                " one that differs); run its study again"
            )
        return contents

    def of(self, conditions: Iterable[str]) -> "Results":
        """Return the results of some conditions alone, where those of all are too many at once.

        Parameters
        ----------
        conditions : iterable of str
            Their ids.
        """
        part = copy.copy(self)
        for name, value in vars(Results).items():
            if isinstance(value, cached_property):  # of the whole
                part.__dict__.pop(name, None)
        part._only = set(conditions)
        kept = self.conditions["condition"].isin(part._only)
        part.conditions = self.conditions[kept].reset_index(drop=True)
        return part

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """One row per condition."""
        return read_table(self.folder, CONDITIONS, self.manifest)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run."""
        whole = pa.concat_tables(self._tables(_is_of_runs), promote_options="permissive")
        frame = whole.to_pandas(use_threads=False)
        return self._with_axes(frame, self._codes(frame["condition"]))

    @cached_property
    def count(self) -> int:
        """How many runs there are."""
        return sum(len(table) for table in self._tables({"seed"}.__contains__))

    @property
    def statuses(self) -> dict[str, int]:
        """How many runs ended how; nothing where no runs are kept."""
        if self.study.record == "curves":
            return {}
        counts = pa.concat_tables(self._tables({"seed", "status"}.__contains__))
        pairs = counts["status"].value_counts().to_pylist()
        return {pair["values"]: pair["counts"] for pair in pairs}

    def failures(self) -> list[str]:
        """Return why runs failed, each reason once."""
        if self.study.record == "curves":
            return []
        found: dict[str, None] = {}
        for table in self._tables({"seed", "status", "reason"}.__contains__):
            pairs = (
                table.group_by(["status", "reason"], use_threads=False).aggregate([]).to_pylist()
            )
            found |= {pair["reason"]: None for pair in pairs if pair["status"] == "failed"}
        return list(found)

    def last_divergence(self) -> dict[str, float]:
        """Return, by optimizer all of whose runs diverged, the last update at which one did."""
        if self.study.record == "curves":
            return {}
        wanted = {"condition", "seed", "diverged_at"}
        # Each file has a dictionary of conditions of its own, which Arrow will not unify.
        counted = [
            table.group_by("condition", use_threads=False)
            .aggregate([("diverged_at", "max"), ("diverged_at", "count"), ("seed", "count")])
            .to_pandas()
            for table in self._tables(wanted.__contains__)
        ]
        axes = self.conditions[["condition", "optimizer"]]
        frame = pd.concat(counted, ignore_index=True).astype({"condition": str}).merge(axes)
        sums = frame.groupby("optimizer", observed=True).agg(
            last=("diverged_at_max", "max"),
            diverged=("diverged_at_count", "sum"),
            runs=("seed_count", "sum"),
        )
        return sums.loc[sums["diverged"] == sums["runs"], "last"].to_dict()

    @cached_property
    def features(self) -> pd.DataFrame:
        """One row per run and feature."""
        names = {"condition", "seed", *FEATURE_COLUMNS}

        def wanted(column: str) -> bool:
            return column.split("/")[0] in names or column.startswith(SHARE)

        return self._unfold(self._tables(wanted), _features)

    @cached_property
    def traces(self) -> pd.DataFrame:
        """One row per traced run, point in time and feature."""
        names = {"condition", "seed", "weight_true", *(f"trace_{name}" for name in TRACE_COLUMNS)}
        tables = self._tables(lambda name: name.split("/")[0] in names)
        return self._unfold([t.filter(t["trace_update"].is_valid()) for t in tables], _traces)

    @cached_property
    def estimators(self) -> pd.DataFrame:
        """One row per fit of a scikit-learn estimator: comparison, seed and scaler."""
        frame = read_table(self.folder, ESTIMATORS, self.manifest)
        first, last = self.study.seeds
        return frame[frame["seed"].between(first, last - 1)].reset_index(drop=True)

    def _tables(self, wanted: Callable[[str], bool]) -> list[pa.Table]:
        """Return the wanted columns of every chunk, for the seeds of the study."""
        first, last = self.study.seeds
        tables = []
        for name, (chunk, checksum) in self._chunks.items():
            file = self.folder / CHUNKS / name
            if name not in self._whole:
                content, identity = self._contents.get(chunk), self.manifest["identity"]
                program = self.manifest.get("programs", {}).get(chunk.partition("-")[0], "")
                if fault := fault_of(file, checksum, content, identity, program):
                    raise StudyError(f"{file}: {fault}; {MEND}")
                self._whole.add(name)
            with error_context(file, *UNREADABLE):
                table = _read(file, wanted, (first, last), self._only)
                if len(table) or self._only is None:
                    tables.append(table)
        if not tables:
            raise StudyError(f"{self.folder / CHUNKS}: no runs are kept here")
        return tables

    def _codes(self, ids: pd.Series) -> np.ndarray:
        """Return the place of each run's condition among the study's conditions."""
        named = ids.astype("category").cat
        # A file's dictionary holds all of its conditions, of which some may not be wanted here.
        place = pd.Index(self.conditions["condition"]).get_indexer(named.categories)
        codes = place[named.codes]
        if (codes < 0).any():
            raise StudyError(f"{self.folder / CONDITIONS}: lacks conditions of the runs")
        return codes

    def _unfold(
        self, tables: list[pa.Table], unfold: Callable[[pa.Table], tuple[int, Columns]]
    ) -> pd.DataFrame:
        """Return a frame of what lies in lists, so many rows for each run."""
        parts: list[Columns] = []
        for table in tables:
            with error_context(self.folder / CHUNKS, ValueError):  # lists of other lengths
                each, columns = unfold(table)
            codes = self._codes(table["condition"].to_pandas())
            runs = {"condition": codes, "seed": table["seed"].to_numpy()}
            parts.append({name: value.repeat(each) for name, value in runs.items()} | columns)
        names = dict.fromkeys(name for part in parts for name in part)
        whole = {
            # A chunk that failed has no shares.
            name: np.concatenate(
                [part.get(name, np.full(len(part["seed"]), np.nan)) for part in parts]
            )
            for name in names
        }
        return self._with_axes(pd.DataFrame(whole), whole["condition"])

    def _with_axes(self, frame: pd.DataFrame, codes: np.ndarray) -> pd.DataFrame:
        """Return the frame with the axes of each row's condition."""
        axes = {}
        own = frame.columns.drop("condition")
        for name, values in self.conditions.drop(columns=own, errors="ignore").items():
            axis = pd.Categorical(values, categories=values.dropna().unique())
            axes[name] = pd.Categorical.from_codes(axis.codes[codes], dtype=axis.dtype)
        frame["condition"] = axes.pop("condition")
        return pd.concat([frame, pd.DataFrame(axes, index=frame.index)], axis=1)


def load(folder: str | Path, *, allow_code: bool = False) -> Results:
    """Return the stored results of a study.

    Parameters
    ----------
    folder : path
        Written by ``scaling-study run`` or `scaling_study.run`, of this schema or an earlier
        one.
    allow_code : bool
        Whether code that the study names, ``module:name``, may be imported where a report
        needs it. Tables never do.

    Raises
    ------
    StudyError
        If there are no results, or not all of a run's, or another release's.
    """
    return Results(folder, allow_code=allow_code)


def _read(
    file: Path, wanted: Callable[[str], bool], seeds: tuple[int, int], only: set[str] | None
) -> pa.Table:
    """Return the wanted columns of a chunk, for some seeds and, if given, some conditions."""
    found = open_parquet(read_bytes(file))
    columns = [column for column in found.schema_arrow.names if wanted(column)]
    needed = {"seed"} if only is None else {"seed", "condition"}
    table = found.read(columns=sorted({*columns, *needed}), use_threads=False)
    named = table["seed"].to_numpy()
    kept = (named >= seeds[0]) & (named < seeds[1])
    if only is not None:
        kept &= table["condition"].to_pandas(use_threads=False).isin(only).to_numpy()
    return table.select(columns).filter(pa.array(kept))


def _is_of_runs(column: str) -> bool:
    return "/" not in column and not column.startswith("trace_")


def _lists(table: pa.Table, name: str, each: int) -> np.ndarray:
    """Return a list column end to end, NaN for the ``each`` numbers of a null row."""
    column = table[name].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    # Always a float type, so that a column has one type whatever a chunk is without.
    array = np.full((len(column), each), np.nan, np.result_type(flat, np.float32))
    array[column.is_valid().to_numpy(zero_copy_only=False)] = flat.reshape(-1, each)
    return array


def _width(table: pa.Table) -> int:
    return sum(name.startswith("weight_true/") for name in table.column_names)


def _features(table: pa.Table) -> tuple[int, Columns]:
    each = _width(table)
    feature = np.tile(np.arange(each, dtype=np.int32), table.num_rows)

    def of_features(name: str) -> np.ndarray:
        columns = [table[f"{name}/{feature}"].to_numpy() for feature in range(each)]
        return np.stack(columns, axis=-1).ravel()

    shares = [
        name[:-2] for name in table.column_names if name.startswith(SHARE) and name[-2:] == "/0"
    ]
    names = (*FEATURE_COLUMNS, *shares)
    return each, {"feature": feature} | {name: of_features(name) for name in names}


def _traces(table: pa.Table) -> tuple[int, Columns]:
    rows, width = table.num_rows, _width(table)
    points = len(table["trace_update"][0]) if rows else 1
    shape = rows, points, width
    columns = {"feature": np.broadcast_to(np.arange(width, dtype=np.int32), shape).ravel()}
    for name in TRACE_COLUMNS:
        each = width if name in ("grad_norm", "weight") else 1
        values = _lists(table, f"trace_{name}", points * each).reshape(rows, points, each)
        columns[name] = np.broadcast_to(values, shape).ravel()
    columns["update"] = columns["update"].astype(np.int32)
    return points * width, columns
