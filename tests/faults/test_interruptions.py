"""Nothing of the user's changes: every verb, interrupted at every line or in two threads, changes nothing.

The long form (-m slow) tries every line in every phase with both errors; the default run takes a few lines, others
each time.
"""

import random
import signal
import threading
from functools import partial
from itertools import count, product
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from copies import CHANGING, first_and_last, first_in_phase, interrupted_copies
from everything import changes, everything, shallow
from interrupting import PHASES
from subjects import MORE, SUBJECTS, X, Y, plain_model, subject

from keras_ref import check_function, check_gradients, check_updates
from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.restoration import Restoration, find_outermost
from keras_ref.minimisation.search import Search

#: a generator of its own: the global one is part of what is compared
DRAWN = random.Random()
ERRORS = (KeyboardInterrupt, MemoryError)
#: an interruption at a line that a weak reference's end runs is ignored by Python, which says so
ENDS_IN_NOTHING = pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
#: how many of the first lines of a call the default run draws from
LINES, DRAWN_LINES = 1000, 4


@pytest.mark.parametrize("place", [*CHANGING, *PHASES], ids=lambda place: Path(place).name)
def test_where_lines_are_chosen_is_code(place):
    """A folder that has moved would leave no place to interrupt, in silence."""
    assert sorted(Path(place).parent.glob(f"{Path(place).name}*"))


@pytest.mark.sampled
def test_an_interruption_at_some_lines_changes_nothing():
    call, changed = subject("function")
    places, chosen = count(), DRAWN.sample(range(LINES), DRAWN_LINES)
    choose = first_in_phase(lambda place: next(places) in chosen)
    tried = interrupted_copies(call, changed, errors=ERRORS, choose=choose)
    assert len(tried) == DRAWN_LINES * len(ERRORS)
    assert [one for one in tried if one.changed] == []
    assert changed() == []


@ENDS_IN_NOTHING
@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", SUBJECTS)
def test_an_interruption_at_any_line_of_any_phase_changes_nothing(name, error, record_property):
    call, changed = subject(name)
    tried = interrupted_copies(call, changed, errors=(error,), choose=first_in_phase())
    record_property("tries", len(tried))
    assert [one for one in tried if one.changed] == []
    assert len(tried) > LINES


def list_parts():
    """Verbs, errors, and which of how many parts of their lines. One that has no memory for a case takes the next case:
    each line of a minimisation costs seconds.
    """
    for name, error in product([*SUBJECTS, *MORE], ERRORS):
        parts = 12 if (name, error) == ("minimisation", MemoryError) else 1
        for part in range(parts):
            number = f"-{part + 1} of {parts}" if parts > 1 else ""
            yield pytest.param(name, error, part, parts, id=f"{name}-{error.__name__}{number}")


@ENDS_IN_NOTHING
@pytest.mark.slow
@pytest.mark.parametrize(("name", "error", "part", "parts"), list(list_parts()))
def test_an_interruption_at_any_line_changes_nothing(name, error, part, parts, record_property):
    """At the first and at the last time that a verb comes to it; which lines it comes to depends on noise, a little."""
    call, changed = subject(name)
    choose, counts = first_and_last(call, part, parts)
    tried = interrupted_copies(call, changed, errors=(error,), choose=choose)
    record_property("tries", len(tried))
    assert [one for one in tried if one.changed] == []
    assert len({one.place[:2] for one in tried}) > 0.99 * len(counts)


@pytest.mark.sampled
@pytest.mark.parametrize("verb", [check_gradients, partial(check_updates, steps=1)])
def test_a_model_that_has_not_been_trained_yet(verb):
    """Its compiled loss and metrics are built by their first call, for the targets of that."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="untrained")
    model.compile("sgd", "mse", metrics=["mae"])
    before = everything(model), built_parts(model)
    verb(model, X, Y)
    assert changes(before, (everything(model), built_parts(model))) == []


def built_parts(model):
    return {name: shallow(getattr(model, name)) for name in ("_compile_loss", "_compile_metrics")}


@pytest.mark.sampled
def test_a_minimisation_that_is_interrupted(monkeypatch):
    """The smallest case so far is its result, which nothing interrupts once more; all is as it was."""
    call, changed = subject("minimisation")
    monkeypatch.setattr(Search, "run", interrupted_search)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert call().notes[0] == "Interrupted: this is the smallest case so far."
    finally:
        signal.signal(signal.SIGINT, before)
    assert changed() == []


def interrupted_search(search, case):
    search.best = case
    signal.raise_signal(signal.SIGINT)


def test_an_undo_step_that_is_interrupted_runs_again():
    log = []

    def step(name, failures):
        log.append(name)
        if failures:
            raise failures.pop()

    restoration = Restoration()
    for name, failures in (("first", []), ("second", [MemoryError()]), ("third", [])):
        restoration.undo_by(step, name, failures)
    with pytest.raises(MemoryError):
        restoration.undo()
    assert log == ["third", "second", "second", "first"]


def test_a_block_that_was_cut_off_and_is_ended_late_harms_no_other():
    """A generator in a traceback's frames is closed when the traceback goes, perhaps in the middle of another check."""
    owner, late = plain_model(), Restoration()
    with Restoration():
        late.__enter__()
        late.set_attribute(owner, "name_of_the_fault", 1)
    assert not hasattr(owner, "name_of_the_fault")  # undone by the block around it
    assert find_outermost() is None  # and ended with it
    with Restoration() as other:
        late.__exit__(None, None, None)
        assert find_outermost() is other
        other.set_attribute(owner, "name_of_the_fault", 2)
        with Restoration() as inner:
            inner.set_attribute(owner, "name_of_the_fault", 3)
        assert owner.name_of_the_fault == 2
    assert not hasattr(owner, "name_of_the_fault")
    assert find_outermost() is None


