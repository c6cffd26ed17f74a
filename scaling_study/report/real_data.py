"""The report on real data: held-out scores by scaler, what was planted, and what it did."""

import inspect
from pathlib import Path

import pandas as pd

from scaling_study.analysis import held_out
from scaling_study.analysis.held_out import against, at_default, at_tuned, scored
from scaling_study.report.labels import budgets_of, listing, number, scaler_name, values_of
from scaling_study.report.real_data_plates import (
    AS_IT_IS,
    SMALLEST,
    TUNED,
    USUAL,
    forest,
    named,
    rate_panels,
    score_panels,
    trouble_panels,
)
from scaling_study.report.sections import Plate, Section, write_sections
from scaling_study.storage.results import Results
from scaling_study.study.datasets import DATASETS
from scaling_study.study.sources import user_problems
from scaling_study.study.study import Study

PLAIN = ("regression", "classes", "digits")
SHOWN = ("diabetes", "friedman2", "wine", "breast_cancer")  # over the rates; more would not fit
FACTORED = ("diabetes", "breast_cancer")  # whose trouble is shown, one of a kind
BY = [*held_out.CELL, "rates", "measure"]
INTERVALS = (
    "Intervals are 95 %: Nadeau and Bengio's where seeds split the same rows, Student's where each"
    " draws rows of its own."
)


def write_real_data(results: Results, folder: Path) -> None:
    """Write the report of a study of data sets into an empty folder.

    Parameters
    ----------
    results : Results
        From `scaling_study.load`, of problems that hold rows out.
    folder : Path

    Raises
    ------
    StudyError
        If runs differ in what the report does not tell apart.
    """
    runs = scored(results.runs, user_problems(results.study))
    tuned = at_tuned(runs)
    both = {USUAL: at_default(runs), TUNED: tuned}
    scores = _scores(both)
    differences = pd.concat(
        [against(of, "scaler", "none").assign(rates=name) for name, of in both.items()],
        ignore_index=True,
    )
    by_rate = held_out.within(runs, [*held_out.CELL, "measure", "learning_rate"])
    sections = [
        _of_scores(scores, differences, tuned),
        _of_rates(by_rate),
        _of_trouble(scores, both),
    ]
    tables = {"scores.csv": scores, "differences.csv": differences, "rates.csv": by_rate}
    tables = {f"tables/{name}": table for name, table in tables.items()}
    shown = [section for section in sections if section.plates or section.paragraphs]
    write_sections(
        results, folder, answer(scores, differences), shown, limits(results.study, runs), tables
    )


