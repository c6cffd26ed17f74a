"""The command line: reads arguments, calls one function, prints. JAX is imported only to run."""

import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling_study import __version__
from scaling_study.cli.console import FAILED, USAGE, ProgressBar, fail, log, say
from scaling_study.errors import RunInterrupted, StudyError, unknown
from scaling_study.execution.signals import INTERRUPTED, leave
from scaling_study.execution.signals import check as check_signals
from scaling_study.files import read_text
from scaling_study.study.values import error_context

if TYPE_CHECKING:
    from scaling_study.storage.results import Results

LISTS = ("presets", "axes", "problems", "scalers", "models", "optimizers", "measures")

app = typer.Typer(
    name="scaling-study",
    help="Does the input range affect a neural network feature's importance? Measured.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

StudyArgument = Annotated[str, typer.Argument(help="A preset's name or a TOML file.")]
Seeds = Annotated[str | None, typer.Option(help="A:B, from A up to but without B.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="key=value; repeatable.")]
OutputDir = Annotated[Path | None, typer.Option("-o", "--output-dir", help="Where to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another study's results.")]
Claims = Annotated[
    Path | None, typer.Option("--claims", help="A TOML file of claims beside the study's own.")
]
Formats = Annotated[
    str, typer.Option("--formats", help="Formats of the figures, such as svg,png,pdf.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")]
Devices = Annotated[int | None, typer.Option(help="Local devices to use; all by default.")]
ChunkSize = Annotated[int | None, typer.Option(min=1, help="Most runs in a chunk; recorded.")]
Folder = Annotated[Path, typer.Argument(help="A results folder.")]
Scheduler = Annotated[
    str | None, typer.Option(help="A Dask scheduler whose workers compute, tcp://HOST:8786.")
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first condition that fails.")
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Import code (module:name) that the file names.")
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
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Say what of a study is done, missing and damaged; exit 1 unless all is there."""
    from scaling_study.storage.reader import status as status_of

    found = status_of(folder, allow_code=allow_code)
    if as_json:
        typer.echo(json.dumps({**found._asdict(), "complete": found.complete}))
    else:
        for line in found.lines():
            typer.echo(line)
    if not found.complete:
        raise typer.Exit(FAILED)


@app.command()
def report(
    folder: Folder,
    claims: Claims = None,
    output_dir: OutputDir = None,
    formats: Formats = "svg",
    allow_code: AllowCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the report of stored results; JAX is not needed."""
    from scaling_study.storage.results import load

    log(verbose)
    results = load(folder, allow_code=allow_code)
    _report(results, output_dir, as_json, quiet, formats, claims)


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
        bool, typer.Option("--check", help="Train anew, and hold the claims to the report's.")
    ] = False,
    formats: Formats = "svg",
    allow_code: AllowCode = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a study and write its report, to reports/NAME unless told otherwise."""
    options: dict[str, Any] = {
        "seeds": seeds,
        "settings": set_,
        "devices": devices,
        "chunk_size": chunk_size,
        "allow_code": allow_code,
    }
    if check:
        file, ledger = _ledger(name, set_, output_dir)
        with tempfile.TemporaryDirectory() as folder:
            results = _run(name, scheduler, True, verbose, output_dir=Path(folder), **options)
            _check(results, file, ledger, as_json, quiet)
        return
    results = _run(name, scheduler, quiet, verbose, overwrite=overwrite, **options)
    _report(results, output_dir, as_json, quiet, formats, overwrite=overwrite)
    _exit_if_failed(results)


@app.command()
def rank(
    optimizers: Annotated[
        list[str], typer.Argument(help="Yours, as package.module:factory, or others by name.")
    ],
    seeds: Seeds = None,
    set_: Set = None,
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
    devices: Devices = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Put optimizers on the leaderboard of scale sensitivity, beside adam, sgd and rmsprop.

    The runs are stored in results/rank, which each ranking replaces, unless told otherwise.
    """
    from scaling_study.analysis import sensitivity
    from scaling_study.analysis.measures import Table
    from scaling_study.report.sensitivity.data import shown

    names = list(dict.fromkeys([*RANKED_BESIDE, *optimizers]))
    results = _run(
        "sensitivity",
        None,
        quiet or as_json,
        verbose,
        seeds=seeds,
        settings=[*(set_ or []), f"optimizer={json.dumps(names)}", "name=rank"],
        output_dir=output_dir,
        overwrite=overwrite or output_dir is None,
        devices=devices,
    )
    board = sensitivity.leaderboard(sensitivity.grids(Table(results)))
    if as_json:
        typer.echo(board.to_json(orient="records"))
    else:
        typer.echo(shown(board).iloc[:, :5].to_string(index=False))
    _exit_if_failed(results)


@app.command()
def plan(
    study: StudyArgument,
    seeds: Seeds = None,
    set_: Set = None,
    chunk_size: ChunkSize = None,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Say whether a study can be run, and what it comes to; nothing runs."""
    from scaling_study.execution import runner

    planned = runner.read_plan(study, seeds, set_, chunk_size, allow_code=allow_code)
    runner.check(planned)
    summary = planned.summary()
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(f"{'study':<12}{summary['study']:>16}")
    for key in ("conditions", "groups", "chunks", "runs", "updates"):
        typer.echo(f"{key:<12}{summary[key]:>16,}")
    typer.echo(f"{'memory':<12}{summary['memory_bytes'] / 1e6:>13.1f} MB  a chunk, estimated")
    typer.echo(f"{'disk':<12}{summary['disk_bytes'] / 1e6:>13.1f} MB  estimated")
    typer.echo(
        f"{'time':<12}{summary['seconds']:>14.1f} s  on two typical cores, compiling included"
    )


@app.command(name="list")
def list_(
    what: Annotated[str | None, typer.Argument(help=" | ".join(LISTS))] = None,
    as_json: Json = False,
) -> None:
    """List what a study may name: axes and their values, presets, and measures of claims."""
    if what is not None and what not in LISTS:
        raise unknown("list", what, LISTS)
    found = {kind: _entries(kind) for kind in ([what] if what else LISTS)}
    if as_json:
        typer.echo(json.dumps(found))
        return
    for kind, entries in found.items():
        if what is None:
            typer.echo(f"{kind}:")
        width = max(map(len, entries))
        for name, text in entries.items():
            typer.echo(f"{'' if what else '  '}{name:<{width}}  {text}")


@app.command()
def verify(
    files: Annotated[list[Path], typer.Argument(help="Reference trajectories, JSON.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Replay trajectories recorded with another framework; exit 1 if one does not hold."""
    from scaling_study.execution import runner

    runner.check_address_space()
    from scaling_study.execution import verify as replay

    found = [(file, deviation) for file in files for deviation in replay.verify(file)]
    if not quiet and not as_json:
        width = max(len(d.case) for _, d in found) + 2
        typer.echo(
            f"{'case':<{width}}{'objective':<10}{'loss':>9}{'gradient':>10}{'parameter':>10}"
        )
        for _, d in found:
            typer.echo(
                f"{d.case:<{width}}{d.objective:<10}{d.loss:>9.1e}{d.gradient_norm:>10.1e}"
                f"{d.parameters:>10.1e}{'' if d.holds else '  FAILS'}"
            )
    failed = sum(not d.holds for _, d in found)
    if as_json:
        rows = [{"file": str(file), **d._asdict(), "holds": d.holds} for file, d in found]
        typer.echo(json.dumps({"cases": rows, "failed": failed}))
    else:
        typer.echo(
            f"{len(found) - failed} of {len(found)} replays hold (loss of every update within"
            f" {replay.LOSS_TOLERANCE:g} relative, parameters within"
            f" {replay.PARAMETER_TOLERANCE:g} of the largest)"
        )
    if failed:
        raise typer.Exit(FAILED)


RANKED_BESIDE = ("adam", "sgd", "rmsprop")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; bad input is one line on standard error and exit code 2."""
    # Typer carries its own copy of Click, or uses Click's, by version; this base is either's.
    usage_error: Any = typer.BadParameter.__base__
    command = typer.main.get_command(app)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_streams(words)
        status = command.main(
            words,
            prog_name="scaling-study",
            standalone_mode=False,
        )
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
        if not any(words in str(error) for words in NO_MEMORY):
            raise
        fail(f"not enough memory to load {error.name or 'a library'} ({error})", FAILED)
    except OSError as error:  # standard output on a full disk, say
        fail(f"{error.filename or 'standard output'}: {error.strerror}", FAILED)
    else:
        if status == INTERRUPTED:  # some releases of Typer turn the exception into this
            leave()
        raise SystemExit(status if isinstance(status, int) else 0)


NO_MEMORY = ("failed to map segment", "annot allocate memory")  # what a system's loader says


def _check_streams(words: Sequence[str]) -> None:
    """Refuse words that could not be printed, and an output that is closed."""
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            raise StudyError(f"argument {word!r} is not in UTF-8") from None
    if sys.stdout is None:
        raise RunInterrupted("standard output is closed; redirect it to a file, or to /dev/null")


def _close_output() -> None:
    """Have the interpreter write nothing more where nobody reads."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(
    study: str, scheduler: str | None, quiet: bool, verbose: bool, **options: Any
) -> "Results":
    """Run a study as `scaling_study.run`, telling how it goes."""
    from scaling_study.execution import executors, runner

    log(verbose)
    with ExitStack() as stack:
        on_progress = stack.enter_context(ProgressBar(quiet))
        if scheduler is not None:
            options["client"] = stack.enter_context(executors.scheduler(scheduler))
        results = runner.run(study, on_progress=on_progress, **options)
    summary = results.manifest["summary"]
    if not quiet:
        rate = summary["runs_per_second"]
        pace = f"{rate:,.0f} runs/s" if rate else "all stored before"
        typer.echo(
            f"{summary['runs']:,} runs in {summary['output_dir']}: "
            + ", ".join(f"{count:,} {status}" for status, count in summary["statuses"].items())
            + f"; compiled in {summary['compile_seconds']:.1f} s, ran in"
            f" {summary['run_seconds']:.1f} s, {pace}"
        )
    if summary["chunks_damaged"]:
        say(f"{summary['chunks_damaged']} damaged chunks were trained again")
    for reason in summary["failures"]:
        if reason not in on_progress.told:
            say(reason)
    return results


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
) -> None:
    from scaling_study.report.page import write_report
    from scaling_study.report.paper import CLAIMS

    more = _claims_of(claims) if claims else None
    place = Path("reports") / results.folder.resolve().name
    page = write_report(
        results, output_dir or place, more, overwrite=overwrite, formats=formats.split(",")
    )
    ledger = page.parent / CLAIMS
    if as_json and ledger.exists():
        typer.echo(ledger.read_text(encoding="utf-8"), nl=False)
    elif as_json:
        typer.echo(json.dumps({**results.manifest["summary"], "report": str(page)}))
    elif not quiet:
        typer.echo(f"report: {page}")


def _claims_of(file: Path) -> dict[str, Any]:
    """Read a TOML file of claims, ``[claims.NAME]``."""
    with error_context(file, OSError, ValueError, RecursionError):
        found = tomllib.loads(read_text(file))
        if found.keys() != {"claims"} or not isinstance(found["claims"], dict):
            raise StudyError("must hold tables [claims.NAME] and nothing else")
        return found["claims"]


def _ledger(name: str, settings: list[str] | None, report_dir: Path | None) -> tuple[Path, Any]:
    """Return the ledger of a study's report, and its file."""
    from scaling_study.report.paper import CLAIMS
    from scaling_study.study.study import read_study

    file = (report_dir or Path("reports") / read_study(name, settings or []).name) / CLAIMS
    with error_context(f"{file}: no ledger to check against", OSError, ValueError):
        return file, json.loads(read_text(file))


def _check(results: "Results", file: Path, ledger: Any, as_json: bool, quiet: bool) -> None:
    """Compare the claims of a study that was trained anew with a ledger."""
    from scaling_study.analysis.claims import read_claims
    from scaling_study.analysis.verdicts import differences, judge_all

    verdicts = judge_all(results, read_claims(results.study))
    found = differences(ledger, [verdict.entry() for verdict in verdicts])
    if as_json:
        typer.echo(json.dumps({"claims": len(verdicts), "differences": found}))
    elif not quiet:
        for line in found:
            typer.echo(line)
        typer.echo(
            f"{len(verdicts)} claims trained anew: "
            + (f"{len(found)} differ from {file}" if found else f"all as in {file}")
        )
    if found:
        raise typer.Exit(FAILED)


def _entries(kind: str) -> dict[str, str]:
    """Return the names of a registry with a line on each."""
    if kind == "presets":
        from scaling_study.study.study import presets

        return presets()
    if kind == "axes":
        from scaling_study.study.study import AXES

        return {name: f"{axis.meaning} (default {axis.default})" for name, axis in AXES.items()}
    if kind == "measures":
        from scaling_study.analysis.measures import MEASURES as REGISTRY
    elif kind == "scalers":
        from scaling_study.study.scalers import SCALERS as REGISTRY
    elif kind == "problems":
        from scaling_study.study.datasets import EVERY_PROBLEM as REGISTRY
    elif kind == "models":
        from scaling_study.engine.models import MODELS as REGISTRY
    else:
        from scaling_study.engine.optimizers import OPTIMIZERS, describe

        return {name: describe(name) for name in OPTIMIZERS}
    # Python started with -OO keeps no words.
    lines = {name: next(iter((e.__doc__ or "").splitlines()), "") for name, e in REGISTRY.items()}
    return {name: line.removeprefix("Return ").replace("`", "") for name, line in lines.items()}
