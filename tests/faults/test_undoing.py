"""What belongs to the whole process and is changed outside of the guard of verbs: put back wherever a block ends."""

import logging
import os
from itertools import count

import keras
import pytest
from interrupting import PLACES, tracing
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop

from keras_ref.campaign.registered import recording_gradients
from keras_ref.errors import target_stays
from keras_ref.inputs import model_files
from keras_ref.inputs.targets import import_quietly
from keras_ref.programs import keras_backends
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
    return bool(pytest.importorskip("jax").config.jax_enable_x64)


def floats_of_keras():
    return keras.config.floatx(), keras.config.dtype_policy().name


def inside(make):
    def call():
        with make():
            pass

    return call


VALUE = ["before"]


def changing():
    with undoing(VALUE.__setitem__, 0, "before"):
        VALUE[0] = "changed"


#: what is changed for the time of a block → (a call that does, what says whether it is changed)
BLOCKS = {
    "anything": (changing, lambda: VALUE[0]),
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
