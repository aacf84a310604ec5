"""The campaign: every operation at every point, in processes: one that an operation ends does not end the others.

A campaign is a file of JSON lines, one per operation; one that is stopped goes on behind the last line of its file.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Event
from typing import Any

import numpy as np

from keras_ref.campaign.behind_where import hide_infinite
from keras_ref.campaign.differentiability import is_differentiable
from keras_ref.campaign.exact_check import (
    NO_DERIVATIVE,
    OUTSIDE,
    RAISES,
    REFUSED,
    WRONG_SHAPE,
    Entry,
    ExactOperation,
    WrongValue,
    time_limit,
)
from keras_ref.campaign.oracles import HALF, compare_with_oracles
from keras_ref.campaign.points import ORDINARY, draw_generic_arguments, make_points
from keras_ref.campaign.registered import recording_gradients
from keras_ref.campaign.results import Accusation, Result, without_numbers
from keras_ref.campaign.subjects import NotCalled, Subject, find_subject
from keras_ref.checks.layers_and_functions import check_function
from keras_ref.coverage.processes import Answer, run_in_turn
from keras_ref.errors import BadInput
from keras_ref.evaluation.many_digits.exact_numbers import Missing
from keras_ref.own_modules import own_command
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason
from keras_ref.reports.verdict import Verdict

#: what accuses an operation
ACCUSED = (Kind.MISMATCH, Kind.NAN, Kind.CRASH, Kind.INACCURATE, RAISES, WRONG_SHAPE)
#: what a point comes to where the function has no finite value, or raises
UNDEFINED = "undefined"
#: what an operation comes to that computes in a lower precision than its arguments and outputs have
NARROW = "lower precision"
#: what an entry comes to whose value `tf.where` leaves out, and whose gradient is NaN: tf.where's documentation says so
DOCUMENTED = "nan, as documented"
#: what a point comes to for which there was no time
NOT_IN_TIME = "not in time"
#: seconds of processor time that a point may take where check_function checks it
DIFFERENCES_TIME = 2.0
#: seconds of processor time after which no further point of an operation is begun; ten times as many in a deep campaign
PROCESSOR_TIME = 6.0
#: seconds that an operation may take, on a machine that does other things too
PATIENCE = 900.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """An operation at one of its points.

    point    what the point is called in a result
    floats   the arguments that are numbers with a derivative, there
    claims   what is checked of the derivatives
    """

    name: str
    point: str
    operation: ExactOperation
    floats: Sequence[Any]
    claims: Sequence[str]


@dataclass(frozen=True)
class Findings:
    """What the points of an operation come to: how often what, and the entries that are accused. Points add to it."""

    counts: Counter[str] = field(default_factory=Counter)
    accused: list[Accusation] = field(default_factory=list)


def check_operation(name: str, *, seed: int = 0, deep: bool = False) -> Result:
    """Check an operation at all points.

    deep   forward mode, second derivatives, graphs and compiled execution too

    Slopes are those of the operation in many digits (exact_check.py), where all that it does is done in many digits;
    elsewhere, and where several kinks meet, they are those that check_function has.
    """
    subject = find_subject(name, lambda kinds: draw_generic_arguments(kinds, seed))
    if isinstance(subject, NotCalled):
        return Result(name=name, reason=subject.reason)
    findings = Findings()
    claims = DEEP if deep else ALWAYS
    end = time.process_time() + PROCESSOR_TIME * (10 if deep else 1)
    with recording_gradients() as gradients:
        _check_with_oracles(subject, seed, findings)
        for dtype, kinds in _list_variants(subject, seed):
            exactly: dict[Any, ExactOperation] = {}
            for point, arguments in make_points(kinds, seed):
                if (dtype in LOWER and point not in ORDINARY) or point.partition(" in argument")[0] in subject.without:
                    continue
                if time.process_time() > end:
                    findings.counts[f"points: {NOT_IN_TIME}"] += 1
                    continue
                function, floats = bind_floats(subject.function, arguments, dict(subject.options))
                rest = repr([a for a in arguments if not _holds_floats(a)])
                operation = exactly.setdefault(rest, ExactOperation(function, seed, dtype))
                named = f"{point} in {dtype}" if dtype else point
                place = Place(name=name, point=named, operation=operation, floats=floats, claims=claims)
                check_point(place, findings)
    return Result(
        name=name,
        counts=dict(findings.counts),
        accusations=tuple(findings.accused),
        gradients=tuple(sorted(gradients)),
    )


def _check_with_oracles(subject: Subject, seed: int, findings: Findings) -> None:
    """Add what NumPy, SciPy and identities say of an operation."""
    for one in compare_with_oracles(subject, seed=seed):
        findings.counts[f"{one.oracle}: {'match' if one.right else Kind.MISMATCH}"] += 1
        if not one.right:
            findings.accused.append(
                Accusation(
                    name=subject.name,
                    point=one.point,
                    argument=f"argument {one.argument}",
                    claim=one.oracle,
                    kind=str(Kind.MISMATCH),
                    entry=one.index,
                    autodiff=one.autodiff,
                    numeric=one.expected,
                    allowed=HALF * abs(one.expected),
                    reason="oracles.toml says so",
                )
            )


def _list_variants(subject: Subject, seed: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The dtypes in which an operation runs ("" for float64), and the kinds of its arguments there."""
    yield "", subject.arguments
    for dtype in LOW:
        if subject.runs(draw_generic_arguments(subject.arguments, seed), dtype):
            yield dtype, subject.arguments
    kinds = tuple(COMPLEX.get(kind, kind) for kind in subject.arguments)
    if kinds != subject.arguments:
        for dtype in ("complex128", "complex64"):
            if subject.runs(draw_generic_arguments(kinds, seed), dtype):
                yield dtype, kinds


