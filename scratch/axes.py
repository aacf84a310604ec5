"""Domains of axis arguments, and the rank that axes need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from scratch.fields import Between, Domain, Integers, is_integer

#: an axis counted from either end; most operations of TensorFlow allow at most 8 axes
Axis = Annotated[int, Between(-8, 7, small=(-2, 1))]

#: what is along an axis that an operation may have to leave alone
_ALONG = {0: "0 (the batch)", -1: "-1 (the features)"}


@dataclass(frozen=True)
class Axes(Domain):
    """One axis, or with `many` a sequence of different axes; an axis in `but` is not allowed."""

    examples: tuple[Any, ...]
    but: tuple[int, ...] = ()
    many: bool = True

    @property
    def rule(self) -> str:
        but = f" other than {' and '.join(_ALONG[axis] for axis in self.but)}" if self.but else ""
        return f"must be an integer, an axis{but}" + (", or a sequence of different ones" if self.many else "")

    def holds(self, value: Any) -> bool:
        axes = value if self.many and isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        legal = all(is_integer(axis) and axis not in self.but for axis in axes)
        return bool(axes) and legal and len(set(axes)) == len(axes)

    def normalise(self, value: Any) -> Any:
        return int(value) if is_integer(value) else tuple(int(axis) for axis in value)


@dataclass(frozen=True)
class AxisTuple(Integers):
    """A tuple of axes, each of them once; one integer stands for a tuple of one."""

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


AxisOrAxes = Axis | Annotated[tuple[int, ...], AxisTuple()]


def rank_for(axes: int | tuple[int, ...] | None) -> int:
    """A rank in which these axes, counted from either end, exist and differ."""
    given = () if axes is None else axes if isinstance(axes, tuple) else (axes,)
    return max((a + 1 for a in given if a >= 0), default=0) + max((-a for a in given if a < 0), default=0)
