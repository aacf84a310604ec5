"""Regularization layers: dropout, noise, and a penalty on an activity.

A layer takes the random array that it would draw as an argument, `draw`:

    {"keep": booleans}             the dropout layers: the entries that are kept
    {"noise": standard normal}     GaussianNoise, GaussianDropout: before it is scaled
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from scratch.activations.smooth import SELU_ALPHA, SELU_SCALE
from scratch.arrays import Array
from scratch.fields import AtLeast, Between, Domain, Shape, Size, is_integer
from scratch.layers.base import Layer, Weights
from scratch.layers.families import Family
from scratch.layers.patches import DataFormat
from scratch.registry import layer
from scratch.regularizers import L1L2

Draw = Mapping[str, Array] | None
Rate = Annotated[float, Between(0.0, 1.0, small=(0.0, 0.75))]
RateBelowOne = Annotated[float, Between(0.0, 1.0, open_high=True, small=(0.0, 0.75))]


def drawn(owner: Layer, draw: Draw, name: str) -> Array:
    """The random array `name`. Raises: ValueError if it is not in `draw`."""
    if draw is None or name not in draw:
        raise ValueError(
            f"{type(owner).__name__} in training must be given its random array. Received: draw={draw!r}. "
            f"Pass draw={{{name!r}: array}}, the array that Keras drew (keras_ref.translation.random_draws) or one of "
            "your own."
        )
    return np.asarray(draw[name])


def dropped(x: Array, rate: float, keep: Array) -> Array:
    """x / (1 - rate) where `keep` holds, 0 elsewhere."""
    return np.where(keep, x * (1.0 / (1.0 - rate)), 0.0).astype(x.dtype, copy=False)


@dataclass(frozen=True)
class NoiseShape(Domain):
    """A shape in which None stands for the size of the input; other sizes must be 1 or the size of the input."""

    examples: ClassVar[tuple[Any, ...]] = ((None, 1), (None, 1, None), (2, None))

    @property
    def rule(self) -> str:
        return "must be a tuple of integers from 1 on and of None"

    def holds(self, value: Any) -> bool:
        return isinstance(value, (tuple, list)) and all(v is None or (is_integer(v) and v > 0) for v in value)

    def normalise(self, value: Any) -> tuple[int | None, ...]:
        return tuple(None if v is None else int(v) for v in value)


class Noisy(Layer):
    """Base of the layers that change nothing in inference, and each entry by itself in training."""

    #: the name of the random array
    draws: ClassVar[str] = "keep"

    @property
    def elementwise(self) -> bool:
        return True

    @property
    def active(self) -> bool:
        """Whether a call in training takes a draw."""
        return bool(0 < self.rate < 1)  # type: ignore[attr-defined]

    def noise_of(self, x: Shape) -> Shape:
        """Shape of the random array for an input of shape x."""
        return x

    def disturbed(self, x: Array, noise: Array) -> Array:
        """The output in training for an input x and the random array."""
        return dropped(x, self.rate, noise)  # type: ignore[attr-defined]

    def draw_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {self.draws: self.noise_of(inputs[0])} if self.active else {}

    def forward(self, weights: Weights, *inputs: Array, training: bool = False, draw: Draw = None) -> Array:
        (x,) = inputs
        if not training:
            return x
        if self.active:
            return self.disturbed(x, drawn(self, draw, self.draws))
        return np.zeros_like(x) if getattr(self, "rate", 0) == 1 else x

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (tuple(size(1, 3) for _ in range(size(2, 3))),)


class WithNoiseShape(Noisy):
    """Base of the layers whose random array may be smaller than the input: it broadcasts along axes of size 1."""

    noise_shape: tuple[int | None, ...] | None

    def noise_of(self, x: Shape) -> Shape:
        if self.noise_shape is None:
            return x
        return tuple(x[i] if n is None else n for i, n in enumerate(self.noise_shape))

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        if self.noise_shape is None:
            return super().input_shapes(size)
        return (tuple(n if n not in (None, 1) else size(1, 3) for n in self.noise_shape),)


@layer
class Dropout(WithNoiseShape):
    """In training y = x / (1 - rate) where `keep` holds, 0 elsewhere (all 0 at rate 1); in inference y = x.

    Shapes  x any   keep: `noise_shape`, else as x   →   y as x
    Keras   Dropout; keep = uniform ≥ rate
    Source  Srivastava et al. 2014, section 4, with the scale moved from inference to training (section 10)
    """

    rate: Rate
    noise_shape: Annotated[tuple[Any, ...], NoiseShape()] | None = None


@layer
class AlphaDropout(WithNoiseShape):
    """In training y = a · (x where `keep` holds, α' elsewhere) + b with q = 1 - rate; in inference y = x
    a = (q + α'² · q · (1 - q))^(-1/2),  b = -a · (1 - q) · α',  α' = -λα of SELU

    Shapes  x any   keep: `noise_shape`, else as x   →   y as x
    Keras   AlphaDropout; keep = uniform ≥ rate. Rate 1 is not legal here: a would be infinite (Keras fails there)
    Source  Klambauer et al. 2017, "New dropout technique"
    """

    rate: RateBelowOne
    noise_shape: Annotated[tuple[Any, ...], NoiseShape()] | None = None

    def disturbed(self, x: Array, noise: Array) -> Array:
        saturated = -SELU_SCALE * SELU_ALPHA
        q = 1.0 - self.rate
        a = (q + saturated**2 * q * (1.0 - q)) ** -0.5
        y: Array = np.where(noise, x, saturated).astype(x.dtype) * a - a * (1.0 - q) * saturated
        return y


@layer
class GaussianDropout(Noisy):
    """In training y = x · (1 + √(rate / (1 - rate)) · noise), noise standard normal; in inference y = x.

    Shapes  x any   noise as x   →   y as x
    Keras   GaussianDropout. Rate 1 is not legal here: the noise would be infinite (Keras fails there)
    Source  Srivastava et al. 2014, section 10
    """

    rate: RateBelowOne
    draws: ClassVar[str] = "noise"

    def disturbed(self, x: Array, noise: Array) -> Array:
        return x * (1.0 + math.sqrt(self.rate / (1.0 - self.rate)) * noise.astype(x.real.dtype))


@layer
class GaussianNoise(Noisy):
    """In training y = x + stddev · noise, noise standard normal; in inference y = x.

    Shapes  x any   noise as x   →   y as x
    Keras   GaussianNoise, which takes no stddev above 1
    Source  keras.io/api/layers/regularization_layers/gaussian_noise
    """

    stddev: Annotated[float, Between(0.0, 1.0)]
    draws: ClassVar[str] = "noise"

    @property
    def active(self) -> bool:
        return self.stddev > 0

    def disturbed(self, x: Array, noise: Array) -> Array:
        return x + self.stddev * noise.astype(x.real.dtype)


class SpatialDropout(Noisy, Family):
    """Dropout of whole channels: `keep` has size 1 along every spatial axis.

    Shapes  x (batch, size…, channels) of rank {rank} + 2, or channels first   keep (batch, 1…, channels)   →   y as x
    Keras   SpatialDropout{rank}D
    Source  Tompson et al. 2015, section 3.2 (arXiv 1411.4280)
    """

    data_format: str

    def noise_of(self, x: Shape) -> Shape:
        channel = -1 % len(x) if self.data_format == "channels_last" else 1
        return tuple(n if i in (0, channel) else 1 for i, n in enumerate(x))

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (tuple(size(1, 3) for _ in range(self.rank + 2)),)


@layer
class SpatialDropout1D(SpatialDropout, rank=1):
    rate: Rate
    data_format: ClassVar[str] = "channels_last"  # type: ignore[misc]


@layer
class SpatialDropout2D(SpatialDropout, rank=2):
    rate: Rate
    data_format: DataFormat = "channels_last"


@layer
class SpatialDropout3D(SpatialDropout, rank=3):
    rate: Rate
    data_format: DataFormat = "channels_last"


@layer
class ActivityRegularization(Layer):
    """y = x; adds `penalty` = l1 · Σ|x| + l2 · Σx², divided by the batch size, to the loss.

    Shapes  x any   →   y as x
    Keras   ActivityRegularization
    Source  keras.io/api/layers/regularization_layers/activity_regularization
    """

    l1: Annotated[float, AtLeast(0.0, small=(0.0, 0.5))] = 0.0
    l2: Annotated[float, AtLeast(0.0, small=(0.0, 0.5))] = 0.0

    @property
    def elementwise(self) -> bool:
        return True

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        return inputs[0]

    def penalty(self, output: Array) -> Array:
        """What an output of this layer adds to the loss, before division by the batch size."""
        y: Array = L1L2(self.l1, self.l2)(output)
        return y
