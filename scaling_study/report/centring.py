"""What the report on published results says of centring: updates to target, theory beside."""

import numpy as np
import pandas as pd

from scaling_study.analysis import intervals, theory
from scaling_study.analysis.metrics import Table
from scaling_study.analysis.replication import (
    ALIKE,
    BACKPROP,
    CENTRING_BLOCKS,
    TRAINING,
    tuned_times,
)
from scaling_study.report import published_plates
from scaling_study.report.atlas import predicted_times
from scaling_study.report.labels import number
from scaling_study.report.sections import Plate, Section
from scaling_study.storage.results import Results


def sections_of_centring(results: Results, table: pd.DataFrame) -> list[Section]:
    """Return what is said of centring, and what theory says; nothing where it is not measured."""
    blocks = [block for block in CENTRING_BLOCKS if block in results.study.blocks]
    own = table[table["measured"] == TRAINING]
    if not len(own):
        return []
    times = pd.concat([_times(results, block) for block in blocks], ignore_index=True)
    parts = own["quantity"].str.partition(": updates to target, ")
    shown = pd.DataFrame(
        {
            "training": parts[0],
            "ratio of updates": parts[2],
            "verdict": own["verdict"],
            "published": own["published"],
            "ours": own["ours"],
            "95 % interval": own["interval"],
            "beyond budget": own["beyond_budget"].astype(int),
        }
    )
    words = (
        "“Convergence is usually faster if the average of each input variable over the training"
        " set is close to zero” (section 4.3). An offset m multiplies the condition number of the"
        " Hessian by about m to the fourth, since the largest eigenvalue grows with m squared while"
        " the least falls with it; and the updates of gradient descent grow with the condition"
        " number. Subtracting the mean alone, without dividing by anything, takes it back."
    )
    sections = [
        Section(
            f"{BACKPROP}: centring",
            (words,),
            shown,
            "Ratio of updates to the target (an excess share of a thousandth), within a"
            " seed: geometric mean and 95 % interval by Student's t. “> 1” holds where all of the"
            f" interval lies above 1, “= 1” where all of it lies within {100 * ALIKE:g} % of 1, and"
            " differs where none of it does. A run beyond the budget counts as the budget: the"
            " ratio is then a bound, and the verdict rests on no end that it leaves open.",
            (_centring(times),),
        )
    ]
    if "full-batch" in blocks:
        sections.append(_beside_theory(results, times))
    return sections


def _times(results: Results, block: str) -> pd.DataFrame:
    """Return the geometric mean of the updates for each scaler and offset, theory beside it."""
    runs, frame = tuned_times(results, block)
    budget = float(max(results.study.blocks[block]["updates"]))
    full = results.study.blocks[block]["sampling"] == ["full"]
    predicted = predicted_times(runs)["predicted"] if full else np.full(len(frame), np.nan)
    frame = frame.assign(
        value=np.log(frame["steps"].clip(upper=budget)),
        predicted=np.log(np.minimum(predicted, budget)),
        late=np.isinf(frame["steps"]),
    )
    axes = ["scaler", "offset"]
    found = intervals.mean_by(frame, axes)
    found[["value", "low", "high"]] = np.exp(found[["value", "low", "high"]])
    rest = frame.groupby(axes).agg(
        predicted=("predicted", "mean"), learning_rate=("learning_rate", "first"),
        beyond_budget=("late", "sum"),
    )  # fmt: skip
    rest["predicted"] = np.exp(rest["predicted"])
    panel = CENTRING_BLOCKS[block]
    return found.merge(rest.reset_index(), on=axes).assign(panel=panel, block=block)


def _centring(times: pd.DataFrame) -> Plate:
    late = int(times["beyond_budget"].sum())
    beyond = f" {late:,} runs ended before the target and count as the budget." if late else ""
    return Plate(
        "centring",
        "An offset slows, centring cures",
        "Updates to the target at the learning rate that half of the seeds pick for the other half,"
        f" over the offset of one of two features: geometric mean of {int(times['n'].max())} seeds,"
        " 95 % interval. Dotted: what the eigenvalues of each seed's Hessian predict at the same"
        f" rate, for the full batch.{beyond} Min-max scaling takes the offset away too, and leaves"
        " all inputs on one side of zero.",
        published_plates.centring(times),
        times,
    )


def _beside_theory(results: Results, times: pd.DataFrame) -> Section:
    full = times[times["block"] == "full-batch"]
    known = _spectra(Table(results, ["full-batch"]))
    rows = full.merge(known, on=["scaler", "offset"]).sort_values(["offset", "scaler"])
    own = rows[rows["scaler"].eq("none") | rows["offset"].eq(rows["offset"].max())]
    shown = pd.DataFrame(
        {
            "scaler": own["scaler"].map(lambda name: published_plates.LOOKS[str(name)][0]),
            "offset": own["offset"].map("{:g}".format),
            "κ": own["kappa"].map(number),
            "best rate": own["best_rate"].map(number),
            "rate picked": own["learning_rate"].map("{:g}".format),
            "at best": own["best_steps"].map(number),
            "at picked": own["predicted"].map(number),
            "measured": own["value"].map(number),
        }
    )
    off = (full["value"] / full["predicted"] - 1).abs().max()
    note = (
        "κ is the Hessian's condition number; best rate, and updates at the best and at the picked"
        " rate, are what theory says. Geometric means over seeds. The best rate 2/(λmax + λmin)"
        " shrinks the slowest direction fastest, which is not always first at a target of a"
        " thousandth, and differs between seeds; the grid has one rate for all of them."
        f" {_deviation(float(off))}"
    )
    return Section("Centring beside theory", table=shown, note=note)


def _deviation(off: float) -> str:
    """Return in words by what share the mean furthest from theory is off."""
    if off < 1e-9:  # means of the same whole numbers, up to rounding
        return "At the rate picked, every mean is the one that theory says."
    return f"Largest deviation of a mean from theory at the rate picked: {number(100 * off, 2)} %."


def _spectra(table: Table) -> pd.DataFrame:
    """Return condition number, best rate and its updates for each scaler and offset."""
    rows = []
    start = np.stack([table["weight_init_first"], table["weight_init_last"], table["bias_init"]], 1)
    once: set[tuple[str, float]] = set()
    for name, places in table.runs.groupby("condition", observed=True).indices.items():
        condition = table.conditions[str(name)]
        key = condition.scaler.name, condition.offset
        if key in once:  # learning rates share their data
            continue
        once.add(key)
        own = theory.quadratic(condition, table.seeds[places].tolist())
        steps = theory.steps_to_target(
            own.eigenvalues,
            own.components(start[places]),
            own.best_learning_rate,
            condition.tolerance * own.loss_explained,
        )
        means = [own.condition_number, own.best_learning_rate, steps]
        rows.append((*key, *(float(np.exp(np.log(values).mean())) for values in means)))
    return pd.DataFrame(rows, columns=["scaler", "offset", "kappa", "best_rate", "best_steps"])
