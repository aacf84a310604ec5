"""The known departures: every difference of Keras still is one, and says whom it may excuse."""

import inspect
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_findings import is_as_found

from keras_ref import strategies as gt
from keras_ref.translation import departures
from keras_ref.translation.departures.predicates import PREDICATES
from scratch import registry

ENTRIES = {entry.id: entry for entry in departures.load_departures()}
CONDITIONED = [departure_id for departure_id, entry in ENTRIES.items() if entry.applies]


def named_in(condition):
    """Names of classes (and of activations, as such) in a condition, those beside it included."""
    found = [(None, name) for name in condition.names]
    found += [("activation", name) for name in condition.activations]
    return found + ([] if condition.beside is None else named_in(condition.beside))


def kind_of(name):
    return next((kind for kind in registry.KINDS if kind != "activation" and name in registry.names(kind)), None)


@pytest.mark.sampled
@pytest.mark.parametrize("departure_id", ENTRIES)
def test_example_still_differs(departure_id):
    keras_value, definition = departures.run_example(ENTRIES[departure_id])
    if not departures.differs(keras_value, definition):  # corrected upstream since, which is no fault of ours
        assert not is_as_found(), (
            f"A departure must differ in the releases in which it was found. Received: Keras and the definition both "
            f"give {definition} in the example of {departure_id!r}. Keras never was wrong: remove the entry."
        )
        return
    # by its exception a refusal says what refused; any other entry has numbers to show
    assert isinstance(keras_value, str) == (
        ENTRIES[departure_id].reading == "refusal" or ENTRIES[departure_id].own_process
    )


@pytest.mark.sampled
@pytest.mark.parametrize("departure_id", CONDITIONED)
@given(data=st.data())
def test_conditions_can_be_asked(departure_id, data):
    """Every name is registered, and every condition can be put to any specification of that name."""
    entry = ENTRIES[departure_id]
    for condition in entry.applies:
        names = named_in(condition)
        assert names, (
            f"A condition must name a class or an activation. Received: {condition} of {departure_id!r}. Name one."
        )
        for kind, name in names:
            assert name in registry.names(kind or kind_of(name) or "layer"), (
                f"{name!r} of {departure_id!r} is not registered. Correct the name."
            )
    for kind, name in dict.fromkeys(n for condition in entry.applies for n in named_in(condition)):
        given_specs = ("layer", "Activation", {"activation": name}) if kind else (kind_of(name), name, {})
        spec = data.draw(gt.specifications(given_specs[0], given_specs[1], **given_specs[2]))
        assert entry.applies_to(spec, [spec]) in (True, False)


@pytest.mark.parametrize("departure_id", CONDITIONED)
def test_conditions_can_hold(departure_id):
    """Conditions name fields that the specifications have: an entry that none can meet would excuse nothing."""
    for condition in ENTRIES[departure_id].applies:
        assert set(condition.fields) <= known_fields(condition), (
            f"{condition} of {departure_id!r} names a field that there is not"
        )


def known_fields(condition):
    found = set()
    for kind, name in named_in(condition):
        if kind is None and kind_of(name):
            found |= set(registry.get(kind_of(name), name).__dataclass_fields__)
    return found


def test_ids_and_texts():
    assert len(ENTRIES) == len(departures.load_departures())
    for entry in departures.load_departures():
        assert entry.reason.endswith(".") and len(entry.source) > 10, f"{entry.id!r} needs a reason and a source"


def test_every_entry_has_its_example():
    assert set(departures.load_examples()) == set(ENTRIES)
    for entry in departures.load_departures():
        answers = inspect.getsource(departures.load_examples()[entry.id])
        assert answers.count("keras_value") and answers.count("definition")


def test_every_predicate_is_asked_for():
    conditions = [c for entry in departures.load_departures() for c in entry.applies]
    conditions += [c.beside for c in conditions if c.beside is not None]
    asked = {p.__name__ for c in conditions for p in (c.where, c.shapes) if p is not None}
    assert asked == set(PREDICATES)


def test_what_differs():
    def run(keras_value, definition):
        return departures.run_here(lambda: departures.Answers(keras_value, definition))

    assert not departures.differs(*run(1.0, 1.0 + 2.0**-50))
    for other in (
        (1.0, 1.0 + 2.0**-40),
        ([1.0], 1.0),
        (np.nan, 1.0),
        (np.inf, -np.inf),
        (None, 1.0),
        ("ValueError", 1.0),
    ):
        assert departures.differs(*run(*other)), other


def abort():
    """What an example does that ends its process."""
    os.abort()


@pytest.mark.sampled
def test_what_ends_its_process_is_told_and_survived():
    assert departures.run_in_own_process(abort) == ("ends its process", "goes on")
    assert departures.run_in_own_process(do_nothing) == ("goes on", "goes on")


def do_nothing():
    """What an example does that ends nothing."""


@pytest.mark.sampled
def test_an_example_that_raises_in_its_own_process_is_an_error():
    with pytest.raises(RuntimeError, match=r"An example must run to its end or end the process\. Received: "):
        departures.run_in_own_process(kind_of)


def test_who_is_excused():
    dense = registry.get("layer", "Dense")
    assert departures.find_departures([dense(1, activation="sparsemax")]) == ("sparsemax-sums-the-sums",)
    assert departures.find_departures([dense(1, activation="relu")]) == ()
    assert departures.find_departures([dense(1, activation="celu")], "value") == ()
    convolution = registry.get("layer", "Conv2D")(1, 1, data_format="channels_first")
    assert departures.find_departures([convolution]) == ()
    assert departures.find_refusals([convolution]) == ("channels-first-convolution-on-a-processor",)
    crossentropy = registry.get("loss", "BinaryCrossentropy")()
    assert departures.find_departures([crossentropy]) == ()
    assert departures.find_departures([dense(1, activation="softmax"), crossentropy]) == (
        "logits-of-another-activation",
    )


def test_an_unknown_id_is_refused():
    with pytest.raises(ValueError) as refused:
        departures.get_departure("no-such-thing")
    assert str(refused.value) == (
        "A departure must be an entry of keras_ref/translation/departures. Received: 'no-such-thing'. "
        "Remove what refers to it, or correct the id."
    )
