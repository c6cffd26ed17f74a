"""The diagnosis of a table: a study that tunes learning rates, and one that measures at them."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.analysis.column_table import conditioning
from scaling_study.analysis.diagnosis import RAW, best_rates
from scaling_study.analysis.tuning import DEFAULT_RATES
from scaling_study.errors import StudyError
from scaling_study.execution import preflight
from scaling_study.execution.runner import Progress, run
from scaling_study.report.diagnosis.data import TUNING, Diagnosis, file_name
from scaling_study.storage.results import Results
from scaling_study.study import tables
from scaling_study.study.component import Component
from scaling_study.study.conditions import problem_of
from scaling_study.study.problems import Problem
from scaling_study.study.scalers import is_affine

SPLITS = 8  # that tune, and as many that measure
UPDATES, BATCH = 1200, 32
MOST_ROWS = 2_000  # that are trained on
SCALERS = ("none", "standard", "minmax", "robust", "maxabs")
OPTIMIZERS = ("adam", "sgd")
USUAL_RATE = 1e-3  # default learning rate of a user's own optimizer
MOST_RATES = 7
MOST_MOMENTS = 64  # features up to which a linear model needs only the moments of its batches


def diagnose(
    x: Any,
    y: Any = None,
    *,
    target: str | None = None,
    optimizers: Sequence[Any] = OPTIMIZERS,
    scalers: Sequence[Any] = SCALERS,
    hidden: int | Sequence[int] = 16,
    model: Any = None,
    splits: int = SPLITS,
    updates: int = UPDATES,
    output_dir: str | Path | None = None,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    **options: Any,
) -> Diagnosis:
    """Return whether, and how, the columns of a table should be scaled.

    A linear model and a network are trained on raw and on scaled columns, at each optimizer's
    default learning rate and at a tuned one, on several splits.

    Parameters
    ----------
    x : str, Path, DataFrame or array of shape (n_samples, n_features)
        A CSV or Parquet file, or data.
    y : array-like of shape (n_samples,), optional
        The target; or give ``target``.
    target : str, optional
        The column of x to predict.
    optimizers, scalers : sequence of str, function or transformer
        Names, or your own as ``module:name``, as functions that make Optax transformations, and
        as transformers of scikit-learn. Raw columns, ``none``, are always among them.
    hidden : int or sequence of int
        Widths of the hidden layers of the network, whose activation is tanh.
    model : str, flax.linen.Module or class of flax.nnx.Module, optional
        A network to train in its place.
    splits : int
        Number of splits that are measured; as many others tune learning rates.
    updates : int
        Of each training, rounded down to whole epochs.
    output_dir : str or Path, optional
        Folder of the results, beside which the tuning runs get one; temporary by default.
    overwrite : bool
        Whether to delete other results there.
    **options
        How the table is read: ``task, scale, drop, groups, time, test_share, rows``, as of
        `Problem.from_frame`.

    Raises
    ------
    StudyError
        If the table cannot be trained on as it is.
    """
    table = _table(x, y, target, options)
    shared = _shared(table, updates)
    trained = _trained(_mlp(hidden) if model is None else model, optimizers, scalers)
    folder = Path(output_dir or Path(mkdtemp(prefix="scaling-study-")) / shared["name"])
    how = {"overwrite": overwrite, "on_progress": on_progress}
    return _tune_and_measure(table, shared, trained, splits, folder, how)


def _tune_and_measure(
    table: Mapping[str, Any],
    shared: Mapping[str, Any],
    trained: Mapping[str, Sequence[Component]],
    splits: int,
    folder: Path,
    how: Mapping[str, Any],
) -> Diagnosis:
    """Run the study that tunes learning rates and, on other splits, the one that uses them."""
    grids = _grids(table["problem"], trained["optimizer"], trained["scaler"])
    tuning = {
        **shared,
        "name": folder.name + TUNING,
        "seeds": (0, splits),
        "blocks": _blocks(table["problem"], trained, lambda model, *key: grids[key]),
    }
    preflight.check_address_space()
    tuned = run(tuning, output_dir=folder.with_name(tuning["name"]), **how)
    measured = {
        **shared,
        "name": folder.name,
        "title": f"Should the columns of {table['file']} be scaled?",
        "report": "diagnosis",
        "record": "importances",
        "seeds": (splits, 2 * splits),
        "blocks": _blocks(table["problem"], trained, _chosen(tuned)),
    }
    return Diagnosis(run(measured, output_dir=folder, **how))


# The studies ----------------------------------------------------------------------------------


def _table(x: Any, y: Any, target: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the problem of a study, with a control, and what its file is called."""
    keys = {key: value for key, value in options.items() if value not in (None, (), [])}
    keys.setdefault("rows", MOST_ROWS)
    if isinstance(x, str | Path):
        if target is None:
            raise StudyError(f"{x}: name the column to predict, --target (target=...)")
        table, file = {"table": str(Path(x).absolute())}, Path(x).name
    else:
        if (y is None) == (target is None):
            raise StudyError("give the target either as y or as the name of a column, target=...")
        frame = x
        if y is not None:
            frame, target = tables.frame_of(x, y)
        elif not isinstance(x, pd.DataFrame):
            raise StudyError("target=... is a column of a data frame; give an array's target as y")
        table, file = tables.register(frame), "the table"
    spec = {**table, "target": target, **keys}
    spec = {k: list(v) if isinstance(v, tuple) else v for k, v in spec.items()}
    problem = problem_of(tables.expand(spec)[0])
    control = _control(problem)
    return {"problem": {**spec, **({"control": control} if control else {})}, "file": file}


