"""The benchmark's results as data frames, and the facts that the text states."""

import json
from collections import Counter
from collections.abc import Collection
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scaling_study.analysis import benchmark, ranking, targets
from scaling_study.analysis.scale_sensitivity import REFERENCE, Grid
from scaling_study.report import labels, style
from scaling_study.storage.results import Results
from scaling_study.study.study import Study, read_study

PRESET = "benchmark"
LEADERBOARD = "leaderboard.csv"
COMMITTED = "benchmark.csv"  # the scores of the committed report, beside the preset
DIGITS = 4  # of a score that is stored
RATIOS = np.geomspace(1, 100, 61)
SHARES = (0.1, 0.2, 0.5, 1.0)  # of the budget
MAIN = {
    "sensitivity_below": "units below 1",
    "sensitivity_above": "units above 1",
    "reference": "score, unit 1",
    "others": "score, other units",
    "retuned": "retuned",
}
FEW = 3  # members of a group that are all named
KNOWN = ("adam", "sgd")  # what a reader compares with
MARK = "* "  # before the name of an optimizer that is to be found
LEGEND = " An asterisk marks what was trained here, beside committed results."
DETAILS = {
    "one_rate": "one rate for all",
    "default": "default rate",
    "sensitivity_tied_low": "sensitivity, tied rates: least",
    "sensitivity_tied_high": "most",
    "failed": "diverged",
    "problems": "problems",
}


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
    known = read_study(PRESET)
    mine = {value for grid in study.blocks.values() for value in grid["optimizer"]}

    def plain(grid: Any) -> dict[str, Any]:
        return {key: value for key, value in grid.items() if key != "optimizer"}

    same = study.seeds == known.seeds and all(
        name in known.blocks and plain(grid) == plain(known.blocks[name])
        for name, grid in study.blocks.items()
    )
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
    own = benchmark.scores(found, budgets, fastest)
    scores = pd.concat([own, others], ignore_index=True).round(dict.fromkeys(ROUNDED, DIGITS))
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
        list(dict.fromkeys(own["optimizer"])),
    )


def _rate_alone(study: Study) -> pd.DataFrame:
    """Return the committed scores on the problems of a study of `benchmark.LISTED`, else none."""
    found = committed()
    known = benchmark.is_listed(study) & found["problem"].isin(benchmark.problems_of(study))
    return found[known]


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
    count = int(group.max()) if group.notna().any() else 1
    found: dict[str, Any] = {"groups": count}
    if scores["problem"].nunique() > 1:
        taus = ranking.halves_of_problems(scores)
        taus = taus[~np.isnan(taus)]
        if len(taus):
            middle, low, high = np.quantile(taus, [0.5, 0.025, 0.975])
            found |= {"tau": middle, "tau_low": low, "tau_high": high, "halves": len(taus)}
        left = ranking.without_one(scores)
        worst = left.iloc[int(left["change"].abs().argmax())]
        found |= {"worst_problem": worst["problem"], "worst_optimizer": worst["optimizer"]}
        found["worst_change"] = abs(worst["change"])
        if count > 1:
            found["kept"] = ranking.kept_groups(scores, group.to_numpy(float, na_value=np.nan))
    if scores["fold"].str[0].nunique() > 1:
        sets = ranking.sets_of_seeds(scores, count)
        one, other = sets["group_0"], sets["group_1"]
        both = one.notna() & other.notna()
        found |= {"equal": int((one == other)[both].sum()), "compared": int(both.sum())}
        same, opposite, single = ranking.contradictions(scores)
        found |= {"same": same, "opposite": opposite, "single": single}
        pair = sets["sensitivity_0"], sets["sensitivity_1"]
        found["tau_seeds"] = ranking.kendall(*(x.to_numpy(float) for x in pair))
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


def controls_table(board: pd.DataFrame) -> pd.DataFrame:
    """Return what the controls lose, and what is expected, as text."""
    of = str(board["of"].iloc[0])
    label = style.optimizer(of)["label"]
    rows = board.set_index("optimizer")
    stored = [name for name in rows.index if name not in (of, "told the unit", "rate times unit")]
    texts = {
        **{name: (style.optimizer(name)["label"].rpartition(":")[2], "nothing") for name in stored},
        "told the unit": (f"{label} that is told the unit", "nothing"),
        of: (label, ""),
        "rate times unit": (
            f"{label}, its rate multiplied by the unit",
            "most of it, if its rate matters",
        ),
    }
    found = [rows[f"sensitivity{end}"] for end in ("", "_low", "_high")]
    return pd.DataFrame(
        {
            "method": [text for text, _ in texts.values()],
            "expected to lose": [expected for _, expected in texts.values()],
            "loses": [_estimate(*(float(part[key]) for part in found)) for key in texts],
            "problems": [int(rows["problems"][key]) for key in texts],
        }
    )


