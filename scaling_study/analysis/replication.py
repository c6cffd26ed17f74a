"""Replication of published results: the published value, ours, and a verdict by rule.

A published accuracy is tested twice. On its own split, with its own seed: is it ``reproduced``, to
the digits printed? Over many splits: does it lie in the interval of the mean (``holds``, else
``differs``; ``inconclusive`` if the interval is too wide to tell)? A claim about training time is
a ratio that should lie on one side of 1.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from scaling_study.analysis import intervals
from scaling_study.analysis.intervals import Estimate
from scaling_study.analysis.metrics import Table, log_steps
from scaling_study.analysis.tuning import select_learning_rates
from scaling_study.errors import StudyError
from scaling_study.storage.results import Results
from scaling_study.study.study import FEWEST

EXAMPLE = "scikit-learn, Importance of Feature Scaling"
PINHEIRO = "Pinheiro et al. 2025, arXiv 2506.08274"
BACKPROP = "LeCun et al. 1998, Efficient BackProp"
RAW, SCALED = "none", "standard"
ALIKE = 0.05  # relative difference within which two times count as equal
WIDEST = 0.1  # of accuracy to each side; a wider interval confirms no value
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
HOLDS, DIFFERS, INCONCLUSIVE = "holds", "differs", "inconclusive"
DIRECTION_HOLDS, OPPOSITE = "direction only", "opposite"
ON_ITS_SPLIT, OVER_SPLITS, TRAINING = "the published split", "over splits", "training"
NAMES = {RAW: "accuracy raw", SCALED: "accuracy standardised"}
GAIN = "gain by standardising"


class Published(NamedTuple):
    """Accuracies that a source prints of one split, raw and standardized."""

    source: str
    #: The study's table ``[estimators.NAME]`` that measures them.
    comparison: str
    #: Data, estimator, and what differs from the source.
    quantity: str
    raw: float
    scaled: float
    #: Decimals that are printed.
    digits: int
    #: Whether something differs from the source.
    altered: bool = False
    #: Seed of the source's split.
    seed: int = 42


PCA, SVM = "wine, PCA and logistic regression", "wine, linear SVM"
# The example prints percentages with two decimals.
PUBLISHED = (
    Published(EXAMPLE, "pca-shared", f"{PCA}, one PCA in both pipelines", 0.3519, 0.9630, 4),
    Published(
        EXAMPLE, "pca-separate", f"{PCA}, a PCA for each pipeline", 0.3519, 0.9630, 4, altered=True
    ),
    Published(PINHEIRO, "wine-svm-stopped", f"{SVM} stopped at 1,000 iterations", 0.593, 0.981, 3),
    Published(PINHEIRO, "wine-svm", f"{SVM} trained to its end", 0.593, 0.981, 3, altered=True),
    Published(PINHEIRO, "wine-knn", "wine, 5 nearest neighbours", 0.741, 0.963, 3),
    Published(PINHEIRO, "wine-mlp", "wine, MLP", 0.981, 0.981, 3),
    Published(PINHEIRO, "breast-cancer-mlp", "breast cancer, MLP", 0.965, 0.977, 3),
)


class Ratio(NamedTuple):
    """A claim that training takes longer under one scaler and offset than under another."""

    #: With a place for the largest offset.
    quantity: str
    #: Scaler, and whether at the largest offset (else at none).
    slow: tuple[str, bool]
    fast: tuple[str, bool]
    #: ``"> 1"`` or ``"= 1"``.
    claimed: str


RATIOS = (
    Ratio("raw, offset {:g} over none", ("none", True), ("none", False), "> 1"),
    Ratio("offset {:g}, raw over centred", ("none", True), ("center", True), "> 1"),
    Ratio("centred, offset {:g} over none", ("center", True), ("center", False), "= 1"),
    Ratio("offset {:g}, min-max over centred", ("minmax", True), ("center", True), "> 1"),
)
CENTRING_BLOCKS = {"full-batch": "full batch", "minibatch": "minibatches of 10"}


def published_table(results: Results) -> pd.DataFrame:
    """Return every published value with ours and the verdict.

    Parameters
    ----------
    results : Results
        With any of the comparisons of `PUBLISHED` and the blocks of `CENTRING_BLOCKS`.

    Returns
    -------
    DataFrame
        ``source, quantity, published, ours, interval, verdict`` as text; ``measured``
        (`ON_ITS_SPLIT`, `OVER_SPLITS` or `TRAINING`), ``comparison``, ``altered`` (differs from
        the source), ``value, low, high, n``; ``reached``, the share of splits on which the value
        is at least the published one, to the digits printed; ``beyond_budget``, how many runs of a
        ratio did not reach the target and count as the budget.

    Raises
    ------
    StudyError
        If the study has none of them, or too few seeds for an interval.
    """
    if results.study.n_seeds < FEWEST:
        raise StudyError(
            f'{results.folder}: report = "published" needs at least {FEWEST} seeds, half of which'
            f" pick learning rates; these are {results.study.n_seeds}"
        )
    rows: list[dict[str, object]] = []
    for entry in PUBLISHED:
        if entry.comparison in results.study.estimators:
            rows += [*_on_its_split(results, entry), *_over_splits(results, entry)]
    for block in CENTRING_BLOCKS:
        if block in results.study.blocks:
            rows += _ratios(results, block)
    if not rows:
        known = [*(entry.comparison for entry in PUBLISHED), *CENTRING_BLOCKS]
        raise StudyError(
            f'{results.folder}: report = "published" needs an estimator or a block that a'
            f" published figure is known of: {', '.join(known)}"
        )
    return pd.DataFrame(rows)


# Accuracies -----------------------------------------------------------------------------------


def splits(results: Results, comparison: str) -> pd.DataFrame:
    """Return the accuracies of a comparison, a row a seed and a column a scaler."""
    fits = results.estimators
    fits = fits[fits["comparison"] == comparison]
    wide = fits.pivot(index="seed", columns="scaler", values="accuracy")
    if not {RAW, SCALED} <= set(wide):
        raise StudyError(
            f"{results.folder}: lacks estimators.{comparison} with scalers {RAW!r} and {SCALED!r}"
        )
    return wide


def accuracy_over_splits(results: Results, comparison: str) -> dict[str, Estimate]:
    """Return the mean over splits of each accuracy, and of their difference within a split.

    Returns
    -------
    dict of str to Estimate
        By scaler, and `GAIN`: standardized minus raw. Intervals are those of
        `intervals.resampled_mean`, clipped to [0, 1] for an accuracy.
    """
    wide = splits(results, comparison)
    fits = results.estimators[results.estimators["comparison"] == comparison]
    sizes = int(fits["train_rows"].max()), int(fits["test_rows"].max())  # equal in every split
    found = {}
    for scaler in (RAW, SCALED):
        whole = intervals.resampled_mean(wide[scaler], *sizes)
        low, high = np.clip([whole.low, whole.high], 0, 1).tolist()
        found[scaler] = whole._replace(low=low, high=high)
    found[GAIN] = intervals.resampled_mean(wide[SCALED] - wide[RAW], *sizes)
    return found


def _on_its_split(results: Results, entry: Published) -> Iterator[dict[str, object]]:
    """Yield whether the published values are reproduced; nothing if their seed is not stored."""
    wide = splits(results, entry.comparison)
    if entry.seed not in wide.index:
        return
    for scaler, printed in ((RAW, entry.raw), (SCALED, entry.scaled)):
        value = float(wide[scaler].to_dict()[entry.seed])
        same = f"{value:.{entry.digits}f}" == f"{printed:.{entry.digits}f}"
        ours = Estimate(value, np.nan, np.nan, 1)
        verdict = REPRODUCED if same else NOT_REPRODUCED
        yield _row(entry, f"{NAMES[scaler]}, its split", ON_ITS_SPLIT, printed, ours, verdict)


def _over_splits(results: Results, entry: Published) -> Iterator[dict[str, object]]:
    found = accuracy_over_splits(results, entry.comparison)
    wide = splits(results, entry.comparison)
    rounding = 10.0**-entry.digits / 2
    for scaler, printed in ((RAW, entry.raw), (SCALED, entry.scaled)):
        verdict = judge_accuracy(printed, found[scaler])
        reached = float((wide[scaler] >= printed - rounding).mean())
        yield _row(entry, NAMES[scaler], OVER_SPLITS, printed, found[scaler], verdict, reached)
    gain, ours = entry.scaled - entry.raw, found[GAIN]
    # The difference of two printed values carries the rounding of both.
    reached = float((wide[SCALED] - wide[RAW] >= gain - 2 * rounding).mean())
    yield _row(entry, GAIN, OVER_SPLITS, gain, ours, judge_gain(gain, ours), reached)


def judge_accuracy(printed: float, ours: Estimate) -> str:
    """Return whether a published value lies in an interval narrow enough to tell."""
    if not ours.low <= printed <= ours.high:
        return DIFFERS
    narrow = max(ours.high - ours.value, ours.value - ours.low) <= WIDEST
    return HOLDS if narrow else INCONCLUSIVE


def judge_gain(printed: float, ours: Estimate) -> str:
    """Return the verdict on a published gain.

    On the published side of zero the interval ``holds`` with the value inside, else it is
    ``direction only``; on the other side it is ``opposite``. If it contains zero it is
    ``inconclusive`` with the value inside, else it ``differs``. A published gain of zero is judged
    as an accuracy.
    """
    if round(printed, 4) == 0:
        return judge_accuracy(printed, ours)
    toward, away = (ours.low, ours.high) if printed > 0 else (-ours.high, -ours.low)
    inside = ours.low <= printed <= ours.high
    if toward > 0:
        return HOLDS if inside else DIRECTION_HOLDS
    if away < 0:
        return OPPOSITE
    return INCONCLUSIVE if inside else DIFFERS


def _row(
    entry: Published,
    what: str,
    measured: str,
    printed: float,
    ours: Estimate,
    verdict: str,
    reached: float = np.nan,
) -> dict[str, object]:
    form = f"{{:.{entry.digits}f}}"
    return {
        "source": entry.source,
        "quantity": f"{entry.quantity}: {what}",
        "published": form.format(printed),
        **_printed(ours, form),
        "verdict": verdict,
        "measured": measured,
        "comparison": entry.comparison,
        "altered": entry.altered,
        **ours._asdict(),
        "reached": reached,
    }


def _printed(ours: Estimate, form: str) -> dict[str, str]:
    known = np.isfinite(ours.low) and np.isfinite(ours.high)
    ends = f"{form.format(ours.low)} to {form.format(ours.high)}" if known else ""
    return {"ours": form.format(ours.value), "interval": ends}


# Training times -------------------------------------------------------------------------------


def tuned_times(results: Results, block: str) -> tuple[Table, pd.DataFrame]:
    """Return updates to target at tuned learning rates, of the reported half of the seeds.

    Returns
    -------
    table : Table
        The runs.
    frame : DataFrame
        In their order: ``scaler, offset, seed, learning_rate, steps``, infinite beyond the
        budget.
    """
    table, _ = select_learning_rates(Table(results, [block]), "tuned")
    frame = pd.DataFrame(
        {
            "scaler": table.runs["scaler"].astype(str),
            "offset": table["offset"],
            "seed": table.seeds,
            "learning_rate": table["learning_rate"],
            "steps": 10 ** log_steps(table),
        }
    )
    return table, frame


def _ratios(results: Results, block: str) -> Iterator[dict[str, object]]:
    _, frame = tuned_times(results, block)
    wide = frame.pivot(index="seed", columns=["scaler", "offset"], values="steps")
    most = float(frame["offset"].max())
    budget = float(max(results.study.blocks[block]["updates"]))
    for ratio in RATIOS:
        ends = [(scaler, most if offset else 0.0) for scaler, offset in (ratio.slow, ratio.fast)]
        if not set(ends) <= set(wide):
            continue
        slow, fast = (np.log(wide[end].clip(upper=budget)) for end in ends)
        ours = Estimate(*np.exp(intervals.paired_difference(slow, fast)[:3]), n=len(wide))
        late = [int(np.isinf(wide[end]).sum()) for end in ends]
        what = f"updates to target, {ratio.quantity.format(most)}"
        yield {
            "source": BACKPROP,
            "quantity": f"{CENTRING_BLOCKS[block]}: {what}",
            "published": ratio.claimed,
            **_printed(ours, _form(ours.value)),
            "verdict": judge_ratio(ratio.claimed, open_ended(ours, *late)),
            "measured": TRAINING,
            "comparison": block,
            "altered": False,
            **ours._asdict(),
            "beyond_budget": sum(late),
        }


def open_ended(ours: Estimate, slow_late: int, fast_late: int) -> Estimate:
    """Return the interval of a ratio slow / fast, without ends that censoring leaves unknown.

    A censored time counts as the budget, which is too short. In the numerator it makes the ratio
    too small, so the upper end is unknown; in the denominator too large, so the lower end is. The
    last two arguments are the numbers of censored times.
    """
    low, high = 0.0 if fast_late else ours.low, np.inf if slow_late else ours.high
    return ours._replace(low=low, high=high)


def judge_ratio(claimed: str, ours: Estimate) -> str:
    """Return the verdict on a ratio of times that is claimed to be ``"> 1"`` or ``"= 1"``.

    Ratios within `ALIKE` of 1 count as equal: an interval inside holds ``"= 1"``, one outside
    differs, any other is inconclusive.
    """
    if claimed == "= 1":
        least, most = 1 / (1 + ALIKE), 1 + ALIKE
        if ours.low > most or ours.high < least:
            return DIFFERS
        return HOLDS if ours.low >= least and ours.high <= most else INCONCLUSIVE
    if ours.low > 1:
        return HOLDS
    return OPPOSITE if ours.high < 1 else INCONCLUSIVE


def _form(value: float) -> str:
    return "{:,.0f}" if value >= 100 else "{:.1f}" if value >= 10 else "{:.2f}"
