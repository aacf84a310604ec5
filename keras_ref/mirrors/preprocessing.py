"""Numbers that Keras keeps as arrays are tuples in scratch, and a Pipeline holds layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ref.mirror import mirrored
from keras_ref.mirrors import mirrors, reflects
from keras_ref.reflect import reflected
from scratch.layers.preprocessing import Normalization, Pipeline, Rescaling


@mirrors("Pipeline")
def pipeline(spec: Pipeline, **options: Any) -> keras.layers.Layer:
    """A Keras Pipeline, which takes no dtype: its layers do."""
    dtype = {key: value for key, value in options.items() if key == "dtype"}
    names = {key: value for key, value in options.items() if key == "name"}
    return keras.layers.Pipeline([mirrored(one, name=name, **dtype) for name, one in spec.named.items()], **names)


@reflects("Pipeline")
def pipeline_back(keras_layer: Any) -> Pipeline:
    """The specification of a Keras Pipeline."""
    return Pipeline(tuple(reflected(one, "layer") for one in keras_layer.layers))


@reflects("Rescaling")
def rescaling(keras_layer: Any) -> Rescaling:
    """The specification of a Keras Rescaling."""
    return Rescaling(np.asarray(keras_layer.scale).tolist(), np.asarray(keras_layer.offset).tolist())


@reflects("Normalization")
def normalization(keras_layer: Any) -> Normalization:
    """The specification of a Keras Normalization, the moments it was given included."""
    given = (keras_layer.input_mean, keras_layer.input_variance)
    mean, variance = (None if value is None else np.asarray(value).tolist() for value in given)
    return Normalization(keras_layer.axis or None, mean, variance, keras_layer.invert)
