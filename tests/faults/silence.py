"""How long the verbs are silent: the longest time between two calls of their progress callback.

python tests/faults/silence.py [name …] measures the subjects of these names, all without one.
"""

import contextlib
import os
import pty
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from subjects import WrongSquare
from test_unused_rows import HOLDERS
from test_unused_rows_of_steps import Stepping, of_keras_2

import keras_ref
from keras_ref import check_function, check_gradients, check_layer, check_updates, compare, minimise
from keras_ref.frontends.invocation import Invocation
from keras_ref.lesson.lesson import make as make_lesson
from keras_ref.minimisation.operations import minimise_operation
from keras_ref.reports.escaping import make_printable

#: seconds without a tick that a verb may take
SILENCE = 2.0


@dataclass
class Ticks:
    """A progress callback that remembers when it was called, and with what."""

    times: list = field(default_factory=lambda: [time.monotonic()])
    said: list = field(default_factory=lambda: ["beginning"])

    def __call__(self, done, total, what):
        self.times.append(time.monotonic())
        self.said.append(what)

    @property
    def longest(self):
        """(seconds of the longest silence, what was said before it); until now."""
        gaps = np.diff([*self.times, time.monotonic()])
        worst = int(np.argmax(gaps))
        return float(gaps[worst]), self.said[worst]

    @property
    def seconds(self):
        """From the first call to now."""
        return time.monotonic() - self.times[0]


def rows(count=1_000_000, width=8):
    """A model with a large embedding, and a batch of two."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Embedding(count, width), keras.layers.Flatten(), keras.layers.Dense(1, "tanh")]
    model = keras.Sequential([keras.Input((3,), dtype="int32"), *layers], name="rows")
    model.compile(optimizer="adam", loss="mse")
    return model, np.array([[7, 70, 3], [3, 50, 0]]), np.array([[1.0], [0.5]])


def variables(count=1000):
    """A model of so many variables, and a batch of two."""
    layers = [keras.layers.Dense(1, name=f"dense_{i}") for i in range(count // 2)]
    model = keras.Sequential([keras.Input((1,)), *layers], name="variables")
    model.compile(optimizer="sgd", loss="mse")
    return model, np.ones((2, 1)), np.ones((2, 1))


def with_itself(make, **options):
    """A comparison of two such models."""
    model, x, y = make()
    return lambda progress: compare(model, make()[0], x, y, progress=progress, **options)


def gradients_of(make, **options):
    model, x, y = make()
    return lambda progress: check_gradients(model, x, y, progress=progress, **options)


def updates_of(make, **options):
    model, x, y = make()
    return lambda progress: check_updates(model, x, y, progress=progress, **options)


def rows_in(holder):
    """A check of a million rows, as test_unused_rows has it."""
    callbacks = []

    def told(*now):
        callbacks[0](*now)

    _, check = HOLDERS[holder](1_000_000, progress=told)

    def call(progress):
        callbacks.append(progress)
        check()

    return call


def large(make):
    """A model of a million rows, and a batch of two."""
    return lambda: (make(1_000_000), np.array([[7, 70, 3], [3, 50, 0]]), np.array([[1.0], [0.5]]))


def slow_layer():
    """A recurrent layer over 300 steps, unrolled."""
    layer, x = keras.layers.LSTM(2, unroll=True, name="slow"), np.linspace(-1, 1, 1200).reshape(2, 300, 2)
    return lambda progress: check_layer(layer, x, progress=progress, most=2)


def slow_function():
    """Singular values of a large matrix."""
    x = np.random.default_rng(0).normal(size=(400, 400))
    return lambda progress: check_function(
        lambda matrix: tf.linalg.svd(matrix, compute_uv=False), x, progress=progress, most=1
    )


def large_file():
    """A .keras file of 256 MB, loaded and checked."""
    folder = tempfile.mkdtemp()
    path = str(Path(folder) / "large.keras")
    model = rows(1_000_000, 64)[0]
    model.save(path)
    np.savez(Path(folder) / "data.npz", x=np.array([[7, 70, 3]]), y=np.array([[1.0]]))
    invocation = Invocation("check", (path,), str(Path(folder) / "data.npz"), {"effort": "fast"})
    return lambda progress: invocation.run(path, progress)


def small_case():
    """A wrong layer of a model of five."""
    layers = [*(keras.layers.Dense(3, "tanh") for _ in range(4)), WrongSquare(name="wrong")]
    model = keras.Sequential([keras.Input((3,)), *layers], name="model")
    model.compile(optimizer="sgd", loss="mse")
    x, y = np.arange(6.0).reshape(2, 3) / 8, np.ones((2, 3))
    return lambda progress: minimise(model, x, y, seconds=15, progress=progress)


SHOP = """
import keras, numpy as np

