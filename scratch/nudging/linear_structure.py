"""What a layer says of itself is tried before it is used: a wrong claim costs time and a warning, never a wrong number."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from scratch.arrays import Array
from scratch.layers.base import Layer, Weights

#: how far a claim may be off, relative to the largest number in it: much more than rounding, much less than a fault
CLOSE = 1e-9

Response = tuple[Array, Array, Array]


def linear(layer: Layer) -> Layer:
    """The layer without its activation."""
    if getattr(layer, "activation", "linear") == "linear":
        return layer
    return replace(layer, activation="linear")  # type: ignore[type-var]


def responses_of(layer: Layer, weights: Weights, name: str, x: Array) -> Response | None:
    """Layer.responses, if moving all entries of the weight at once, each by its own step, moves the output as they say."""
    found = layer.responses(weights, name, x)
    if found is None:
        return None
    features, feature, channel = found
    value, bare = weights[name], linear(layer)
    steps = _steps(value)
    before = bare.forward(weights, x)
    after = bare.forward({**weights, name: value + steps.reshape(value.shape)}, x)
    sums = np.zeros((len(features), after.shape[-1]))
    np.add.at(sums, (feature, channel), steps)
    return found if _holds(layer, "responses", before, np.tensordot(features, sums, axes=(0, 0)), after) else None


def mixing_of(layer: Layer, weights: Weights, x: Array) -> Array | None:
    """Layer.mixing, if moving all of the input at once moves the output by that times the matrix."""
    claim = getattr(layer, "mixing", None)
    matrix = None if claim is None else claim(weights)
    if matrix is None:
        return None
    steps, bare = _steps(x).reshape(x.shape), linear(layer)
    before, after = bare.forward(weights, x), bare.forward(weights, x + steps)
    return matrix if _holds(layer, "mixing", before, steps @ matrix, after) else None


def _steps(value: Array) -> Array:
    size = float(np.max(np.abs(value), initial=0)) or 1.0
    return size * np.random.default_rng(0).uniform(0.5, 1.0, value.size)


def _holds(layer: Layer, claim: str, before: Array, change: Array, after: Any) -> bool:
    largest = max(float(np.max(np.abs(a), initial=0)) for a in (before, change, after))
    holds = before.shape == change.shape and bool(np.all(np.abs(before + change - after) <= CLOSE * largest))
    if not holds:
        warnings.warn(
            f"`{claim}` of a layer must describe its forward pass. Received: {layer!r}, where they differ. "
            "The plain way is taken instead; correct the layer to make it fast.",
            RuntimeWarning,
            stacklevel=2,
        )
    return holds
