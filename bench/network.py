"""Networks of several shapes, beside ``jax.vmap`` over whole trainings as a user would write it.

    python network.py [FEATURES HIDDEN RUNS UPDATES]

measures one shape, such as ``30 64,64 64 80``, or each of a grid. Both train an MLP on 512 rows
in batches of 32 by Adam, and keep each batch's loss (ours also gradient norms). They are timed
in turn, compiled and warm; the ratios are theirs over ours, of medians. That of CPU time also
holds on a machine with other work.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from conftest import Trainer

ROWS, BATCH, REPEATS = 512, 32, 5
FEATURES, HIDDEN, RUNS = (2, 10, 30, 85), ((16,), (64, 64), (256, 256)), (1, 16, 64, 1024)
MOST_WORK = 2e10  # multiply-adds of a measurement, forward


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


def measure(features: int, hidden: tuple[int, ...], runs: int, epochs: int) -> str:
    """Return a row of the table."""
    shape = features, hidden, runs, epochs
    begin = time.perf_counter()
    train = ours(*shape)
    middle = time.perf_counter()
    other = plain(*shape)
    other()
    first = middle - begin, time.perf_counter() - middle
    pairs = [(seconds_of(train), seconds_of(other)) for _ in range(REPEATS)]
    (mine, busy), (theirs, others_busy) = (
        (statistics.median(times) for times in zip(*measured, strict=True))
        for measured in zip(*pairs, strict=True)
    )
    compiling = first[0] - mine, first[1] - theirs
    layers = "-".join(map(str, (features, *hidden, 1)))
    return (
        f"| {layers} | {runs:,} | {epochs * ROWS // BATCH} | {mine:.3f} | {theirs:.3f} |"
        f" {theirs / mine:.2f} | {others_busy / busy:.2f} | {compiling[0]:.1f} |"
        f" {compiling[1]:.1f} |"
    )


def epochs_of(features: int, hidden: tuple[int, ...], runs: int) -> int:
    """Return a budget that takes some tenths of a second."""
    widths = (features, *hidden, 1)
    work = ROWS * runs * sum(a * b for a, b in itertools.pairwise(widths))
    return int(min(20, max(1, MOST_WORK // (10 * work))))


def main(arguments: list[str]) -> None:
    print(
        "| network | runs | updates | ours, s | vmap, s | ratio | of CPU time | compile | vmap's |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    if arguments:
        features, hidden, runs, updates = arguments
        widths = tuple(map(int, hidden.split(",")))
        epochs = max(1, int(updates) * BATCH // ROWS)
        print(measure(int(features), widths, int(runs), epochs))
        return
    for features, widths, runs in itertools.product(FEATURES, HIDDEN, RUNS):
        epochs = epochs_of(features, widths, runs)
        print(measure(features, widths, runs, epochs), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
