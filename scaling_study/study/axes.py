"""The axes of a study's grid, and how a block's values are read.

The default of every axis is in `AXES`, and nowhere else.
"""

from collections import Counter
from collections.abc import Container, Mapping
from functools import partial
from typing import Any, NamedTuple

from scaling_study.errors import StudyError
from scaling_study.study import tables
from scaling_study.study.component import FEWER_CONDITIONS, MOST_CONDITIONS, Component
from scaling_study.study.values import (
    Reader,
    check_keys,
    error_context,
    listed,
    not_negative,
    number,
    one_of,
    positive,
    whole,
)

BUDGETS = ("epochs", "updates")
DESIGNS = ("F", "U")
FRAMEWORKS = ("keras", "torch", "optax")
SAMPLINGS = ("reshuffled", "replacement", "full")
OBJECTIVES = ("auto", "moments", "samples")
STARTS = ("parameters", "function")


class Axis(NamedTuple):
    """A key of a block: its default, the reader of one value, and its description."""

    default: Any
    read: Reader
    meaning: str


def _or(word: str, read: Reader) -> Reader:
    def either(value: Any) -> Any:
        try:
            return word if value == word else read(value)
        except StudyError as error:
            raise StudyError(f'{error}; or write "{word}"') from None

    return either


_seed = _or("vary", partial(whole, least=0))

AXES: dict[str, Axis] = {
    "problem": Axis("article", tables.expand, "source of the data"),
    "design": Axis("F", one_of(DESIGNS), "F: fixed coefficient; U: only the unit changes"),
    "scale_factor": Axis(1.0, positive, "factor that multiplies the scaled feature"),
    "offset": Axis(0.0, number, "constant that is then added to it"),
    "scaler": Axis("none", Component.expand, "feature scaler"),
    "target_scaler": Axis("none", Component.expand, "target scaler, an affine one"),
    "model": Axis("linear", Component.expand, "network"),
    "framework": Axis("keras", one_of(FRAMEWORKS), "framework whose optimizer defaults are used"),
    "optimizer": Axis("adam", Component.expand, "Optax optimizer and its hyperparameters"),
    "learning_rate": Axis(1e-3, positive, "learning rate"),
    "l1_penalty": Axis(0.0, not_negative, "strength of the L1 penalty in the training loss"),
    "l2_penalty": Axis(0.0, not_negative, "strength of the L2 penalty in the training loss"),
    "batch_size": Axis(32, whole, "rows per batch; the last of an epoch may be smaller"),
    "sampling": Axis("reshuffled", one_of(SAMPLINGS), "how batches are drawn"),
    "epochs": Axis(200, whole, "passes over the data (one update each if sampling is full)"),
    "updates": Axis("none", _or("none", whole), "budget in updates, instead of epochs"),
    "dtype": Axis("float32", one_of(("float32", "float64")), "number type of the training"),
    "objective": Axis("auto", one_of(OBJECTIVES), "form of the loss: second moments or samples"),
    "data_seed": Axis("vary", _seed, "seed of the data, or vary with the run's seed"),
    "init_seed": Axis("vary", _seed, "seed of the initialisation, or vary"),
    "order_seed": Axis("vary", _seed, "seed of the batch order, or vary"),
    "tolerance": Axis(1e-3, positive, "converged at this share of the excess loss of the mean"),
    "target_loss": Axis("none", _or("none", positive), "converged at this loss, instead"),
    "start": Axis(
        "parameters",
        one_of(STARTS),
        "what is the same in every unit at the start: parameters or function",
    ),
}
# Axes added after 0.2.0, with the value that older studies imply. At that value they are neither
# written nor part of a condition's identity, so that stored results stay what they are.
LATER_AXES = {"start": "parameters"}


def read_grid(
    block: dict[str, Any], above: Mapping[str, Any], allowed: Container[str]
) -> dict[str, list[Any]]:
    """Return every axis of a block, from its own keys, those above the blocks, and defaults."""
    check_keys(block, AXES)
    # A block that names one of the two budgets does not inherit the other.
    dropped = BUDGETS if any(key in block for key in BUDGETS) else ()
    given = {key: axis.default for key, axis in AXES.items()}
    stated = {key: value for key, value in above.items() if key not in dropped} | block
    if "design" not in stated and tables.are_tables(stated.get("problem")):
        given["design"] = "U"  # no law is known, so that only units can change
    given |= stated
    return {key: _values(key, value, allowed) for key, value in given.items()}


def _values(key: str, raw: Any, allowed: Container[str]) -> list[Any]:
    """Return the distinct values of an axis; a component is one value for each grid cell."""
    with error_context(key):
        values = []
        for item in listed(raw):
            found = AXES[key].read(item)
            components = isinstance(found, list)
            values += [part.within(allowed) for part in found] if components else [found]
            if len(values) > MOST_CONDITIONS:
                raise StudyError(f"more than {MOST_CONDITIONS:,} values; {FEWER_CONDITIONS}")
        ((value, count),) = Counter(values).most_common(1)
        if count > 1:
            nested = isinstance(value, Component) and value.parameters
            hint = "; write a list that is one value inside a list, [[16, 16]]" if nested else ""
            raise StudyError(f"lists {value!s} more than once{hint}")
        return values
