"""What one accelerator does with the engine: a table of throughput over chunk widths.

    python bench/gpu.py FOLDER [vmap | throughput | paper | widths ...] [--quick]

Writes FOLDER/gpu.md and FOLDER/gpu.json, of all four kinds of measurement if none is named.
Programs are compiled before they are timed; each time is the median of three, from the orders on
the host to the Parquet bytes of every chunk. No measurement begins after `MOST_SECONDS`, and the
paper is stopped after `PAPER_SECONDS`.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import network
from conftest import Trainer

WIDTHS = (16384, 65536, 262144)  # runs a chunk, beside what the project chooses
SEEDS = {"throughput": "0:1024", "throughput-mlp": "0:1024", "throughput-network": "0:1024"}
QUICK = {"throughput": "0:128", "throughput-mlp": "0:32", "throughput-network": "0:32"}
WIDE = (
    *((30, (64, 64), 64, 5), (30, (64, 64), 64, 100), (30, (64, 64), 1024, 5)),
    *((30, (64, 64), 1024, 50), (85, (256, 256), 256, 2), (85, (256, 256), 256, 50)),
)
MOST_SECONDS = 270
PAPER_SECONDS = 340
Row = dict[str, Any]


def median_seconds(function: Callable[[], object], rounds: int = 3) -> float:
    """Return the median wall time of a few calls."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def throughput(preset: str, seeds: str, width: int | None, record: str) -> Row:
    """Train a preset in chunks of a width; return its runs per second."""
    begin = time.perf_counter()
    trainer = Trainer(preset, [f'seeds="{seeds}"', f"record={record}"], chunk_size=width)
    first = time.perf_counter() - begin
    seconds = median_seconds(trainer)
    return {
        "workload": f"{preset}, {record}",
        "runs": trainer.runs,
        "width": width or "chosen",
        "first": first,
        "seconds": seconds,
        "runs_per_second": trainer.runs / seconds,
    }


def whole(preset: str, folder: Path) -> Row:
    """Run a preset through the command line, compiling included."""
    command = [sys.executable, "-m", "scaling_study", "run", preset, "--json"]
    begin = time.perf_counter()
    how: dict[str, Any] = {"capture_output": True, "text": True, "timeout": PAPER_SECONDS}
    try:
        done = subprocess.run([*command, "--overwrite", "-o", str(folder)], check=True, **how)
    except subprocess.TimeoutExpired as error:
        (*_, last) = (error.stderr or b"no line of progress").decode().splitlines()
        raise TimeoutError(f"stopped at: {last}") from error
    seconds = time.perf_counter() - begin
    summary = json.loads(done.stdout.splitlines()[-1])
    return {
        "workload": f"scaling-study run {preset}",
        "runs": summary["runs"],
        "width": "chosen",
        "first": summary["compile_seconds"],
        "seconds": seconds,
        "runs_per_second": summary["runs"] / seconds,
    }


def beside_vmap(*shape: Any) -> Row:
    """Train a network of a shape, and the same by ``jax.vmap`` of whole trainings.

    That with matrix products in full float32, as ours, and as JAX has them by default, which on
    many GPUs is TensorFloat-32.
    """
    begin = time.perf_counter()
    ours = network.ours(*shape)
    first = time.perf_counter() - begin
    seconds = median_seconds(ours)
    theirs = []
    for precision in ("highest", "default"):
        with jax.default_matmul_precision(precision):
            plain = network.plain(*shape)
            plain()
            theirs.append(f"{median_seconds(plain) / seconds:.2f}")
    features, hidden, runs, epochs = shape
    layers = "-".join(map(str, (features, *hidden, 1)))
    ratios = f"vmap takes {theirs[0]} × as long, {theirs[1]} × in its default precision"
    return {
        "workload": f"{layers}, {epochs} epochs; {ratios}",
        "runs": runs,
        "width": "chosen",
        "first": first,
        "seconds": seconds,
        "runs_per_second": runs / seconds,
    }


def attempt(rows: list[Row], function: Callable[..., Row], *arguments: Any) -> None:
    """Add what a measurement gave, or why it failed."""
    try:
        rows.append(function(*arguments))
    except Exception as error:  # a table with a gap says more than none
        line = " ".join(str(error).split())[:200]
        rows.append({"workload": " ".join(map(str, arguments)), "error": line})
    print(rows[-1], flush=True)


def page(rows: list[Row]) -> str:
    """Return the table as Markdown."""
    device = jax.devices()[0]
    lines = [
        "# The engine on an accelerator",
        "",
        f"{device.device_kind}, JAX {jax.__version__}. Runs per second from the host's orders to"
        " Parquet bytes, median of three after a first call that compiles.",
        "",
        "| workload | runs | runs a chunk | first call, s | s | runs/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['workload']} | failed: {row['error']} | | | | |")
            continue
        lines.append(
            f"| {row['workload']} | {row['runs']:,} | {row['width']} | {row['first']:.1f} |"
            f" {row['seconds']:.2f} | {row['runs_per_second']:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def cases(folder: Path, quick: bool) -> dict[str, list[Any]]:
    """Return what is measured, as a function and its arguments, by the kind of measurement."""
    seeds = QUICK if quick else SEEDS
    return {
        "vmap": [(beside_vmap, *shape) for shape in WIDE],
        "throughput": [
            (throughput, preset, seeds[preset], None, record)
            for preset in reversed(seeds)
            for record in ("curves", "standard")
        ],
        "paper": [] if quick else [(whole, "paper", folder / "paper-runs")],
        "widths": [
            (throughput, preset, seeds[preset], width, "curves")
            for preset in seeds
            for width in (() if quick else WIDTHS)
        ],
    }


def main(folder: Path, *chosen: str) -> None:
    """Measure and write the page, which is rewritten after each row."""
    rows: list[Row] = []
    kinds = cases(folder, "--quick" in chosen)
    named = [kind for kind in kinds if kind in chosen] or list(kinds)
    begin = time.perf_counter()
    for case in (case for kind in named for case in kinds[kind]):
        if time.perf_counter() - begin > MOST_SECONDS:
            break
        attempt(rows, *case)
        (folder / "gpu.md").write_text(page(rows), encoding="utf-8")
        (folder / "gpu.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
