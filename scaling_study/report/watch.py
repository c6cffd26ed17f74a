"""The page of a run that is not over: what is stored so far, read from the folder alone."""

import base64
import io
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from scaling_study.files import read_bytes
from scaling_study.report import charts, style
from scaling_study.report.labels import label_conditions
from scaling_study.storage.inventory import chunk_files, open_parquet
from scaling_study.storage.reader import read_manifest, read_stored_study, read_table
from scaling_study.storage.schema import CONDITIONS
from scaling_study.study.values import error_context

WATCH = "watch.html"
SECONDS = 2  # between two pages, and between two looks at one
MOST_CURVES = 6  # conditions
STATUSES = ("converged", "not_converged", "no_target", "diverged", "failed")


class Stored(NamedTuple):
    """What a folder holds of a run.

    Attributes
    ----------
    runs, asked : int
        Number of runs that are stored, and that the study has.
    statuses : dict of str to int
        Number of stored runs of each status.
    curves : DataFrame
        ``condition, update, loss``: the median over the stored seeds that are traced, of the
        first conditions.
    seconds, left : float
        Since this run began, and until it ends at the pace so far; NaN while no chunk of it is
        stored.
    """

    runs: int
    asked: int
    statuses: dict[str, int]
    curves: pd.DataFrame
    seconds: float
    left: float


class Watch:
    """Writes the page of a run into its results folder, whenever it is called.

    Parameters
    ----------
    folder : Path
        Results of a run that has begun.
    begun : float
        When this call of the run began, in seconds since the epoch.
    """

    def __init__(self, folder: Path, begun: float) -> None:
        self.folder, self.begun = folder, begun
        self._written = 0.0
        self._chunks: dict[str, pd.DataFrame] = {}  # files do not change under their names

    def __call__(self, *, finished: bool = False) -> None:
        """Write the page, unless it was written less than `SECONDS` ago and more will follow."""
        if not finished and time.monotonic() - self._written < SECONDS:
            return
        text = page(self.read(), self._name(), finished=finished)
        with error_context(self.folder, OSError):
            temporary = self.folder / f".{WATCH}.tmp"
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.folder / WATCH)
        self._written = time.monotonic()

    def _name(self) -> str:
        return self.folder.resolve().name

    def read(self) -> Stored:
        """Return what the folder holds now."""
        manifest = read_manifest(self.folder)
        study = read_stored_study(self.folder, manifest, allow_code=True)
        conditions = read_table(self.folder, CONDITIONS, manifest)
        shown = conditions["condition"].astype(str).head(MOST_CURVES)
        for _, _, file in chunk_files(self.folder):
            if file.name not in self._chunks:
                is_new = file.stat().st_mtime >= self.begun
                self._chunks[file.name] = _read(file, set(shown)).assign(is_new=is_new)
        runs = pd.concat(self._chunks.values()) if self._chunks else _EMPTY
        runs = runs[runs["seed"].between(study.seeds[0], study.seeds[1] - 1)]  # others pad a chunk
        new = int(runs["is_new"].sum())
        asked = len(conditions) * study.n_seeds
        seconds = time.time() - self.begun
        return Stored(
            runs=len(runs),
            asked=asked,
            statuses={name: n for name in STATUSES if (n := Counter(runs["status"])[name])},
            curves=_curves(runs, label_conditions(conditions)),
            seconds=seconds,
            left=max(0, asked - len(runs)) * seconds / new if new else np.nan,
        )


_COLUMNS = ("condition", "seed", "status", "trace_update", "trace_loss")
_EMPTY = pd.DataFrame(columns=[*_COLUMNS, "is_new"])


def _read(file: Path, shown: set[str]) -> pd.DataFrame:
    """Return the runs of a chunk, with curves of some conditions."""
    with error_context(file, OSError, ValueError):
        table = open_parquet(read_bytes(file)).read(columns=list(_COLUMNS), use_threads=False)
    frame = table.to_pandas(use_threads=False).astype({"condition": str, "status": str})
    kept = frame["condition"].isin(shown)
    traces = {name: frame[name].where(kept, None) for name in _COLUMNS if "trace_" in name}
    return frame.assign(**traces)


def _curves(runs: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    traced = runs.dropna(subset=["trace_update"])
    columns = ["condition", "trace_update", "trace_loss"]
    points = traced[columns].explode(columns[1:]).set_axis(["condition", "update", "loss"], axis=1)
    points = points.astype({"update": float, "loss": float}).replace(np.inf, np.nan).dropna()
    names = (labels["setting"] + ", " + labels["scaler"]).set_axis(labels["condition"])
    points["condition"] = points["condition"].map(names)
    return points.groupby(["condition", "update"], sort=False)["loss"].median().reset_index()


def page(stored: Stored, name: str, *, finished: bool) -> str:
    """Return the page as HTML; it reloads itself until the run has finished."""
    facts: dict[str, Any] = {
        "name": name,
        "stored": stored,
        "share": stored.runs / stored.asked if stored.asked else 1.0,
        "finished": finished,
        "every": SECONDS,
        "elapsed": _duration(stored.seconds),
        "left": "" if np.isnan(stored.left) else _duration(stored.left),
        "figure": _figure(stored.curves) if len(stored.curves) else "",
        "curves": stored.curves["condition"].nunique(),
    }
    return _environment().get_template("watch.html").render(facts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _figure(curves: pd.DataFrame) -> str:
    """Return the curves as an SVG picture in base64."""
    with matplotlib.rc_context(style.RC):
        figure, panels = charts.facets(["loss so far"], height=3.0)
        looks = []
        for place, (name, rows) in enumerate(curves.groupby("condition", sort=False)):
            looks.append({**style.numbered(place, str(name)), "marker": ""})
            axes = panels["loss so far"]
            axes.plot(rows["update"], rows["loss"], **looks[-1])
            axes.set_yscale("log" if (curves["loss"] > 0).all() else "linear")
        charts.label_axes(figure, "updates", "median loss")
        charts.legend(figure, looks, columns=1)
        sink = io.BytesIO()
        figure.savefig(sink, format="svg", metadata={"Date": None})
    return base64.b64encode(sink.getvalue()).decode("ascii")


def _environment() -> Environment:
    loader = PackageLoader("scaling_study.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