def _scores(both: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the mean score of each cell, and whether any rate of its grid trained it."""
    scores = pd.concat(
        [held_out.within(of.assign(rates=name), BY) for name, of in both.items()],
        ignore_index=True,
    )
    tuned = both[TUNED]
    able = tuned.assign(rates=TUNED, trained=held_out.trained(tuned))
    able = able.groupby([*held_out.CELL, "rates"])["trained"].first().reset_index()
    whole = scores.merge(able, on=[*held_out.CELL, "rates"], how="left")
    return whole.assign(trained=whole["trained"].ne(False))  # a usual rate is one, and not judged


# Words ----------------------------------------------------------------------------------------


def _counts(differences: pd.DataFrame, rates: str) -> tuple[int, int, int, int]:
    """Return how many cells' standardised score is better, worse, the same, of how many."""
    own = differences[
        differences["block"].isin(PLAIN)
        & (differences["scaler"] == "standard")
        & (differences["rates"] == rates)
    ]
    better, worse = (own["low"] > SMALLEST).sum(), (own["high"] < -SMALLEST).sum()
    same = ((own["low"] > -SMALLEST) & (own["high"] < SMALLEST)).sum()
    return int(better), int(worse), int(same), len(own)


def answer(scores: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """Return the answer in sentences; what they count is decided by whole intervals.

    Parameters
    ----------
    scores : DataFrame
        ``block, problem, model, optimizer, scale_factor, scaler, rates, measure``; ``value, low,
        high, n``; ``trained``, whether any rate of the grid was better than chance.
    differences : DataFrame
        The same cells less the scaler ``none``: ``value, low, high, n``.
    """
    words = []
    for rates, what in (
        (USUAL, "With each optimizer's usual learning rate"),
        (TUNED, "With a learning rate that other splits picked"),
    ):
        better, worse, same, cells = _counts(differences, rates)
        if cells:
            words.append(
                f"{what}, standardising surely scored more than {SMALLEST} better than the raw"
                f" columns in {better} of {cells} combinations of data set, model and optimizer,"
                f" more than {SMALLEST} worse in {worse}, and within {SMALLEST} of them in {same};"
                f" {cells - better - worse - same} are undecided."
            )
    return [*words, *_of_need(differences), *_of_factor(scores)]


def _of_need(differences: pd.DataFrame) -> list[str]:
    """Say where, at tuned rates, no scaler was needed, where one was, and where nobody knows.

    None was needed where every scaler's interval lies below what matters, and one was where an
    interval lies above it; whatever is between is undecided.
    """
    own = differences[differences["block"].isin(PLAIN) & (differences["rates"] == TUNED)]
    if not len(own):
        return []
    cells = own.assign(fine=own["high"] < SMALLEST, gains=own["low"] > SMALLEST)
    cells = cells.groupby(["problem", "model", "optimizer"], sort=False).agg(
        fine=("fine", "all"), gains=("gains", "any")
    )
    names = {key: _cell_name(*key) for key in cells.index}
    fine = [names[key] for key in cells.index[cells["fine"]]]
    undecided = [names[key] for key in cells.index[~cells["fine"] & ~cells["gains"]]]
    gains = int(cells["gains"].sum())
    words = [
        f"At tuned rates some scaler surely gained more than {SMALLEST} over the raw columns in"
        f" {gains} of {len(cells)} combinations."
    ]
    if fine:
        words.append(
            f"For {listing(fine)} no scaler was needed: at tuned rates none gained more than"
            f" {SMALLEST}."
        )
    if undecided:
        words.append(f"For {listing(undecided)} it is undecided whether one was.")
    return words


def _cell_name(problem: str, model: str, optimizer: str) -> str:
    return f"{named(problem)} ({model.partition('(')[0]}, {optimizer})"


def _of_factor(scores: pd.DataFrame) -> list[str]:
    """Return what a thousandfold unit did to the raw and to the standardised columns."""
    words = []
    for problem in FACTORED:
        own = scores[(scores["problem"] == problem) & (scores["rates"] == TUNED)]
        parts = [_moved(own, scaler) for scaler in ("none", "standard")]
        if all(parts):
            words.append(
                f"One column of {named(problem)} in units a thousand times smaller took the"
                f" mean score over models and optimizers, tuned, with {listing(parts)}."
            )
    return words


def _moved(own: pd.DataFrame, scaler: str) -> str:
    """Return from where to where a thousandfold unit took a scaler's mean score."""
    mine = own[own["scaler"] == scaler]
    plain, far = (mine[mine["scale_factor"] == factor] for factor in (1.0, 1000.0))
    if not len(plain) or not len(far):
        return ""
    idle = int((~far["trained"]).sum())
    ends = f"from {number(plain['value'].mean())} to {number(far['value'].mean())}"
    none = f" (in {idle} of {len(far)} combinations no rate of the grid trained)" if idle else ""
    return f"{scaler_name(scaler)} {ends}{none}"


def limits(study: Study, runs: pd.DataFrame) -> list[str]:
    """Return where the report could be wrong, a paragraph each.

    Parameters
    ----------
    study : Study
    runs : DataFrame
        From `scaling_study.analysis.held_out.scored`.
    """
    blocks = study.blocks
    problems = values_of(blocks, "problem")
    return [
        *_of_overlap(runs),
        f"A tuned rate is the best of {_of_grids(runs)}, by the mean held-out score of"
        " the first half of the seeds, and scored on the other half. Rows held out for the one half"
        " are trained on in the other; a rate is one number, and little can leak through it. Where"
        " the best rate is an end of the grid, a longer grid could do better; where no rate of it"
        " is better than chance (R² of 0, or the share of the largest class), no rate of the grid"
        " trained, and the one in the middle is shown.",
        f"Budgets are equal and short: {budgets_of(blocks)}. A raw linear model that lags here may"
        " catch up later; its least-squares solution predicts the same in any affine scaling."
        f" Models: {listing(values_of(blocks, 'model'))}; no early stopping.",
        "R² below 0, and that of a run that diverged, count as 0."
        + (
            " Outliers are planted in training rows only, in one column; errors in the rows that"
            " are predicted would be another question."
            if any("outliers" in problem for problem in problems)
            else ""
        ),
    ]


def _of_overlap(runs: pd.DataFrame) -> list[str]:
    """Say how intervals allow for splits that share their rows, where there are such."""
    if not (runs["overlap"] > 0).any():
        return []
    n = runs["seed"].nunique()
    wider = (1 + n * runs["overlap"].max()) ** 0.5
    new = " Generated problems draw new rows for each seed, and have Student's intervals."
    return [
        "The splits of one data set share most of their rows, so that their scores are not"
        f" independent. Their intervals are Nadeau and Bengio's, at {n} splits up to"
        f" {number(wider, 2)} times as wide as Student's: they speak of new rows like these, not"
        " of other splits of the same ones. The correction is an approximation, wider than it need"
        " be where training varies much from split to split."
        + (new if (runs["overlap"] == 0).any() else "")
    ]


def _of_grids(runs: pd.DataFrame) -> str:
    """Say how many rates there are to choose from."""
    rates = runs.groupby(held_out.CELL)["learning_rate"].nunique().reset_index()
    raw = rates["scaler"] == "none"
    parts = [
        f"{_span(own['learning_rate'])} for {what}"
        for what, own in (("raw columns", rates[raw]), ("scaled ones", rates[~raw]))
        if len(own)
    ]
    return listing(parts)


def _span(counts: pd.Series) -> str:
    least, most = int(counts.min()), int(counts.max())
    return f"{most}" if least == most else f"{least} to {most}"


# Sections -------------------------------------------------------------------------------------


def _of_scores(scores: pd.DataFrame, differences: pd.DataFrame, tuned: pd.DataFrame) -> Section:
    heading = "What scalers did for data as they come"
    plain = scores[scores["block"].isin(PLAIN)]
    of_standard = differences[
        differences["block"].isin(PLAIN) & (differences["scaler"] == "standard")
    ]
    n = int(scores.loc[scores["rates"] == TUNED, "n"].max())
    of_scores = Plate(
        "scores",
        "Held-out score by scaler, with tuned rates",
        f"Mean of {n} splits, 95 % intervals. R² or accuracy, as each panel says; every panel has"
        " a scale of its own.",
        score_panels(plain[plain["rates"] == TUNED]),
        plain,
    )
    plates = [of_scores]
    if len(of_standard):
        plates += [
            Plate(
                "standard-or-raw",
                "What standardising gains over raw columns, within a split",
                "Standard less none, paired by split; bars are 95 % intervals;"
                f" {n} splits tuned, all at the usual rate. Grey: less than {SMALLEST} either way.",
                forest(of_standard),
                of_standard,
            )
        ]
    paragraphs = (
        "Equal budgets, the same splits, initialisations and batch orders for every scaler."
        f" {_of_ends(tuned)} {INTERVALS}",
    )
    return Section(heading, paragraphs, plates=tuple(plates))


def _of_ends(tuned: pd.DataFrame) -> str:
    """Say how many tuned rates are an end of their grid, and how many were picked by nothing."""
    cells = tuned.assign(trained=held_out.trained(tuned))
    cells = cells.groupby(held_out.CELL)[["edge", "trained"]].first().reset_index()
    raw, idle = cells["scaler"] == "none", ~cells["trained"]
    return (
        f"The tuned rate lies on an end of its grid in {int(cells['edge'].sum())} of {len(cells)}"
        f" cells, {int(cells.loc[raw, 'edge'].sum())} of them of raw columns; in"
        f" {int(idle.sum())}, {int((idle & raw).sum())} of them of raw columns, no rate of the grid"
        " was better than chance."
    )


def _of_rates(by_rate: pd.DataFrame) -> Section:
    heading = "It is a matter of the learning rate"
    own = by_rate[by_rate["block"].isin(PLAIN) & by_rate["problem"].isin(SHOWN)]
    own = own[own["model"] == "linear"]
    if not len(own):
        return Section(heading)
    is_raw = own["scaler"] == "none"
    raw, scaled = (set(own.loc[kind, "learning_rate"]) for kind in (is_raw, ~is_raw))
    further = raw > scaled > set()
    plate = Plate(
        "rates",
        "Score of linear models over the learning rate",
        f"Mean of {int(own['n'].max())} splits; bands are 95 % intervals."
        + (" For raw columns the grid goes further." if further else ""),
        rate_panels(own),
        own,
    )
    return Section(heading, plates=(plate,))


def _of_trouble(scores: pd.DataFrame, both: dict[str, pd.DataFrame]) -> Section:
    heading = "Trouble that was planted"
    adam = scores[scores["problem"].str.startswith(FACTORED) & (scores["optimizer"] == "adam")]
    factor = pd.concat(
        [
            against(of[of["problem"].isin(FACTORED)], "scale_factor", 1.0).assign(rates=name)
            for name, of in both.items()
        ],
        ignore_index=True,
    )
    if not len(factor):
        return Section(heading)
    paragraph = (
        "The planted factor changes a unit and nothing else. A scaler undoes it, up to rounding."
        " Outliers are another matter: minmax and standard divide by what the outliers made;"
        " robust does not, and leaves them as far out as they were; quantile brings them in."
    )
    note = (
        "Mean scores, and their difference within a split, with 95 % intervals. “None trained”: no"
        " rate of the grid was better than chance on the seeds that tune."
    )
    plates = (_trouble_plate(adam),) if len(adam) else ()
    return Section(heading, (paragraph,), _factor_table(scores, factor), note, plates)


def _factor_table(scores: pd.DataFrame, factor: pd.DataFrame) -> pd.DataFrame:
    """Return scores at the problem's own unit and at another, and their difference, as text."""
    keys = ["problem", "model", "optimizer", "scaler", "rates"]
    mean = scores.assign(
        text=[
            number(value) if trained else f"{number(value)}, none trained"
            for value, trained in zip(scores["value"], scores["trained"], strict=True)
        ]
    )
    own = mean[mean["scale_factor"] == 1][[*keys, "text"]]
    both = factor.merge(own, on=keys).merge(
        mean[[*keys, "block", "scale_factor", "text"]],
        on=[*keys, "block", "scale_factor"],
        suffixes=("_own", ""),
    )
    return pd.DataFrame(
        {
            "data": both["problem"].map(named),
            "model": both["model"].str.partition("(")[0],
            "optimizer": both["optimizer"],
            "rate": both["rates"],
            "scaler": both["scaler"].map(scaler_name),
            "factor": both["scale_factor"].map("{:g}".format),
            "score at 1": both["text_own"],
            "at the factor": both["text"],
            "difference": [
                f"{number(value)} [{number(low)}, {number(high)}]"
                for value, low, high in both[["value", "low", "high"]].to_numpy()
            ],
        }
    )


def _trouble_plate(adam: pd.DataFrame) -> Plate:
    adam = adam.assign(
        trouble=[
            _trouble(problem, factor)
            for problem, factor in zip(adam["problem"], adam["scale_factor"], strict=True)
        ],
        dataset=adam["problem"].str.partition("(")[0],
    )
    return Plate(
        "planted",
        "Held-out score of Adam with trouble in one column, tuned rates",
        " ".join(["Mean over splits, 95 % intervals.", *_planted(adam["problem"])]),
        trouble_panels(adam[adam["rates"] == TUNED]),
        adam,
    )


def _planted(problems: pd.Series) -> list[str]:
    """Say what was planted, and in which column where it is the one that data sets name."""
    known = " ".join(problems.unique())
    words = []
    if "outliers" in known:
        words.append("Outliers: that share of the training rows a thousandfold.")
    if "heavy_tails" in known:
        words.append("Heavy tails: sinh of twice the standardised value.")
    if "feature=" not in known:
        names = dict.fromkeys(problems.str.partition("(")[0])
        columns = [f"{_column(name)} of {named(name)}" for name in names]
        words.append(f"The column is {listing(columns)}.")
    return words


def _column(dataset: str) -> str:
    return str(inspect.signature(DATASETS[dataset]).parameters["feature"].default)


def _trouble(problem: str, factor: float) -> str:
    """Return what was planted in a column, as a panel's row is called."""
    planted = problem.partition("(")[2].removesuffix(")")
    if factor != 1:
        return f"unit × {factor:g}" + (f", {planted}" if planted else "")
    name, _, value = planted.partition("=")
    if name == "outliers" and "," not in value:
        return f"outliers, {100 * float(value):g} %"
    return {"": AS_IT_IS, "heavy_tails=True": "heavy tails"}.get(planted, planted)