def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model, np.ones((2, 2)), np.ones((2, 1))

other = build
"""


def on_a_terminal(*arguments):
    """A command on a terminal of its own, which ticks whenever it writes there."""
    folder = tempfile.mkdtemp()
    Path(folder, "recipe_shop.py").write_text(SHOP)
    places = os.pathsep.join([folder, str(Path(keras_ref.__file__).parents[1])])

    def call(progress):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "keras_ref", *arguments]
        environment = {**os.environ, "PYTHONPATH": places, "TERM": "xterm"}
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=folder):
            os.close(theirs)
            with contextlib.suppress(OSError):  # Linux ends a terminal that nobody has open with an error
                while text := os.read(ours, 4096):
                    progress(0, 1, make_printable(text.decode(errors="replace")[-60:]))
        os.close(ours)

    return call


#: name → make() → call(progress)
SUBJECTS = {
    "a command on a terminal": lambda: on_a_terminal("check", "recipe_shop:build"),
    "an isolated command on a terminal": lambda: on_a_terminal("check", "recipe_shop:build", "--isolate"),
    "a check with workers on a terminal": lambda: on_a_terminal("check", "recipe_shop:build", "--workers", "2"),
    "two isolated targets on a terminal": lambda: on_a_terminal(
        "check", "recipe_shop:build", "recipe_shop:other", "--isolate", "--workers", "2"
    ),
    "updates on a terminal": lambda: on_a_terminal("updates", "recipe_shop:build"),
    "locate on a terminal": lambda: on_a_terminal("locate", "recipe_shop:build"),
    "a lesson on a terminal": lambda: on_a_terminal("lesson", "recipe1", "--output", "lesson.html"),
    "a comparison on a terminal": lambda: on_a_terminal("compare", "recipe_shop:build", "recipe_shop:build"),
    "a campaign on a terminal": lambda: on_a_terminal("campaign", "tensorflow.math.xlogy", "keras.ops.square"),
    "a million rows, gradients": lambda: gradients_of(rows),
    "a million rows, gradients fast": lambda: gradients_of(rows, effort="fast"),
    "a million rows, updates": lambda: updates_of(rows, steps=1),
    "a million rows, a layer": lambda: rows_in("layer"),
    "a million rows, a function": lambda: rows_in("function"),
    "a million rows, gradients of Keras 2": lambda: rows_in("Keras 2"),
    "a million rows, updates of Keras 2": lambda: updates_of(large(of_keras_2), steps=1),
    "a million rows, a train_step of its own": lambda: updates_of(large(Stepping), steps=1),
    "a million rows, compare": lambda: with_itself(rows, steps=1),
    "1,000 variables, gradients": lambda: gradients_of(variables),
    "1,000 variables, gradients fast": lambda: gradients_of(variables, effort="fast"),
    "1,000 variables, updates": lambda: updates_of(variables, steps=1),
    "1,000 variables, compare": lambda: with_itself(variables, steps=1),
    "a file of 256 MB": large_file,
    "a recurrent layer of 300 steps": slow_layer,
    "singular values of 400 × 400": slow_function,
    "a minimisation": small_case,
    "the minimisation of an operation": lambda: (
        lambda progress: minimise_operation("tensorflow.math.xlogy", seconds=10, progress=progress)
    ),
    "a lesson": lambda: lambda progress: make_lesson("recipe1", progress=progress),
}


def measure(name):
    """The ticks of a subject's verb."""
    call = SUBJECTS[name]()
    ticks = Ticks()
    try:
        call(ticks)
    except Exception as error:  # noqa: BLE001 (what is measured is how long it was silent, whatever ends it)
        ticks.said[-1] += f"; ended by {type(error).__name__}: {error}"[:200]
    return ticks


if __name__ == "__main__":
    print("| what | seconds | longest silence | after |\n|---|---:|---:|---|")
    for each in sys.argv[1:] or SUBJECTS:
        found = measure(each)
        with contextlib.suppress(BrokenPipeError):
            print(f"| {each} | {found.seconds:.0f} | {found.longest[0]:.1f} | {found.longest[1]} |", flush=True)
