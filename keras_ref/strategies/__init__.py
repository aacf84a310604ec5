"""Hypothesis strategies, public: specifications from their field annotations, weights, inputs, special points.

    layers()                     any registered layer
    specifications(kind, name)   one definition, every legal combination of its fields
    arguments(name)              keyword arguments of an activation
    models()                     small chains of layers
    weights_of(model)            {name: array}
    inputs_of(model)             the arrays that it takes
    samples(shape, domain)       arrays whose entries belong to a domain
    special_points(shape)        zeros, ties, saturation, repeated rows

`weights_of` and `inputs_of` take a scratch.Model, and any keras.Model or built keras layer. Examples are small: then
they are fast, and readable once Hypothesis has shrunk them.
"""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
from keras_ref.own_modules import fields as domains
from keras_ref.strategies.arrays import PATTERNS, samples, special_points
from keras_ref.strategies.graphs import departures_of, input_shapes_of, inputs_of, model_of, models, sizes, weights_of
from keras_ref.strategies.specifications import (
    arguments,
    keeps_shape,
    layers,
    needs_no_arguments,
    specifications,
    values,
)

__all__ = [
    "PATTERNS",
    "arguments",
    "departures_of",
    "domains",
    "input_shapes_of",
    "inputs_of",
    "keeps_shape",
    "layers",
    "model_of",
    "models",
    "needs_no_arguments",
    "samples",
    "sizes",
    "special_points",
    "specifications",
    "values",
    "weights_of",
]
