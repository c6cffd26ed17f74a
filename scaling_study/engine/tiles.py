"""How a chunk's runs are cut into tiles that train at once, and joined again."""

from typing import Any, NamedTuple

import jax
import numpy as np

from scaling_study.study.chunk_shapes import ChunkShape


class Tiles(NamedTuple):
    """The tiles of a chunk of C conditions and S seeds.

    Arrays of runs end in (C, S) outside. Inside they lead with (n_seed_tiles,
    n_condition_tiles) and end in a tile's two axes, the longer one last.
    """

    conditions: int
    seeds: int
    seeds_last: bool = True  # whether a tile is (C, S) or (S, C)

    @classmethod
    def of(cls, shape: ChunkShape, runs: int | None = None) -> "Tiles":
        """Return tiles that fit a CPU's cache; any other device takes the chunk as one tile.

        With ``runs``, tiles (C, S) of as many runs, or as few less as divide the chunk.
        """
        conditions, seeds = shape.conditions, shape.seeds
        if jax.default_backend() == "cpu" and runs is not None:
            seeds = _divisor(shape.seeds, runs)
            return cls(_divisor(shape.conditions, runs // seeds), seeds)
        if jax.default_backend() == "cpu":
            conditions, seeds = shape.tile_conditions, shape.tile_seeds
        return cls(conditions, seeds, runs is not None or seeds >= conditions)

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Return an array (..., C or 1, S or 1) as tiles."""
        *lead, conditions, seeds = array.shape
        height = self.conditions if conditions > 1 else 1
        width = self.seeds if seeds > 1 else 1
        split = array.reshape(*lead, conditions // height, height, -1, width)
        tiles = np.moveaxis(split, (-2, -4), (0, 1))
        return tiles if self.seeds_last else tiles.swapaxes(-1, -2)

    def cut_seeds(self, array: np.ndarray) -> np.ndarray:
        """Return an array (S, ...) that all conditions share as (n_seed_tiles, seeds, ...)."""
        return array.reshape(-1, self.seeds, *array.shape[1:])

    def cut_data(self, array: np.ndarray) -> np.ndarray:
        """Return an array (C, S, ...) as (n_seed_tiles, n_condition_tiles, C, S, ...)."""
        split = array.reshape(-1, self.conditions, *array.shape[1:])
        split = split.reshape(*split.shape[:2], -1, self.seeds, *array.shape[2:])
        return np.moveaxis(split, 2, 0)

    def join(self, array: Any) -> np.ndarray:
        """Undo `cut`; return the first of a value that is the same in all tiles."""
        if np.ndim(array) < 4:
            return np.asarray(array)[0, 0]
        tiles = array if self.seeds_last else array.swapaxes(-1, -2)
        split = np.moveaxis(tiles, (0, 1), (-2, -4))
        *lead, outer, conditions, inner, seeds = split.shape
        return split.reshape(*lead, outer * conditions, inner * seeds)


def _divisor(number: int, most: int) -> int:
    """Return the largest divisor of a number that is not above ``most``."""
    return max(part for part in range(1, min(number, most) + 1) if number % part == 0)
