"""The benchmark's results as data frames, and the facts that the text states."""

import json
from collections.abc import Collection
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scaling_study.analysis import benchmark, ranking, stability, targets
from scaling_study.analysis.scale_sensitivity import Grid
from scaling_study.storage.results import Results
from scaling_study.study.study import Study, read_study

PRESET = "benchmark"
LEADERBOARD = "leaderboard.csv"
COMMITTED = "benchmark.csv"  # the scores of the committed report, beside the preset
DIGITS = 4  # of a score that is stored
RATIOS = np.geomspace(1, 100, 61)
SHARES = (0.1, 0.2, 0.5, 1.0)  # of the budget


class Frames(NamedTuple):
    """What the report shows; see `scaling_study.analysis.ranking`."""

    scores: pd.DataFrame
    leaderboard: pd.DataFrame
    by_problem: pd.DataFrame
    profiles: pd.DataFrame
    budgets: pd.DataFrame
    targets: pd.DataFrame  # as of the budgets; empty beside committed results
    stability: dict[str, Any]
    controls: pd.DataFrame  # the leaderboard of `benchmark.controls`, of Adam or the first
    trials: pd.DataFrame  # the committed sensitivity by the rate alone; empty without a list
    own: list[str]  # optimizers that this study has trained; the others are committed results

    @property
    def marked(self) -> list[str]:
        """The optimizers to tell from the others: those trained, beside committed results."""
        return self.own if len(self.own) < len(self.leaderboard) else []


@cache
def committed() -> pd.DataFrame:
    """Return the scores of the committed report, of every optimizer on every problem."""
    file = resources.files("scaling_study") / "presets" / COMMITTED
    with file.open(encoding="utf-8") as stream:
        return ranking.check(pd.read_csv(stream))


def beside(study: Study) -> pd.DataFrame:
    """Return committed scores that a study's own can be shown beside.

    They are those of other optimizers on the study's problems, if these and the seeds are the
    preset's, and none otherwise.
    """
    mine = {value for grid in study.blocks.values() for value in grid["optimizer"]}
    same = _same_problems(study, ("optimizer",)) == benchmark.problems_of(study)
    found = committed()
    taken = found["problem"].isin(list(study.blocks)) & ~found["optimizer"].isin(
        [str(value) for value in mine]
    )
    return found[taken & same]


def frames(results: Results) -> Frames:
    """Return the data frames of a study whose blocks are problems."""
    found, budgets = benchmark.grids_of(results), benchmark.budgets_of(results)
    others = beside(results.study)
    listed = _rate_alone(results.study)
    least = pd.concat([others, listed]).groupby("problem")["fastest"].first()
    fastest = {str(name): float(x) for name, x in least.items()} or None
    defaults = {} if benchmark.is_listed(results.study) else benchmark.DEFAULTS
    trained = benchmark.scores(found, budgets, fastest, defaults=defaults)
    scores = pd.concat([trained, others], ignore_index=True).round(dict.fromkeys(ROUNDED, DIGITS))
    scores = scores.assign(optimizer=scores["optimizer"].astype(str))
    curves = [
        ranking.by_optimizer(benchmark.scores(found, budgets, fastest, share)).assign(share=share)
        for share in SHARES
    ]
    board = ranking.leaderboard(scores)
    return Frames(
        scores,
        board,
        ranking.by_problem(scores),
        benchmark.profiles(found, budgets, RATIOS),
        pd.concat(curves, ignore_index=True),
        _over_targets(results, found, budgets) if others.empty else pd.DataFrame(),
        _stability(scores, board),
        _controls(results, found, budgets, fastest),
        _trials(board, listed),
        list(dict.fromkeys(trained["optimizer"])),
    )


def _rate_alone(study: Study) -> pd.DataFrame:
    """Return the committed scores on the problems of a study of `benchmark.LISTED`, else none."""
    found = committed()
    same = (
        _same_problems(study, ("optimizer", "learning_rate")) if benchmark.is_listed(study) else []
    )
    return found[found["problem"].isin(same)]


def _same_problems(study: Study, but: Collection[str]) -> list[str]:
    """Return the problems of a study that are the preset's, but for some axes, at its seeds."""
    known = read_study(PRESET)

    def plain(grid: Any) -> dict[str, Any]:
        return {key: value for key, value in grid.items() if key not in but}

    return [
        name
        for name in benchmark.problems_of(study)
        if study.seeds == known.seeds
        and name in known.blocks
        and plain(study.blocks[name]) == plain(known.blocks[name])
    ]


