"""The same workload by other means: the article's data, 200 epochs of 32 rows.

    python peers.py NAME RUNS

gets a peer ready, says so, and trains once for each line that it reads. Each peer has a process
of its own, because frameworks do not bear each other in one. Each does what its own users
would write, and keeps no more than final weights.
"""

import os
import sys
from collections.abc import Callable
from functools import partial

import numpy as np

ROWS, EPOCHS, BATCH, RATE = 100, 200, 32, 1e-3
PROCESSES = 2

Train = Callable[[], object]


def data(seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    x = random.rand(ROWS, 2)
    x[:, 1] *= 1000
    return x, 2 * x[:, 0] + 0.5 * x[:, 1] + 10 * random.randn(ROWS)


def keras_fit(runs: int) -> Train:
    """The article's script."""
    import keras

    x, y = data()

    def train() -> None:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(optimizer="adam", loss="mse")
        model.fit(x, y, epochs=EPOCHS, verbose=0)

    return train


def torch_loop(runs: int) -> Train:
    """The loop that every PyTorch tutorial writes."""
    import torch

    x, y = (torch.tensor(part, dtype=torch.float32) for part in data())

    def train() -> None:
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.Adam(model.parameters(), RATE)
        for _ in range(EPOCHS):
            order = torch.randperm(ROWS)
            for rows in order.split(BATCH):
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(model(x[rows])[:, 0], y[rows]).backward()
                optimizer.step()

    return train


def torch_vmap(runs: int) -> Train:
    """`torch.func.vmap` of a loss' gradient over runs that each have their own order."""
    import torch

    torch.set_num_threads(PROCESSES)
    x, y = (torch.tensor(part, dtype=torch.float32) for part in data())

    def loss(weights, x, y):  # type: ignore[no-untyped-def]
        return ((x @ weights[:2] + weights[2] - y) ** 2).mean()

    gradient = torch.func.vmap(torch.func.grad(loss))

    def train() -> None:
        weights = torch.randn(runs, 3)
        first, second = torch.zeros_like(weights), torch.zeros_like(weights)
        step = 0
        for _ in range(EPOCHS):
            order = torch.rand(runs, ROWS).argsort(dim=1)
            for rows in order.split(BATCH, dim=1):
                step += 1
                g = gradient(weights, x[rows], y[rows])
                first = 0.9 * first + 0.1 * g
                second = 0.999 * second + 0.001 * g * g
                away = second.div(1 - 0.999**step).sqrt() + 1e-7
                weights = weights - RATE * first / (1 - 0.9**step) / away

    return train


def plain_vmap(runs: int) -> Train:
    """``jax.vmap(train)`` with Flax and Optax, every run with its own shuffles."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    x, y = (jnp.asarray(part, jnp.float32) for part in data())
    model, optimizer = nn.Dense(1), optax.adam(RATE)

    def loss(parameters, rows, weight):  # type: ignore[no-untyped-def]
        return jnp.sum(weight * (model.apply(parameters, x[rows])[:, 0] - y[rows]) ** 2)

    weights = jnp.asarray(np.arange(BATCH) < np.array([32, 32, 32, 4])[:, None], jnp.float32)
    weights = weights / weights.sum(axis=1, keepdims=True)

    def train(key):  # type: ignore[no-untyped-def]
        start, orders = jax.random.split(key)
        parameters = model.init(start, x[:1])

        def epoch(carry, key):  # type: ignore[no-untyped-def]
            order = jnp.pad(jax.random.permutation(key, ROWS), (0, 4 * BATCH - ROWS))

            def update(carry, batch):  # type: ignore[no-untyped-def]
                parameters, state = carry
                value, gradient = jax.value_and_grad(loss)(parameters, *batch)
                updates, state = optimizer.update(gradient, state)
                return (optax.apply_updates(parameters, updates), state), value

            return jax.lax.scan(update, carry, (order.reshape(4, BATCH), weights))

        carry = parameters, optimizer.init(parameters)
        (parameters, _), losses = jax.lax.scan(epoch, carry, jax.random.split(orders, EPOCHS))
        return parameters, losses[-1]

    keys = jax.random.split(jax.random.key(0), runs)
    compiled = jax.jit(jax.vmap(train)).lower(keys).compile()
    return lambda: jax.block_until_ready(compiled(keys))


def _sgd_regressor(seed: int) -> None:
    from sklearn.linear_model import SGDRegressor

    x, y = data()
    SGDRegressor(max_iter=EPOCHS, tol=None, random_state=seed).fit(x / x.max(axis=0), y)


def _mlp_regressor(seed: int) -> None:
    from sklearn.neural_network import MLPRegressor

    x, y = data()
    MLPRegressor(
        hidden_layer_sizes=(16,),
        batch_size=BATCH,
        max_iter=EPOCHS,
        tol=0,
        n_iter_no_change=EPOCHS,
        random_state=seed,
    ).fit((x - x.mean(axis=0)) / x.std(axis=0), y)


def under_joblib(function: Callable[[int], None], runs: int) -> Train:
    """scikit-learn, one run a task, on two processes."""
    from joblib import Parallel, delayed

    os.environ["PYTHONWARNINGS"] = "ignore"  # that the budget ended is what was asked for
    pool = Parallel(n_jobs=PROCESSES)
    return lambda: pool(delayed(function)(seed) for seed in range(runs))


PEERS: dict[str, Callable[[int], Train]] = {
    "keras_fit": keras_fit,
    "torch_loop": torch_loop,
    "torch_vmap": torch_vmap,
    "plain_vmap": plain_vmap,
    "sgd_regressor": partial(under_joblib, _sgd_regressor),
    "mlp_regressor": partial(under_joblib, _mlp_regressor),
}

if __name__ == "__main__":
    try:
        train = PEERS[sys.argv[1]](int(sys.argv[2]))
    except ImportError as error:
        print(f"{error.name} is not installed", flush=True)
        raise SystemExit(0) from None
    print("ready", flush=True)
    for _ in sys.stdin:
        train()
        print("done", flush=True)
