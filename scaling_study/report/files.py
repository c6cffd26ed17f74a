"""What every report writes: figures and tables as files, templates, and who ran what."""

import re
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from scaling_study.report.figures import STYLE
from scaling_study.storage.results import Results
from scaling_study.study.study import presets


def write_csv(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    """Write a table as CSV, the same bytes everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, lineterminator="\n", **options)


def write_figure(figure: Figure, path: Path, *suffixes: str) -> None:
    """Write a figure in each format, without dates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nothing: dict[str, dict[str, Any]] = {
        ".svg": {"Date": None, "Creator": None},
        ".png": {"Software": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    with matplotlib.rc_context(STYLE):
        for suffix in suffixes:
            figure.savefig(path.with_suffix(suffix), metadata=nothing[suffix])
            figure.set_layout_engine("none")  # laid out once is enough for all


def write_page(folder: Path, names: tuple[tuple[str, str], ...], facts: dict[str, Any]) -> None:
    """Fill templates: pairs of a file's name and its template's."""
    environment = Environment(
        loader=PackageLoader("scaling_study.report"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name, template in names:
        own = facts if name.endswith(".html") else _in_markdown(facts)
        text = environment.get_template(template).render(own)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _in_markdown(value: Any) -> Any:
    """Return facts whose text makes no tag and no cell of what it is filled into."""
    if isinstance(value, str):
        text = value.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
        return LINK.sub(_harmless, " ".join(text.splitlines()))
    if isinstance(value, dict):
        return {_in_markdown(key): _in_markdown(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return type(value)._make(map(_in_markdown, value))  # type: ignore[attr-defined]
    if isinstance(value, list | tuple):
        return [_in_markdown(item) for item in value]
    return value


# Where a link's target begins with a scheme: [text](scheme:... and [text]: scheme:...
LINK = re.compile(r"\](\(|:)(\s*)([A-Za-z][A-Za-z0-9+.-]*):")
SCHEMES = ("http", "https")


def _harmless(found: re.Match[str]) -> str:
    """Return the beginning of a link as it is, or as text where it leads elsewhere than the web."""
    whole, sign, space, scheme = found.group(0, 1, 2, 3)
    return whole if scheme.lower() in SCHEMES else f"]\\{sign}{space}{scheme}:"


def how_it_ran(results: Results) -> dict[str, str]:
    """Return who ran what, where and when, as far as the manifest says."""
    manifest = results.manifest
    first, last = results.study.seeds
    packages = manifest.get("packages", {})
    seconds = [manifest.get(f"{part}_seconds") for part in ("compile", "run")]
    fitted = manifest.get("estimator_seconds")
    fitting = "" if fitted is None else f", {fitted:.1f} s fitting scikit-learn's estimators"
    found = {
        "runs": f"{results.count:,}: {len(results.conditions):,} conditions by"
        f" {last - first:,} seeds ({first} to {last - 1})",
        "machine": manifest.get("machine"),
        "devices": ", ".join(manifest.get("devices", [])),
        "time": f"{seconds[0]:.1f} s compiling, {seconds[1]:.1f} s running" + fitting
        if None not in seconds
        else None,
        "finished": manifest.get("finished"),
        "commit": manifest.get("git_commit"),
        "Python": manifest.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }
    return {key: str(value) for key, value in found.items() if value}


def command_of(results: Results) -> str:
    """Return the command that makes a study's report again."""
    name = results.study.name
    return f"scaling-study reproduce {name if name in presets() else 'study.toml'}"
