"""Is anything wrong? Every entry moved at once along a random direction v, and ⟨g, v⟩ of autodiff's gradient g beside it.

Let e be what g errs by. Along v the loss has the slope D = ⟨g, v⟩ - ⟨e, v⟩, and two forward passes give D to within an
error `allowed` that is measured as comparison.py does: (L(θ + tv) - L(θ - tv)) / 2t, with left and right slopes beside
it. |⟨g, v⟩ - D| ≤ allowed is a match; an error E in the one entry i is certainly seen where |E·v_i| > 2·allowed.

The direction  v_ki = ±s_k·u, u drawn from [1/2, 1]: no entry is left out, and no two errors cancel by symmetry.
The scale      s_k ∝ 1 / rms(g_k), so that an ordinary entry of every variable k contributes alike, and a small tensor
               cannot hide behind a large one: E shows itself where E / rms(g_k) > 4·allowed / (s_k·rms(g_k)), the same
               for all k. In units of the variable's own size s_k stays within CLIP of the median variable's: a gradient
               that is zero must not send its variable to infinity. What stays hidden all the same (a variable whose
               whole ⟨g_k, v_k⟩ is within a few `allowed`) is moved once more by itself, the others at rest.
The step       t = √UNIT: the rounding 2·noise / t and the curvature t·L'' are then of one size, about 1e-8 of D; a
               network of many ReLUs has kinks everywhere along a long line, and here most of them are out of reach.
The noise      L(θ + tv) + L(θ - tv) - 2·L(θ) is noise, curvature and kinks, and nothing of the slope: it bounds the noise
               from above without an evaluation more. Only where doubt remains is the noise measured by itself.
Several wrong entries may cancel along one v; they do not along several, each drawn anew.
Doubt (sides that differ, a difference not allowed, an error too wide) asks for more steps, then for generic points
beside: at an exact kink autodiff's value is a convention, and it has to be right where the derivative is unique.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_ref.comparison.entrywise import DISTANCE
from keras_ref.evaluation.directional_loss import DirectionalLoss
from keras_ref.evaluation.graph import casts_down, opaque
from scratch import noise as loss_noise
from scratch.arrays import Array
from scratch.differences import SAFETY, UNIT, scale_of
from scratch.one_sided import LADDER, slopes

Gradient = Mapping[str, Array | None]

#: exponents of t: a first look around √UNIT, one closer where a kink lies within it, and a wide one; the ladder of
#: scratch.one_sided comes last
LOOK, CLOSER, WIDE = np.arange(-26.0, -29.0, -1.0), np.arange(-29.0, -32.0, -1.0), np.arange(-8.0, -33.0, -1.0)
#: how far a variable's scale may be from the median variable's, in units of the variable's own size
CLIP = 2.0**6
#: variables that move the loss by less than this share of what the one does that moves it most set no scale for others
FAINT = 2.0**-20
#: while more than this share of an ordinary entry would go unseen, the error of the slope is looked into
BLUNT = 2.0**-6
#: relative noise above which rounding in float64 does not explain it (subject.SUSPICIOUS)
NOISY = 2.0**-36
#: generic points beside a kink (as comparison.compare looks for them)
NEIGHBOURS = 3
#: spacings at which the noise of a loss in float64 is measured: kinks and curvature are out of reach
CLOSE = (2.0**-30, -(2.0**-33))
#: a half is wrong or right at a look where its difference is so many times what was allowed, or so much less
CLEAR = 2.0
#: a variable is hidden while its share of the slope is within this many times what was allowed
HIDDEN = 8.0
#: relative shifts that re-roll a gradient's rounding and break no tie within a variable (as oracles.autodiff_at)
REROLLS = (2.0**-48, -(2.0**-48))
#: u = TABLE[byte]: drawing one byte an entry is what keeps a direction cheaper than a forward pass
TABLE = np.concatenate([np.linspace(0.5, 1.0, 128), -np.linspace(0.5, 1.0, 128)])
PIECE = 4096


def dot(a: Array, b: Array) -> float:
    """Σ a·b, pieces summed exactly: the rounding of one piece is all that is left."""
    a, b = np.ravel(a), np.ravel(b)
    whole = len(a) - len(a) % PIECE
    pieces = np.einsum("ij,ij->i", a[:whole].reshape(-1, PIECE), b[:whole].reshape(-1, PIECE))
    return math.fsum([*pieces, float(a[whole:] @ b[whole:])])


@dataclass(frozen=True)
class Direction:
    """Arrays by name (what is left out rests); the least |v_i| of the variables of which every entry moves; an ordinary
    entry's share |g_i·v_i| of the slope."""

    vector: Mapping[str, Array]
    least: Mapping[str, float]
    ordinary: float = 0.0


