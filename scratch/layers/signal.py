"""Short-time Fourier transform: frames of a signal multiplied by two trainable kernels."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np

from scratch.arrays import EPSILON, Array, clip_below
from scratch.fields import AtLeast, Numbers, Shape, Size
from scratch.layers.base import Layer, Response, Weights
from scratch.layers.patches import DataFormat, Padding, channels_last, patches
from scratch.registry import layer


def angle(imaginary: Array, real: Array) -> Array:
    """The angle of real + i · imaginary in (-π, π], 0 at 0: that of the real parts, plus the angle from there."""
    a, b = imaginary.real, real.real
    dot = a * imaginary + b * real
    turn = (b * imaginary - a * real) / np.where(dot == 0, 1.0, dot)
    y: Array = (np.arctan2(a, b) + np.arctan(turn)).astype(np.result_type(imaginary, real), copy=False)
    return y


@layer
class STFTSpectrogram(Layer):
    """real, imaginary = every frame of the signal · real_kernel, · imag_kernel, channel by channel; then by `mode`
    real | imag | stft: both | angle | magnitude: √p | log: log √p, with p = max(real² + imaginary², 1e-7)
    psd: real² + imaginary², the inner frequencies twice

    Shapes  x (batch, time, channels)   kernels (frame_length, 1, F), F = fft_length // 2 + 1   →   y (batch, frames,
            channels · F), or with `expand_dims` (batch, frames, F, channels); channels first: (batch, channels · F,
            frames) or (batch, channels, frames, F); 2·F in place of F for stft
    Keras   STFTSpectrogram; window, periodic and scaling determine only the initial kernels (`kernels`)
    Source  keras.io/api/layers/preprocessing_layers/audio_preprocessing/stft_spectrogram
    """

    mode: Literal["log", "magnitude", "psd", "real", "imag", "angle", "stft"] = "log"
    frame_length: Annotated[int, AtLeast(1, small=(2, 4))] = 256
    frame_step: Annotated[int, AtLeast(1, small=(1, 2))] | None = None
    fft_length: Annotated[int, AtLeast(1, small=(4, 6))] | None = None
    window: Literal["hann", "hamming"] | Annotated[tuple[Any, ...], Numbers()] | None = "hann"
    periodic: bool = False
    scaling: Literal["density", "spectrum"] | None = "density"
    padding: Padding = "valid"
    expand_dims: bool = False
    data_format: DataFormat = "channels_last"

    def check(self) -> None:
        if not 1 <= self.step <= self.frame_length:
            raise ValueError(
                "`frame_step` must lie in [1, frame_length]. Received: "
                f"frame_step={self.frame_step}, frame_length={self.frame_length}. Change one of them."
            )
        if self.fft_length is not None and self.fft_length < self.frame_length:
            raise ValueError(
                "`fft_length` must be at least `frame_length`. Received: "
                f"fft_length={self.fft_length}, frame_length={self.frame_length}. Change one of them."
            )
        if isinstance(self.window, tuple) and len(self.window) != self.frame_length:
            raise ValueError(
                "`window` must have `frame_length` values. Received: "
                f"{len(self.window)} values, frame_length={self.frame_length}. Pass one for each sample."
            )

    @property
    def step(self) -> int:
        """Samples from one frame to the next."""
        return self.frame_length // 2 if self.frame_step is None else self.frame_step

    @property
    def length(self) -> int:
        """Length of the transform."""
        return self.fft_length or 2 ** math.ceil(math.log2(self.frame_length))

    def kernels(self) -> dict[str, Array]:
        """The initial values of the kernels: exp(-2πi · t · f / fft_length) · window / scale."""
        time, steps = np.arange(self.frame_length), max(self.frame_length - (not self.periodic), 1)
        wave = np.exp(-2j * np.pi * time[:, None] * np.arange(self.length // 2 + 1) / self.length)
        if self.window is None:
            window, scale = np.ones(self.frame_length), 1.0
        else:
            low = {"hann": 0.5, "hamming": 0.54}
            raised = low.get(str(self.window), 0.5)
            cosine = raised - (1 - raised) * np.cos(2 * np.pi * time / steps) if self.frame_length > 1 else np.ones(1)
            window = np.array(self.window) if isinstance(self.window, tuple) else cosine
            scales = {"density": np.sqrt((window * window).sum()), "spectrum": np.abs(window).sum(), None: 1.0}
            scale = float(scales[self.scaling])
        wave = (wave * (window / scale)[:, None])[:, None]
        return {
            name: part for name, part in (("real_kernel", wave.real), ("imag_kernel", wave.imag)) if name in self._names
        }

    @property
    def _names(self) -> tuple[str, ...]:
        return {"real": ("real_kernel",), "imag": ("imag_kernel",)}.get(self.mode, ("real_kernel", "imag_kernel"))

    def weight_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return dict.fromkeys(self._names, (self.frame_length, 1, self.length // 2 + 1))

    def _frames(self, x: Array) -> Array:
        """The frames of x: (batch, channels, frames, frame_length)."""
        signals = np.moveaxis(channels_last(x, self.data_format), -1, 1)
        flat = signals.reshape(-1, signals.shape[-1], 1)
        frames = patches(flat, (self.frame_length,), strides=(self.step,), dilation=(1,), padding=self.padding)[..., 0]
        return frames.reshape(*signals.shape[:2], *frames.shape[1:])

    def forward(self, weights: Weights, *inputs: Array) -> Array:
        frames = self._frames(inputs[0])
        parts = [frames @ weights[name][:, 0] for name in self._names]
        power = sum(part * part for part in parts)
        if self.mode in ("real", "imag", "stft"):
            y = np.concatenate(parts, axis=-1)
        elif self.mode == "angle":
            y = angle(parts[1], parts[0])
        elif self.mode == "psd":
            times = np.full(power.shape[-1], 2, power.real.dtype)
            times[[0, -1]] = 1
            y = power * times
        else:
            y = np.sqrt(clip_below(power, EPSILON))
            y = np.log(y) if self.mode == "log" else y
        if self.expand_dims:
            return y.transpose(0, 2, 3, 1) if self.data_format == "channels_last" else y
        y = y.transpose(0, 2, 1, 3)
        y = y.reshape(*y.shape[:2], -1)
        return y if self.data_format == "channels_last" else y.swapaxes(1, 2)

    def compute_mask(self, *inputs: Array, mask: Array | None = None) -> None:
        return None

    def input_shapes(self, size: Size) -> tuple[Shape, ...]:
        time = self.frame_length + size(0, 3)
        channels = size(1, 2)
        shape = (time, channels) if self.data_format == "channels_last" else (channels, time)
        return ((size(1, 2), *shape),)

    def responses(self, weights: Weights, name: str, *inputs: Array) -> Response | None:
        frames = self._frames(inputs[0])
        plain = self.mode in ("real", "imag", "stft") and self.data_format == "channels_last" and not self.expand_dims
        if not plain or frames.shape[1] > 1:
            return None
        count = self.length // 2 + 1
        feature, channel = np.divmod(np.arange(self.frame_length * count), count)
        offset = count if self.mode == "stft" and name == "imag_kernel" else 0
        return Response(np.moveaxis(frames[:, 0], -1, 0), feature, channel + offset)

    @classmethod
    def examples(cls) -> tuple[STFTSpectrogram, ...]:
        """Small legal specifications: every mode, channels last (on a CPU Keras runs channels first compiled only)."""
        return (
            cls("log", 4, 2, 4),
            cls("magnitude", 3, 1, 4, padding="same"),
            cls("psd", 4, 2, 8, window="hamming", periodic=True),
            cls("real", 4, 3, scaling="spectrum"),
            cls("imag", 2, 1, 4, window=None, expand_dims=True),
            cls("angle", 4, 2, scaling=None),
            cls("stft", 4, 2, 6, padding="same", expand_dims=True),
        )
