"""The report of published results: what was printed, what comes out, and a verdict by rule."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis.replication import (
    CENTRING_BLOCKS,
    DIFFERS,
    DIRECTION_HOLDS,
    EXAMPLE,
    GAIN,
    HOLDS,
    INCONCLUSIVE,
    NAMES,
    ON_ITS_SPLIT,
    OPPOSITE,
    OVER_SPLITS,
    PINHEIRO,
    PUBLISHED,
    RAW,
    REPRODUCED,
    SCALED,
    TRAINING,
    WIDEST,
    published_table,
    splits,
)
from scaling_study.report import published_plates
from scaling_study.report.centring import sections_of_centring
from scaling_study.report.labels import listing, percent
from scaling_study.report.sections import Plate, Section, write_sections
from scaling_study.storage.results import Results

LABELS = {
    "pca-shared": "wine, PCA\n(one for both)",
    "pca-separate": "wine, PCA\n(one for each)",
    "wine-svm-stopped": "wine, linear SVM\n(stopped early)",
    "wine-svm": "wine, linear SVM\n(to its end)",
    "wine-knn": "wine, 5 nearest\nneighbours",
    "wine-mlp": "wine, MLP",
    "breast-cancer-mlp": "breast cancer, MLP",
}
COLUMNS = ["source", "quantity", "published", "ours", "interval", "verdict"]
RULE = (
    "“Reproduced”: the figure comes out on its own split, to the digits printed. Over the splits an"
    " accuracy “holds” where it lies in the interval of the mean, unless that reaches further than"
    f" {WIDEST:g} (“inconclusive”), and a gain where it lies in the interval and all of that is on"
    " its side of zero (“inconclusive” where zero is inside as well). “Reached”: share of the"
    " splits on which ours is at least the published figure. Intervals: 95 %, Nadeau and Bengio's,"
    " which do not shrink to nothing with the number of splits of the same rows."
)
SHORT = {NAMES[RAW]: "raw", NAMES[SCALED]: "scaled", GAIN: "gain"}
SAID = {
    HOLDS: "hold",
    DIRECTION_HOLDS: "hold in direction only",
    INCONCLUSIVE: "are inconclusive",
    DIFFERS: "differ",
    OPPOSITE: "are opposite",
}


def write_published(results: Results, folder: Path) -> None:
    """Write the report of a study of published results into an empty folder.

    Parameters
    ----------
    results : Results
        Of a study with any of the estimators and blocks that
        `scaling_study.analysis.replication` knows.
    folder : Path
    """
    table = published_table(results)
    sections = [*_of_estimators(results, table), *sections_of_centring(results, table)]
    whole = table[[*COLUMNS, *(name for name in table if name not in COLUMNS)]]
    write_sections(
        results,
        folder,
        answer=_answer(results, table),
        sections=sections,
        limits=_limits(results),
        tables={"published.csv": whole},
    )


# Words ----------------------------------------------------------------------------------------


def _answer(results: Results, table: pd.DataFrame) -> list[str]:
    said = []
    own = table[table["measured"] == ON_ITS_SPLIT]
    faithful = own[~own["altered"]]
    if len(faithful):
        out = int((faithful["verdict"] == REPRODUCED).sum())
        said.append(f"Of {len(faithful)} accuracies measured as their source did, on its own split,"
                    f" {out} come out to the digits printed.")  # fmt: skip
    values = {
        (str(name), _what(str(text))): float(value)
        for name, text, value in zip(own["comparison"], own["quantity"], own["value"], strict=True)
    }
    said += _about_the_example(values)
    said += _about_the_svm(results, values)
    said += _about_many_splits(table[table["measured"] == OVER_SPLITS])
    times = table[table["measured"] == TRAINING]
    if len(times):
        first, held = times.iloc[0], int((times["verdict"] == HOLDS).sum())
        block, _, ratio = str(first["quantity"]).partition(": updates to target, ")
        said.append(f"What LeCun et al. say of centring holds in {held} of {len(times)}"
                    f" comparisons: “{ratio}” multiplies the updates to the target by"
                    f" {first['ours']} ({first['interval']}) with the {block}.")  # fmt: skip
    return said


def _what(quantity: str) -> str:
    """Return ``raw`` or ``standardised`` from what a row of a split's own is called."""
    return quantity.removesuffix(", its split").rpartition(" ")[2]


