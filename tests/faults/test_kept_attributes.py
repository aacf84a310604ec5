"""What a layer of a user's keeps in its attributes, and changes in place when it is called: afterwards what it was."""

import random
import types
from collections import OrderedDict, deque

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function, check_gradients, check_layer, check_updates, compare
from keras_ref.errors import BadInput, CouldNotRun, shorten_error
from keras_ref.evaluation.changed_state.kept_contents import steps_to_undo
from keras_ref.evaluation.changed_state.restoration import Restoration

ONE = np.ones((1, 1))


class Keeping(keras.layers.Layer):
    """Counts its calls in whatever can be changed in place, however deep it lies."""

    def build(self, shape):
        self.w = self.add_weight(shape=(), initializer="ones", name="w")
        self.table, self.queue, self.bytes = np.zeros(3), deque([1]), bytearray(b"ab")
        self.nested, self.deep, self.order = [[1], ([2],)], {"a": {"b": [1]}}, OrderedDict(a=1)
        self.space, self.chosen = types.SimpleNamespace(n=0, inner=[np.zeros(1)]), [{1}]
        self.random, self.generator, self.old = random.Random(3), np.random.default_rng(3), np.random.RandomState(3)

    def call(self, x):
        self.table += 1
        self.queue.append(2)
        self.bytes += b"c"
        self.nested[0].append(2)
        self.nested[1][0].append(3)
        self.deep["a"]["b"].append(3)
        self.order["a"] += 1
        self.order[len(self.order)] = 0
        self.space.n += 1
        self.space.inner[0] -= 1
        self.chosen[0].add(len(self.chosen[0]) + 1)
        self.random.random()
        self.generator.normal()
        self.old.normal()
        return x * self.w

    def state(self):
        """All of it by value."""
        return {
            "table": self.table.tolist(),
            "queue": [*self.queue],
            "bytes": bytes(self.bytes),
            "nested": ([*self.nested[0]], [*self.nested[1][0]]),
            "deep": [*self.deep["a"]["b"]],
            "order": [*self.order.items()],
            "space": (self.space.n, self.space.inner[0].tolist()),
            "chosen": {*self.chosen[0]},
            "random": self.random.getstate(),
            "generator": self.generator.bit_generator.state,
            "old": str(self.old.get_state()),
        }


def built():
    """A layer and a model of it, both called."""
    layer = Keeping()
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(optimizer="sgd", loss="mse")
    model(ONE)
    return layer, model


VERBS = {
    "layer": lambda layer, model: check_layer(layer, ONE),
    "function": lambda layer, model: check_function(layer, ONE),
    "gradients": lambda layer, model: check_gradients(model, ONE, ONE, training=True),
    "updates": lambda layer, model: check_updates(model, ONE, ONE, steps=1),
    "comparison": lambda layer, model: compare(model, model, ONE, ONE, steps=1),
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_attributes_hold_is_what_it_was(verb):
    layer, model = built()
    before = layer.state()
    layer(ONE)
    assert all(now != then for now, then in zip(layer.state().values(), before.values(), strict=True))
    before, identities = layer.state(), {name: id(value) for name, value in vars(layer).items()}
    VERBS[verb](layer, model)
    assert layer.state() == before
    assert {name: id(value) for name, value in vars(layer).items()} == identities


class SlottedLayer(keras.layers.Layer):
    """Counts in attributes that vars() does not have."""

    __slots__ = ("__hidden", "count", "items", "later")

    def __init__(self):
        super().__init__()
        self.count, self.items, self.__hidden = 0, [], 0
        self.trainable_scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        object.__setattr__(self, "count", self.count + 1)
        self.items.append(1)
        self.later = self.count
        self.__hidden += 1
        return x * self.trainable_scale

    def state(self):
        return self.count, len(self.items), getattr(self, "later", None), self.__hidden


class CountingLoss(keras.losses.Loss):
    calls, seen = 0, ()

    def call(self, y_true, y_pred):
        self.calls += 1
        self.seen = (*self.seen, 1)
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)

    def state(self):
        return self.calls, self.seen


