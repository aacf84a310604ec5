"""Variables that a user's code reaches by itself (closures, helpers, random generators) get their values back.

No attribute of a layer need lead to such a variable. Whoever reads or writes one takes its handle first, in a trace, in
an eager call, and in Python that a graph calls: its value is remembered then, before it can change.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from tensorflow.python.framework import ops
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable
from tensorflow.python.ops.script_ops import FuncRegistry

from keras_ref.evaluation.changed_state.restoration import Restoration
from scratch.nudging.blocks import count_blas_contexts


def keep_reached_variables(restoration: Restoration) -> None:
    """Remember, until the restoration, the value of each variable there is now when its handle is first taken.

    Only this thread, and those that compute for it, count: another one may go on to train another model.
    """
    kept: set[str] = set()
    newest, thread, original = ops.uid(), threading.get_ident(), BaseResourceVariable.handle

    def handle(variable: Any) -> Any:
        name = variable._unique_id
        if name not in kept and _is_older(name, newest) and is_computing_for(thread):
            kept.add(name)  # before it is read, by its handle
            if ops.executing_eagerly_outside_functions():
                restoration.keep_value(variable)
        return original.fget(variable)

    restoration.undo_by(setattr, BaseResourceVariable, "handle", original)
    BaseResourceVariable.handle = property(handle)


def _is_older(name: str, newest: int) -> bool:
    """Whether a variable was made before a number of TensorFlow's count, with which its unique name ends.

    What a check makes itself needs no restoration; to remember it would keep its memory.
    """
    number = name.rpartition("_")[2]
    return not number.isdecimal() or int(number) < newest


def is_computing_for(thread: int) -> bool:
    """Whether the present thread is the one given, computes a block of losses, or is one of TensorFlow's that calls
    Python for whoever waits. Any other may train another model meanwhile, which is to be left alone.
    """
    return (
        threading.get_ident() == thread
        or count_blas_contexts() > 0  # in which every block is computed, whoever's the thread is
        or find_outermost_frame().f_code is FuncRegistry.__call__.__code__
    )


def find_outermost_frame() -> FrameType:
    """The frame that this thread began with. A thread of TensorFlow's begins with what it calls."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    return frame
