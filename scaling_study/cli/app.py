"""The commands. JAX and the other layers are imported by the commands that need them."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling_study import __version__
from scaling_study.cli import claims as claims_files
from scaling_study.cli.catalogue import KINDS, catalogue
from scaling_study.cli.compare import compare
from scaling_study.cli.console import FAILED, USAGE, fail, log, say
from scaling_study.cli.diagnosis import diagnose, say_tables
from scaling_study.cli.progress import RunProgress, busy
from scaling_study.cli.rank import rank
from scaling_study.errors import RunInterrupted, StudyError
from scaling_study.execution.signals import INTERRUPTED, leave
from scaling_study.execution.signals import check as check_signals

if TYPE_CHECKING:
    from scaling_study.storage.results import Results
    from scaling_study.study.study import Study

OUT_OF_MEMORY = ("failed to map segment", "annot allocate memory")  # messages of system loaders

app = typer.Typer(
    name="scaling-study",
    help="Does the input range affect a neural network feature's importance? Measured.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command()(diagnose)
app.command()(rank)

StudyArgument = Annotated[str, typer.Argument(help="A preset's name or a TOML file.")]
Seeds = Annotated[str | None, typer.Option(help="Seeds A to B - 1, given as A:B.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting: key=value; repeatable.")
]
OutputDir = Annotated[Path | None, typer.Option("-o", "--output-dir", help="Folder to write to.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete another study's results.")]
Claims = Annotated[Path | None, typer.Option("--claims", help="A TOML file of further claims.")]
Formats = Annotated[
    str, typer.Option("--formats", help="Formats of the figures, such as svg,png,pdf.")
]
Explore = Annotated[
    bool, typer.Option("--explore", help="Write explore.html too, which needs Vega-Altair.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print less.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print more.")]
Devices = Annotated[int | None, typer.Option(help="Number of local devices; all by default.")]
ChunkSize = Annotated[int | None, typer.Option(min=1, help="Largest number of runs in a chunk.")]
Folder = Annotated[Path, typer.Argument(help="A results folder.")]
Scheduler = Annotated[
    str | None, typer.Option(help="Compute on the workers of a Dask scheduler, tcp://HOST:8786.")
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first condition that fails.")
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Allow the file to name code, module:name.")
]


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"scaling-study {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


app.command()(compare)


@app.command()
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


@app.command(name="list")
def list_(
    what: Annotated[str | None, typer.Argument(help=" | ".join(KINDS))] = None,
    as_json: Json = False,
) -> None:
    """List the names that a study may use."""
    found = catalogue(what)
    if as_json:
        typer.echo(json.dumps(found))
        return
    indent = "" if what else "  "
    for kind, entries in found.items():
        if what is None:
            typer.echo(f"{kind}:")
        width = max(map(len, entries))
        for name, text in entries.items():
            typer.echo(f"{indent}{name:<{width}}  {text}")


@app.command()
def verify(
    files: Annotated[list[Path], typer.Argument(help="JSON files of recorded trajectories.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Replay trajectories of another framework; exit code 1 if one deviates."""
    from scaling_study.execution import preflight

    preflight.check_address_space()
    from scaling_study.execution import verify as replay

    with busy("replaying trajectories", quiet):
        found = [(file, deviation) for file in files for deviation in replay.verify(file)]
    deviations = [deviation for _, deviation in found]
    failed = sum(not deviation.holds for deviation in deviations)
    if as_json:
        cases = [{"file": str(file), **d._asdict(), "holds": d.holds} for file, d in found]
        typer.echo(json.dumps({"cases": cases, "failed": failed}))
    else:
        lines = replay.summary_lines(deviations)
        typer.echo("\n".join(lines[-1:] if quiet else lines))
    if failed:
        raise typer.Exit(FAILED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; invalid input prints one line and exits with code 2."""
    # Typer carries its own copy of Click, or uses Click's, by version; this base is either's.
    usage_error: Any = typer.BadParameter.__base__
    command = typer.main.get_command(app)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_streams(words)
        status = command.main(words, prog_name="scaling-study", standalone_mode=False)
        sys.stdout.flush()
        check_signals()
    except RunInterrupted as error:
        fail(str(error), FAILED)
    except StudyError as error:
        fail(str(error), USAGE)
    except (KeyboardInterrupt, typer.Abort):
        leave()
    except usage_error as error:
        fail(error.format_message(), USAGE)
    except BrokenPipeError:
        _close_output()
        raise SystemExit(FAILED) from None
    except MemoryError:
        fail("not enough memory for this command", FAILED)
    except ImportError as error:
        if not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        fail(f"not enough memory to load {error.name or 'a library'} ({error})", FAILED)
    except OSError as error:  # standard output on a full disk, say
        fail(f"{error.filename or 'standard output'}: {error.strerror}", FAILED)
    else:
        if status == INTERRUPTED:  # some releases of Typer turn the exception into this
            leave()
        raise SystemExit(status if isinstance(status, int) else 0)


def _check_streams(words: Sequence[str]) -> None:
    """Refuse arguments that could not be printed, and a closed standard output."""
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            raise StudyError(f"argument {word!r} is not in UTF-8") from None
    if sys.stdout is None:
        raise RunInterrupted("standard output is closed; redirect it to a file, or to /dev/null")


def _close_output() -> None:
    """Keep the interpreter from writing to a closed pipe when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
