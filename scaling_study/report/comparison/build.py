"""The report of a comparison: what differs, by quantity and by condition, and how it was made."""

from functools import partial
from typing import Any

import pandas as pd

from scaling_study.analysis.compare import DIFFERS, IDENTICAL, SAME, UNCLEAR, YES_NO, Comparison
from scaling_study.report.comparison import figures
from scaling_study.report.document import Report, Words
from scaling_study.report.labels import estimate, label_conditions, number, percent
from scaling_study.storage.results import Results

OUTCOMES = (IDENTICAL, SAME, DIFFERS, UNCLEAR)
MOST_ROWS = 60  # of the table of differences
MOST_PANELS = 8


def build(found: Comparison, first: Results, names: tuple[str, str]) -> Report:
    """Return the report of a comparison.

    Parameters
    ----------
    found : Comparison
    first : Results
        Of the first folder, for the labels of the conditions.
    names : (str, str)
        What the two folders are called.
    """
    cells = labelled(found, first)
    words = Words(__package__ or "", **facts(found, names))
    drawn = cells[cells["outcome"] != IDENTICAL]
    drawn = drawn[drawn["quantity"].isin(drawn["quantity"].unique()[:MOST_PANELS])]
    draw = partial(figures.differences, names=names)
    shown = [words.figure("differences", drawn, draw)] if len(drawn) else []
    differing = cells[cells["outcome"] == DIFFERS].sort_values(["p_adjusted", "p"], kind="stable")
    sections = [words.section("outcomes", *shown, words.table("outcomes", outcomes(found)))]
    if len(differing):
        table = words.table("differing", as_text(differing.head(MOST_ROWS), names))
        sections.append(words.section("differing", table))
    if len(found.provenance):
        made = found.provenance.set_axis(["what", *names], axis=1)
        sections.append(words.section("provenance", words.table("provenance", made)))
    return Report(
        title=f"What differs between {names[0]} and {names[1]}?",
        lead=words("lead"),
        sections=tuple(sections),
        limits=words("limits"),
        files={"cells.csv": cells},
    )


def labelled(found: Comparison, first: Results) -> pd.DataFrame:
    """Return the cells of a comparison with the setting and the scaler of their condition."""
    conditions = first.conditions.set_index("condition")
    conditions = conditions.loc[found.matched["condition"]].reset_index()
    conditions = conditions.assign(**{axis: found.matched[axis] for axis in found.across})
    labels = label_conditions(conditions).set_index("condition")
    names = {name: found.cells["condition"].map(labels[name]) for name in ("setting", "scaler")}
    return pd.concat([pd.DataFrame(names), found.cells], axis=1)


def outcomes(found: Comparison) -> pd.DataFrame:
    """Return the number of conditions of each outcome, by quantity, as text."""
    counts = pd.crosstab(found.cells["quantity"], found.cells["outcome"])
    counts = counts.reindex(index=found.cells["quantity"].unique(), columns=list(OUTCOMES))
    counts = counts.fillna(0).astype(int).assign(conditions=lambda table: table.sum(axis=1))
    return counts[["conditions", *OUTCOMES]].map("{:,}".format).reset_index()


def as_text(cells: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """Return cells as a table of text, an interval below each estimate."""
    shares = cells["scale"] == YES_NO
    columns: dict[str, Any] = {
        "setting": cells["setting"] + ", " + cells["scaler"],
        "quantity": cells["quantity"],
    }
    for side, name in zip(("first", "second"), names, strict=True):
        columns[name] = [
            percent(value) if is_share else number(value)
            for value, is_share in zip(cells[side], shares, strict=True)
        ]
    columns["difference or ratio"] = [
        estimate(*row) for row in cells[["value", "low", "high"]].itertuples(index=False)
    ]
    columns["p, adjusted"] = [
        "< 0.0001" if p < 1e-4 else number(p, 2) for p in cells["p_adjusted"].astype(float)
    ]
    return pd.DataFrame(columns)


def facts(found: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    """Return what the text states."""
    counts = found.cells["outcome"].value_counts()
    return {
        "first": names[0],
        "second": names[1],
        "conditions": len(found.matched),
        "compared": len(found.cells),
        "differing": len(found.differences),
        "differing_conditions": found.differences["condition"].nunique(),
        "differing_shown": min(len(found.differences), MOST_ROWS),
        **{name: int(counts.get(name, 0)) for name in OUTCOMES},
        "paired": bool(found.matched["paired"].all()),
        "unpaired": bool((~found.matched["paired"]).all()),
        "across": [f"{axis} ({a} against {b})" for axis, (a, b) in found.across.items()],
        "unmatched": found.unmatched,
        "tolerance": f"{100 * found.tolerance:g} %",
        "seeds": int(found.cells["n"].max()),
    }
