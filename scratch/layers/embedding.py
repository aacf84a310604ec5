"""Embedding: a table of vectors looked up by index, and the same table as a projection back to indices."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from scratch.arrays import Array
from scratch.fields import Above, AtLeast, Domain, Index, Shape, Size
from scratch.layers.base import Layer, Response, Weights
from scratch.registry import layer


class Lookup(Layer):
    """Base of Embedding and ReversibleEmbedding."""

    input_dim: int
    output_dim: int
    mask_zero: bool

    def rows(self, x: Array) -> Array:
        """Inputs as indices, fractions cut off. Raises: ValueError for an index out of range."""
        rows = x.real.astype(np.int64)
        if ((rows < 0) | (rows >= self.input_dim)).any():
            raise ValueError(
                f"An index must lie in [0, input_dim). Received: {rows.min()} to {rows.max()}, "
                f"input_dim={self.input_dim}. Correct the input or raise `input_dim`."
            )
        return rows

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"embeddings": (self.input_dim, self.output_dim)}

    def input_domains(self) -> tuple[Domain, ...]:
        return (Index(self.input_dim),)

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (tuple(size(1, 3) for _ in range(size(1, 3))),)


@layer
class Embedding(Lookup):
    """y = embeddings[x]; the mask, if `mask_zero`, is x ≠ 0.

    Shapes  x any shape, of indices   embeddings (input_dim, output_dim)   →   y (…x, output_dim)
    Keras   Embedding, without LoRA and quantization
    Source  keras.io/api/layers/core_layers/embedding
    """

    input_dim: Annotated[int, AtLeast(1, small=(1, 4))]
    output_dim: Annotated[int, AtLeast(1, small=(1, 3))]
    mask_zero: bool = False

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return weights["embeddings"][self.rows(inputs[0])]

    def compute_mask(self, *inputs: Array, mask: Array | None = None) -> Array | None:
        return inputs[0] != 0 if self.mask_zero else None

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        # One feature for each index that occurs in the input, and a last one, zero, for all others.
        rows = self.rows(inputs[0])
        used = np.unique(rows)
        features = np.concatenate([rows == used.reshape(-1, *(1,) * rows.ndim), np.zeros((1, *rows.shape))])
        place = np.full(self.input_dim, len(used))
        place[used] = np.arange(len(used))
        row, channel = np.divmod(np.arange(self.input_dim * self.output_dim), self.output_dim)
        return Response(features, place[row], channel)


@layer
class ReversibleEmbedding(Lookup):
    """y = embeddings[x]; with `reverse` y = x · embeddingsᵀ, or x · reverse_embeddings if weights are not tied, and
    then logit_soft_cap · tanh(y / logit_soft_cap).

    Shapes  x of indices   →   y (…x, output_dim);   reverse: x (…, output_dim)   →   y (…, input_dim)
    Keras   ReversibleEmbedding, without LoRA, quantization and `reverse_dtype`
    Source  Press & Wolf 2016 (arXiv 1608.05859), section 2; the cap: keras.io
    """

    input_dim: Annotated[int, AtLeast(1, small=(1, 4))]
    output_dim: Annotated[int, AtLeast(1, small=(1, 3))]
    tie_weights: bool = True
    mask_zero: bool = False
    logit_soft_cap: Annotated[float, Above(0.0, small=(0.5, 4.0))] | None = None

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        tables: dict[str, Shape] = {"embeddings": (self.input_dim, self.output_dim)}
        return tables | ({} if self.tie_weights else {"reverse_embeddings": (self.output_dim, self.input_dim)})

    def forward(self, weights: Weights, *inputs: Array, reverse: bool = False) -> Array:
        (x,) = inputs
        if not reverse:
            return weights["embeddings"][self.rows(x)]
        y = x @ (weights["embeddings"].T if self.tie_weights else weights["reverse_embeddings"])
        return y if self.logit_soft_cap is None else np.tanh(y / self.logit_soft_cap) * self.logit_soft_cap

    def compute_mask(self, *inputs: Array, mask: Array | None = None, reverse: bool = False) -> Array | None:
        return inputs[0] != 0 if self.mask_zero and not reverse else None
