"""Activations along an axis: softmax and the like, of which an output entry depends on all entries along the axis."""

from __future__ import annotations

import numpy as np

from scratch.activations.smooth import sigmoid
from scratch.arrays import Array
from scratch.axes import Axis, AxisOrAxes
from scratch.registry import activation


@activation(elementwise=False)
def softmax(x: Array, *, axis: AxisOrAxes = -1) -> Array:
    """exp(x) / sum(exp(x)) along `axis`, shifted by the maximum, so that exp does not overflow.

    Source: keras.io/api/layers/activations
    """
    exponential = np.exp(x - x.real.max(axis=axis, keepdims=True))
    y: Array = exponential / exponential.sum(axis=axis, keepdims=True)
    return y


@activation(elementwise=False)
def log_softmax(x: Array, *, axis: AxisOrAxes = -1) -> Array:
    """x - log(sum(exp(x))) along `axis`, shifted by the maximum, so that exp does not overflow.

    Source: keras.io/api/layers/activations
    """
    shifted = x - x.real.max(axis=axis, keepdims=True)
    y: Array = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return y


@activation(elementwise=False)
def sparsemax(x: Array, *, axis: Axis = -1) -> Array:
    """max(x - τ, 0) along `axis`, with the τ that makes it sum to one: the nearest point of the probability simplex.

    With z the entries in falling order and k the last place where 1 + k·z_k > z_1 + … + z_k, the k greatest entries
    stay positive and τ = (z_1 + … + z_k - 1) / k. Source: Martins, Astudillo 2016, algorithm 1
    """
    x = np.moveaxis(x, axis, -1)
    falling = np.take_along_axis(x, np.argsort(-x.real, axis=-1, kind="stable"), axis=-1)
    sums = np.cumsum(falling, axis=-1)
    stays = 1 + np.arange(1, x.shape[-1] + 1) * falling.real > sums.real
    count = stays.sum(axis=-1, keepdims=True)
    above = x - (np.take_along_axis(sums, count - 1, axis=-1) - 1) / count.astype(x.real.dtype)
    return np.moveaxis(np.where(above.real <= 0, 0, above), -1, axis)


@activation(elementwise=False)
def glu(x: Array, *, axis: Axis = -1) -> Array:
    """a · sigmoid(b), a and b the two halves of x along `axis`. Source: Dauphin et al. 2017

    Raises: ValueError where x has no two halves.
    """
    if x.shape[axis] % 2:
        raise ValueError(
            f"`glu` must have an even size along its axis. Received: shape {x.shape} with axis={axis}. "
            "Make the size even or choose another axis."
        )
    a, b = np.split(x, 2, axis=axis)
    return a * sigmoid(b)
