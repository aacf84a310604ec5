"""Kinds that come from a file, registered beside those of model_kinds.py: SavedModels as tf.saved_model.load, TFSMLayer
and keras.export make them. They keep a backward pass of their own where they are saved with
`experimental_custom_gradients`.
"""

from __future__ import annotations

import tempfile
from typing import Any

import keras
import tensorflow as tf
from given_kinds import of_function, squared
from model_kinds import Made, X, Y, dense, drawn, kind

KEEPS_GRADIENTS = tf.saved_model.SaveOptions(experimental_custom_gradients=True)


class Saved(tf.Module):
    """w² · tanh(x)², counted, beside a moving average of what it has seen, in float32 as what is trained is."""

    def __init__(self, wrong: float) -> None:
        super().__init__()
        self.w = tf.Variable(drawn(3), dtype="float32", name="w")
        self.calls = tf.Variable(0, trainable=False, name="calls")
        self.average = tf.Variable(0.0, trainable=False, name="average")
        self.square = squared(wrong)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], "float32")])
    def __call__(self, x: Any) -> Any:
        self.calls.assign_add(1)
        self.average.assign(0.9 * self.average + 0.1 * tf.reduce_mean(x))
        return self.square(tf.convert_to_tensor(self.w)) * self.square(tf.tanh(x))


def reloaded(wrong: float) -> Any:
    """A module that has been saved and loaded again. Its precision is that of the file: float32 sees no 1e-4."""
    with tempfile.TemporaryDirectory() as folder:
        module = Saved(1000 * wrong)
        tf.saved_model.save(module, folder, options=KEEPS_GRADIENTS)
        return tf.saved_model.load(folder)


@kind("a SavedModel, loaded again")
def _(wrong: float) -> Made:
    module = reloaded(wrong)
    return Made(module, X.astype("float32"), None, {"variables": [module.w]}, of_function)


@kind("a SavedModel's signature")
def _(wrong: float) -> Made:
    with tempfile.TemporaryDirectory() as folder:
        module = Saved(1000 * wrong)
        tf.saved_model.save(module, folder, signatures=module.__call__, options=KEEPS_GRADIENTS)
        loaded = tf.saved_model.load(folder)
    serve = loaded.signatures["serving_default"]

    def call(x: Any) -> Any:
        return serve(x=x)["output_0"]

    call.module = loaded  # a signature holds its variables weakly
    return Made(call, X.astype("float32"), None, {"variables": [loaded.w]}, of_function)


class Loaded(keras.layers.Layer):
    """A layer around a loaded SavedModel, whose variables are its own."""

    def __init__(self, module: Any, **options: Any) -> None:
        super().__init__(**options)
        self.module = module

    def call(self, x: Any) -> Any:
        return self.module(tf.cast(x, "float32"))


@kind("a SavedModel inside a layer of a model")
def _(wrong: float) -> Made:
    model = keras.Sequential([keras.Input((3,)), dense(3), Loaded(reloaded(wrong)), dense(3, None)])
    model.compile(loss="mse")
    return Made(model, X, drawn(4, 3))


def exported(wrong: float, folder: str) -> None:
    """Export a Keras model, with its backward pass."""
    square = squared(1000 * wrong)
    model = keras.Sequential([keras.Input((3,)), dense(3), keras.layers.Lambda(square), dense(2, None)])
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.__call__, [tf.TensorSpec((None, 3), "float32")])
    archive.write_out(folder, options=KEEPS_GRADIENTS, verbose=False)


@kind("an exported model as a TFSMLayer")
def _(wrong: float) -> Made:
    with tempfile.TemporaryDirectory() as folder:
        exported(wrong, folder)
        layer = keras.layers.TFSMLayer(folder, call_endpoint="serve", trainable=True)
        model = keras.Sequential([keras.Input((3,)), dense(3), layer])
    model.compile(loss="mse")
    return Made(model, X, Y)


@kind("an exported model, loaded again")
def _(wrong: float) -> Made:
    with tempfile.TemporaryDirectory() as folder:
        exported(wrong, folder)
        loaded = tf.saved_model.load(folder)
    return Made(loaded.serve, X.astype("float32"), None, {"variables": list(loaded.variables)}, of_function)
