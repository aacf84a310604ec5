"""The ways in which TensorFlow can compute a gradient: eagerly, as a graph, compiled by XLA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.autograph.impl import api


def is_indexed(gradient: Any) -> bool:
    """Whether a gradient is sparse (tf.IndexedSlices), as embeddings give it."""
    return isinstance(gradient, tf.IndexedSlices)


Function = Callable[..., Any]


def _leave_eager(function: Function) -> Function:
    return function


def convert_control_flow(function: Function) -> Function:
    """A function whose `if`, `while` and `for` on tensors AutoGraph turns into operations, for a trace."""
    converted: Function = api.tf_convert(function, ag_ctx.ControlStatusCtx(ag_ctx.Status.ENABLED))
    return converted


#: {mode: what makes a function run in it}
MODES: Mapping[str, Callable[[Function], Function]] = {
    "eager": _leave_eager,
    "function": partial(tf.function, autograph=False),
    "jit_compile": partial(tf.function, autograph=False, jit_compile=True),
}

#: what TensorFlow raises where XLA cannot compile a function
COMPILE_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.UnimplementedError,
    tf.errors.NotFoundError,
    tf.errors.InternalError,
)