def _control(problem: Problem) -> str:
    """Return the column of numbers with the smallest deviation, which is shuffled.

    Converged weights on raw columns are largest where numbers are small, so that a control of
    such a unit shows most.
    """
    (u, _), kept = problem.draw(0), np.flatnonzero(problem.scaled)
    if not len(kept):
        return ""
    binary = ((u == 0) | (u == 1)).all(axis=0)
    kept = kept[~binary[kept]] if (~binary[kept]).any() else kept
    return str(problem.columns[kept[u[:, kept].std(axis=0).argmin()]])


def _shared(table: Mapping[str, Any], updates: int) -> dict[str, Any]:
    """Return the keys of both studies."""
    problem = problem_of(tables.expand(table["problem"])[0])
    rows = len(problem.draw(0)[0])
    per_epoch = -(-rows // BATCH)
    return {
        "name": file_name(table["file"].replace(" ", "-")),
        "problem": table["problem"],
        "design": "U",
        "target_scaler": "none" if problem.classes else "standard",
        "batch_size": BATCH,
        "updates": max(1, updates // per_epoch) * per_epoch,
    }


def _mlp(hidden: int | Sequence[int]) -> dict[str, Any]:
    widths = [hidden] if isinstance(hidden, int) else list(hidden)
    return {"name": "mlp", "hidden": [widths], "activation": "tanh"}


def _trained(
    network: Any, optimizers: Sequence[Any], scalers: Sequence[Any]
) -> dict[str, list[Component]]:
    """Return the models, optimizers and scalers of both studies, each once."""
    axes = {"model": ["linear", network], "optimizer": optimizers, "scaler": [RAW, *scalers]}
    return {axis: list(dict.fromkeys(map(_component, values))) for axis, values in axes.items()}


def _component(value: Any) -> Component:
    found = Component.expand(value)
    if len(found) > 1:
        raise StudyError(f"{found[0].name}: give one value of each parameter, not several")
    return found[0]


def _blocks(
    table: Mapping[str, Any],
    trained: Mapping[str, Sequence[Component]],
    rates: Callable[..., list[float]],
) -> dict[str, Any]:
    """Return a block for each model, optimizer and scaler, with its learning rates."""
    problem = problem_of(tables.expand(table)[0])
    few = not problem.classes and len(problem.columns) <= MOST_MOMENTS
    found = {}
    for parts in itertools.product(*trained.values()):
        model, optimizer, scaler = parts
        key = "-".join(_word(str(part).partition("(hidden")[0]) for part in parts)
        moments = few and model.name == "linear" and is_affine(scaler)
        found[key] = {
            **{axis: part.plain() for axis, part in zip(trained, parts, strict=True)},
            "objective": "moments" if moments else "samples",
            "learning_rate": rates(str(model).partition("(")[0], str(optimizer), str(scaler)),
        }
    return found


def _word(name: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "-" for c in name)


def _default_rate(optimizer: Component) -> float:
    return DEFAULT_RATES.get(_rule(optimizer), USUAL_RATE)


def _rule(optimizer: Component) -> str:
    return optimizer.name.rpartition(":")[2]  # Optax's own are named like those of the registry


def _chosen(tuning: Results) -> Callable[..., list[float]]:
    """Return a function of a cell to its default and its tuned learning rate."""
    picked = best_rates(tuning.runs.assign(model=tuning.runs["model"].astype(str)))
    keys = zip(
        picked["model"].str.partition("(")[0], picked["optimizer"], picked["scaler"], strict=True
    )
    rates = dict(zip(keys, picked["learning_rate"], strict=True))
    components = {part for grid in tuning.study.blocks.values() for part in grid["optimizer"]}
    defaults = {str(component): _default_rate(component) for component in components}

    def of_cell(model: str, optimizer: str, scaler: str) -> list[float]:
        found = [defaults[optimizer], float(rates[model, optimizer, scaler])]
        return list(dict.fromkeys(found))

    return of_cell


def _grids(
    table: Mapping[str, Any], optimizers: Sequence[Component], named: Sequence[Component]
) -> dict[tuple[str, str], list[float]]:
    """Return the learning rates to try by optimizer and scaler.

    The scale of the inputs sets the smallest: for gradient descent a tenth of what the largest
    eigenvalue of a linear model's Hessian allows, for other optimizers, which move a weight by
    about the learning rate, a hundredth over the largest deviation of a column. Each grid goes
    from there to 1 (0.1), in decades, or every second, third... where these are more than
    `MOST_RATES`, with the smallest and the default. So raw columns may have a coarser grid than
    scaled ones, for about the same time.
    """
    problem = problem_of(tables.expand(table)[0])
    known = [scaler.name for scaler in named if is_affine(scaler)]
    found = conditioning(problem.draw(0)[0], known, problem.scaled)
    sizes = dict(zip(found["scaler"], found[["largest", "spread"]].to_numpy(), strict=True))
    grids = {}
    for optimizer in optimizers:
        for scaler in named:
            largest, spread = map(float, sizes.get(scaler.name, sizes[RAW]))
            if _rule(optimizer).startswith("sgd"):
                first = math.floor(math.log10(1 / largest)) - 1
                exponents = range(min(first, -3), 1)
            else:
                exponents = range(min(-4, math.floor(math.log10(1e-2 / spread))), 0)
            grids[str(optimizer), str(scaler)] = _rates(exponents, _default_rate(optimizer))
    return grids


def _rates(exponents: range, default: float) -> list[float]:
    step = -(-len(exponents) // MOST_RATES)
    kept = {*exponents[::-1][::step], exponents[0]}
    return sorted({default, *(float(f"1e{exponent}") for exponent in kept)})
