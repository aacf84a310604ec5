"""numeric against autodiff, entry by entry. The allowed difference is derived here and nowhere else:

    allowed = truncation + rounding of the numeric slope + rounding of the autodiff value

each measured at the entry itself. An entry is looked at with few steps first; where those leave doubt (too wide an
error, sides that differ, a difference that is not allowed) with more, down to the last bits of the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from keras_ref.comparison.taylor_remainder import remainder_order
from keras_ref.reports.heat_map import Cells
from keras_ref.reports.verdict import FAILING, Verdict, worst_of
from scratch.arrays import Array
from scratch.differences import UNIT, ComplexStep, Estimate, Scheme, scale_of
from scratch.one_sided import TIERS, Slopes, slopes

#: a doubt is looked into while truncation exceeds this share of the slope: planted errors of 1e-6 must stand out
SHARP = 1e-7
#: generic points near a kink, in opposite pairs (a kink has two sides, and on one of them there may be nothing to see),
#: and how far off they lie, in units of each weight's size: near enough to be the same neighbourhood, far enough that
#: loss noise / distance stays below SHARP (1e-16 · 2^13 ~ 1e-12)
PAIRS, DISTANCE = 2, 2.0**-13


class Oracle(Protocol):
    """A loss that can be nudged: Keras's own forward pass, or a twin's."""

    @property
    def name(self) -> str: ...

    @property
    def base(self) -> float: ...

    @property
    def noise(self) -> float: ...

    @property
    def values(self) -> Mapping[str, Array]: ...

    def losses(self, name: str, entries: Array, offsets: Array) -> Array: ...

    def moved(self, values: Mapping[str, Array]) -> Oracle: ...


@dataclass(frozen=True)
class Autodiff:
    """Autodiff's gradient at the point: its values, their rounding error, and how to get it at another point.

    `again` measures the rounding once more, in another way: asked for before a value is accused.
    """

    gradient: Mapping[str, Array | None]
    rounding: Mapping[str, Array]
    at: Any
    how: str = "eager"
    again: Callable[[], Mapping[str, Array]] | None = None

    @property
    def doubted(self) -> Mapping[str, Array]:
        """The rounding error with all that is known of it."""
        if self.again is None:
            return self.rounding
        second = self.again()
        return {name: np.fmax(own, second[name]) for name, own in self.rounding.items()}


@dataclass
class _Entries:
    """What is known of the entries of one variable so far."""

    estimate: Estimate
    left: Estimate
    right: Estimate
    smooth: Array
    jump: Array
    reach: Array

    @classmethod
    def unknown(cls, n: int) -> _Entries:
        def none() -> Estimate:
            return Estimate(np.full(n, np.nan), np.full(n, np.inf), np.full(n, np.inf))

        return cls(none(), none(), none(), np.zeros(n, bool), np.zeros(n, bool), np.full(n, np.nan))

    def replace(self, at: Array, other: _Entries) -> None:
        """Put what is known of other entries in the place of `at`."""
        self.learn(at, Slopes(other.left, other.right, other.estimate, other.smooth, other.jump, other.reach))

    def learn(self, at: Array, found: Slopes) -> None:
        for mine, new in ((self.estimate, found.value), (self.left, found.left), (self.right, found.right)):
            mine.value[at], mine.truncation[at], mine.rounding[at] = new.value, new.truncation, new.rounding
        self.smooth[at], self.jump[at], self.reach[at] = found.smooth, found.jump, found.reach


def measure(oracle: Oracle, name: str, entries: Array, autodiff: Array, rounding: Array) -> _Entries:
    """Slopes of the given flat entries, each with as many steps as its own doubt asks for."""
    at = np.ravel(oracle.values[name])[entries]
    known, doubtful = _Entries.unknown(len(entries)), np.arange(len(entries))
    for exponents in TIERS:
        if not len(doubtful):
            break

        def line(offsets: Array, doubtful: Array = doubtful) -> Array:
            return np.asarray(oracle.losses(name, entries[doubtful], offsets), dtype=float)

        known.learn(doubtful, slopes(line, at[doubtful], oracle.noise, base=oracle.base, exponents=exponents))
        estimate = known.estimate
        sharp = estimate.truncation <= np.maximum(SHARP * np.abs(estimate.value), estimate.rounding)
        agrees = np.abs(estimate.value - autodiff) <= estimate.error + rounding
        doubtful = np.flatnonzero(~(known.smooth & sharp & agrees))
    return known


def _listened(
    oracle: Oracle, name: str, entries: Array, known: _Entries, a: Array, rounding: Array, verdicts: Array
) -> Oracle:
    """Before an entry is accused, the oracle doubts itself: noise that stood still is looked for, and counted in."""
    doubted = getattr(oracle, "doubted", lambda: oracle)()
    if doubted.noise > oracle.noise:
        accused = np.flatnonzero(verdicts == "mismatch")
        again = measure(doubted, name, entries[accused], a[accused], rounding[accused])
        sharpened(doubted, name, entries[accused], again)
        known.replace(accused, again)
    return doubted


def schemed(oracle: Oracle, name: str, entries: Array, scheme: Scheme) -> _Entries:
    """Slopes by one given scheme, taken at its word: it knows no sides, so every entry counts as smooth."""
    known = _Entries.unknown(len(entries))
    found = scheme(
        lambda offsets: oracle.losses(name, entries, offsets), np.ravel(oracle.values[name])[entries], oracle.noise
    )
    everywhere = np.ones(len(entries), bool)
    known.learn(
        np.arange(len(entries)), Slopes(found, found, found, everywhere, ~everywhere, np.full(len(entries), np.nan))
    )
    return known


def sharpened(oracle: Oracle, name: str, entries: Array, known: _Entries) -> None:
    """Entries that noise leaves blunt (between two kinks a billionth away, say) by a complex step, where a twin takes one.

    A complex step stays on the branch of the point and cancels nothing; it counts where the real slopes, as blunt as
    they are, do not contradict it.
    """
    estimate = known.estimate
    with np.errstate(invalid="ignore"):
        blunt = np.flatnonzero(known.smooth & (estimate.error > SHARP * np.abs(estimate.value)) & (estimate.value != 0))
    if not len(blunt) or not getattr(oracle, "takes_complex", False):
        return
    at = np.ravel(oracle.values[name])[entries[blunt]]
    found = ComplexStep()(lambda offsets: oracle.losses(name, entries[blunt], offsets), at, oracle.noise)
    fits = np.abs(found.value - estimate.value[blunt]) <= estimate.error[blunt] + found.error
    here = blunt[fits & (found.error < estimate.error[blunt])]
    chosen = np.isin(blunt, here)
    estimate.value[here], estimate.truncation[here], estimate.rounding[here] = (
        a[chosen] for a in (found.value, found.truncation, found.rounding)
    )


def compare(
    oracle: Oracle,
    name: str,
    autodiff: Autodiff,
    entries: Array | None = None,
    *,
    seed: int = 0,
    scheme: Scheme | None = None,
) -> Verdict:
    """The verdict on one variable (all its entries, or the given flat ones) against one oracle.

    `scheme` None lets every entry have as many steps as its own doubt asks for, and sees kinks.
    """
    value = oracle.values[name]
    entries = np.arange(value.size) if entries is None else entries
    gradient = autodiff.gradient[name]
    a = np.zeros(len(entries)) if gradient is None else np.ravel(gradient)[entries].astype(float)
    rounding = np.zeros(len(entries)) if gradient is None else np.ravel(autodiff.rounding[name])[entries]
    if scheme is None:
        known = measure(oracle, name, entries, np.where(np.isfinite(a), a, np.inf), rounding)
        sharpened(oracle, name, entries, known)
    else:
        known = schemed(oracle, name, entries, scheme)
    verdicts, reasons = judge(known, a, rounding)
    if scheme is None and gradient is not None and (verdicts == "mismatch").any():
        rounding = np.where(verdicts == "mismatch", np.ravel(autodiff.doubted[name])[entries], rounding)
        oracle = _listened(oracle, name, entries, known, a, rounding, verdicts)
        verdicts, reasons = judge(known, a, rounding)
    special = np.flatnonzero(np.isin(verdicts, ("kink", "mismatch")))
    if len(special) and gradient is not None and scheme is None:
        _look_around(oracle, name, entries, special, known, a, rounding, verdicts, reasons, autodiff, seed)
    if gradient is None:
        verdicts[verdicts == "match"] = "disconnected"
        reasons.update(
            {int(i): "autodiff gives None where the loss moves" for i in np.flatnonzero(verdicts == "mismatch")}
        )
    verdict = _verdict(oracle, name, value.shape, entries, known, a, rounding, verdicts, reasons, autodiff.how)
    if verdict.verdict != "mismatch":
        return verdict
    worst = int(np.ravel_multi_index(verdict.worst, value.shape)) if value.shape else 0
    return replace(verdict, order=remainder_order(oracle, name, worst, verdict.autodiff))


def judge(known: _Entries, a: Array, rounding: Array) -> tuple[Array, dict[int, str]]:
    """Verdict of each entry from its own numbers alone; "kink" is provisional until the neighbourhood has been seen."""
    estimate = known.estimate
    verdicts = np.full(len(a), "undecided", dtype="<U16")
    allowed = estimate.error + rounding
    with np.errstate(invalid="ignore"):
        match = known.smooth & (np.abs(estimate.value - a) <= allowed)
        measured = np.isfinite(estimate.value) & np.isfinite(estimate.error)
        verdicts[known.smooth & measured] = "mismatch"
        verdicts[match] = "match"
        verdicts[~known.smooth & measured] = "kink"
        verdicts[~np.isfinite(a) & known.smooth & measured] = "nan"
        verdicts[known.jump] = "undecided"
    reasons = {int(i): "the loss jumps at the point" for i in np.flatnonzero(known.jump)}
    reasons |= {int(i): "the loss is not finite beside the point" for i in np.flatnonzero(~measured & ~known.jump)}
    unbounded = ~known.smooth & ~np.isfinite(a)
    verdicts[unbounded] = "undecided"
    reasons |= {
        int(i): "autodiff is not finite and the loss has no slope at the point" for i in np.flatnonzero(unbounded)
    }
    return verdicts, reasons


def _look_around(
    oracle: Oracle,
    name: str,
    entries: Array,
    special: Array,
    known: _Entries,
    a: Array,
    rounding: Array,
    verdicts: Array,
    reasons: dict[int, str],
    autodiff: Autodiff,
    seed: int,
) -> None:
    """Decide kinks and mismatches by their neighbourhood: autodiff against differences at generic points close by.

    At a kink any value between the left and the right slope is a convention, and where several kinks meet even values
    outside are (relu(x) - relu(-x) has slope 1 at 0, and autodiff 0); but beside the kink the derivative is unique, and
    there autodiff has to be right. A wrong backward pass is wrong there too.
    """
    low = np.minimum(known.left.value - known.left.error, known.right.value - known.right.error) - rounding
    high = np.maximum(known.left.value + known.left.error, known.right.value + known.right.error) + rounding
    between = (low <= a) & (a <= high)
    generator = np.random.default_rng(seed)
    right, wrong = np.zeros(len(entries), int), np.zeros(len(entries), int)
    pending = special
    moves: dict[str, Array] = {}
    for k in range(2 * PAIRS):
        moves = (
            {n: -m for n, m in moves.items()}
            if k % 2
            else {n: generic(v, generator, DISTANCE) for n, v in oracle.values.items()}
        )
        beside = autodiff.at(point := {n: v + moves[n] for n, v in oracle.values.items()})
        here = np.ravel(beside.gradient[name])[entries[pending]].astype(float)
        noise = np.ravel(beside.rounding[name])[entries[pending]]
        around = measure(oracle.moved(point), name, entries[pending], here, noise)
        found, _ = judge(around, here, noise)
        right[pending] += found == "match"
        wrong[pending] += np.isin(found, ("mismatch", "nan"))
        # a wrong neighbour settles it; so does a kink between whose sides autodiff lies, after a pair with one right
        settled = (wrong[pending] > 0) | (
            (k % 2 == 1) & (verdicts[pending] == "kink") & between[pending] & (right[pending] > 0)
        )
        pending = pending[~settled]
        if not len(pending):
            break
    for i in map(int, special):
        at_kink = verdicts[i] == "kink"
        if wrong[i]:
            verdicts[i] = "mismatch"
            if at_kink:
                reasons[i] = "at a kink, and autodiff is wrong at generic points beside it too"
        elif right[i] and at_kink and between[i]:
            reasons[i] = "a kink: autodiff lies between the sides"
        elif right[i] and not at_kink and not getattr(oracle, "kinks", True):
            reasons[i] = (
                "only at this very point: right at generic points beside it, and no operation of the forward pass has a kink"
            )
        elif right[i]:
            verdicts[i] = "kink"
            reasons[i] = (
                "several kinks meet here: autodiff is off at this very point and right at generic points beside it"
            )
        elif at_kink and between[i]:
            reasons[i] = "a kink: autodiff lies between the sides; no smooth point was found beside it"
        elif at_kink:
            verdicts[i] = "undecided"
            reasons[i] = "autodiff lies outside the slopes from left and right, and no smooth point was found beside"


def generic(value: Array, generator: np.random.Generator, distance: float) -> Array:
    """A small move of every entry, each by its own amount, so that no tie and no zero survives."""
    size = distance * scale_of(value.ravel()).reshape(value.shape)
    return size * generator.uniform(0.5, 1.0, value.shape) * generator.choice([-1.0, 1.0], value.shape)


def _verdict(
    oracle: Oracle,
    name: str,
    shape: tuple[int, ...],
    entries: Array,
    known: _Entries,
    a: Array,
    rounding: Array,
    verdicts: Array,
    reasons: dict[int, str],
    how: str,
) -> Verdict:
    found, counts = np.unique(verdicts, return_counts=True)
    verdict = worst_of(map(str, found)) if len(found) else "match"
    among = np.flatnonzero(verdicts == verdict)
    estimate = known.estimate
    allowed = estimate.error + rounding
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.nan_to_num(np.abs(estimate.value - a) / allowed, nan=np.inf)
        clean = np.isin(verdicts, ("match", "disconnected")) & np.isfinite(allowed)
        # an error E shows itself where |E| - |numeric - true slope| > allowed, and numeric is within allowed of the truth
        visible = 2 * allowed[clean]
        relative = visible / np.abs(estimate.value[clean])
    i = int(among[np.argmax(excess[among])]) if len(among) else 0
    base = Verdict(
        name,
        oracle.name,
        verdict,
        len(entries),
        int(np.prod(shape)),
        dict(zip(map(str, found), map(int, counts), strict=True)),
        how=how,
    )
    if not len(among):
        return base
    meaningful = relative[np.abs(estimate.value[clean]) > 1 / SHARP * UNIT * max(abs(oracle.base), UNIT)]
    return replace(
        base,
        worst=tuple(int(k) for k in np.unravel_index(entries[i], shape)) if shape else (),
        autodiff=float(a[i]),
        numeric=float(estimate.value[i]),
        left=float(known.left.value[i]),
        right=float(known.right.value[i]),
        truncation=float(estimate.truncation[i]),
        rounding=float(estimate.rounding[i] + rounding[i]),
        visible=float(visible.max()) if visible.size else float("nan"),
        visible_relative=float(meaningful.max()) if meaningful.size else float("nan"),
        reason=reasons.get(i, ""),
        cells=Cells.around(int(entries[i]), shape, entries, estimate.value, a),
        accused=tuple(map(int, entries[np.isin(verdicts, list(FAILING))])),
    )
