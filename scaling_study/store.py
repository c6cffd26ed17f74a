"""What is kept: one folder per study, written by one process, read as data frames.

results/article/
  study.toml        the resolved study, every default written out
  manifest.json     schema and package versions, platform, devices, commit, timings
  conditions.parquet
  chunks/*.parquet  one row per run; its features and its trace are lists in the row
"""

import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator
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
from scaling_study.experiment.study import Study, parse

SCHEMA_VERSION = 1
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "pandas", "pyarrow")
LIST_COLUMNS = (
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
TRACE_COLUMNS = ("update", "batch_loss", "loss", "grad_norm", "weight")


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
        One row per run: condition × seed, the condition's axes as categorical columns.
    features : DataFrame
        One row per run and feature.
    traces : DataFrame
        The first 8 seeds over the updates, one row per update kept and feature.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise StudyError(
                f"{self.folder}: no results here (no manifest.json); run a study first"
            )
        self.manifest: dict[str, Any] = _read_json(self.folder / "manifest.json")
        if self.manifest.get("schema_version") != SCHEMA_VERSION:
            raise StudyError(
                f"{self.folder}: schema version {self.manifest.get('schema_version')}, this"
                f" release reads {SCHEMA_VERSION}; read it with the release that wrote it"
            )
        text = (self.folder / "study.toml").read_text()
        self.study: Study = parse(tomllib.loads(text), str(self.folder / "study.toml"))

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """One row per condition."""
        return pq.read_table(self.folder / "conditions.parquet").to_pandas()

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run."""
        names = [n for n in self._names() if n not in LIST_COLUMNS and not n.startswith("trace_")]
        return self._with_axes(self._frame(lambda table: table.select(names).to_pandas()))

    @cached_property
    def features(self) -> pd.DataFrame:
        """One row per run and feature."""
        return self._with_axes(self._frame(_unfold_features))

    @cached_property
    def traces(self) -> pd.DataFrame:
        """One row per traced run, point in time and feature."""
        return self._with_axes(self._frame(_unfold_traces))

    def _files(self) -> list[Path]:
        return sorted((self.folder / "chunks").glob("*.parquet"))

    def _names(self) -> list[str]:
        return pq.read_schema(self._files()[0]).names

    def _tables(self) -> Iterator[pa.Table]:
        first, last = self.study.seeds
        seeds = pc_range("seed", first, last)
        for file in self._files():
            yield pq.read_table(file, filters=seeds)

    def _frame(self, unfold: Callable[[pa.Table], pd.DataFrame]) -> pd.DataFrame:
        ids = self.conditions["condition"]
        frames = []
        for table in self._tables():
            frame = unfold(table)
            if len(frame):
                frame["condition"] = pd.Categorical(frame["condition"], categories=ids)
                frames.append(frame)
        empty = [frame.columns[frame.isna().all()] for frame in frames]
        shared = set(empty[0]).intersection(*empty[1:]) if frames else set()
        # A column that one chunk lacks must not decide the type of another's.
        trimmed = [
            f.drop(columns=[c for c in e if c not in shared])
            for f, e in zip(frames, empty, strict=True)
        ]
        whole = pd.concat(trimmed, ignore_index=True)
        return whole[frames[0].columns]

    def _with_axes(self, frame: pd.DataFrame) -> pd.DataFrame:
        conditions = self.conditions
        codes = frame["condition"].cat.codes.to_numpy()
        axes = {}
        for name in conditions.columns.drop("condition"):
            if name in frame.columns:  # the budget and the updates done share their name
                continue
            axis = pd.Categorical(conditions[name], categories=conditions[name].dropna().unique())
            axes[name] = pd.Categorical.from_codes(axis.codes[codes], dtype=axis.dtype)
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
        If there are no results, or another release's.
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
        Remove what another study left there.
    """

    def __init__(
        self, folder: Path, study: Study, identity: dict[str, Any], *, overwrite: bool = False
    ) -> None:
        self.folder, self.study, self.identity = folder, study, identity
        self._refuse_another(overwrite)
        try:
            (folder / "chunks").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise StudyError(f"{folder}: cannot be written ({error.strerror})") from None

    def _refuse_another(self, overwrite: bool) -> None:
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return
        if not (self.folder / "study.toml").is_file():
            raise StudyError(f"{self.folder}: not empty and no study's folder; choose another")
        if overwrite:
            for file in [*self.folder.glob("*.*"), *self.folder.glob("chunks/*.parquet")]:
                if file.is_file():
                    file.unlink()
            return
        theirs = self._their_identity()
        ours = {**self.identity, **_identity_of(self.study)}
        for key, value in ours.items():
            if theirs.get(key) != value:
                raise StudyError(
                    f"{self.folder}: holds another study ({key} is {_short(theirs.get(key))},"
                    f" not {_short(value)}); choose another folder or say --overwrite"
                )

    def _their_identity(self) -> dict[str, Any]:
        text = (self.folder / "study.toml").read_text()
        theirs = _identity_of(parse(tomllib.loads(text)))
        manifest = self.folder / "manifest.json"
        return {**(_read_json(manifest)["identity"] if manifest.exists() else {}), **theirs}

    def begin(self, conditions: list[Condition]) -> None:
        """Write what is known before anything has run."""
        if (self.folder / "study.toml").exists():
            before = parse(tomllib.loads((self.folder / "study.toml").read_text())).seeds
            first, last = self.study.seeds
            if before[0] <= last and first <= before[1]:  # a range that grows
                self.study = self.study.with_seeds((min(first, before[0]), max(last, before[1])))
        self._write("study.toml", self.study.to_toml().encode())
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

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, which makes the folder one that `load` reads."""
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
            temporary.unlink(missing_ok=True)
            raise StudyError(f"{target}: cannot be written ({error.strerror})") from None


def identity(platform: str, chunk_runs: int | None, groups: list[Group]) -> dict[str, Any]:
    """Return what results must share to lie in one folder."""
    return {
        "schema_version": SCHEMA_VERSION,
        "platform": platform,
        "chunk_size": chunk_runs,
        "chunk_shapes": [list(group.shape) for group in groups],
        "packages": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that results depend on."""
    return {name: version(name) for name in ("scaling-study", *PACKAGES)}


def pc_range(name: str, first: int, last: int) -> Any:
    """Return the filter ``first <= name < last``."""
    return [(name, ">=", first), (name, "<", last)]


def _identity_of(study: Study) -> dict[str, Any]:
    blocks = {
        name: {k: [str(v) for v in values] for k, values in grid.items()}
        for name, grid in study.blocks.items()
    }
    return {"name": study.name, "record": study.record, "blocks": blocks}


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read ({error})") from None


def _lists(table: pa.Table, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a list column as an array of the given shape, NaN where it is null."""
    column = table[name].combine_chunks()
    if column.null_count == len(column):
        return np.full(shape, np.nan)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(shape)


def _unfold_features(table: pa.Table) -> pd.DataFrame:
    width = table.schema.field("weight_true").type.list_size
    rows = table.num_rows
    columns = {
        name: table[name].to_pandas().repeat(width).reset_index(drop=True)
        for name in ("condition", "seed")
    }
    columns["feature"] = np.tile(np.arange(width, dtype=np.int32), rows)
    for name in LIST_COLUMNS:
        columns[name] = _lists(table, name, (rows * width,))
    return pd.DataFrame(columns)


def _unfold_traces(table: pa.Table) -> pd.DataFrame:
    names = ["condition", "seed", *(f"trace_{name}" for name in TRACE_COLUMNS)]
    width = table.schema.field("weight_true").type.list_size
    table = table.select(names).filter(table["trace_update"].is_valid())
    rows = table.num_rows
    if not rows:
        return pd.DataFrame()
    points = len(table["trace_update"][0])
    each = points * width
    columns: dict[str, Any] = {
        name: table[name].to_pandas().repeat(each).reset_index(drop=True)
        for name in ("condition", "seed")
    }
    columns["feature"] = np.tile(np.arange(width, dtype=np.int32), rows * points)
    for name in TRACE_COLUMNS:
        per_feature = name in ("grad_norm", "weight")
        shape = (rows, points, width if per_feature else 1)
        values = _lists(table, f"trace_{name}", shape)
        columns[name] = np.broadcast_to(values, (rows, points, width)).ravel()
    return pd.DataFrame(columns)
