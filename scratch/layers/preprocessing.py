"""Preprocessing layers: rescaling, normalization by known moments, pipelines of layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.arrays import EPSILON, Array, clip_below
from scratch.fields import Domain, Positive, Shape, Size, is_integer, is_real
from scratch.layers.base import Layer, Weights
from scratch.layers.normalization import OneOrMoreAxes, shape_with
from scratch.naming import make_default_names, weights_of
from scratch.registry import layer


@dataclass(frozen=True)
class ArrayOfNumbers(Domain):
    """A number, or a (nested) tuple of numbers that makes an array; with `positive` none below zero."""

    positive: bool = False

    @property
    def examples(self) -> tuple[Any, ...]:
        """Legal values."""
        return (0.5, 2.0) if self.positive else (0.5, -2.0, (0.25,))

    @property
    def rule(self) -> str:
        return "must be a number or an array of numbers" + (", none below 0" if self.positive else "")

    def holds(self, value: Any) -> bool:
        if isinstance(value, (tuple, list, np.ndarray)) and np.ndim(value) > 0:
            return all(self.holds(v) for v in value)
        return is_real(value) and (value >= 0 or not self.positive)

    def normalise(self, value: Any) -> Any:
        return tuple(self.normalise(v) for v in value) if np.ndim(value) > 0 else float(value)


Given = Annotated[float | tuple[Any, ...] | np.ndarray[Any, Any], ArrayOfNumbers()]


def floats(x: Array) -> Array:
    """x, with integers and booleans as float64."""
    return x if x.dtype.kind in "fc" else x.astype(float)


@layer
class Rescaling(Layer):
    """y = x · scale + offset, numbers or arrays that broadcast; integers become floats.

    Shapes  x any   →   y as x
    Keras   Rescaling
    Source  keras.io/api/layers/preprocessing_layers/image_preprocessing/rescaling
    """

    scale: Given
    offset: Given = 0.0

    @property
    def elementwise(self) -> bool:
        return True

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = floats(inputs[0])
        scale, offset = (np.asarray(v, x.real.dtype) for v in (self.scale, self.offset))
        y: Array = x * scale + offset
        return y

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        given = np.broadcast_shapes(np.shape(self.scale), np.shape(self.offset))
        lead = tuple(size(1, 3) for _ in range(max(size(2, 3), len(given)) - len(given)))
        return ((*lead, *(n if n > 1 else size(1, 3) for n in given)),)


@layer
class Normalization(Layer):
    """y = (x - mean) / max(√variance, 1e-7), or with `invert` y = mean + x · max(√variance, 1e-7).

    The moments lie along `axis` (None: one number for all); they are fields, or else weights that no training changes.

    Shapes  x (batch, …)   mean, variance: the sizes of `axis`, in their order in x; count ()   →   y as x
    Keras   Normalization after adapt(); `count` is not used
    Source  keras.io/api/layers/preprocessing_layers/numerical/normalization (the floor of 1e-7: Keras)
    """

    axis: OneOrMoreAxes | None = -1
    mean: Given | None = None
    variance: Annotated[float | tuple[Any, ...] | np.ndarray[Any, Any], ArrayOfNumbers(positive=True)] | None = None
    invert: bool = False

    def check(self) -> None:
        shapes = np.asarray(self.mean).shape, np.asarray(self.variance).shape
        if (self.mean is None) != (self.variance is None) or shapes[0] != shapes[1]:
            raise ValueError(
                "`mean` and `variance` must be given together and have the same shape. Received: "
                f"mean={self.mean}, variance={self.variance}. Pass both or none."
            )
        if np.asarray(self.mean).ndim > len(self._axes) and self.mean is not None:
            raise ValueError(
                "`mean` must have at most as many axes as `axis` names. Received: "
                f"{np.asarray(self.mean).ndim} axes, axis={self.axis}. Change one of them."
            )

    @property
    def _axes(self) -> tuple[int, ...]:
        return () if self.axis is None else (self.axis,) if is_integer(self.axis) else self.axis  # type: ignore[return-value]

    @property
    def state(self) -> tuple[str, ...]:
        return ("mean", "variance", "count") if self.mean is None else ()

    def _places(self, rank: int) -> list[int]:
        return sorted(a % rank for a in self._axes)

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shape = tuple(inputs[0][a] for a in self._places(len(inputs[0])))
        return {"mean": shape, "variance": shape, "count": ()} if self.mean is None else {}

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        x = floats(inputs[0])
        places, moments = self._places(x.ndim), []
        for name, value in (("mean", self.mean), ("variance", self.variance)):
            moment = weights[name] if value is None else np.asarray(value, x.real.dtype)
            shape = [1] * x.ndim
            for place, length in zip(places[len(places) - moment.ndim :], moment.shape, strict=True):
                shape[place] = length
            moments.append(moment.reshape(shape))
        mean, deviation = moments[0], clip_below(np.sqrt(moments[1]), EPSILON)
        return mean + x * deviation if self.invert else (x - mean) / deviation

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        shape = list(shape_with(self._axes, size) if self._axes else (size(1, 3), size(1, 3)))
        for place, length in zip(
            reversed(self._places(len(shape))), reversed(np.asarray(self.mean).shape), strict=False
        ):
            shape[place] = length if length > 1 else shape[place]
        return (tuple(shape),)

    def weight_domains(self) -> Mapping[str, Domain]:
        return {"variance": Positive()}


@dataclass(frozen=True)
class LayersInRow(Domain):
    """A tuple of layers with one input each."""

    examples: ClassVar[tuple[Any, ...]] = ((Rescaling(0.5),), (Rescaling(2.0, -1.0), Rescaling(0.25)))

    @property
    def rule(self) -> str:
        return "must be a sequence of layers"

    def holds(self, value: Any) -> bool:
        return isinstance(value, (tuple, list)) and len(value) > 0 and all(isinstance(v, Layer) for v in value)

    def normalise(self, value: Any) -> tuple[Layer, ...]:
        return tuple(value)


@layer
class Pipeline(Layer):
    """y = x passed through `layers` in order; the names of weights begin with the name of their layer.

    Shapes  those of the layers
    Keras   Pipeline, for layers without draws and state; training is on unless the call says otherwise
    Source  keras.io/api/layers/preprocessing_layers/image_preprocessing/pipeline
    """

    layers: Annotated[tuple[Layer, ...], LayersInRow()]

    def check(self) -> None:
        for one in self.layers:
            if one.state or "draw" in one.accepts:
                raise ValueError(
                    "`layers` of a Pipeline must have no state and draw nothing. Received: "
                    f"{type(one).__name__}. Use it outside of the Pipeline."
                )

    @cached_property
    def named(self) -> dict[str, Layer]:
        """The layers by name."""
        return dict(zip(make_default_names(self.layers), self.layers, strict=True))

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        shape = tuple(2 if n is None else n for n in inputs[0])
        for name, one in self.named.items():
            own = one.weight_shapes(shape)
            shapes |= {f"{name}/{part}": size for part, size in own.items()}
            shape = one.forward({part: np.ones(size) for part, size in own.items()}, np.zeros(shape)).shape  # type: ignore[arg-type]
        return shapes

    def couples_batch(self, *, training: bool) -> bool:
        return any(one.couples_batch(training=training) for one in self.layers)

    def forward(self, weights: Weights, *inputs: Array, training: bool = True, mask: Array | None = None) -> Array:
        (x,) = inputs
        for name, one in self.named.items():
            context = {"training": training, "mask": mask}
            after = one.compute_mask(x, mask=mask)
            x = one.forward(weights_of(weights, name), x, **{k: v for k, v in context.items() if k in one.accepts})
            mask = after
        return x

    def compute_mask(self, *inputs: Array, mask: Any = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return self.layers[0].input_shapes(size)

    def input_domains(self) -> tuple[Domain, ...]:
        return self.layers[0].input_domains()
