"""Verify a layer's declared linear structure against its forward pass.

A layer may declare that its output is linear in a weight (`responses`) or that it multiplies its input by a matrix
(`mixing`). Each declaration is compared with the forward pass before it is used. On a mismatch there is a warning, and
the full forward pass is used instead, so that a wrong declaration costs time but never gives a wrong number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scratch.arrays import Array
from scratch.layers.base import Layer, Response, Weights
from scratch.random_offset import draw_offset

#: the largest difference, relative to the largest number compared: much more than rounding, much less than an error
CLOSE = 1e-9
#: of the drawn steps, which are as large as the largest number that is stepped from, where larger ones lead to infinity
SHARES = (1.0, 2.0**-4, 2.0**-8)


def without_activation(layer: Layer) -> Layer:
    """The layer with a linear activation."""
    if getattr(layer, "activation", "linear") == "linear":
        return layer
    linear: Layer = replace(layer, activation="linear")  # type: ignore[type-var]
    return linear


def find_responses(layer: Layer, weights: Weights, name: str, x: Array) -> Response | None:
    """The declared response of a layer to its weight `name`, verified with a step of every entry at once.

    None where the layer declares none, where the forward pass contradicts it (RuntimeWarning), and where every step
    leads to numbers that are not finite.
    """
    found = layer.responses(weights, name, x)
    if found is None:
        return None
    features, feature, channel = found
    value, linear = weights[name], without_activation(layer)
    drawn = _draw_steps(value)

    def step(share: float) -> tuple[Array, Array, Array]:
        steps = share * drawn
        after = linear.forward({**weights, name: value + steps.reshape(value.shape)}, x)
        sums = np.zeros((len(features), after.shape[-1]))
        np.add.at(sums, (feature, channel), steps)
        return linear.forward(weights, x), np.tensordot(features, sums, axes=(0, 0)), after

    return found if _is_confirmed(layer, "responses", step) else None


def find_mixing(layer: Layer, weights: Weights, x: Array) -> Array | None:
    """The declared matrix by which a layer multiplies the last axis of x, verified with a step of every entry at once.

    None where the layer declares none, where the forward pass contradicts it (RuntimeWarning), and where every step
    leads to numbers that are not finite.
    """
    declared = getattr(layer, "mixing", None)
    matrix: Array | None = None if declared is None else declared(weights)
    if matrix is None:
        return None
    drawn, linear = _draw_steps(x).reshape(x.shape), without_activation(layer)

    def step(share: float) -> tuple[Array, Array, Array]:
        return linear.forward(weights, x), (share * drawn) @ matrix, linear.forward(weights, x + share * drawn)

    return matrix if _is_confirmed(layer, "mixing", step) else None


def _draw_steps(value: Array) -> Array:
    size = float(np.max(np.abs(value), initial=0)) or 1.0
    return draw_offset((value.size,), np.random.default_rng(0), scale=size)


def _is_confirmed(layer: Layer, declaration: str, step: Callable[[float], tuple[Array, Array, Array]]) -> bool:
    """Whether what is declared explains what a step changes: (before, the change, after), of a share of the steps.

    A step that leads beyond any number contradicts nothing: a smaller one is taken.
    """
    for share in SHARES:
        with np.errstate(over="ignore", invalid="ignore"):
            parts = step(share)
        largest = max(float(np.max(np.abs(part), initial=0)) for part in parts)
        if np.isfinite(largest):
            return _is_equal(layer, declaration, *(part / (largest or 1.0) for part in parts))
    return False


def _is_equal(layer: Layer, declaration: str, before: Array, change: Array, after: Array) -> bool:
    """Whether before + change is after, with a RuntimeWarning where it is not. The largest number of them is 1."""
    equal = before.shape == change.shape and bool(np.all(np.abs(before + change - after) <= CLOSE))
    if not equal:
        warnings.warn(
            f"`{declaration}` of a layer must describe its forward pass. Received: {layer!r}, where they differ. "
            "The full forward pass is used instead; correct the layer to make it fast.",
            RuntimeWarning,
            stacklevel=2,
        )
    return equal
