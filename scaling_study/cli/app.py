"""The commands. JAX and the other layers are imported by the commands that need them."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from scaling_study import __version__
from scaling_study.cli.catalogue import KINDS, catalogue
from scaling_study.cli.compare import compare
from scaling_study.cli.console import FAILED, USAGE, fail
from scaling_study.cli.diagnosis import diagnose
from scaling_study.cli.options import Json, Quiet
from scaling_study.cli.progress import busy
from scaling_study.cli.rank import rank
from scaling_study.cli.studies import confirm, plan, report, reproduce, run, status
from scaling_study.errors import RunInterrupted, StudyError
from scaling_study.execution.signals import INTERRUPTED, leave
from scaling_study.execution.signals import check as check_signals

OUT_OF_MEMORY = ("failed to map segment", "annot allocate memory")  # messages of system loaders

app = typer.Typer(
    name="scaling-study",
    help="Does the input range affect a neural network feature's importance? Measured.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for command in (diagnose, rank, run, status, report, confirm, reproduce, compare, plan):
    app.command()(command)


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
