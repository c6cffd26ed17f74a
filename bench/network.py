"""Networks of several shapes, beside ``jax.vmap`` over whole trainings as a user would write it.

    python network.py FEATURES HIDDEN RUNS UPDATES
    python network.py FOLDER

The first measures one shape, such as ``30 64,64 64 80``, and the second each of a grid, in a page,
a table and a figure. Both train an MLP on 512 rows in batches of 32 by Adam, and keep each
batch's loss (ours also gradient norms). They are timed in turn, compiled and warm; the ratios are
theirs over ours, of medians. That of CPU time also holds on a machine with other work.
"""

import itertools
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from conftest import Trainer
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

ROWS, BATCH, REPEATS = 512, 32, 5
SLOW, FEWER_REPEATS = 8.0, 3  # seconds of a first training, after which fewer are timed
FEWEST_EPOCHS, MOST_EPOCHS = 4, 100
FEATURES, HIDDEN, RUNS = (2, 10, 30, 85, 784), ((16,), (64, 64), (256, 256)), (1, 16, 64, 1024)
MOST_WORK = 1e10  # multiply-adds of a training, forward
MOST_NUMBERS = 1e8  # weights of all runs; with more, `jax.vmap` may need too much memory
Row = dict[str, Any]


def plain(features: int, hidden: tuple[int, ...], runs: int, epochs: int) -> Callable[[], None]:
    """Return a function that trains the runs by ``jax.vmap``."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):  # type: ignore[no-untyped-def]
            for width in hidden:
                x = nn.relu(nn.Dense(width)(x))
            return nn.Dense(1)(x)[..., 0]

    network = Network()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(ROWS, features)), jnp.float32)
    y = x[:, 0] - x[:, 1]

    def train(key, learning_rate):  # type: ignore[no-untyped-def]
        parameters, optimizer = network.init(key, x[:1]), optax.adam(learning_rate)

        def loss(parameters, rows):  # type: ignore[no-untyped-def]
            return jnp.mean((network.apply(parameters, x[rows]) - y[rows]) ** 2)

        def step(carry, rows):  # type: ignore[no-untyped-def]
            parameters, state = carry
            value, gradient = jax.value_and_grad(loss)(parameters, rows)
            updates, state = optimizer.update(gradient, state, parameters)
            return (optax.apply_updates(parameters, updates), state), value

        def epoch(carry, key):  # type: ignore[no-untyped-def]
            order = jax.random.permutation(key, ROWS).reshape(-1, BATCH)
            return jax.lax.scan(step, carry, order)

        keys = jax.random.split(key, epochs)
        return jax.lax.scan(epoch, (parameters, optimizer.init(parameters)), keys)[1]

    program = jax.jit(jax.vmap(train))
    keys, rates = jax.random.split(jax.random.key(0), runs), jnp.geomspace(1e-4, 1e-2, runs)

    def run() -> None:
        jax.block_until_ready(program(keys, rates))

    return run


def ours(features: int, hidden: tuple[int, ...], runs: int, epochs: int) -> Trainer:
    """Return a function that trains the runs, at most 64 seeds with several learning rates."""
    seeds = min(runs, 64)
    rates = np.geomspace(1e-4, 1e-2, runs // seeds).tolist()
    settings = [
        f"problem={{name='gaussian', samples={ROWS}, features={features}}}",
        f"model={{name='mlp', hidden=[{list(hidden)}]}}",
        f"seeds='0:{seeds}'",
        f"learning_rate={rates}",
        "data_seed=0",  # one data set, as theirs
        *("scale_factor=1.0", f"epochs={epochs}", "record='curves'"),
    ]
    return Trainer("throughput-network", settings)


def seconds_of(function: Callable[[], None]) -> tuple[float, float]:
    """Return the time that passes, and that of all processors."""
    begin, busy = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - begin, time.process_time() - busy


def fit(features: int, hidden: tuple[int, ...], epochs: int) -> Callable[[], None]:
    """Return a function that trains one run by scikit-learn."""
    x = np.random.default_rng(0).normal(size=(ROWS, features)).astype(np.float32)
    how: Row = {"batch_size": BATCH, "max_iter": epochs, "n_iter_no_change": epochs + 1, "tol": 0}
    model = MLPRegressor(hidden_layer_sizes=hidden, **how)

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, x[:, 0] - x[:, 1])

    return run


def measure(features: int, hidden: tuple[int, ...], runs: int, epochs: int) -> Row:
    """Return a row of the table."""
    shape = features, hidden, runs, epochs
    begin = time.perf_counter()
    train = ours(*shape)
    middle = time.perf_counter()
    other = plain(*shape)
    other()
    first = middle - begin, time.perf_counter() - middle
    repeats = REPEATS if middle - begin < SLOW else FEWER_REPEATS
    pairs = [(seconds_of(train), seconds_of(other)) for _ in range(repeats)]
    (mine, busy), (theirs, others_busy) = (
        (statistics.median(times) for times in zip(*measured, strict=True))
        for measured in zip(*pairs, strict=True)
    )
    of_one = fit(features, hidden, epochs)
    scikit_learn = statistics.median(seconds_of(of_one)[0] for _ in range(3))
    return {
        "features": features,
        "hidden": "-".join(map(str, hidden)),
        "runs": runs,
        "updates": epochs * ROWS // BATCH,
        "seconds": mine,
        "vmap_seconds": theirs,
        "vmap_over_ours": theirs / mine,
        "vmap_over_ours_of_cpu_time": others_busy / busy,
        "compile_seconds": max(0.0, first[0] - mine),
        "vmap_compile_seconds": max(0.0, first[1] - theirs),
        "scikit_learn_seconds_of_one_run": scikit_learn,
        "scikit_learn_over_ours": scikit_learn * runs / mine,
    }


def epochs_of(features: int, hidden: tuple[int, ...], runs: int) -> int:
    """Return a budget that takes some tenths of a second, or a few epochs."""
    work = ROWS * runs * _products(features, hidden)
    return int(min(MOST_EPOCHS, max(FEWEST_EPOCHS, MOST_WORK // work)))


def _products(features: int, hidden: tuple[int, ...]) -> int:
    return sum(a * b for a, b in itertools.pairwise((features, *hidden, 1)))


def draw(rows: list[Row], path: Path) -> None:
    """Draw the ratios of a grid as heat maps, a panel for each kind of hidden layers."""
    import matplotlib.pyplot as plt
    import pandas as pd
    import seaborn as sns
    from matplotlib.colors import LogNorm

    frame = pd.DataFrame(rows)
    sns.set_theme(style="white", context="notebook")
    kinds = list(dict.fromkeys(frame["hidden"]))
    fig, axes = plt.subplots(1, len(kinds), figsize=(12, 3.6), sharey=True, layout="constrained")
    for ax, kind in zip(axes, kinds, strict=True):
        own = frame[frame["hidden"] == kind].pivot(
            index="features", columns="runs", values="vmap_over_ours"
        )
        how: Row = {"annot": True, "fmt": ".2f", "cbar": False, "linewidths": 1}
        sns.heatmap(own, ax=ax, norm=LogNorm(1 / 8, 8), cmap="vlag_r", **how)
        ax.set(title=f"hidden {kind}", xlabel="runs", ylabel="features")
    for ax in axes[1:]:
        ax.set_ylabel("")
    fig.savefig(path)
    plt.close(fig)


def line(row: Row) -> str:
    """Return a row of the page's table."""
    layers = f"{row['features']}-{row['hidden']}-1"
    return (
        f"| {layers} | {row['runs']:,} | {row['updates']} | {row['seconds']:.3f} |"
        f" {row['vmap_seconds']:.3f} | {row['vmap_over_ours']:.2f} |"
        f" {row['vmap_over_ours_of_cpu_time']:.2f} | {row['scikit_learn_over_ours']:,.1f} |"
        f" {row['compile_seconds']:.1f} | {row['vmap_compile_seconds']:.1f} |"
    )


