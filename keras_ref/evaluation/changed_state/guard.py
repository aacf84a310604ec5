"""Around each public verb: one check at a time, and everything is undone before a signal, or anything else, gets out.

A check lets a model, Keras and TensorFlow be something else for a while. Therefore

- a lock lets one check run in a process; a second one, of this model or another, waits;
- a signal (Ctrl-C) interrupts a check where that does no harm (held_signals.py). Those that follow at once, and those
  that come while changes are undone, are held back, and delivered when everything is as it was;
- a callback for progress is called at least once a second, whatever the verb does (scratch/progress.py);
- the undo steps are run twice from nested `finally` blocks, so that an interruption of the first run is made up for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common.stateless_scope import in_stateless_scope
from tensorflow.python import pywrap_tfe
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.autograph.impl.api import autograph_artifact
from tensorflow.python.eager import context
from tensorflow.python.framework import ops
from tensorflow.python.ops.script_ops import FuncRegistry

from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.held_signals import HeldSignals, is_in_handler
from keras_ref.evaluation.changed_state.kept_process import keep_process
from keras_ref.evaluation.changed_state.reached_resources import keep_reached_resources
from keras_ref.evaluation.changed_state.reached_variables import find_outermost_frame, keep_reached_variables
from keras_ref.evaluation.changed_state.restoration import Restoration, keep_warnings
from keras_ref.undoing import let_packages_warn
from scratch.nudging.blocks import count_blas_contexts, end_blas_contexts
from scratch.progress import Progress, is_repeating, ticking

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

#: what building a layer changes for good: names that are taken, and the generator that initializers draw from
LASTING = ("object_name_uids", "global_seed_generator")
#: what TensorFlow's eager context keeps for each thread, and a block that was cut off may leave changed
EAGER = ("is_eager", "device_name", "device_spec", "scope_name")

#: options of a verb that are its caller's: they are meant to change what is the caller's
ITS_CALLERS = ("progress", "executor")
#: arguments that hold numbers, and are no objects with code
DATA = (list, tuple, dict, np.ndarray, tf.Tensor)
#: held by the thread that checks
_LOCK = threading.RLock()


class Guard:
    """What is taken when a verb begins, and given back when it ends."""

    def __init__(self) -> None:
        self._signals = HeldSignals()
        self._restoration = Restoration()
        self._is_outermost = not _LOCK._is_owned()  # type: ignore[attr-defined]

    def begin(self, given: Iterable[Any], callers: Sequence[Any]) -> None:
        """Hold signals and the lock, and remember what belongs to this thread, and what the given objects lead to.

        Raises: BadInput in a graph, and where another check waits: in the handler of a signal, or a callback repeated.
        """
        if is_in_handler():
            raise BadInput(
                "A check must not run in the middle of another one. Received: a call in the handler of a signal that "
                "came during a check. Let the handler note that the signal came, and check later."
            )
        if is_repeating():  # the other thread, which has the lock, waits for this one to report
            raise BadInput(
                "A check must not run in the middle of another one. Received: a call in the progress callback of a "
                "check, which a thread repeats meanwhile. Let the callback note what it is told, and check later."
            )
        self._signals.install()
        _LOCK.acquire()
        require_eager()
        self._restoration.__enter__()
        keep_thread(self._restoration)
        keep_warnings(self._restoration)
        let_packages_warn()
        keep_reached_variables(self._restoration)
        if self._is_outermost:
            keep_process(self._restoration)
            keep_reached_resources(self._restoration)
            self._restoration.keep_reached(*given, callers=callers)

    def end(self) -> None:
        """Undo everything, and let go. A second call does what an interrupted first one has left."""
        self._signals.held = True
        try:
            self._restoration.undo()
        finally:
            self._restoration.leave()
            # an interrupted acquire() does not say whether it has acquired
            while self._is_outermost and _LOCK._is_owned():  # type: ignore[attr-defined]
                _LOCK.release()
            self._signals.remove()


def leaves_no_trace(verb: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorator of a verb: whatever ends it, all that is the user's is afterwards what it was."""

    @wraps(verb)
    def guarded(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        guard = Guard()
        try:
            try:
                guard.begin(*_list_objects(arguments, options))
                with ticking(cast("Progress | None", options.get("progress")), "preparing") as progress:
                    if progress is not None:
                        options["progress"] = progress
                    return verb(*arguments, **options)
            finally:
                guard.end()
        finally:
            guard.end()

    # AutoGraph, which rewrites what a tf.function calls, leaves a verb and all that it calls as they are
    return cast("Callable[Parameters, Result]", autograph_artifact(guarded))


def _list_objects(arguments: Sequence[Any], options: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """The objects and functions among the arguments of a verb, and those that tell or compute for its caller."""
    given = [*arguments, *(value for name, value in options.items() if name not in ITS_CALLERS)]
    callers = [options[name] for name in ITS_CALLERS if options.get(name) is not None]
    return [value for value in given if not isinstance(value, DATA)], callers


def require_eager() -> None:
    """Raises: BadInput inside a tf.function or a scope in which variables are something else."""
    switches = context.context().context_switches.stack
    if not tf.executing_eagerly() or any(one.is_building_function for one in switches):  # lifted out by tf.init_scope
        raise BadInput(
            "A check must run eagerly. Received: a call inside a tf.function or a graph. Call it outside of that."
        )
    if find_outermost_frame().f_code is FuncRegistry.__call__.__code__:
        raise BadInput(
            "A check must not run in a thread that TensorFlow needs to run it. Received: a call inside a "
            "tf.py_function or tf.numpy_function of a tf.function or data set. Call it outside of that."
        )
    if tf.distribute.has_strategy():
        name = type(tf.distribute.get_strategy()).__name__
        raise BadInput(
            f"A check must run outside of a distribution scope. Received: a call inside that of {name}. Leave the "
            "scope, or build the model without it."
        )

    if in_stateless_scope():
        raise BadInput(
            "A check must run where variables have values of their own. Received: a call inside a "
            "keras.StatelessScope, which would keep what the check writes. Call it outside of that."
        )


def keep_thread(restoration: Restoration) -> None:
    """Remember what this thread has that a block which is cut off may leave changed."""
    restoration.undo_by(np.seterrcall, np.geterrcall())
    restoration.undo_by(partial(np.seterr, **np.geterr()))
    restoration.undo_by(end_blas_contexts, count_blas_contexts())
    restoration.keep_attributes(global_state.GLOBAL_STATE_TRACKER, without=LASTING)
    # TensorFlow has no public access to these stacks, and none to end what was left open on them
    restoration.keep_list(ops._default_graph_stack.stack)
    restoration.keep_list(context.context().context_switches.stack)
    restoration.keep_list(ag_ctx._control_ctx())
    local = context.context()._thread_local_data
    for name in EAGER:
        restoration.undo_by(setattr, local, name, getattr(local, name))
    local.scope_name = ""  # a copy of a variable has its name, whatever scope of names the check is called in
    restoration.undo_by(_let_tapes_record, not pywrap_tfe.TFE_Py_TapeSetIsStopped())
    pywrap_tfe.TFE_Py_TapeSetRestartOnThread()  # also in a tf.init_scope, in which no tape sees anything
    eagerly = tf.config.functions_run_eagerly()
    restoration.undo_by(tf.config.run_functions_eagerly, eagerly)


def _let_tapes_record(is_on: bool) -> None:  # noqa: FBT001 (an undo step has no keywords)
    """Let the tapes of this thread record what is computed, or not."""
    if is_on:
        pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
    else:
        pywrap_tfe.TFE_Py_TapeSetStopOnThread()
