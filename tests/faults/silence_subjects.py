"""What is measured to be silent, by name: each takes long, in a way of its own."""

import contextlib
import os
import pty
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from shop_text import SHOP
from subjects import WrongSquare
from test_eager_only import Looks
from test_unused_rows import HOLDERS
from test_unused_rows_of_steps import Stepping, of_keras_2

import keras_ref
from keras_ref import check_function, check_gradients, check_layer, check_updates, compare, minimise
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.lesson.lesson import make as make_lesson
from keras_ref.minimisation.operations import minimise_operation
from keras_ref.reports.escaping import make_printable


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


class ManyLayers(keras.Model):
    """So many layers, one after another; Keras itself cannot build as long a Sequential."""

    def __init__(self, count=1000):
        super().__init__(name="many")
        self.parts = [keras.layers.Dense(1, name=f"dense_{i}") for i in range(count)]

    def call(self, x):
        for layer in self.parts:
            x = layer(x)
        return x


def many_layers():
    model = ManyLayers()
    model.compile(optimizer="sgd", loss="mse")
    return model, np.ones((2, 1)), np.ones((2, 1))


def with_itself(make, **options):
    """A comparison of two such models."""
    (model, x, y), (other, *_) = make(), make()
    return lambda progress: compare(model, other, x, y, progress=progress, **options)


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


def wrong_gradients(**options):
    """A model of 65 units whose second layer has a wrong gradient."""
    layers = [keras.layers.Dense(64, "tanh"), WrongSquare(name="wrong"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((64,)), *layers], name="model")
    model.compile(optimizer="sgd", loss="mse")
    g = np.random.default_rng(0)
    x, y = g.normal(size=(8, 64)), g.normal(size=(8, 1))
    return lambda progress: check_gradients(model, x, y, progress=progress, **options)


def eager_only(**options):
    """A layer of which no graph can be traced, with a wrong gradient."""
    layer, x = Looks(wrong=0.5, name="looks"), np.linspace(0.1, 1.0, 24).reshape(4, 6)
    return lambda progress: check_layer(layer, x, progress=progress, **options)


#: seconds that code of a user takes, each time
SLEEP = 3.0


def sleeping_forward():
    """A layer whose forward pass alone takes longer than a tick may; it runs eagerly alone."""

    class Sleeping(keras.layers.Layer):
        def call(self, x):
            x.numpy()
            time.sleep(SLEEP)
            return x * x

    return lambda progress: check_layer(Sleeping(), np.ones((1, 1)), progress=progress, most=1, effort="fast")


def sleeping_backward():
    """A function whose backward pass takes longer than a tick may."""

    @tf.custom_gradient
    def square(x):
        def backward(upstream):
            time.sleep(SLEEP if tf.executing_eagerly() else 0)
            return 2 * x * upstream

        return x * x, backward

    return lambda progress: check_function(square, np.ones(2), progress=progress, most=1)


