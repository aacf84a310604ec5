"""A budget does not decide which entries are compared, only how many; unused rows of an embedding cost nothing."""

import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from everything import changes, everything

from keras_ref import check_gradients, check_updates
from keras_ref.comparison import time_budget
from keras_ref.comparison.entrywise import compare_entries
from keras_ref.comparison.optimizer_step import steps_rows_alone
from keras_ref.comparison.time_budget import first_entries
from keras_ref.translation.from_keras import reflected
from scratch.constraints import MaxNorm


def test_fewer_entries_are_among_more():
    drawn = [set(first_entries(1000, count=count, seed=3)) for count in (2, 10, 300, 1000)]
    assert [len(one) for one in drawn] == [2, 10, 300, 1000]
    assert all(few <= many for few, many in pairwise(drawn))
    assert set(first_entries(1000, count=10, seed=4)) != drawn[1]


class Machine:
    """A clock that goes on by what is compared: `seconds(entries so far)` for each entry."""

    def __init__(self, seconds):
        self.seconds, self.now, self.compared, self.entries = seconds, 0.0, 0, {}

    def perf_counter(self):
        return self.now

    def compare(self, oracle, name, *, entries, **options):
        for _ in entries:
            self.now += self.seconds(self.compared)
            self.compared += 1
        self.entries.setdefault(name, set()).update(map(int, entries))
        return compare_entries(oracle, name, entries=entries, **options)


def checked_on(machine, monkeypatch):
    """The report on a model of 79 entries within 10 s, of which the machine says when they are over."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6,)), keras.layers.Dense(8, "tanh", name="first"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential(layers, name="model")
    model.compile(loss="mse")
    g = np.random.default_rng(0)
    monkeypatch.setattr(time_budget, "time", machine)
    monkeypatch.setattr(time_budget, "compare_entries", machine.compare)
    return check_gradients(
        model, g.normal(size=(2, 6)), np.ones((2, 1)), oracles=("forward",), budget=10, seed=3, progress=lambda *_: None
    )


def budget_note(report):
    return next(note for note in report.notes if "were compared one by one" in note)


def test_a_slower_machine_compares_the_first_of_the_same_entries(monkeypatch):
    machines = [Machine(lambda done, slow=slow: slow) for slow in (0.05, 0.2, 1.0, 4.0, 20.0)]
    reports = [checked_on(machine, monkeypatch) for machine in machines]
    for (fast, quick), (slow, late) in pairwise(zip(machines, reports, strict=True)):
        assert fast.entries.keys() >= slow.entries.keys()
        assert all(slow.entries[name] <= fast.entries[name] for name in slow.entries)
        assert sum(map(len, slow.entries.values())) < sum(map(len, fast.entries.values()))
        assert time_budget.LESS in budget_note(late)
        assert {v.name for v in late.verdicts} == {v.name for v in quick.verdicts}
        assert late.ok
        assert all(v.total in (v.compared, v.together) for v in late.verdicts)
    assert budget_note(reports[0]).endswith("within 10 s; none was left out.")


def test_a_machine_that_becomes_slow(monkeypatch):
    """The first entries promise more than there is time for: what is left out is compared along directions."""
    machine = Machine(lambda done: 0.01 if done < 40 else 2.0)
    report = checked_on(machine, monkeypatch)
    assert sum(map(len, machine.entries.values())) < 79
    assert "the others together along random directions" in budget_note(report)
    assert time_budget.LESS in budget_note(report)
    assert all(v.total in (v.compared, v.together) for v in report.verdicts)
    assert report.ok


# Embeddings of which few rows are used -----------------------------------------------------------------------------

IDS, TARGETS = np.array([[7, 70_000, 3], [3, 50, 0]]), np.array([[1.0], [0.5]])


class Wrong(keras.layers.Layer):
    """x², whose gradient is wrong where the first sample's second index is looked up."""

    def call(self, x):
        @tf.custom_gradient
        def square(x):
            off = tf.one_hot(1, 3, dtype=x.dtype)[None, :, None] * tf.one_hot(0, 2, dtype=x.dtype)[:, None, None]
            return x * x, lambda upstream: upstream * x * (2 + off)

        return square(x)


