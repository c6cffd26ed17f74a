"""Writes a report into a folder: page, text, figures, tables, and the list of these files."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from scaling_study.errors import StudyError, unknown
from scaling_study.report.document import About, Figure, Report, Table
from scaling_study.report.labels import escape, slug
from scaling_study.report.processes import each
from scaling_study.report.style import RC
from scaling_study.storage.results import Results
from scaling_study.storage.schema import MANIFEST, STUDY
from scaling_study.study.component import Component
from scaling_study.study.study import Study, presets, read_study

PACKAGE = "scaling_study."  # whose code needs no folder of the user's
PAGE, TEXT, FILES = "index.html", "report.md", "files.json"
UNLISTED = (".tex", ".html")  # files that the last section of a page does not name
MANY_FIGURES = 16  # that are worth further processes
# Formats of figures, each with what keeps dates and versions out of it.
FORMATS: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def render(report: Report, about: About, folder: Path, formats: Sequence[str] = ("svg",)) -> None:
    """Write a report into an empty folder, its figures in these formats.

    The page shows the first of the formats.
    """
    check_formats(formats)
    items = [item for section in report.sections for item in section.items]
    numbers = _write_figures([i for i in items if isinstance(i, Figure)], folder, formats)
    _write_tables([item for item in items if isinstance(item, Table)], folder, report.files)
    for name, content in report.files.items():
        _write(folder / name, content if isinstance(content, str) else csv(content))
    for name, template in ((PAGE, "page.html"), (TEXT, "page.md")):
        _write(folder / name, page(report, about, numbers, formats, template))


def page(
    report: Report,
    about: About,
    numbers: Mapping[str, tuple[int, str]] | None = None,
    formats: Sequence[str] = ("svg",),
    template: str = "page.html",
) -> str:
    """Return a report as a page, without its files.

    `numbers` has the number of each figure and the stem of its files, by its name.
    """
    facts = {
        "report": report,
        "numbers": numbers,
        "format": formats[0],
        "formats": formats,
        "about": about,
        "data": [n for n in sorted(report.files) if n.count("/") < 2 and not n.endswith(UNLISTED)],
    }
    text = _environment().get_template(template).render(facts)
    return re.sub(r"\n{3,}", "\n\n", text)


def about_study(results: Results) -> About:
    """Return the last section of a report of one study."""
    return About(
        "The study",
        " ".join(results.study.description.split()),
        (
            ("runs", runs_of(results)),
            ("again", how_to_repeat(results.study)),
            ("study", f"[{STUDY}]({STUDY})"),
            ("provenance", f"[{MANIFEST}]({MANIFEST}): versions, machine, times and checksums"),
        ),
    )


def write_list(folder: Path) -> None:
    """Write the names of all files in a report's folder, so that each is known to be its own."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {FILES, *(path.relative_to(folder).as_posix() for path in paths)}
    _write(folder / FILES, json.dumps(sorted(names), indent=1) + "\n")


