"""What a call of a user's changes of the process, and of Python's odd holders of state: afterwards what it was."""

import contextvars
import decimal
import gc
import locale
import logging
import os
import sys
import threading
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from scaling import ONE, VERBS, Scaling, model_of

from keras_ref import check_gradients, check_layer


def change_process(folder):
    os.environ["GRADTWIN_FAULTS"] = os.environ.get("GRADTWIN_FAULTS", "") + "x"
    os.environ.pop("GRADTWIN_FAULTS_GONE", None)
    os.chdir(folder)
    sys.setrecursionlimit(sys.getrecursionlimit() + 1)
    np.set_printoptions(precision=3)
    decimal.getcontext().prec = 5
    decimal.getcontext().traps[decimal.Inexact] = True
    gc.disable()
    locale.setlocale(locale.LC_ALL, "C")
    logging.getLogger().setLevel(logging.CRITICAL)
    logging.getLogger().addHandler(logging.NullHandler())
    sys.excepthook = print


def read_process():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
        "recursion": sys.getrecursionlimit(),
        "printing": np.get_printoptions(),
        "decimal": (decimal.getcontext().prec, dict(decimal.getcontext().traps)),
        "collector": gc.isenabled(),
        "locale": locale.setlocale(locale.LC_ALL),
        "logging": (logging.root.level, [*logging.root.handlers]),
        "hook": sys.excepthook,
    }


@pytest.fixture
def process_as_it_was(monkeypatch, tmp_path):
    """What a fault would leave is not left to other tests."""
    monkeypatch.setenv("GRADTWIN_FAULTS_GONE", "1")
    monkeypatch.setenv("GRADTWIN_FAULTS", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers])
    limit, level, place = sys.getrecursionlimit(), logging.root.level, locale.setlocale(locale.LC_ALL, "C.UTF-8")
    with np.printoptions(), decimal.localcontext():
        yield
    gc.enable()
    sys.setrecursionlimit(limit)
    logging.root.setLevel(level)
    locale.setlocale(locale.LC_ALL, place)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.usefixtures("process_as_it_was")
def test_what_belongs_to_the_process(verb, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    is_on = []
    layer = Scaling(lambda: change_process(tmp_path / "elsewhere") if is_on else None)
    model = model_of(layer)
    is_on.append(True)
    before = read_process()
    VERBS[verb](layer, model)
    after = read_process()
    assert [name for name in before if after[name] != before[name]] == []
    layer(ONE)
    after = read_process()
    assert [name for name in before if after[name] == before[name]] == []


CONTEXT = contextvars.ContextVar("CONTEXT", default=0)


class Meta(type):
    calls = 0


class OfMeta(metaclass=Meta):
    pass


class Local(threading.local):
    calls = 0


def by_context():
    return lambda: CONTEXT.set(CONTEXT.get() + 1), CONTEXT.get


def by_class_of_a_class():
    def write():
        type(OfMeta).calls += 1

    return write, lambda: Meta.calls


def by_local_of_a_thread():
    plain, own = threading.local(), Local()
    plain.calls = 0

    def write():
        plain.calls += 1
        own.calls += 1

    return write, lambda: (plain.calls, own.calls)


def by_view():
    view = memoryview(bytearray(2))

    def write():
        view[0] += 1

    return write, lambda: bytes(view)


def by_module_in_a_closure():
    module = types.ModuleType("module_of_faults")
    exec("calls = 0\ndef add():\n    global calls\n    calls += 1", vars(module))
    holder = types.SimpleNamespace(module=module)
    return lambda: holder.module.add(), lambda: module.calls  # noqa: PLW0108 (a closure)


def by_eager_array():
    grown = tf.TensorArray("float32", size=0, dynamic_size=True, clear_after_read=False)

    def write():
        with tf.init_scope():
            grown.write(grown.size(), 1.0)

    return write, lambda: int(grown.size())


def by_object_that_a_frozen_class_holds():
    class Frozen:
        __slots__ = ("__items", "calls")

        def __init__(self):
            object.__setattr__(self, "calls", 0)
            object.__setattr__(self, "_Frozen__items", [])

        def __setattr__(self, name, value):
            raise AttributeError(name)

        def add(self):
            object.__setattr__(self, "calls", self.calls + 1)
            self.__items.append(1)

        def state(self):
            return self.calls, len(self.__items)

    one = Frozen()
    return one.add, one.state


HOLDERS = (
    by_context, by_class_of_a_class, by_local_of_a_thread, by_view, by_module_in_a_closure, by_eager_array,
    by_object_that_a_frozen_class_holds,
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_odd_holders_of_state(verb):
    made = {make.__name__: make() for make in HOLDERS}

    def write():
        for one, _ in made.values():
            one()

    def state():
        return {name: read() for name, (_, read) in made.items()}

    layer = Scaling(write)
    model = model_of(layer)
    before = state()
    layer(ONE)
    after = state()
    assert [name for name in before if after[name] == before[name]] == []
    VERBS[verb](layer, model)
    assert state() == after


def test_what_a_callback_for_progress_has_is_its_callers():
    """Also where the model's code leads to it."""

    class Watching:
        def __init__(self):
            self.calls, self.told = 0, []

        def tick(self, *now):
            self.told.append(now)

    watching = Watching()

    def write():
        watching.calls += 1

    layer = Scaling(write)
    layer(ONE)
    before = watching.calls
    check_layer(layer, ONE, progress=watching.tick)
    assert watching.told and watching.calls > before
    before, told = watching.calls, len(watching.told)
    check_layer(layer, ONE)
    assert (watching.calls, len(watching.told)) == (before, told)


def test_what_is_the_callers_goes_on():
    """A callback for progress notes what it is told, in itself and in its class."""

    class Noting:
        told, seen = 0, []

        def __call__(self, *_):
            Noting.told += 1
            self.seen.append(1)

    assert check_gradients(model_of(keras.layers.Dense(1)), ONE, ONE, progress=Noting()).ok
    assert Noting.told == len(Noting.seen) > 0
