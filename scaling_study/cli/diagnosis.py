"""The command ``diagnose``: whether, and how, the columns of a table should be scaled."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling_study.cli.console import log, say
from scaling_study.cli.options import Json, Quiet, Verbose
from scaling_study.cli.progress import RunProgress, busy
from scaling_study.errors import StudyError

if TYPE_CHECKING:
    from scaling_study.report.diagnosis.data import Diagnosis
    from scaling_study.study.study import Study

Names = list[str] | None
MOST_NAMED = 8  # columns with remarks, in one line


def diagnose(
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    optimizer: Annotated[
        Names, typer.Option(help="A name, or your own as module:factory; repeatable.")
    ] = None,
    scaler: Annotated[Names, typer.Option(help="A scaler to try; repeatable.")] = None,
    hidden: Annotated[str, typer.Option(help="Hidden layers of the network: 16 or 32,32.")] = "16",
    task: Annotated[str | None, typer.Option(help="regression or classification.")] = None,
    scale: Annotated[Names, typer.Option(help="Scale these columns only; repeatable.")] = None,
    drop: Annotated[Names, typer.Option(help="Leave a column out; repeatable.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Hold out whole groups of rows, by this column.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Hold out the last rows by this column.")] = None,
    splits: Annotated[int | None, typer.Option(min=4, help="Number of splits, 8.")] = None,
    output_dir: Annotated[
        Path | None, typer.Option("-o", "--output-dir", help="Folder of the report.")
    ] = None,
    results_dir: Annotated[Path | None, typer.Option(help="Folder of the runs.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Say whether, and how, the columns of a table should be scaled.

    The runs are stored in results/TABLE by default, and the report in reports/TABLE; each
    diagnosis replaces them.
    """
    from scaling_study.execution import diagnose as run
    from scaling_study.report.diagnosis.data import file_name
    from scaling_study.report.page import write_report

    log(verbose)
    chosen: dict[str, Any] = {"optimizers": optimizer, "scalers": scaler, "splits": splits}
    options = {key: value for key, value in chosen.items() if value}
    name = file_name(table.name)
    with RunProgress(quiet) as on_progress:
        found = run.diagnose(
            table,
            target=target,
            hidden=_widths(hidden),
            output_dir=results_dir or Path("results") / name,
            overwrite=results_dir is None,
            on_progress=on_progress,
            **options,
            **{"task": task, "scale": scale, "drop": drop, "groups": groups, "time": time},
        )
    with busy("writing the report", quiet):
        page = write_report(found.results, output_dir or Path("reports") / name, overwrite=True)
    for warning in found.problem.warnings:
        say(f"warning: {warning}")
    if as_json:
        typer.echo(json.dumps({**found.to_dict(), "report": str(page)}))
    else:
        typer.echo("\n".join(_lines(found, quiet)))
        typer.echo(f"report: {page}")


def say_tables(study: "Study", quiet: bool = False) -> None:
    """Print how each table of a study is read, and in any case what is wrong with it."""
    from scaling_study.study.conditions import problem_of

    for component in dict.fromkeys(part for part in study.components() if part.is_table):
        problem = problem_of(component)
        for warning in problem.warnings:
            say(f"warning: {component}: {warning}")
        for note in () if quiet else problem.notes:
            say(f"{component}: {note}")


def _widths(text: str) -> list[int]:
    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        widths = [0]
    if min(widths) < 1:
        raise StudyError(f"--hidden {text}: write whole numbers above 0, such as 16 or 32,32")
    return widths


def _lines(found: "Diagnosis", quiet: bool) -> list[str]:
    """Return the answer and, unless quiet, how the table was read and the scalers' scores."""
    if quiet:
        return found.answer
    from scaling_study.report.diagnosis.rows import summary_rows

    rows = summary_rows(found).map(lambda cell: str(cell).partition("\n")[0])
    notes = [*found.problem.notes, *_worth_naming(found)]
    return [*notes, "", *found.answer, "", rows.to_string(index=False), ""]


def _worth_naming(found: "Diagnosis") -> list[str]:
    """Return the line on columns with unusual units, offsets or shapes, if there are any."""
    named = found.columns[found.columns["remarks"] != ""]
    if named.empty:
        return []
    said = [f"{row.feature} ({row.remarks})" for row in named.head(MOST_NAMED).itertuples()]
    more = f"; {len(named) - MOST_NAMED} more are on the page" if len(named) > MOST_NAMED else ""
    return [f"columns worth naming: {'; '.join(said)}{more}"]
