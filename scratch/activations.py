"""Activations: functions of an array, exact in float32 and float64 and analytic in complex128 between their kinks.

A branch is chosen by the real part, so that a complex step stays on the branch of the point. Source of each law:
keras.io/api/layers/activations unless its docstring names a paper.
"""

from __future__ import annotations

import numpy as np

from scratch.registry import activation

Array = np.ndarray


@activation
def linear(x: Array) -> Array:
    """x"""
    return x


@activation
def relu(x: Array) -> Array:
    """max(x, 0)"""
    return np.where(x.real > 0, x, 0).astype(x.dtype, copy=False)


@activation
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), from the exponential that does not overflow."""
    decay = np.exp(np.where(x.real > 0, -x, x))
    return np.where(x.real > 0, 1 / (1 + decay), decay / (1 + decay))


@activation
def tanh(x: Array) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))"""
    return np.tanh(x)


@activation(elementwise=False)
def softmax(x: Array, *, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along `axis`, shifted by the maximum so that nothing overflows."""
    exponential = np.exp(x - x.real.max(axis=axis, keepdims=True))
    return exponential / exponential.sum(axis=axis, keepdims=True)
