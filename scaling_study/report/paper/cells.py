"""A page for each claim with all of its cells, and the lines of the study that define each."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scaling_study.analysis.verdicts import Verdict, axes_of
from scaling_study.report import labels
from scaling_study.report.document import About, Report, Section, Table, Words
from scaling_study.report.explorer_claims import MATCHED
from scaling_study.report.paper import claims
from scaling_study.report.render import page
from scaling_study.report.source import LISTING, Lines, listing, outline
from scaling_study.storage.results import Results
from scaling_study.storage.schema import STUDY

UP = "../"
ABOUT = About("Files", "", (("report", f"[index.html]({UP}index.html)"),))


def source_of(results: Results) -> str:
    """Return the text of the study's file, as it is copied beside the report."""
    return (results.folder / STUDY).read_text(encoding="utf-8")


def pages(results: Results, verdicts: Sequence[Verdict], words: Words) -> dict[str, str]:
    """Return the page of each claim's cells, and that of the study, by their names."""
    source = source_of(results)
    lines = outline(source)
    found = {LISTING: listing(source, results.study.title or results.study.name)}
    for name, of_models in claims.by_claim(verdicts).items():
        judged = [verdict for verdict in of_models.values() if len(verdict.cells)]
        if judged:
            found[file_of(name)] = page(_report(name, judged, lines, words), ABOUT)
    return found


def explored(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return the cells of all claims, see `Report.cells`."""
    parts = [
        verdict.cells[["value", "low", "high"]].assign(
            claim=f"{verdict.claim.id}, {claims.NAMES[verdict.claim.models]}",
            said=f"{verdict.verdict}: {claims.plain(verdict)}",
            unit=claims.unit_of(verdict.claim),
            null=verdict.claim.null,
            smallest=verdict.claim.smallest,
            standing=claims.standing(verdict),
            of=[
                _named(row, [axis for axis in axes_of(verdict.cells) if axis not in MATCHED])
                for row in verdict.cells.to_dict("records")
            ],
            **{axis: verdict.cells[axis] for axis in MATCHED if axis in verdict.cells},
        )
        for verdict in verdicts
        if len(verdict.cells)
    ]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    factor = "scale_factor"
    return found.assign(scale_factor=found[factor].astype(float)) if factor in found else found


def _named(cell: Mapping[Any, Any], axes: Sequence[str]) -> str:
    """Return a cell's axes as text."""
    said = [f"{axis.replace('_', ' ')} {str(cell[axis]).removesuffix('.0')}" for axis in axes]
    return ", ".join(said) or "all runs"


def file_of(claim: str) -> str:
    """Return the name of the page of a claim's cells."""
    return f"cells/{claim}.html"


def links(names: Sequence[str], lines: Mapping[str, Lines], up: str = "") -> str:
    """Return links to tables of the study's page with their lines, in Markdown."""
    return labels.listing(
        [f"[{n}]({up}{LISTING}#{n}) (lines {lines[n]})" for n in names if n in lines]
    )


def _report(
    name: str, judged: Sequence[Verdict], lines: Mapping[str, Lines], words: Words
) -> Report:
    claim = judged[0].claim
    return Report(
        title=f"{name}: all cells",
        lead=words("cells", quote=" ".join(claim.quote.split()), quantifier=claim.quantifier),
        sections=tuple(_section(verdict, lines, words) for verdict in judged),
    )


def _section(verdict: Verdict, lines: Mapping[str, Lines], words: Words) -> Section:
    claim = verdict.claim
    facts = claims.facts_of(verdict)
    table_name = f"claims.{claim.id}" + ("" if claim.models == "linear" else f".{claim.models}")
    text = words("cells_of", m=facts, study=links([table_name], lines, UP))
    table = Table(
        name=claim.name,
        title=f"{claim.id}, {facts['models']}",
        frame=_rows(verdict, lines),
        badge="says",
        links={"defined in": f"{UP}{LISTING}#blocks.{{}}"},
    )
    return Section(facts["models"], text, (table,))


def _rows(verdict: Verdict, lines: Mapping[str, Lines]) -> pd.DataFrame:
    """Return a row for each cell: what it is of, its effect, what it says, where it is defined."""
    axes = axes_of(verdict.cells)
    standing = claims.standing(verdict)
    rows: list[dict[str, Any]] = []
    for says, cell in zip(standing, verdict.cells.to_dict("records"), strict=True):
        blocks = [block for block in cell["blocks"].split(", ") if block]
        where = ", ".join(str(lines[f"blocks.{b}"]) for b in blocks if f"blocks.{b}" in lines)
        lost = [
            f"{labels.percent(cell[what])} {what}" for what in ("missing", "diverged") if cell[what]
        ]
        rows.append(
            {
                "cell": _named(cell, axes),
                "effect": labels.estimate(cell["value"], cell["low"], cell["high"]),
                "says": says + "\n" + ", ".join([cell["outcome"], f"n {cell['n']}", *lost]),
                "defined in": ", ".join(blocks) + (f"\nlines {where}" if where else ""),
            }
        )
    return pd.DataFrame(rows)
