"""The registry: every decorator freezes, checks and records; a second definition of one name is refused."""

from dataclasses import FrozenInstanceError
from typing import Annotated

import pytest

from scratch import registry
from scratch.fields import AtLeast
from scratch.layers.base import Layer

CLASSES = tuple(kind for kind in registry.KINDS if kind != "activation")


@pytest.fixture(autouse=True)
def own_records(monkeypatch):
    """What a test registers is gone after it."""
    for kind in registry.KINDS:
        monkeypatch.setitem(registry._RECORDS, kind, dict(registry.every(kind)))


def define(kind, base=object):
    """A definition made by the decorator of its kind."""

    class Made(base):
        count: Annotated[int, AtLeast(1)] = 1

    return getattr(registry, kind)(Made)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_decorator_freezes_checks_and_records(kind):
    made = define(kind)
    assert registry.get(kind, "Made") is made and "Made" in registry.names(kind)
    with pytest.raises(FrozenInstanceError):
        made().count = 2
    with pytest.raises(ValueError) as refused:
        made(0)
    assert str(refused.value) == (
        "`count` of Made must be an integer, at least 1. Received: count=0. Pass a legal value."
    )


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_second_definition_of_one_name_is_refused(kind):
    decorator, name = getattr(registry, kind), registry.names(kind)[0]
    second = type(name, (), {}) if kind != "activation" else lambda x: x
    second.__name__ = name
    with pytest.raises(ValueError) as refused:
        decorator(second)
    assert str(refused.value) == (
        f"A {kind} may be registered once. Received a second {name!r}. Rename one of the two."
    )


def test_activations_say_whether_they_are_elementwise():
    @registry.activation
    def twice(x):
        return 2 * x

    @registry.activation(elementwise=False)
    def turned(x):
        return x[::-1]

    assert registry.get("activation", "twice") is twice and twice.elementwise
    assert registry.get("activation", "turned") is turned and not turned.elementwise


def test_a_layer_accepts_the_parameters_of_its_forward():
    class Noisy(Layer):
        def forward(self, weights, *inputs, training=False, draw=None):
            return inputs[0]

    assert registry.layer(Noisy).accepts == {"self", "weights", "inputs", "training", "draw"}


def test_an_unknown_kind_or_name_is_refused():
    with pytest.raises(ValueError) as refused:
        registry.every("metric")
    kinds = "layer, activation, loss, optimizer, schedule, regularizer, constraint"
    assert str(refused.value).startswith(f"A kind must be one of {kinds}")  # and those that other packages have added
    assert str(refused.value).endswith(". Received: 'metric'. Use one of them.")
    with pytest.raises(ValueError, match=r"Received: 'Dens'\. Use one of the registered ones \(Dense, "):
        registry.get("layer", "Dens")
