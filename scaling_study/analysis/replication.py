"""Published figures beside ours: what was printed, what comes out, and what follows by rule.

Every figure of an accuracy is asked two things. On its own split, with its own seed: does it come
out, to the digits printed (``reproduced``)? Over many splits: does it lie in the interval of the
mean (``holds``, else ``differs``; ``inconclusive`` where the interval would hold nearly anything)?
A claim about training time is a ratio that should lie on one side of 1.
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
ALIKE = 0.05  # share by which two times may differ and still count as the same
WIDEST = 0.1  # accuracy to each side; an interval wider than this confirms no figure
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
HOLDS, DIFFERS, INCONCLUSIVE = "holds", "differs", "inconclusive"
DIRECTION_HOLDS, OPPOSITE = "direction only", "opposite"
ON_ITS_SPLIT, OVER_SPLITS, TRAINING = "the published split", "over splits", "training"
NAMES = {RAW: "accuracy raw", SCALED: "accuracy standardised"}
GAIN = "gain by standardising"


class Published(NamedTuple):
    """Accuracies that a source prints of one split, raw and standardised.

    Attributes
    ----------
    source : str
    comparison : str
        The study's table ``[estimators.NAME]`` that measures them.
    quantity : str
        Data, estimator, and what is not as the source had it.
    raw, scaled : float
        Accuracies in [0, 1].
    digits : int
        Decimals that are printed.
    altered : bool
        Whether something is not as the source had it.
    seed : int
        That the source drew its split with.
    """

    source: str
    comparison: str
    quantity: str
    raw: float
    scaled: float
    digits: int
    altered: bool = False
    seed: int = 42


# The example prints percentages with two decimals.
PUBLISHED = (
    Published(
        EXAMPLE,
        "pca-shared",
        "wine, PCA and logistic regression, one PCA in both pipelines",
        *(0.3519, 0.9630, 4),
    ),
    Published(
        EXAMPLE,
        "pca-separate",
        "wine, PCA and logistic regression, a PCA for each pipeline",
        *(0.3519, 0.9630, 4),
        altered=True,
    ),
    Published(
        PINHEIRO,
        "wine-svm-stopped",
        "wine, linear SVM stopped at 1,000 iterations",
        *(0.593, 0.981, 3),
    ),
    Published(
        PINHEIRO,
        "wine-svm",
        "wine, linear SVM trained to its end",
        *(0.593, 0.981, 3),
        altered=True,
    ),
    Published(PINHEIRO, "wine-knn", "wine, 5 nearest neighbours", 0.741, 0.963, 3),
    Published(PINHEIRO, "wine-mlp", "wine, MLP", 0.981, 0.981, 3),
    Published(PINHEIRO, "breast-cancer-mlp", "breast cancer, MLP", 0.965, 0.977, 3),
)


class Ratio(NamedTuple):
    """A claim that training takes longer under one scaler and offset than under another.

    Attributes
    ----------
    quantity : str
        With a place for the largest offset.
    slow, fast : tuple of (str, bool)
        Scaler, and whether at the largest offset (else at none).
    claimed : str
        ``"> 1"`` or ``"= 1"``.
    """

    quantity: str
    slow: tuple[str, bool]
    fast: tuple[str, bool]
    claimed: str


RATIOS = (
    Ratio("raw, offset {:g} over none", ("none", True), ("none", False), "> 1"),
    Ratio("offset {:g}, raw over centred", ("none", True), ("center", True), "> 1"),
    Ratio("centred, offset {:g} over none", ("center", True), ("center", False), "= 1"),
    Ratio("offset {:g}, min-max over centred", ("minmax", True), ("center", True), "> 1"),
)
CENTRING_BLOCKS = {"full-batch": "full batch", "minibatch": "minibatches of 10"}


def splits(results: Results, comparison: str) -> pd.DataFrame:
    """Return the accuracies of a comparison, a row a seed and a column a scaler.

    Raises
    ------
    StudyError
        If the results have no such comparison, or not both scalers.
    """
    fits = results.estimators
    own = fits[fits["comparison"] == comparison]
    wide = own.pivot(index="seed", columns="scaler", values="accuracy")
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
        By scaler, and `GAIN`: standardised minus raw. Intervals are those of
        `intervals.resampled_mean`, cut at 0 and 1 for an accuracy.
    """
    wide = splits(results, comparison)
    own = results.estimators[results.estimators["comparison"] == comparison]
    sizes = int(own["train_rows"].max()), int(own["test_rows"].max())  # the same in every split
    found = {}
    for scaler in (RAW, SCALED):
        whole = intervals.resampled_mean(wide[scaler], *sizes)
        low, high = np.clip([whole.low, whole.high], 0, 1).tolist()
        found[scaler] = whole._replace(low=low, high=high)
    found[GAIN] = intervals.resampled_mean(wide[SCALED] - wide[RAW], *sizes)
    return found