class Tied(keras.layers.Layer):
    """Reads the whole matrix of an embedding."""

    def __init__(self, embedding):
        super().__init__(name="tied")
        self.embedding = embedding

    def call(self, x):
        return x + keras.ops.mean(self.embedding.embeddings)


def looking_up(rows=80_000, *, after=(), **options):
    keras.utils.set_random_seed(0)
    embedding = keras.layers.Embedding(rows, 8, name="rows", **options)
    layers = [embedding, *(one(embedding) if one is Tied else one() for one in after)]
    last = [keras.layers.Flatten(), keras.layers.Dense(1, "tanh", name="dense")]
    model = keras.Sequential([keras.Input((3,), dtype="int32"), *layers, *last], name="large")
    model.compile(optimizer="adam", loss="mse")
    return model


def of_rows(report):
    return next(v for v in report.verdicts if "rows" in v.name)


def test_unused_rows_are_left_out():
    model = looking_up()
    check_gradients(model, IDS, TARGETS, oracles=("forward",), effort="fast")
    before, arrays = everything(model), [one.numpy() for one in model.variables]
    report = check_gradients(model, IDS, TARGETS, oracles=("forward", "twin"))
    assert changes(before, everything(model)) == []
    assert all((one.numpy() == array).all() for one, array in zip(model.variables, arrays, strict=True))
    assert model.layers[0].input_dim == 80_000
    assert report.ok
    assert report.notes[0] == (
        "large/rows/embeddings: 79,995 of 80,000 rows are used by none of the data. The loss does not depend on them, "
        "and autodiff gives them no gradient: they were left out."
    )
    found = [v for v in report.verdicts if "rows" in v.name]
    assert {v.oracle for v in found} == {"forward", "twin"}
    assert {(v.compared, v.total) for v in found} == {(40, 640_000)}
    assert all(v.worst[0] in IDS for v in found)


def test_an_error_in_a_used_row_has_its_own_index():
    verdict = of_rows(check_gradients(looking_up(after=(Wrong,)), IDS, TARGETS, oracles=("forward",), effort="full"))
    assert verdict.verdict == "mismatch"
    assert verdict.worst[0] == 70_000
    assert verdict.counts["mismatch"] == 8


#: optimizers, and whether their steps treat every row of an embedding by itself
OPTIMIZERS = {
    "adam": (lambda: keras.optimizers.Adam(0.01), True),
    "sgd": (lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True, clipvalue=0.1), True),
    "a norm of all gradients": (lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5), True),
    "averages": (lambda: keras.optimizers.Adagrad(0.01, use_ema=True, gradient_accumulation_steps=2), True),
    "scaled": (lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop(0.01)), True),
    "means of rows": (lambda: keras.optimizers.Adafactor(0.01), False),
    "a norm of weights": (lambda: keras.optimizers.Lamb(0.01), False),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_whose_steps_treat_rows_alone(name):
    make, expected = OPTIMIZERS[name]
    assert steps_rows_alone(reflected(make(), "optimizer"), path="model/rows/embeddings") is expected


@pytest.mark.parametrize(("constraint", "expected"), [(MaxNorm(1.0, axis=1), True), (MaxNorm(1.0, axis=0), False)])
def test_constraints_that_treat_rows_alone(constraint, expected):
    law = reflected(keras.optimizers.SGD(1.0), "optimizer")
    assert steps_rows_alone(law, path="rows", constraint=constraint) is expected


def trained(optimizer, **options):
    """A model with an embedding whose optimizer remembers something of every row."""
    model = looking_up(**options)
    model.compile(optimizer=optimizer, loss="mse")
    model.train_on_batch(np.array([[7, 9, 70_000], [1, 2, 3]]), TARGETS)
    g = np.random.default_rng(0)
    for slot in model.optimizer.variables:
        if tuple(slot.shape) == (80_000, 8):
            slot.assign(np.abs(g.normal(size=slot.shape)) / 8)
    return model


