"""What conditions, features and numbers are called on a page."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

PLAIN_AXES = ("optimizer", "model")
OWN_AXES = ("condition", "scaler")
BASELINE = "none"
MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def label_conditions(conditions: pd.DataFrame) -> pd.DataFrame:
    """Return ``condition, setting, scaler, reach`` of each condition, in the order of the study.

    The setting names every axis that varies within the study, the scaler apart; the reach is the
    learning rate times the updates (training units), NaN where one of them is no number.
    """
    # A column with a point is a part of another's text.
    axes = conditions.drop(columns=[c for c in conditions if "." in str(c)])
    varying = [c for c in axes if c not in OWN_AXES and axes[c].astype(str).nunique() > 1]
    ordered = ["optimizer", *(c for c in varying if c not in ("optimizer", "block"))]
    settings = axes[ordered].apply(_setting, axis=1)
    scalers = conditions["scaler"].astype(str)
    # In a comparison across one of these it is the text of two numbers.
    rate, updates = (
        pd.to_numeric(conditions[name], errors="coerce") for name in ("learning_rate", "updates")
    )
    if pd.DataFrame({"setting": settings, "scaler": scalers}).duplicated().any():
        settings = "block " + axes["block"].astype(str) + ", " + settings
    return pd.DataFrame(
        {
            "condition": conditions["condition"].astype(str),
            "setting": settings,
            "scaler": scalers,
            "reach": rate * updates,
        }
    )


def number(value: float, digits: int = 3) -> str:
    """Return a number for reading: `digits` significant ones, thousands set apart."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # 0.9996 is 1.00
    decimals = max(0, digits - 1 - exponent)
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def percent(share: float) -> str:
    """Return a share, from 0 to 1, in percent; ``100 %`` and ``0 %`` only where exactly that."""
    if math.isnan(share):
        return MISSING
    if not 0 <= share <= 1:
        raise ValueError(f"{share} is no share")
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    if share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share <= 0.999 else "> 99.9 %"


def hundredths(value: float) -> str:
    """Return any number in percent, such as a difference of shares or a deviation."""
    return f"{number(100 * value)} %" if math.isfinite(value) else number(value)


def estimate(value: float, low: float, high: float) -> str:
    """Return an estimate with its interval on a second line, where there is one."""
    if math.isnan(low) or low == high:
        return number(value)
    return f"{number(value)}\n{number(low)} to {number(high)}"


def share(value: float, low: float, high: float) -> str:
    """Return a share with its interval on a second line, in percent."""
    if math.isnan(value):
        return MISSING
    return f"{percent(value)}\n{percent(low)[:-2]} to {percent(high)}"


def listing(words: list[str], last: str = "and") -> str:
    """Return words as a sentence lists them."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def count(value: float) -> str:
    """Return a whole number with its thousands set apart."""
    return f"{value:,.0f}"


# Where a link's target begins with a scheme: [text](scheme:... and [text]: scheme:...
_LINK = re.compile(r"\](\(|:)(\s*)([A-Za-z][A-Za-z0-9+.-]*):")


def escape(text: str) -> str:
    """Return text that makes no tag, no cell of a table and no link of the Markdown it is in.

    Links to the web are left as they are.
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return _LINK.sub(_harmless, " ".join(text.splitlines()))


def _harmless(found: re.Match[str]) -> str:
    whole, sign, space, scheme = found.group(0, 1, 2, 3)
    return whole if scheme.lower() in ("http", "https") else f"]\\{sign}{space}{scheme}:"


def scaler_name(scaler: str) -> str:
    """Return what a scaler is called where the bare word ``none`` would mislead."""
    return "none (raw)" if scaler == BASELINE else scaler


def values_of(blocks: Mapping[str, Mapping[str, list[Any]]], axis: str) -> list[str]:
    """Return what an axis is throughout a study's blocks, each value once, as text."""
    values = (value for grid in blocks.values() for value in grid[axis])
    return list(dict.fromkeys(_plain(value) for value in values))


def budgets_of(blocks: Mapping[str, Mapping[str, list[Any]]]) -> str:
    """Return the budgets of a study's blocks for a sentence, such as ``15 and 40 epochs``."""
    found: dict[str, dict[str, None]] = {"updates": {}, "epochs": {}}
    for grid in blocks.values():
        for updates in grid["updates"]:
            unit = "epochs" if updates == "none" else "updates"
            values = grid["epochs"] if updates == "none" else [updates]
            found[unit] |= {f"{value:,}": None for value in values}
    said = [f"{listing(list(values))} {unit}" for unit, values in found.items() if values]
    return listing(said)


def batches_of(blocks: Mapping[str, Mapping[str, list[Any]]]) -> str:
    """Return the batches of a study's blocks for a sentence."""
    parts = [grid for grid in blocks.values() if grid["sampling"] != ["full"]]
    whole = any("full" in grid["sampling"] for grid in blocks.values())
    sizes = list(dict.fromkeys(str(size) for grid in parts for size in grid["batch_size"]))
    said = [f"batches of {listing(sizes)}"] if sizes else []
    return listing([*said, *(["the full batch"] if whole else [])])


def slug(text: str) -> str:
    """Return text as a part of a file name."""
    words = "".join(c if c.isascii() and (c.isalnum() or c == ".") else " " for c in text.lower())
    return "-".join(words.replace(".", " ").split())


def _setting(axes: pd.Series) -> str:
    return ", ".join(
        str(value) if name in PLAIN_AXES else f"{str(name).replace('_', ' ')} {_plain(value)}"
        for name, value in axes.items()
    )


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
