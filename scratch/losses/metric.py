"""Losses of embeddings: how similar the directions of vectors are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from scratch.activations.smooth import softplus
from scratch.arrays import Array, clip_below, unit
from scratch.axes import Axis
from scratch.fields import Above, Domain, Index, Real, Shape, Size
from scratch.losses.base import Loss, aligned, log_sum_exp
from scratch.losses.probabilistic import AlongAxis
from scratch.registry import loss


@dataclass(frozen=True)
class Directions(Domain):
    """Vectors along the last axis, of lengths up to 1: embeddings after a normalization."""

    def sample(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """Random vectors of any direction."""
        vectors = generator.normal(size=shape)
        values: Array = generator.uniform(0.5, 1.0) * vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
        return values


@loss
class CosineSimilarity(AlongAxis):
    """-Σ over `axis` of the products of unit(t) and unit(p), unit(x) = x / max(|x|, ε): -1 for the same direction

    Shapes  y_true, y_pred (batch, …, n)   →   (batch, …)
    Keras   CosineSimilarity; ε is keras.config.epsilon()
    Source  keras.io/api/losses/regression_losses
    """

    axis: Axis = -1

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        t, p = aligned(y_true, y_pred)
        values: Array = -(unit(t, self.axis) * unit(p, self.axis)).sum(axis=self.axis)
        return values


@loss
class Circle(Loss):
    """log(1 + Σ over others exp(gamma·(1 + m - d)₊·(1 - m - d)) · Σ over alike exp(gamma·(m + d)·(d - m))), m the
    margin, d = max(1 - p_i·p_j, 0); alike are the samples with the same label, without the sample itself with
    `remove_diagonal`. Samples of value 0 do not count in a mean.

    Shapes  y_true (batch,) or (batch, 1)   y_pred (batch, n), of length 1   →   (batch,)
    Keras   Circle; the weights (1 + m - d)₊ and m + d are differentiated too, which in the paper they are not
    Source  Sun et al. 2020, equations 5 to 8, with similarity s = 1 - d
    """

    gamma: Annotated[float, Above(0.0, small=(0.5, 8.0))] = 80.0
    margin: Annotated[float, Real(small=(0.0, 0.5))] = 0.4
    remove_diagonal: bool = True

    @property
    def couples_batch(self) -> bool:
        return True

    def per_sample(self, y_true: Array, y_pred: Array) -> Array:
        label = y_true.astype(int).reshape(-1)
        distance = clip_below(1 - y_pred @ y_pred.T, 0.0)
        alike = label[:, None] == label
        far = clip_below(self.margin + distance, 0.0) * (distance - self.margin)
        near = clip_below(1 + self.margin - distance, 0.0) * (1 - self.margin - distance)
        others = log_sum_exp(np.where(alike, -np.inf, self.gamma * near), axis=-1)
        if self.remove_diagonal:
            alike = alike & ~np.eye(len(label), dtype=bool)
        return softplus(log_sum_exp(np.where(alike, self.gamma * far, -np.inf), axis=-1) + others)

    def valid(self, y_true: Array, y_pred: Array) -> Array | None:
        return self.per_sample(y_true, y_pred).real > 0

    def shapes(self, size: Size) -> tuple[Shape, Shape]:
        batch = size(2, 5)
        return (batch,), (batch, size(1, 4))

    def domains(self) -> tuple[Domain, Domain]:
        return Index(2), Directions()