class CountingMetric(keras.metrics.Metric):
    def __init__(self):
        super().__init__(name="counting")
        self.updates, self.total = 0, self.add_weight(shape=(), initializer="zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.updates += 1
        self.total.assign(self.total + 1.0)

    def result(self):
        return self.total + 0.0

    def state(self):
        return self.updates, float(self.total.numpy())


class CountingOptimizer(keras.optimizers.SGD):
    steps = 0

    def update_step(self, *arguments):
        self.steps += 1
        return super().update_step(*arguments)

    def state(self):
        return self.steps


@pytest.mark.parametrize("verb", ["gradients", "updates", "comparison"])
def test_attributes_of_whatever_a_model_consists_of(verb):
    """Those in slots, those of its loss, of its metrics and of its optimizer."""
    parts = layer, loss, metric, optimizer = SlottedLayer(), CountingLoss(), CountingMetric(), CountingOptimizer()
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(optimizer=optimizer, loss=loss, metrics=[metric], run_eagerly=True)
    empty = [part.state() for part in parts]
    model.train_on_batch(ONE, ONE)
    before = [part.state() for part in parts]
    assert all(now != then for now, then in zip(before, empty, strict=True))
    VERBS[verb](layer, model)
    assert [part.state() for part in parts] == before


def test_a_slot_that_was_empty_is_empty_again():
    layer = SlottedLayer()
    with Restoration() as restoration:
        restoration.keep_attributes(layer)
        layer.later = 3
        del layer.items
    assert not hasattr(layer, "later")
    assert layer.items == []


def test_a_container_that_holds_itself():
    items, table = [0], {"a": [1]}
    items += [items, table]
    table["b"] = table
    steps = [*steps_to_undo(items)]
    table["a"].append(2)
    items[0], table["b"], items[1] = 3, None, None
    for step in (*steps, *steps):
        step()
    assert (items[0], items[1] is items, table["a"], table["b"] is table) == (0, True, [1], True)


def test_a_list_that_tensorflow_tracks():
    """Its items are those of a list inside it, which must not seem changed behind its back."""
    module = tf.Module()
    module.items = [1, [2]]
    steps = [*steps_to_undo(module.items)]
    module.items.append(3)
    module.items[1].append(4)
    for step in (*steps, *steps):
        step()
    assert ([*module.items], [*module.items[1]]) == ([1, [2]], [2])
    module.items.append(tf.Variable(1.0))
    assert len(module.items._trackable_children()) > 0


def nested(make, depth=10_000):
    """Something in something in something."""
    held = make(0)
    for _ in range(depth):
        held = make(held)
    return held


def holding_itself(container, add):
    add(container)
    return container


#: what holds itself, or lies deeper than Python's recursion goes
ENDLESS = {
    "list": lambda: holding_itself(items := [1], items.append),
    "dictionary": lambda: holding_itself(table := {"a": 1}, lambda own: table.update(own=own)),
    "tuple": lambda: holding_itself(items := ([],), items[0].append),
    "queue": lambda: holding_itself(queue := deque(), queue.append),
    "deep list": lambda: nested(lambda held: [held]),
    "deep dictionary": lambda: nested(lambda held: {"a": held}),
    "deep tuple": lambda: nested(lambda held: (held,)),
}
OBJECTS = {
    "space": lambda: holding_itself(space := types.SimpleNamespace(), lambda own: setattr(space, "own", own)),
    "deep spaces": lambda: nested(lambda held: types.SimpleNamespace(held=held)),
}


@pytest.mark.sampled
@pytest.mark.parametrize("verb", ["gradients", "updates"])
def test_attributes_without_end(verb):
    """Written past Keras's own tracking, which does not end at them either."""
    layer, model = built()
    endless = {f"endless {kind}": make() for kind, make in (ENDLESS | OBJECTS).items()}
    vars(layer).update(endless)
    VERBS[verb](layer, model)
    assert all(vars(layer)[kind] is held for kind, held in endless.items())


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("name", ["inputs", "y", "weights"])
def test_an_argument_without_end_is_one_sentence(kind, name):
    endless, model = ENDLESS[kind](), keras.Sequential([keras.layers.Dense(1)])
    verbs = {
        "inputs": lambda: check_function(lambda x: x, endless),
        "y": lambda: check_gradients(model, ONE, endless),
        "weights": lambda: compare(model, model, ONE, ONE, weights=endless),
    }
    with pytest.raises(BadInput, match=f"^`{name}` must not contain itself, nor lists and dictionaries nested more"):
        verbs[name]()


class Odd(Exception):
    """An error whose text raises."""

    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Odd(), "Odd: its text cannot be read, which raises RuntimeError"),
        (ValueError("a\x1b[2J\n::error::b\u202e\x00"), r"ValueError: a\x1b[2J ::error::b\u202e\x00"),
        (type("\n::error::E\x1b", (Exception,), {})("x"), r"\n::error::E\x1b: x"),
    ],
    ids=["no text", "commands", "the name of a class"],
)
def test_an_error_of_any_text_is_one_line_in_which_everything_is_visible(error, said):
    def raising(x):
        raise error

    with pytest.raises(BadInput) as caught:
        check_function(raising, ONE)
    text = str(caught.value)
    assert text.startswith(f"A subject must run on the data it is checked on. Received: {said}")
    assert text.isprintable()
    assert str(CouldNotRun(f"{type(error).__name__}: {shorten_error(error)}")).isprintable()
