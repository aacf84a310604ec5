"""All entries together along random directions (see directional.py), and bisection where one of them disagrees.

The entries of a direction that disagrees are halved, first by variables, then within one: the half whose own residual
is farthest beyond what is allowed for it goes on, the other one waits. Fewer entries move farther (by the root of the
share that they are), so that every half is measured as sharply as the whole. After log2(N) halvings one entry is left,
which is then compared by itself: nothing is called a mismatch by a random direction alone. An entry that turns out
right is a false lead, and the half that waited goes on; without an entry the answer is "undecided".
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_ref.comparison.directions.directional import DirectionalResult, find_hidden, find_smallest_seen, judge_along
from keras_ref.comparison.directions.directional_point import CLIP, DirectionalPoint, draw_direction
from keras_ref.comparison.directions.residuals import Residual, excess_of, measure_along
from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.entries.jumps import hold_decisions
from keras_ref.comparison.sources.autodiff import Autodiff, Gradient
from keras_ref.comparison.sources.evidence import Evidence, Outcome
from keras_ref.reports.verdict import Kind, Reason, Verdict
from scratch.arrays import Array
from scratch.differences import SAFETY
from scratch.progress import Progress

Block = tuple[tuple[str, int, int], ...]

#: directions in which everything moves, before one in which a sampled entry of each variable does, and all of what is
#: hidden
DENSE = 2
#: variables that are named before the rest is left unsaid, and false leads that are followed before giving up
MOST, LEADS = 8, 4
#: a factor of a whole tensor is believed if this many directions within it say the same
RATIOS = 3


class GradientCounter:
    """Autodiff's gradient at a point, counted."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence, self.count = evidence, 1  # that of the evidence itself

    def __call__(self, values: Mapping[str, Array]) -> Gradient:
        self.count += 1
        return self._evidence.loss.gradient(self._evidence.autodiff.how, at=values)


def compare_along_directions(evidence: Evidence) -> Outcome:
    """A verdict for each variable or input, all entries of all of them compared together by the first oracle.

    What is a surrogate, declared or by its layer, moves by itself and is not bisected. Where something is wrong it is
    named, the worst entry of each variable; the others are checked without it.
    """
    oracle, autodiff = evidence.oracles[0], evidence.autodiff
    gradients, seed = GradientCounter(evidence), evidence.settings.seed
    point = DirectionalPoint(oracle, gradients, gradient=autodiff.gradient, seed=seed)
    search = Search(point=point, autodiff=autodiff, seed=seed, progress=evidence.settings.progress)
    verdicts: dict[str, Verdict] = {}
    names = [n for n in evidence.names if oracle.covers(n)]
    for name in names:
        if (entry := _find_first_not_finite(autodiff.gradient[name])) is not None:
            verdicts[name] = search.confirm(name, entry, at=point)
    pending = [n for n in names if n not in verdicts and evidence.size(n)]
    for name in [n for n in pending if evidence.is_meant_to_differ(n)]:
        verdicts[name] = search.compare_alone(name)
        pending.remove(name)
    found = search.compare_together(pending)
    verdicts |= {v.name: v for v in found.verdicts}
    outcome = Outcome(tuple(verdicts[n] for n in evidence.names if n in verdicts), found.notes)
    return outcome.with_notes(*_note_effort(evidence, gradients.count))


def _find_first_not_finite(gradient: Array | None) -> int | None:
    """The first flat entry of a gradient that is not finite, if there is one."""
    broken = np.array([], int) if gradient is None else np.flatnonzero(~np.isfinite(gradient))
    return int(broken[0]) if len(broken) else None


def _note_effort(evidence: Evidence, gradients: int) -> list[str]:
    """A note on how many passes it took and how long."""
    prepared = evidence.preparation
    if prepared is None:
        return []
    passes = evidence.loss.evaluations - prepared.evaluations + evidence.oracles[0].passes
    seconds, before = time.perf_counter() - prepared.traced, prepared.traced - prepared.started
    took = f"fast: {passes} forward passes and {gradients} backward in {seconds:.1f} s"
    return [f"{took}, after {before:.1f} s for copies in float64 and tracing."]