def wide_layers(**options):
    """A model of some 20,000 weights."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(100, "tanh"), keras.layers.Dense(100, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((100,)), *layers], name="wide")
    model.compile(optimizer="sgd", loss="mse")
    g = np.random.default_rng(0)
    return model, g.normal(size=(16, 100)), g.normal(size=(16, 1))


def large_data():
    """A check of few weights on a data file of 200 MB."""
    folder = Path(tempfile.mkdtemp())
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1)], name="few")
    model.compile(optimizer="sgd", loss="mse")
    model.save(folder / "few.keras")
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=(400_000, 64)), y=np.ones((400_000, 1)))
    options = {"effort": "fast", "wrt": ["weights"]}
    invocation = Invocation("check", (str(folder / "few.keras"),), str(folder / "data.npz"), options)
    return lambda progress: invocation.run(str(folder / "few.keras"), progress)


def on_a_terminal(*arguments, first=()):
    """A command on a terminal of its own, which ticks whenever it writes there.

    first   arguments of a command that is run before, silently
    """
    folder = tempfile.mkdtemp()
    Path(folder, "recipe_shop.py").write_text(SHOP)
    places = os.pathsep.join([folder, str(Path(keras_ref.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": places, "TERM": "xterm"}
    start = [sys.executable, "-m", "keras_ref"]
    if first:
        subprocess.run([*start, *first], env=environment, cwd=folder, check=False, capture_output=True)

    def call(progress):
        ours, theirs = pty.openpty()
        command = [*start, *arguments]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=folder):
            os.close(theirs)
            with contextlib.suppress(OSError):  # Linux ends a terminal that nobody has open with an error
                while text := os.read(ours, 4096):
                    progress(0, 1, make_printable(text.decode(errors="replace")[-60:]))
        os.close(ours)

    return call


def small_rows():
    """A model of some thousand weights."""
    _, x, y = wide_layers()
    small = keras.Sequential([keras.Input((100,)), keras.layers.Dense(10, "tanh"), keras.layers.Dense(1)], name="small")
    small.compile(optimizer="adam", loss="mse")
    return small, x, y


#: shown by a script each
FINDINGS = ("celu-has-slope-two-at-zero", "gelu-has-float32-constants")
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
    "a notebook on a terminal": lambda: on_a_terminal("lesson", "recipe1", "--notebook", "lesson.ipynb"),
    "a recipe on a terminal": lambda: on_a_terminal("recipe", "recipe1", "--epochs", "1000"),
    "a comparison on a terminal": lambda: on_a_terminal("compare", "recipe_shop:build", "recipe_shop:build"),
    "a campaign on a terminal": lambda: on_a_terminal("campaign", "tensorflow.math.xlogy", "keras.ops.square"),
    "homework on a terminal": lambda: on_a_terminal("homework", "exercises", first=("homework", "--new", "exercises")),
    "coverage --run on a terminal": lambda: on_a_terminal("coverage", "--run"),
    "two findings on a terminal": lambda: on_a_terminal("findings", *FINDINGS),
    "replay on a terminal": lambda: on_a_terminal(
        "replay", "report.json", first=("check", "recipe_shop:wrong", "--json", "report.json")
    ),
    "minimise on a terminal": lambda: on_a_terminal("minimise", "recipe_shop:wrong", "--time", "10s"),
    "check and minimise on a terminal": lambda: on_a_terminal("check", "recipe_shop:wrong", "--minimise"),
    "a comparison with JAX on a terminal": lambda: on_a_terminal(
        "compare", "recipe_shop:network", "keras-jax:recipe_shop:network"
    ),
    "a comparison with Keras 2 on a terminal": lambda: on_a_terminal(
        "compare", "recipe_shop:network", "keras2:recipe_shop:of_keras_2"
    ),
    "a check of Keras on JAX on a terminal": lambda: on_a_terminal("check", "recipe_shop:build", "--backend", "jax"),
    "20,000 weights": lambda: gradients_of(wide_layers),
    "20,000 weights, a budget of 5 s": lambda: gradients_of(wide_layers, budget=5),
    "20,000 weights, updates": lambda: updates_of(wide_layers, steps=1),
    "20,000 weights, second order, forward mode": lambda: gradients_of(
        wide_layers, order=2, forward_mode=True, effort="fast"
    ),
    "20,000 weights, three modes": lambda: gradients_of(
        wide_layers, modes=("eager", "function", "jit_compile"), effort="fast"
    ),
    "1,000 weights in many digits": lambda: gradients_of(small_rows, digits=True),
    "30 training steps": lambda: updates_of(small_rows, steps=30),
    "1,000 layers, gradients fast": lambda: gradients_of(many_layers, effort="fast"),
    "a wrong gradient, entry by entry": wrong_gradients,
    "a wrong gradient, along directions": lambda: wrong_gradients(effort="fast"),
    "a wrong gradient, that runs only eagerly": eager_only,
    "a forward pass of 3 s": sleeping_forward,
    "a backward pass of 3 s": sleeping_backward,
    "a data file of 200 MB": large_data,
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
