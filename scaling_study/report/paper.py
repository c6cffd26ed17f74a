"""The report of a study that makes claims: question, answer, ledger, figures, methods, limits.

Every number in its text is computed from the stored runs; none is written here.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis import coverage, summary
from scaling_study.analysis.verdicts import VERDICTS, Verdict
from scaling_study.report.atlas import Plate, plates_of
from scaling_study.report.files import (
    command_of,
    how_it_ran,
    write_csv,
    write_figure,
    write_page,
)
from scaling_study.report.labels import MISSING, listing, number
from scaling_study.storage.results import Results

CLAIMS = "claims.json"
COVERAGE_SEEDS = (10, 30, 200)
COVERAGE_STUDIES = 10_000
COVERAGE_SEED = 7
ENOUGH = (0.93, 0.97)
LATEX_COLUMNS = {
    "block": "block",
    "optimizer": "optimizer",
    "learning_rate": "rate",
    "scaler": "scaler",
    "scale_factor": "s",
    "n": "n",
    "converged": "reached",
    "diverged": "diverged",
    "steps_to_target": "updates",
    "weight_error": "E",
}


def write_paper(results: Results, folder: Path, verdicts: list[Verdict]) -> None:
    """Write the page, its text, figures and tables into an empty folder.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`.
    folder : Path
    verdicts : list of Verdict
        From `scaling_study.analysis.verdicts.judge_all`.
    """
    write_ledger(verdicts, folder / CLAIMS)
    for found in verdicts:
        write_csv(found.cells, folder / "tables" / "claims" / f"{found.claim.id}.csv")
    plates = []
    for place, plate in enumerate(plates_of(results, verdicts), 1):
        stem = f"{place:02d}-{plate.name}"
        write_figure(plate.figure, folder / "figures" / stem, ".svg", ".png", ".pdf")
        write_csv(plate.table, folder / "tables" / "figures" / f"{stem}.csv")
        plates.append({"stem": stem, **plate._asdict()})
    covered = _coverage()
    write_csv(covered, folder / "tables" / "coverage.csv")
    _write_conditions(results, folder / "tables")
    _write_latex(_ledger_table(verdicts), folder / "tables" / "claims.tex")
    facts = _facts(results, verdicts, plates, covered)
    write_page(folder, (("index.html", "paper.html"), ("report.md", "paper.md")), facts)


def write_ledger(verdicts: list[Verdict], path: Path) -> None:
    """Write the ledger as ``claims.json``, one object a claim."""
    path.write_text(ledger_text(verdicts), encoding="utf-8", newline="\n")


def ledger_text(verdicts: list[Verdict]) -> str:
    """Return the ledger as JSON, a list of objects."""
    return json.dumps([found.entry() for found in verdicts], indent=1, ensure_ascii=False) + "\n"


def _facts(
    results: Results, verdicts: list[Verdict], plates: list[dict[str, Any]], covered: pd.DataFrame
) -> dict[str, Any]:
    """Return what the templates are filled from."""
    runs, study = results.runs, results.study
    statuses = results.statuses
    budgets = results.conditions["updates"]
    return {
        "title": study.title or study.name,
        "description": " ".join(study.description.split()),
        "answer": answer(verdicts),
        "claims": [_shown(found) for found in verdicts],
        "plates": plates,
        "how": how_it_ran(results),
        "blocks": _blocks(results),
        "coverage": covered.to_dict("records"),
        "coverage_said": _coverage_said(covered),
        "statuses": listing([f"{n:,} {name.replace('_', ' ')}" for name, n in statuses.items()]),
        "runs": f"{len(runs):,}",
        "conditions": f"{len(results.conditions):,}",
        "budgets": " to ".join(f"{n:,}" for n in sorted({budgets.min(), budgets.max()})),
        "controls": _controls(verdicts),
        "seeds": f"{study.seeds[1] - study.seeds[0]:,}",
        "reproduce": command_of(results),
        "check": f"{command_of(results)} --check",
    }


def answer(verdicts: list[Verdict]) -> list[str]:
    """Return the answer in three sentences, each word that judges from a verdict."""
    of = {found.claim.id: found for found in verdicts}
    judged = [found for found in verdicts if not found.claim.control]
    counts = Counter(found.verdict for found in judged)
    said = listing([_counted(counts[name], name) for name in VERDICTS if counts[name]])
    what = "sentence" if len(judged) == 1 else "sentences"
    first = f"Of {len(judged)} {what}, {said}." if judged else ""
    return [sentence for sentence in (first, _of_article(of), _of_rest(of)) if sentence]


def _controls(verdicts: list[Verdict]) -> str:
    """Say which claims are negative controls."""
    names = [found.claim.id for found in verdicts if found.claim.control]
    if not names:
        return ""
    are = "is a negative control, which" if len(names) == 1 else "are negative controls, which"
    return f"{listing(names)} {are} must not be supported."


def _counted(n: int, verdict: str) -> str:
    if verdict == "depends":
        return f"{n} depend{'s' * (n == 1)} on a factor that is named"
    return f"{n} {'is' if n == 1 else 'are'} {verdict}"


def _of_article(of: dict[str, Verdict]) -> str:
    """Say what the article's own experiment shows, from C13 and C15."""
    if not {"C13", "C15"} <= of.keys():
        return ""
    larger, nearer = of["C13"], of["C15"]
    share = f"{larger.estimate.value:.0%} of the starts".replace("%", " %")
    moved = 10 ** abs(nearer.estimate.value)
    way = "nearer" if nearer.estimate.value > 0 else "further off"
    least = "at least " if nearer.verdict in ("supported", "refuted") else ""
    return (
        f"In the article's own experiment the second weight ends much larger in {share}, and"
        f" min-max scaling leaves the weights {way}, from the truth and from least squares, by a"
        f" factor of {least}{number(moved, 2)}: {_word(larger)}, {_word(nearer)}."
    )


def _of_rest(of: dict[str, Verdict]) -> str:
    """Say what range does and does not do elsewhere, from C4, C6, C10 and C24."""
    if not {"C4", "C6", "C10", "C24"} <= of.keys():
        return ""
    grows, weight, skewed, always = (of[name] for name in ("C4", "C6", "C10", "C24"))
    depends = [
        f"on the {_axis(found.depends_on)} whether {what} ({found.claim.id})"
        for found, what in (
            (skewed, "importance is skewed at all"),
            (always, "scaling is the better choice"),
        )
        if found.verdict == "depends"
    ]
    tail = f"; it depends {listing(depends)}" if depends else ""
    return (
        "That a larger range makes larger gradients"
        f" {_said(grows)} (C4), that it draws larger weights {_said(weight)} (C6){tail}."
    )


def _axis(name: str | None) -> str:
    """Return what an axis is called in a sentence."""
    words = {"rates": "choice of the learning rate", "updates": "budget", "measure": "method"}
    return words.get(str(name), str(name).replace("_", " "))


def _said(found: Verdict) -> str:
    """Return a verdict as the end of a sentence."""
    if found.verdict == "depends":
        return f"depends on the {_axis(found.depends_on)}"
    return f"is {found.verdict}"


def _word(found: Verdict) -> str:
    return f"{found.claim.id} {_said(found)}"


def _shown(found: Verdict) -> dict[str, Any]:
    value, low, high, n = found.estimate
    measure = " / ".join(name.replace("_", " ") for name in found.claim.measure)
    return {
        "id": found.claim.id,
        "quote": found.claim.quote,
        "verdict": found.verdict,
        "slug": found.verdict.replace(" ", "-"),
        "measure": measure,
        "estimate": number(value),
        "interval": f"{number(low)} to {number(high)}" if np.isfinite(low) else MISSING,
        "n": f"{n:,}",
        "depends_on": (found.depends_on or MISSING).replace("_", " "),
        "reason": found.reason,
        "blocks": ", ".join(found.claim.blocks),
    }


def _ledger_table(verdicts: list[Verdict]) -> pd.DataFrame:
    columns = ("id", "verdict", "measure", "estimate", "interval", "n", "depends_on")
    return pd.DataFrame([{name: _shown(found)[name] for name in columns} for found in verdicts])


def _blocks(results: Results) -> list[dict[str, str]]:
    """Return what each block is, for the methods."""
    rows = []
    conditions = results.conditions
    counts = results.runs.groupby("block", observed=True).size()
    for block, own in conditions.groupby("block", sort=False):
        varied = [
            name
            for name in own.columns
            if "." not in name and name not in ("condition", "block") and own[name].nunique() > 1
        ]
        what = listing([f"{own[name].nunique()} of {name.replace('_', ' ')}" for name in varied])
        rows.append(
            {
                "block": str(block),
                "problem": str(own["problem"].iloc[0]),
                "updates": " and ".join(f"{n:,}" for n in sorted(own["updates"].unique())),
                "runs": f"{counts[block]:,}",
                "varied": what or MISSING,
            }
        )
    return rows


def _coverage() -> pd.DataFrame:
    generator = np.random.default_rng(COVERAGE_SEED)
    frames = [coverage.coverage(n, COVERAGE_STUDIES, generator=generator) for n in COVERAGE_SEEDS]
    return pd.concat(frames, ignore_index=True)


def _coverage_said(covered: pd.DataFrame) -> str:
    """Say where the intervals hold what they promise, and where they do not."""
    low, high = ENOUGH
    fine = covered["coverage"].between(low, high)
    most = covered["n"].max()
    good = covered[fine & (covered["n"] == most)]["interval"]
    bad = covered[~fine]
    text = (
        f"Over {COVERAGE_STUDIES:,} simulated studies of a skewed law, {len(good)} of"
        f" {covered['interval'].nunique()} intervals cover the truth in {low:.0%} to {high:.0%} of"
        f" them at n = {most}"
    )
    if not len(bad):
        return f"{text}, and at every smaller n that was tried."
    parts = [
        f"{row['interval']} at n = {row['n']} ({row['coverage']:.1%})"
        for row in bad.to_dict("records")
    ]
    return f"{text}. Outside that lie {listing(parts)}."


def _write_conditions(results: Results, folder: Path) -> None:
    """Write what became of each condition, as CSV and as LaTeX."""
    found = summary.summarize_runs(results.runs, results.conditions)
    axes = results.conditions.drop(columns="updates")
    varied = [name for name in axes if axes[name].astype(str).nunique() > 1]
    whole = axes[varied].merge(found, on="condition")
    write_csv(whole, folder / "conditions.csv", float_format="%.6g")
    short = whole[[n for n in LATEX_COLUMNS if n in whole]].rename(columns=LATEX_COLUMNS)
    _write_latex(short, folder / "conditions.tex")


def _write_latex(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as a LaTeX longtable, booktabs rules."""
    heads = " & ".join(_escaped(name) for name in frame)
    lines = [
        "% needs \\usepackage{booktabs,longtable}",
        f"\\begin{{longtable}}{{{'l' * frame.shape[1]}}}",
        "\\toprule",
        f"{heads} \\\\",
        "\\midrule \\endhead",
        *(f"{' & '.join(_escaped(x) for x in row)} \\\\" for row in frame.itertuples(index=False)),
        "\\bottomrule",
        "\\end{longtable}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _escaped(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    for mark in "\\&%$#_{}~^":
        text = text.replace(mark, " " if mark == "\\" else f"\\{mark}")
    return text


__all__ = ["CLAIMS", "Plate", "answer", "ledger_text", "write_ledger", "write_paper"]
