"""The paper: which figures and tables it has, and over which runs.

Every number in its text is computed from the stored runs.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pandas as pd

from scaling_study.analysis import confirmation
from scaling_study.analysis.claims import read_claims
from scaling_study.analysis.verdicts import VERDICTS, Verdict, judge_all
from scaling_study.report.document import Figure, Report, Section, Table, Words
from scaling_study.report.labels import listing, number, scaler_name
from scaling_study.report.paper import CLAIMS, cells, claims, data, figures, findings, methods
from scaling_study.report.paper.data import MissingConditionsError, TableCache, axis_text, choose
from scaling_study.report.processes import each
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
    fresh = [partial(_judged, results.fresh)] if results.fresh else []
    meanwhile = each(_call, [*fresh, methods.simulated_coverage])
    verdicts = _judged(results)
    *again, covered = meanwhile
    words = Words(__package__ or "", **_facts(results, verdicts, covered))
    overview = words.figure("claims", claims.standings(verdicts), figures.claims)
    coverage = words.table("coverage", methods.coverage_table(covered))
    return Report(
        title=results.study.title or results.study.name,
        lead=words("lead"),
        sections=(
            words.section("findings", overview),
            words.section("claims", _table(verdicts, words)),
            *sections_of(results, words),
            words.section("one_by_one", *_pictures(verdicts, words)),
            *_confirmed(results.fresh, verdicts, again, words),
            words.section("methods", words.table("blocks", methods.blocks_table(results))),
            words.section("coverage", coverage),
        ),
        limits=words("limits"),
        files=_files(results, verdicts, covered) | cells.pages(results, verdicts, words),
        cells=cells.explored(verdicts),
    )


def _call(function: Callable[[], Any]) -> Any:
    return function()


def _judged(results: Results) -> list[Verdict]:
    return judge_all(results, read_claims(results.study))


def claims_text(verdicts: list[Verdict]) -> str:
    """Return the judged claims as JSON, a list of objects."""
    return json.dumps([found.entry() for found in verdicts], indent=1, ensure_ascii=False) + "\n"


def _files(
    results: Results, verdicts: list[Verdict], covered: pd.DataFrame
) -> dict[str, pd.DataFrame | str]:
    conditions = methods.conditions_table(results)
    short = conditions[[name for name in LATEX_COLUMNS if name in conditions]]
    rounded = conditions.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    in_latex = pd.DataFrame([_latex_row(found) for found in verdicts])
    return {
        CLAIMS: claims_text(verdicts),
        "tables/claims.tex": latex(in_latex),
        "tables/conditions.csv": rounded,
        "tables/conditions.tex": latex(short.rename(columns=LATEX_NAMES)),
        "tables/coverage.csv": covered,
        **{f"tables/claims/{found.claim.name}.csv": _csv_of(found) for found in verdicts},
    }


def _csv_of(found: Verdict) -> pd.DataFrame:
    return found.cells.drop(columns="blocks", errors="ignore")


def _latex_row(found: Verdict) -> dict[str, str]:
    facts = claims.facts_of(found)
    names = ("models", "verdict", "measure", "estimate", "null", "smallest")
    shown = {name: str(facts[name]) for name in names}
    return {"id": found.claim.id, "quantifier": found.claim.quantifier, **shown}


# Words and tables -----------------------------------------------------------------------------


def _facts(results: Results, verdicts: list[Verdict], covered: pd.DataFrame) -> dict[str, Any]:
    budgets = results.conditions["updates"]
    outside = covered[~covered["coverage"].between(*ENOUGH)]
    most = covered["n"].max()
    of_networks = (results.conditions["model"].astype(str) != "linear").to_numpy()
    return {
        "claims": {
            name: {models: claims.facts_of(found) for models, found in of_models.items()}
            for name, of_models in claims.by_claim(verdicts).items()
        },
        "counted": _counted(verdicts),
        "controls": list(
            dict.fromkeys(found.claim.id for found in verdicts if found.claim.control)
        ),
        "findings": findings.facts(verdicts),
        "runs": len(results.runs),
        "networks": float(of_networks.mean()),
        "conditions": len(results.conditions),
        "seeds": results.study.n_seeds,
        "budgets": " to ".join(f"{n:,}" for n in sorted({budgets.min(), budgets.max()})),
        "statuses": [f"{n:,} {name.replace('_', ' ')}" for name, n in results.statuses.items()],
        "studies": methods.COVERAGE_STUDIES,
        "intervals": covered["interval"].nunique(),
        "most": most,
        "covering": covered["interval"].nunique() - int((outside["n"] == most).sum()),
        "outside": [
            f"{row['interval']} at n = {row['n']} ({row['coverage']:.1%})"
            for row in outside.to_dict("records")
        ],
    }


def _counted(verdicts: list[Verdict]) -> dict[str, dict[str, Any]]:
    """Return how many claims have which verdict, by the models they are about."""
    found: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        if not verdict.claim.control:
            found.setdefault(verdict.claim.models, Counter())[verdict.verdict] += 1
    return {
        models: {
            "all": counts.total(),
            "said": listing([f"{counts[name]} {name}" for name in VERDICTS if counts[name]]),
        }
        for models, counts in found.items()
    }


def _table(verdicts: list[Verdict], words: Words) -> Table:
    columns = tuple(claims.NAMES.values())
    links = {"claim": "tables/claims/{}.csv"}
    return words.table("claims", claims.rows(verdicts), badge=columns, links=links)


def _pictures(verdicts: list[Verdict], words: Words) -> Iterator[Figure]:
    """Yield a figure for each claim that has cells."""
    for name, of_models in claims.by_claim(verdicts).items():
        frame = claims.dots(of_models)
        if not len(frame):
            continue
        claim = next(iter(of_models.values())).claim
        facts = [claims.facts_of(found) for found in of_models.values()]
        yield words.figure(
            "claim",
            frame,
            figures.dots,
            suffix=f"-{name}",
            id=name,
            cells=cells.file_of(name),
            quote=" ".join(claim.quote.split()),
            quantifier=claim.quantifier,
            of_models=facts,
            control=claim.control,
        )


def _confirmed(
    fresh: Results | None, verdicts: list[Verdict], again: list[list[Verdict]], words: Words
) -> Iterator[Section]:
    """Yield the section on fresh seeds, if there are results of them, judged again."""
    if fresh is None:
        return
    found = confirmation.compare(verdicts, *again)
    flips = found.flips[["id", "models", "first", "second"]].astype(str)
    outside = found.outside[["id", "models", "cell", "value", "value_fresh"]]
    shown = outside.assign(**{n: outside[n].map(number) for n in ("value", "value_fresh")})
    first, last = fresh.study.seeds
    facts = {
        "seeds_fresh": f"{first} to {last - 1}",
        "flips": len(flips),
        "judged": len(found.claims),
        "estimates": len(found.cells),
        "outside_cells": len(outside),
        "share": float(found.cells["outside"].mean()),
    }
    words = words.with_facts(**facts)
    tables = [words.table("flips", flips)] if len(flips) else []
    tables += [words.table("outside", shown.astype(str))] if len(shown) else []
    yield words.section("confirmation", *tables)


# Figures --------------------------------------------------------------------------------------


def sections_of(results: Results, words: Words) -> Iterator[Section]:
    """Yield the sections with those figures that the study has the blocks and conditions for."""
    tables = TableCache(results)
    for name, wanted in SECTIONS.items():
        found = []
        for blocks, draw in wanted:
            if set(blocks) <= results.study.blocks.keys():
                with suppress(MissingConditionsError):
                    figure = partial(
                        words.figure, blocks=", ".join(blocks), seeds=results.study.n_seeds
                    )
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
    table = tables.get("units-long", "units-long-fixed")
    updates = axis_text(table, "updates")
    return figure("importance", data.importance(table), figures.importance, updates=updates)


def _contribution_over_training(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    table = tables.get("units-long", "units-long-scaled")
    frame = data.contribution_over_training(tables.results, table)
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
    times = data.predicted_times(tables.get("descent", "descent-scaled"))
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


def _remaining_loss(tables: TableCache, figure: Callable[..., Figure]) -> Figure:
    table = choose(tables.get("units-long", "units-long-scaled"), scaler=("none", "standard"))
    updates = axis_text(table, "updates")
    return figure("basins", data.remaining_loss(table), figures.remaining_loss, updates=updates)


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
        (("units-long", "units-long-fixed"), _importance),
        (("units-long", "units-long-scaled"), _contribution_over_training),
        (("l2", "l1", "decay"), _penalties),
    ],
    "optimization": [
        (("descent",), _conditioning),
        (("descent", "descent-scaled", "floor"), _descent),
        (("units-long",), _gradients),
    ],
    "units": [
        (("exponents",), _exponents),
        (("units-long", "units-long-scaled"), _remaining_loss),
        (("practice-long",), _incidence),
        (("plain", "scale-aware-8", "scale-aware-512"), _invariance),
    ],
}