def trials_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `Frames.trials` as text."""
    columns = {"optimizer": [style.optimizer(name)["label"] for name in frame["optimizer"]]}
    for title, end in (("rate alone", "_alone"), ("list of trials", "")):
        ends = (frame[f"sensitivity{part}{end}"] for part in ("", "_low", "_high"))
        columns[title] = [_estimate(*row) for row in zip(*ends, strict=True)]
    for title, name in (("score, unit 1", "reference"), ("score, other units", "others")):
        columns |= {
            f"{title}: rate alone": frame[f"{name}_alone"].map(_text),
            f"{title}: list": frame[name].map(_text),
        }
    return pd.DataFrame(columns)


def trials_facts(frame: pd.DataFrame) -> dict[str, Any]:
    """Return how many optimizers a list of trials makes less sensitive, and by how much."""
    change = (frame["sensitivity"] - frame["sensitivity_alone"]).dropna()
    return {
        "compared": len(change),
        "less": int((change < 0).sum()),
        "median": labels.number(float(change.median()), 2),
        "gained": int((frame["others"] > frame["others_alone"]).sum()),
    }


def stability_table(frames: Frames) -> pd.DataFrame:
    """Return what `Frames.stability` says, a row for each question."""
    s, rows = frames.stability, []
    if "tau" in s:
        ends = f"{labels.number(s['tau_low'])} to {labels.number(s['tau_high'])}"
        rows.append(("Kendall's τ between two halves of the problems", f"{s['tau']:.2f}\n{ends}"))
    if "worst_change" in s:
        name = style.optimizer(s["worst_optimizer"])["label"]
        which = f"{name}, without {s['worst_problem']}"
        rows.append(("largest change without one problem", f"{s['worst_change']:.2f}\n{which}"))
    if "kept" in s:
        text = f"{labels.percent(s['kept'])}"
        rows.append(("optimizers that keep their group when the problems are drawn again", text))
    if "same" in s:
        rows += [
            ("Kendall's τ between two sets of seeds", f"{s['tau_seeds']:.2f}"),
            ("largest change between two sets of seeds", f"{s['seed_change']:.2f}"),
            (
                f"optimizers in the same of {s['groups']} groups on both sets",
                f"{s['equal']} of {s['compared']}",
            ),
            ("pairs told apart on both, in the same order", f"{s['same']}"),
            ("pairs told apart on both, in opposite orders", f"{s['opposite']}"),
            ("pairs told apart on one of the two", f"{s['single']}"),
        ]
    return pd.DataFrame(rows, columns=["question", "answer"])


def facts(frames: Frames, study: Study) -> dict[str, Any]:
    """Return what the text states about the leaderboard and the study."""
    board, marked = frames.leaderboard, frames.marked
    ranked = board[board["status"] == "ranked"]
    texts = ranked.assign(label=[style.optimizer(name)["label"] for name in ranked["optimizer"]])
    for key in ("sensitivity", "sensitivity_low", "sensitivity_high"):
        texts[key] = ranked[key].map(labels.hundredths)
    for key in ("sensitivity_below", "sensitivity_above", "reference", "others", "retuned"):
        texts[f"{key}_text"] = ranked[key].map(_text)
    texts["recovered"] = [
        labels.percent(min(1.0, max(0.0, share))) if share == share else labels.MISSING
        for share in (ranked["retuned"] - ranked["others"])
        / (ranked["reference"] - ranked["others"])
    ]
    rows = texts.to_dict("records")
    last = ranked["group"].max() if len(ranked) else 0
    fastest = texts.sort_values("others", ascending=False).to_dict("records")
    units = sorted({unit for grid in study.blocks.values() for unit in grid["scale_factor"]})
    return {
        "optimizers": len(board),
        "own": labels.listing([style.optimizer(name)["label"] for name in frames.own]),
        "beside": len(board) - len(frames.own),
        "problems": len(benchmark.problems_of(study)),
        "problem_names": labels.listing(benchmark.problems_of(study)),
        "rates": _counts_of_rates(study),
        "units": labels.listing([f"{unit:g}" for unit in units if unit != REFERENCE]),
        "seeds": study.seeds[1] - study.seeds[0],
        "set": benchmark.SET,
        "groups": int(last),
        "legend": LEGEND if marked else "",
        "mine": [row for row in rows if row["optimizer"] in marked],
        "known": [
            row for row in rows if row["optimizer"] in KNOWN and row["optimizer"] not in marked
        ],
        "mine_not_ranked": _names(board[board["optimizer"].isin(marked) & board["group"].isna()]),
        "worst": rows[-1] if rows else None,
        **{name: next((row for row in rows if row["optimizer"] == name), None) for name in KNOWN},
        "fastest": fastest[0] if fastest else None,
        "first_group": _names(ranked[ranked["group"] == 1]),
        "last_group": _names(ranked[ranked["group"] == last]),
        "not_trained": _names(board[board["status"] == "not trained"]),
        "failed": _names(board[board["status"] == "failed"]),
        "replicates": ranking.REPLICATES,
        "reproduced": labels.percent(ranking.REPRODUCED),
        "group_members": "; ".join(
            _members(rows) for _, rows in texts.groupby("group", sort=True) if len(rows)
        ),
        "trials": trials_facts(frames.trials) if len(frames.trials) else None,
        "newton": any(name.endswith(":newton") for name in frames.controls["optimizer"]),
        "function_starts": labels.listing(
            [n for n in benchmark.problems_of(study) if study.blocks[n]["start"] == ["function"]]
        ),
        "stability": frames.stability,
        "columns": [(name, text) for name, text in benchmark.DESCRIPTIONS.items()],
    }


def _members(rows: pd.DataFrame) -> str:
    """Return the members of a group, or of a large one its ends."""
    names = list(rows["label"])
    if len(names) <= FEW:
        return labels.listing(names)
    ends = rows.iloc[[0, -1]]
    first, last = (f"{a} ({b})" for a, b in zip(ends["label"], ends["sensitivity"], strict=True))
    return f"{len(names)} from {first} to {last}"


def _counts_of_rates(study: Study) -> str:
    """Return the number of learning rates, and in how many problems it is another."""
    sizes = [len(study.blocks[name]["learning_rate"]) for name in benchmark.problems_of(study)]
    (most, _), *others = Counter(sizes).most_common()
    parts = [f"{size} in {count} of the problems" for size, count in others]
    return f"{most}" + (f" ({labels.listing(parts)})" if parts else "")


def _names(rows: pd.DataFrame) -> str:
    return labels.listing([style.optimizer(name)["label"] for name in rows["optimizer"]])


def label(name: str, marked: Collection[str] = ()) -> str:
    """Return an optimizer's label, with `MARK` before it if it is one of those marked."""
    return f"{MARK if name in marked else ''}{style.optimizer(name)['label']}"