def check_point(place: Place, findings: Findings) -> None:
    """Add what a point comes to."""
    operation, floats, counts = place.operation, place.floats, findings.counts
    try:
        found = operation.entries(floats, place.claims)
        judged = None if found is None else list(found)
    except Missing:
        judged = []
    except WrongValue as wrong:
        counts["wrong value"] += 1
        findings.accused.append(_accuse_value(place, wrong))
        return
    if judged is None:
        _check_behind_where(place, findings)
        return
    if operation.gives_less:
        counts["points: outputs of lower precision"] += 1
    if operation.narrows:
        counts[f"points: {NARROW}"] += 1
        if not any(one.kind == NARROW for one in findings.accused):
            findings.accused.append(_narrow(place))
    counts.update(f"{e.claim}: {e.kind}" for e in judged if e.kind != OUTSIDE)
    accuse(place, judged, findings)
    if not all(np.size(leaf) for leaf in _leaves(floats)):
        counts["points: empty"] += 1  # gradients were taken, and have nothing to be compared by differences
    elif not judged and _are_tiny(floats):
        counts[UNDEFINED] += 1  # they are 0 where it computes in complex64, as much of Keras does
    elif (not judged or any(e.kind == OUTSIDE for e in judged)) and operation.dtype not in LOWER:
        _check_by_differences(place, findings)


def _check_behind_where(place: Place, findings: Findings) -> None:
    """Add what a point comes to at which the operation is not finite: whether entries of finite outputs have slopes.

    Those of the other outputs are 0 where `tf.where` takes 0 for them. That autodiff gives NaN for what influences
    those is in the documentation of `tf.where`, and no accusation.
    """
    operation = place.operation
    judged: list[Entry] = []
    try:
        hidden = hide_infinite(operation.of_floats, place.floats)
        if hidden is not None:
            finite = ExactOperation(hidden, operation.seed, operation.dtype)
            judged = list(finite.entries(place.floats, place.claims) or ())
    except (*REFUSED, Missing, WrongValue):
        hidden = None
    if hidden is None or not judged:
        findings.counts[UNDEFINED] += 1
        return
    entries = []
    for found in judged:
        documented = found.kind == Kind.NAN and hidden.hiding[found.argument][found.index]
        entry = replace(found, kind=DOCUMENTED) if documented else found
        entries.append(entry)
    findings.counts.update(f"behind where, {e.claim}: {e.kind}" for e in entries if e.kind != OUTSIDE)
    accuse(replace(place, point=f"{place.point} behind where"), entries, findings)


def accuse(place: Place, entries: Sequence[Entry], findings: Findings) -> None:
    """Add what the entries of a point are accused of, once of each claim, argument and kind."""
    findings.accused.extend(_of_entry(place.name, place.point, entry) for entry in _select_worst(entries))


def _select_worst(entries: Sequence[Entry]) -> list[Entry]:
    """The first entry that is accused of each claim, argument and kind."""
    found: dict[tuple[str, int, str], Entry] = {}
    for entry in entries:
        if entry.kind in ACCUSED:
            found.setdefault((entry.claim, entry.argument, entry.kind), entry)
    return list(found.values())


def _check_by_differences(place: Place, findings: Findings) -> None:
    """Add what check_function says of a point."""
    function, seed, counts = place.operation.of_floats, place.operation.seed, findings.counts
    try:
        with time_limit(DIFFERENCES_TIME):
            report = check_function(function, *place.floats, seed=seed)
    except BadInput:
        counts[UNDEFINED] += 1
        return
    except Missing:
        counts[f"differences: {NOT_IN_TIME}"] += 1
        return
    accusing = any(v.verdict in ACCUSED for v in report.verdicts)
    nowhere = accusing and not is_differentiable(function, place.floats, seed=seed)
    for verdict in report.verdicts:
        missing = verdict.reason_code is Reason.NO_SLOPE or (nowhere and verdict.verdict in ACCUSED)
        counts[f"differences: {NO_DERIVATIVE if missing else verdict.verdict}"] += 1
        if verdict.verdict in ACCUSED and not missing:
            findings.accused.append(_accuse(place, verdict))


