"""The commands that run a study, and read and report its results."""

import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling_study.cli import claims as claims_files
from scaling_study.cli.console import FAILED, log, say
from scaling_study.cli.diagnosis import say_tables
from scaling_study.cli.options import (
    AllowCode,
    ChunkSize,
    Claims,
    Devices,
    Explore,
    FailFast,
    Folder,
    Formats,
    Json,
    OutputDir,
    Overwrite,
    Quiet,
    Scheduler,
    Seeds,
    Set,
    StudyArgument,
    Verbose,
)
from scaling_study.cli.progress import RunProgress, busy
from scaling_study.errors import StudyError

if TYPE_CHECKING:
    from scaling_study.storage.results import Results
    from scaling_study.study.study import Study


def run(
    study: StudyArgument,
    seeds: Seeds = None,
    set_: Set = None,
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
    devices: Devices = None,
    scheduler: Scheduler = None,
    chunk_size: ChunkSize = None,
    fail_fast: FailFast = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write watch.html into the folder as chunks arrive.")
    ] = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train every run of a study that is not stored yet."""
    results = _run(
        study,
        scheduler,
        quiet,
        verbose,
        watch=watch,
        seeds=seeds,
        settings=set_,
        output_dir=output_dir,
        overwrite=overwrite,
        devices=devices,
        chunk_size=chunk_size,
        fail_fast=fail_fast,
        allow_code=allow_code,
    )
    if as_json:
        typer.echo(json.dumps(results.manifest["summary"]))
    _exit_if_failed(results)


def status(
    folder: Folder,
    as_json: Json = False,
) -> None:
    """Print what is stored, missing and damaged; exit code 1 unless all is stored."""
    from scaling_study.storage.reader import status as status_of

    found = status_of(folder)
    if as_json:
        typer.echo(json.dumps({**found._asdict(), "complete": found.complete}))
    else:
        typer.echo("\n".join(found.lines()))
    if not found.complete:
        raise typer.Exit(FAILED)


def report(
    folder: Folder,
    claims: Claims = None,
    fresh: Annotated[
        Path | None, typer.Option("--fresh", help="Results of the study on fresh seeds.")
    ] = None,
    output_dir: OutputDir = None,
    formats: Formats = "svg",
    explore: Explore = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the report of stored results, without JAX."""
    from scaling_study.storage.results import load

    log(verbose)
    results = load(folder, allow_code=allow_code)
    other = load(fresh, allow_code=allow_code) if fresh else None
    _report(results, output_dir, as_json, quiet, formats, claims, explore=explore, fresh=other)


def confirm(
    name: Annotated[str, typer.Argument(help="A preset's name or a TOML file.")],
    seeds: Annotated[str, typer.Option(help="Fresh seeds A to B - 1, given as A:B.")],
    set_: Set = None,
    folder: Annotated[
        Path | None, typer.Option("--results", help="Its results, by default results/NAME.")
    ] = None,
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
    devices: Devices = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Judge a study's claims on fresh seeds; exit code 1 if a verdict differs.

    The fresh runs are stored beside its results, by default in results/NAME-fresh. Then
    `scaling-study report results/NAME --fresh results/NAME-fresh` shows both.
    """
    from scaling_study.storage.results import load
    from scaling_study.study.study import read_seeds, read_study

    place = folder or Path("results") / read_study(name, set_ or [], allow_code=allow_code).name
    stored = load(place, allow_code=allow_code)
    used, new = stored.study.seeds, read_seeds(seeds)
    if new[0] < used[1] and used[0] < new[1]:
        raise StudyError(f"--seeds {seeds}: {place} has seeds {used[0]}:{used[1]}; name others")
    options: dict[str, Any] = {"seeds": seeds, "settings": set_, "devices": devices}
    options |= {"output_dir": output_dir or place.with_name(f"{place.name}-fresh")}
    options |= {"overwrite": overwrite, "allow_code": allow_code}
    fresh = _run(name, None, quiet or as_json, verbose, **options)
    claims_files.confirm(stored, fresh, as_json, quiet)


def reproduce(
    name: Annotated[str, typer.Argument(help="A preset's name or a TOML file.")] = "article",
    seeds: Seeds = None,
    set_: Set = None,
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
    devices: Devices = None,
    scheduler: Scheduler = None,
    chunk_size: ChunkSize = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Train again, and compare the claims."),
    ] = False,
    formats: Formats = "svg",
    explore: Explore = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a study and write its report, by default to reports/NAME."""
    options: dict[str, Any] = {
        "seeds": seeds,
        "settings": set_,
        "devices": devices,
        "chunk_size": chunk_size,
        "allow_code": allow_code,
    }
    if check:
        file, stored = claims_files.stored(name, set_, output_dir)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder)
            results = _run(name, scheduler, quiet or as_json, verbose, output_dir=output, **options)
            claims_files.compare(results, file, stored, as_json, quiet)
        return
    results = _run(name, scheduler, quiet, verbose, overwrite=overwrite, **options)
    _report(results, output_dir, as_json, quiet, formats, overwrite=overwrite, explore=explore)
    _exit_if_failed(results)


