"""Hypothesis strategies, public: specifications from their field annotations, weights, inputs, special points.

    layers()              any registered layer        specifications(kind, name)   one definition, every legal combination
    models()              small graphs of layers      weights_of(model)            {name: array}
    inputs_of(model)      arrays that it takes        special_points(shape)        zeros, ties, saturation, repeats
    samples(shape, domain)   entries of a domain    arguments(name)   keyword arguments of an activation

`weights_of` and `inputs_of` take a scratch.Model, and anybody's own keras.Model or built keras layer. Examples are small
because they are then fast, and readable once shrunk.
"""

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
from scratch import fields as domains

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
