"""How an order of the data becomes batches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Batching(NamedTuple):
    """The batches of an epoch; S seeds, K epochs, N samples, B rows per batch.

    An order is (S, K, N), the place of each sample in the epoch; with replacement it is
    (S, K, n_batches · B), the samples drawn.
    """

    samples: int
    batch_size: int
    replacement: bool = False  # whether rows are drawn with replacement

    @property
    def batches(self) -> int:
        """Number of updates per epoch; the last batch may be smaller."""
        return -(-self.samples // self.batch_size)

    @property
    def sizes(self) -> np.ndarray:
        """Number of rows of each batch of an epoch."""
        sizes = np.full(self.batches, self.batch_size)
        if not self.replacement:
            sizes[-1] = self.samples - self.batch_size * (self.batches - 1)
        return sizes

    def rows(self, order: Array) -> Array:
        """Return the samples of each batch, (S, K, n_batches, B).

        A smaller batch is padded with sample 0; `sizes` gives its number of rows.
        """
        seeds, epochs = order.shape[:2]
        if not self.replacement:
            width = self.batches * self.batch_size
            index = jnp.arange(seeds)[:, None, None], jnp.arange(epochs)[None, :, None], order
            order = (
                jnp.zeros((seeds, epochs, width), order.dtype)
                .at[index]
                .set(jnp.arange(self.samples, dtype=order.dtype))
            )
        return order.reshape(seeds, epochs, self.batches, self.batch_size)

    def weights(self, order: Array, dtype: np.dtype) -> Array:
        """Return the weight of each sample in each batch's mean, (S, K, n_batches, N)."""
        batch = jnp.arange(self.batches)[:, None]
        if not self.replacement:
            in_batch = order[:, :, None, :] // self.batch_size == batch
            return jnp.where(in_batch, jnp.asarray(1 / self.sizes[:, None], dtype), 0)
        drawn = order.reshape(*order.shape[:2], self.batches, self.batch_size, 1)
        counts = (drawn == jnp.arange(self.samples)).sum(axis=-2)
        return counts.astype(dtype) / self.batch_size
