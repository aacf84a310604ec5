"""Calls of the user's tf.functions, concrete functions and SavedModels while the objects that they read are changed.

A trace holds the handles of the variables that it was made with, and whatever tensors stood in their places then. So
while Keras objects compute in another precision every tf.function is traced anew, into a cache of its own that is
forgotten afterwards. What cannot be traced anew (a concrete function, a SavedModel) keeps its variables: it is refused
where those were replaced, so that the check goes on in the precision that they have.
"""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import tensorflow as tf
from keras.src.backend.common.stateless_scope import in_stateless_scope
from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
from tensorflow.python.eager.polymorphic_function.function_type_utils import make_function_type
from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function
from tensorflow.python.saved_model.function_deserialization import RestoredFunction

from keras_ref.errors import UserCodeFailed
from keras_ref.evaluation.changed_state.held_signals import OWN as PLACES
from keras_ref.evaluation.changed_state.held_signals import PYTHON, TENSORFLOW
from keras_ref.evaluation.changed_state.reached_variables import is_computing_for
from keras_ref.evaluation.changed_state.restoration import Restoration
from scratch.arrays import Array

#: modules whose functions are traced in the block that uses them, and need no second trace
OWN = ("keras_ref.", "scratch.")
#: lists of the names of functions that were called past a StatelessScope, one for each `recording_scope_leaks`
_RECORDS: list[list[str]] = []
#: the blocks that are running, the inner one last
_BLOCKS: list[_Block] = []


class PrecisionIsFixed(UserCodeFailed):
    """A traced function reads a variable in the precision that it was traced with."""


@contextmanager
def recording_scope_leaks() -> Iterator[list[str]]:
    """While the block runs, names of traced functions that are called inside a StatelessScope and capture anything.

    What they capture is what their variables held when they were traced: values that the scope gives to Keras variables
    do not reach them, and what they write does not stay in it.
    """
    found: list[str] = []
    with Restoration() as restoration:
        restoration.keep_list(_RECORDS)
        _RECORDS.append(found)
        yield found


def find_variables_met() -> list[tuple[Any, Array]]:
    """(variable, value) of the variables that functions called in this block read or write, their values before."""
    return list(_BLOCKS[-1].met.values()) if _BLOCKS else []


def take_note_of_call(function: Any) -> None:
    """Take note of a concrete function that is called by its name, as of every other call. Raises: PrecisionIsFixed."""
    for block in _BLOCKS[-1:]:
        block.meet(function, function.captured_inputs)


def trace_anew(restoration: Restoration, replaced: Mapping[int, str], dtype: str | None) -> None:
    """Until the restoration, let every tf.function be traced anew, and refuse traces that read replaced variables.

    The variables that are read or written through functions get their values back.

    replaced   the names of variables that have a copy in their place, by the identity of their handles; may grow
    dtype      that of floats in input signatures; None leaves them as they are
    """
    block = _Block(restoration, replaced, dtype)
    restoration.keep_list(_BLOCKS)
    _BLOCKS.append(block)
    call, concrete, flat = Function.__call__, Function.get_concrete_function, ConcreteFunction._call_flat

    thread = threading.get_ident()

    def called(function: Any, *arguments: Any, **keywords: Any) -> Any:
        return call(block.make_clone(function) if is_computing_for(thread) else function, *arguments, **keywords)

    def made_concrete(function: Any, *arguments: Any, **keywords: Any) -> Any:
        return concrete(block.make_clone(function) if is_computing_for(thread) else function, *arguments, **keywords)

    def called_flat(function: Any, tensor_inputs: Any, captured_inputs: Any) -> Any:
        if is_computing_for(thread):
            block.meet(function, captured_inputs)
        return flat(function, tensor_inputs, captured_inputs)

    _patch(restoration, Function, "__call__", called)
    _patch(restoration, Function, "get_concrete_function", made_concrete)
    _patch(restoration, ConcreteFunction, "_call_flat", called_flat)


@dataclass(eq=False)
class _Block:
    """What one block of `trace_anew` knows.

    clones   tf.functions without the traces that they had
    met      (variable, its value before) of the variables that concrete functions read or write, by identity
    """

    restoration: Restoration
    replaced: Mapping[int, str]
    dtype: str | None
    clones: weakref.WeakKeyDictionary[Any, Any] = field(default_factory=weakref.WeakKeyDictionary)
    met: dict[int, tuple[Any, Array]] = field(default_factory=dict)

    def make_clone(self, function: Any) -> Any:
        """The function to call in the place of a tf.function."""
        if isinstance(function, RestoredFunction) or _is_own(function):
            return function
        if in_stateless_scope():  # such a trace lacks what it would write elsewhere
            return _clone(function, self.dtype)
        if function not in self.clones:
            self.clones[function] = _clone(function, self.dtype)
        return self.clones[function]

    def meet(self, function: Any, captured: Any) -> None:
        """Take note of a call of a concrete function. Raises: PrecisionIsFixed."""
        for tensor in captured:
            if id(tensor) in self.replaced:
                raise PrecisionIsFixed(
                    f"the traced function {function.name} reads {self.replaced[id(tensor)]} in the precision that it "
                    "was traced with."
                )
        if captured and _RECORDS and in_stateless_scope():
            _RECORDS[-1].append(str(function.name))
        for tensor in captured:  # the handle of a table, which is a resource of Python's then
            table = getattr(tensor, "_parent_trackable", lambda: None)()
            getattr(table, "resource_handle", None)  # which is remembered where it is taken
        for variable in function.graph.variables:
            if id(variable) not in self.met:
                with tf.init_scope():
                    self.met[id(variable)] = variable, variable.numpy()
                self.restoration.keep_value(variable)


def _patch(restoration: Restoration, owner: type, name: str, function: Callable[..., Any]) -> None:
    restoration.undo_by(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, function)


def _is_own(function: Any) -> bool:
    module = getattr(function.python_function, "__module__", None) or ""
    return module.startswith(OWN)


def _clone(function: Any, dtype: str | None) -> Any:
    """The same tf.function, not traced yet, its input signature in another precision."""
    clone, signature = function._clone(None), function.input_signature  # TensorFlow forgets traces in no public way
    if dtype is not None and signature:
        moved = tf.nest.map_structure(lambda spec: _convert_spec(spec, dtype), signature)
        clone._function_type, clone._default_values = make_function_type(function.python_function, moved)
    clone._omit_frequent_tracing_warning = True
    return clone


def _convert_spec(spec: Any, dtype: str) -> Any:
    """A tensor's specification with another dtype where it is a floating one."""
    if isinstance(spec, tf.TensorSpec) and spec.dtype.is_floating:
        return tf.TensorSpec(spec.shape, dtype, spec.name)
    return spec


class _NoRetracingAdvice(logging.Filter):
    """Drops TensorFlow's advice against retracing where code of gradtwin's calls what is traced: each check traces
    functions of its own, on purpose.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if "tf.function retracing" not in record.getMessage():
            return True
        caller: FrameType | None = sys._getframe(1)
        while caller is not None and caller.f_code.co_filename.startswith((TENSORFLOW, *PYTHON)):
            caller = caller.f_back
        return caller is None or not caller.f_code.co_filename.startswith(PLACES)


tf.get_logger().addFilter(_NoRetracingAdvice())