def test_updates_leave_unused_rows_out():
    """All but examples, which the optimizer moves by what it remembers of them."""
    model = trained(keras.optimizers.Adam(0.01))
    before, arrays = everything(model), [one.numpy() for one in (*model.variables, *model.optimizer.variables)]
    report = check_updates(model, IDS, TARGETS, steps=2)
    after = [one.numpy() for one in (*model.variables, *model.optimizer.variables)]
    assert changes(before, everything(model)) == []
    assert all((one == other).all() for one, other in zip(after, arrays, strict=True))
    assert report.ok
    assert report.notes[0] == (
        "large/rows/embeddings: 79,995 of 80,000 rows are used by none of the data. The loss does not depend on them, "
        "and autodiff gives them no gradient: all take the same step, which was compared on 8 of them; the others were "
        "left out."
    )
    assert (of_rows(report).compared, of_rows(report).total) == (13 * 8, 640_000)


class Moving(keras.optimizers.SGD):
    """Moves every row as it should, and those without a gradient by a millionth more."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate)
        if isinstance(gradient, tf.IndexedSlices):
            unused = tf.reduce_all(tf.convert_to_tensor(gradient) == 0, axis=-1, keepdims=True)
            variable.assign_add(tf.cast(unused, variable.dtype) * 1e-6 * variable)


Moving.__module__, Moving.__name__ = keras.optimizers.SGD.__module__, "SGD"


def test_an_optimizer_that_moves_unused_rows_otherwise(monkeypatch):
    """The examples show it."""
    monkeypatch.setattr(keras.optimizers, "SGD", Moving)
    verdict = of_rows(check_updates(trained(Moving(0.01)), IDS, TARGETS, steps=1))
    assert verdict.verdict == "mismatch"
    assert verdict.counts["mismatch"] == 64
    assert verdict.worst[0] not in IDS


@pytest.mark.parametrize(
    "options",
    [{"after": (Tied,)}, {"embeddings_regularizer": "l2"}, {"rows": 80_000, "mask_zero": True}, {"rows": 70_001}],
    ids=str,
)
def test_what_else_the_rows_are_used_for(options):
    """A matrix that is read elsewhere keeps all its rows; index 0 goes on to be masked."""
    report = check_gradients(looking_up(**options), IDS, TARGETS, oracles=("forward",), effort="fast")
    assert report.ok
    keeps_all = "after" in options or "embeddings_regularizer" in options
    assert of_rows(report).together == (of_rows(report).total if keeps_all else 40)


def peak_of_arrays(rows):
    model = looking_up(rows)
    tracemalloc.start()
    try:
        check_gradients(model, IDS, TARGETS, effort="fast")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_unused_rows():
    """Arrays of NumPy: less than twice what the weights grow by (21 times before unused rows were left out)."""
    peak_of_arrays(80_000)
    assert peak_of_arrays(580_000) - peak_of_arrays(80_000) < 2 * 500_000 * 8 * 4


RESIDENT = """
import resource, sys
sys.path.insert(0, {place!r})
import numpy as np
from test_load import IDS, TARGETS, check_gradients, check_updates, looking_up
verb = {verb}
verb(looking_up(71_000))
model = looking_up(1_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
verb(model)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (1_000_000 * 8 * 4))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "bound"),
    [
        ('lambda model: check_gradients(model, IDS, TARGETS, effort="fast")', 2),
        ("lambda model: check_gradients(model, IDS, TARGETS)", 3),
        ("lambda model: check_updates(model, IDS, TARGETS, steps=1)", 125),
    ],
    ids=["fast", "auto", "updates"],
)
def test_memory_of_a_million_rows(verb, bound):
    """Of the whole process, in units of the float32 weights."""
    code = RESIDENT.format(place=str(Path(__file__).parent), verb=verb)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert float(done.stdout.split()[-1]) < bound