HEAD = (
    "| network | runs | updates | ours, s | vmap, s | vmap over ours | of CPU time |"
    " scikit-learn over ours | ours compiles, s | vmap compiles, s |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def page(rows: list[Row]) -> str:
    """Return the page of a grid."""
    from report import processor

    known = np.array([row["vmap_over_ours"] for row in rows])
    repeats = f"{FEWER_REPEATS} or {REPEATS}"
    many = np.array([row["runs"] > 1 for row in rows])
    return (
        "# Networks beside plain `jax.vmap(train)`\n\n"
        f"MLPs on {ROWS} rows in batches of {BATCH}, Adam, whole trainings with their work on the"
        f" host, medians of {repeats} in turn, on {os.cpu_count()} cores of {processor()}, JAX"
        f" {jax.__version__}. Of {len(rows)} shapes, {np.sum(known >= 1)} are at least as fast as"
        f" `jax.vmap`; of the {many.sum()} with 16 runs or more, {np.sum(known[many] >= 1)}. One"
        " run is slow because a chunk trains all of its seeds, up to 32, so that the numbers of a"
        " run do not depend on how many seeds a study asks for. scikit-learn: the time of one fit,"
        " times the number of runs. Shapes whose weights are more than"
        f" {MOST_NUMBERS:.0e} numbers together are left out.\n\n"
        "![Ratios](figures/networks.svg)\n\n" + "\n".join([HEAD, *map(line, rows)]) + "\n"
    )


def main(arguments: list[str]) -> None:
    if len(arguments) not in (1, 4):
        sys.exit(__doc__)
    print(HEAD, flush=True)
    if len(arguments) == 4:
        features, hidden, runs, updates = arguments
        widths = tuple(map(int, hidden.split(",")))
        epochs = max(1, int(updates) * BATCH // ROWS)
        print(line(measure(int(features), widths, int(runs), epochs)))
        return
    rows, folder = [], Path(arguments[0])
    for features, widths, runs in itertools.product(FEATURES, HIDDEN, RUNS):
        if runs * _products(features, widths) > MOST_NUMBERS:
            continue
        rows.append(measure(features, widths, runs, epochs_of(features, widths, runs)))
        print(line(rows[-1]), flush=True)
    import pandas as pd

    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    table = folder / "tables" / "networks.csv"
    pd.DataFrame(rows).to_csv(table, index=False, float_format="%.6g")
    draw(rows, folder / "figures" / "networks.svg")
    (folder / "networks.md").write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