def published_table(results: Results) -> pd.DataFrame:
    """Return every published figure with ours and the verdict.

    Parameters
    ----------
    results : Results
        With any of the comparisons of `PUBLISHED` and the blocks of `CENTRING_BLOCKS`.

    Returns
    -------
    DataFrame
        ``source, quantity, published, ours, interval, verdict`` as they are printed, and
        ``measured`` (`ON_ITS_SPLIT`, `OVER_SPLITS` or `TRAINING`), ``comparison``, ``altered``
        (not as the source had it), ``value, low, high, n`` as numbers; ``reached``, the share of
        splits on which the value is at least the published one, to the digits printed;
        ``beyond_budget``, how many runs of a ratio did not arrive and count as the budget.

    Raises
    ------
    StudyError
        If the study has none of them, or fewer seeds than an interval takes.
    """
    first, last = results.study.seeds
    if last - first < FEWEST:
        raise StudyError(
            f'{results.folder}: report = "published" needs at least {FEWEST} seeds, half of which'
            f" pick learning rates; these are {last - first}"
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


def _on_its_split(results: Results, entry: Published) -> Iterator[dict[str, object]]:
    """Yield whether the printed figures come out; nothing where their seed is not stored."""
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
    gain, own = entry.scaled - entry.raw, found[GAIN]
    # The difference of two printed figures carries the rounding of both.
    reached = float((wide[SCALED] - wide[RAW] >= gain - 2 * rounding).mean())
    yield _row(entry, GAIN, OVER_SPLITS, gain, own, judge_gain(gain, own), reached)


def judge_accuracy(printed: float, ours: Estimate) -> str:
    """Return whether a published figure lies in an interval, and that is narrow enough to tell."""
    if not ours.low <= printed <= ours.high:
        return DIFFERS
    narrow = max(ours.high - ours.value, ours.value - ours.low) <= WIDEST
    return HOLDS if narrow else INCONCLUSIVE


def judge_gain(printed: float, ours: Estimate) -> str:
    """Return what an interval says of a published gain.

    ``holds``: the interval holds it, and is all on its side of zero; ``direction only``: on its
    side, and without it; ``opposite``: on the other side; ``inconclusive``: it
    holds zero as well; ``differs``: it holds zero, and not the published gain. Where no gain was
    published, it is judged as an accuracy is.
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


# Times ----------------------------------------------------------------------------------------


def tuned_times(results: Results, block: str) -> tuple[Table, pd.DataFrame]:
    """Return updates to target at tuned rates: half of the seeds pick for the other half.

    Returns
    -------
    table : Table
        The runs of the other half, at the rates that were picked.
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
        own = Estimate(*np.exp(intervals.paired_difference(slow, fast)[:3]), n=len(wide))
        late = [int(np.isinf(wide[end]).sum()) for end in ends]
        yield {
            "source": BACKPROP,
            "quantity": f"{CENTRING_BLOCKS[block]}: updates to target, "
            f"{ratio.quantity.format(most)}",
            "published": ratio.claimed,
            **_printed(own, _form(own.value)),
            "verdict": judge_ratio(ratio.claimed, open_ended(own, *late)),
            "measured": TRAINING,
            "comparison": block,
            "altered": False,
            **own._asdict(),
            "beyond_budget": sum(late),
        }


def open_ended(ours: Estimate, slow_late: int, fast_late: int) -> Estimate:
    """Return an interval of a ratio without the ends that times beyond the budget leave unknown.

    What did not arrive counts as the budget, too short a time. Above the line it makes the ratio
    too small, so that it has no upper end; below the line too large, so that it has no lower one.

    Parameters
    ----------
    ours : Estimate
        Of the ratio slow over fast.
    slow_late, fast_late : int
        How many runs of each did not arrive.
    """
    low, high = 0.0 if fast_late else ours.low, np.inf if slow_late else ours.high
    return ours._replace(low=low, high=high)


def judge_ratio(claimed: str, ours: Estimate) -> str:
    """Return what an interval of a ratio of times says of ``"> 1"`` or of ``"= 1"``.

    Times count as the same within `ALIKE`: an interval wholly within it holds ``"= 1"``, one
    wholly beyond it differs, and one that is too wide to tell is inconclusive.
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
