"""What float32 may do to a recorded case, and whether it is all that separates the twin from the record.

    8 · spread + 4 · |twin in float32 - twin in float64| + 64 units in the last place of the largest value + underflow

spread: how far the twin's values move when every number that goes in moves by up to 4 units of the recorded precision
(four seeded sets of signs). The second term is the rounding of the definition's own steps, run in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import keras
import ml_dtypes
import numpy as np

from scratch.arrays import Array


def leaves(value: Any) -> list[Array]:
    """The arrays in a nested value."""
    return [np.asarray(leaf) for leaf in keras.tree.flatten(value) if leaf is not None]


def unit_of(dtype: Any) -> float:
    """The unit in the last place of a precision, of float32 for what is none."""
    return float(ml_dtypes.finfo(dtype).eps) if np.dtype(dtype).kind in "fV" else float(np.finfo(np.float32).eps)


def moved(value: Any, dtype: Any, generator: np.random.Generator | None = None, unit: float = 0.0) -> Any:
    """Floats of a nested value in a precision; with a generator, each moved by up to 4 units of its own size."""
    if isinstance(value, dict):
        return {key: moved(item, dtype, generator, unit) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(moved(item, dtype, generator, unit) for item in value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fV":
        array = value.astype(dtype)
        return (
            array
            if generator is None
            else array * (1 + 4 * unit * generator.choice([-1.0, 1.0], array.shape)).astype(dtype)
        )
    return value


def specification_moved(spec: Any, generator: np.random.Generator, unit: float) -> Any:
    """A specification whose floats are those that a float32 may stand for: half a unit up or down, where that is legal.

    Each of several specifications (one a step) moves by itself, as the places do where Keras rounds one number.
    """
    if isinstance(spec, tuple):
        return tuple(specification_moved(item, generator, unit) for item in spec)
    if not is_dataclass(spec):
        return spec
    for field in fields(spec):
        value = getattr(spec, field.name)
        step = float(generator.choice([-1.0, 1.0])) * unit / 2
        new = value * (1 + step) if type(value) is float and field.init else specification_moved(value, generator, unit)
        if new is not value:
            try:
                spec = replace(spec, **{field.name: new})
            except ValueError:
                continue
    return spec


def compare(law: Callable[[Any, Any], Any], spec: Any, arguments: Any, expected: Any, dtype: Any = np.float32) -> None:
    """law(specification, arguments) against recorded values. Raises: AssertionError with the worst entry."""
    unit = unit_of(dtype)
    with np.errstate(all="ignore"):
        ours, rough = leaves(law(spec, moved(arguments, np.float64))), leaves(law(spec, moved(arguments, np.float32)))
        spread = [np.zeros(o.shape) for o in ours]
        # of a million entries some show the worst that float32 does to the definition's own run
        for seed in range(4 if sum(o.size for o in ours) < 2**20 else 0):
            generator = np.random.default_rng(seed)
            near = leaves(
                law(specification_moved(spec, generator, unit), moved(arguments, np.float64, generator, unit))
            )
            spread = [np.fmax(s, np.abs(n.astype(float) - o)) for s, n, o in zip(spread, near, ours, strict=True)]
        theirs = leaves(expected)
        assert len(ours) == len(theirs), f"{len(ours)} outputs for {len(theirs)}"
        for ours_as_computed, own, s, stored in zip(ours, rough, spread, theirs, strict=True):
            assert ours_as_computed.shape == stored.shape, f"shape {ours_as_computed.shape} for {stored.shape}"
            recorded, mine = stored.astype(float), ours_as_computed.astype(float)
            finite = np.abs(mine[np.isfinite(mine)])
            scale = unit / float(np.finfo(np.float32).eps)
            tiny = float(ml_dtypes.finfo(dtype).smallest_normal) if np.dtype(dtype).kind in "fV" else 0.0
            allowed = (
                8 * s
                + 4 * scale * np.nan_to_num(np.abs(own - mine))
                + 64 * unit * float(np.max(finite, initial=0.0))
                + tiny
            )
            wrong = ~((np.abs(mine - recorded) <= allowed) | (mine == recorded) | (np.isnan(mine) & np.isnan(recorded)))
            if wrong.any():
                i = np.unravel_index(int(np.argmax(np.where(wrong, np.abs(mine - recorded), -1))), mine.shape)
                raise AssertionError(
                    f"{int(wrong.sum())} of {wrong.size} entries: {mine[i]!r} for {recorded[i]!r}, allowed "
                    f"{float(allowed[i]):.1e}"
                )