def _about_the_example(values: dict[tuple[str, str], float]) -> list[str]:
    keys = [("pca-shared", "raw"), ("pca-separate", "raw"), ("pca-separate", "standardised")]
    if not set(keys) <= values.keys():
        return []
    shared, separate, scaled = (values[key] for key in keys)
    return [
        f"The example's {100 * shared:.2f} % for raw inputs is that of one PCA object in two"
        " pipelines, the first of which predicts with the second's components; with a PCA for each"
        f" pipeline the raw inputs give {100 * separate:.2f} %, and"
        f" {100 * (scaled - separate):.0f} of the {100 * (scaled - shared):.0f} points that scaling"
        f" seems to add, up to {100 * scaled:.2f} %, are left."
    ]


def _about_the_svm(results: Results, values: dict[tuple[str, str], float]) -> list[str]:
    names = ("wine-svm-stopped", "wine-svm")
    if not {(name, "raw") for name in names} <= values.keys():
        return []
    stopped, ended = (values[name, "raw"] for name in names)
    means = [splits(results, name)[RAW].mean() for name in names]
    return [
        f"Pinheiro et al.'s {stopped:.3f} for the SVM on raw wine is that of a solver stopped at"
        f" 1,000 iterations, as their configuration says: trained to its end it gives {ended:.3f}"
        f" on the same split ({means[0]:.3f} and {means[1]:.3f} in the mean over splits)."
    ]


def _about_many_splits(over: pd.DataFrame) -> list[str]:
    """Return how the gains fare, and which printed accuracy is furthest from its mean."""
    faithful = over[~over["altered"]]
    if not len(faithful):
        return []
    gain = faithful["quantity"].str.endswith(GAIN)
    counts = faithful.loc[gain, "verdict"].value_counts()
    said = listing([f"{n} {SAID[str(word)]}" for word, n in counts.items()])
    single = faithful[~gain]
    off = (single["published"].astype(float) - single["value"]).abs()
    far = single.iloc[int(off.to_numpy().argmax())]
    return [
        f"Over {over['n'].max()} splits, of the {gain.sum()} gains by standardising that are"
        f" measured as their source did, {said}. The printed accuracy furthest from the mean over"
        f" splits is “{far['quantity']}”: {far['published']} printed, {far['ours']} in the mean,"
        f" and reached on {percent(float(far['reached']))} of the splits."
    ]


def _limits(results: Results) -> list[str]:
    said = _limits_of_estimators(results) if results.study.estimators else []
    if set(CENTRING_BLOCKS) & set(results.study.blocks):
        said.append(
            "The book makes its claim of networks and says “usually”. Here it is tested on a linear"
            " model with two features, one of them offset, where theory is exact; a network's first"
            " layer has the same inputs, and more besides. The learning rate is picked from a grid"
            " on half of the seeds and reported on the other half."
        )
    return said


def _limits_of_estimators(results: Results) -> list[str]:
    fits = results.estimators
    early = fits.groupby("comparison", sort=False)["stopped_early"].sum()
    who = listing([f"{n} of {name}" for name, n in early.items() if n])
    return [
        "The splits are draws from one data set of 178 or 569 rows, so they share rows. The"
        " interval is widened for that by Nadeau and Bengio's correction, which rests on an"
        " approximate correlation; and it speaks of these populations, of training sets of this"
        " size and of these settings, not of scaling as such.",
        "An interval that holds zero does not show that there is no gain. With 54 rows held out,"
        " one row is two points of accuracy: a printed gain of one point rests on half a row.",
        "The seed of a split is also the network's, as in the source, so its start varies with"
        " the split. What the start adds to the spread is not shared between splits, but the"
        " correction takes it so: the MLPs' intervals are too wide rather than too narrow."
        f" {int(fits['stopped_early'].sum()):,} of {len(fits):,} fits ended before their solver had"
        f" converged{f' ({who})' if who else ''}; they count as they are, as in the sources.",
        "The settings of Pinheiro et al. are those of the model configurations that its authors"
        " publish. Of its many rows four are checked, on data that scikit-learn ships; its"
        " 3-decimal figures are taken as given.",
    ]


# scikit-learn's estimators --------------------------------------------------------------------


