"""The report: a folder with a page, its text, figures and tables, whole or not at all."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from scaling_study.analysis.claims import read_claims
from scaling_study.analysis.verdicts import judge_all
from scaling_study.errors import StudyError
from scaling_study.report import tables
from scaling_study.report.files import (
    command_of,
    how_it_ran,
    write_csv,
    write_figure,
    write_page,
)
from scaling_study.report.findings import first_paragraph, second_paragraph
from scaling_study.report.gallery import drawings
from scaling_study.report.importance import write_importance
from scaling_study.report.paper import CLAIMS, write_paper
from scaling_study.report.published import write_published
from scaling_study.report.real_data import write_real_data
from scaling_study.report.sensitivity import write_sensitivity
from scaling_study.report.tables import Summaries
from scaling_study.storage.provenance import asked, difference
from scaling_study.storage.replacing import tidy, written_whole
from scaling_study.storage.results import Results
from scaling_study.storage.schema import MANIFEST, STUDY, is_manifest
from scaling_study.study.study import Study, read_study
from scaling_study.study.values import error_context

# What a report writes: nothing else is ever replaced.
PAGE, TEXT = "index.html", "report.md"
OWN_NAMES = (
    *(PAGE, TEXT, "figures", "tables", STUDY, MANIFEST, CLAIMS),
    *("leaderboard.csv", "published.csv"),
)
OWN_TABLES = (
    *("conditions.csv", "features.csv", "differences.csv", "coverage.csv"),
    *("claims.tex", "conditions.tex", "distortion.csv", "fit.csv", "flipped.csv", "last.csv"),
    *("lean.csv", "rates.csv", "scores.csv"),
)
OWN_FOLDERS = ("figures", "tables", "tables/figures", "tables/claims")

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
    " initial one and that of the best constant prediction, and is frozen there. Diverged runs are"
    " counted and stand in no median, so a median beside them describes the surviving runs only.",
    "The target is the same for every scaler, start and optimizer: the least loss plus a thousandth"
    " (the tolerance) of how far the best constant prediction lies above it. It is known for linear"
    " models; for a network a study may give a target loss.",
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


def write_report(
    results: Results,
    output_dir: str | Path,
    claims: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the report of a study's results; a paper where the study makes claims.

    The folder gets ``index.html`` (opens offline, beside its figures), ``report.md``,
    ``figures/*.svg`` and ``*.png``, ``tables/*.csv``, and copies of ``study.toml`` and
    ``manifest.json``. The same results give the same bytes. A report of the same study that
    stood there is replaced, whatever its seeds and words; the folder appears when all of it is
    written.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`.
    output_dir : path
        The report's folder; made if it is not there.
    claims : mapping, optional
        Claims beside those of the study, as tables.
    overwrite : bool
        Replace the report of another study too.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    StudyError
        If the folder holds anything but a report of that study, or cannot be written.
    """
    target = Path(output_dir)
    with error_context(target, OSError):
        tidy(target)
        _refuse_another(target, results.study, overwrite)
    verdicts = judge_all(results, read_claims(results.study, claims))
    try:
        with written_whole(target) as whole:
            if verdicts:
                write_paper(results, whole, verdicts)
            else:
                KINDS[results.study.report](results, whole)
            for name in (STUDY, MANIFEST):
                shutil.copyfile(results.folder / name, whole / name)
    except OSError as error:
        raise StudyError(f"{target}: cannot be written ({error.strerror})") from None
    return target / PAGE


def _refuse_another(target: Path, study: Study, overwrite: bool) -> None:
    """Refuse to replace what is no report, or the report of another study."""
    if not target.exists():
        return
    if not target.is_dir():
        raise StudyError("is a file; name a folder for the report")
    strange = _strange(target)
    if strange:
        raise StudyError(f"holds {strange!r}, which no report does; name another folder with -o")
    if not any(target.iterdir()):
        return
    if not _is_report(target):
        raise StudyError("holds no whole report; name another folder with -o")
    if not overwrite:
        _refuse_report_of_another(target, study)


def _refuse_report_of_another(target: Path, study: Study) -> None:
    try:
        different = difference(asked(read_study(target / STUDY)), asked(study))
    except StudyError:
        different = "which this release cannot read"
    if different:
        raise StudyError(
            f"holds the report of another study ({different}); name another folder with -o"
        )


def _is_report(folder: Path) -> bool:
    """Say whether a folder holds what every report does, and a manifest that is ours."""
    if not all((folder / name).is_file() for name in (PAGE, TEXT, STUDY, MANIFEST)):
        return False
    try:
        return is_manifest(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (ValueError, RecursionError):
        return False


def _strange(folder: Path) -> str:
    """Return the first name below a folder that no report writes, empty if there is none."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        own = name in OWN_FOLDERS if path.is_dir() else _is_own_file(folder, name)
        if path.is_symlink() or not own:
            return name
    return ""


def _is_own_file(folder: Path, name: str) -> bool:
    place, _, file = name.rpartition("/")
    stem, dot, suffix = file.rpartition(".")
    if place == "tables":
        return file in OWN_TABLES
    if place == "tables/claims":
        return suffix == "csv" and (folder / CLAIMS).exists()
    if (place, suffix) in FIGURE_FILES:  # a figure comes in more than one format
        formats = (folder / "figures" / f"{stem}{dot}{other}" for other in ("svg", "png"))
        return all(other.exists() for other in formats)
    return not place and file in set(OWN_NAMES) - set(OWN_FOLDERS)


FIGURE_FILES = {
    *(("figures", suffix) for suffix in ("svg", "png", "pdf")),
    ("tables/figures", "csv"),
}


def _write(results: Results, folder: Path) -> None:
    summaries = tables.summarize(results)
    conditions = tables.conditions_file(summaries, results.conditions)
    write_csv(conditions, folder / "tables" / "conditions.csv")
    write_csv(tables.features_file(summaries), folder / "tables" / "features.csv")
    write_csv(summaries.differences, folder / "tables" / "differences.csv")
    shown = []
    for drawing in drawings(results):
        write_figure(drawing.figure, folder / "figures" / drawing.name, ".svg", ".png")
        shown.append(Shown(drawing.name, drawing.caption, drawing.main))
    shown.sort(key=lambda figure: not figure.main)
    facts = _facts(results, summaries, shown)
    write_page(folder, ((PAGE, "index.html"), (TEXT, "report.md")), facts)


# Which report a study's ``report`` names.
KINDS: dict[str, Callable[[Results, Path], None]] = {
    "standard": _write,
    "sensitivity": write_sensitivity,
    "published": write_published,
    "real-data": write_real_data,
    "importance": write_importance,
}


def _facts(results: Results, summaries: Summaries, shown: list[Shown]) -> dict[str, Any]:
    """Return what the templates are filled from."""
    study = results.study
    return {
        "title": study.title or study.name,
        "name": study.name,
        "description": " ".join(study.description.split()),
        "first_paragraph": first_paragraph(summaries),
        "second_paragraph": second_paragraph(summaries),
        "how": how_it_ran(results),
        "shared": _shared_axes(results.conditions),
        "conditions": _grouped(tables.conditions_table(summaries)),
        "features": _grouped(tables.features_table(summaries)),
        "figures": shown,
        "reproduce": command_of(results),
        "table_note": TABLE_NOTE,
        "limits": LIMITS,
    }


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
