"""Stored results as data frames: conditions, runs, features, traces and fits of estimators."""

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scaling_study.errors import StudyError
from scaling_study.files import read_bytes
from scaling_study.storage.columns import (
    SHARE,
    Columns,
    TracedLosses,
    feature_columns,
    feature_count,
    stem_of,
    trace_columns,
    traced_losses,
)
from scaling_study.storage.contents import Content, stored_contents
from scaling_study.storage.inventory import UNREADABLE, chunk_fault, open_parquet
from scaling_study.storage.reader import RUN_AGAIN, read_manifest, read_stored_study, read_table
from scaling_study.storage.schema import (
    CHUNKS,
    CONDITIONS,
    ESTIMATORS,
    FEATURE_COLUMNS,
    TRACE_COLUMNS,
    parse_chunk_name,
)
from scaling_study.study.conditions import Condition, expand, problem_of
from scaling_study.study.study import Study
from scaling_study.study.values import error_context

GROUP = b"group"  # the key of a table's metadata that holds the index of its group
SHOWN_AXES, SHOWN_ROWS = 6, 30  # of a page in a notebook


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows of features with the feature's number, from 0, in place of its name."""
    if "position" not in frame:
        return frame
    return frame.assign(feature=frame["position"]).drop(columns="position")


class Results:
    """A study's stored results.

    Parameters
    ----------
    folder : str or Path
        As written by ``scaling-study run`` or `scaling_study.run`.
    allow_code : bool
        Whether code that the study names may be imported, which a report may need.

    Attributes
    ----------
    study : Study
    manifest : dict
        As stored; ``summary``, which is written last, is empty if the run was killed before.
    conditions : DataFrame
        One row per condition, one column per axis.
    runs : DataFrame
        One row per run, with the condition's axes as categorical columns. Here ``updates`` is
        the number of updates done, fewer than the budget where a run diverged; in all other
        frames it is the budget.
    features : DataFrame
        One row per run and feature, by its name in ``feature`` (its number where the problem
        names none) and its number, from 0, in ``position``; ``share_*`` where the study
        records importances.
    traces : DataFrame
        One row per recorded update and feature of each run, for the seeds 0 to 7.
    estimators : DataFrame
        One row per fit of a scikit-learn estimator.
    statuses : dict of str to int
        Number of runs of each status.
    fresh : Results or None
        The same study on other seeds, by which a report says whether its claims are confirmed.
    """

    def __init__(self, folder: str | Path, *, allow_code: bool = False) -> None:
        self.folder = Path(folder)
        self._checked: set[str] = set()  # names of chunks without fault
        self._only: set[str] | None = None  # ids of conditions, if not all
        self._ids: dict[str, frozenset[str]] = {}  # of the conditions of each chunk, once read
        self.fresh: Results | None = None
        self.manifest: dict[str, Any] = read_manifest(self.folder)
        if not {"chunks", "groups"} <= self.manifest.keys():
            raise StudyError(f"{self.folder}: the run was interrupted; run it again to finish it")
        # The path is not stored: a folder may be moved, or shown to others.
        if summary := self.manifest.setdefault("summary", {}):
            self.manifest["summary"] = {**summary, "output_dir": str(self.folder)}
        self.study: Study = read_stored_study(self.folder, self.manifest, allow_code=allow_code)
        named = {name: parse_chunk_name(name) for name in self.manifest["chunks"]}
        self._chunks = {name: found for name, found in named.items() if found}
        self._contents = self._read_contents()

    def __repr__(self) -> str:
        conditions = len(self.conditions)
        parts = [f"{conditions * self.study.n_seeds:,} runs of {conditions:,} conditions"]
        if self._only is None:
            statuses = self.manifest["summary"].get("statuses") or {}
            parts += [f"{count:,} {name}" for name, count in statuses.items()]
        return f"Results({str(self.folder)!r}: {', '.join(parts)})"

    @property
    def plot(self) -> Any:
        """Figures: ``plot.curves()``, ``plot.importance()``, ``plot.basin()``."""
        # Reports are built on results; so a figure is found by name, as pandas finds its backend.
        return import_module("scaling_study.report.standard.plots").Plots(self)

    def to_xarray(self) -> Any:
        """Return the runs as an `xarray.Dataset` over ``condition`` and ``seed``.

        The axes of a condition are coordinates along ``condition``.

        Raises
        ------
        StudyError
            If xarray is not installed.
        """
        try:
            import_module("xarray")
        except ImportError:
            raise StudyError("to_xarray needs xarray: pip install xarray") from None
        keys = ["condition", "seed"]
        axes = [name for name in self.conditions if name != "condition" and name in self.runs]
        texts = self.runs.astype(dict.fromkeys(self.runs.select_dtypes("category"), object))
        found = texts.drop(columns=axes).set_index(keys).to_xarray()
        table = self.conditions.set_index("condition")[axes].loc[found["condition"].to_numpy()]
        return found.assign_coords({n: ("condition", table[n].to_numpy(object)) for n in axes})

    def _repr_html_(self) -> str:
        """Return what the runs are, and how those of each condition ended, as a table."""
        said = f"<p>{escape(repr(self))}</p>"
        if self.study.record == "curves":
            return said
        axes = [n for n in self.conditions if self.conditions[n].nunique(dropna=False) > 1]
        axes = [n for n in axes if n != "condition" and n in self.runs][:SHOWN_AXES]
        by = self.runs[axes].astype(str).assign(status=self.runs["status"].astype(str))
        counts = by.value_counts(sort=False).unstack(fill_value=0) if axes else by.value_counts()
        table = pd.DataFrame(counts).reset_index().rename_axis(columns=None)
        return said + table.to_html(index=False, max_rows=SHOWN_ROWS)

    def _read_contents(self) -> dict[str, Content]:
        """Return the content of each chunk, all of which must be listed in the manifest."""
        if self.study.record == "curves":
            return {}
        contents = stored_contents(self.manifest, self.study.seeds)
        others = contents.keys() ^ {chunk for chunk, _ in self._chunks.values()}
        if others:
            raise StudyError(
                f"{self.folder}: its chunks are not those of its study and seeds (for example"
                f" {min(others)}); run its study again"
            )
        return contents

    @cached_property
    def by_id(self) -> dict[str, Condition]:
        """The conditions of the study, by their ids."""
        return {condition.id: condition for condition in expand(self.study)}

    def of(self, conditions: Iterable[str]) -> "Results":
        """Return the results of some conditions, given by their ids."""
        part = copy.copy(self)
        for name, value in vars(Results).items():
            if isinstance(value, cached_property) and name != "by_id":  # of the whole study
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
        tables = self._tables(lambda name: "/" not in name and not name.startswith("trace_"))
        whole = pa.concat_tables(list(tables), promote_options="permissive")
        frame = whole.to_pandas(use_threads=False)
        return self._with_axes(frame, self._codes(frame["condition"]))

    @cached_property
    def count(self) -> int:
        """Number of runs."""
        return sum(len(table) for table in self._tables(lambda name: name == "seed"))

    @property
    def statuses(self) -> dict[str, int]:
        """Number of runs of each status; empty if runs are not stored."""
        counts = self._frame("status")["status"].value_counts(sort=False)
        return {str(status): int(count) for status, count in counts.items()}

    def failures(self) -> list[str]:
        """Return the distinct reasons why runs failed."""
        frame = self._frame("status", "reason")
        return frame.loc[frame["status"] == "failed", "reason"].unique().tolist()

    def last_divergence(self) -> dict[str, float]:
        """Return the last update at which a run diverged, of optimizers whose runs all did."""
        frame = self._frame("condition", "diverged_at")
        optimizers = self.conditions.set_index("condition")["optimizer"]
        diverged = frame.groupby(frame["condition"].map(optimizers))["diverged_at"]
        found = diverged.agg(["max", "count", "size"])
        last = found.loc[found["count"] == found["size"], "max"]
        return {str(name): update for name, update in last.items()}

    def _frame(self, *names: str) -> pd.DataFrame:
        """Return columns of the runs; empty if runs are not stored."""
        if self.study.record == "curves":
            return pd.DataFrame(columns=list(names))
        tables = self._tables(lambda name: name in names)
        frame = pd.concat([table.to_pandas(use_threads=False) for table in tables])
        # A file's categories may be unused, and differ from those of other files.
        return frame.astype(dict.fromkeys(frame.select_dtypes("category"), object))

    @cached_property
    def features(self) -> pd.DataFrame:
        """One row per run and feature."""
        names = {"condition", "seed", *FEATURE_COLUMNS}
        tables = self._tables(lambda name: stem_of(name) in names or name.startswith(SHARE))
        return self._unfold(tables, feature_columns)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """One row per run, with each column of `features` twice, NaN where there is none.

        ``weight_last`` is of the feature that the study scales, ``weight_first`` of the other
        one, where there are two.
        """
        names = {"condition", *FEATURE_COLUMNS}
        wanted = self._tables(lambda name: stem_of(name) in names or name.startswith(SHARE))
        parts: dict[str, dict[int, np.ndarray]] = {}  # of each column, by the place of a chunk
        sizes: list[int] = []
        for table in filter(len, wanted):
            # The conditions of a chunk have one problem.
            scaled = problem_of(self.by_id[table["condition"][0].as_py()].problem).scaled_feature
            ends = {scaled: "last"} | ({1 - scaled: "first"} if feature_count(table) == 2 else {})
            for name in table.column_names:
                stem, _, place = name.partition("/")
                if place:
                    both = [parts.setdefault(f"{stem}_{end}", {}) for end in ("first", "last")]
                    if end := ends.get(int(place)):
                        both[end == "last"][len(sizes)] = table[name].to_numpy()
            sizes.append(len(table))
        missing = [np.full(size, np.nan, np.float32) for size in sizes]
        columns = {}
        for name in list(parts):
            chunks = parts.pop(name)  # one column at a time, so that no two copies of all are held
            columns[name] = np.concatenate([chunks.get(k, no) for k, no in enumerate(missing)])
        return pd.DataFrame(columns, copy=False)

    @cached_property
    def traces(self) -> pd.DataFrame:
        """One row per recorded update and feature of each traced run."""
        names = {"condition", "seed", "weight_true", *(f"trace_{name}" for name in TRACE_COLUMNS)}
        tables = self._tables(lambda name: stem_of(name) in names)
        traced = (table.filter(table["trace_update"].is_valid()) for table in tables)
        return self._unfold(traced, trace_columns)

    def traced_losses(self) -> Iterator[TracedLosses]:
        """Yield the losses of the traced runs, chunk by chunk."""
        names = {"condition", "seed", "loss_null", "loss_least", "trace_update", "trace_loss"}
        for table in self._tables(lambda name: name in names):
            traced = table.filter(table["trace_update"].is_valid())
            if len(traced):
                yield traced_losses(traced)

    @cached_property
    def estimators(self) -> pd.DataFrame:
        """One row per fit of a scikit-learn estimator."""
        frame = read_table(self.folder, ESTIMATORS, self.manifest)
        first, last = self.study.seeds
        return frame[frame["seed"].between(first, last - 1)].reset_index(drop=True)

    def _tables(self, wanted: Callable[[str], bool]) -> Iterator[pa.Table]:
        """Yield the wanted columns of every chunk, for the seeds of the study."""
        some = False
        for name, (chunk, checksum) in self._chunks.items():
            if self._only is not None and self._only.isdisjoint(self._ids.get(name, self._only)):
                continue
            file = self.folder / CHUNKS / name
            if name not in self._checked:
                program = self.manifest.get("programs", {}).get(chunk.partition("-")[0], "")
                content, identity = self._contents[chunk], self.manifest["identity"]
                if fault := chunk_fault(file, checksum, content, identity, program):
                    raise StudyError(f"{file}: {fault}; {RUN_AGAIN}")
                self._checked.add(name)
            with error_context(file, *UNREADABLE):
                table, self._ids[name] = _read(file, wanted, self.study.seeds, self._only)
                table = table.replace_schema_metadata({GROUP: chunk.partition("-")[0]})
            if len(table) or self._only is None:
                some = True
                yield table
        if not some:
            raise StudyError(f"{self.folder / CHUNKS}: no runs are stored here")

    def _codes(self, ids: pd.Series) -> np.ndarray:
        """Return the row of each run's condition in the table of conditions."""
        named = ids.astype("category").cat
        # A file's dictionary holds all of its conditions, some of which may not be wanted.
        codes = pd.Index(self.conditions["condition"]).get_indexer(named.categories)[named.codes]
        if (codes < 0).any():
            raise StudyError(f"{self.folder / CONDITIONS}: lacks conditions of the runs")
        return codes

    def _unfold(
        self, tables: Iterable[pa.Table], unfold: Callable[[pa.Table], tuple[int, Columns]]
    ) -> pd.DataFrame:
        """Return a frame with several rows for each run.

        ``unfold`` returns the number of rows per run, and their columns.
        """
        parts: list[Columns] = []
        for table in tables:
            with error_context(self.folder / CHUNKS, ValueError):  # lists of unequal lengths
                per_run, columns = unfold(table)
            codes = self._codes(table["condition"].to_pandas())
            runs = {"condition": codes, "seed": table["seed"].to_numpy()}
            columns = {"feature": self._names(table, columns["position"]), **columns}
            parts.append({name: value.repeat(per_run) for name, value in runs.items()} | columns)
        names = dict.fromkeys(name for part in parts for name in part)
        joined = {
            # A chunk that failed has no shares.
            name: np.concatenate(
                [part.get(name, np.full(len(part["seed"]), np.nan)) for part in parts]
            )
            for name in names
        }
        frame = pd.DataFrame(joined)
        if frame["feature"].dtype.kind not in "iu":
            frame["feature"] = pd.Categorical(frame["feature"], frame["feature"].unique())
        return self._with_axes(frame, joined["condition"])

    def _names(self, table: pa.Table, position: np.ndarray) -> np.ndarray:
        """Return the name of the feature at each position, its number if it has none."""
        group = self.manifest["groups"][int((table.schema.metadata or {})[GROUP])]
        names = np.array(group.get("features") or [], dtype=object)
        return names[position] if len(names) else position

    def _with_axes(self, frame: pd.DataFrame, codes: np.ndarray) -> pd.DataFrame:
        """Return the frame with the axes of each row's condition, as categorical columns."""
        axes = {}
        shared = frame.columns.drop("condition")
        for name, values in self.conditions.drop(columns=shared, errors="ignore").items():
            axis = pd.Categorical(values, categories=values.dropna().unique())
            axes[name] = axis.take(codes)
        frame["condition"] = axes.pop("condition")
        return pd.concat([frame, pd.DataFrame(axes, index=frame.index)], axis=1)


