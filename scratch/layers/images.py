"""Image preprocessing: center crop, resizing, automatic contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from scratch.arrays import Array
from scratch.fields import AtLeast, Domain, Real, Shape, Size, is_real
from scratch.layers.base import Layer, Weights
from scratch.layers.interpolation import resized
from scratch.layers.patches import DataFormat, channels_last, formatted, restored
from scratch.layers.preprocessing import floats
from scratch.registry import layer

Pixels = Annotated[int, AtLeast(1, small=(1, 4))]


def cropped(x: Array, height: int, width: int) -> Array:
    """The largest centred part of (…, height, width, channels) with the proportions of height × width."""
    rows, columns = x.shape[-3:-1]
    tall, wide = max(min(rows, columns * height // width), 1), max(min(columns, rows * width // height), 1)
    top, left = (rows - tall) // 2, (columns - wide) // 2
    return x[..., top : top + tall, left : left + wide, :]


class Image(Layer):
    """Base of the layers over images (batch, height, width, channels), or channels first, or without the batch.

    Integers become floats; where `whole` is set, the result is rounded and clipped to the range of their type.
    """

    data_format: str
    whole: ClassVar[bool] = False

    def changed(self, x: Array) -> Array:
        """The layer's law for images with channels last."""
        raise TypeError(f"{type(self).__name__} must define `changed`: write it in scratch/layers/images.py.")

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        (x,) = inputs
        if x.ndim == 3:
            y: Array = self.forward(weights, x[None])[0]
            return y
        y = restored(self.changed(channels_last(floats(x), self.data_format)), self.data_format)
        if not self.whole or x.dtype.kind not in "iu":
            return y
        return np.clip(np.rint(y), np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)

    def compute_mask(self, *inputs: Array, mask: Array | None = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        return (formatted(size(1, 2), (size(1, 5), size(1, 5)), size(1, 2), self.data_format),)


@layer
class CenterCrop(Image):
    """y[b, i, j, c] = x[b, i + ⌊(h - height)/2⌋, j + ⌊(w - width)/2⌋, c], the centred pixels of an image. Of an image
    that is smaller in either, the largest centred part with these proportions, resized (bilinear).

    Shapes  x (batch, h, w, channels) or channels first   →   y (batch, height, width, channels)
    Keras   CenterCrop; of an odd number of pixels to drop, the odd one is dropped at the end
    Source  keras.io/api/layers/preprocessing_layers/image_preprocessing/center_crop
    """

    height: Pixels
    width: Pixels
    data_format: DataFormat = "channels_last"

    def changed(self, x: Array) -> Array:
        rows, columns = x.shape[1] - self.height, x.shape[2] - self.width
        if rows < 0 or columns < 0:
            return resized(cropped(x, self.height, self.width), self.height, self.width)
        return x[:, rows // 2 : rows // 2 + self.height, columns // 2 : columns // 2 + self.width]


@layer
class Resizing(Image):
    """y[b, i, j, c] = Σ over pixels p, q of a(i, p) · a(j, q) · x[b, p, q, c], with the weights a of `resampling`. If
    asked, that is after cropping the images to these proportions, or padding them evenly to these with fill_value.

    Shapes  x (batch, h, w, channels) or channels first   →   y (batch, height, width, channels)
    Keras   Resizing; integers stay integers
    Source  keras.io/api/layers/preprocessing_layers/image_preprocessing/resizing; Keys 1981 (bicubic)
    """

    height: Pixels
    width: Pixels
    interpolation: Literal["bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"] = "bilinear"
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    fill_mode: Literal["constant"] = "constant"
    fill_value: Annotated[float, Real()] = 0.0
    antialias: bool = False
    data_format: DataFormat = "channels_last"
    whole: ClassVar[bool] = True

    def check(self) -> None:
        if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio:
            raise ValueError(
                "`crop_to_aspect_ratio` and `pad_to_aspect_ratio` must not both be True. "
                "Received: True and True. Pass one."
            )

    def changed(self, x: Array) -> Array:
        if self.crop_to_aspect_ratio:
            x = cropped(x, self.height, self.width)
        if self.pad_to_aspect_ratio:
            rows, columns = x.shape[1:3]
            top = (max(columns * self.height // self.width, rows) - rows) // 2
            left = (max(rows * self.width // self.height, columns) - columns) // 2
            x = np.pad(x, ((0, 0), (top, top), (left, left), (0, 0)), constant_values=self.fill_value)
        return resized(x, self.height, self.width, interpolation=self.interpolation, antialias=self.antialias)

    @classmethod
    def examples(cls) -> tuple[Resizing, ...]:
        """Small legal specifications: larger and smaller, every interpolation and way to keep proportions."""
        return (
            cls(2, 3),
            cls(3, 3, "nearest"),
            cls(4, 2, "bicubic"),
            cls(2, 2, "lanczos3", antialias=True),
            cls(2, 4, "lanczos5", crop_to_aspect_ratio=True),
            cls(4, 3, pad_to_aspect_ratio=True, fill_value=0.5, data_format="channels_first"),
            cls(2, 2, antialias=True),
        )


@dataclass(frozen=True)
class Range(Domain):
    """A pair of different numbers, low and high."""

    examples: ClassVar[tuple[Any, ...]] = ((0, 255), (-1.0, 1.0))

    @property
    def rule(self) -> str:
        return "must be two different numbers"

    def holds(self, value: Any) -> bool:
        return (
            isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_real, value)) and value[0] != value[1]
        )

    def normalise(self, value: Any) -> tuple[float, ...]:
        return tuple(sorted(value))


@layer
class AutoContrast(Image):
    """y = x stretched, in each image and channel, so that the smallest and the largest pixel become the ends of
    value_range; a constant channel stays as it is.

    Shapes  x (batch, h, w, channels) or channels first   →   y as x
    Keras   AutoContrast
    Source  keras.io/api/layers/preprocessing_layers/image_augmentation/auto_contrast
    """

    value_range: Annotated[tuple[Any, ...], Range()] = (0, 255)
    data_format: DataFormat = "channels_last"

    def changed(self, x: Array) -> Array:
        flat = x.reshape(len(x), -1, x.shape[-1])
        low, high = (
            np.take_along_axis(flat, pick(flat.real, axis=1)[:, None], axis=1)[:, :, None]
            for pick in (np.argmin, np.argmax)
        )
        bottom, top = self.value_range
        constant = high.real == low.real
        stretched = (x - low) / np.where(constant, 1.0, high - low).astype(x.dtype) * (top - bottom) + bottom
        return np.where(constant, x, stretched)
