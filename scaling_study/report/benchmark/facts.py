"""The facts that the benchmark's text states."""

from collections import Counter
from typing import Any

import pandas as pd

from scaling_study.analysis import benchmark, ranking
from scaling_study.analysis.scale_sensitivity import REFERENCE
from scaling_study.report import labels, style
from scaling_study.report.benchmark.data import Frames
from scaling_study.report.benchmark.tables import text_of
from scaling_study.study.conditions import TRACED_SEEDS
from scaling_study.study.study import Study

FEW = 3  # members of a group that are all named
LEGEND = " An asterisk marks what was trained here, beside committed results."
FUNCTION = "-function"  # ends the name of a problem that starts from one function
KNOWN = ("adam", "sgd")  # what a reader compares with


def facts(frames: Frames, study: Study) -> dict[str, Any]:
    """Return what the text states about the leaderboard and the study."""
    board, marked = frames.leaderboard, frames.marked
    ranked = board[board["status"] == "ranked"]
    texts = ranked.assign(label=[style.optimizer(name)["label"] for name in ranked["optimizer"]])
    for key in ("sensitivity", "sensitivity_low", "sensitivity_high"):
        texts[key] = ranked[key].map(labels.hundredths)
    for key in ("sensitivity_below", "sensitivity_above", "reference", "others", "retuned"):
        texts[f"{key}_text"] = ranked[key].map(text_of)
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
        **_counts_of_rates(study),
        "listed": benchmark.is_listed(study),
        "traced": TRACED_SEEDS,
        "units": labels.listing([f"{unit:g}" for unit in units if unit != REFERENCE]),
        "seeds": study.n_seeds,
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
        "not_trained": _names(board[board["status"] == "not trained"]),
        "failed": _names(board[board["status"] == "failed"]),
        "replicates": ranking.REPLICATES,
        "reproduced": labels.percent(ranking.REPRODUCED),
        "group_members": "; ".join(
            _members(rows) for _, rows in texts.groupby("group", sort=True) if len(rows)
        ),
        "trials": trials_facts(frames.trials) if len(frames.trials) else None,
        "starts": _starts(frames.by_problem, study),
        "newton": any(name.endswith(":newton") for name in frames.controls["optimizer"]),
        "function_starts": labels.listing(
            [n for n in benchmark.problems_of(study) if study.blocks[n]["start"] == ["function"]]
        ),
        "stability": frames.stability,
        "columns": [(name, text) for name, text in benchmark.DESCRIPTIONS.items()],
    }


def _starts(by_problem: pd.DataFrame, study: Study) -> list[dict[str, Any]]:
    """Return how a start from one function changes what is lost, for problems with both."""
    lost = by_problem.pivot(index="optimizer", columns="problem", values="sensitivity")
    found = []
    for name, grid in study.blocks.items():
        other = f"{name}{FUNCTION}"
        if other in study.blocks and study.blocks[other] == {**grid, "start": ["function"]}:
            change = (lost[other] - lost[name]).dropna()
            counts = {"less": int((change < 0).sum()), "compared": len(change)}
            median = labels.number(float(change.median()), 2)
            found.append({"problem": name, **counts, "median": median})
    return found


def _members(rows: pd.DataFrame) -> str:
    """Return the members of a group, or of a large one its ends."""
    names = list(rows["label"])
    if len(names) <= FEW:
        return labels.listing(names)
    ends = rows.iloc[[0, -1]]
    first, last = (f"{a} ({b})" for a, b in zip(ends["label"], ends["sensitivity"], strict=True))
    return f"{len(names)} from {first} to {last}"


def _counts_of_rates(study: Study) -> dict[str, Any]:
    """Return the number of learning rates, and in how many problems there are others."""
    sizes = [len(study.blocks[name]["learning_rate"]) for name in benchmark.problems_of(study)]
    (most, _), *others = Counter(sizes).most_common()
    parts = [f"{size} on {n} problem{'s' if n > 1 else ''}" for size, n in others]
    return {"rates": most, "fewer_rates": f" ({', '.join(parts)})" if parts else ""}


def _names(rows: pd.DataFrame) -> str:
    return labels.listing([style.optimizer(name)["label"] for name in rows["optimizer"]])


def trials_facts(frame: pd.DataFrame) -> dict[str, Any]:
    """Return how many optimizers a list of trials makes less sensitive, and by how much."""
    change = (frame["sensitivity"] - frame["sensitivity_alone"]).dropna()
    return {
        "compared": len(change),
        "less": int((change < 0).sum()),
        "median": labels.number(float(change.median()), 2),
        "gained": int((frame["others"] > frame["others_alone"]).sum()),
    }