def for_page(
    board: pd.DataFrame, marked: Collection[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the leaderboard and its further columns as text, each interval on its own line."""
    names = [label(name, marked) for name in board["optimizer"]]
    pairs = zip(board["group"], board["status"], strict=True)
    heads = [status if n is pd.NA else f"group {n}" for n, status in pairs]
    ends = (board[f"sensitivity{end}"] for end in ("", "_low", "_high"))
    main = pd.DataFrame(
        {
            "group": heads,
            "optimizer": names,
            "sensitivity": [_estimate(*estimate) for estimate in zip(*ends, strict=True)],
        }
    )
    for name, title in MAIN.items():
        main[title] = board[name].map(_text)
    details = pd.DataFrame({"optimizer": names})
    for name, title in DETAILS.items():
        details[title] = board[name].map(_text)
    return main, details


def read_leaderboard(folder: Path) -> pd.DataFrame:
    """Return the leaderboard of a report's folder."""
    return pd.read_csv(folder / LEADERBOARD, dtype={"group": "Int64"})


def as_text(board: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the leaderboard for a terminal; a star marks the optimizers of the study."""
    mine = {str(value) for grid in study.blocks.values() for value in grid["optimizer"]}
    return for_page(board, mine)[0].replace(r"\n(.*)$", r" (\1)", regex=True)


def _estimate(value: float, low: float, high: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}\n{_text(low)} to {_text(high)}"


def _text(value: float) -> str:
    if pd.isna(value):
        return ""
    return f"{value:g}" if value == int(value) and abs(value) > 1 else labels.number(value, 2)


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
