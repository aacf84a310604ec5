"""Resizing: kernels, functions of the distance from a pixel in units of the pixels' distance, and their matrices."""

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


def resampling(before: int, after: int, *, interpolation: str, antialias: bool) -> Array:
    """The matrix (after, before) that resizes one axis.

    Pixel i of the result has its centre at (i + 1/2) · before / after; the pixels j + 1/2 have weights by a kernel,
    which sum to one. `antialias` widens the kernel where the number of pixels falls.
    """
    ratio = before / after
    centres = (np.arange(after)[:, None] + 0.5) * ratio
    if interpolation == "nearest":
        nearest: Array = np.arange(before) == np.minimum(np.floor(centres), before - 1)
        return nearest.astype(float)
    weights = kernel_of(interpolation)((np.arange(before) + 0.5 - centres) / (max(ratio, 1.0) if antialias else 1.0))
    matrix: Array = weights / weights.sum(axis=1, keepdims=True)
    return matrix


def resized(x: Array, height: int, width: int, *, interpolation: str = "bilinear", antialias: bool = False) -> Array:
    """Images (…, height, width, channels) resized to another height and width."""
    rows = resampling(x.shape[-3], height, interpolation=interpolation, antialias=antialias).astype(x.real.dtype)
    columns = resampling(x.shape[-2], width, interpolation=interpolation, antialias=antialias).astype(x.real.dtype)
    y: Array = np.einsum("ij,...jkc,lk->...ilc", rows, x, columns, optimize=True)
    return y
