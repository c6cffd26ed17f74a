"""What a report is made of: sections of text, figures and tables, as plain values.

A sub-package of `scaling_study.report` builds a `Report` from results; `render` writes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure as Drawing

from scaling_study.report import labels


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure: its words, its numbers, and the function that draws it.

    `name` names its files, `caption` is Markdown, and `data` is written as CSV. `draw` gets the
    data, and the style of `style.RC`.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    draw: Callable[[pd.DataFrame], Drawing]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as it is shown, text in every cell.

    What follows a line break in a cell is set small below the rest: an interval under its
    estimate. `note` is Markdown; `group` is the column whose values head groups of rows, `badge`
    the one, or those, shown as coloured labels. `links` has columns whose cells are links, to this
    file with the cell's text in place of ``{}``.
    """

    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""
    group: str = ""
    badge: str | tuple[str, ...] = ""
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A heading, a text in Markdown, then figures and tables in the order they are given.

    A section without a heading continues the one before; one that is folded opens on a click.
    """

    heading: str
    text: str = ""
    items: tuple[Figure | Table, ...] = ()
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is found, in the order of the page.

    Attributes
    ----------
    title : str
        The question.
    lead : str
        The answer in at most 60 words: what was found, how sure, what it does not say.
    sections : tuple of Section
        The first holds the figure and the table that show the answer.
    limits : str
        Where it could be wrong (Markdown).
    files : mapping of str to DataFrame or str
        Further files by their name in the report's folder: a frame is written as CSV at full
        precision, text as it is. ``tables/NAME.csv`` replaces what is shown of table NAME.
    cells : DataFrame
        The cells of claims, one a row, for the explorer: ``claim, said`` (its verdict), ``unit,
        null, smallest, of`` (its other axes), ``value, low, high, standing``, and axes where
        they have one value.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]
    limits: str = ""
    files: Mapping[str, pd.DataFrame | str] = field(default_factory=dict)
    cells: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class About:
    """The last section of a page: what it is about, and the files and commands behind it.

    `entries` are terms with their texts (Markdown).
    """

    heading: str
    description: str
    entries: tuple[tuple[str, str], ...]


class Words:
    """The text of a report: the named blocks of ``report.md.jinja`` in its package.

    Parameters
    ----------
    package : str
        ``__package__`` of the report.
    **facts
        What every block may use. Text in it is escaped: it makes no tag and no link.

    Examples
    --------
    >>> words = Words(__package__, seeds=1000)  # doctest: +SKIP
    >>> words("lead", share=0.25)  # doctest: +SKIP
    'Of 1,000 runs, 25.0 % diverged.'
    """

    def __init__(self, package: str, **facts: Any) -> None:
        self._template = _environment(package).get_template("report.md.jinja")
        self._facts = facts

    def with_facts(self, **facts: Any) -> "Words":
        """Return the same text with further facts."""
        more = object.__new__(Words)
        more._template, more._facts = self._template, {**self._facts, **facts}
        return more

    def __call__(self, block: str, **facts: Any) -> str:
        """Return a block as Markdown, a paragraph or list item to each line."""
        context = self._template.new_context({**self._facts, **facts})
        text = "".join(self._template.blocks[block](context)).strip()
        title, _, rest = text.partition("\n") if text.startswith("# ") else ("", "", text)
        paragraphs = (part.split("\n- ") for part in rest.strip().split("\n\n"))
        joined = ["\n- ".join(" ".join(item.split()) for item in part) for part in paragraphs]
        return "\n\n".join(part for part in (title, *joined) if part)

    def figure(
        self,
        name: str,
        data: pd.DataFrame,
        draw: Callable[[pd.DataFrame], Drawing],
        *,
        suffix: str = "",
        **facts: Any,
    ) -> Figure:
        """Return a figure with the title and the caption of block ``figure_NAME``."""
        title, caption = self._titled(f"figure_{name}", facts)
        return Figure(name=name + suffix, title=title, caption=caption, data=data, draw=draw)

    def table(self, name: str, frame: pd.DataFrame, **options: Any) -> Table:
        """Return a table with the title and the note of block ``table_NAME``."""
        title, note = self._titled(f"table_{name}", {})
        return Table(name=name, title=title, frame=frame, note=note, **options)

    def section(self, name: str, *items: Figure | Table, folded: bool = False) -> Section:
        """Return a section with the heading and the text of block ``section_NAME``."""
        return Section(*self._titled(f"section_{name}", {}), items, folded)

    def _titled(self, block: str, facts: Mapping[str, Any]) -> tuple[str, str]:
        """Return the title of a block, its first line ``# TITLE``, and its text."""
        text = self(block.replace("-", "_"), **facts)
        title, _, rest = text.partition("\n\n") if text.startswith("# ") else ("", "", text)
        return title.removeprefix("# "), rest


@cache
def _environment(package: str) -> Environment:
    folder = Path(str(import_module(package).__file__)).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        finalize=lambda value: labels.escape(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "percent", "hundredths", "listing", "count"):
        environment.filters[name] = getattr(labels, name)
    return environment