@dataclass(frozen=True)
class Residual:
    """⟨g, v⟩ against the slope along v; `shares`: ⟨g_k, v_k⟩ by variable."""

    autodiff: float
    numeric: float
    truncation: float
    rounding: float
    left: float
    right: float
    between: bool
    smooth: bool
    jump: bool
    shares: Mapping[str, float]
    noise: float

    @property
    def allowed(self) -> float:
        return self.truncation + self.rounding

    @property
    def difference(self) -> float:
        return self.autodiff - self.numeric

    @property
    def fine(self) -> bool:
        return self.smooth and abs(self.difference) <= self.allowed

    @property
    def excess(self) -> float:
        """The difference in units of what was allowed; 0 at a kink that autodiff lies within."""
        if not self.smooth and self.between:
            return 0.0
        ratio = abs(self.difference) / self.allowed if self.allowed else math.inf
        return math.inf if math.isnan(ratio) else ratio


class Place:
    """A point, the loss that is differenced there, and autodiff's gradient at it."""

    def __init__(
        self,
        oracle: Any,
        gradient_at: Callable[[Mapping[str, Array]], Gradient],
        gradient: Gradient | None = None,
        *,
        seed: int = 0,
        noise: float | None = None,
    ) -> None:
        self.oracle, self.gradient_at, self.seed, self._noise = oracle, gradient_at, seed, noise
        #: where to look first: a closer look that one direction needed, the others will need too
        self.looks: tuple[Array, ...] = (LOOK, CLOSER)
        self.gradient: Gradient = gradient_at(oracle.values) if gradient is None else gradient

    @property
    def measured(self) -> bool:
        """Whether the noise has been measured, which only doubt asks for."""
        return "noise" in vars(self)

    @cached_property
    def noise(self) -> float:
        """Measured, which costs as many evaluations as several directions.

        scratch.noise differences the loss where a float32 value still changes; there a network of many ReLUs has kinks
        that look like noise. Where the traced loss is float64 throughout, it is measured a thousand times closer.
        """
        if self._noise is not None:
            return self._noise
        oracle = self.oracle
        close = (
            isinstance(getattr(oracle, "probe", None), DirectionalLoss)
            and not casts_down(oracle.probe.graph)
            and not opaque(oracle.probe.graph)
        )
        if not close:
            return loss_noise.measure(oracle.directional, oracle.values, oracle.base, seed=self.seed)
        points, generator = np.arange(1, loss_noise.POINTS + 1), np.random.default_rng(self.seed)
        vector = {n: (_rms(v) or 1.0) * _signed(v.shape, generator) for n, v in oracle.values.items()}
        lines = [np.asarray(oracle.directional(vector, spacing * points), dtype=float) for spacing in CLOSE]
        noises = [loss_noise.difference_noise(line) for line in lines if np.isfinite(line).all()]
        return max(loss_noise.DEVIATIONS * min(noises), UNIT * float(np.max(np.abs(lines)))) if noises else math.nan

    @cached_property
    def again(self) -> list[Gradient]:
        """The gradient with its rounding rolled anew."""
        values = self.oracle.values.items()
        return [
            self.gradient_at({name: value * (1 + shift * (1 + (i % 3) / 2)) for i, (name, value) in enumerate(values)})
            for shift in REROLLS
        ]

    @cached_property
    def sizes(self) -> dict[str, float]:
        """rms(g_k) by name."""
        return {n: 0.0 if g is None or not g.size else math.sqrt(dot(g, g) / g.size) for n, g in self.gradient.items()}

    def scales(self, names: Sequence[str]) -> tuple[dict[str, float], float]:
        """s_k by name, as the top of this file derives it, and s_k·rms(g_k) of most of them: the share of an ordinary
        entry. The median variable moves by t times its own size."""
        own = {n: _rms(self.oracle.values[n]) or 1.0 for n in names}
        moved = {n: self.sizes[n] * own[n] for n in names}
        whole = {n: moved[n] * math.sqrt(self.oracle.values[n].size) for n in names}
        telling = [moved[n] for n in names if whole[n] > FAINT * max(whole.values())]
        ordinary = float(np.median(telling)) if telling else 0.0
        return {
            n: own[n] * float(np.clip(ordinary / moved[n] if moved[n] else CLIP, 1 / CLIP, CLIP)) for n in names
        }, ordinary

    def beside(self, generator: np.random.Generator) -> Place:
        """A generic point close by: no tie and no zero survives."""
        values = {
            n: v + DISTANCE * scale_of(v.ravel()).reshape(v.shape) * _signed(v.shape, generator)
            for n, v in self.oracle.values.items()
        }
        return Place(self.oracle.moved(values), self.gradient_at, seed=self.seed, noise=self.noise)


