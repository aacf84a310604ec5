"""A departure has to prove its excuse: real ones do, and a wrong law of the twin beside them, or in the very part, does not."""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from departing_models import CASES

from keras_ref.translation.departures import load_departures
from keras_ref.translation.departures.laws import as_keras
from keras_ref.translation.departures.laws.registry import load_laws
from keras_ref.translation.to_keras import mirror
from scratch.differences import UNIT
from scratch.losses.base import Projection
from scratch.objective import Objective

SHOWN = {
    "value": "with what Keras computes there, the twin agrees",
    "bound": "within rounding to float32 there",
    "place": "Keras's own forward pass has the slope of the twin",
}
IN_CHECKS = [case for case in CASES if case.in_checks]
OUTSIDE = [case for case in CASES if not case.in_checks]
WRONG = 1.05


def called(case):
    return f"{case.id}-{type(case.layers[-1]).__name__}"


@contextmanager
def scaled(definition, method):
    """A law that is 5 % off: whatever the method of a definition returns is scaled."""
    right = getattr(definition, method)
    own = method in vars(definition)

    def wrong(self, *arguments, **keywords):
        y = right(self, *arguments, **keywords)
        return (WRONG * y[0], *y[1:]) if isinstance(y, tuple) else WRONG * y

    setattr(definition, method, wrong)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a declared linear structure that no longer holds says so
            yield
    finally:
        setattr(definition, method, right) if own else delattr(definition, method)


def test_every_entry_that_shows_in_a_gradient_has_its_proof():
    """An entry that excuses a twin is proven by its law, by a bound of its rounding, or by its place in a backward pass."""
    excusing = [e for e in load_departures() if e.applies and e.reading != "refusal" and set(e.shows_in) & {"gradient"}]
    proven = {e.id for e in excusing if e.shows_in == ("gradient",) or e.reading == "precision" or e.id in load_laws()}
    # the twin broadcasts the mask of a Softmax as Keras does, so that there is nothing to excuse
    assert {e.id for e in excusing} - proven == {"softmax-mask-aligns-from-the-right"}
    assert set(load_laws()) <= {e.id for e in excusing}
    assert set(load_laws()) == {case.id for case in CASES if case.by.startswith("value")}


@pytest.mark.parametrize("case", IN_CHECKS, ids=called)
def test_real_departure(case):
    report = case.check()
    found = {v.reason for v in report.verdicts if v.verdict == "departure"}
    assert report.ok, report.explain()
    shown = SHOWN[case.by.split()[-1]]
    assert any(case.id in reason.split(": ")[0].split(", ") and reason.endswith(shown) for reason in found), found
    assert any(f"({case.id}): " in note for note in report.notes)


@pytest.mark.parametrize("case", IN_CHECKS, ids=called)
def test_wrong_law_in_the_part_itself(case):
    """The very layer or loss that departs, or what it is made of, computes 5 % too much: no departure explains that."""
    part = case.layers[-1] if case.loss is None else case.loss
    part = getattr(part, "layer", part)
    with scaled(type(part), "forward" if case.loss is None else "per_sample"):
        report = case.check()
    assert {v.verdict for v in report.failures} & {"mismatch", "nan"}, report
    assert any(note.startswith("No known departure explains what differs") for note in report.notes)


@pytest.mark.parametrize("case", OUTSIDE, ids=called)
def test_values_outside_of_checks(case):
    """The law is what Keras computes, to rounding in float64, and the definition is not."""
    model = case.model
    twin = Objective.of(model, [Projection() for _ in model.outputs])
    shapes = {name: [x.shape for x in case.inputs] for name in model.layers}
    law = as_keras(twin, [case.id], shapes).model
    right, ours = (np.asarray(one.forward(case.weights, case.x)) for one in (model, law))
    theirs = np.asarray(mirror(model, case.weights)(case.x))
    allowed = 256 * UNIT * np.abs(ours).max()
    assert np.abs(ours - theirs).max() <= allowed < np.abs(right - theirs).max()
