"""The paper: which figures and tables it has, and over which runs.

Every number in its text is computed from the stored runs.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis.claims import read_claims
from scaling_study.analysis.verdicts import VERDICTS, Verdict, judge_all
from scaling_study.report.document import Figure, Report, Section, Table, Words
from scaling_study.report.labels import MISSING, listing, number, scaler_name
from scaling_study.report.paper import CLAIMS, data, figures
from scaling_study.report.paper.data import MissingConditionsError, TableCache, axis_text, choose
from scaling_study.report.render import latex
from scaling_study.report.standard.figures import incidence, weights
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

ENOUGH = (0.93, 0.97)  # coverage of an interval that holds what it promises
MOST_POINTS = 3_000  # of a cloud
LATEX_COLUMNS = (
    *("block", "optimizer", "learning_rate", "scaler", "scale_factor", "n"),
    *("converged", "diverged", "steps_to_target", "weight_error"),
)
LATEX_NAMES = {
    **{"learning_rate": "rate", "scale_factor": "s", "converged": "reached"},
    **{"steps_to_target": "updates", "weight_error": "E"},
}
Drawn = Callable[[TableCache, Callable[..., Figure]], Figure]


def applies(study: Study) -> bool:
    """Say whether a study makes claims."""
    return bool(study.claims)


def build(results: Results) -> Report:
    """Return the report of a study's results and claims."""
    verdicts = judge_all(results, read_claims(results.study))
    covered = data.simulated_coverage()
    words = Words(__package__ or "", **_facts(results, verdicts, covered))
    claims = words.figure("claims", data.outcomes(verdicts), figures.claims)
    coverage = words.table("coverage", data.coverage_table(covered))
    return Report(
        title=results.study.title or results.study.name,
        lead=words("lead"),
        sections=(
            words.section("claims", claims, _table(verdicts, words)),
            *sections_of(results, words),
            words.section("methods", words.table("blocks", data.blocks_table(results))),
            words.section("coverage", coverage),
        ),
        limits=words("limits"),
        files=_files(results, verdicts, covered),
    )


def claims_text(verdicts: list[Verdict]) -> str:
    """Return the judged claims as JSON, a list of objects."""
    return json.dumps([found.entry() for found in verdicts], indent=1, ensure_ascii=False) + "\n"


def _files(
    results: Results, verdicts: list[Verdict], covered: pd.DataFrame
) -> dict[str, pd.DataFrame | str]:
    conditions = data.conditions_table(results)
    short = conditions[[name for name in LATEX_COLUMNS if name in conditions]]
    rounded = conditions.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    columns = ["id", "verdict", "measure", "estimate", "interval", "n", "depends_on"]
    claims = pd.DataFrame([_shown(found) for found in verdicts])[columns]
    return {
        CLAIMS: claims_text(verdicts),
        "tables/claims.tex": latex(claims),
        "tables/conditions.csv": rounded,
        "tables/conditions.tex": latex(short.rename(columns=LATEX_NAMES)),
        "tables/coverage.csv": covered,
        **{f"tables/claims/{found.claim.id}.csv": found.cells for found in verdicts},
    }


# Words and tables -----------------------------------------------------------------------------


def _facts(results: Results, verdicts: list[Verdict], covered: pd.DataFrame) -> dict[str, Any]:
    budgets = results.conditions["updates"]
    first, last = results.study.seeds
    judged = [found for found in verdicts if not found.claim.control]
    counts = Counter(found.verdict for found in judged)
    words = {name: name for name in VERDICTS} | {"depends": "dependent on a factor that is named"}
    said = [f"{counts[name]} {words[name]}" for name in VERDICTS if counts[name]]
    outside = covered[~covered["coverage"].between(*ENOUGH)]
    most = covered["n"].max()
    return {
        "claims": {found.claim.id: _shown(found) | {"said": _said(found)} for found in verdicts},
        "judged": len(judged),
        "verdicts": listing(said),
        "controls": [found.claim.id for found in verdicts if found.claim.control],
        "runs": len(results.runs),
        "conditions": len(results.conditions),
        "seeds": last - first,
        "budgets": " to ".join(f"{n:,}" for n in sorted({budgets.min(), budgets.max()})),
        "statuses": [f"{n:,} {name.replace('_', ' ')}" for name, n in results.statuses.items()],
        "studies": data.COVERAGE_STUDIES,
        "intervals": covered["interval"].nunique(),
        "most": most,
        "covering": covered["interval"].nunique() - int((outside["n"] == most).sum()),
        "outside": [
            f"{row['interval']} at n = {row['n']} ({row['coverage']:.1%})"
            for row in outside.to_dict("records")
        ],
    }


def _said(found: Verdict) -> str:
    """Return a claim's name and verdict for brackets in a sentence."""
    if found.verdict != "depends":
        return f"{found.claim.id}, {found.verdict}"
    names = {"rates": "choice of the learning rate", "updates": "budget", "measure": "method"}
    axis = names.get(str(found.depends_on), str(found.depends_on).replace("_", " "))
    return f"{found.claim.id}, depends on the {axis}"


def _shown(found: Verdict) -> dict[str, Any]:
    value, low, high, n = found.estimate
    return {
        "id": found.claim.id,
        "quote": found.claim.quote,
        "verdict": found.verdict,
        "measure": " / ".join(name.replace("_", " ") for name in found.claim.measure),
        "value": value,
        "estimate": number(value),
        "interval": f"{number(low)} to {number(high)}" if np.isfinite(low) else MISSING,
        "n": f"{n:,}",
        "depends_on": (found.depends_on or MISSING).replace("_", " "),
        "reason": found.reason,
        "blocks": ", ".join(found.claim.blocks),
    }


