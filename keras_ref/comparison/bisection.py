"""effort="fast": is anything wrong? where? Random directions (see directions.py), then bisection.

Where a direction disagrees, its entries are halved, first by variables, then within one: the half whose own residual is
farthest beyond what is allowed for it goes on, the other one waits. Fewer entries move farther (by the root of the share
that they are), so that every half is measured as sharply as the whole. log2(N) halvings end at one entry, which
comparison.compare then judges by itself: nothing is called a mismatch on the word of a random direction. An entry that
compare finds right is a false lead, and the half that waited goes on; without an entry the answer is "undecided".
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ref.comparison import directional as directions
from keras_ref.comparison.directional import Finding, Place, Residual
from keras_ref.comparison.entrywise import Autodiff, compare
from keras_ref.comparison.oracles import autodiff_at
from keras_ref.evaluation.directional_loss import DirectionalLoss
from keras_ref.reports.verdict import Verdict
from scratch.arrays import Array

Progress = Callable[[int, int, str], None]
Block = tuple[tuple[str, int, int], ...]

#: directions in which everything moves, before one in which a sampled entry of each variable does, and all of what is hidden
DENSE = 2
#: variables that are named before the rest is left unsaid, and false leads that are followed before giving up
MOST, LEADS = 8, 4
#: a factor of a whole tensor is believed if this many directions within it say the same
RATIOS = 3


@dataclass(frozen=True)
class Swept:
    """What directions over some variables found: all of them match (or sit on a kink), or the first that does not."""

    findings: tuple[Finding, ...]

    @property
    def trouble(self) -> Finding | None:
        return next((f for f in self.findings if f.verdict not in ("match", "kink")), None)


def located(
    probe: Any,
    oracle: Any,
    gradient: Mapping[str, Array | None],
    names: Sequence[str],
    *,
    mode: str,
    seed: int,
    notes: list[str],
    progress: Progress | None = None,
    apart: Sequence[str] = (),
    prepared: tuple[float, float, int] | None = None,
) -> list[Verdict]:
    """A verdict for each named variable, all entries of all of them compared together.

    `gradient` is autodiff's at the oracle's point, in the given mode. What is `apart` (a declared surrogate) moves by
    itself and is not bisected. Where something is wrong it is named, the worst entry of each variable; the others are
    checked without it. `prepared`: the clock before and after float64 copies and tracing, and the evaluations by then.
    """
    gradients = 1

    def gradient_at(values: Mapping[str, Array]) -> Mapping[str, Array | None]:
        nonlocal gradients
        gradients += 1
        return probe.gradient(mode, at=values)

    # what differences the loss itself states its noise; along lines it is measured once a doubt asks for it
    place = Place(
        oracle,
        gradient_at,
        gradient,
        seed=seed,
        noise=None if isinstance(oracle.probe, DirectionalLoss) else oracle.noise,
    )
    search = Search(probe, place, mode, seed, progress)
    verdicts: dict[str, Verdict] = {}
    for name in names:
        said = gradient[name]
        broken = np.array([], int) if said is None else np.flatnonzero(~np.isfinite(said))
        if len(broken):
            verdicts[name] = search.confirmed(name, int(broken[0]), place)
    pending = [n for n in names if n not in verdicts and oracle.values[n].size]
    for name in [n for n in pending if n in apart]:
        verdicts |= search.unlocated([name])
        pending.remove(name)
    wrong = 0
    while pending:
        swept = search.sweep(pending)
        trouble = swept.trouble
        if trouble is None:
            verdicts |= {n: _verdict(swept.findings, n, place, mode) for n in pending}
            notes.extend(_said(swept.findings, pending, place))
            break
        found = search.culprit(trouble) if trouble.verdict == "mismatch" and wrong < MOST else None
        if found is None:
            reason = f"{wrong} variables are wrong already; the others were not told apart" if wrong == MOST else ""
            unsaid = (replace(trouble, verdict="undecided"),)
            verdicts |= {n: _verdict(unsaid, n, place, mode, reason) for n in pending}
            break
        wrong += 1
        verdicts[found.name] = found
        pending.remove(found.name)
    if prepared is not None:
        start, traced, before = prepared
        notes.append(
            f"fast: {probe.evaluations - before} forward passes and {gradients} backward in {time.perf_counter() - traced:.1f} s, "
            f"after {traced - start:.1f} s for copies in float64 and tracing."
        )
    return [verdicts[n] for n in names if n in verdicts]


class Search:
    """The steps of a search at one point."""

    def __init__(self, probe: Any, place: Place, mode: str, seed: int, progress: Progress | None = None) -> None:
        self.probe, self.place, self.mode, self.seed, self.progress = probe, place, mode, seed, progress
        self.generator = np.random.default_rng(seed)
        self._autodiff: Autodiff | None = None

    def say(self, done: int, total: int, what: str) -> None:
        if self.progress is not None:
            self.progress(done, total, what)

    # Is anything wrong? --------------------------------------------------------------------------------------------

    def sweep(self, names: Sequence[str]) -> Swept:
        """Several directions over all entries, and one over sampled entries and all of what stayed hidden."""
        findings: list[Finding] = []
        for i in range(DENSE + 1):
            everywhere = list(names) if i < DENSE else directions.hidden(findings, names)
            singly = [n for n in names if n not in everywhere]
            findings.append(
                directions.decided(self.place, directions.drawn(self.place, everywhere, self.generator, singly))
            )
            self.say(i + 1, DENSE + 1, f"direction {i + 1}")
            if findings[-1].verdict not in ("match", "kink"):
                break
        return Swept(tuple(findings))

    def unlocated(self, names: Sequence[str]) -> dict[str, Verdict]:
        """Verdicts of variables that move by themselves and are not bisected."""
        findings = self.sweep(names).findings
        return {n: _verdict(findings, n, self.place, self.mode) for n in names}

    # Where? ---------------------------------------------------------------------------------------------------------

    def culprit(self, trouble: Finding) -> Verdict | None:
        """The verdict on the worst entry that bisection finds; None if it leads to no entry that is wrong by itself."""
        for leads, (name, entry) in enumerate(self.leaves(trouble)):
            verdict = self.confirmed(name, entry, trouble.place)
            if verdict.failed:
                return self.extent(trouble, verdict, name, entry)
            if leads + 1 == LEADS:
                break
        return None

    def leaves(self, trouble: Finding) -> Iterator[tuple[str, int]]:
        """Single entries, those first whose blocks are farthest beyond what was allowed."""
        vector, place = trouble.direction.vector, trouble.place
        whole: Block = tuple((n, 0, v.size) for n, v in vector.items() if np.any(v))
        size, count = _size(whole), 0
        queue: list[tuple[float, int, Block]] = [(-trouble.residual.excess, 0, whole)]
        levels = math.ceil(math.log2(max(len(whole), 1))) + math.ceil(math.log2(max(stop for _, _, stop in whole)))
        while queue:
            _, _, block = heapq.heappop(queue)
            if _size(block) == 1:
                yield block[0][0], block[0][1]
                continue
            for half in _halves(block):
                moved = _restricted(vector, half, min(math.sqrt(size / _size(half)), directions.CLIP))
                if not moved:
                    continue
                count += 1
                excess = directions.excess_of(place, moved)
                if excess > 1:
                    heapq.heappush(queue, (-excess, count, half))
            self.say(min(count // 2, levels), levels, f"bisecting: {_size(block)} entries")

    def confirmed(self, name: str, entry: int, place: Place) -> Verdict:
        """One entry compared by itself, at the point, and where it is right there, at the place beside it."""
        if self._autodiff is None:
            self._autodiff = autodiff_at(self.probe, self.place.oracle.values, mode=self.mode)
        oracle = replace(self.place.oracle, noise=self.place.noise)
        verdict = compare(oracle, name, self._autodiff, np.array([entry]), seed=self.seed)
        if verdict.failed or place is self.place:
            return verdict
        beside = replace(place.oracle, noise=place.noise)
        return compare(beside, name, self._autodiff.at(beside.values), np.array([entry]), seed=self.seed)

    def extent(self, trouble: Finding, verdict: Verdict, name: str, entry: int) -> Verdict:
        """The same verdict with what is said of the variable's other entries; of a whole tensor, the largest entry."""
        place, shape = trouble.place, trouble.place.oracle.values[name].shape
        total = math.prod(shape)
        ratios, others = [], False
        for _ in range(RATIOS if total > 1 else 0):
            moved = dict(directions.drawn(place, [name], self.generator).vector)
            moved[name].flat[entry] = 0.0
            found = directions.settled(place, moved)
            if found.excess <= 1:
                break
            others = True
            ratios.append(
                (found.autodiff / found.numeric, found.allowed / abs(found.numeric))
                if found.numeric
                else (math.inf, 0.0)
            )
        reason = verdict.reason
        if not others:
            more = "the other entries match along a random direction" if total > 1 else ""
        else:
            middle = ratios[0][0]
            same = len(ratios) == RATIOS and all(abs(r - middle) <= e + ratios[0][1] for r, e in ratios)
            more = (
                f"the whole tensor is wrong, by a factor of {middle:.6g}"
                if same
                else "other entries of this variable are wrong too"
            )
            gradient = place.gradient[name]
            largest = int(np.argmax(np.abs(gradient))) if gradient is not None else entry
            if same and largest != entry:
                again = self.confirmed(name, largest, place)
                verdict = again if again.failed else verdict
        return replace(verdict, reason="; ".join(r for r in (reason, more) if r), together=total)