def plan(
    study: StudyArgument,
    seeds: Seeds = None,
    set_: Set = None,
    chunk_size: ChunkSize = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Check a study and print its estimated cost, without running it."""
    from scaling_study.execution import preflight

    planned = preflight.read_plan(study, seeds, set_, chunk_size, allow_code=allow_code)
    preflight.check(planned)
    summary = planned.summary()
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(f"{'study':<12}{summary['study']:>16}")
    for key in ("conditions", "groups", "chunks", "runs", "updates"):
        typer.echo(f"{key:<12}{summary[key]:>16,}")
    typer.echo(f"{'memory':<12}{summary['memory_bytes'] / 1e6:>13.1f} MB  per chunk, estimated")
    typer.echo(f"{'disk':<12}{summary['disk_bytes'] / 1e6:>13.1f} MB  estimated")
    typer.echo(
        f"{'time':<12}{summary['seconds']:>14.1f} s  estimated for two cores, with compilation"
    )


def _run(
    study: "str | Study",
    scheduler: str | None,
    quiet: bool,
    verbose: bool,
    *,
    watch: bool = False,
    **options: Any,
) -> "Results":
    """Run a study with `scaling_study.run`, and print its progress and summary."""
    from scaling_study.execution import cluster, runner

    log(verbose)
    with ExitStack() as stack:
        on_progress = stack.enter_context(RunProgress(quiet))
        if scheduler is not None:
            options["client"] = stack.enter_context(cluster.connect(scheduler))
        if watch:
            on_progress.watch = _watch(study, options)
        results = runner.run(study, on_progress=on_progress, **options)
    if watch:
        on_progress.watch(finished=True)
    summary = results.manifest["summary"]
    say_tables(results.study, quiet)
    if not quiet:
        rate = summary["runs_per_second"]
        pace = f"{rate:,.0f} runs/s" if rate else "all were stored already"
        typer.echo(
            f"{summary['runs']:,} runs in {summary['output_dir']}: "
            + ", ".join(f"{count:,} {status}" for status, count in summary["statuses"].items())
            + f"; compiled in {summary['compile_seconds']:.1f} s, ran in"
            f" {summary['run_seconds']:.1f} s, {pace}"
        )
    if summary["chunks_damaged"]:
        say(f"{summary['chunks_damaged']} damaged chunks were trained again")
    on_progress.print(summary["failures"])
    return results


def _watch(study: "str | Study", options: dict[str, Any]) -> Any:
    """Return what writes the page of a run, beside its results."""
    from scaling_study.report.watch import Watch
    from scaling_study.study.study import read_study

    folder = options["output_dir"]
    if folder is None:
        asked = read_study(study, options["settings"] or [], allow_code=options["allow_code"])
        folder = Path("results") / asked.name
    return Watch(Path(folder), time.time())


def _exit_if_failed(results: "Results") -> None:
    if results.manifest["summary"]["failures"]:
        raise typer.Exit(FAILED)


def _report(
    results: "Results",
    output_dir: Path | None,
    as_json: bool,
    quiet: bool,
    formats: str,
    claims: Path | None = None,
    overwrite: bool = False,
    explore: bool = False,
    fresh: "Results | None" = None,
) -> None:
    from scaling_study.report.page import write_report
    from scaling_study.report.paper import CLAIMS

    more = claims_files.read(claims) if claims else None
    place = Path("reports") / results.folder.resolve().name
    with busy(f"writing the report of {results.study.name}", quiet):
        page = write_report(
            results,
            output_dir or place,
            more,
            overwrite=overwrite,
            formats=formats.split(","),
            explore=explore,
            fresh=fresh,
        )
    table = page.parent / CLAIMS
    if as_json and table.exists():
        typer.echo(table.read_text(encoding="utf-8"), nl=False)
    elif as_json:
        typer.echo(json.dumps({**results.manifest["summary"], "report": str(page)}))
    elif not quiet:
        typer.echo(f"report: {page}")
