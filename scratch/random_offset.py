"""Random offsets in which every entry moves by its own amount, and none by next to nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scratch.arrays import Array
from scratch.differences import scale_of


def draw_offset(shape: tuple[int, ...], generator: np.random.Generator, *, scale: float = 1.0) -> Array:
    """±scale · u for each entry, the sign and u from [1/2, 1] drawn independently.

    No entry stays where it is and no two move alike, so that ties and zeros are left behind. One random number is drawn
    for each entry: of a network of many millions an offset costs less than a forward pass.
    """
    offset = generator.random(shape)
    offset -= 0.5
    offset += np.copysign(0.5, offset)
    offset *= scale
    return offset


def draw_offsets(
    values: Mapping[str, Array], generator: np.random.Generator, *, distance: float = 1.0
) -> dict[str, Array]:
    """A random offset for each array, its entries measured in `distance` times their own size (see `scale_of`)."""
    return {
        name: distance * scale_of(np.ravel(value)).reshape(np.shape(value)) * draw_offset(np.shape(value), generator)
        for name, value in values.items()
    }
