"""What is kept: one folder per study, written by one process, read as data frames.

results/article/
  study.toml        the resolved study, every default written out
  manifest.json     schema and package versions, platform, devices, commit, timings; while a
                    study runs, only what its results must share
  conditions.parquet
  chunks/*.parquet  one row per run; its features are columns of it, its trace lists
  estimators.parquet  where the study asks scikit-learn's estimators: one row per fit
"""

import json
import os
import tempfile
import tomllib
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scaling_study.errors import StudyError
from scaling_study.experiment.conditions import Chunk, Condition, Group
from scaling_study.experiment.study import Study, read_study
from scaling_study.experiment.values import told

SCHEMA_VERSION = 1
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "pandas", "pyarrow")
FEATURE_COLUMNS = (
    "weight_init",
    "weight",
    "weight_original",
    "weight_true",
    "weight_ols",
    "steps_to_feature_target",
    "grad_norm_init",
    "grad_norm_first_epoch",
    "grad_norm_mean",
    "movement",
)
SHARE = "share_"  # begins what record = "importances" adds
TRACE_COLUMNS = ("update", "batch_loss", "loss", "grad_norm", "weight")
ESTIMATORS = "estimators.parquet"
FIT_COLUMNS = (
    *("comparison", "dataset", "estimator", "scaler", "seed"),
    *("train_rows", "test_rows", "accuracy", "stopped_early"),
)
Columns = dict[str, np.ndarray]


