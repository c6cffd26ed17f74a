"""What the conditions of a group share, and the shape of its chunks, which follows from it."""

from itertools import pairwise
from typing import NamedTuple

from scaling_study.study.component import Component
from scaling_study.study.sources import shape_of

# Conditions from which they, not the seeds, are the longer axis of a tile per sample: networks of
# two hidden layers trained 2.8 times as fast with 40 of them, 4 times with 48, and not with 24.
CONDITIONS_LAST = 40
SMALL_NETWORK = 160  # parameters, up to which the runs of a tile lie side by side
FEW_FEATURES = 13  # likewise
LARGE_NETWORK = 2**19  # parameters that the seeds of a network's chunk have together, about
TABLE_CHUNK = 6, 8  # conditions and seeds of a chunk of a user's table


class Static(NamedTuple):
    """The part of a condition that is compiled in: conditions that share it share a program."""

    problem: Component
    model: Component
    framework: str
    optimizer: Component
    batch_size: int
    sampling: str
    updates: int
    dtype: str
    objective: str
    transformed: bool
    penalised: bool
    data_seed: int | str
    init_seed: int | str
    order_seed: int | str


class ChunkShape(NamedTuple):
    """The number of conditions and seeds of a chunk, and of each of its tiles."""

    conditions: int
    seeds: int
    tile_conditions: int
    tile_seeds: int


def chunk_shape(static: Static, conditions: int, chunk_runs: int | None = None) -> ChunkShape:
    """Return the shape of a group's chunks, from nothing but the group and the bound on runs.

    A tile is trained at once and should fit a core's first cache, its longer axis a few vector
    registers long: a run takes about forty numbers in moment form, some hundreds per sample. A
    chunk has enough tiles that the work between chunks is small. A network's chunk has few
    seeds, because all of them are trained where one is asked for. ``chunk_runs``, the most runs
    of a chunk, also raises the number of seeds, for a device that needs more.

    All groups of a user's table have chunks of one shape, so that a program serves every study
    of it that trains the same; each seed of a split is imputed and encoded once for a chunk.
    """
    if static.problem.is_table and chunk_runs is None:
        return ChunkShape(*TABLE_CHUNK, *TABLE_CHUNK)
    moments = static.objective == "moments"
    if moments:
        seeds, tile_conditions, tile_seeds = (16, 128, 4) if conditions >= 64 else (256, 4, 256)
    else:
        seeds, tile_conditions, tile_seeds = (32, 2, 32)
        if conditions >= CONDITIONS_LAST:
            seeds, tile_conditions, tile_seeds = (4 if conditions >= 64 else 16, 128, 1)
        seeds = min(seeds, seeds_of_network(static))
    most = 1024 if moments else 128
    if chunk_runs is not None:
        seeds = min(seeds, 2 ** (chunk_runs.bit_length() - 1))
        most = chunk_runs // seeds
        while 2 * seeds * min(most, conditions) <= chunk_runs:
            seeds *= 2
    wanted = min(conditions, most)
    tiles = -(-wanted // tile_conditions)
    tile_conditions = -(-wanted // tiles)
    tiles = min(tiles, most // tile_conditions)
    return ChunkShape(
        conditions=tile_conditions * tiles,
        seeds=seeds,
        tile_conditions=tile_conditions,
        tile_seeds=min(tile_seeds, seeds),
    )


def seeds_of_network(static: Static) -> int:
    """Return the most seeds of a chunk of a network: a power of two, fewer for larger ones.

    At least two: an update of two runs of 784-256-256-1 takes about 1.5 times as long as one's.
    """
    size = estimated_parameters(static)
    if size <= SMALL_NETWORK:
        return 32
    return 2 ** min(3, max(2, LARGE_NETWORK // size).bit_length() - 1)


def estimated_parameters(static: Static) -> int:
    """Return the number of parameters of an MLP; any other module is counted as a linear model."""
    widths = [shape_of(static.problem)[1], *hidden_of(static), 1]
    return sum(a * b + b for a, b in pairwise(widths))


def hidden_of(static: Static) -> tuple[int, ...]:
    """Return the widths of a model's hidden layers, if its parameters say so."""
    hidden = dict(static.model.parameters).get("hidden", ())
    widths = hidden if isinstance(hidden, list | tuple) else (hidden,)
    return tuple(width for width in widths if isinstance(width, int))  # others are refused later
