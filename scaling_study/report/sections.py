"""A report in sections: an answer, then headings with words, tables and figures.

The reports beyond the article's are all of this form; what they say stands in a module each.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from scaling_study.report.files import (
    command_of,
    how_it_ran,
    write_csv,
    write_figure,
    write_page,
)
from scaling_study.storage.results import Results


class Plate(NamedTuple):
    """A figure with its words and its numbers.

    Attributes
    ----------
    name, title : str
        Names its files, and stands above it.
    caption : str
        What it shows, of how many seeds, and what the bands are.
    figure : Figure
    table : DataFrame
        The numbers that are drawn.
    blocks : tuple of str
        Whose runs it reads, if not all that it needs.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    table: pd.DataFrame
    blocks: tuple[str, ...] | None = None


class Section(NamedTuple):
    """A heading and what stands under it.

    Attributes
    ----------
    heading : str
    paragraphs : sequence of str
    table : DataFrame or None
        As it is shown: text, or numbers that are text already.
    note : str
        Under the table.
    plates : sequence of Plate
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    table: pd.DataFrame | None = None
    note: str = ""
    plates: tuple[Plate, ...] = ()


def write_sections(
    results: Results,
    folder: Path,
    answer: list[str],
    sections: list[Section],
    limits: list[str],
    tables: dict[str, pd.DataFrame],
) -> None:
    """Write a page, its text, figures and tables into an empty folder.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`.
    folder : Path
    answer : list of str
        Sentences that stand first.
    sections : list of Section
    limits : list of str
        Where it could be wrong, a paragraph each.
    tables : dict of str to DataFrame
        Files of numbers by their name in the folder, such as ``leaderboard.csv``.
    """
    for name, table in tables.items():
        write_csv(table, folder / name)
    shown, place = [], 0
    for section in sections:
        plates = []
        for plate in section.plates:
            place += 1
            stem = f"{place:02d}-{plate.name}"
            write_figure(plate.figure, folder / "figures" / stem, ".svg", ".png", ".pdf")
            write_csv(plate.table, folder / "tables" / "figures" / f"{stem}.csv")
            plates.append({"stem": stem, "number": place, **plate._asdict()})
        shown.append(section._asdict() | {"plates": plates, "table": _cells(section.table)})
    study = results.study
    facts: dict[str, Any] = {
        "title": study.title or study.name,
        "description": " ".join(study.description.split()),
        "answer": answer,
        "sections": shown,
        "limits": limits,
        "tables": sorted(tables),
        "how": how_it_ran(results),
        "reproduce": command_of(results),
    }
    write_page(folder, (("index.html", "sections.html"), ("report.md", "sections.md")), facts)


def _cells(table: pd.DataFrame | None) -> dict[str, Any] | None:
    if table is None:
        return None
    return {"columns": [str(name) for name in table], "rows": table.astype(str).to_numpy().tolist()}
