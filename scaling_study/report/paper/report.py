"""The paper: which figures and tables it has, and over which runs.

Every number in its text is computed from the stored runs.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
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
from scaling_study.report.paper.data import LackingError, TableCache, axis_text, choose
from scaling_study.report.render import latex
from scaling_study.report.standard.figures import incidence, weights
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

ENOUGH = (0.93, 0.97)  # coverage of an interval that holds what it promises
MOST_POINTS = 3_000  # of a cloud
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
Draw = Callable[[TableCache, Callable[..., str]], Figure]


def applies(study: Study) -> bool:
    """Say whether a study makes claims."""
    return bool(study.claims)


def build(results: Results) -> Report:
    """Return the report of a study's results and claims."""
    verdicts = judge_all(results, read_claims(results.study))
    covered = data.simulated_coverage()
    words = Words(__package__ or "", **_facts(results, verdicts, covered))
    sections = [
        Section("", words("claims"), (_claims_figure(verdicts, words), _table(verdicts, words))),
        *sections_of(results, words),
        Section("Methods", words("methods"), (_blocks(results),)),
        Section("Coverage of the intervals", words("coverage"), (_coverage(covered),)),
    ]
    return Report(
        title=results.study.title or results.study.name,
        lead=words("lead"),
        sections=tuple(sections),
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
        "tables/conditions.tex": latex(short.rename(columns=LATEX_COLUMNS)),
        "tables/coverage.csv": covered,
        **{f"tables/claims/{found.claim.id}.csv": found.cells for found in verdicts},
    }


# Words and tables -----------------------------------------------------------------------------


def _facts(results: Results, verdicts: list[Verdict], covered: pd.DataFrame) -> dict[str, Any]:
    budgets = results.conditions["updates"]
    first, last = results.study.seeds
    judged = [found for found in verdicts if not found.claim.control]
    counts = Counter(found.verdict for found in judged)
    said = [f"{counts[name]} {name}" for name in VERDICTS if counts[name]]
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
    return Table(
        name="claims",
        title="Claims and verdicts",
        frame=pd.DataFrame(rows),
        note=words("note_claims"),
        badge="verdict",
        links={"claim": "tables/claims/{}.csv"},
    )


def _blocks(results: Results) -> Table:
    return Table(name="blocks", title="Blocks", frame=data.blocks_table(results))


def _coverage(covered: pd.DataFrame) -> Table:
    frame = covered[["interval", "n"]].astype(str)
    frame["coverage"] = [f"{100 * share:.1f} %" for share in covered["coverage"]]
    return Table(name="coverage", title="Coverage of 95 % intervals", frame=frame)


# Figures --------------------------------------------------------------------------------------


def sections_of(results: Results, words: Words) -> Iterator[Section]:
    """Yield the sections with those figures that the study has the blocks and conditions for."""
    tables = TableCache(results)
    for heading, text, wanted in SECTIONS:
        found = []
        for blocks, draw in wanted:
            if set(blocks) <= results.study.blocks.keys():
                with suppress(LackingError):
                    say = partial(words, blocks=", ".join(blocks), seeds=tables.n)
                    found.append(draw(tables, say))
        if found:
            yield Section(heading, words(text), tuple(found))


def _claims_figure(verdicts: list[Verdict], words: Words) -> Figure:
    return Figure(
        name="claims",
        title="Verdicts, and the outcomes of their cells",
        caption=words("caption_claims"),
        data=data.outcomes(verdicts),
        draw=figures.claims,
    )


def _article(tables: TableCache, words: Callable[..., str]) -> Figure:
    table = choose(tables.of("article"), optimizer="adam")
    runs, error = data.article(table)
    runs = runs.assign(panel=runs["scaler"].astype(str).map(scaler_name))
    facts = {axis: axis_text(table, axis) for axis in ("learning_rate", "updates")}
    errors = [(row["scaler"], 10 ** row["value"]) for row in error.to_dict("records")]
    return Figure(
        name="article",
        title="The article's training, from many starts",
        caption=words("caption_article", errors=errors, **facts),
        data=error,
        draw=lambda _: weights(runs),
    )


def _importance(tables: TableCache, words: Callable[..., str]) -> Figure:
    table = choose(tables.of("units-long"), scaler="none")
    return Figure(
        name="importance",
        title="Range and importance in two designs",
        caption=words("caption_importance", updates=axis_text(table, "updates")),
        data=data.importance(table),
        draw=figures.importance,
    )


def _conditioning(_: TableCache, words: Callable[..., str]) -> Figure:
    # Theory alone; it is shown where a study has the runs that test the theory.
    grid, marks = data.conditioning()
    return Figure(
        name="conditioning",
        title="An offset raises the condition number more than a range",
        caption=words("caption_conditioning", marks=marks.to_dict("records")),
        data=marks,
        draw=partial(figures.conditioning, grid),
    )


