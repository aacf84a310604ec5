"""Strategies for weights and inputs of Keras models and layers, any user's included."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from keras_ref.evaluation.changed_state.float64 import is_float
from keras_ref.evaluation.keras_objects.naming import make_unique
from keras_ref.inputs.data import draw_inputs
from keras_ref.strategies.arrays import special_points
from scratch.arrays import Array

#: the size that an unknown axis of a layer's input gets
UNKNOWN = 3


@st.composite
def weights(draw: DrawFn, model: Any, patterns: tuple[str, ...]) -> dict[str, Array]:
    """{variable path: array} in the order of `weights`. Raises: ValueError for what is not built."""
    _require_built(model)
    trained = {id(v) for v in model.trainable_weights}
    names = make_unique([v.path for v in model.weights])
    return {
        name: draw(special_points(tuple(v.shape), patterns)) if id(v) in trained else v.numpy()
        for name, v in zip(names, model.weights, strict=True)
    }


@st.composite
def inputs(draw: DrawFn, model: Any, batch: int | None, patterns: tuple[str, ...]) -> Any:
    """Inputs of a model or a built layer, nested as it takes them: special points for floats, small integers.

    Raises: ValueError for what is not built, or does not state its inputs.
    """
    size, seed = draw(st.integers(1, 4)) if batch is None else batch, draw(st.integers(0, 2**16))
    template = (
        draw_inputs(model, seed=seed, batch=size) if isinstance(model, keras.Model) else _of_layer(model, size, seed)
    )
    return keras.tree.map_structure(
        lambda leaf: draw(special_points(leaf.shape, patterns)) if is_float(leaf.dtype) else leaf, template
    )


def _of_layer(layer: Any, size: int, seed: int) -> Any:
    _require_built(layer)
    config = layer.get_build_config() or {}
    shapes = list((config.get("shapes_dict") or {"input_shape": config.get("input_shape")}).values())
    shapes = shapes[0] if len(shapes) == 1 else shapes
    if shapes is None:
        raise ValueError(
            "A layer must have been built for known shapes for inputs to be drawn. Received: "
            f"{layer.name!r}, which does not say. Draw special_points(shape)."
        )
    whole = isinstance(layer, keras.layers.Embedding)
    generator = np.random.default_rng(seed)

    def one(shape: tuple[int | None, ...]) -> Array:
        sizes = tuple(size if i == 0 else n or UNKNOWN for i, n in enumerate(shape))
        return generator.integers(0, layer.input_dim, sizes) if whole else generator.normal(size=sizes)

    several = bool(shapes) and isinstance(shapes[0], (list, tuple))
    return [one(tuple(shape)) for shape in shapes] if several else one(tuple(shapes))


def _require_built(keras_object: Any) -> None:
    if not keras_object.built:
        raise ValueError(
            "A model or layer must be built for its weights or inputs to be drawn. Received: "
            f"{keras_object.name!r}, unbuilt. Call it once on data."
        )
