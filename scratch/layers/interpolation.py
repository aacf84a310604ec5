"""Interpolation kernels, as functions of the distance from a cell in units of the cells' distance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratch.arrays import Array
from scratch.registry import Variant


def linear(t: Array) -> Array:
    """1 - |t| for |t| < 1, else 0."""
    y: Array = np.maximum(1 - np.abs(t), 0.0)
    return y


def cubic(t: Array) -> Array:
    """The cubic convolution kernel for |t| < 2, else 0. Source: Keys 1981, equation 15 (a = -1/2)."""
    t = np.abs(t)
    near, far = (1.5 * t - 2.5) * t * t + 1, ((2.5 - 0.5 * t) * t - 4) * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


def lanczos(lobes: int) -> Callable[[Array], Array]:
    """sinc(t) · sinc(t / lobes) for |t| < lobes, else 0. Source: Duchon 1979."""

    def kernel(t: Array) -> Array:
        return np.where(np.abs(t) < lobes, np.sinc(t) * np.sinc(t / lobes), 0.0)

    return kernel


KERNELS: dict[str, Callable[[Array], Array]] = {
    "bilinear": linear,
    "bicubic": cubic,
    "lanczos3": lanczos(3),
    "lanczos5": lanczos(5),
}


def kernel_of(name: str) -> Callable[[Array], Array]:
    """The kernel of an interpolation."""
    kernel: Callable[[Array], Array] = name.definition if isinstance(name, Variant) else KERNELS[name]
    return kernel
