"""The campaign: every operation at every point, each operation in a process that others survive.

A campaign is a file of JSON lines, one per operation; one that is stopped goes on behind the last line of its file.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np

from keras_ref.campaign.points import generic_arguments, points_of
from keras_ref.campaign.subjects import NotCalled, find_subject
from keras_ref.checks.layers_and_functions import check_function
from keras_ref.coverage.processes import Answer, run_in_turn
from keras_ref.errors import BadInput
from keras_ref.own_modules import own_command
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason
from keras_ref.reports.verdict import Verdict

#: what accuses an operation
ACCUSED = (Kind.MISMATCH, Kind.NAN, Kind.CRASH)
#: what a point comes to where the function has no finite value, or raises
UNDEFINED = "undefined"
#: what a point comes to where autodiff gives no finite number, and the function has no slope
NO_DERIVATIVE = "no derivative"
#: seconds that an operation may take
PATIENCE = 300.0


@dataclass(frozen=True, kw_only=True)
class Accusation:
    """An argument of an operation whose derivative is wrong at a point."""

    name: str
    point: str
    argument: str
    claim: str
    kind: str
    entry: tuple[int, ...]
    autodiff: float
    numeric: float
    allowed: float
    reason: str

    def __str__(self) -> str:
        where = f"{self.argument}{list(self.entry)}" if self.entry else self.argument
        return (
            f"{self.name} at {self.point}, {self.claim}, {where}: {self.kind}, autodiff {self.autodiff:.10g}, numeric "
            f"{self.numeric:.10g}, allowed {self.allowed:.1e}"
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the campaign found of an operation.

    counts        verdicts of all points by their kind, UNDEFINED points too
    accusations   in full
    reason        why it was not checked, "" where it was
    """

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    accusations: tuple[Accusation, ...] = ()
    reason: str = ""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Result:
        """The result that a process wrote."""
        accused = tuple(Accusation(**{**one, "entry": tuple(one["entry"])}) for one in data["accusations"])
        return cls(name=data["name"], counts=data["counts"], accusations=accused, reason=data["reason"])

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "counts": self.counts,
            "accusations": [vars(one) for one in self.accusations],
            "reason": self.reason,
        }


def check_operation(name: str, *, seed: int = 0, deep: bool = False) -> Result:
    """Check an operation at all points.

    deep   second derivatives, forward mode and compiled execution too

    Wrong is what check_function calls so: see there for how a slope is obtained and what is allowed.
    """
    subject = find_subject(name, lambda kinds: generic_arguments(kinds, seed))
    if isinstance(subject, NotCalled):
        return Result(name=name, reason=subject.reason)
    counts, accused = Counter[str](), list[Accusation]()
    for point, arguments in points_of(subject.arguments, seed):
        function, floats = _of_floats(subject.function, arguments, dict(subject.options))
        for claim, options in CLAIMS if deep else CLAIMS[:1]:
            try:
                report = check_function(function, *floats, seed=seed, **options)
            except BadInput:
                counts[UNDEFINED] += 1
                continue
            for verdict in report.verdicts:
                missing = verdict.reason_code is Reason.NO_SLOPE
                counts[NO_DERIVATIVE if missing else str(verdict.verdict)] += 1
                if verdict.verdict in ACCUSED and not missing:
                    accused.append(_accusation(name, point, claim, verdict))
    return Result(name=name, counts=dict(counts), accusations=tuple(accused))


#: what is claimed of a derivative, and the options that check it
CLAIMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("first order", {}),
    ("second order and forward mode", {"order": 2, "forward_mode": True}),
    ("compiled", {"modes": ("jit_compile",)}),
)


def _of_floats(
    function: Callable[..., Any], arguments: Sequence[Any], options: dict[str, Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """The function of its float arguments alone, and these."""
    places = [i for i, a in enumerate(arguments) if isinstance(a, list) or np.asarray(a).dtype.kind == "f"]

    def of_floats(*floats: Any) -> Any:
        given = list(arguments)
        for place, value in zip(places, floats, strict=True):
            given[place] = value
        return function(*given, **options)

    return of_floats, [arguments[i] for i in places]


def _accusation(name: str, point: str, claim: str, verdict: Verdict) -> Accusation:
    return Accusation(
        name=name,
        point=point,
        argument=verdict.name,
        claim=claim if verdict.oracle == "forward" else f"{claim} ({verdict.oracle})",
        kind=str(verdict.verdict),
        entry=tuple(verdict.worst),
        autodiff=float(verdict.autodiff),
        numeric=float(verdict.numeric),
        allowed=float(verdict.allowed),
        reason=str(verdict.reason),
    )


def run_campaign(names: Sequence[str], *, seed: int = 0, deep: bool = False, workers: int = 1) -> Iterator[Result]:
    """Check operations in `workers` processes, as results come. One that kills or hangs its process is accused."""
    shares = [list(names[i::workers]) for i in range(workers)]
    answers: SimpleQueue[Answer | None] = SimpleQueue()

    def work(share: list[str]) -> None:
        try:
            for answer in run_in_turn(
                share, command=lambda left: _command(left, seed=seed, deep=deep), patience=PATIENCE
            ):
                answers.put(answer)
        finally:
            answers.put(None)

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, share) for share in shares]
        ended = 0
        while ended < len(running):
            answer = answers.get()
            if answer is None:
                ended += 1
            elif answer.result is not None:
                yield Result.from_dict(answer.result)
            else:
                yield Result(name=answer.name, counts={"crash": 1}, accusations=(_crash(answer),))
        for one in running:
            one.result()


def _crash(answer: Answer) -> Accusation:
    nan = float("nan")
    return Accusation(
        name=answer.name, point="one of its points", argument="", claim="first order", kind="crash", entry=(),
        autodiff=nan, numeric=nan, allowed=nan, reason=f"It {answer.ended}.",
    )  # fmt: skip


def _command(left: list[str], *, seed: int, deep: bool) -> list[str]:
    return own_command("keras_ref.campaign.run", str(seed), str(int(deep)), *left)


def main(arguments: Sequence[str]) -> None:
    """Check operations one after another; print a line of JSON for each."""
    seed, deep, *names = arguments
    from keras_ref.inputs.targets import import_quietly

    import_quietly()
    for name in names:
        result = check_operation(name, seed=int(seed), deep=bool(int(deep)))
        print(json.dumps(result.to_dict()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
