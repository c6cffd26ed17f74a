"""The benchmark's tables as text."""

from collections.abc import Collection

import pandas as pd

from scaling_study.report import labels, style
from scaling_study.report.benchmark.data import Frames
from scaling_study.study.study import Study

MAIN = {
    "sensitivity_below": "units below 1",
    "sensitivity_above": "units above 1",
    "reference": "score, unit 1",
    "others": "score, other units",
    "retuned": "retuned",
}
MARK = "* "  # before the name of an optimizer that is to be found
DETAILS = {
    "one_rate": "one rate for all",
    "default": "default rate",
    "sensitivity_tied_low": "sensitivity, tied rates: least",
    "sensitivity_tied_high": "most",
    "failed": "diverged",
    "problems": "problems",
}


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
        main[title] = board[name].map(text_of)
    details = pd.DataFrame({"optimizer": names})
    for name, title in DETAILS.items():
        if board[name].notna().any():
            details[title] = board[name].map(text_of)
    return main, details


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
            f"{title}: rate alone": frame[f"{name}_alone"].map(text_of),
            f"{title}: list": frame[name].map(text_of),
        }
    return pd.DataFrame(columns)


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
        every = s["compared"]
        rows += [
            ("Kendall's τ between two sets of seeds", f"{s['tau_seeds']:.2f}"),
            ("largest change between two sets of seeds", f"{s['seed_change']:.2f}"),
            (
                f"optimizers in the same of {s['groups']} groups on both sets",
                f"{s['equal']} of {every}",
            ),
            *(
                (f"the same, of {n} groups that the {name} set alone makes", f"{same} of {every}")
                for name, (n, same) in zip(("first", "second"), s["held_out"], strict=True)
            ),
            ("pairs told apart on both, in the same order", f"{s['same']}"),
            ("pairs told apart on both, in opposite orders", f"{s['opposite']}"),
            ("pairs told apart on one of the two", f"{s['single']}"),
        ]
    return pd.DataFrame(rows, columns=["question", "answer"])


def as_text(board: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the leaderboard for a terminal; a star marks the optimizers of the study."""
    mine = {str(value) for grid in study.blocks.values() for value in grid["optimizer"]}
    return for_page(board, mine)[0].replace(r"\n(.*)$", r" (\1)", regex=True)


def _estimate(value: float, low: float, high: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}\n{text_of(low)} to {text_of(high)}"


def text_of(value: float) -> str:
    """Return a number of a table as text, empty for NaN."""
    if pd.isna(value):
        return ""
    return f"{value:g}" if value == int(value) and abs(value) > 1 else labels.number(value, 2)
