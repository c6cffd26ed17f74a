"""The report's folder: replaced as a whole, and only where it is a report of the same study."""

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling_study.analysis.claims import read_claims
from scaling_study.errors import StudyError
from scaling_study.report.discovery import report_of
from scaling_study.report.document import About
from scaling_study.report.explorer import EXPLORER, explorer
from scaling_study.report.render import (
    FILES,
    PAGE,
    TEXT,
    about_study,
    check_formats,
    render,
    write_list,
)
from scaling_study.storage.provenance import asked, difference
from scaling_study.storage.replacing import tidy, written_whole
from scaling_study.storage.results import Results
from scaling_study.storage.schema import MANIFEST, STUDY, is_manifest
from scaling_study.study.study import Study, read_study
from scaling_study.study.values import error_context


def write_report(
    results: Results,
    output_dir: str | Path,
    claims: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    formats: Sequence[str] = ("svg",),
    explore: bool = False,
    fresh: Results | None = None,
) -> Path:
    """Write the report of a study's results; a paper where the study makes claims.

    The folder gets ``index.html`` (opens offline, beside its figures), ``report.md``, figures,
    tables, copies of ``study.toml`` and ``manifest.json``, and ``files.json``, the list of all of
    these. The same results give the same bytes. A report of the same study that stood there is
    replaced, whatever its seeds and words; the folder appears when all of it is written.

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
    formats : sequence of str
        Of the figures: svg, png, pdf.
    explore : bool
        Write ``explore.html`` too, see `scaling_study.report.explorer`.
    fresh : Results, optional
        The same study on other seeds, which the report of claims is compared with.

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
    check_formats(formats)
    _prepare(target, results.study, overwrite)
    shown = _with_claims(results, claims) if claims else results
    shown = _with_fresh(shown, fresh) if fresh else shown
    report, about = report_of(shown.study).build(shown), about_study(shown)
    page = explorer(results, report.cells) if explore else ""
    try:
        with written_whole(target) as folder:
            render(report, _with_link(about) if page else about, folder, formats)
            _add_files(folder, results.folder, page)
            _keep_manifest(target, folder)
    except OSError as error:
        raise StudyError(f"{target}: cannot be written ({error.strerror})") from None
    return target / PAGE


def _add_files(folder: Path, stored: Path, page: str) -> None:
    """Write beside a report its explorer, if any, the study and the manifest, and list all."""
    if page:
        (folder / EXPLORER).write_text(page, encoding="utf-8", newline="\n")
    for name in (STUDY, MANIFEST):
        shutil.copyfile(stored / name, folder / name)
    write_list(folder)


def _with_link(about: About) -> About:
    """Add a link to the explorer."""
    link = f"[{EXPLORER}]({EXPLORER}): choose the condition that is plotted"
    return replace(about, entries=(*about.entries, ("explorer", link)))


def _with_fresh(results: Results, fresh: Results) -> Results:
    """Return the results with those of other seeds of the same study."""
    if different := difference(asked(fresh.study), asked(results.study)):
        raise StudyError(f"{fresh.folder}: results of another study ({different})")
    more = copy.copy(results)
    more.fresh = fresh
    return more


def _with_claims(results: Results, claims: Mapping[str, Any]) -> Results:
    """Return the results of a study that makes further claims."""
    read_claims(results.study, claims)  # or say which of them is wrong
    more = copy.copy(results)
    more.study = replace(results.study, claims={**results.study.claims, **claims})
    return more


def _keep_manifest(target: Path, folder: Path) -> None:
    """Leave the manifest as it was where all else is: its times are of a run with these numbers."""
    if not (target / MANIFEST).is_file():
        return
    names = json.loads((folder / FILES).read_text(encoding="utf-8"))
    others = [name for name in names if name != MANIFEST]
    pairs = [(target / name, folder / name) for name in others]
    if all(old.is_file() and old.read_bytes() == new.read_bytes() for old, new in pairs):
        shutil.copyfile(target / MANIFEST, folder / MANIFEST)


def _prepare(target: Path, study: Study, overwrite: bool) -> None:
    """Remove what a killed process left beside the folder, and refuse to replace another's."""
    with error_context(target, OSError):
        tidy(target)
        _refuse_another(target, study, overwrite)


def _refuse_another(target: Path, study: Study, overwrite: bool) -> None:
    """Refuse to replace what is no report, or the report of another study."""
    if not target.exists():
        return
    refuse_strange(target)
    if not any(target.iterdir()):
        return
    if not _is_report(target):
        raise StudyError("holds no whole report; name another folder with -o")
    if not overwrite:
        _refuse_report_of_another(target, study)


def refuse_strange(target: Path) -> None:
    """Refuse a file, and a folder that holds what is in no list of a report's files."""
    if not target.exists():
        return
    if not target.is_dir():
        raise StudyError("is a file; name a folder for the report")
    if strange := _strange(target):
        raise StudyError(
            f"holds {strange!r}, which is not in the list of a report's files ({FILES}); name"
            " another folder with -o"
        )


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
    if not all((folder / name).is_file() for name in (PAGE, TEXT, STUDY, MANIFEST, FILES)):
        return False
    return is_manifest(_json(folder / MANIFEST))


def _strange(folder: Path) -> str:
    """Return the first name below a folder that its list lacks, empty if there is none."""
    listed = _json(folder / FILES)
    known = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else ()
    folders = {str(parent) for name in known for parent in Path(name).parents}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or name not in (folders if path.is_dir() else known):
            return name
    return ""


def _json(file: Path) -> Any:
    """Return what a file holds, nothing where it is no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