def _size(block: Block) -> int:
    return sum(stop - start for _, start, stop in block)


def _halves(block: Block) -> tuple[Block, Block]:
    """Half of the variables each; of one variable, half of its entries."""
    if len(block) > 1:
        return block[: len(block) // 2], block[len(block) // 2 :]
    name, start, stop = block[0]
    middle = (start + stop) // 2
    return ((name, start, middle),), ((name, middle, stop),)


def _restricted(vector: Mapping[str, Array], block: Block, farther: float) -> dict[str, Array]:
    """The direction with only the entries of a block moving, farther; empty where none of them moves."""
    found = {}
    for name, start, stop in block:
        part = np.ravel(vector[name])[start:stop]
        if part.any():
            found[name] = np.zeros(vector[name].shape)
            found[name].flat[start:stop] = farther * part
    return found


def _verdict(findings: Sequence[Finding], name: str, place: Place, mode: str, reason: str = "") -> Verdict:
    """What directions say of one variable: the worst finding, and the smallest error that any of them would have seen."""
    order = ("mismatch", "undecided", "kink", "match")
    worst = min(findings, key=lambda f: (order.index(f.verdict), -f.residual.excess))
    residual: Residual = worst.residual
    size = place.oracle.values[name].size
    seen = min(directions.visible(f, name) for f in findings)
    verdict = worst.verdict
    if verdict == "match" and place.gradient[name] is None:
        verdict = "disconnected"
    usual = place.sizes[name]
    undecided = verdict in ("undecided", "mismatch")
    return Verdict(
        name,
        place.oracle.name,
        verdict,
        0,
        size,
        {},
        (),
        residual.autodiff,
        residual.numeric,
        residual.left,
        residual.right,
        residual.truncation,
        residual.rounding,
        float("nan") if undecided else seen,
        float("nan") if undecided or not usual else seen / usual,
        f"{mode}, along random directions",
        reason
        or worst.reason
        or (
            "" if not undecided else "random directions disagree, and bisection found no entry that is wrong by itself"
        ),
        together=size,
    )


def _said(findings: Sequence[Finding], names: Sequence[str], place: Place) -> list[str]:
    """What these directions would have missed, plainly."""
    seen = {n: min(directions.visible(f, n) for f in findings) for n in names}
    shares = {n: seen[n] / place.sizes[n] for n in names if place.sizes[n] and math.isfinite(seen[n])}
    total = sum(place.oracle.values[n].size for n in names)
    lines = [
        f"{total} entries were moved together along {DENSE} random directions, and a sampled one of each variable along another."
    ]
    if shares:
        worst = max(shares, key=lambda n: shares[n])
        lines.append(
            f"One entry wrong by less than {seen[worst]:.1e} ({shares[worst]:.1e} of the root mean square of its variable) may have been missed in "
            f"{worst}, and less than that elsewhere; effort='full' compares every entry."
        )
    unseen = [n for n in directions.hidden(findings, names) if place.sizes[n]]
    if unseen:
        lines.append(
            f"Too faint beside the noise of the loss to be judged, even whole: {len(unseen)} of {len(names)} variables ({', '.join(unseen[:3])}{' …' if unseen[3:] else ''})."
        )
    lines += list(dict.fromkeys(f"Along random directions: {f.reason}." for f in findings if f.verdict == "kink"))
    faint = [n for n in names if not place.sizes[n]]
    if faint:
        lines.append(
            f"Autodiff's gradient is zero throughout {', '.join(faint[:4])}{' …' if len(faint) > 4 else ''}, and the loss does not move along it either."
        )
    return lines