def check_in_two_threads(model, times):
    """Check a model in two threads at once, so many times. Returns the reports."""
    reports, barrier = [], threading.Barrier(2)

    def check():
        for _ in range(times):
            barrier.wait()
            reports.append(check_gradients(model, X, Y, most=2, oracles=("forward",)))

    threads = [threading.Thread(target=check) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reports


@pytest.mark.parametrize("times", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_one_model_in_two_threads(times):
    """The second check waits: both reports are right, and the model is what it was."""
    model = plain_model()
    alone = check_gradients(model, X, Y, most=2, oracles=("forward",))
    before = everything(model)
    reports = check_in_two_threads(model, times)
    assert len(reports) == 2 * times
    assert {repr(report.to_dict()["verdicts"]) for report in reports} == {repr(alone.to_dict()["verdicts"])}
    assert changes(before, everything(model)) == []


def test_a_variable_that_a_traced_function_writes_is_put_back():
    """The trace was made before the check and holds the variable itself, of which the check holds a copy."""
    counter = tf.Variable(1.0, dtype="float64")

    @tf.function
    def written(x):
        counter.assign(counter * 2)
        return x * counter

    written(tf.constant(X))
    counter.assign(1.0)
    check_function(written, X, most=2)
    assert counter.numpy() == 1.0


def test_where_a_check_refuses_to_run(monkeypatch):
    model = plain_model()

    @tf.function(autograph=False)
    def inside():
        check_gradients(model, X, Y)

    with pytest.raises(BadInput) as caught:
        inside()
    assert str(caught.value) == (
        "A check must run eagerly. Received: a call inside a tf.function or a graph. Call it outside of that."
    )
    # a real scope cannot be entered after all that other tests have done in this process
    monkeypatch.setattr(tf.distribute, "has_strategy", lambda: True)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: tf.distribute.OneDeviceStrategy("/cpu:0"))
    with pytest.raises(BadInput) as caught:
        check_gradients(model, X, Y)
    assert str(caught.value) == (
        "A check must run outside of a distribution scope. Received: a call inside that of OneDeviceStrategy. Leave "
        "the scope, or build the model without it."
    )


def test_inside_a_tape_and_an_error_state():
    """A tape of the user's sees what it saw before, and NumPy raises where the user wants it to."""
    model, watched = plain_model(), tf.Variable(3.0)
    alone = check_gradients(model, X, Y, most=2)
    with np.errstate(all="raise"), tf.GradientTape() as tape:
        square = watched * watched
        report = check_gradients(model, X, Y, most=2)
        assert np.geterr()["divide"] == "raise"
    assert tape.gradient(square, watched).numpy() == 6.0
    assert [v.verdict for v in report.verdicts] == [v.verdict for v in alone.verdicts]


def test_names_and_seeds_go_on_as_without_a_check():
    """Automatic names, and eager random numbers of TensorFlow with a seed."""
    model = plain_model()
    keras.utils.set_random_seed(5)
    keras.layers.Dense(1)
    expected = tf.random.uniform(()).numpy(), keras.layers.Dense(1).name
    keras.utils.set_random_seed(5)
    first = keras.layers.Dense(1).name
    check_gradients(model, X, Y, most=2, training=True)
    found = tf.random.uniform(()).numpy(), keras.layers.Dense(1).name
    assert found[0] == expected[0]
    assert int(found[1].rpartition("_")[2]) == int(first.rpartition("_")[2]) + 1
