"""The operations of keras.ops on another backend: its gradients against the same slopes in many digits.

The slopes are those of what Keras computes on TensorFlow; where the values of both backends differ, that is said, and
the gradients are not compared.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.campaign.claims import Point
from keras_ref.campaign.exact_check import OUTSIDE, ExactOperation, WrongValue
from keras_ref.campaign.oracles import HALF
from keras_ref.campaign.points import draw_generic_arguments, make_points
from keras_ref.campaign.results import Result, without_numbers
from keras_ref.campaign.run import (
    ACCUSED,
    PROCESSOR_TIME,
    UNDEFINED,
    Findings,
    Place,
    accuse,
    bind_floats,
    find_places_of_floats,
)
from keras_ref.campaign.subjects import NotCalled, find_subject
from keras_ref.errors import CouldNotRun
from keras_ref.evaluation.many_digits.exact_numbers import Missing
from keras_ref.programs.remote import Worker
from scratch.arrays import Array

#: seconds that the other backend has for one point
TIME_LIMIT = 120.0
#: what an operation comes to whose value is another one on the other backend
ANOTHER_VALUE = "another value"
#: what a point comes to that the other backend does not take: with its reason
REFUSED = "points: refused: "
#: how many points beside one, how far from it, and what rounding may make of a value there
BESIDE, STEP, ROUNDING = 2, 2.0**-10, 2.0**-40


class _AnotherValue(Exception):
    """The value of the other backend."""


@dataclass(kw_only=True)
class _Asked:
    """What the other backend is asked at one point, and the point once it has been asked."""

    worker: Worker
    name: str
    arguments: Sequence[Any]
    places: Sequence[int]
    options: Mapping[str, Any]
    seed: int
    at: Point | None = None

    def differentiate(self, at: Point, _: Mapping[int, Array]) -> list[Any]:
        """The gradients. Raises: CouldNotRun; _AnotherValue where half of the digits of the value are others."""
        self.at = at
        found = self._ask(self.arguments)
        if not abs(found["value"] - at.known) <= HALF * max(abs(at.known), at.terms):
            raise _AnotherValue(f"{found['value']!r} instead of {at.known!r}")
        return [tf.constant(g, tf.float64) for g in found["gradients"]]

    def is_the_same_beside(self) -> bool:
        """Whether the values of both backends are the same, but for rounding, at points beside.

        Where they are not, the slopes are those of another function: another constant, or another way out of a domain.
        """
        if self.at is None:
            return False
        generator, size = np.random.default_rng(self.seed), self.at.terms
        for _ in range(BESIDE):
            moved = [
                np.asarray(p) * (1 + STEP * generator.normal(size=p.shape)) + STEP**2 * generator.normal(size=p.shape)
                for p in self.at.parts
            ]
            here = float(self.at.loss(*map(tf.constant, moved)))
            there = self._ask(self._with_floats(moved))["value"]
            if not abs(there - here) <= ROUNDING * max(abs(here), size):
                return False
        return True

    def _ask(self, arguments: Sequence[Any]) -> dict[str, Any]:
        request = {
            "arguments": list(arguments), "places": list(self.places), "options": dict(self.options), "seed": self.seed
        }  # fmt: skip
        found: dict[str, Any] = self.worker.ask(self.name, "differentiate", request, time_limit=TIME_LIMIT)
        return found

    def _with_floats(self, parts: Sequence[Array]) -> list[Any]:
        """The arguments with other numbers, given by their real parts in order."""
        left, given = iter(parts), list(self.arguments)

        def placed(leaf: Any) -> Array:
            part = next(left)
            return part[..., 0] + 1j * part[..., 1] if np.iscomplexobj(leaf) else part

        for place in self.places:
            value = given[place]
            given[place] = [placed(v) for v in value] if isinstance(value, list) else placed(value)
        return given


def open_worker(backend: str) -> Worker:
    """A process of the backend that answers for functions of keras.ops."""
    return Worker(backend, module="keras_ref.campaign.backend_worker")


def check_on_backend(name: str, backend: str, *, worker: Worker, seed: int = 0) -> Result:
    """Check the first derivatives of an operation on another backend at all points, in float64."""
    subject = find_subject(name, lambda kinds: draw_generic_arguments(kinds, seed))
    if isinstance(subject, NotCalled):
        return Result(name=name, reason=subject.reason)
    if subject.within or subject.after:
        return Result(name=name, reason="is joined with functions of TensorFlow")
    findings, claim = Findings(), f"on {backend}"
    end = time.process_time() + PROCESSOR_TIME
    for point, arguments in make_points(subject.arguments, seed):
        if time.process_time() > end:
            findings.counts["points: not in time"] += 1
            continue
        function, floats = bind_floats(subject.function, arguments, dict(subject.options))
        asked = _Asked(
            worker=worker,
            name=name,
            arguments=arguments,
            places=find_places_of_floats(arguments),
            options=dict(subject.options),
            seed=seed,
        )
        operation = ExactOperation(function, seed, derived={claim: asked.differentiate})
        place = Place(name=name, point=point, operation=operation, floats=floats, claims=(claim,))
        _check_point(place, asked, findings)
    refused = [key.removeprefix(REFUSED) for key in findings.counts if key.startswith(REFUSED)]
    counts = {key: count for key, count in findings.counts.items() if not key.startswith(REFUSED)}
    if refused and not any(key.startswith(claim) for key in counts):
        return Result(name=name, reason=f"refused on {backend} ({refused[0]})")
    if refused:
        counts["points: refused"] = findings.counts.total() - sum(counts.values())
    others = tuple(one for one in findings.accused if one.kind == ANOTHER_VALUE)
    # where it is another function at some points, the slopes are not those to compare with at any
    return Result(name=name, counts=counts, accusations=others or tuple(findings.accused))


def _check_point(place: Place, asked: _Asked, findings: Findings) -> None:
    try:
        found = place.operation.entries(place.floats, place.claims)
        judged = None if found is None else list(found)
        if any(e.kind in ACCUSED for e in judged or ()) and not asked.is_the_same_beside():
            raise _AnotherValue("beside the point")  # noqa: TRY301 (what it comes to stands below)
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
