"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

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
