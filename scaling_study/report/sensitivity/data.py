"""Results of a study of optimizers as data frames, and the facts that the text states."""

from typing import Any, NamedTuple

import pandas as pd

from scaling_study.analysis import scale_sensitivity
from scaling_study.analysis.metrics import Table
from scaling_study.report import labels, style
from scaling_study.storage.results import Results
from scaling_study.study.study import Study

INSENSITIVE = 0.01  # a loss of progress below which an optimizer counts as insensitive
FRAMEWORKS = {"keras": "Keras", "torch": "PyTorch", "optax": "Optax"}
MAIN = {
    "sensitivity": "sensitivity",
    "sensitivity_tuned": "sensitivity, retuned",
    "phi": "Φ",
    "basin_width": "basin width",
    "diverged": "diverged",
}
DETAILS = {
    "tuned_at_reference": "Γ at scale factor 1",
    "tuned_everywhere": "Γ, retuned",
    "one_rate": "Γ, one learning rate",
    "excess": "E_η",
    "rate_slope_above": "slope, s ≥ 1",
}


class Frames(NamedTuple):
    """Progress of each optimizer, mean over seeds; see `analysis.scale_sensitivity`."""

    leaderboard: pd.DataFrame
    by_learning_rate: pd.DataFrame
    by_scale_factor: pd.DataFrame


def frames(results: Results) -> Frames:
    """Return the data frames of a study of every optimizer, scale factor and learning rate.

    Raises
    ------
    StudyError
        If a cell of the grid is missing.
    """
    grids = scale_sensitivity.grids(Table(results))
    # An optimizer given as package.module:factory is named after its factory where that is unique.
    short = {name.rpartition(":")[2]: grid for name, grid in grids.items()}
    found = short if len(short) == len(grids) else grids
    board = scale_sensitivity.leaderboard(found)
    return Frames(
        board, scale_sensitivity.progress_by_rate(found), scale_sensitivity.progress_by_scale(found)
    )


def facts(board: pd.DataFrame, study: Study) -> dict[str, Any]:
    """Return what the text states about the leaderboard and the study."""
    ranked = board[board["rank"].notna()]
    texts = ranked.assign(label=[style.optimizer(name)["label"] for name in ranked["optimizer"]])
    for key in ("sensitivity", "sensitivity_low", "sensitivity_high", "phi"):
        texts[key] = ranked[key].map(labels.hundredths)
    rows = texts.assign(sensitive=ranked["sensitivity_low"] > INSENSITIVE).to_dict("records")
    blocks, optimizers = study.blocks, labels.values_of(study.blocks, "optimizer")
    return {
        "optimizers": len(board),
        "learning_rates": board["rates"].iloc[0],
        "worst": rows[-1] if rows else None,
        "adam": next((row for row in rows if row["optimizer"] == "adam"), None),
        "insensitive": _names(ranked[ranked["sensitivity_high"] <= INSENSITIVE]),
        "threshold": f"{100 * INSENSITIVE:g} %",
        "edges": int((board["edges"] > 0).sum()),
        "decades": f"{scale_sensitivity.DECADES:g}",
        "seeds": board["n"].iloc[0],
        "diverged": _names(board[board["status"] == "diverged"]),
        "failed": _names(board[board["status"] == "failed"]),
        "problems": labels.listing(labels.values_of(blocks, "problem")),
        "models": labels.listing(labels.values_of(blocks, "model")),
        "batches": labels.batches_of(blocks).capitalize(),
        "budgets": labels.budgets_of(blocks),
        "frameworks": labels.listing(
            [FRAMEWORKS[name] for name in labels.values_of(blocks, "framework")]
        ),
        "schedule_free": any(name.startswith("schedule_free") for name in optimizers),
    }


def _names(rows: pd.DataFrame) -> str:
    return labels.listing([style.optimizer(name)["label"] for name in rows["optimizer"]])


def shown(board: pd.DataFrame) -> pd.DataFrame:
    """Return the leaderboard as text, with the status where there is no rank."""
    table = _texts(board, MAIN)
    ranked = board["status"] == "ranked"
    table.insert(1, "rank", board["rank"].astype(str).where(ranked, board["status"]))
    low, high = (board[f"sensitivity_{end}"].map(_text) for end in ("low", "high"))
    interval = (" (" + low + " to " + high + ")").where(low != "", "")
    return table.assign(sensitivity=table["sensitivity"] + interval)


def for_page(board: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `shown` and the further quantities with labels, each interval on its own line."""
    names = [style.optimizer(name)["label"] for name in board["optimizer"]]
    main = shown(board).replace(r" \((.* to .*)\)$", r"\n\1", regex=True)
    return main.assign(optimizer=names), _texts(board, DETAILS).assign(optimizer=names)


def _texts(board: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Return columns under their titles as text; a missing labels.number is an empty cell."""
    texts = board[list(columns)].astype(float).map(_text).rename(columns=columns)
    texts.insert(0, "optimizer", board["optimizer"])
    return texts


def _text(value: float) -> str:
    return "" if pd.isna(value) else labels.number(round(value, 6), 2)