def _descent(tables: TableCache, words: Callable[..., str]) -> Figure:
    times = data.predicted_times(tables.of("descent"))
    found, floors = data.agreement(times), data.floors(tables.of("floor"))
    judged = times.dropna(subset=["agrees"])
    cloud = judged.iloc[:: max(1, len(judged) // MOST_POINTS)]
    plain = floors[floors["sampling"] == "replacement"]
    facts = {
        "judged": len(judged),
        "agree": judged["agrees"].mean(),
        "late": int(found["value"].iloc[-1]),
        "all": len(times),
        "gap": (plain["value"] / plain["predicted"] - 1).abs().max(),
    }
    return Figure(
        name="descent",
        title="Gradient descent, predicted and measured",
        caption=words("caption_descent", **facts),
        data=found,
        draw=lambda _: figures.descent(cloud, floors),
    )


def _exponents(tables: TableCache, words: Callable[..., str]) -> Figure:
    frame, slopes = data.exponents(tables.of("exponents"))
    return Figure(
        name="exponents",
        title="A shared learning rate acts as the rate times a power of s",
        caption=words("caption_exponents", censored=int(slopes["censored"].sum())),
        data=slopes,
        draw=lambda known: figures.exponents(frame, known),
    )


def _basins(tables: TableCache, words: Callable[..., str]) -> Figure:
    table = choose(tables.of("units-long"), design="U", scaler=("none", "standard"))
    return Figure(
        name="basins",
        title="Remaining loss by learning rate",
        caption=words("caption_basins", updates=axis_text(table, "updates")),
        data=data.basins(table),
        draw=figures.basins,
    )


def _incidence(tables: TableCache, words: Callable[..., str]) -> Figure:
    frame = data.incidence(choose(tables.of("practice-long"), target_scaler="standard"))
    ends = frame.groupby(["panel", "scaler", "outcome"], sort=False)["share"].max()
    return Figure(
        name="incidence",
        title="Convergence and divergence over the updates",
        caption=words("caption_incidence"),
        data=ends.reset_index(),
        draw=lambda _: incidence(frame, log=True),
    )


def _training_time(tables: TableCache, words: Callable[..., str]) -> Figure:
    frame = data.training_time(tables.results, tables.of("units-long"))
    return Figure(
        name="training-time",
        title="Importance during training",
        caption=words("caption_training_time", traced=int(frame["n"].max())),
        data=frame.groupby(["panel", "scaler"], sort=False).tail(1),
        draw=lambda _: figures.training_time(frame),
    )


def _invariance(tables: TableCache, words: Callable[..., str]) -> Figure:
    frame, plain = data.invariance(tables), tables.of("plain")
    axes = ("learning_rate", "optimizer.eps", "updates")
    facts = {axis.rpartition(".")[2]: axis_text(plain, axis) for axis in axes}
    exact = frame[frame["variant"].str.contains("exact")]["value"].max()
    return Figure(
        name="invariance",
        title="Adam is invariant to a scale factor only if it is told the factor",
        caption=words("caption_invariance", exact=exact, **facts),
        data=frame,
        draw=figures.invariance,
    )


def _penalties(tables: TableCache, words: Callable[..., str]) -> Figure:
    frame, theory = data.penalties(tables)
    budget = axis_text(tables.of(*data.PENALTIES), "updates")
    return Figure(
        name="penalties",
        title="With a penalty, range matters at convergence",
        caption=words("caption_penalties", updates=budget),
        data=frame,
        draw=lambda means: figures.penalties(means, theory),
    )


def _gradients(tables: TableCache, words: Callable[..., str]) -> Figure:
    table = choose(tables.of("units-long"), design="U", scaler="none", learning_rate=1e-7)
    return Figure(
        name="gradients",
        title="Gradients grow with the range",
        caption=words("caption_gradients", learning_rate=axis_text(table, "learning_rate")),
        data=data.gradients(table),
        draw=figures.gradients,
    )


# A heading, the block of its text, and its figures with the blocks of runs that they need.
SECTIONS: tuple[tuple[str, str, tuple[tuple[tuple[str, ...], Draw], ...]], ...] = (
    ("The article's experiment", "article", ((("article",), _article),)),
    (
        "Range and importance",
        "importance",
        (
            (("units-long",), _importance),
            (("units-long",), _training_time),
            (("l2", "l1", "decay"), _penalties),
        ),
    ),
    (
        "Range and optimization",
        "optimization",
        (
            (("descent",), _conditioning),
            (("descent", "floor"), _descent),
            (("units-long",), _gradients),
        ),
    ),
    (
        "Optimizers and units",
        "units",
        (
            (("exponents",), _exponents),
            (("units-long",), _basins),
            (("practice-long",), _incidence),
            (("plain", "told-8", "told-512"), _invariance),
        ),
    ),
)
