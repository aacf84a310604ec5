"""What belongs to the whole process and is changed outside of the guard of verbs: put back wherever a block ends."""

import logging
import os
import signal
import sys
from collections import OrderedDict, deque
from contextlib import contextmanager, nullcontext
from itertools import count
from unittest.mock import patch

import keras
import numpy as np
import pytest
from interrupting import PLACES, tracing
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop

from keras_ref.campaign import exact_check
from keras_ref.campaign.registered import recording_gradients
from keras_ref.errors import target_stays
from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.inputs import model_files
from keras_ref.inputs.targets import import_quietly
from keras_ref.lesson import lesson
from keras_ref.minimisation import running
from keras_ref.programs import keras_backends, keras_layers
from keras_ref.programs.jax_function import computing_in_float64
from keras_ref.programs.keras_models import KerasProgram
from keras_ref.undoing import undoing


class Precise(keras_backends.KerasOnBackend):
    """The program of a Keras, as far as its float type."""

    keras = keras

    def __init__(self):
        pass


Precise.__abstractmethods__ = frozenset()


def error_stream():
    return os.fstat(2).st_ino


def floats_of_jax():
    return bool(pytest.importorskip("jax", reason="needs gradtwin[jax]").config.jax_enable_x64)


def floats_of_keras():
    return keras.config.floatx(), keras.config.dtype_policy().name


def inside(make):
    def call():
        with make():
            pass

    return call


class Slotted:
    """A class with a slot that has a value, and one that has none."""

    __slots__ = ("empty", "slot")


class Owner(Slotted):
    """An object of the user with attributes of each kind that changes in place, and one that lasts."""

    def __init__(self):
        self.slot = "before"
        self.name, self.lasting = "before", "kept"
        self.items, self.table, self.members = [1, 2], {"a": 1, "b": 2}, {1, 2}
        self.queue, self.ordered, self.array = deque([1, 2]), OrderedDict(a=1, b=2), np.ones(2)


OWNER = Owner()


def attributes():
    slots = {name: getattr(OWNER, name, "nothing") for name in Slotted.__slots__}
    return slots, {name: repr(value) for name, value in vars(OWNER).items()}


def changing_attributes():
    """All but one are put back, and that one is never taken away."""
    restoration = Restoration()
    restoration.keep_attributes(OWNER, without=("lasting",))
    with undoing(restoration.undo):
        OWNER.name = OWNER.new = OWNER.slot = OWNER.empty = "changed"
        OWNER.items[:], OWNER.array[:] = [3], 3
        for container in (OWNER.table, OWNER.members, OWNER.queue, OWNER.ordered):
            container.clear()


@contextmanager
def running_a_script():
    with (
        patch.object(running, "restore_process_state", nullcontext),  # which other tests interrupt
        running.running("import sys\nsys.path.append('elsewhere')\nsys.excepthook = print"),
    ):
        yield


LAYER = keras.layers.Identity(name="undone")
VALUE = ["before"]


def changing():
    with undoing(VALUE.__setitem__, 0, "before"):
        VALUE[0] = "changed"


#: what is changed for the time of a block → (a call that does, what says whether it is changed)
BLOCKS = {
    "anything": (changing, lambda: VALUE[0]),
    "attributes": (changing_attributes, attributes),
    "a script's path and hook": (inside(running_a_script), lambda: (list(sys.path), sys.excepthook)),
    "a limit of time": (
        inside(lambda: exact_check.time_limit(100)),
        lambda: (signal.getsignal(signal.SIGPROF), signal.getitimer(signal.ITIMER_PROF)),
    ),
    "NumPy's print options": (
        lambda: lesson._capture_print(lambda: np.set_printoptions(precision=3)),
        lambda: repr(np.get_printoptions()),
    ),
    "a layer's call": (inside(lambda: keras_layers._replaced_call(LAYER, None)), lambda: "call" in vars(LAYER)),
    "os._exit": (inside(lambda: target_stays("shop:build")), lambda: os._exit),
    "the error stream": (import_quietly, error_stream),
    "a logger": (inside(model_files._without_absl), lambda: logging.getLogger("absl").level),
    "floats of JAX": (inside(computing_in_float64), floats_of_jax),
    "floats of Keras": (inside(lambda: Precise().float_type("float64")), floats_of_keras),
    "the float type of any Keras": (inside(lambda: KerasProgram.float_type(Precise(), "float64")), floats_of_keras),
}


# a file that is open when its block is interrupted closes itself, and says so
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("name", BLOCKS)
def test_an_interruption_at_any_line_leaves_nothing_changed(name, error):
    """At each time that the block comes to a line of gradtwin's."""
    call, state = BLOCKS[name]
    places = (__file__, *PLACES)
    call()
    before, tried = state(), 0
    for wanted in count():
        numbers = count()

        def at_line(frame, wanted=wanted, numbers=numbers):
            if next(numbers) == wanted:
                raise error

        try:
            with tracing(at_line, places):
                call()
        except error:
            tried += 1
            assert state() == before, wanted
            continue
        break
    assert tried >= 8
    assert state() == before


def test_gradients_of_tensorflow_are_recorded_for_a_block():
    """What the tape calls cannot be read; that it is what it was, a second block shows, which records by itself."""
    called = []
    original = backprop._gradient_function
    pywrap_tfe.TFE_Py_RegisterGradientFunction(original)
    with pytest.raises(KeyboardInterrupt), recording_gradients() as first:
        raise KeyboardInterrupt
    x = keras.ops.convert_to_tensor(2.0)
    with backprop.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    called.append(float(tape.gradient(y, x)))
    assert called == [4.0]
    assert first == set()
