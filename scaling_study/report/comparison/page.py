"""Writes the page of a comparison into a folder of its own."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from scaling_study.analysis.compare import Comparison
from scaling_study.errors import StudyError
from scaling_study.report.comparison.build import build
from scaling_study.report.document import About
from scaling_study.report.page import refuse_strange
from scaling_study.report.render import PAGE, check_formats, render, runs_of, write_list
from scaling_study.storage.replacing import tidy, written_whole
from scaling_study.storage.results import Results
from scaling_study.storage.schema import MANIFEST, STUDY
from scaling_study.study.values import error_context

CELLS = "cells.csv"
SIDES = ("first", "second")


def write_comparison(
    found: Comparison,
    first: Results,
    second: Results,
    output_dir: str | Path,
    *,
    formats: Sequence[str] = ("svg",),
) -> Path:
    """Write the page of two results folders that were compared.

    The folder gets ``index.html``, ``report.md``, figures, tables, ``cells.csv``, the studies and
    manifests of both, and ``files.json``. A comparison that stood there is replaced.

    Parameters
    ----------
    found : Comparison
        From `scaling_study.analysis.compare.compare`.
    first, second : Results
        Of which it is.
    output_dir : path
    formats : sequence of str
        Of the figures: svg, png, pdf.

    Raises
    ------
    StudyError
        If the folder holds anything but a comparison, or cannot be written.
    """
    target = Path(output_dir)
    check_formats(formats)
    with error_context(target, OSError):
        tidy(target)
        if target.is_dir() and any(target.iterdir()) and not (target / CELLS).is_file():
            raise StudyError("holds no comparison; name another folder with -o")
        refuse_strange(target)
    names = names_of(first.folder, second.folder)
    report = build(found, first, names)
    entries = [_entry(*each) for each in zip((first, second), names, SIDES, strict=True)]
    about = About("The folders", "", tuple(entries))
    with error_context(target, OSError), written_whole(target) as folder:
        render(report, about, folder, formats)
        for results, side in zip((first, second), SIDES, strict=True):
            for name in (STUDY, MANIFEST):
                shutil.copyfile(results.folder / name, folder / f"{side}-{name}")
        write_list(folder)
    return target / PAGE


def names_of(first: Path, second: Path) -> tuple[str, str]:
    """Return what two folders are called: their names or, where these are equal, their paths."""
    one, other = first.resolve(), second.resolve()
    return (one.name, other.name) if one.name != other.name else (str(first), str(second))


def _entry(results: Results, name: str, side: str) -> tuple[str, str]:
    files = ", ".join(f"[{file}]({side}-{file})" for file in (STUDY, MANIFEST))
    return name, f"{runs_of(results)}; {files}"
