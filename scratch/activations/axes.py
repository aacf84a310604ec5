"""Domains of axis arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from scratch.fields import Between, Integers, is_integer

#: an axis counted from either end; most operations of TensorFlow allow at most 8 axes
Axis = Annotated[int, Between(-8, 7, small=(-2, 1))]


@dataclass(frozen=True)
class Axes(Integers):
    """A tuple of different axes; one integer stands for a tuple of one."""

    low: int = -8
    small: tuple[int, int] = (1, 2)
    shortest: int = 1

    @property
    def rule(self) -> str:
        return f"must be a tuple of axes, each an integer of at least {self.low}"

    def holds(self, value: Any) -> bool:
        return super().holds((value,) if is_integer(value) else value)

    def normalise(self, value: Any) -> tuple[int, ...]:
        return tuple(dict.fromkeys(super().normalise((value,) if is_integer(value) else value)))


def rank_for(axes: int | tuple[int, ...] | None) -> int:
    """A rank in which these axes, counted from either end, exist and differ."""
    given = () if axes is None else axes if isinstance(axes, tuple) else (axes,)
    return max((a + 1 for a in given if a >= 0), default=0) + max((-a for a in given if a < 0), default=0)