def _of_estimators(results: Results, table: pd.DataFrame) -> list[Section]:
    known = [entry for entry in PUBLISHED if entry.comparison in results.study.estimators]
    if not known:
        return []
    example = [entry.comparison for entry in known if entry.source == EXAMPLE]
    others = [entry.comparison for entry in known if entry.source == PINHEIRO]
    sections = []
    if example:
        sections.append(
            Section(
                f"{EXAMPLE}",
                (
                    "The example fits principal components and a logistic regression to raw and to"
                    " standardised wine. One PCA object sits in both pipelines. The second fit"
                    " replaces its components, and the first pipeline, asked afterwards, sends raw"
                    " rows through the components of standardised ones. “A PCA for each pipeline”"
                    " is the same code with a clone of the object in each.",
                ),
                _cells(table, example),
                RULE,
            )
        )
    if others:
        sections.append(
            Section(
                f"{PINHEIRO}",
                (
                    "One split, one seed, 54 or 171 rows held out. The SVM is shown twice: stopped"
                    " at 1,000 iterations, as its configuration says, and trained to its end. The"
                    " others are as their configurations say. Malignant counts as 1, as in UCI's"
                    " file, which decides which network a seed gives.",
                ),
                _cells(table, others),
            )
        )
    sections.append(
        Section(
            "How much a split decides",
            plates=(_accuracies(results, table), _gains(table)),
        )
    )
    return sections


def _cells(table: pd.DataFrame, comparisons: list[str]) -> pd.DataFrame:
    """Return the printed rows, with the split's own and the mean over splits side by side."""
    own = table[table["comparison"].isin(comparisons)]
    over = own[own["measured"] == OVER_SPLITS]
    single = own[own["measured"] == ON_ITS_SPLIT].assign(
        quantity=lambda frame: frame["quantity"].str.removesuffix(", its split")
    )
    both = over.merge(single, on="quantity", how="left", suffixes=("", "_single"))
    n = int(over["n"].max())
    label = both["comparison"].map(_label).str.replace("\n", " ")
    single_verdict = both["verdict_single"].map(lambda word: f"{word}; ", na_action="ignore")
    text = {
        "": label.where(~label.duplicated(), ""),
        "inputs": both["quantity"].str.rpartition(": ")[2].map(SHORT),
        "verdict": single_verdict.fillna("") + both["verdict"],
        "published": both["published"],
        "its split": both["ours_single"].fillna(""),
        f"{n} splits": both["ours"],
        "95 % interval": both["interval"],
        "reached": both["reached"].map(percent),
    }
    return pd.DataFrame(text).map(lambda cell: cell.replace("-", "\N{MINUS SIGN}")
                                  if cell[:1] == "-" else cell)  # fmt: skip


def _label(comparison: Any) -> str:
    return LABELS.get(str(comparison), str(comparison))


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    label = frame["comparison"].map(_label)
    return frame.assign(label=label, published=frame["published"].astype(float))


def _accuracies(results: Results, table: pd.DataFrame) -> Plate:
    over = table[table["measured"] == OVER_SPLITS]
    estimates = _labelled(over[~over["quantity"].str.endswith(GAIN)])
    raw = estimates["quantity"].str.endswith("accuracy raw")
    estimates = estimates.assign(scaler=np.where(raw, RAW, SCALED))
    fits = results.estimators.assign(label=results.estimators["comparison"].map(_label))
    return Plate(
        "splits",
        "One split, and many",
        f"Accuracy on the rows held out of {int(estimates['n'].max())} random splits (small dots),"
        " their mean and its 95 % interval (Nadeau and Bengio's, for splits of the same rows), and"
        " the published figure (diamond), which is of one split.",
        published_plates.accuracies(fits, estimates),
        estimates[["comparison", "scaler", "published", "value", "low", "high", "n"]],
    )


def _gains(table: pd.DataFrame) -> Plate:
    own = _labelled(table[table["quantity"].str.endswith(GAIN)])
    return Plate(
        "gains",
        "What standardising adds",
        "Accuracy with standardised minus accuracy with raw inputs, within a split: the mean of"
        f" {int(own['n'].max())} splits with its 95 % interval, the published gain, and the"
        " verdict.",
        published_plates.gains(own),
        own[["comparison", "published", "value", "low", "high", "n", "verdict"]],
    )
