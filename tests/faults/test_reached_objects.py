"""What code of a user's writes in Python, wherever it keeps it: afterwards what it was."""

import collections
import functools
import io
import queue
import sys
import types
from array import array

import keras
import pytest
import tensorflow as tf
from scaling import ONE, Scaling, model_of
from scaling import VERBS as VERBS_OF_LAYERS

from keras_ref import check_function

CALLS, SEEN, HELPER = 0, [], types.ModuleType("helper_of_faults")
HELPER.calls, HELPER.seen = 0, []
exec("def add():\n    global calls\n    calls += 1\n    seen.append(calls)", vars(HELPER))
sys.modules[HELPER.__name__] = HELPER


class Base:
    calls, seen = 0, []

    def add(self):
        Base.calls += 1
        Base.seen.append(1)
        type(self).own = getattr(type(self), "own", 0) + 1


class Helper(Base):
    """An instance that counts in itself, in its class, and in that above."""

    __slots__ = ("slot",)

    def __init__(self):
        self.count, self.items, self.slot = 0, {"a": [0]}, 0

    def add(self):
        super().add()
        self.count += 1
        self.items["a"][0] += 1
        self.slot += 1
        self.late = self.count


def by_helper():
    one = Helper()
    state = lambda: (Base.calls, len(Base.seen), getattr(Helper, "own", 0), one.count, one.items["a"][0], one.slot)  # noqa: E731
    return one.add, lambda: (*state(), getattr(one, "late", None))


def by_class_of_the_layer():
    class Counting(Scaling):
        calls, table = 0, {"seen": []}

        @classmethod
        def count(cls):
            cls.calls += 1

        def call(self, x):
            type(self).count()
            Counting.table["seen"].append(self.calls)
            return super().call(x)

    return Counting, lambda: (Counting.calls, len(Counting.table["seen"]))


def by_global():
    def write():
        global CALLS  # noqa: PLW0603 (what is tried)
        CALLS += 1
        SEEN.append(1)

    return write, lambda: (CALLS, len(SEEN))


def count_far_away():
    HELPER.calls += 1
    HELPER.add()


def by_another_module():
    return lambda: count_far_away(), lambda: (HELPER.calls, len(HELPER.seen))  # noqa: PLW0108 (one function more)


def by_import_in_a_function():
    def write():
        from helper_of_faults import seen

        seen.append(1)

    return write, lambda: len(HELPER.seen)


def by_closure():
    calls, seen = 0, [0]

    def write():
        nonlocal calls
        calls += 1
        seen[0] += 1

    return write, lambda: (calls, *seen)


def by_attribute_of_a_function():
    def write():
        write.calls = getattr(write, "calls", 0) + 1

    return write, lambda: getattr(write, "calls", 0)


def by_default():
    def write(seen=[], *, more={}):  # noqa: B006
        seen.append(1)
        more[len(more)] = 1

    return write, lambda: (len(write.__defaults__[0]), len(write.__kwdefaults__["more"]))


def by_partial():
    seen = []
    return functools.partial(list.append, seen, 1), lambda: len(seen)


def by_traced_function():
    seen = []
    traced = tf.function(lambda number: seen.append(number))  # noqa: PLW0108 (a closure)
    return lambda: traced(len(seen)), lambda: len(seen)  # another number is another trace


def by_decorated_function():
    calls = [0]

    def decorator(function):
        @functools.wraps(function)
        def wrapped():
            function()

        return wrapped

    @decorator
    def write():
        calls[0] += 1

    return write, lambda: calls[0]


class Log(list):
    """A list with an attribute."""

    calls = 0

    def __call__(self):
        self.append(1)
        self.calls += 1


def by_list_of_a_class():
    log = Log()
    return log, lambda: (len(log), log.calls)


def by_holders():
    """Of Python's own."""
    files = io.StringIO("ab"), io.BytesIO(b"ab")
    held = queue.Queue(), collections.UserDict(), collections.UserList(), collections.Counter(), array("d")

    def write():
        files[0].write("c")
        files[1].write(b"cde")
        held[0].put(1)
        held[1][len(held[1])] = 1
        held[2].append(1)
        held[3]["a"] += 1
        held[4].append(1)

    plain = lambda: (held[0].qsize(), dict(held[1]), list(held[2]), dict(held[3]), held[4].tolist())  # noqa: E731
    return write, lambda: (*plain(), *((one.getvalue(), one.tell()) for one in files))


def by_module_of_tensorflow():
    module = tf.Module()
    module.calls, module.seen = 0, []

    def write():
        module.calls += 1
        module.seen.append(1)

    return write, lambda: (module.calls, len(module.seen))


