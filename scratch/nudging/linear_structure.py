"""Verify a layer's declared linear structure against its forward pass.

A layer may declare that its output is linear in a weight (`responses`) or that it multiplies its input by a matrix
(`mixing`). Each declaration is compared with the forward pass before it is used. On a mismatch there is a warning, and
the full forward pass is used instead, so that a wrong declaration costs time but never gives a wrong number.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.layers.base import Layer, Response, Weights
from scratch.random_offset import draw_offset

#: the largest difference, relative to the largest number compared: much more than rounding, much less than an error
CLOSE = 1e-9


def without_activation(layer: Layer) -> Layer:
    """The layer with a linear activation."""
    if getattr(layer, "activation", "linear") == "linear":
        return layer
    linear: Layer = replace(layer, activation="linear")  # type: ignore[type-var]
    return linear


def find_responses(layer: Layer, weights: Weights, name: str, x: Array) -> Response | None:
    """The declared response of a layer to its weight `name`, verified with a step of every entry at once.

    None where the layer declares none, or where the forward pass contradicts it (RuntimeWarning).
    """
    found = layer.responses(weights, name, x)
    if found is None:
        return None
    features, feature, channel = found
    value, linear = weights[name], without_activation(layer)
    steps = _draw_steps(value)
    before = linear.forward(weights, x)
    after = linear.forward({**weights, name: value + steps.reshape(value.shape)}, x)
    sums = np.zeros((len(features), after.shape[-1]))
    np.add.at(sums, (feature, channel), steps)
    change = np.tensordot(features, sums, axes=(0, 0))
    return found if _is_confirmed(layer, "responses", before=before, change=change, after=after) else None


def find_mixing(layer: Layer, weights: Weights, x: Array) -> Array | None:
    """The declared matrix by which a layer multiplies the last axis of x, verified with a step of every entry at once.

    None where the layer declares none, or where the forward pass contradicts it (RuntimeWarning).
    """
    declared = getattr(layer, "mixing", None)
    matrix: Array | None = None if declared is None else declared(weights)
    if matrix is None:
        return None
    steps, linear = _draw_steps(x).reshape(x.shape), without_activation(layer)
    before, after = linear.forward(weights, x), linear.forward(weights, x + steps)
    return matrix if _is_confirmed(layer, "mixing", before=before, change=steps @ matrix, after=after) else None


def _draw_steps(value: Array) -> Array:
    size = float(np.max(np.abs(value), initial=0)) or 1.0
    return draw_offset((value.size,), np.random.default_rng(0), scale=size)


def _is_confirmed(layer: Layer, declaration: str, *, before: Array, change: Array, after: Any) -> bool:
    largest = max(float(np.max(np.abs(a), initial=0)) for a in (before, change, after))
    equal = before.shape == change.shape and bool(np.all(np.abs(before + change - after) <= CLOSE * largest))
    if not equal:
        warnings.warn(
            f"`{declaration}` of a layer must describe its forward pass. Received: {layer!r}, where they differ. "
            "The full forward pass is used instead; correct the layer to make it fast.",
            RuntimeWarning,
            stacklevel=2,
        )
    return equal
