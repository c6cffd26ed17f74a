"""What the tests of this layer share: a chunk's rows, and a block of runs with its objective."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from scaling_study.engine import chunk, inputs, models, objective, optimizers, train
from scaling_study.engine.batching import Batching
from scaling_study.engine.initial import initial_parameters
from scaling_study.engine.monitor import Target
from scaling_study.engine.objective import Objective
from scaling_study.engine.train import Data
from scaling_study.study import draws
from scaling_study.study.chunk_shapes import Static
from scaling_study.study.conditions import (
    Chunk,
    Condition,
    Group,
    expand,
    group,
    problem_of,
    shape_of,
    split,
)
from scaling_study.study.encoding import Encoding, encode, encode_unique
from scaling_study.study.study import parse

FIRST = Chunk(0, 0, 0)


def groups_of(**axes: Any) -> list[Group]:
    return group(expand(parse(axes)))


def bytes_of(which: Chunk = FIRST, chunk_runs: int | None = None, **axes: Any) -> bytes:
    """Return the file of a chunk of the study with these axes."""
    return chunk.run_chunk(parse(axes).to_toml(), str(which), chunk_runs)


def rows_of(which: Chunk = FIRST, chunk_runs: int | None = None, **axes: Any) -> pd.DataFrame:
    """Return the rows of a chunk, under the condition's place in the study and the seed."""
    frame = pq.read_table(io.BytesIO(bytes_of(which, chunk_runs, **axes))).to_pandas()
    lacking = frame["weight/0"].isna().all()
    features = [n for n in frame if "/" in n]
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(n.split("/")[0] for n in features):
        values = frame[[n for n in features if n.split("/")[0] == name]].to_numpy()
        # A network has no weights, which is not the same as a run without a number.
        none = lacking and np.isnan(values).all()
        joined[name] = pd.Series([None] * len(frame) if none else [*values], dtype=object)
    frame = pd.concat([frame.drop(columns=features), pd.DataFrame(joined)], axis=1)
    places = {condition.id: i for i, condition in enumerate(expand(parse(axes)))}
    frame.insert(0, "place", frame["condition"].map(places).astype(int))
    return frame.set_index(["place", "seed"])


def column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column of lists as an array, one row per run."""
    return np.stack(frame[name].to_list())


class Block(NamedTuple):
    """Runs of some conditions and seeds that share a program, before they are trained."""

    static: Static
    conditions: list[Condition]
    encoding: Encoding
    data: Data
    loss: Objective
    order: Any
    parameters: Any

    @property
    def batches(self) -> Any:
        """Every update's batch, end to end."""
        batches = self.loss.prepare(self.data.inputs, self.data.residual, self.order)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)

    @property
    def full_batch(self) -> Any:
        return self.loss.full_batch(self.data.inputs, self.data.residual)

    def at(self, parameters: Any, batch: Any) -> tuple[Any, Any]:
        return self.loss.value_and_gradient(parameters, self.data.maps, batch)

    def update(self) -> train.Update:
        """Return one update by the block's optimizer."""
        return update_of(self.loss, optimizers.build(self.static.optimizer, self.static.framework))


def block_of(
    seeds: Sequence[int] = range(3),
    epochs: int = 2,
    *,
    seeds_last: bool = True,
    by_row: bool = False,
    **axes: Any,
) -> Block:
    """Return a block; its objective is the one asked for, `samples` where none was."""
    conditions = expand(parse({"objective": "samples", "epochs": epochs, **axes}))
    static = split(conditions[0])
    assert {split(condition) for condition in conditions} == {static}
    own = encode(static, draws.draw(static, seeds), conditions)
    samples, features = shape_of(static.problem)
    model = models.build(static.model)
    batching = Batching(samples, static.batch_size, static.sampling == "replacement")
    loss = (
        objective.of_moments(features, batching, seeds_last)
        if static.objective == "moments"
        else objective.PerSample(model, batching, seeds_last=seeds_last, by_row=by_row)
    )
    order = None
    if static.sampling != "full":
        order = jnp.asarray(next(draws.orders(static, seeds, epochs)))
    drawn = initial_parameters(model, jnp.asarray(list(seeds), jnp.uint32), features, static.dtype)
    runs = len(conditions), len(seeds)
    parameters = jax.tree.map(
        lambda x: jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], *runs)), drawn
    )
    arrays = inputs.ConditionArrays.of(conditions)
    unique_data = encode_unique(
        problem_of(static.problem), draws.draw(static, seeds), arrays.datasets, static.transformed
    )
    moments = static.objective == "moments"
    data = inputs.data_of(static.dtype, unique_data, arrays, moments=moments)
    data = jax.tree.map(jnp.asarray, data)
    return Block(static, conditions, own, data, loss, order, parameters)


def update_of(loss: Objective, factory: optimizers.Factory) -> train.Update:
    """Return one update of an objective by an optimizer."""
    return train.Update(loss, optimizers.BlockOptimizer(factory))


def linear_parameters(kernel: Any, bias: Any) -> Any:
    """Return the parameters of linear models: kernel (d, C, S) and bias (C, S)."""
    kernel, bias = jnp.asarray(kernel), jnp.asarray(bias)
    return {"params": {"Dense_0": {"kernel": kernel[:, None], "bias": bias[None]}}}


def leaves(tree: Any) -> list[np.ndarray]:
    """Return a pytree's arrays."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


# A problem small enough to be computed by hand: three samples, one feature, in float64.
#
#   u          0     1     2
#   y          1     0     2       least squares: y = 0.5 u + 0.5, by
#   residual   0.5  -1     0.5     slope = ((-1)(0) + 0 + (1)(1)) / 2, means 1 and 1
#
# trained in the units z = 2 u - 1 and y' = (y - 1) / 2, so that slope and intercept are
# 0.5 / 2 = 0.25 and (0.5 - 1) / 2 = -0.25. In canonical units u = 1 + sqrt(2/3) v, and
# z = 2 sqrt(2/3) v + 1, slope 0.25 sqrt(2/3), intercept 0. With weight 0.5 and bias 0.25:
#
#   z         -1     1     3
#   y'         0    -0.5   0.5
#   0.5z+0.25 -0.25  0.75  1.75
#   error     -0.25  1.25  1.25
HAND_WEIGHT, HAND_BIAS = 0.5, 0.25


def hand_problem(way: str, learning_rate: float = 0.1) -> tuple[Objective, Data, Any]:
    """Return objective (batches of two), data and parameters of the problem above."""
    one = jnp.ones((1, 1), jnp.float64)
    deviation = (2 / 3) ** 0.5
    maps = objective.AffineMaps(
        feature_scale=2 * deviation * one[None],
        feature_shift=one[None],
        ols_coefficient=0.25 * deviation * one[None],
        intercept=0 * one,
        residual_scale=one / 2,
    )
    nothing = jnp.nan * one
    data = Data(
        inputs=jnp.array([[[-1.0], [0.0], [1.0]]]) / deviation,
        residual=jnp.array([[0.5, -1.0, 0.5]]),
        maps=maps,
        learning_rate=learning_rate * one,
        convergence_target=Target(nothing, nothing[None], 0.125 * one[None], 0.25 * one),
    )
    batching = Batching(3, 2)
    loss = (
        objective.SecondMoments(1, batching)
        if way == "moments"
        else objective.PerSample(models.linear(), batching)
    )
    return loss, data, linear_parameters(HAND_WEIGHT * one[None], HAND_BIAS * one)