#: what is claimed of a derivative always, and in a deep campaign
ALWAYS = ("first order",)
DEEP = (*ALWAYS, "forward mode", "second order", "forward over forward", "graph", "compiled")
#: precisions in which ordinary points are checked too
LOW = ("float32", "float16", "bfloat16")
LOWER = (*LOW, "complex64")
#: the smallest normal number of float32
TINY = float(np.finfo(np.float32).tiny)
#: kinds of arguments → those of complex numbers
COMPLEX = {"vector": "complex vector", "matrix": "complex matrix", "vectors": "complex vectors"}


def _holds_floats(argument: Any) -> bool:
    return np.asarray(argument[0] if isinstance(argument, list) else argument).dtype.kind in "fc"


def _are_tiny(floats: Sequence[Any]) -> bool:
    """Whether there are complex numbers below the normal ones of float32."""
    numbers = [x for x in map(np.asarray, _leaves(floats)) if np.iscomplexobj(x)]
    return any(np.any((np.abs(x) < TINY) & (x != 0)) for x in numbers)


def _leaves(floats: Sequence[Any]) -> list[Any]:
    return [leaf for one in floats for leaf in (one if isinstance(one, list) else [one])]


def find_places_of_floats(arguments: Sequence[Any]) -> list[int]:
    """The places of the arguments that are differentiated."""
    return [i for i, a in enumerate(arguments) if _holds_floats(a)]


def bind_floats(
    function: Callable[..., Any], arguments: Sequence[Any], options: dict[str, Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """The function of its float arguments alone, and these."""
    places = find_places_of_floats(arguments)

    def of_floats(*floats: Any) -> Any:
        given = list(arguments)
        for place, value in zip(places, floats, strict=True):
            given[place] = value
        return function(*given, **options)

    return of_floats, [arguments[i] for i in places]


def _accuse(place: Place, verdict: Verdict) -> Accusation:
    return Accusation(
        name=place.name,
        point=place.point,
        argument=verdict.name,
        claim="differences",
        kind=str(verdict.verdict),
        entry=tuple(verdict.worst),
        autodiff=float(verdict.autodiff),
        numeric=float(verdict.numeric),
        allowed=float(verdict.allowed),
        reason=str(verdict.reason),
    )


def _of_entry(name: str, point: str, entry: Entry) -> Accusation:
    return Accusation(
        name=name,
        point=point,
        argument=f"argument {entry.argument}",
        claim=entry.claim,
        kind=entry.kind,
        entry=entry.index,
        autodiff=entry.autodiff,
        numeric=entry.truth,
        allowed=abs(entry.truth) * 10 ** (-entry.allowed / 2),
        reason=f"{entry.digits:.1f} digits are right of {entry.allowed:.1f} that the function's conditioning allows",
    )


def _narrow(place: Place) -> Accusation:
    reason = "Its trace casts what it is given to a lower precision, and back."
    return without_numbers(name=place.name, point=place.point, claim="points", kind=NARROW, reason=reason)


def _accuse_value(place: Place, wrong: WrongValue) -> Accusation:
    return without_numbers(name=place.name, point=place.point, claim="value", kind="wrong value", reason=str(wrong))


def run_campaign(
    names: Sequence[str], *, seed: int = 0, deep: bool = False, workers: int = 1, backend: str = "tensorflow"
) -> Generator[Result]:
    """Check operations in `workers` processes, as results come. One that kills or hangs its process is accused.

    backend   that of Keras whose gradients are checked (other_backends.py)
    """
    if backend == "tensorflow":
        command = ["keras_ref.campaign.run", str(seed), str(int(deep))]
    else:
        command = ["keras_ref.campaign.other_backends", backend, str(seed)]
    shares = [list(names[i::workers]) for i in range(workers)]
    answers, stop = SimpleQueue[Answer | None](), Event()

    def work(share: list[str]) -> None:
        try:
            for answer in run_in_turn(
                share, command=lambda left: own_command(*command, *left), patience=PATIENCE, stop=stop
            ):
                answers.put(answer)
        finally:
            answers.put(None)

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, share) for share in shares]
        ended = 0
        try:
            while ended < len(running):
                answer = answers.get()
                if answer is None:
                    ended += 1
                elif answer.result is not None:
                    yield Result.from_dict(answer.result)
                else:
                    yield Result(name=answer.name, counts={"crash": 1}, accusations=(_accuse_crash(answer),))
        finally:  # Ctrl-C does not reach processes that have sessions of their own
            stop.set()
        for one in running:
            one.result()


def _accuse_crash(answer: Answer) -> Accusation:
    reason = f"It {answer.ended}."
    return without_numbers(
        name=answer.name, point="one of its points", claim="first order", kind="crash", reason=reason
    )


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
