"""An operation behind `tf.where` at a point where some of its outputs are finite and others are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.evaluation.keras_objects.real_parts import real_values
from scratch.arrays import Array


@dataclass(frozen=True)
class BehindWhere:
    """The operation with 0 for the outputs that are not finite at a point.

    finite    for each output, which of its numbers are finite
    hiding    for each float argument, which of its numbers have an influence on an output that is not
    """

    of_floats: Callable[..., Any]
    finite: Sequence[Array]
    hiding: Sequence[Array]

    def __call__(self, *arguments: Any) -> list[Any]:
        """The outputs."""
        found = tf.nest.flatten(self.of_floats(*arguments))
        return [tf.where(here, o, tf.zeros_like(o)) for here, o in zip(self.finite, found, strict=True)]


def hide_infinite(of_floats: Callable[..., Any], floats: Sequence[Any]) -> BehindWhere | None:
    """The operation at a point; None where all of its outputs are finite, or none is. Raises what the operation does.

    What has an influence on what is seen at a point between 0 and 1: infinite numbers do not move.
    """
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(list(floats))]
    here = tf.nest.flatten(of_floats(*tf.nest.map_structure(tf.constant, list(floats))))
    if any(o is None for o in here):  # an output that was not asked for
        return None

    def outputs(moved: Sequence[Array]) -> list[Array]:
        given = tf.nest.pack_sequence_as(list(floats), [tf.constant(x) for x in moved])
        return [real_values(o) for o in tf.nest.flatten(of_floats(*given))]

    finite = [np.all(np.isfinite(o), axis=-1) if o.dtype.is_complex else np.isfinite(real_values(o)) for o in here]
    if all(map(np.all, finite)) or not any(map(np.any, finite)):
        return None
    # another one for each argument, so that no difference of two of them is 0
    ordinary = [
        np.linspace(0.3 + 0.03 * i, 0.7 + 0.05 * i, x.size).reshape(x.shape).astype(x.dtype)
        for i, x in enumerate(leaves)
    ]
    base = outputs(ordinary)
    hiding = [np.zeros(real_values(x).shape, bool) for x in leaves]
    for i, x in enumerate(leaves):
        for place in np.ndindex(x.shape):
            moved = [v.copy() for v in ordinary]
            moved[i][place] += 0.125
            changed = [
                np.any(np.reshape(after != before, (*here.shape, -1)) & ~here[..., None])
                for here, after, before in zip(finite, outputs(moved), base, strict=True)
            ]
            hiding[i][place] = any(changed)
    return BehindWhere(of_floats, finite, hiding)
