"""What the commands do with claims: read further ones, compare them with stored ones, confirm."""

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scaling_study.cli.console import FAILED
from scaling_study.cli.progress import busy
from scaling_study.errors import StudyError
from scaling_study.files import read_text
from scaling_study.study.values import error_context

if TYPE_CHECKING:
    from scaling_study.storage.results import Results


def read(file: Path) -> dict[str, Any]:
    """Read a TOML file of claims, ``[claims.NAME]``."""
    with error_context(file, OSError, ValueError, RecursionError):
        found = tomllib.loads(read_text(file))
        if found.keys() != {"claims"} or not isinstance(found["claims"], dict):
            raise StudyError("must hold tables [claims.NAME] and nothing else")
        return found["claims"]


def stored(name: str, settings: list[str] | None, report_dir: Path | None) -> tuple[Path, Any]:
    """Return the file of claims in a study's report, and its content."""
    from scaling_study.report.paper import CLAIMS
    from scaling_study.study.study import read_study

    file = (report_dir or Path("reports") / read_study(name, settings or []).name) / CLAIMS
    with error_context(f"{file}: no claims to compare with", OSError, ValueError):
        return file, json.loads(read_text(file))


def compare(results: "Results", file: Path, stored: Any, as_json: bool, quiet: bool) -> None:
    """Compare the claims of a study that was trained again with stored ones."""
    from scaling_study.analysis.claims import read_claims
    from scaling_study.analysis.verdicts import changed_claims, judge_all

    with busy("testing the claims", quiet):
        verdicts = judge_all(results, read_claims(results.study))
    found = changed_claims(stored, [verdict.entry() for verdict in verdicts])
    if as_json:
        typer.echo(json.dumps({"claims": len(verdicts), "differences": found}))
    elif not quiet:
        for line in found:
            typer.echo(line)
        typer.echo(
            f"{len(verdicts)} claims tested again: "
            + (f"{len(found)} differ from {file}" if found else f"all as in {file}")
        )
    if found:
        raise typer.Exit(FAILED)


def confirm(stored: "Results", fresh: "Results", as_json: bool, quiet: bool) -> None:
    """Compare the claims of a study with the same claims on fresh seeds."""
    from scaling_study.analysis import confirmation
    from scaling_study.analysis.claims import read_claims
    from scaling_study.analysis.verdicts import judge_all

    with busy("testing the claims on both sets of seeds", quiet):
        first, second = (judge_all(r, read_claims(r.study)) for r in (stored, fresh))
    found = confirmation.compare(first, second)
    if as_json:
        flips = found.flips.to_dict("records")
        counts = {"cells": len(found.cells), "outside": len(found.outside)}
        typer.echo(json.dumps({"claims": len(found.claims), "flips": flips, **counts}))
    elif not quiet:
        typer.echo("\n".join(found.lines()))
    if len(found.flips):
        raise typer.Exit(FAILED)
