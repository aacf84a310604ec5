"""The claims of a derivative: first and second order, by tape and by tangents, eagerly, in a graph, compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from scratch.arrays import Array


class Point(Protocol):
    """A loss of float64 tensors, and the tensors; the loss there, and the size of the largest of its terms."""

    parts: list[Any]
    known: float
    terms: float

    def loss(self, *parts: Any) -> Any:
        """The loss."""


#: what memory is filled with before a gradient is taken, so that it shows what a kernel leaves unwritten
LEFT = 12345.0


def _fill_memory(point: Point) -> None:
    """Fill the memory that the next arrays of the arguments' sizes will probably get."""
    for part in point.parts:
        left = [tf.fill(part.shape, tf.constant(LEFT, part.dtype)) for _ in range(32)]
        del left


def _differentiate(point: Point, _: Mapping[int, Array]) -> list[Any]:
    if tf.executing_eagerly():
        _fill_memory(point)
    with tf.GradientTape() as tape:
        tape.watch(point.parts)
        loss = point.loss(*point.parts)
    return list(tape.gradient(loss, point.parts))


def _differentiate_in_graph(point: Point, direction: Mapping[int, Array]) -> list[Any]:
    return list(tf.function(lambda: _differentiate(point, direction), autograph=False)())


def _differentiate_compiled(point: Point, direction: Mapping[int, Array]) -> list[Any]:
    return list(tf.function(lambda: _differentiate(point, direction), autograph=False, jit_compile=True)())


def _differentiate_forward(point: Point, _: Mapping[int, Array]) -> list[Any]:
    """The slope along each entry, by a tangent of its own."""
    found = []
    for i, part in enumerate(point.parts):
        slopes = []
        for entry in range(int(tf.size(part))):
            unit = np.zeros(part.shape)
            unit.flat[entry] = 1.0
            with tf.autodiff.ForwardAccumulator(part, tf.constant(unit)) as forward:
                loss = point.loss(*point.parts[:i], part, *point.parts[i + 1 :])
            slopes.append(float(forward.jvp(loss, unconnected_gradients=tf.UnconnectedGradients.ZERO)))
        found.append(np.array(slopes).reshape(part.shape))
    return found


def _differentiate_twice(point: Point, direction: Mapping[int, Array]) -> list[Any]:
    with tf.GradientTape() as outer:
        outer.watch(point.parts)
        gradients = _differentiate(point, direction)
        slope = tf.add_n([tf.reduce_sum(g * direction[i]) for i, g in enumerate(gradients) if g is not None])
    return list(outer.gradient(slope, point.parts, unconnected_gradients="zero"))


def _differentiate_forward_twice(point: Point, direction: Mapping[int, Array]) -> list[Any]:
    """The slope along each entry of the slope along the direction, both by tangents."""
    found = []
    tangents = [tf.constant(direction[i]) for i in range(len(point.parts))]
    for i, part in enumerate(point.parts):
        slopes = []
        for entry in range(int(tf.size(part))):
            units = [np.zeros(p.shape) for p in point.parts]
            units[i].flat[entry] = 1.0
            with (
                tf.autodiff.ForwardAccumulator(point.parts, [tf.constant(u) for u in units]) as outer,
                tf.autodiff.ForwardAccumulator(point.parts, tangents) as inner,
            ):
                slope = inner.jvp(point.loss(*point.parts), unconnected_gradients=tf.UnconnectedGradients.ZERO)
            slopes.append(float(outer.jvp(slope, unconnected_gradients=tf.UnconnectedGradients.ZERO)))
        found.append(np.array(slopes).reshape(part.shape))
    return found


#: how the derivatives of a claim are computed: at a point, second ones along a direction
Claim = Callable[[Point, Mapping[int, Array]], list[Any]]
#: what is claimed of a derivative, and how TensorFlow computes it
CLAIMS: Mapping[str, Claim] = {
    "first order": _differentiate,
    "graph": _differentiate_in_graph,
    "compiled": _differentiate_compiled,
    "forward mode": _differentiate_forward,
    "second order": _differentiate_twice,
    "forward over forward": _differentiate_forward_twice,
}
#: claims that are about second derivatives
SECOND = ("second order", "forward over forward")
