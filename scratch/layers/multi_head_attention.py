"""Multi-head and grouped-query attention: several heads of attention between projections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from scratch.arrays import Array
from scratch.axes import Axes
from scratch.fields import AtLeast, Integers, Shape, Size
from scratch.layers.attention import Mask, attention_dropout, both, causal, masked_softmax
from scratch.layers.base import Layer, Weights, activate
from scratch.layers.regularization import Draw, Rate
from scratch.registry import layer

Few = Annotated[int, AtLeast(1, small=(1, 3))]
AttentionAxes = Annotated[int | tuple[int, ...], Axes(examples=(1, -2, (2,), (1, 2), (-2, -3)), but=(0, -1))]


def joined(x: Array, axes: tuple[int, ...], tail: int = 1) -> Array:
    """x with the given axes made one, which stands after the others and before the last `tail`."""
    end = x.ndim - tail
    y = x.transpose(*(a for a in range(end) if a not in axes), *axes, *range(end, x.ndim))
    return y.reshape(*y.shape[: end - len(axes)], math.prod(x.shape[a] for a in axes), *x.shape[end:])


def parted(y: Array, axes: tuple[int, ...], query: Shape) -> Array:
    """The inverse of `joined` for y (others…, T, heads, size): the axes of the query in their places."""
    rank, count = len(query) - 1, len(axes)
    y = y.reshape(*y.shape[: rank - count], *(query[a] for a in axes), *y.shape[-2:])
    return np.moveaxis(y, range(rank - count, rank), axes)


class Projected(Layer):
    """y = attention_output(heads of dropout(softmax(query · keyᵀ / √size)) · value) of projected query, key and value.

    Inside, arrays are (batch, others…, T, heads, size), where T joins the axes attended over; scores are (batch,
    others…, heads, T, S).
    """

    dropout: float
    use_bias: bool
    sliding_window: int | None
    use_gate: bool

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Sizes of a head of query and key, of a head of value; numbers of query heads, of key and value heads."""
        where = "scratch/layers/multi_head_attention.py"
        raise TypeError(f"{type(self).__name__} must define `sizes`: write it in {where}.")

    @property
    def scale(self) -> float:
        """What the products of queries and keys are multiplied with."""
        return 1.0 / math.sqrt(self.sizes[0])

    def project(self, x: Array, weights: Weights, name: str, axes: int = 1) -> Array:
        """x · kernel + bias, the last `axes` axes of x against the first of the kernel."""
        y = np.tensordot(x, weights[f"{name}/kernel"], axes)
        return y + weights[f"{name}/bias"] if f"{name}/bias" in weights else y

    def axes(self, rank: int) -> tuple[int, ...]:
        """The axes attended over, in an input of this rank."""
        return tuple(range(1, rank - 1))

    def outputs(self, query: Shape) -> tuple[Any, ...]:
        """Sizes of the output in place of the features of the query."""
        return query[-1:]

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        query, value, key = (*inputs, inputs[1])[:3]
        size, value_size, heads, key_heads = self.sizes
        dense = {
            "query": (query[-1:], (heads, size)),
            "key": (key[-1:], (key_heads, size)),
            "gate": (query[-1:], (heads, value_size)),
            "value": (value[-1:], (key_heads, value_size)),
            "attention_output": ((heads, value_size), self.outputs(query)),
        }
        shapes: dict[str, Shape] = {}
        for name, (ins, outs) in dense.items():
            if name != "gate" or self.use_gate:
                shapes[f"{name}/kernel"] = (*ins, *outs)
                shapes |= {f"{name}/bias": outs} if self.use_bias else {}
        return shapes

    def allowed(self, query: Shape, value: Shape, *, masks: Sequence[Mask], given: Mask, causally: bool) -> Mask:
        """The keys that each query may attend to, (batch, others…, heads or 1, T, S), or None for all.

        Raises: ValueError for a causal mask or a window over several axes.
        """
        axes = self.axes(len(query))
        count, sizes = len(axes), (*(query[a] for a in axes), *(value[a] for a in axes))
        queries, keys = math.prod(sizes[:count]), math.prod(sizes[count:])  # type: ignore[arg-type]
        total: Mask = None
        for mask, place in zip(masks, (-1, -2, -2), strict=False):
            if mask is not None:
                total = both(total, np.expand_dims(joined(mask.astype(bool), axes, 0), place))
        if (causally or self.sliding_window is not None) and count > 1:
            raise ValueError(
                "A causal mask or a sliding window must run along one axis. Received: attention over "
                f"{count} axes. Set `attention_axes` to one axis."
            )
        total = both(total, causal(queries, keys) if causally else None)
        if self.sliding_window is not None:
            distance = np.arange(queries)[:, None] - np.arange(keys)
            total = both(total, np.abs(distance) < self.sliding_window)
        total = None if total is None else total[..., None, :, :]
        if given is not None:
            given = np.asarray(given).astype(bool)
            while given.ndim < len(query) + count:
                given = np.expand_dims(given, -2 * count - 1)
            lead = given.shape[: -2 * count]
            given = np.broadcast_to(given, (*lead, *sizes)).reshape(*lead, queries, keys)  # type: ignore[arg-type]
        return both(total, given)

    def forward(
        self,
        weights: Weights,
        *inputs: Array,
        training: bool = False,
        mask: Sequence[Mask] | None = None,
        draw: Draw = None,
        attention_mask: Mask = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        query, value, key = (*inputs, inputs[1])[:3]
        _, _, heads, key_heads = self.sizes
        axes = self.axes(query.ndim)
        allowed = self.allowed(
            query.shape, value.shape, masks=mask or (), given=attention_mask, causally=use_causal_mask
        )
        q, k, v = (
            self.project(joined(x, axes), weights, name)
            for x, name in ((query, "query"), (key, "key"), (value, "value"))
        )
        k, v = (np.repeat(x, heads // key_heads, axis=-2) for x in (k, v))
        fit = (q * self.scale).swapaxes(-2, -3) @ np.moveaxis(k, -3, -1)
        scores = masked_softmax(fit, allowed).reshape(self.scores_shape(query.shape, value.shape))
        shares = attention_dropout(self, scores, training=training, draw=draw).reshape(fit.shape)
        y = parted((shares @ v.swapaxes(-2, -3)).swapaxes(-2, -3), axes, query.shape)
        y = y * activate("sigmoid", self.project(query, weights, "gate")) if self.use_gate else y
        y = self.project(y, weights, "attention_output", 2)
        return (y, scores) if return_attention_scores else y

    def scores_shape(self, query: Shape, value: Shape) -> tuple[Any, ...]:
        """Shape of the scores: batch and others, heads, the axes of the query, the axes of the value."""
        axes = self.axes(len(query))
        others = (n for a, n in enumerate(query[:-1]) if a not in axes)
        return (*others, self.sizes[2], *(query[a] for a in axes), *(value[a] for a in axes))

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"keep": self.scores_shape(*inputs[:2])} if 0 < self.dropout < 1 else {}

    def compute_mask(self, *inputs: Array, mask: Any = None) -> Mask:
        return None if mask is None else mask[0]


@layer
class MultiHeadAttention(Projected):
    """softmax(q · kᵀ / √key_dim) · v for each head with projections of its own; the heads together are projected to y.

    `mask` (query, value, key) and `attention_mask` (batch, T, S) limit the keys that a query may attend to; for a query
    without keys every head is 0. `use_gate` multiplies the heads by sigmoid(query · gate). Scores are without dropout.
    Shapes  query (batch, T…, n)   value (batch, S…, m)   key (batch, S…, k)   {query, key, gate, value}/kernel
            (features, num_heads, size)   attention_output/kernel (num_heads, value_dim, …)   →   y (batch, T…, output)
    Keras   MultiHeadAttention
    Source  Vaswani et al. 2017, section 3.2 (eq. 1); the gate: Qiu et al. 2025, arXiv 2505.06708
    """

    num_heads: Few
    key_dim: Few
    value_dim: Few | None = None
    dropout: Rate = 0.0
    use_bias: bool = True
    output_shape: Few | Annotated[tuple[Any, ...], Integers(shortest=1)] | None = None
    attention_axes: AttentionAxes | None = None
    sliding_window: Few | None = None
    use_gate: bool = False

    def check(self) -> None:
        if self.sliding_window is not None and len(self._given()) > 1:
            raise ValueError(
                "A `sliding_window` must run along one axis. Received: "
                f"attention_axes={self.attention_axes}, sliding_window={self.sliding_window}. Name one axis."
            )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return self.key_dim, self.value_dim or self.key_dim, self.num_heads, self.num_heads

    def _given(self) -> tuple[int, ...]:
        if self.attention_axes is None:
            return ()
        return (self.attention_axes,) if isinstance(self.attention_axes, int) else self.attention_axes

    def axes(self, rank: int) -> tuple[int, ...]:
        return tuple(a % rank for a in self._given()) or super().axes(rank)

    def outputs(self, query: Shape) -> tuple[Any, ...]:
        if self.output_shape is None:
            return query[-1:]
        return (self.output_shape,) if isinstance(self.output_shape, int) else self.output_shape

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        first, last = max((0, *self._given())), max((0, *(-a for a in self._given())))
        rank = max(first + 1 + last, first + 2, 3) + (self.sliding_window is None and size(0, 1))
        places = [size(1, 3) for _ in range(rank - 1)]
        # Every query has a key in its window, and there is more than one key (otherwise Keras warns).
        least = [2 if self.sliding_window is None else max(2, n) for n in places]
        others = [
            size(low, low + 1) if a in self.axes(rank) else n
            for a, (low, n) in enumerate(zip(least, places, strict=True))
        ]
        shapes = (*places, size(1, 3)), (*others, size(1, 3)), (*others, size(1, 3))
        return shapes[: 2 + size(0, 1)]


@layer
class GroupQueryAttention(Projected):
    """`MultiHeadAttention` in which num_query_heads / num_key_value_heads neighbouring query heads share key and value.

    Shapes  query (batch, T, n)   value, key (batch, S, n)   query/kernel (n, num_query_heads, head_dim)
            key/kernel, value/kernel (n, num_key_value_heads, head_dim)   →   y (batch, T, n)
    Keras   GroupQueryAttention
    Source  Ainslie et al. 2023, section 2.2 (arXiv 2305.13245)
    """

    head_dim: Few
    num_query_heads: Few
    num_key_value_heads: Few
    dropout: Rate = 0.0
    use_bias: bool = True
    sliding_window: Few | None = None
    use_gate: bool = False

    def check(self) -> None:
        if self.num_query_heads % self.num_key_value_heads:
            raise ValueError(
                "`num_query_heads` must be a multiple of `num_key_value_heads`. Received: "
                f"num_query_heads={self.num_query_heads}, num_key_value_heads={self.num_key_value_heads}. Change one."
            )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return self.head_dim, self.head_dim, self.num_query_heads, self.num_key_value_heads

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        batch, features = size(1, 3), size(1, 3)
        queries = size(1, 3)
        least = 2 if self.sliding_window is None else max(2, queries)
        query, value = (batch, queries, features), (batch, size(least, least + 1), features)
        return (query, value, value) if size(0, 1) else (query, value)

    @classmethod
    def examples(cls) -> tuple[GroupQueryAttention, ...]:
        """Small legal specifications: one group, several, one head each."""
        return (
            cls(2, 2, 1),
            cls(1, 4, 2, use_gate=True),
            cls(2, 2, 2, use_bias=False, sliding_window=1),
            cls(1, 2, 1, 0.5),
        )
