"""Windows of an array over any number of axes, which convolution, its transpose and pooling are made of.

Arrays are (batch, size…, channels); `channels_last` converts from the other data format, `restored` back to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from scratch.arrays import Array
from scratch.fields import Integers, Shape

DataFormat = Literal["channels_last", "channels_first"]
Padding = Literal["valid", "same"]
One = Annotated[tuple[int, ...], Integers(1)]
Two = Annotated[tuple[int, ...], Integers(2)]
Three = Annotated[tuple[int, ...], Integers(3)]
Rate1 = Annotated[tuple[int, ...], Integers(1, small=(1, 2))]
Rate2 = Annotated[tuple[int, ...], Integers(2, small=(1, 2))]
Rate3 = Annotated[tuple[int, ...], Integers(3, small=(1, 2))]


def refuse_strided_dilation(strides: Sequence[int], dilation_rate: Sequence[int]) -> None:
    """Raises: ValueError where windows are both strided and dilated, which Keras refuses."""
    if max(strides) > 1 and max(dilation_rate) > 1:
        raise ValueError(
            "`strides` or `dilation_rate` must be 1. Received: "
            f"strides={tuple(strides)}, dilation_rate={tuple(dilation_rate)}. Set one of them to 1."
        )


def channels_last(x: Array, data_format: str) -> Array:
    """x with its channels on the last axis."""
    return x if data_format == "channels_last" else np.moveaxis(x, 1, -1)


def restored(y: Array, data_format: str) -> Array:
    """The inverse of `channels_last`."""
    return y if data_format == "channels_last" else np.moveaxis(y, -1, 1)


def formatted(batch: int, sizes: Sequence[int], channels: int, data_format: str) -> Shape:
    """The shape (batch, size…, channels) in the order of `data_format`."""
    return (batch, *sizes, channels) if data_format == "channels_last" else (batch, channels, *sizes)


def channels_of(shape: Shape, data_format: str) -> Any:
    """The number of channels in a shape."""
    return shape[-1] if data_format == "channels_last" else shape[1]


def extents(kernel_size: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Cells from the first to the last that a dilated kernel covers: (k - 1)·d + 1."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True))


def cells(kernel_size: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Indices into `patches`, one for each place in the kernel, in C order."""
    return ((Ellipsis, *place, slice(None)) for place in np.ndindex(*kernel_size))


def margins(
    sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], padding: str
) -> tuple[tuple[int, int], ...]:
    """Cells added before and after each axis.

    "same": as many as ⌈size / stride⌉ windows need, the odd one after; "causal": span - 1, all before; "valid": none.
    """
    if padding == "valid":
        return ((0, 0),) * len(sizes)
    if padding == "causal":
        return tuple((span - 1, 0) for span in spans)
    needed = (max((-(-n // s) - 1) * s + span - n, 0) for n, span, s in zip(sizes, spans, strides, strict=True))
    return tuple((total // 2, total - total // 2) for total in needed)


def windows(
    x: Array, kernel_size: Sequence[int], strides: Sequence[int], dilation: Sequence[int], *, writeable: bool = False
) -> Array:
    """The windows of x as a view (batch, window…, place in kernel…, channels): writing into it writes into x.

    Raises: ValueError where the rank of x is wrong or a window does not fit into x.
    """
    rank = len(kernel_size)
    if x.ndim != rank + 2:
        raise ValueError(
            f"A layer over {rank} axes must have inputs of rank {rank + 2} (batch, {rank} sizes, channels). "
            f"Received: rank {x.ndim}. Reshape the input."
        )
    spans = extents(kernel_size, dilation)
    if any(n < span for n, span in zip(x.shape[1:-1], spans, strict=True)):
        raise ValueError(
            f"A window must fit into the input. Received: windows of {spans} cells on an input of {x.shape[1:-1]}. "
            "Pass a larger input, a smaller kernel or padding='same'."
        )
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=tuple(range(1, rank + 1)), writeable=writeable)
    steps = (
        slice(None),
        *(slice(None, None, s) for s in strides),
        slice(None),
        *(slice(None, None, d) for d in dilation),
    )
    return np.moveaxis(view[steps], rank + 1, -1)


def patches(
    x: Array,
    kernel_size: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: str = "valid",
    fill: float = 0.0,
) -> Array:
    """The windows of x after padding with `fill`: (batch, window…, place in kernel…, channels)."""
    around = margins(x.shape[1:-1], extents(kernel_size, dilation), strides, padding)
    if any(before or after for before, after in around):
        x = np.pad(x, ((0, 0), *around, (0, 0)), constant_values=fill)
    return windows(x, kernel_size, strides, dilation)
