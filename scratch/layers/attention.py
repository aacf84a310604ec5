"""Attention without projections: values weighted by a softmax of scores of query and key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from scratch.arrays import Array
from scratch.fields import Shape, Size
from scratch.layers.base import Layer, Weights, activate
from scratch.layers.regularization import Draw, Rate, drawn, dropped
from scratch.registry import layer

Mask = Array | None


def causal(queries: int, keys: int) -> Array:
    """True where query i may attend to key j: j ≤ i."""
    return np.arange(queries)[:, None] >= np.arange(keys)


def both(first: Mask, second: Mask) -> Mask:
    """Where both masks are True; None is True everywhere."""
    return second if first is None else first if second is None else first & second


def masked_softmax(scores: Array, allowed: Mask) -> Array:
    """Softmax along the last axis over the allowed entries, 0 elsewhere; a row without any is 0."""
    if allowed is None:
        return activate("softmax", scores)
    allowed = np.broadcast_to(allowed, scores.shape)
    some = allowed.any(axis=-1, keepdims=True)
    top = np.where(some, np.where(allowed, scores.real, -np.inf).max(axis=-1, keepdims=True), 0.0)
    exponential = np.where(allowed, np.exp(np.where(allowed, scores - top, 0.0)), 0.0)
    return (exponential / np.where(some, exponential.sum(axis=-1, keepdims=True), 1.0)).astype(scores.dtype)


def attention_dropout(owner: Any, scores: Array, *, training: bool, draw: Draw) -> Array:
    """The scores after dropout."""
    if not training or owner.dropout == 0:
        return scores
    return dropped(scores, owner.dropout, drawn(owner, draw, "keep")) if owner.dropout < 1 else np.zeros_like(scores)


class Scored(Layer):
    """Base of attention without projections: the inputs are query, value and key (without a key, the value)."""

    dropout: float

    def scores(self, weights: Weights, query: Array, key: Array) -> Array:
        """The score of each query and key: (batch, …, Tq, Tv)."""
        raise TypeError(f"{type(self).__name__} must define `scores`: write it in scratch/layers/attention.py.")

    def forward(
        self,
        weights: Weights,
        *inputs: Array,
        training: bool = False,
        mask: Sequence[Mask] | None = None,
        draw: Draw = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        query, value, key = (*inputs, inputs[1])[:3]
        query_mask, value_mask = (mask[0], mask[1]) if mask is not None else (None, None)
        scores = self.scores(weights, query, key)
        allowed = None if value_mask is None else value_mask[..., None, :].astype(bool)
        allowed = both(allowed, causal(*scores.shape[-2:]) if use_causal_mask else None)
        shares = attention_dropout(self, masked_softmax(scores, allowed), training=training, draw=draw)
        y = shares @ value
        if query_mask is not None:
            y = np.where(query_mask[..., None], y, 0.0).astype(y.dtype)
        return (y, shares) if return_attention_scores else y

    def compute_mask(self, *inputs: Array, mask: Any = None) -> Mask:
        return None if mask is None else mask[0]

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"keep": (*inputs[0][:-1], inputs[1][-2])} if 0 < self.dropout < 1 else {}

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        # Keras warns about a softmax over one key.
        batch, queries, keys, features = size(1, 3), size(1, 3), size(2, 3), size(1, 3)
        query, key = (batch, queries, features), (batch, keys, features)
        return (query, (batch, keys, size(1, 3)), key) if size(0, 1) else (query, key)


@layer
class Attention(Scored):
    """y = dropout(softmax(scores)) · value, with scores = scale · query · keyᵀ ("dot") or
    concat_score_weight · Σ tanh(scale · (query + key)) over the features ("concat").

    Masked keys (value mask, causal mask) do not count; a query without keys gives 0, and so does a masked query.
    The returned scores are the weights of the values, after dropout.
    Shapes  query (batch, Tq, n)   value (batch, Tv, m)   key (batch, Tv, n)   scale ()   →   y (batch, Tq, m)
    Keras   Attention; a key mask is not used
    Source  Luong et al. 2015, eq. 7, 8 (dot, concat); keras.io/api/layers/attention_layers/attention
    """

    use_scale: bool = False
    score_mode: Literal["dot", "concat"] = "dot"
    dropout: Rate = 0.0

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        used = {"scale": self.use_scale, "concat_score_weight": self.score_mode == "concat"}
        return {name: () for name, is_used in used.items() if is_used}

    def scores(self, weights: Weights, query: Array, key: Array) -> Array:
        if self.score_mode == "concat":
            total = query[..., :, None, :] + key[..., None, :, :]
            total = weights["scale"] * total if self.use_scale else total
            y: Array = weights["concat_score_weight"] * np.tanh(total).sum(axis=-1)
            return y
        scores = query @ key.swapaxes(-1, -2)
        return scores * weights["scale"] if self.use_scale else scores


@layer
class AdditiveAttention(Scored):
    """y = dropout(softmax(scores)) · value, with scores = Σ scale · tanh(query + key) over the features.

    Masks as for `Attention`.
    Shapes  query (batch, Tq, n)   value (batch, Tv, m)   key (batch, Tv, n)   scale (n,)   →   y (batch, Tq, m)
    Keras   AdditiveAttention
    Source  Bahdanau, Cho & Bengio 2015, appendix A.1.2, projections left out; keras.io/api/layers/attention_layers
    """

    use_scale: bool = True
    dropout: Rate = 0.0

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"scale": (inputs[0][-1],)} if self.use_scale else {}

    def scores(self, weights: Weights, query: Array, key: Array) -> Array:
        fit = np.tanh(query[..., :, None, :] + key[..., None, :, :])
        y: Array = (fit * weights["scale"] if self.use_scale else fit).sum(axis=-1)
        return y
