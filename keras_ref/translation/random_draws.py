"""What a random layer of Keras will draw in its next training call, told in advance: its seed generator stays as it is.

    predict_draws(keras.layers.Dropout(0.5), (2, 3))   →   {"keep": booleans (2, 3)}

The arrays have the names and shapes of the twin's `draw_shapes`. A generator hands out one seed after another, so a layer
that is called twice draws twice: an `Ahead` that is passed to both calls counts along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_ref.translation.from_keras import reflected
from scratch.fields import Shape
from scratch.model import Model

Draws = dict[str, np.ndarray]


class Ahead:
    """Copies of seed generators that run ahead of the originals."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[Any, keras.random.SeedGenerator]] = {}

    def of(self, generator: Any) -> keras.random.SeedGenerator:
        """The copy of a generator, where the calls told so far have brought it."""
        if id(generator) not in self._copies:
            copy = keras.random.SeedGenerator(0)
            copy.state.assign(generator.state)
            self._copies[id(generator)] = generator, copy
        return self._copies[id(generator)][1]


def predict_draws(layer: keras.layers.Layer, *shapes: Shape, ahead: Ahead | None = None) -> Draws:
    """The arrays that a built Keras layer draws in its next call with training=True on inputs of these shapes.

    Empty for a layer that draws nothing. Raises: NoTwin for a layer without twin.
    """
    spec = reflected(layer, "layer")
    return _drawn(layer, spec, spec.draw_shapes(*shapes), ahead or Ahead())


def predict_model_draws(
    model: Model, layers: Mapping[str, keras.layers.Layer], shapes: Mapping[str, Shape]
) -> dict[str, Draws]:
    """{first output of a call: its draws}, as `Model.run` takes them, for a twin, its Keras layers by the twin's names, and
    the shape of every tensor (those of a run in inference)."""
    ahead = Ahead()
    calls = (
        (call, model.layers[call.layer].draw_shapes(*(shapes[name] for name in call.inputs))) for call in model.calls
    )
    return {
        c.outputs[0]: _drawn(layers[c.layer], model.layers[c.layer], wanted, ahead) for c, wanted in calls if wanted
    }


def generators_of(layer: keras.layers.Layer) -> list[Any]:
    """The seed generators of a layer, one of its parts' included, that is everything a training call advances."""
    parts = layer._flatten_layers() if hasattr(layer, "_flatten_layers") else [layer]
    return [part.seed_generator for part in parts if getattr(part, "seed_generator", None) is not None]


def _parts(layer: Any, spec: Any) -> Iterator[tuple[str, Any, Any]]:
    """(what the names of its draws begin with, Keras layer, twin) for each part of a layer that holds others."""
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


def _drawn(layer: Any, spec: Any, shapes: Mapping[str, Shape], ahead: Ahead) -> Draws:
    if not shapes:
        return {}
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = {name.removeprefix("layer/"): shape[1:] for name, shape in shapes.items()}
        steps = range(next(iter(shapes.values()))[0])  # type: ignore[arg-type]
        drawn = [_drawn(layer.layer, spec.layer, inner, ahead) for _ in steps]
        return {f"layer/{name}": np.stack([one[name] for one in drawn]) for name in inner}
    parts = list(_parts(layer, spec))
    if parts:
        return {
            begin + name: array
            for begin, part, own in parts
            for name, array in _drawn(part, own, _below(begin, shapes), ahead).items()
        }
    generator = ahead.of(layer.seed_generator)
    return {name: _kind(layer, name)(layer, generator, name, shape) for name, shape in shapes.items()}


def _below(begin: str, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {name.removeprefix(begin): shape for name, shape in shapes.items() if name.startswith(begin)}


def _kind(layer: Any, name: str) -> Callable[..., np.ndarray]:
    if name in ("dropout", "recurrent_dropout"):
        return _gates
    if name == "noise":
        return _noise
    return _uniform if isinstance(layer, keras.layers.AlphaDropout) else _keep


def _keep(layer: Any, generator: Any, name: str, shape: Any) -> np.ndarray:
    """Where ones stay in a dropout of the layer's rate."""
    rate = getattr(layer, "rate", getattr(layer, "dropout", None))
    ones = keras.ops.ones(shape, dtype=layer.compute_dtype)
    return keras.ops.convert_to_numpy(keras.random.dropout(ones, rate, seed=generator)) != 0


def _uniform(layer: Any, generator: Any, name: str, shape: Any) -> np.ndarray:
    """Where uniform numbers reach the rate: AlphaDropout draws in Keras's default dtype."""
    return keras.ops.convert_to_numpy(keras.random.uniform(shape, seed=generator)) >= layer.rate


def _noise(layer: Any, generator: Any, name: str, shape: Any) -> np.ndarray:
    """Standard normal numbers."""
    return keras.ops.convert_to_numpy(keras.random.normal(shape, dtype=layer.compute_dtype, seed=generator))


def _gates(layer: Any, generator: Any, name: str, shape: Any) -> np.ndarray:
    """The masks of a recurrent cell, one after another along the first axis."""
    ones = keras.ops.ones(shape[1:], dtype=layer.compute_dtype)
    rate = getattr(layer, name)
    masks = [keras.ops.convert_to_numpy(keras.random.dropout(ones, rate, seed=generator)) for _ in range(shape[0])]
    return np.stack(masks) != 0