def check_formats(formats: Sequence[str]) -> None:
    """Refuse formats of figures that are not written."""
    if not formats:
        raise StudyError(f"--formats: name at least one of {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise StudyError(f"--formats: {unknown('format', name, FORMATS)}")


def csv(frame: pd.DataFrame) -> str:
    """Return a frame as CSV, the same bytes everywhere."""
    return frame.to_csv(index=False, lineterminator="\n")


def latex(frame: pd.DataFrame) -> str:
    """Return a frame as a LaTeX longtable with rules of booktabs."""
    rows = [
        " & ".join(_in_latex(cell) for cell in row) + " \\\\"
        for row in [tuple(frame), *frame.itertuples(index=False)]
    ]
    lines = [
        "% needs \\usepackage{booktabs,longtable}",
        f"\\begin{{longtable}}{{{'l' * frame.shape[1]}}}",
        *("\\toprule", rows[0], "\\midrule \\endhead", *rows[1:], "\\bottomrule"),
        "\\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


def how_to_repeat(study: Study) -> str:
    """Return the command that runs a study and writes its report again, as Markdown.

    A study that names a user's own code is run where that can be imported from, and not by the
    name of a preset, which names none of it.
    """
    command, code = "scaling-study reproduce", _code(study)
    if study.name in presets() and code.keys() <= _code(read_study(study.name)).keys():
        return f"`{command} {study.name}`"
    if any(part.is_of_process for part in code.values()):
        return "by the notebook or script that ran it, which defines code that the study names"
    if any(not name.startswith(PACKAGE) for name in code):
        return f"from the folder of your module: `{command} PATH/study.toml --allow-code`"
    return f"`{command} study.toml{' --allow-code' if code else ''}`"


def _code(study: Study) -> dict[str, Component]:
    """Return the components of a study that are references to code, by name."""
    return {part.name: part for part in study.components() if part.is_code}


def runs_of(results: Results) -> str:
    """Return the number of runs, conditions and seeds of results."""
    first, last = results.study.seeds
    return (
        f"{results.count:,}: {len(results.conditions):,} conditions by"
        f" {results.study.n_seeds:,} seeds ({first} to {last - 1})"
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_figures(
    figures: Sequence[Figure], folder: Path, formats: Sequence[str]
) -> dict[str, tuple[int, str]]:
    """Write each figure and its data; return its number and the stem of its files by its name."""
    numbers = {f.name: (n, f"{n:02d}-{f.name}") for n, f in enumerate(figures, 1)}
    if figures:  # an empty folder would be in no list of files
        (folder / "figures").mkdir()
    draw = partial(_drawn, formats=formats)
    drawn = each(draw, figures) if len(figures) >= MANY_FIGURES else map(draw, figures)
    for figure, files in zip(figures, drawn, strict=True):
        stem = numbers[figure.name][1]
        _write(folder / "tables" / "figures" / f"{stem}.csv", csv(figure.data))
        for name, content in zip(formats, files, strict=True):
            (folder / "figures" / f"{stem}.{name}").write_bytes(content)
    return numbers


def _drawn(figure: Figure, formats: Sequence[str]) -> list[bytes]:
    """Return a figure in each format."""
    files = []
    with matplotlib.rc_context(RC):
        drawing = figure.draw(figure.data)
        for name in formats:
            file = BytesIO()
            drawing.savefig(file, format=name, metadata=FORMATS[name])
            drawing.set_layout_engine("none")  # laid out once is enough for all
            files.append(file.getvalue())
    return files


def _write_tables(tables: Sequence[Table], folder: Path, files: Iterable[str]) -> None:
    for table in tables:
        text = table.frame.map(_in_line)
        for suffix, content in (("csv", csv), ("tex", latex)):
            name = f"tables/{table.name}.{suffix}"
            if name not in files:
                _write(folder / name, content(text))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("scaling_study.report"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    markdown = MarkdownIt("commonmark", {"html": False})
    environment.filters |= {
        "markdown": lambda text: Markup(markdown.render(_unbroken(text))),
        "inline": lambda text: Markup(markdown.renderInline(_unbroken(text))),
        "escape_markdown": escape,
        "line": _in_line,
        "slug": slug,
        "groups": _groups,
    }
    environment.tests["figure"] = lambda item: isinstance(item, Figure)
    return environment


def _groups(table: Table) -> list[tuple[str, list[dict[Any, Any]]]]:
    """Return the rows of a table by group; one group without a name where it has none."""
    frame = table.frame.astype(str)
    if not table.group:
        return [("", frame.to_dict("records"))]
    parts = frame.groupby(table.group, sort=False)
    return [(str(name), p.drop(columns=table.group).to_dict("records")) for name, p in parts]


def _unbroken(text: str) -> str:
    """Return text in which no line breaks before a percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _in_line(cell: Any) -> str:
    """Return a cell as one line: what is set small stands in brackets."""
    first, *small = str(cell).split("\n")
    return f"{first} ({', '.join(small)})" if small else first


def _in_latex(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    for mark in "\\&%$#_{}~^":
        text = text.replace(mark, " " if mark == "\\" else f"\\{mark}")
    return text
