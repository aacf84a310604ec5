"""Models in which a law is tried beside parts of which departures are known: embeddings, attention, pooling, gelu."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from scratch.arrays import Array
from scratch.calls import Call
from scratch.layers.core import Dense, Flatten
from scratch.layers.embedding import Embedding
from scratch.layers.multi_head_attention import MultiHeadAttention
from scratch.layers.normalization import LayerNormalization
from scratch.layers.pooling import AveragePooling1D
from scratch.model import Model

#: what the names of all parts of the company begin with
COMPANY = "company"
LAYERS = {
    "embedding": Embedding(4, 2),
    "attention": MultiHeadAttention(1, 2),
    "normalization": LayerNormalization(),
    "pooling": AveragePooling1D(2),
    "flatten": Flatten(),
    "gelu": Dense(2, "gelu"),
    "last": Dense(1),
}


def in_company(model: Model) -> Model:
    """A model beside a row of other layers, with an input of indices and an output of their own."""
    names = [f"{COMPANY}_{name}" for name in LAYERS]
    calls, tensor = [], f"{COMPANY}_words"
    for name, layer in zip(names, LAYERS.values(), strict=True):
        calls.append(Call(name, (tensor,) * (2 if isinstance(layer, MultiHeadAttention) else 1), (f"{name}_y",)))
        tensor = f"{name}_y"
    return replace(
        model,
        inputs={**model.inputs, f"{COMPANY}_words": (next(iter(model.inputs.values()))[0], 2)},
        layers={**model.layers, **dict(zip(names, LAYERS.values(), strict=True))},
        calls=(*model.calls, *calls),
        outputs=(*model.outputs, tensor),
    )


def company_weights(model: Model) -> dict[str, Array]:
    """Generic weights of the company, by the names of the model."""
    shapes = {name: shape for name, shape in model.weight_shapes.items() if name.startswith(COMPANY)}
    return {
        name: np.sin(2.0 + k + 1.7 * np.arange(int(np.prod(shape)))).reshape(shape)
        for k, (name, shape) in enumerate(shapes.items())
    }


def words(batch: int) -> Array:
    """Indices for the company's embedding."""
    return np.arange(2 * batch).reshape(batch, 2) % 4


def trained_in_company(x: Any, y: Any) -> Any:
    """The output of a Keras model of such layers behind the tensor `x`, and beside the indices `y`."""
    layers = keras.layers
    wide = layers.Reshape((2, 1))(layers.Dense(2, "gelu", bias_initializer="random_normal", name="gelu")(x))
    pooled = layers.AveragePooling1D(2)(layers.MultiHeadAttention(1, 2)(wide, wide))
    return layers.Dense(1, name="last")(
        layers.Concatenate()([layers.Flatten()(pooled), layers.Flatten()(layers.Embedding(4, 2)(y))])
    )
