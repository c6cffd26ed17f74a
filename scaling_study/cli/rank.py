"""The command ``rank``: how sensitive an optimizer is to units, beside all others."""

from pathlib import Path
from typing import Annotated, Any

import typer

from scaling_study.cli.console import FAILED, log
from scaling_study.cli.options import Devices, Json, Quiet, Verbose
from scaling_study.cli.progress import RunProgress, busy


def rank(
    optimizers: Annotated[
        list[str], typer.Argument(help="Names, or your own as package.module:factory.")
    ],
    problems: Annotated[
        str | None, typer.Option(help="Problems of the benchmark, with commas between them.")
    ] = None,
    budget: Annotated[str, typer.Option(help="quick: six problems; full: all of them.")] = "full",
    output_dir: Annotated[
        Path | None, typer.Option("-o", "--output-dir", help="Folder of the report.")
    ] = None,
    results_dir: Annotated[Path | None, typer.Option(help="Folder of the runs.")] = None,
    devices: Devices = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Rank optimizers by their sensitivity to the unit of a feature, beside committed results.

    Only the named optimizers are trained. The runs are stored in results/rank by default, and
    the report in reports/rank; each ranking replaces them.
    """
    from scaling_study.execution.rank import study_of
    from scaling_study.execution.runner import run
    from scaling_study.report.benchmark import data, tables
    from scaling_study.report.page import write_report

    log(verbose)
    names = [name.strip() for name in problems.split(",")] if problems else None
    options: dict[str, Any] = {"output_dir": results_dir, "devices": devices}
    with RunProgress(quiet) as on_progress:
        study = study_of(optimizers, names, budget)
        results = run(study, overwrite=results_dir is None, on_progress=on_progress, **options)
    on_progress.print(results.manifest["summary"]["failures"])
    with busy("writing the report", quiet):
        page = write_report(results, output_dir or Path("reports") / "rank", overwrite=True)
    board = data.read_leaderboard(page.parent)
    if as_json:
        typer.echo(board.to_json(orient="records"))
    else:
        typer.echo(tables.as_text(board, results.study).to_string(index=False))
        typer.echo(f"report: {page}")
    if results.manifest["summary"]["failures"]:
        raise typer.Exit(FAILED)
