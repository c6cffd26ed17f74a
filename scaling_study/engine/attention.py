"""A small attention model of images: the rows of an image are its tokens."""

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Array

from scaling_study.errors import StudyError


class Attention(nn.Module):
    """One block of self-attention over tokens, their mean, and a linear layer.

    A token is an equal part of the features, in order: of an 8 × 8 image with 8 tokens, a row of
    pixels. Each feature has a row of its own in the first kernel, which also tells the tokens
    apart, as a position would. Attention follows Vaswani et al. 2017, with one head, a residual
    connection and no normalisation, which would undo a change of unit.

    Parameters
    ----------
    tokens, width, classes : int
    """

    tokens: int = 8
    width: int = 4
    classes: int = 10

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (..., n_features) to (..., n_classes)."""
        initializer = nn.initializers.glorot_uniform()
        kernel = self.param("kernel", initializer, (x.shape[-1], self.width))
        parts = kernel.reshape(self.tokens, -1, self.width)
        rows = x.reshape(*x.shape[:-1], *parts.shape[:2])
        tokens = jnp.einsum("...tp,tpw->...tw", rows, parts)
        query, key, value = jnp.split(
            nn.Dense(3 * self.width, kernel_init=initializer)(tokens), 3, axis=-1
        )
        # Sums, because batched products of matrices as small took three times as long on a CPU.
        scores = (query[..., :, None, :] * key[..., None, :, :]).sum(axis=-1)
        share = nn.softmax(scores * self.width**-0.5)
        tokens = tokens + (share[..., None] * value[..., None, :, :]).sum(axis=-2)
        return nn.Dense(self.classes, kernel_init=initializer)(tokens.mean(axis=-2))


def attention(*, tokens: int = 8, width: int = 4, classes: int = 10) -> nn.Module:
    """Return `Attention`, for more than two classes; the features are a multiple of the tokens.

    Not in the registry, because it needs as many features as tokens, or a multiple; a study names
    it as ``scaling_study.engine.attention:attention``.
    """
    if min(tokens, width, classes - 2) < 1:
        raise StudyError("tokens and width are 1 or more, classes 3 or more")
    return Attention(tokens, width, classes)
