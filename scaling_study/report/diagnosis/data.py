"""Results of a table to the frames, facts and sentences of its diagnosis."""

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from scaling_study.analysis import diagnosis as analysis
from scaling_study.analysis.column_table import column_table, conditioning
from scaling_study.analysis.diagnosis import RAW, REFERENCE, TRAINING, Splits, short_model
from scaling_study.errors import StudyError
from scaling_study.report.diagnosis.rows import cell_name, columns, score_rows, training_name
from scaling_study.report.document import Words
from scaling_study.report.labels import listing, number, percent
from scaling_study.storage.results import Results, load
from scaling_study.study import datasets, scalers
from scaling_study.study.conditions import problem_of
from scaling_study.study.problems import Problem
from scaling_study.study.table_problem import SHUFFLED

TUNED = ["model", "optimizer", "scaler"]
TUNING = "-tuning"  # ends the name of the folder whose runs chose the learning rates


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

    @property
    def splits(self) -> int:
        """The number of splits that measure."""
        return self.results.study.n_seeds

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
        """The mean score of each model, optimizer, learning rate and scaler.

        ``tunable`` is false at a tuned rate where no rate of the grid trains.
        """
        table = analysis.score_table(self.run_scores)
        idle = self.tuned.loc[~self.tuned["trains"].astype(bool), TUNED]
        found = pd.MultiIndex.from_frame(table[TUNED]).isin(pd.MultiIndex.from_frame(idle))
        return table.assign(tunable=~(found & (table["rates"] == "tuned").to_numpy()))

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
        return analysis.mark_few(analysis.share_table(self.long_shares), self.splits)

    @cached_property
    def changes(self) -> pd.DataFrame:
        """How shares change from raw inputs to the recommended scaler."""
        found = analysis.share_changes(self.long_shares, self.scaler)
        return analysis.mark_few(found, self.splits)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """How well each method's ranking agrees with permutation importance."""
        return analysis.agreement(self.shares)

    @cached_property
    def tuning(self) -> pd.DataFrame:
        """The runs that chose the tuned rates; empty if they are gone."""
        folder = self.results.folder
        try:
            runs = load(folder.with_name(folder.name + TUNING)).runs
        except StudyError:
            return pd.DataFrame()
        return runs.assign(model=short_model(runs["model"]))

    @cached_property
    def tuned(self) -> pd.DataFrame:
        """The tuned rate of each model, optimizer and scaler; empty if the tuning runs are gone.

        ``trains`` says whether its tuning runs score above a constant prediction: if not, no rate
        of the grid does.
        """
        if self.tuning.empty:
            return pd.DataFrame(columns=[*TUNED, "learning_rate", "value", "edge", "trains"])
        found = analysis.best_rates(self.tuning)
        least = datasets.chance(self.problem) + analysis.SMALLEST
        return found.assign(trains=found["value"] > least)

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
    def few(self) -> dict[str, int]:
        """On how many splits the shares that are shown rest, of scalers with fewer than half."""
        found = self.of_main(self.shares)
        counts = found.groupby("scaler", sort=False)["n"].max()
        shown = (name for name in (RAW, self.scaler) if name in counts)
        return {name: int(counts[name]) for name in shown if counts[name] < self.splits / 2}

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
    better = rows[rows["outcome"] == "better"].sort_values("value")
    top = better.iloc[-1].to_dict() if len(better) else {}
    classes = of.problem.classes
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
        "splits": of.splits,
        "remarks": [f"{row.feature} ({row.remarks})" for row in remarks.itertuples()],
        "kappa_raw": kappa.get(RAW),
        "kappa": kappa.get(of.scaler),
        **rate_facts(of, rows),
        "notes": list(of.problem.notes),
        "warnings": list(of.problem.warnings),
        "control": of.control,
        **importance_facts(of),
        **study_facts(of),
    }


def rate_facts(of: Diagnosis, counted: pd.DataFrame) -> dict[str, Any]:
    """Return what is said of tuned rates; `counted` has the trainings that the answer counts."""
    ends = of.tuned[of.tuned["edge"].astype(bool) & of.tuned["trains"].astype(bool)]
    idle = of.scores[~of.scores["tunable"]]
    said = idle[idle["scaler"].isin([RAW, of.scaler])].merge(counted[TRAINING], on=TRAINING)
    return {
        "grids": grids(of),
        "edges": [
            f"{cell_name(row)} ({row['learning_rate']:g})" for row in ends.to_dict("records")
        ],
        "untunable": [cell_name(row) for row in idle.to_dict("records")],
        "untunable_counted": [cell_name(row) for row in said.to_dict("records")],
    }


def grids(of: Diagnosis) -> list[str]:
    """Return the learning rates that were tried on raw and on scaled columns, by optimizer."""
    if of.tuning.empty:
        return []
    runs = of.tuning.astype({"optimizer": str, "scaler": str})
    tried = runs.groupby(["optimizer", "scaler"])["learning_rate"].unique().map(sorted)
    return [
        f"{name} on {columns(scaler)}: {listing([f'{rate:g}' for rate in tried[name, scaler]])}"
        for name in runs["optimizer"].unique()
        for scaler in dict.fromkeys([RAW, of.scaler])
    ]


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
        "main": f"{of.main['model']} with {of.main['optimizer']}",
        "few": [f"{n} of {of.splits} splits on {columns(name)}" for name, n in of.few.items()],
        "read_raw": len(raw) > 0,
        "read": len(leading) > 0,
        "leading": leading["feature"].head(3).tolist(),
        "compared": len(changes) > 0,
        "moved_any": len(changed) > 0,
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


def file_name(table: str) -> str:
    """Return what a table's folder is called: its file's name without the suffix."""
    stem = Path(table).stem
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)
    return kept or "table"
