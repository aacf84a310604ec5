"""Families of layers that exist for one, two and three spatial axes: one law, documented once."""

from __future__ import annotations

from typing import Any, ClassVar

from scratch.layers.base import Layer


class Family(Layer):
    """Base of the families. A member names the number of its spatial axes, and the fields whose length that is:

        @layer
        class MaxPooling2D(MaxPooling, rank=2):
            pool_size: Two = (2, 2)
            strides: Two | None = None

    Its docstring is that of the family, in which {rank} stands for the number of axes.
    """

    #: the number of spatial axes
    rank: ClassVar[int]

    def __init_subclass__(cls, rank: int | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if rank is not None:
            cls.rank = rank
            cls.__doc__ = cls.__doc__ or str(cls.__mro__[1].__doc__).replace("{rank}", str(rank))
