"""The ways TensorFlow can run one gradient: eagerly, as a graph, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def is_indexed(gradient: Any) -> bool:
    """Whether a gradient is sparse: rows and their indices, as embeddings give."""
    return isinstance(gradient, tf.IndexedSlices)


def _eager(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _graph(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function, autograph=False)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function, autograph=False, jit_compile=True)


#: mode → how a function that returns gradients is made to run in it
MODES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": _eager,
    "function": _graph,
    "jit_compile": _compiled,
}

#: what TensorFlow raises where XLA cannot compile a function
COMPILE_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.UnimplementedError,
    tf.errors.NotFoundError,
    tf.errors.InternalError,
)