def _trials(board: pd.DataFrame, alone: pd.DataFrame) -> pd.DataFrame:
    """Return each optimizer's sensitivity by a list of trials, and by the rate alone."""
    if alone.empty:
        return pd.DataFrame()
    names = ["sensitivity", "sensitivity_low", "sensitivity_high", "reference", "others"]
    before = ranking.leaderboard(alone).set_index("optimizer")[names].add_suffix("_alone")
    return board[["optimizer", *names]].join(before, on="optimizer")


def _over_targets(
    results: Results, found: dict[str, dict[str, Grid]], budgets: dict[str, float]
) -> pd.DataFrame:
    """Return the sensitivity of each optimizer at each target; empty without traced seeds."""
    curves = [
        ranking.by_optimizer(benchmark.scores(grids, budgets)).assign(share=share)
        for share, grids in targets.grids_at(results, found).items()
    ]
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()


ROUNDED = (*benchmark.SCORES, "failed", "fastest")


def _stability(scores: pd.DataFrame, board: pd.DataFrame) -> dict[str, Any]:
    """Return how the sensitivities change with problems and seeds, as numbers."""
    group = board.set_index("optimizer")["group"].reindex(scores["optimizer"].unique())
    numbers = group.to_numpy(float, na_value=np.nan)
    count = int(np.nanmax(numbers, initial=1))
    found: dict[str, Any] = {"groups": count}
    if scores["problem"].nunique() > 1:
        taus = stability.halves_of_problems(scores)
        taus = taus[~np.isnan(taus)]
        if len(taus):
            middle, low, high = np.quantile(taus, [0.5, 0.025, 0.975])
            found |= {"tau": middle, "tau_low": low, "tau_high": high, "halves": len(taus)}
        left = stability.without_one(scores)
        worst = left.iloc[int(left["change"].abs().argmax())]
        found |= {"worst_problem": worst["problem"], "worst_optimizer": worst["optimizer"]}
        found["worst_change"] = abs(worst["change"])
        if count > 1:
            found["kept"] = stability.kept_groups(scores, numbers)
    if scores["fold"].str[0].nunique() > 1:
        sets = stability.sets_of_seeds(scores, numbers)
        one, other = sets["group_0"], sets["group_1"]
        both = one.notna() & other.notna()
        found |= {"equal": int((one == other)[both].sum()), "compared": int(both.sum())}
        same, opposite, single = stability.contradictions(scores)
        found["held_out"] = stability.held_out_groups(scores)
        found |= {"same": same, "opposite": opposite, "single": single}
        pair = sets["sensitivity_0"], sets["sensitivity_1"]
        found["tau_seeds"] = stability.kendall(*(x.to_numpy(float) for x in pair))
        found["seed_change"] = float((pair[0] - pair[1]).abs().max())
    return found


def _controls(
    results: Results,
    found: dict[str, dict[str, Grid]],
    budgets: dict[str, float],
    fastest: dict[str, float] | None,
) -> pd.DataFrame:
    """Return the leaderboard of an optimizer, of its two controls, and of the study's own."""
    names = next(iter(found.values()))
    name = "adam" if "adam" in names else next(iter(names))
    least = {problem: t for problem, t, _ in benchmark.scored(found, budgets, fastest)}
    made, stored = benchmark.controls(found, name), benchmark.stored_controls(results)
    beside = {
        problem: {name: found[problem][name], **grids, **stored.get(problem, {})}
        for problem, grids in made.items()
    }
    return ranking.leaderboard(benchmark.scores(beside, budgets, least)).assign(of=name)


def read_leaderboard(folder: Path) -> pd.DataFrame:
    """Return the leaderboard of a report's folder."""
    return pd.read_csv(folder / LEADERBOARD, dtype={"group": "Int64"})


def schema() -> str:
    """Return the schema of `scores.csv` as JSON Schema, for each row."""
    texts = ("optimizer", "problem", "fold")
    kinds: dict[str, Any] = {
        name: {"type": "number", "minimum": 0, "maximum": 1}
        for name in (*benchmark.SCORES, "failed")
    }
    kinds |= {name: {"type": "string"} for name in texts}
    kinds |= {"seed": {"type": "integer", "minimum": 0}}
    kinds |= {"fastest": {"type": "number", "minimum": 1}}
    may_be_empty = ("default", "below", "above")
    for name in may_be_empty:
        kinds[name]["type"] = ["number", "null"]
    described = {
        name: {**kinds[name], "description": text} for name, text in benchmark.DESCRIPTIONS.items()
    }
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A row of scores.csv",
        "type": "object",
        "properties": described,
        "required": list(described),
        "additionalProperties": False,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
