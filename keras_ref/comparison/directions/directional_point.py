"""A point, random directions through it, and what autodiff says of the slope along one (see directional.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_ref.comparison.entries.neighbourhood import DISTANCE
from keras_ref.comparison.sources.autodiff import SHIFTS, Gradient, shift_point, shift_points
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.comparison.sources.sums import dot, root_mean_square
from scratch.arrays import Array
from scratch.differences import UNIT
from scratch.random_offset import draw_offset

#: how far a variable's scale may be from the median variable's, in units of the variable's own size
CLIP = 2.0**6
#: variables that move the loss by less than this share of what the one does that moves it most set no scale for others
FAINT = 2.0**-20
#: the rounding of a loss in units of UNIT·|(g·θ)|: slopes were off by 0.1 to 0.8 of them, divided by the step, in four
#: networks of keras.applications. The rest is a margin in which no comparison depends on the last bits
ROUNDINGS = 4.0
#: t: √UNIT first, and CLOSER by a factor, and again, where kinks lie within it
CLOSER = 8.0
NEAR = tuple(2.0**-26 / CLOSER**k for k in range(3))


@dataclass(frozen=True)
class Direction:
    """A direction, and how far it moves the entries of each variable.

    vector     arrays by name; what is left out rests
    least      the least |v_i| of the variables of which every entry moves
    ordinary   an ordinary entry's share |g_i·v_i| of the slope
    """

    vector: Mapping[str, Array]
    least: Mapping[str, float]
    ordinary: float = 0.0


@dataclass(frozen=True)
class Contraction:
    """⟨g, v⟩ and its own rounding, ⟨g_k, v_k⟩ by variable, and the usual size √Σ(g·v)² of the slope."""

    shares: Mapping[str, float]
    rounding: float
    usual: float

    @property
    def value(self) -> float:
        """⟨g, v⟩"""
        return math.fsum(self.shares.values())


@dataclass(frozen=True)
class Scales:
    """How far each variable moves along a direction, and the share s_k·rms(g_k) of an ordinary entry in the slope."""

    by_name: Mapping[str, float]
    ordinary: float


class DirectionalPoint:
    """A point, the loss that is differenced there, and autodiff's gradient at it.

    gradient_at   autodiff's gradient at a point
    gradient      the same at this point, where it is known already
    """

    def __init__(
        self,
        oracle: Oracle,
        gradient_at: Callable[[Mapping[str, Array]], Gradient],
        *,
        gradient: Gradient | None = None,
        seed: int = 0,
    ) -> None:
        self.oracle, self.gradient_at, self.seed = oracle, gradient_at, seed
        #: where to look first: a closer look that one direction needed, the others will need too
        self.nearest: tuple[float, ...] = NEAR
        self.gradient: Gradient = gradient_at(oracle.values) if gradient is None else gradient

    @cached_property
    def noise(self) -> float:
        """The noise of the loss, measured when it is first asked for: that costs as much as several directions."""
        return self.oracle.measured_noise(seed=self.seed)

    @cached_property
    def expected_noise(self) -> float:
        """The noise of the loss as the top of this file derives it, or as much as the oracle knows of."""
        parts = [self.sizes[n] * self.own_sizes[n] * math.sqrt(v.size) for n, v in self.oracle.values.items()]
        whole = math.hypot(*(part for part in parts if math.isfinite(part)))
        return max(self.oracle.noise, UNIT * (ROUNDINGS * whole + abs(self.oracle.base)))

    @cached_property
    def shifted_gradients(self) -> list[Gradient]:
        """The gradient computed again with other rounding."""
        return [self.gradient_at(point) for point in shift_points(self.oracle.values, UNIT, shifts=SHIFTS[:2])]

    @cached_property
    def sizes(self) -> dict[str, float]:
        """rms(g_k) by name."""
        return {name: 0.0 if g is None else root_mean_square(g) for name, g in self.gradient.items()}

    @cached_property
    def own_sizes(self) -> dict[str, float]:
        """rms(θ_k) by name."""
        return {name: root_mean_square(value) for name, value in self.oracle.values.items()}

    def contract(self, vector: Mapping[str, Array]) -> Contraction:
        """⟨g, v⟩ along a direction."""
        shares, terms, squares = {}, [], []
        for name, v in vector.items():
            gradient, square = self.gradient[name], dot(v, v)
            shares[name] = 0.0 if gradient is None else dot(gradient, v)
            terms.append(self.sizes[name] * math.sqrt(square * v.size))
            squares.append(self.sizes[name] ** 2 * square)
        return Contraction(shares, 8 * UNIT * math.fsum(terms), math.sqrt(math.fsum(squares)))

    def choose_scales(self, names: Sequence[str]) -> Scales:
        """s_k by name, as the top of this file derives it. The median variable moves by t times its own size."""
        own = {n: self.own_sizes[n] or 1.0 for n in names}
        moved = {n: self.sizes[n] * own[n] for n in names}
        whole = {n: moved[n] * math.sqrt(self.oracle.values[n].size) for n in names}
        telling = [moved[n] for n in names if whole[n] > FAINT * max(whole.values())]
        ordinary = float(np.median(telling)) if telling else 0.0
        factors = {n: np.clip(ordinary / moved[n] if moved[n] else CLIP, 1 / CLIP, CLIP) for n in names}
        return Scales({n: own[n] * float(factors[n]) for n in names}, ordinary)

    def beside(self, generator: np.random.Generator) -> DirectionalPoint:
        """A generic point close by: no tie and no zero is left."""
        values = shift_point(self.oracle.values, generator, distance=DISTANCE)
        return DirectionalPoint(self.oracle.moved(values), self.gradient_at, seed=self.seed)


def draw_direction(
    point: DirectionalPoint,
    names: Sequence[str],
    generator: np.random.Generator,
    *,
    sampled: Sequence[str] = (),
) -> Direction:
    """A random direction in which every entry of the named variables moves.

    Of the variables in `sampled` one drawn entry moves, as far as all of its fellows together would.
    """
    scales = point.choose_scales([*names, *sampled])
    far = scales.by_name
    vector = {n: draw_offset(point.oracle.values[n].shape, generator, scale=far[n]) for n in names}
    for n in sampled:
        vector[n] = np.zeros(point.oracle.values[n].shape)
        farther = far[n] * min(math.sqrt(vector[n].size), CLIP)
        vector[n].flat[generator.integers(vector[n].size)] = farther * generator.choice([-1.0, 1.0])
    return Direction(vector, {n: far[n] / 2 for n in names}, scales.ordinary)


def contract(gradient: Array | None, vector: Array) -> float:
    """⟨gradient, vector⟩; 0 where autodiff says None."""
    return 0.0 if gradient is None else dot(gradient, vector)