def _rms(value: Array) -> float:
    return math.sqrt(dot(value, value) / value.size) if value.size else 0.0


def _signed(shape: tuple[int, ...], generator: np.random.Generator, scale: float = 1.0) -> Array:
    """±scale·u, an entry each."""
    return (scale * TABLE)[np.frombuffer(generator.bytes(math.prod(shape)), np.uint8)].reshape(shape)


def drawn(place: Place, names: Sequence[str], generator: np.random.Generator, sampled: Sequence[str] = ()) -> Direction:
    """A random direction in which every entry of the named variables moves, and of those in `sampled` one drawn entry, as
    far as all of its fellows together would."""
    scales, ordinary = place.scales([*names, *sampled])
    vector = {n: _signed(place.oracle.values[n].shape, generator, scales[n]) for n in names}
    for n in sampled:
        vector[n] = np.zeros(place.oracle.values[n].shape)
        far = scales[n] * min(math.sqrt(vector[n].size), CLIP)
        vector[n].flat[generator.integers(vector[n].size)] = far * generator.choice([-1.0, 1.0])
    return Direction(vector, {n: scales[n] / 2 for n in names}, ordinary)


def look(place: Place, vector: Mapping[str, Array], exponents: Array = LOOK, noise: float | None = None) -> Residual:
    """The residual along one direction from steps 2^exponents, two forward passes each.

    `noise` None takes it from the even part of the very losses; given, autodiff's own rounding is measured as well.
    """
    steps = np.exp2(exponents)
    base = place.oracle.base
    losses = np.asarray(place.oracle.directional(vector, np.concatenate([steps, -steps])), dtype=float)
    even = losses[: len(steps)] + losses[len(steps) :] - 2 * base
    with np.errstate(invalid="ignore", over="ignore"):
        # curvature goes with the square of the step and cancels; of losses with deviation σ, σ·√(2 + 32 + 36) is left
        rough = even[:-1] - 4 * even[1:]
        within = max(
            loss_noise.DEVIATIONS * math.sqrt(float(np.mean(rough**2)) / 70), UNIT * float(np.max(np.abs(losses)))
        )
    level = within if noise is None else noise
    found = slopes(lambda offsets: losses[:, None], np.zeros(1), level, base=base, exponents=exponents)
    shares = {n: _inner(place.gradient[n], v) for n, v in vector.items()}
    spread = 8 * UNIT * math.fsum(place.sizes[n] * _rms(v) * v.size for n, v in vector.items())
    if noise is not None:
        value = math.fsum(shares.values())
        rolled = [abs(math.fsum(_inner(g[n], v) for n, v in vector.items()) - value) for g in place.again]
        spread += 4 * max(rolled)
    autodiff, best, sides = math.fsum(shares.values()), found.value, (found.left, found.right)
    low = min(float(side.value[0] - side.error[0]) for side in sides) - spread
    high = max(float(side.value[0] + side.error[0]) for side in sides) + spread
    return Residual(
        autodiff,
        float(best.value[0]),
        float(best.truncation[0]),
        float(best.rounding[0]) + spread,
        float(found.left.value[0]),
        float(found.right.value[0]),
        low <= autodiff <= high,
        bool(found.smooth[0]) and math.isfinite(best.value[0]),
        bool(found.jump[0]),
        shares,
        level,
    )


