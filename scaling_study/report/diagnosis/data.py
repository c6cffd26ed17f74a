"""Results of a table to the frames, facts and sentences of its diagnosis."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from scaling_study.analysis import diagnosis as analysis
from scaling_study.analysis.column_table import column_table, conditioning
from scaling_study.analysis.diagnosis import RAW, REFERENCE, TRAINING, Splits
from scaling_study.errors import StudyError
from scaling_study.report.document import Words
from scaling_study.report.labels import (
    MINUS,
    MISSING,
    estimate,
    hundredths,
    number,
    percent,
    scaler_name,
)
from scaling_study.storage.results import Results, load
from scaling_study.study import datasets, scalers
from scaling_study.study.conditions import problem_of
from scaling_study.study.problems import Problem
from scaling_study.study.table_problem import SHUFFLED

DIFFERENCE = f"scaled {MINUS} raw"
TUNING = "-tuning"  # ends the name of the folder whose runs chose the learning rates
SHOWN = 15  # features of a figure
METHODS = ("permutation", "integrated_gradients", "gradient_input", "weight")


class Diagnosis:
    """What scaling does to the training on a table, and to the importance of its columns.

    Parameters
    ----------
    results : Results
        Of `scaling_study.diagnose`.

    Attributes
    ----------
    answer : list of str
        Three sentences: the verdict, how sure it is, what it changes of importances.
    verdict : str
        ``scale, nothing, unclear, mixed, raw`` or ``untrained``.
    scaler : str
        The one that is recommended.
    columns, conditioning, scores, differences, shares, changes, agreement : DataFrame
        See `scaling_study.analysis.column_table` and `scaling_study.analysis.diagnosis`.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        grid = next(iter(results.study.blocks.values()))
        self.component = grid["problem"][0]
        self.table = str(self.component).partition("(")[0]
        self.rates = {name: own["learning_rate"] for name, own in results.study.blocks.items()}

    def __repr__(self) -> str:
        return f"Diagnosis({self.table}: {self.verdict}, {self.scaler})"

    def _repr_html_(self) -> str:
        shown = score_rows(self.scores, self.differences).to_html(index=False)
        return f"<p>{'</p><p>'.join(self.answer)}</p>{shown.replace(chr(92) + 'n', '<br>')}"

    @cached_property
    def problem(self) -> Problem:
        """The table as a problem."""
        return problem_of(self.component)

    @cached_property
    def columns(self) -> pd.DataFrame:
        """What each feature holds in the training rows of the first split; not the control."""
        u, _ = self.problem.draw(0)
        return column_table(u, self.problem.columns).query("feature != @self.control")

    @cached_property
    def control(self) -> str:
        """The irrelevant feature: a shuffled copy of a column."""
        return next((n for n in self.problem.columns if n.startswith(SHUFFLED)), "")

    @cached_property
    def conditioning(self) -> pd.DataFrame:
        """The condition number under each affine scaler."""
        u, _ = self.problem.draw(0)
        names = [n for n in self.results.conditions["scaler"].unique() if n in scalers.AFFINE]
        return conditioning(u, names, self.problem.scaled)

    @cached_property
    def run_scores(self) -> pd.DataFrame:
        """The score of every run."""
        splits = Splits(datasets.overlap(self.problem), datasets.chance(self.problem))
        return analysis.run_scores(self.results.runs, self.rates, splits)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The mean score of each model, optimizer, learning rate and scaler."""
        return analysis.score_table(self.run_scores)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The same less that of raw inputs."""
        return analysis.differences(self.run_scores)

    @cached_property
    def scaler(self) -> str:
        """The recommended scaler."""
        return analysis.recommended(self.run_scores)

    @cached_property
    def verdict(self) -> str:
        """What follows."""
        return analysis.verdict(self.scores, self.differences, self.scaler)

    @cached_property
    def long_shares(self) -> pd.DataFrame:
        """The share of each run, method and feature."""
        return analysis.shares(self.results.features, self.run_scores)

    @cached_property
    def shares(self) -> pd.DataFrame:
        """The mean share of each feature by model, optimizer, scaler and method."""
        return analysis.share_table(self.long_shares)

    @cached_property
    def changes(self) -> pd.DataFrame:
        """How shares change from raw inputs to the recommended scaler."""
        return analysis.share_changes(self.long_shares, self.scaler)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """How well each method's ranking agrees with permutation importance."""
        return analysis.agreement(self.shares)

    @cached_property
    def edges(self) -> pd.DataFrame:
        """The tuned rates that are an end of their grid; empty if the tuning runs are gone."""
        folder = self.results.folder
        try:
            tuning = load(folder.with_name(folder.name + TUNING))
        except StudyError:
            return pd.DataFrame()
        picked = analysis.best_rates(tuning.runs)
        return picked[picked["edge"]]

    @cached_property
    def main(self) -> dict[str, str]:
        """The model and the optimizer whose importances are shown: of networks the best."""
        tuned = self.scores[
            (self.scores["rates"] == "tuned") & (self.scores["scaler"] == self.scaler)
        ]
        networks = tuned[tuned["model"] != "linear"]
        best = (networks if len(networks) else tuned).sort_values("value").iloc[-1]
        return {"model": best["model"], "optimizer": best["optimizer"]}

    def of_main(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a frame of the model and the optimizer that are shown."""
        for name, value in self.main.items():
            frame = frame[frame[name] == value]
        return frame

    @cached_property
    def answer(self) -> list[str]:
        """Three sentences."""
        words = Words(__package__ or "", **facts(self))
        return [words(f"sentence_{k}") for k in (1, 2, 3)]

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain values, for JSON."""
        frames = ("columns", "conditioning", "scores", "differences", "shares", "changes")
        return {
            "table": self.table,
            "verdict": self.verdict,
            "scaler": self.scaler,
            "answer": self.answer,
            "notes": list(self.problem.notes),
            "warnings": list(self.problem.warnings),
            **{name: _plain(getattr(self, name)) for name in frames},
        }


def _plain(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


# Facts of the sentences -----------------------------------------------------------------------


def facts(of: Diagnosis) -> dict[str, Any]:
    """Return what the text states."""
    rows = analysis.counted(of.scores, of.differences, of.scaler)
    outcomes = rows["outcome"].value_counts().to_dict()
    # "untrained" has no rows; the other blocks are not written then.
    top = rows.sort_values("value").iloc[-1].to_dict() if len(rows) else {}
    classes = of.problem.classes
    first, last = of.results.study.seeds
    remarks = of.columns[of.columns["remarks"] != ""]
    kappa = of.conditioning.set_index("scaler")["kappa"].to_dict()
    return {
        "table": of.table,
        "verdict": of.verdict,
        "scaler": of.scaler,
        "score": "accuracy" if classes else "R²",
        "outcomes": outcomes,
        "trainings": len(rows),
        "top": {**top, "training": training_name(top)} if top else {},
        "tuned": rows[rows["rates"] == "tuned"]["outcome"].value_counts().to_dict(),
        "tuned_trainings": int((rows["rates"] == "tuned").sum()),
        "widest": float((rows["high"] - rows["low"]).max() / 2) if len(rows) else 0.0,
        "better_scalers": better_scalers(of),
        "other_scalers": of.scores["scaler"].nunique() > 2,  # than raw and the recommended one
        "smallest": analysis.SMALLEST,
        "relevant": analysis.RELEVANT,
        "chance": float(of.run_scores["chance"].iloc[0]),
        "splits": last - first,
        "remarks": [f"{row.feature} ({row.remarks})" for row in remarks.itertuples()],
        "kappa_raw": kappa.get(RAW),
        "kappa": kappa.get(of.scaler),
        "edges": len(of.edges),
        "notes": list(of.problem.notes),
        "warnings": list(of.problem.warnings),
        "control": of.control,
        **importance_facts(of),
        **study_facts(of),
    }


def training_name(row: Mapping[Any, Any]) -> str:
    """Return the words for a model, an optimizer and a learning rate."""
    return f"{row['model']}, {row['optimizer']}, {row['rates']} learning rate" if row else ""


def better_scalers(of: Diagnosis) -> list[str]:
    """Return the scalers that are better than the recommended one somewhere, by whole intervals."""
    found = analysis.differences(of.run_scores, of.scaler)
    found = found[(found["outcome"] == "better") & (found["scaler"] != RAW)]
    return found["scaler"].drop_duplicates().tolist()


def importance_facts(of: Diagnosis) -> dict[str, Any]:
    """Return what is said of importances, in the model and the optimizer that are shown."""
    means, changes = of.of_main(of.shares), of.of_main(of.changes)
    changed = changes[changes["changed"].astype(bool)]
    kinds = {name: changed[changed["method"] == name] for name in ("weight", REFERENCE)}
    junk = analysis.irrelevant(of.long_shares, of.control, {**of.main, "scaler": of.scaler})
    raw = means[(means["scaler"] == RAW) & (means["method"] == "weight")]
    raw = raw.set_index("feature")["value"]
    scaled = means[(means["scaler"] == of.scaler) & (means["method"] == REFERENCE)]
    leading = scaled.sort_values("value", ascending=False)
    heavy = raw[raw.index.isin(junk)].sort_values(ascending=False)
    return {
        "main": f"{of.main['model']}, {of.main['optimizer']}",
        "read_raw": len(raw) > 0,
        "read": len(leading) > 0,
        "leading": leading["feature"].head(3).tolist(),
        "moved": {name: _largest(rows) for name, rows in kinds.items()},
        "moved_count": {name: len(rows) for name, rows in kinds.items()},
        "junk": junk,
        "junk_heavy": (heavy.index[0], float(heavy.iloc[0])) if len(heavy) else None,
        "junk_share": percent(float(heavy.iloc[0])) if len(heavy) else "",
    }


def _largest(rows: pd.DataFrame) -> dict[str, Any]:
    if rows.empty:
        return {}
    row = rows.iloc[int(rows["value"].abs().to_numpy().argmax())]
    return {"feature": row["feature"], "value": number(float(row["value"]), 2)}


def study_facts(of: Diagnosis) -> dict[str, Any]:
    """Return how the runs were made."""
    grid = next(iter(of.results.study.blocks.values()))
    (u, _), (new, _) = (
        of.problem.draw(0),
        of.problem.held_out(0) if of.problem.held_out else ((), ()),
    )
    conditions = of.results.conditions
    return {
        "trained_rows": len(u),
        "held_out_rows": len(new),
        "updates": int(conditions["updates"].max()),
        "batch_size": grid["batch_size"][0],
        "models": [str(m) for m in conditions["model"].unique()],
        "scalers": [str(s) for s in conditions["scaler"].unique()],
        "overlap": of.problem.overlap,
        "columns": len(of.problem.columns) - bool(of.control),
    }


# Tables and figures ---------------------------------------------------------------------------


def summary_rows(of: Diagnosis) -> pd.DataFrame:
    """Return a row for each scaler: its mean scores, and how it compares with raw columns."""
    runs = of.run_scores
    means = runs.groupby(["scaler", "rates"], sort=False)["value"].mean().unstack()
    counts = of.differences.groupby(["scaler", "outcome"])["value"].count().unstack(fill_value=0)
    names = [n for n in of.results.conditions["scaler"].unique() if n in means.index]
    table = pd.DataFrame({"scaler": [scaler_name(name) for name in names]})
    for rates in analysis.RATES:
        table[f"mean score, {rates} rate"] = [number(x) for x in means.loc[names, rates].tolist()]
    for outcome in ("better", "equivalent", "unclear", "worse"):
        known = counts[outcome] if outcome in counts else pd.Series(0, counts.index)
        table[outcome] = [MISSING if n == RAW else str(known.get(n, 0)) for n in names]
    return table


def score_rows(scores: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """Return the scores and differences as text, a row for each cell."""
    by = [*TRAINING, "scaler"]
    both = scores.merge(compared, on=by, how="left", suffixes=("", "_difference"))
    columns = {
        "training": [training_name(row) for row in both.to_dict("records")],
        "scaler": both["scaler"],
        "score": [estimate(*row) for row in both[["value", "low", "high"]].to_numpy()],
        DIFFERENCE: [
            estimate(*row)
            for row in both[[f"{n}_difference" for n in ("value", "low", "high")]].to_numpy()
        ],
        "": both["outcome"].fillna("").tolist(),
        "learning rate": [f"{rate:g}" for rate in both["learning_rate"]],
        "diverged": [percent(share) for share in both["diverged"]],
        "excess share": [number(value) for value in both["excess_share"]],
    }
    table = pd.DataFrame(columns).rename(columns={"": "outcome"})
    return table if both["excess_share"].notna().any() else table.drop(columns="excess share")


def column_rows(columns: pd.DataFrame) -> pd.DataFrame:
    """Return the columns as text."""
    spans = zip(columns["minimum"], columns["maximum"], strict=True)
    return pd.DataFrame(
        {
            "column": columns["feature"],
            "range": [f"{number(a)} to {number(b)}" for a, b in spans],
            "sd": [number(x) for x in columns["sd"]],
            "offset (sd)": [number(x) for x in columns["offset"]],
            "digits lost": [number(x, 2) for x in columns["digits_lost"]],
            "remarks": columns["remarks"],
        }
    )


def conditioning_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the condition numbers as text."""
    return pd.DataFrame(
        {
            "scaler": frame["scaler"],
            "condition number κ": [number(x) for x in frame["kappa"]],
            "largest learning rate of gradient descent": [number(2 / x) for x in frame["largest"]],
        }
    )


def agreement_rows(of: Diagnosis) -> pd.DataFrame:
    """Return how methods agree with permutation importance, raw and scaled, as text."""
    rows = of.of_main(of.agreement)
    wide = rows.pivot(index="method", columns="scaler", values="value")
    names = [n for n in (RAW, of.scaler) if n in wide]
    control = of.of_main(of.shares)
    control = control[control["feature"] == of.control].pivot(
        index="method", columns="scaler", values="value"
    )
    table = pd.DataFrame({"method": [n.replace("_", " ") for n in wide.index]})
    for name in names:
        said = "raw" if name == RAW else name
        table[f"rank correlation, {said}"] = [number(x) for x in wide[name]]
        table[f"share of the control, {said}"] = [
            hundredths(x) for x in control.reindex(wide.index)[name]
        ]
    return table


def shown_shares(of: Diagnosis) -> pd.DataFrame:
    """Return the shares that the figure shows: of the leading features by any of its methods."""
    rows = of.of_main(of.shares)
    rows = rows[rows["scaler"].isin([RAW, of.scaler]) & rows["method"].isin(METHODS)]
    most = rows.groupby("feature")["value"].max().sort_values(ascending=False)
    kept = dict.fromkeys([*most.index[:SHOWN], of.control])
    rows = rows[rows["feature"].isin(list(kept))]
    reference = rows[(rows["method"] == REFERENCE) & (rows["scaler"] == of.scaler)]
    order = reference.sort_values("value", ascending=False)["feature"].tolist()
    place = {name: k for k, name in enumerate(order or kept)}
    return rows.sort_values("feature", key=lambda names: names.map(place), kind="stable")


def file_name(table: str) -> str:
    """Return what a table's folder is called: its file's name without the suffix."""
    stem = Path(table).stem
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)
    return kept or "table"
