"""Operations of keras.ops inside a graph, mirrored as a Keras layer; and the layers that keras.applications adds."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.applications.convnext import LayerScale as ConvNeXtLayerScale
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer as InceptionScaleLayer

from keras_ref.translation.exceptions import mirrors, reflects
from scratch.layers.operations import CustomScaleLayer, LayerScale, Operation, filled_with


class KerasOperation(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A layer that calls one function of keras.ops (or, where there is none, of keras.activations)."""

    def __init__(self, specification: Operation, **options: Any) -> None:
        super().__init__(**options)
        self.specification = specification
        self.supports_masking = False

    def call(self, *tensors: Any) -> Any:
        """Call the function of keras.ops on the tensors."""
        own = self.specification
        function = getattr(keras.ops, own.function, None) or getattr(keras.activations, own.function)
        return function(*filled_with(own.arguments, tensors), **(own.keywords or {}))


@mirrors("Operation")
def operation(spec: Operation, **options: Any) -> KerasOperation:
    """A layer that does what the operation does."""
    return KerasOperation(spec, **options)


@reflects("KerasOperation")
def operation_back(layer: KerasOperation) -> Operation:
    """The specification that the layer was made from."""
    return layer.specification


class KerasLayerScale(ConvNeXtLayerScale):  # type: ignore[misc]  # Keras has no types
    """ConvNeXt's layer, its weight called gamma: Keras gives it no name."""

    def add_weight(self, **options: Any) -> Any:
        """Add the weight as Keras does, with the name that the twin has for it."""
        return super().add_weight(**options, name="gamma")


@mirrors("LayerScale")
def layer_scale(spec: LayerScale, **options: Any) -> ConvNeXtLayerScale:
    """ConvNeXt's own layer."""
    return KerasLayerScale(1e-6, spec.projection_dim, **options)


@reflects("LayerScale", "KerasLayerScale")
def layer_scale_back(layer: ConvNeXtLayerScale) -> LayerScale:
    """The specification of ConvNeXt's layer, which has no configuration to read."""
    return LayerScale(layer.projection_dim)


@mirrors("CustomScaleLayer")
def scaled_sum(spec: CustomScaleLayer, **options: Any) -> InceptionScaleLayer:
    """InceptionResNetV2's own layer."""
    return InceptionScaleLayer(spec.scale, **options)


@reflects("CustomScaleLayer")
def scaled_sum_back(layer: InceptionScaleLayer) -> CustomScaleLayer:
    """The specification of InceptionResNetV2's layer."""
    return CustomScaleLayer(layer.scale)