def _inner(gradient: Array | None, vector: Array) -> float:
    return 0.0 if gradient is None else dot(gradient, vector)


def settled(place: Place, vector: Mapping[str, Array], ordinary: float = 0.0) -> Residual:
    """The residual with as many steps as its doubt asks for; `ordinary`: the share of an entry that should stand out, for
    which one closer look is taken."""

    def blunt(residual: Residual) -> bool:
        return SAFETY * residual.allowed > BLUNT * ordinary > 0

    best = None
    for exponents in place.looks:
        found = look(place, vector, exponents)
        if found.fine and found.noise <= NOISY * abs(place.oracle.base):
            best = found if best is None or found.allowed < best.allowed else best
            place.looks = place.looks if best is not found else tuple(e for e in (LOOK, CLOSER) if e[0] <= exponents[0])
            if not blunt(best):
                break
        elif found.smooth:
            break  # a difference, or noise: closer steps do not help
    if best is not None:
        return best  # what it is too blunt for is said: a match is not worth a hundred passes more
    for exponents in (WIDE, LADDER):
        found = look(place, vector, exponents, place.noise)
        if found.smooth and not blunt(found):
            return found
        if found.fine and (best is None or found.allowed < best.allowed):
            best = found
    return best or found


def excess_of(place: Place, vector: Mapping[str, Array]) -> float:
    """How far beyond what is allowed a part of a direction is, that is known to be wrong as a whole: a look where it is clear."""
    found = look(place, vector, LOOK, place.noise)
    clear = found.smooth and not 1 / CLEAR < found.excess < CLEAR
    return found.excess if clear else settled(place, vector).excess


@dataclass(frozen=True)
class Finding:
    """match, kink, mismatch or undecided along one direction, and where (the point itself, or one beside)."""

    verdict: str
    direction: Direction
    residual: Residual
    place: Place
    reason: str = ""


def decided(place: Place, direction: Direction) -> Finding:
    """The residual along a direction, judged as comparison.compare judges an entry: by the neighbourhood where it must be."""
    here = settled(place, direction.vector, direction.ordinary)
    if here.fine:
        return Finding("match", direction, here, place)
    if here.jump or not math.isfinite(here.numeric):
        return Finding(
            "undecided",
            direction,
            here,
            place,
            "the loss jumps at the point" if here.jump else "the loss is not finite beside the point",
        )
    within, right, generator = not here.smooth and here.between, 0, np.random.default_rng(place.seed)
    for _ in range(NEIGHBOURS):
        near = place.beside(generator)
        there = settled(near, direction.vector, direction.ordinary)
        if there.smooth and not there.fine:
            chosen = (place, here) if here.smooth else (near, there)
            return Finding("mismatch", direction, chosen[1], chosen[0])
        right += there.fine
        if within and right:
            break
    if right or within:
        return Finding(
            "kink",
            direction,
            here,
            place,
            "a kink at this very point: autodiff is right beside it"
            if right
            else "a kink: autodiff lies between the sides; no smooth point was found beside it",
        )
    return Finding(
        "undecided",
        direction,
        here,
        place,
        "left and right slopes differ along random directions, and no smooth point was found beside",
    )


def visible(finding: Finding, name: str) -> float:
    """The smallest error in one entry of a variable that was certainly seen; inf where not every entry moved."""
    least = finding.direction.least.get(name, 0.0)
    return SAFETY * finding.residual.allowed / least if least else math.inf


def hidden(findings: Sequence[Finding], names: Sequence[str]) -> list[str]:
    """Variables whose whole share is so small beside what was allowed that it could be missing."""
    return [
        n for n in names if all(abs(f.residual.shares.get(n, 0.0)) <= HIDDEN * f.residual.allowed for f in findings)
    ]
