"""How an order of the data becomes batches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Batching(NamedTuple):
    """The batches of an epoch; S seeds, K epochs, N samples, B rows a batch.

    An order is (S, K, N), the place of each sample in the epoch; with replacement it is
    (S, K, n_batches · B), the samples drawn.

    Attributes
    ----------
    samples, batch_size : int
        N and B.
    replacement : bool
        Whether rows are drawn with replacement.
    """

    samples: int
    batch_size: int
    replacement: bool = False

    @property
    def batches(self) -> int:
        """Updates an epoch; its last batch is what is left."""
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

        A batch that is smaller is padded with sample 0; `sizes` says how many are its own.
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

    def shares(self, order: Array, dtype: np.dtype) -> Array:
        """Return the share of each sample in each batch's mean, (S, K, n_batches, N)."""
        batch = jnp.arange(self.batches)[:, None]
        if not self.replacement:
            within = order[:, :, None, :] // self.batch_size == batch
            return jnp.where(within, jnp.asarray(1 / self.sizes[:, None], dtype), 0)
        drawn = order.reshape(*order.shape[:2], self.batches, self.batch_size, 1)
        times = (drawn == jnp.arange(self.samples)).sum(axis=-2)
        return times.astype(dtype) / self.batch_size
