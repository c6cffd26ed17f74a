"""The report: a folder with a page, its text, figures and tables, whole or not at all."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from scaling_study.errors import StudyError
from scaling_study.experiment.study import presets
from scaling_study.report import tables
from scaling_study.report.figures import STYLE
from scaling_study.report.findings import first_paragraph, second_paragraph
from scaling_study.report.gallery import drawings
from scaling_study.report.tables import Summaries
from scaling_study.store import Results

OWN_NAMES = ("index.html", "report.md", "figures", "tables", "study.toml", "manifest.json")

TABLE_NOTE = (
    "Brackets hold 95 % intervals: Wilson for shares, order statistics for medians. Error and"
    " loss are medians over the runs that did not diverge; a run that did not reach the target"
    " counts as beyond the budget, written > budget. “Last weight larger” compares the last"
    " feature's weight with the first's, in the units the network was trained in."
)
LIMITS = (
    "Not having reached the target within the budget is a censored observation: it says that the"
    " way was longer than the budget, and nothing about how much longer. The weights of a run that"
    " has not converged say where training stood when it was stopped; they are no measure of a"
    " feature's importance.",
    "A run counts as diverged at its first non-finite loss, or loss above a million times the"
    " initial one, and is frozen there. Diverged runs are counted and stand in no median, so a"
    " median beside them describes the surviving runs only.",
    "Loss and gradient curves rest on the few seeds whose traces are kept. Intervals speak of"
    " other seeds of the same study, not of other data, models or learning rates.",
    "Where a feature's coefficient is held fixed while its range grows (design F), the feature"
    " truly becomes more important with its range; whether range biases importance can be judged"
    " only where the unit alone changes (design U).",
)


class Shown(NamedTuple):
    """A figure as the templates see it."""

    name: str
    caption: str
    main: bool


def write_report(results: Results, output_dir: str | Path) -> Path:
    """Write the report of a study's results.

    The folder gets ``index.html`` (opens offline, beside its figures), ``report.md``,
    ``figures/*.svg`` and ``*.png``, ``tables/*.csv``, and copies of ``study.toml`` and
    ``manifest.json``. The same results give the same bytes. A report that stood there is
    replaced; the folder appears when all of it is written.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`.
    output_dir : path
        The report's folder; made if it is not there.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    StudyError
        If the folder holds anything but a report, or cannot be written.
    """
    target = Path(output_dir)
    _refuse_another(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise StudyError(f"{target}: cannot be written ({error.strerror})") from None
    try:
        _write(results, whole)
        whole.chmod(0o755)
        _replace(whole, target)
    except OSError as error:
        raise StudyError(f"{target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(whole, ignore_errors=True)
    return target / "index.html"


def _refuse_another(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise StudyError(f"{target}: is a file; name a folder for the report")
    strange = sorted({path.name for path in target.iterdir()} - set(OWN_NAMES))
    if strange or (target / "conditions.parquet").exists():
        raise StudyError(f"{target}: holds {strange[0]!r}, which no report does; name another")


def _replace(whole: Path, target: Path) -> None:
    """Put a whole report in another's place, and the other back if that fails."""
    if not target.exists():
        whole.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)) / "old"
    target.rename(old)
    try:
        whole.rename(target)
    except OSError:
        old.rename(target)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def _write(results: Results, folder: Path) -> None:
    (folder / "figures").mkdir()
    (folder / "tables").mkdir()
    summaries = tables.summarize(results)
    conditions = tables.conditions_file(summaries, results.conditions)
    _csv(conditions, folder / "tables" / "conditions.csv")
    _csv(tables.features_file(summaries), folder / "tables" / "features.csv")
    _csv(summaries.differences, folder / "tables" / "differences.csv")
    shown = []
    for drawing in drawings(results):
        _save(drawing.figure, folder / "figures" / drawing.name)
        shown.append(Shown(drawing.name, drawing.caption, drawing.main))
    shown.sort(key=lambda figure: not figure.main)
    for name in ("study.toml", "manifest.json"):
        shutil.copyfile(results.folder / name, folder / name)
    for name, template in (("index.html", "index.html"), ("report.md", "report.md")):
        text = _environment().get_template(template).render(_facts(results, summaries, shown))
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, lineterminator="\n")


def _save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG and PNG, without dates."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
        figure.set_layout_engine("none")  # laid out once is enough for both
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None})


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("scaling_study.report"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _facts(results: Results, summaries: Summaries, shown: list[Shown]) -> dict[str, Any]:
    """Return what the templates are filled from."""
    study, manifest = results.study, results.manifest
    return {
        "title": study.title or study.name,
        "name": study.name,
        "description": " ".join(study.description.split()),
        "first_paragraph": first_paragraph(summaries),
        "second_paragraph": second_paragraph(summaries),
        "how": _how(results, manifest),
        "shared": _shared_axes(results.conditions),
        "conditions": _grouped(tables.conditions_table(summaries)),
        "features": _grouped(tables.features_table(summaries)),
        "figures": shown,
        "reproduce": f"scaling-study reproduce {study.name}"
        if study.name in presets()
        else "scaling-study run study.toml",
        "table_note": TABLE_NOTE,
        "limits": LIMITS,
    }


def _how(results: Results, manifest: dict[str, Any]) -> dict[str, str]:
    """Return who ran what, where and when, as far as the manifest says."""
    first, last = results.study.seeds
    packages = manifest.get("packages", {})
    seconds = [manifest.get(f"{part}_seconds") for part in ("compile", "run")]
    commit = manifest.get("git_commit")
    found = {
        "runs": f"{len(results.runs):,}: {len(results.conditions):,} conditions by"
        f" {last - first:,} seeds ({first} to {last - 1})",
        "machine": manifest.get("machine"),
        "devices": ", ".join(manifest.get("devices", [])),
        "time": f"{seconds[0]:.1f} s compiling, {seconds[1]:.1f} s running"
        if None not in seconds
        else None,
        "finished": manifest.get("finished"),
        "commit": commit,
        "Python": manifest.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }
    return {key: str(value) for key, value in found.items() if value}


def _shared_axes(conditions: pd.DataFrame) -> dict[str, str]:
    """Return the axes on which all conditions agree."""
    axes = conditions.drop(columns=["condition", *(c for c in conditions if "." in str(c))])
    texts = axes.astype(str)
    same = [name for name in texts if texts[name].nunique() == 1]
    return {str(name).replace("_", " "): texts[name].iloc[0] for name in same}


def _grouped(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table for the templates: its columns, and its rows by setting."""
    groups = {
        setting: own.drop(columns="setting").to_numpy().tolist()
        for setting, own in table.groupby("setting", sort=False)
    }
    return {"columns": [c for c in table if c != "setting"], "groups": groups}
