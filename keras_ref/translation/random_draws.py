"""Predict the random arrays that a Keras layer will draw in its next training call, its seed generator unchanged.

    predict_draws(keras.layers.Dropout(0.5), (2, 3))   →   {"keep": booleans (2, 3)}

The arrays have the names and shapes of the twin's `draw_shapes`. A generator gives one seed after another, so a layer
that is called twice draws twice: a `GeneratorCopies` that is passed to both calls advances with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_ref.translation.specifications import reflect_object
from scratch.arrays import Array
from scratch.fields import Shape
from scratch.model import Model

Draws = dict[str, Array]


class GeneratorCopies:
    """Copies of seed generators, advanced in place of the originals."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[Any, keras.random.SeedGenerator]] = {}

    def of(self, generator: Any) -> keras.random.SeedGenerator:
        """The copy of a generator, in the state that the calls predicted so far leave it in."""
        if id(generator) not in self._copies:
            copy = keras.random.SeedGenerator(0)
            copy.state.assign(generator.state)
            self._copies[id(generator)] = generator, copy
        return self._copies[id(generator)][1]


def predict_draws(layer: keras.layers.Layer, *shapes: Shape, copies: GeneratorCopies | None = None) -> Draws:
    """The arrays that a built Keras layer draws in its next call with training=True on inputs of these shapes.

    Empty for a layer that draws nothing. Raises: NoTwin for a layer without twin.
    """
    spec = reflect_object(layer, "layer")
    return _predict(layer, spec, spec.draw_shapes(*shapes), copies or GeneratorCopies())


def predict_model_draws(
    model: Model, layers: Mapping[str, keras.layers.Layer], shapes: Mapping[str, Shape]
) -> dict[str, Draws]:
    """{first output of a call: its draws}, as `Model.run` takes them.

    `model` is the twin, `layers` are its Keras layers by the twin's names, `shapes` those of every tensor by name (of a
    run in inference). Calls that draw nothing are left out.
    """
    copies = GeneratorCopies()
    calls = (
        (call, model.layers[call.layer].draw_shapes(*(shapes[name] for name in call.inputs))) for call in model.calls
    )
    return {
        c.outputs[0]: _predict(layers[c.layer], model.layers[c.layer], wanted, copies) for c, wanted in calls if wanted
    }


def _list_parts(layer: Any, spec: Any) -> Iterator[tuple[str, Any, Any]]:
    """(prefix of the names of its draws, Keras layer, specification) for each part of a layer that holds others."""
    if hasattr(spec, "parts"):  # Bidirectional
        yield "forward/", layer.forward_layer, spec.parts["forward"]
        yield "backward/", layer.backward_layer, spec.parts["backward"]
    elif hasattr(spec, "named"):  # StackedRNNCells
        for (name, cell), own in zip(spec.named.items(), layer.cells, strict=True):
            yield f"{name}/", own, cell
    elif hasattr(spec, "law"):  # RNN, LSTM, …
        yield spec.prefix, layer.cell, spec.law
    elif hasattr(layer, "_dropout_layer"):  # attention with heads
        yield "", layer._dropout_layer, None


def _predict(layer: Any, spec: Any, shapes: Mapping[str, Shape], copies: GeneratorCopies) -> Draws:
    """The draws of a layer, or of all its parts, by the names and shapes of `shapes`."""
    if not shapes:
        return {}
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = {name.removeprefix("layer/"): shape[1:] for name, shape in shapes.items()}
        steps = next(iter(shapes.values()))[0] or 0  # along time, which is known where arrays are
        drawn = [_predict(layer.layer, spec.layer, inner, copies) for _ in range(steps)]
        return {f"layer/{name}": np.stack([one[name] for one in drawn]) for name in inner}
    parts = list(_list_parts(layer, spec))
    if parts:
        return {
            prefix + name: array
            for prefix, part, own in parts
            for name, array in _predict(part, own, _strip_prefix(prefix, shapes), copies).items()
        }
    generator = copies.of(layer.seed_generator)
    return {name: _find_drawing_function(layer, name)(layer, generator, shape) for name, shape in shapes.items()}


def _strip_prefix(prefix: str, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _find_drawing_function(layer: Any, name: str) -> Callable[..., Array]:
    """How a layer draws the array that its twin calls `name`."""
    if name in ("dropout", "recurrent_dropout"):
        return partial(_draw_gates, rate=getattr(layer, name))
    if name == "noise":
        return _draw_noise
    return _draw_uniform if isinstance(layer, keras.layers.AlphaDropout) else _keep


def _keep(layer: Any, generator: Any, shape: Any) -> Array:
    """Where a dropout of the layer's rate keeps its input: true there."""
    rate = getattr(layer, "rate", getattr(layer, "dropout", None))
    ones = keras.ops.ones(shape, dtype=layer.compute_dtype)
    return np.asarray(keras.random.dropout(ones, rate, seed=generator)).astype(bool)


def _draw_uniform(layer: Any, generator: Any, shape: Any) -> Array:
    """Where AlphaDropout keeps its input: uniform numbers of Keras's default dtype that reach the rate."""
    return np.asarray(np.asarray(keras.random.uniform(shape, seed=generator)) >= layer.rate)


def _draw_noise(layer: Any, generator: Any, shape: Any) -> Array:
    """Standard normal numbers."""
    return np.asarray(keras.random.normal(shape, dtype=layer.compute_dtype, seed=generator))


def _draw_gates(layer: Any, generator: Any, shape: Any, *, rate: float) -> Array:
    """The masks of a recurrent cell, one after another along the first axis."""
    ones = keras.ops.ones(shape[1:], dtype=layer.compute_dtype)
    masks = [np.asarray(keras.random.dropout(ones, rate, seed=generator)) for _ in range(shape[0])]
    return np.stack(masks).astype(bool)
