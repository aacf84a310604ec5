"""Preprocessing layers: arrays become tuples, a Pipeline holds layers, a FeatureSpace has classes of its own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ref.translation.exceptions import mirrors, reflects
from keras_ref.translation.specifications import reflect_object
from keras_ref.translation.to_keras import mirror_object
from scratch.layers.identity import Identity
from scratch.layers.merging import Concatenate
from scratch.layers.preprocessing import Normalization, Pipeline, Rescaling


@mirrors("Pipeline")
def pipeline(spec: Pipeline, **options: Any) -> keras.layers.Layer:
    """A Keras Pipeline, which takes no dtype: its layers do."""
    dtype = {key: value for key, value in options.items() if key == "dtype"}
    names = {key: value for key, value in options.items() if key == "name"}
    return keras.layers.Pipeline([mirror_object(one, name=name, **dtype) for name, one in spec.named.items()], **names)


@reflects("Pipeline")
def pipeline_back(keras_layer: Any) -> Pipeline:
    """The specification of a Keras Pipeline."""
    return Pipeline(tuple(reflect_object(one, "layer") for one in keras_layer.layers))


@reflects("Rescaling")
def rescaling(keras_layer: Any) -> Rescaling:
    """The specification of a Keras Rescaling; with channels first its scales are reshaped to lie along the channels."""
    scale = np.asarray(keras_layer.scale)
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
    return Rescaling(scale.tolist(), np.asarray(keras_layer.offset).tolist())


@reflects("TFDIdentity")
def of_feature_space(_: Any) -> Identity:
    """The specification of the layer by which a FeatureSpace passes a feature on unchanged."""
    return Identity()


@reflects("TFDConcat")
def joined_features(keras_layer: Any) -> Concatenate:
    """The specification of the layer by which a FeatureSpace joins its features."""
    return Concatenate(keras_layer.axis)


@reflects("Normalization")
def normalization(keras_layer: Any) -> Normalization:
    """The specification of a Keras Normalization, the moments it was given included."""
    given = (keras_layer.input_mean, keras_layer.input_variance)
    mean, variance = (None if value is None else np.asarray(value).tolist() for value in given)
    return Normalization(keras_layer.axis or None, mean, variance, keras_layer.invert)