def load(folder: str | Path, *, allow_code: bool = False) -> Results:
    """Return the stored results of a study.

    Parameters
    ----------
    folder : str or Path
        As written by ``scaling-study run`` or `scaling_study.run`.
    allow_code : bool
        Whether code that the study names, ``module:name``, may be imported where a report
        needs it. The tables do not need it.

    Raises
    ------
    StudyError
        If there are no results, if the run was interrupted, or if another release wrote them.
    """
    return Results(folder, allow_code=allow_code)


def _read(
    file: Path, wanted: Callable[[str], bool], seeds: tuple[int, int], only: set[str] | None
) -> tuple[pa.Table, frozenset[str]]:
    """Return the wanted columns of a chunk, for some seeds and, if given, some conditions.

    Beside them the ids of all conditions of the chunk.
    """
    parquet = open_parquet(read_bytes(file))
    columns = [name for name in parquet.schema_arrow.names if wanted(name)]
    table = parquet.read(columns=sorted({*columns, "seed", "condition"}), use_threads=False)
    seed, ids = table["seed"].to_numpy(), table["condition"].to_pandas(use_threads=False)
    kept = (seed >= seeds[0]) & (seed < seeds[1])
    if only is not None:
        kept &= ids.isin(only).to_numpy()
    return table.select(columns).filter(pa.array(kept)), frozenset(ids.unique())