def _table(verdicts: list[Verdict], words: Words) -> Table:
    rows = [
        {
            "claim": shown["id"],
            "sentence": f"“{' '.join(shown['quote'].split())}”\n"
            f"{shown['measure']}; blocks {shown['blocks']}; {shown['reason']}",
            "verdict": shown["verdict"],
            "estimate": f"{shown['estimate']}\n{shown['interval']}, n = {shown['n']}",
            "depends on": shown["depends_on"],
        }
        for shown in map(_shown, verdicts)
    ]
    links = {"claim": "tables/claims/{}.csv"}
    return words.table("claims", pd.DataFrame(rows), badge="verdict", links=links)


# Figures --------------------------------------------------------------------------------------


def sections_of(results: Results, words: Words) -> Iterator[Section]:
    """Yield the sections with those figures that the study has the blocks and conditions for."""
    tables = TableCache(results)
    for name, wanted in SECTIONS.items():
        found = []
        for blocks, draw in wanted:
            if set(blocks) <= results.study.blocks.keys():
                with suppress(MissingConditionsError):
                    figure = partial(words.figure, blocks=", ".join(blocks), seeds=tables.n_seeds)
                    found.append(draw(tables, figure))
        if found:
            yield words.section(name, *found)


def _article(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    table = choose(tables.get("article"), optimizer="adam")
    runs, error = data.article(table)
    runs = runs.assign(panel=runs["scaler"].astype(str).map(scaler_name))
    facts = {axis: axis_text(table, axis) for axis in ("learning_rate", "updates")}
    errors = [(row["scaler"], 10 ** row["value"]) for row in error.to_dict("records")]
    return figure("article", error, lambda _: weights(runs), errors=errors, **facts)


def _importance(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    table = choose(tables.get("units-long"), scaler="none")
    updates = axis_text(table, "updates")
    return figure("importance", data.importance(table), figures.importance, updates=updates)


def _contribution_over_training(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    frame = data.contribution_over_training(tables.results, tables.get("units-long"))
    ends = frame.groupby(["panel", "scaler"], sort=False).tail(1)
    traced = int(frame["n"].max())
    return figure(
        "training-time", ends, lambda _: figures.contribution_over_training(frame), traced=traced
    )


def _penalties(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    frame, theory = data.penalties(tables)
    updates = axis_text(tables.get(*data.PENALTIES), "updates")
    draw = partial(figures.penalties, theory=theory)
    return figure("penalties", frame, draw, updates=updates)


def _conditioning(_: TableCache, figure: Callable[..., Figure]) -> Figure:
    # Theory alone; it is shown where a study has the runs that test the theory.
    grid, marks = data.conditioning()
    draw = partial(figures.conditioning, grid)
    return figure("conditioning", marks, draw, marks=marks.to_dict("records"))


def _descent(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    times = data.predicted_times(tables.get("descent"))
    found, noise_floor = data.agreement(times), data.sgd_noise_floor(tables.get("floor"))
    judged = times.dropna(subset=["agrees"])
    cloud = judged.iloc[:: max(1, len(judged) // MOST_POINTS)]
    replaced = noise_floor[noise_floor["sampling"] == "replacement"]
    facts = {
        "judged": len(judged),
        "agree": judged["agrees"].mean(),
        "censoring_mismatch": int(found["value"].iloc[-1]),
        "all": len(times),
        "gap": (replaced["value"] / replaced["predicted"] - 1).abs().max(),
    }
    return figure("descent", found, lambda _: figures.descent(cloud, noise_floor), **facts)


def _gradients(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    table = choose(tables.get("units-long"), design="U", scaler="none", learning_rate=1e-7)
    rate = axis_text(table, "learning_rate")
    return figure("gradients", data.gradients(table), figures.gradients, learning_rate=rate)


def _exponents(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    frame, slopes = data.exponents(tables.get("exponents"))
    draw = partial(figures.exponents, frame)
    return figure("exponents", slopes, draw, censored=int(slopes["censored"].sum()))


def _basins(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    table = choose(tables.get("units-long"), design="U", scaler=("none", "standard"))
    updates = axis_text(table, "updates")
    return figure("basins", data.basins(table), figures.basins, updates=updates)


def _incidence(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    frame = data.incidence(choose(tables.get("practice-long"), target_scaler="standard"))
    ends = frame.groupby(["panel", "scaler", "outcome"], sort=False)["share"].max()
    return figure("incidence", ends.reset_index(), lambda _: incidence(frame, log=True))


def _invariance(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    frame, plain = data.invariance(tables), tables.get("plain")
    axes = ("learning_rate", "optimizer.eps", "updates")
    facts = {axis.rpartition(".")[2]: axis_text(plain, axis) for axis in axes}
    exact = frame[frame["variant"].str.contains("exact")]["value"].max()
    return figure("invariance", frame, figures.invariance, exact=exact, **facts)


# The figures of each section, with the blocks of runs that they need.
SECTIONS: dict[str, Iterable[tuple[tuple[str, ...], Drawn]]] = {
    "article": [(("article",), _article)],
    "importance": [
        (("units-long",), _importance),
        (("units-long",), _contribution_over_training),
        (("l2", "l1", "decay"), _penalties),
    ],
    "optimization": [
        (("descent",), _conditioning),
        (("descent", "floor"), _descent),
        (("units-long",), _gradients),
    ],
    "units": [
        (("exponents",), _exponents),
        (("units-long",), _basins),
        (("practice-long",), _incidence),
        (("plain", "scale-aware-8", "scale-aware-512"), _invariance),
    ],
}
