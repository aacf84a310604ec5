"""Arrays: special ones included, and those whose entries belong to a domain."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from scratch import fields as domains
from scratch.arrays import Array

#: how an array of examples is made; the names appear in falsifying examples
PATTERNS = ("generic", "eighths", "zeros", "equal", "repeated", "saturated")


@st.composite
def special_points(draw: DrawFn, shape: tuple[int, ...], patterns: tuple[str, ...] = PATTERNS) -> Array:
    """Real arrays, special ones included: k/8 (ties and exact zeros), zeros, one value, repeated rows, saturation."""
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


@st.composite
def samples(
    draw: DrawFn, shape: tuple[int, ...], domain: domains.Domain, patterns: tuple[str, ...] = PATTERNS
) -> Array:
    """An array whose entries belong to the domain of an input, a target or a weight."""
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    if isinstance(domain, domains.Index):
        return generator.integers(0, domain.below, size=shape)
    if isinstance(domain, domains.Binary):
        return generator.integers(0, 2, size=shape).astype(float)
    if isinstance(domain, domains.Signs):
        return generator.choice([-1.0, 1.0], size=shape)
    if isinstance(domain, domains.OneHot):
        return np.eye(shape[-1])[generator.integers(0, shape[-1], size=shape[:-1])]
    if isinstance(domain, domains.Distribution):
        return generator.dirichlet(np.ones(shape[-1]), size=shape[:-1])
    if isinstance(domain, domains.Probability):
        return generator.uniform(0.05, 0.95, size=shape)
    if isinstance(domain, domains.Positive):
        return generator.uniform(0.25, 2.0, size=shape)
    own = getattr(domain, "sample", None)
    if own is not None:
        return own(shape, generator)
    return draw(special_points(shape, patterns))
