"""A user's own table as the problem of a study: ``{ table = "houses.csv", target = "price" }``.

    file or frame ─► digest of its content ─► Component ─► Problem

The content of a table is a part of a condition's identity, and its path is not.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.errors import StudyError
from scaling_study.files import checksum_of, read_bytes
from scaling_study.study import values
from scaling_study.study.columns import TASKS
from scaling_study.study.component import TABLE, Component
from scaling_study.study.problems import READERS as OF_PROBLEMS
from scaling_study.study.problems import Problem
from scaling_study.study.values import error_context

DELIMITERS = ",;\t|"
SUFFIXES = (".csv", ".parquet")


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(values.text, values.listed(value))) if value != [] else ()


READERS: dict[str, values.Reader] = {
    "digest": values.text,
    "target": values.text,
    "task": values.one_of(TASKS, "task"),
    **dict.fromkeys(("scale", "drop"), _names),
    **dict.fromkeys(("groups", "time", "scaled_feature", "control"), values.text),
    "test_share": OF_PROBLEMS["test_share"],
    "rows": values.whole,
}
_frames: dict[str, pd.DataFrame] = {}  # tables that are not files, by their digest


# From a study to a component ------------------------------------------------------------------


def expand(value: Any) -> list[Component]:
    """Read a problem of a study: a table with its keys, or any other `Component`.

    In Python the table may be a data frame or arrays ``(X, y)``, which also are a problem alone.
    """
    if isinstance(value, pd.DataFrame):
        raise StudyError('a data frame is a problem as {"table": frame, "target": "..."}')
    if _are_arrays(value):
        value = {TABLE: value}
    if not (isinstance(value, Mapping) and TABLE in value):
        return Component.expand(value)
    value = _registered(value)
    values.check_keys(value.keys() - {TABLE}, READERS)
    path = values.text(value[TABLE])
    if "target" not in value:
        raise StudyError(f'{path}: name the column to predict, target = "..."')
    parameters = values.read_known(value, READERS)
    if "digest" not in parameters:
        with error_context(path, OSError):
            _check_suffix(path)
            parameters["digest"] = checksum_of(read_bytes(path))
    return [Component(TABLE, tuple(sorted(parameters.items())), source=path)]


def _are_arrays(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and not isinstance(value[0], str)


def _registered(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keys of a table, data in place of a file registered in this process."""
    table, named = value[TABLE], {}
    if _are_arrays(table):
        table, named["target"] = frame_of(*table)
    if not isinstance(table, pd.DataFrame):
        return value
    keys = {k: list(v) if isinstance(v, tuple) else v for k, v in value.items() if k != TABLE}
    return {**register(table), **named, **keys}


def are_tables(value: Any) -> bool:
    """Whether all problems of a study's key are tables."""
    problems = value if isinstance(value, list) else [value]
    return all(
        _are_arrays(item) or (isinstance(item, Mapping) and TABLE in item) for item in problems
    )


def located(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the keys of a study with the paths of its tables relative to a folder resolved."""

    def problem(value: Any) -> Any:
        if isinstance(value, list):
            return [problem(item) for item in value]
        if isinstance(value, Mapping) and isinstance(value.get(TABLE), str) and value[TABLE]:
            return {**value, TABLE: os.path.abspath(folder / value[TABLE])}
        return value

    found = {key: problem(value) if key == "problem" else value for key, value in raw.items()}
    blocks = found.get("blocks")
    if isinstance(blocks, Mapping):
        found["blocks"] = {
            name: located(block, folder) if isinstance(block, Mapping) else block
            for name, block in blocks.items()
        }
    return found


def register(frame: pd.DataFrame, name: str = "") -> dict[str, str]:
    """Keep a data frame in this process, and return the keys that name it in a study."""
    frame = frame.copy()
    frame.columns = [str(column) for column in frame.columns]
    _refuse_duplicates(list(frame.columns))
    text = frame.to_json(orient="split", double_precision=15, date_format="iso")
    digest = checksum_of(text.encode())
    _frames[digest] = frame.reset_index(drop=True)
    return {TABLE: name, "digest": digest}


def frame_of(x: Any, y: Any, names: Sequence[str] | None = None) -> tuple[pd.DataFrame, str]:
    """Return features and a target as one frame, and the name of the target."""
    if hasattr(x, "toarray"):
        x = x.toarray()
    if isinstance(x, pd.DataFrame):
        frame = x.reset_index(drop=True)
        frame.columns = [str(column) for column in frame.columns]
    else:
        array = np.asarray(x)
        if array.ndim != 2:
            raise StudyError(f"X has shape {array.shape}, not (samples, features)")
        frame = pd.DataFrame(array, columns=[f"x{j}" for j in range(array.shape[1])])
    if names is not None:
        if len(names) != frame.shape[1]:
            raise StudyError(f"{len(names)} names for {frame.shape[1]} columns")
        frame.columns = list(map(str, names))
    values_of = np.asarray(y)
    if values_of.shape != (len(frame),):
        raise StudyError(f"y has shape {values_of.shape}, not ({len(frame)},)")
    name = str(getattr(y, "name", None) or "target")
    while name in frame:
        name += "_"
    return frame.assign(**{name: values_of}), name


# From a component to a frame and a problem ----------------------------------------------------


@lru_cache(maxsize=16)
def problem(component: Component) -> Problem:
    """Return the problem of a table."""
    from scaling_study.study.table_problem import of_frame

    options = {key: value for key, value in component.parameters if key != "digest"}
    where = Path(component.source).name or "frame"
    with error_context(where):
        return of_frame(read_frame(component), **options)


def read_frame(component: Component) -> pd.DataFrame:
    """Return the table that a component names.

    Raises
    ------
    StudyError
        If it cannot be read, or has changed since the study was read.
    """
    digest = dict(component.parameters)["digest"]
    if digest in _frames:
        return _frames[digest]
    if not component.source:
        raise StudyError(
            "this table was a data frame of another process; write it to a file, and name the file"
        )
    with error_context(component.source, OSError):
        data = read_bytes(component.source)
    if checksum_of(data) != digest:
        raise StudyError("has changed since the study was run; run it again into another folder")
    return read_table(data, component.source)


def read_table(data: bytes, path: str) -> pd.DataFrame:
    """Return the content of a CSV or Parquet file as a data frame."""
    if path.lower().endswith(".parquet"):
        with error_context("not valid Parquet", Exception):
            frame = pd.read_parquet(io.BytesIO(data))
        frame.columns = [str(column) for column in frame.columns]
        _refuse_duplicates(list(frame.columns))
        return frame.reset_index(drop=True)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise StudyError(
            f"not in UTF-8 (byte 0x{data[error.start]:02x} in line {line}); save it in UTF-8"
        ) from None
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    _refuse_duplicates(next(csv.reader([header], delimiter=delimiter), []))
    with error_context("not valid CSV", ValueError):
        return pd.read_csv(io.StringIO(text), sep=delimiter, low_memory=False)


def _check_suffix(path: str) -> None:
    if not path.lower().endswith(SUFFIXES):
        raise StudyError(f"a table is a file that ends in {' or '.join(SUFFIXES)}")


def _refuse_duplicates(names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise StudyError(f"column {twice!r} occurs more than once; rename one of them")
