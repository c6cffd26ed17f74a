"""The command ``scaling-study compare``: what differs between two results folders."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling_study.cli.console import FAILED
from scaling_study.cli.options import AllowCode, Formats, Json, Quiet
from scaling_study.cli.progress import busy

if TYPE_CHECKING:
    from scaling_study.analysis.compare import Comparison

SHOWN = 10  # differences that are printed


def compare(
    first: Annotated[Path, typer.Argument(help="A results folder.")],
    second: Annotated[Path, typer.Argument(help="Another results folder.")],
    across: Annotated[
        list[str] | None,
        typer.Option("--across", help="An axis on which they are meant to differ; repeatable."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Differences up to this share count as none.")
    ] = 0.01,
    output_dir: Annotated[
        Path | None, typer.Option("-o", "--output-dir", help="Folder to write a page to.")
    ] = None,
    formats: Formats = "svg",
    allow_code: AllowCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two results folders; exit code 1 if they differ by more than noise."""
    from scaling_study.analysis import compare as analysis
    from scaling_study.report.comparison.build import labelled
    from scaling_study.report.comparison.page import names_of, write_comparison
    from scaling_study.storage.results import load

    one, other = (load(folder, allow_code=allow_code) for folder in (first, second))
    page = None
    with busy("comparing", quiet):
        found = analysis.compare(one, other, across=across, tolerance=tolerance)
        if output_dir is not None:
            page = write_comparison(found, one, other, output_dir, formats=formats.split(","))
    cells = labelled(found, one)
    cells = cells[cells["outcome"] == analysis.DIFFERS].sort_values(["p_adjusted", "p"])
    if as_json:
        typer.echo(json.dumps(summary(found, cells.to_dict("records"), page)))
    else:
        typer.echo("\n".join(lines(found, cells, names_of(first, second), quiet)))
        if page is not None and not quiet:
            typer.echo(f"page: {page}")
    if len(cells):
        raise typer.Exit(FAILED)


def summary(
    found: "Comparison", differences: list[dict[Any, Any]], page: Path | None
) -> dict[str, Any]:
    """Return a comparison as a JSON object."""
    return {
        "conditions": len(found.matched),
        "unmatched": list(found.unmatched),
        "across": {axis: list(values) for axis, values in found.across.items()},
        "tolerance": found.tolerance,
        "compared": len(found.cells),
        "outcomes": {str(k): int(n) for k, n in found.cells["outcome"].value_counts().items()},
        "provenance": found.provenance.to_dict("records"),
        "differences": differences,
        "page": None if page is None else str(page),
    }


def lines(found: "Comparison", differences: Any, names: tuple[str, str], quiet: bool) -> list[str]:
    """Return a comparison as lines of text; the last one says how much differs."""
    told = []
    for axis, (one, other) in found.across.items():
        told.append(f"{axis}: {one} in {names[0]}, {other} in {names[1]}")
    for row in found.provenance.itertuples(index=False):
        told.append(f"{row.what}: {row.first} in {names[0]}, {row.second} in {names[1]}")
    for name, count in zip(names, found.unmatched, strict=True):
        if count:
            told.append(f"{count:,} conditions only in {name} are not compared")
    for row in differences.head(SHOWN).itertuples(index=False):
        told.append(
            f"differs: {row.setting}, {row.scaler}: {row.quantity} {row.first:.4g} and"
            f" {row.second:.4g}, {row.scale.replace('yes or no', 'difference')} {row.value:.4g}"
            f" ({row.low:.4g} to {row.high:.4g}), adjusted p {row.p_adjusted:.2g}"
        )
    if len(differences) > SHOWN:
        told.append(f"and {len(differences) - SHOWN:,} more")
    counts = found.cells["outcome"].value_counts()
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    last = f"{len(found.cells):,} comparisons of {len(found.matched):,} conditions: {parts}"
    return [last] if quiet else [*told, last]
