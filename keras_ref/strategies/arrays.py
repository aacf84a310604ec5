"""Strategies for arrays: special points, and arrays whose entries belong to a domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from keras_ref.own_modules import fields as domains
from scratch.arrays import Array

#: how an array of examples is made; the names appear in falsifying examples
PATTERNS = ("generic", "eighths", "zeros", "equal", "repeated", "saturated")


@st.composite
def special_points(draw: DrawFn, shape: tuple[int, ...], patterns: tuple[str, ...] = PATTERNS) -> Array:
    """Real arrays (float64) of this `shape`, made in one of the `patterns`.

    generic     normal numbers;   eighths  k/8, |k| ≤ 16: ties and exact zeros;   zeros  zeros
    equal       one number k/8 everywhere;   repeated  rows that are all the same
    saturated   normal numbers times 40, at which sigmoid and tanh are flat
    """
    pattern = draw(st.sampled_from(patterns))
    size = int(np.prod(shape))
    if pattern == "zeros":
        return np.zeros(shape)
    if pattern == "equal":
        return np.full(shape, draw(st.integers(-16, 16)) / 8)
    if pattern == "eighths":
        return (
            np.array(draw(st.lists(st.integers(-16, 16), min_size=size, max_size=size)), dtype=float).reshape(shape) / 8
        )
    generic = np.random.default_rng(draw(st.integers(0, 2**16))).normal(size=shape)
    if pattern == "repeated" and shape:
        return np.repeat(generic[:1], shape[0], axis=0)
    return generic * 40 if pattern == "saturated" else generic


Shape = tuple[int, ...]

#: how entries of a domain are sampled: of the first class that the domain belongs to
_SAMPLERS: tuple[tuple[type, Callable[[Any, Shape, np.random.Generator], Array]], ...] = (
    (domains.Index, lambda domain, shape, generator: generator.integers(0, domain.below, size=shape)),
    (domains.Binary, lambda _, shape, generator: generator.integers(0, 2, size=shape).astype(float)),
    (domains.Signs, lambda _, shape, generator: generator.choice([-1.0, 1.0], size=shape)),
    (domains.OneHot, lambda _, shape, generator: np.eye(shape[-1])[generator.integers(0, shape[-1], size=shape[:-1])]),
    (domains.Distribution, lambda _, shape, generator: generator.dirichlet(np.ones(shape[-1]), size=shape[:-1])),
    (domains.Probability, lambda _, shape, generator: generator.uniform(0.05, 0.95, size=shape)),
    (domains.Positive, lambda _, shape, generator: generator.uniform(0.25, 2.0, size=shape)),
)


@st.composite
def samples(draw: DrawFn, shape: Shape, domain: domains.Domain, patterns: tuple[str, ...] = PATTERNS) -> Array:
    """An array of this `shape` whose entries belong to the `domain` of an input, a target or a weight.

    Real numbers are those of `special_points`, in one of the `patterns`.
    """
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    for kind, sample in _SAMPLERS:
        if isinstance(domain, kind):
            return sample(domain, shape, generator)
    if hasattr(domain, "sample"):
        return np.asarray(domain.sample(shape, generator))
    return draw(special_points(shape, patterns))