class Results:
    """A study's stored results.

    Parameters
    ----------
    folder : path
        As written by ``scaling-study run`` or `scaling_study.run`.

    Attributes
    ----------
    study : Study
    manifest : dict
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

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise StudyError(
                f"{self.folder}: no results here (no manifest.json); run a study first"
            )
        self.manifest: dict[str, Any] = _read_manifest(self.folder)
        if "chunks" not in self.manifest:
            raise StudyError(f"{self.folder}: the run was interrupted; run it again to finish it")
        self.study: Study = read_study(self.folder / "study.toml")

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """One row per condition."""
        file = self.folder / "conditions.parquet"
        with told(file, OSError, ValueError):
            return pq.read_table(file).to_pandas()

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run."""
        whole = pa.concat_tables(self._tables(_is_of_runs), promote_options="permissive")
        frame = whole.to_pandas()
        return self._with_axes(frame, self._codes(frame["condition"]))

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
            pairs = table.group_by(["status", "reason"]).aggregate([]).to_pylist()
            found |= {pair["reason"]: None for pair in pairs if pair["status"] == "failed"}
        return list(found)

    def last_divergence(self) -> dict[str, float]:
        """Return, by optimizer all of whose runs diverged, the last update at which one did."""
        if self.study.record == "curves":
            return {}
        wanted = {"condition", "seed", "diverged_at"}
        # Each file has a dictionary of conditions of its own, which Arrow will not unify.
        counted = [
            table.group_by("condition")
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
        frame = _read_estimators(self.folder)
        first, last = self.study.seeds
        return frame[frame["seed"].between(first, last - 1)].reset_index(drop=True)

    def _tables(self, wanted: Callable[[str], bool]) -> list[pa.Table]:
        """Return the wanted columns of every chunk, for the seeds of the study."""
        first, last = self.study.seeds
        tables = []
        for name in self.manifest["chunks"]:
            file = self.folder / "chunks" / name
            with told(file, OSError, ValueError):
                columns = [column for column in pq.read_schema(file).names if wanted(column)]
                seeds = [("seed", ">=", first), ("seed", "<", last)]
                tables.append(pq.read_table(file, columns=columns, filters=seeds))
        if not tables:
            raise StudyError(f"{self.folder / 'chunks'}: no runs are kept here")
        return tables

    def _codes(self, ids: pd.Series) -> np.ndarray:
        """Return the place of each run's condition among the study's conditions."""
        codes = pd.Categorical(ids, categories=self.conditions["condition"]).codes
        if (codes < 0).any():
            raise StudyError(f"{self.folder / 'conditions.parquet'}: lacks conditions of the runs")
        return codes

    def _unfold(
        self, tables: list[pa.Table], unfold: Callable[[pa.Table], tuple[int, Columns]]
    ) -> pd.DataFrame:
        """Return a frame of what lies in lists, so many rows for each run."""
        parts: list[Columns] = []
        for table in tables:
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


def load(folder: str | Path) -> Results:
    """Return the stored results of a study.

    Parameters
    ----------
    folder : path
        Written by ``scaling-study run`` or `scaling_study.run`.

    Raises
    ------
    StudyError
        If there are no results, or not all of a run's, or another release's.
    """
    return Results(folder)


class Store:
    """The one writer of a study's folder.

    Parameters
    ----------
    folder : path
    study : Study
    identity : dict
        What, beside the study, results of one folder must share.
    overwrite : bool
        Remove what another study left there, and nothing that is not a study's.

    Raises
    ------
    StudyError
        If the folder holds something else, or cannot be written.
    """

    def __init__(
        self, folder: Path, study: Study, identity: dict[str, Any], *, overwrite: bool = False
    ) -> None:
        self.folder, self.study, self.identity = folder, study, identity
        with told(folder, OSError):
            holds = os.listdir(folder) if folder.exists() else []
            if holds and "study.toml" not in holds:
                raise StudyError("not empty and no study's folder; choose another")
        if holds and not overwrite:
            self._continue()
        with told(f"{folder}: cannot be written", OSError):
            if overwrite:
                names = ("conditions.parquet", "manifest.json", ESTIMATORS)
                own = [folder / name for name in names]
                for file in [*folder.glob("chunks/*.parquet"), *own, folder / "study.toml"]:
                    file.unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass

    def _continue(self) -> None:
        """Refuse another study's results; let the seeds grow by those of the same study's."""
        manifest = _read_manifest(self.folder)
        stored = read_study(self.folder / "study.toml")
        theirs = {**_plain(stored), **manifest.get("identity", {})}
        ours = {**_plain(self.study), **self.identity}
        different = _difference(theirs, json.loads(json.dumps(ours)))
        if different:
            raise StudyError(
                f"{self.folder}: holds another study ({different}); choose another folder or say"
                " --overwrite"
            )
        (first, last), (a, b) = self.study.seeds, stored.seeds
        if "chunks" in manifest and a <= last and first <= b:
            self.study = self.study.with_seeds((min(first, a), max(last, b)))

    def begin(self, conditions: list[Condition]) -> None:
        """Write what is known before anything has run."""
        self._write_manifest({})
        self._write("study.toml", self.study.to_toml().encode())
        (self.folder / "chunks").mkdir(exist_ok=True)
        frame = pd.DataFrame([condition.row() for condition in conditions])
        for name in frame.columns[frame.dtypes == np.dtype(object)]:
            frame[name] = frame[name].astype("string")
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink)
        self._write("conditions.parquet", sink.getvalue().to_pybytes())

    def has(self, chunk: Chunk) -> bool:
        """Say whether a chunk's file is there."""
        return (self.folder / "chunks" / f"{chunk}.parquet").exists()

    def put(self, chunk: Chunk, rows: bytes) -> None:
        """Write a chunk's file, whole or not at all."""
        self._write(f"chunks/{chunk}.parquet", rows)

    def estimators(self) -> pd.DataFrame:
        """Return the fits that are kept, whatever their seeds."""
        return _read_estimators(self.folder)

    def put_estimators(self, fits: pd.DataFrame) -> None:
        """Write the fits, those that were kept before among them, whole or not at all."""
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(fits, preserve_index=False), sink)
        self._write(ESTIMATORS, sink.getvalue().to_pybytes())

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, which makes the folder one that `load` reads."""
        chunks = sorted(file.name for file in self.folder.glob("chunks/*.parquet"))
        self._write_manifest({**manifest, "chunks": chunks})

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        whole = {"schema_version": SCHEMA_VERSION, "identity": self.identity, **manifest}
        self._write("manifest.json", json.dumps(whole, indent=2).encode() + b"\n")

    def _write(self, name: str, data: bytes) -> None:
        target = self.folder / name
        temporary = target.with_name(f".{target.name}.tmp")
        with told(f"{target}: cannot be written", OSError):
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)


def identity(platform: str, chunk_runs: int | None, groups: list[Group]) -> dict[str, Any]:
    """Return what results must share to lie in one folder."""
    return {
        "schema_version": SCHEMA_VERSION,
        "platform": platform,
        "chunk_size": chunk_runs,
        "packages": versions(),
        "chunk_shapes": [list(group.shape) for group in groups],
    }


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that results depend on."""
    return {name: version(name) for name in ("scaling-study", *PACKAGES)}


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / "manifest.json"
    with told(file, OSError, ValueError):
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise StudyError("not a manifest")
        version = manifest.get("schema_version")
        if version != SCHEMA_VERSION:
            raise StudyError(
                f"schema version {version}, this release reads {SCHEMA_VERSION}; read it with the"
                " release that wrote it"
            )
    return manifest


def _read_estimators(folder: Path) -> pd.DataFrame:
    file = folder / ESTIMATORS
    if not file.exists():
        return pd.DataFrame(columns=list(FIT_COLUMNS))
    with told(file, OSError, ValueError):
        return pq.read_table(file).to_pandas()


def _plain(study: Study) -> dict[str, Any]:
    """Return what makes results those of one study: all of its text but words and seeds."""
    text = tomllib.loads(study.to_toml())
    asked = {key: text[key] for key in ("name", "record", "blocks")}
    return {**asked, "estimators": text.get("estimators", {})}


def _difference(theirs: Any, ours: Any, where: str = "") -> str:
    """Return the first place where two nested mappings differ, empty if there is none."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        places = {**ours, **theirs}
        inner = (
            _difference(theirs.get(key, "missing"), ours.get(key, "missing"), f"{where}.{key}")
            for key in places
        )
        return next(filter(None, inner), "")
    return "" if theirs == ours else f"{where[1:]} is {_short(theirs)}, not {_short(ours)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


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