@dataclass(frozen=True)
class Ratio:
    """autodiff / numeric along a direction, and how far it may be off."""

    value: float
    error: float

    @classmethod
    def of(cls, residual: Residual) -> Ratio:
        """The ratio of a residual; infinite where the numeric slope is zero."""
        if not residual.numeric:
            return cls(math.inf, 0.0)
        return cls(residual.autodiff / residual.numeric, residual.allowed / abs(residual.numeric))

    def agrees_with(self, other: Ratio) -> bool:
        """Whether both may be the same number."""
        return abs(self.value - other.value) <= self.error + other.error


@dataclass(kw_only=True)
class Search:
    """The steps of a search at one point."""

    point: DirectionalPoint
    autodiff: Autodiff
    seed: int
    progress: Progress | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def say(self, done: int, total: int, what: str) -> None:
        """Report progress, if that was asked for."""
        if self.progress is not None:
            self.progress(done, total, what)

    # Is anything wrong? --------------------------------------------------------------------------------------------

    def compare_together(self, names: Sequence[str]) -> Outcome:
        """A verdict for each of the named variables, moved together as long as something is wrong with one of them."""
        pending, verdicts, wrong = list(names), list[Verdict](), 0
        while pending:
            results = self.sweep(pending)
            trouble = next((r for r in results if r.is_trouble), None)
            if trouble is not None and trouble.reason is Reason.JUMP and self.hold_decisions(trouble):
                continue
            if trouble is None:
                verdicts += [self.summarize(results, n) for n in pending]
                return Outcome(tuple(verdicts), (*self.notes, *_note_what_was_seen(results, pending, self.point)))
            culprit = self.find_culprit(trouble) if trouble.kind is Kind.MISMATCH and wrong < MOST else None
            if culprit is None:
                verdicts += [self.leave_undecided(trouble, n, wrong) for n in pending]
                break
            wrong += 1
            verdicts.append(culprit)
            pending.remove(culprit.name)
        return Outcome(tuple(verdicts), self.notes)

    def hold_decisions(self, trouble: DirectionalResult) -> bool:
        """Go on with every decision as at the point where inputs make the loss jump; False where they do not."""
        branch = hold_decisions(self.point.oracle, trouble.direction.vector)
        if branch is not None:
            self.point = DirectionalPoint(
                branch, self.point.gradient_at, gradient=self.point.gradient, seed=self.point.seed
            )
            self.notes = (
                (
                    "The loss jumps where its inputs move (a comparison that decides there): along random directions "
                    "every decision was held as it is at the point."
                ),
            )
        return branch is not None

    def compare_alone(self, name: str) -> Verdict:
        """The verdict on a variable that moves by itself and is not bisected."""
        return self.summarize(self.sweep([name]), name)

    def sweep(self, names: Sequence[str]) -> list[DirectionalResult]:
        """Several directions over all entries, and one over sampled entries and all of what stayed hidden.

        They end at the first in which something is wrong.
        """
        results: list[DirectionalResult] = []
        for i in range(DENSE + 1):
            everywhere = list(names) if i < DENSE else find_hidden(results, names)
            singly = [n for n in names if n not in everywhere]
            direction = draw_direction(self.point, everywhere, self.generator, sampled=singly)
            found = judge_along(self.point, direction)
            self.say(i + 1, DENSE + 1, f"direction {i + 1}")
            if found.is_trouble:
                return [*results, found]
            # what it moved is as large as the model, and not asked for again
            results.append(replace(found, direction=replace(direction, vector={})))
            del direction, found
        return results

    def leave_undecided(self, trouble: DirectionalResult, name: str, wrong: int) -> Verdict:
        """The verdict on a variable where something is wrong with some, and it was not found out with which."""
        verdict = self.summarize([replace(trouble, kind=Kind.UNDECIDED)], name)
        return verdict.because(Reason.NOT_TOLD_APART, wrong) if wrong == MOST else verdict

    def summarize(self, results: Sequence[DirectionalResult], name: str) -> Verdict:
        """What directions say of one variable: the worst result, and the smallest error that any of them would have
        seen."""
        worst = min(results, key=lambda r: (r.kind.rank, -r.residual.excess))
        point, residual = self.point, worst.residual
        size, usual = point.oracle.values[name].size, point.sizes[name]
        none_is_right = worst.kind is Kind.MATCH and point.gradient[name] is None
        seen = float("nan") if worst.is_trouble else min(find_smallest_seen(r, name) for r in results)
        verdict = Verdict(
            name,
            point.oracle.name,
            Kind.DISCONNECTED if none_is_right else worst.kind,
            total=size,
            autodiff=residual.autodiff,
            numeric=residual.numeric,
            left=residual.left,
            right=residual.right,
            truncation=residual.truncation,
            rounding=residual.rounding,
            visible=seen,
            visible_relative=seen / usual if usual else float("nan"),
            how=f"{self.autodiff.how}, along random directions",
            together=size,
        )
        reason = worst.reason or (Reason.NO_SINGLE_ENTRY if worst.is_trouble else None)
        return verdict if reason is None else verdict.because(reason)

    # Where? ---------------------------------------------------------------------------------------------------------

    def find_culprit(self, trouble: DirectionalResult) -> Verdict | None:
        """The verdict on the worst entry that bisection finds; None if it leads to no entry that is wrong by itself."""
        for leads, (name, entry) in enumerate(self.leaves(trouble)):
            verdict = self.confirm(name, entry, at=trouble.point)
            if verdict.failed:
                return self.with_extent(verdict, entry, at=trouble.point)
            if leads + 1 == LEADS:
                break
        return None

    def leaves(self, trouble: DirectionalResult) -> Iterator[tuple[str, int]]:
        """Single entries, those first whose blocks are farthest beyond what was allowed."""
        vector = trouble.direction.vector
        whole: Block = tuple((n, 0, v.size) for n, v in vector.items() if np.any(v))
        size, count = _size(whole), 0
        queue: list[tuple[float, int, Block]] = [(-trouble.residual.excess, 0, whole)]
        levels = math.ceil(math.log2(max(len(whole), 1))) + math.ceil(math.log2(max(stop for _, _, stop in whole)))
        while queue:
            _, _, block = heapq.heappop(queue)
            if _size(block) == 1:
                yield block[0][0], block[0][1]
                continue
            for half in _halve(block):
                moved = _restrict(vector, half, farther=min(math.sqrt(size / _size(half)), CLIP))
                if not moved:
                    continue
                count += 1
                excess = excess_of(trouble.point, moved)
                if excess > 1:
                    heapq.heappush(queue, (-excess, count, half))
            self.say(min(count // 2, levels), levels, f"bisecting: {_size(block)} entries")

    def confirm(self, name: str, entry: int, *, at: DirectionalPoint) -> Verdict:
        """One entry compared by itself at the search's own point, and where it is right there, at a point beside."""
        oracle = self.point.oracle.with_noise(self.point.noise)
        entries = np.array([entry])
        verdict = compare_entries(oracle, name, autodiff=self.autodiff, entries=entries, seed=self.seed)
        if verdict.failed or at is self.point:
            return verdict
        beside = at.oracle.with_noise(at.noise)
        return compare_entries(beside, name, autodiff=self.autodiff.at(beside.values), entries=entries, seed=self.seed)

    def with_extent(self, verdict: Verdict, entry: int, *, at: DirectionalPoint) -> Verdict:
        """The same verdict with what is found of the variable's other entries; of a whole tensor, on the largest."""
        name, gradient = verdict.name, at.gradient[verdict.name]
        total = at.oracle.values[name].size
        if total == 1:
            return replace(verdict, together=total)
        ratios = self.list_other_ratios(name, entry, at=at)
        if not ratios:
            return _add_reason(replace(verdict, together=total), Reason.OTHERS_MATCH)
        first = ratios[0]
        if len(ratios) < RATIOS or not all(map(first.agrees_with, ratios)):
            return _add_reason(replace(verdict, together=total), Reason.OTHERS_WRONG)
        largest = entry if gradient is None else int(np.argmax(np.abs(gradient)))
        reasoned = verdict
        if largest != entry:
            again = self.confirm(name, largest, at=at)
            verdict = again if again.failed else verdict
        verdict = replace(verdict, reason=reasoned.reason, reason_code=reasoned.reason_code, together=total)
        return _add_reason(verdict, Reason.WHOLE_TENSOR, f"{first.value:.6g}")

    def list_other_ratios(self, name: str, entry: int, *, at: DirectionalPoint) -> list[Ratio]:
        """autodiff / numeric along directions of all other entries of a variable; they end at one that is right."""
        ratios: list[Ratio] = []
        for _ in range(RATIOS):
            moved = dict(draw_direction(at, [name], self.generator).vector)
            moved[name].flat[entry] = 0.0
            found = measure_along(at, moved)
            if found.excess <= 1:
                break
            ratios.append(Ratio.of(found))
        return ratios


def _add_reason(verdict: Verdict, code: Reason, *details: object) -> Verdict:
    """The verdict with a second reason behind its own, whose code stays where there is one."""
    if not verdict.reason:
        return verdict.because(code, *details)
    return replace(verdict, reason=f"{verdict.reason}; {code.text(*details)}")


def _size(block: Block) -> int:
    return sum(stop - start for _, start, stop in block)


def _halve(block: Block) -> tuple[Block, Block]:
    """Half of the variables each; of one variable, half of its entries."""
    if len(block) > 1:
        return block[: len(block) // 2], block[len(block) // 2 :]
    name, start, stop = block[0]
    middle = (start + stop) // 2
    return ((name, start, middle),), ((name, middle, stop),)


def _restrict(vector: Mapping[str, Array], block: Block, *, farther: float) -> dict[str, Array]:
    """The direction with only the entries of a block moving, farther; empty where none of them moves."""
    found = {}
    for name, start, stop in block:
        part = np.ravel(vector[name])[start:stop]
        if part.any():
            found[name] = np.zeros(vector[name].shape)
            found[name].flat[start:stop] = farther * part
    return found


def _note_what_was_seen(
    results: Sequence[DirectionalResult], names: Sequence[str], point: DirectionalPoint
) -> list[str]:
    """What these directions compared, and what they would have missed, plainly."""
    seen = {n: min(find_smallest_seen(r, n) for r in results) for n in names}
    shares = {n: seen[n] / point.sizes[n] for n in names if point.sizes[n] and math.isfinite(seen[n])}
    total = sum(point.oracle.values[n].size for n in names)
    moved = f"{total} entries were moved together along {DENSE} random directions"
    lines = [f"{moved}, and one entry of each variable, drawn at random, along one more."]
    if shares:
        worst = max(shares, key=lambda n: shares[n])
        lines.append(
            f"One entry wrong by less than {seen[worst]:.1e} ({shares[worst]:.1e} of the root mean square of its "
            f"variable) may have been missed in {worst}, and less than that elsewhere; effort='full' compares every "
            "entry."
        )
    usual = [(SAFETY * r.residual.allowed, r.residual.usual) for r in results]
    if all(size for _, size in usual):
        share = max(error / size for error, size in usual)
        lines.append(f"Along each direction an error of {share:.1e} of the slope's usual size would have been seen.")
    unseen = [n for n in find_hidden(results, names) if point.sizes[n]]
    if unseen:
        listed = ", ".join(unseen[:3]) + (" …" if unseen[3:] else "")
        lines.append(
            f"Too faint beside the noise of the loss to be judged, even whole: {len(unseen)} of {len(names)} variables "
            f"({listed})."
        )
    kinks = dict.fromkeys(r.reason for r in results if r.kind is Kind.KINK)
    lines += [f"Along random directions: {reason.sentence}." for reason in kinks if reason is not None]
    faint = [n for n in names if not point.sizes[n]]
    if faint:
        listed = ", ".join(faint[:4]) + (" …" if len(faint) > 4 else "")
        lines.append(f"Autodiff's gradient is zero throughout {listed}, and the loss does not move along it either.")
    return lines