#: makes what a layer does in a call, and what reads the state that it writes
WRITERS = (
    by_helper, by_global, by_import_in_a_function, by_another_module, by_closure, by_attribute_of_a_function,
    by_default, by_partial, by_traced_function, by_decorated_function, by_list_of_a_class, by_holders,
    by_module_of_tensorflow,
)  # fmt: skip
VERBS = VERBS_OF_LAYERS | {
    "function": lambda layer, model: check_function(lambda x: layer(x), ONE),  # noqa: PLW0108 (a closure)
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_code_leads_to(verb):
    """All of it at once: a check of each would take long."""
    cls, read_class = by_class_of_the_layer()
    writers = {make.__name__: make() for make in WRITERS}

    def write():
        for one, _ in made:
            one()

    def state():
        return {"class": read_class(), **{name: read() for name, (_, read) in writers.items()}}

    made = [*writers.values()]
    layer = cls(write)
    model = model_of(layer)
    before = state()
    layer(ONE)
    after = state()
    assert [name for name in before if after[name] == before[name]] == []
    VERBS[verb](layer, model)
    assert state() == after


class Counted:
    """What counts its calls: in itself, in its class, in a list of each."""

    calls, seen = 0, []

    def take_note(self):
        self.own = vars(self).get("own", 0) + 1
        type(self).calls += 1
        self.seen.append(1)

    def state(self):
        return vars(self).get("own", 0), type(self).calls, len(self.seen)


class CountedRegularizer(keras.regularizers.Regularizer, Counted):
    def __call__(self, x):
        self.take_note()
        return keras.ops.sum(x * x)


class CountedConstraint(keras.constraints.Constraint, Counted):
    def __call__(self, x):
        self.take_note()
        return x * 1.0


class CountedInitializer(keras.initializers.Initializer, Counted):
    def __call__(self, shape, dtype=None):
        self.take_note()
        return keras.ops.ones(shape, dtype)


class CountedSchedule(keras.optimizers.schedules.LearningRateSchedule, Counted):
    def __call__(self, step):
        self.take_note()
        return 0.125

    def get_config(self):
        return {}


class CountedCallback(keras.callbacks.Callback, Counted):
    pass


class CountedLoss(Counted):
    def __call__(self, y_true, y_pred):
        self.take_note()
        return keras.ops.mean((y_true - y_pred) ** 2, axis=-1)


class CountedActivation(Counted):
    def __call__(self, x):
        self.take_note()
        return x * 2.0


class CountedMetric(keras.metrics.Mean, Counted):
    def update_state(self, values, sample_weight=None):
        self.take_note()
        super().update_state(values)


class Parts(keras.layers.Layer):
    """A layer with a metric, a callback and an initializer that its call uses, of which Keras knows nothing."""

    def __init__(self, metric, callback, initializer):
        super().__init__()
        self.metric, self.hidden, self.initializer = metric, (lambda: callback), initializer

    def call(self, x):
        self.metric.update_state(x)
        self.hidden().take_note()
        return x * tf.cast(self.initializer(()), x.dtype)


@pytest.mark.parametrize("verb", ["gradients", "updates", "comparison"])
def test_parts_of_a_model(verb):
    regularizer, constraint, schedule, loss = (
        CountedRegularizer(),
        CountedConstraint(),
        CountedSchedule(),
        CountedLoss(),
    )
    activation, metric, callback, initializer = (
        CountedActivation(), CountedMetric(), CountedCallback(), CountedInitializer()
    )  # fmt: skip
    dense = keras.layers.Dense(
        1, activation, kernel_regularizer=regularizer, kernel_constraint=constraint, activity_regularizer=regularizer
    )
    model = keras.Sequential([keras.Input((1,)), dense, Parts(metric, callback, initializer)])
    model.compile(optimizer=keras.optimizers.SGD(schedule), loss=loss, run_eagerly=True)
    parts = regularizer, constraint, schedule, loss, activation, metric, callback, initializer
    before = [part.state() for part in parts]
    model.train_on_batch(ONE, ONE)
    after = [part.state() for part in parts]
    assert all(now != then for now, then in zip(after, before, strict=True))
    VERBS[verb](None, model)
    assert [part.state() for part in parts] == after


class Building(keras.layers.Layer):
    """Has what its building leaves in a helper, without which it cannot be called."""

    built_layers = 0

    def __init__(self):
        super().__init__()
        self.helper = types.SimpleNamespace()
        self.counted = Helper()

    def build(self, shape):
        self.w = self.add_weight(shape=(), initializer="ones", name="w")
        self.helper.factor, self.counted.factor = 2.0, 3.0
        Building.built_layers += 1

    def call(self, x):
        Building.calls = getattr(Building, "calls", 0) + 1
        self.counted.add()
        return x * self.w * self.helper.factor * self.counted.factor


@pytest.mark.parametrize("verb", ["layer", "gradients", "updates"])
def test_what_building_leaves_stays(verb):
    """And what calls write after it is put back."""
    layer, model = Building(), keras.Sequential()
    model.add(layer)
    model.compile("sgd", "mse")
    before, calls, count = Building.built_layers, vars(Building).get("calls", 0), Base.calls
    VERBS[verb](layer, model)
    assert layer.built
    assert Building.built_layers == before + 1
    assert layer.counted.count <= 1  # to find the shapes of a model Keras calls its layers as it builds it
    assert vars(Building).get("calls", 0) <= calls + 1
    assert Base.calls <= count + 1
    assert float(layer(ONE)[0, 0]) == 6.0
