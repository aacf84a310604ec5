"""The operations of keras.ops on another backend: its gradients against the same slopes in many digits.

The slopes are those of what Keras computes on TensorFlow; where the values of both backends differ, that is said, and
the gradients are not compared.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_ref.campaign.claims import Point
from keras_ref.campaign.exact_check import OUTSIDE, ExactOperation, WrongValue
from keras_ref.campaign.points import generic_arguments, points_of
from keras_ref.campaign.results import Result, without_numbers
from keras_ref.campaign.run import (
    PROCESSOR_TIME,
    UNDEFINED,
    Findings,
    Place,
    accuse,
    function_of_floats,
    places_of_floats,
)
from keras_ref.campaign.subjects import NotCalled, find_subject
from keras_ref.errors import CouldNotRun
from keras_ref.evaluation.exact_numbers import Missing
from keras_ref.programs.remote import Worker
from scratch.arrays import Array

#: seconds that the other backend has for one point
TIME_LIMIT = 120.0
#: what an operation comes to whose value is another one on the other backend
ANOTHER_VALUE = "another value"
#: what a point comes to that the other backend does not take: with its reason
REFUSED = "points: refused: "
#: half of the digits, as everywhere in a campaign
HALF = 2.0**-26


class _AnotherValue(Exception):
    """The value of the other backend."""


def open_worker(backend: str) -> Worker:
    """A process of the backend that answers for functions of keras.ops."""
    return Worker(backend, module="keras_ref.campaign.backend_worker")


def check_on_backend(name: str, backend: str, *, worker: Worker, seed: int = 0) -> Result:
    """Check the first derivatives of an operation on another backend at all points, in float64."""
    subject = find_subject(name, lambda kinds: generic_arguments(kinds, seed))
    if isinstance(subject, NotCalled):
        return Result(name=name, reason=subject.reason)
    if subject.within or subject.after:
        return Result(name=name, reason="is joined with functions of TensorFlow")
    findings, claim = Findings(), f"on {backend}"
    end = time.process_time() + PROCESSOR_TIME
    for point, arguments in points_of(subject.arguments, seed):
        if time.process_time() > end:
            findings.counts["points: not in time"] += 1
            continue
        function, floats = function_of_floats(subject.function, arguments, dict(subject.options))
        request = {
            "arguments": arguments,
            "places": places_of_floats(arguments),
            "options": dict(subject.options),
            "seed": seed,
        }

        def ask(at: Point, _: Mapping[int, Array], request: dict[str, Any] = request) -> list[Any]:
            found = worker.ask(name, "differentiate", request, time_limit=TIME_LIMIT)
            if not abs(found["value"] - at.known) <= HALF * max(abs(at.known), at.terms):
                raise _AnotherValue(f"{found['value']!r} instead of {at.known!r}")
            return [tf.constant(g, tf.float64) for g in found["gradients"]]

        operation = ExactOperation(function, seed, derived={claim: ask})
        place = Place(name=name, point=point, operation=operation, floats=floats, claims=(claim,))
        _check_point(place, findings)
    refused = [key.removeprefix(REFUSED) for key in findings.counts if key.startswith(REFUSED)]
    counts = {key: count for key, count in findings.counts.items() if not key.startswith(REFUSED)}
    if refused and not any(key.startswith(claim) for key in counts):
        return Result(name=name, reason=f"refused on {backend} ({refused[0]})")
    if refused:
        counts["points: refused"] = findings.counts.total() - sum(counts.values())
    return Result(name=name, counts=counts, accusations=tuple(findings.accused))


def _check_point(place: Place, findings: Findings) -> None:
    try:
        found = place.operation.entries(place.floats, place.claims)
        judged = None if found is None else list(found)
    except Missing:
        findings.counts["points: not in many digits"] += 1
        return
    except WrongValue:
        findings.counts["points: another value on TensorFlow than its definition has"] += 1
        return
    except CouldNotRun as refusal:  # the other backend does not take what TensorFlow takes
        findings.counts[f"{REFUSED}{refusal}"] += 1
        return
    except _AnotherValue as other:
        findings.counts[f"points: {ANOTHER_VALUE}"] += 1
        findings.accused.append(
            without_numbers(
                name=place.name, point=place.point, claim=place.claims[0], kind=ANOTHER_VALUE, reason=str(other)
            )
        )
        return
    if judged is None:
        findings.counts[UNDEFINED] += 1
        return
    # where several kinks meet there may be slopes beyond those of both sides
    findings.counts.update(f"{e.claim}: {'kink' if e.kind == OUTSIDE else e.kind}" for e in judged)
    accuse(place, judged, findings)


def main(arguments: Sequence[str]) -> None:
    """Check operations on a backend one after another; print a line of JSON for each."""
    backend, seed, *names = arguments
    worker = open_worker(backend)
    for name in names:
        result = check_on_backend(name, backend, worker=worker, seed=int(seed))
        sys.stdout.write(f"{json.dumps(result.to_dict())}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
