"""Which code of the user's is at fault where a backward pass raises, or returns gradients that fit nothing; and what a
loss and a gradient have to be.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record

from keras_ref.errors import BackwardPassFailed, BadInput, UserCodeFailed, is_of_user, shorten_error
from keras_ref.evaluation.changed_state.float64 import DTYPE
from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason
from scratch.arrays import Array

#: the function of TensorFlow that calls the backward pass of a tf.custom_gradient, and its name for that
CALLER, CALLED = "actual_grad_fn", "grad_fn"


@dataclass(frozen=True)
class Refused:
    """Why a gradient cannot be compared, or was not given at all: a verdict's kind, and its reason in detail."""

    kind: Kind
    reason: Reason
    details: tuple[object, ...]


@contextmanager
def running_backward_pass() -> Iterator[None]:
    """Around a call of autodiff: what it raises becomes BackwardPassFailed, with the place in the user's code."""
    try:
        yield
    except (BadInput, UserCodeFailed):
        raise
    except Exception as error:
        raise BackwardPassFailed(error, place=find_place(error)) from error


def find_place(error: BaseException) -> str:
    """Where in the user's code an error comes from: function, line and file; "" where none of it is on the way.

    It is the last frame that is the user's; or else the backward function of the user's that TensorFlow had called,
    whose result it refuses.
    """
    place = ""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        called = getattr(frame.f_locals.get(CALLED), "__code__", None)
        if is_of_user(frame.f_code.co_filename):
            place = _name_layer(frame.f_code, trace.tb_lineno, _find_layer(frame))
        elif isinstance(called, CodeType) and is_of_user(called.co_filename):
            place = _name_layer(called, called.co_firstlineno, _find_layer(frame))
        trace = trace.tb_next
    return place


def list_wrong_gradients(run: Callable[[], Any]) -> list[str]:
    """What hand-made backward functions return that fits nothing, while an eager backward pass runs: a sentence for
    each that returns another dtype or shape than that of its inputs.

    run   the backward pass;   Raises: BackwardPassFailed, with a place, where it ends without such a sentence.
    """
    found: list[str] = []
    original = record.record_operation

    def recording(op_type: Any, outputs: Any, inputs: Any, backward: Any, *more: Any, **keywords: Any) -> Any:
        if getattr(backward, "__name__", "") == CALLER:
            backward = _inspect_shapes(backward, list(inputs), found)
        return original(op_type, outputs, inputs, backward, *more, **keywords)

    with Restoration() as restoration:
        restoration.undo_by(setattr, record, "record_operation", original)
        record.record_operation = recording
        try:
            run()
        except BackwardPassFailed as failed:
            if failed.place and not found:
                raise
    return found


def _inspect_shapes(backward: Callable[..., Any], inputs: list[Any], found: list[str]) -> Callable[..., Any]:
    """The backward function, which adds what does not fit its inputs to `found`."""
    code = getattr(inspect.getclosurevars(backward).nonlocals.get(CALLED), "__code__", None)
    place = _name_layer(code, code.co_firstlineno, "") if isinstance(code, CodeType) else "a hand-made backward pass"

    def inspected(*upstream: Any) -> Any:
        gradients = backward(*upstream)
        for i, (given, tensor) in enumerate(zip(gradients, inputs, strict=False)):
            if given is None or isinstance(given, tf.IndexedSlices):
                continue
            gradient = tf.convert_to_tensor(given)
            for what, mine, its in (
                ("dtype", gradient.dtype.name, tensor.dtype.name),
                ("shape", tuple(gradient.shape), tuple(tensor.shape)),
            ):
                if mine != its:
                    found.append(f"{place} returns a gradient of {what} {mine} for its argument {i}, of {what} {its}.")
        return gradients

    return inspected


def find_line(operation: Any) -> str:
    """The line of the user's code that made an operation of a graph, as " in line 3 of file.py"; "" where none did."""
    frames = [frame for frame in operation.traceback or () if is_of_user(frame.filename)]
    return f" in line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""


def _find_layer(frame: FrameType) -> str:
    owner = frame.f_locals.get("self")
    return f", in the layer {owner.name!r}" if isinstance(owner, keras.layers.Layer) else ""


def _name_layer(code: CodeType, line: int, layer: str) -> str:
    function = code.co_qualname.replace("<locals>.", "")
    return f"`{function}` (line {line} of {Path(code.co_filename).name}{layer})"


def as_floats(gradient: Any) -> Array | None:
    """A gradient as an array of floats. Raises: BackwardPassFailed where it holds none."""
    try:
        return None if gradient is None else np.asarray(gradient, dtype=DTYPE)
    except (TypeError, ValueError) as error:
        raise BackwardPassFailed(f"A gradient that holds no floats ({shorten_error(error)})", place="") from error


def require_scalar(loss: Any) -> Any:
    """The loss, if it is one number. Raises: BadInput."""
    loss = tf.convert_to_tensor(loss)
    if loss.shape.rank not in (0, None):
        received = f"Received: shape {tuple(loss.shape)}."
        raise BadInput(f"A loss must be a scalar. {received} Reduce it, with a mean or a sum over the batch.")
    return loss
