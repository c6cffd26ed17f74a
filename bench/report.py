"""Turns pytest-benchmark's JSON into reports/bench: a table, a figure of ratios, the machine.

python report.py FILE.json FOLDER
"""

import json
import platform
import shutil
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import jinja2
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

HERE = Path(__file__).parent
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "torch", "keras")
TITLES = {
    "linear": "The article's training, linear model",
    "network": "The same with an MLP 2-16-1",
    "scaling": "More of the same",
    "other": "What surrounds a training",
}
OURS = "scaling_study"


def read(path: Path) -> pd.DataFrame:
    """Return one row per benchmark: kind, name, median seconds and quartiles, runs per second."""
    rows = []
    for entry in json.loads(path.read_text())["benchmarks"]:
        stats, labels = entry["stats"], entry["extra_info"]
        rows.append(
            {
                "kind": labels["kind"],
                "name": labels["name"],
                "seconds": stats["median"],
                "q1": stats["q1"],
                "q3": stats["q3"],
                "rounds": stats["rounds"],
                "runs": labels.get("runs"),
            }
        )
    frame = pd.DataFrame(rows)
    frame["runs_per_second"] = frame["runs"] / frame["seconds"]
    return frame


def with_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """Add how many times as fast ours (curves, all devices) is as each row of its kind."""
    frame = frame.copy()
    for kind in ("linear", "network"):
        own = frame[(frame["kind"] == kind)]
        ours = own[own["name"].str.startswith(f"{OURS}, curves")]["runs_per_second"].max()
        frame.loc[own.index, "ours_is_times_as_fast"] = ours / own["runs_per_second"]
    return frame


def figure(frame: pd.DataFrame, folder: Path) -> None:
    """Draw runs per second of every way to train, with how many times ours is as fast."""
    sns.set_theme(style="whitegrid", context="notebook")
    kinds = [kind for kind in ("linear", "network") if (frame["kind"] == kind).any()]
    heights = [len(frame[frame["kind"] == kind]) for kind in kinds]
    fig, axes = plt.subplots(
        len(kinds), 1, figsize=(9, 0.42 * sum(heights) + 1.4 * len(kinds)), sharex=True,
        height_ratios=heights, layout="constrained", squeeze=False,
    )  # fmt: skip
    for ax, kind in zip(axes[:, 0], kinds, strict=True):
        own = frame[frame["kind"] == kind].sort_values("runs_per_second")
        colours = ["#0072B2" if name.startswith(OURS) else "#999999" for name in own["name"]]
        ax.barh(own["name"], own["runs_per_second"], color=colours, left=0.1)
        for place, row in enumerate(own.itertuples()):
            ratio = row.ours_is_times_as_fast
            text = f" {_number(row.runs_per_second)}/s" + (
                "" if ratio == 1 else f"  ({ratio:,.3g} ×)"
            )
            ax.text(row.runs_per_second * 1.1, place, text, va="center", fontsize=9)
        ax.set(xscale="log", title=TITLES[kind], xlabel="", ylabel="", xlim=(0.1, 3e8))
        ax.grid(visible=False, axis="y")
        sns.despine(ax=ax, left=True)
    axes[-1, 0].set_xlabel("runs per second (ours is so many times as fast)")
    for suffix in ("svg", "png"):
        fig.savefig(folder / f"throughput.{suffix}", dpi=120)
    plt.close(fig)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def write(frame: pd.DataFrame, data: dict[str, Any], folder: Path) -> None:
    """Write report.md, tables/ and figures/."""
    for name in ("figures", "tables"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    frame.to_csv(folder / "tables" / "benchmarks.csv", index=False, float_format="%.6g")
    figure(frame, folder / "figures")
    template = jinja2.Template((HERE / "report.md.jinja").read_text(), trim_blocks=True)
    text = template.render(
        kinds=[(TITLES[kind], frame[frame["kind"] == kind].to_dict("records")) for kind in TITLES],
        number=_number,
        machine=f"{platform.system()} {platform.machine()}, {processor()},"
        f" {data['machine_info']['cpu']['count']} cores",
        python=platform.python_version(),
        packages=", ".join(_version(name) for name in PACKAGES),
        when=datetime.now(UTC).date().isoformat(),
        commit=data["commit_info"].get("id", "unknown")[:12],
    )
    (folder / "report.md").write_text(text)


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    write(with_ratios(read(source)), json.loads(source.read_text()), target)
