"""Before and behind a staircase, or another layer with a surrogate gradient, errors of the backward pass are found.

Property: right networks stay `surrogate`, whatever quantizes them; a planted error makes everything that it spoils a
mismatch, wherever it lies, and nothing else.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ref
from keras_ref import check_gradients

X, Y = (np.random.default_rng(seed).normal(size=(2, 3)) for seed in (0, 1))


@tf.custom_gradient
def rounded(x):
    return tf.round(4 * x) / 4, lambda upstream: upstream


@keras_ref.surrogate
class Rounds(keras.layers.Layer):
    """A straight-through estimator by a gradient of its own."""

    def call(self, x):
        return rounded(x)


@keras_ref.surrogate
class Signs(keras.layers.Layer):
    """A weight of its own, binarized straight through with a window (larq's ste_sign)."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), initializer="random_normal")

    def call(self, x):
        inside = tf.clip_by_value(self.kernel, -1, 1)
        return x @ (inside + tf.stop_gradient(tf.sign(self.kernel) - inside))


@keras_ref.surrogate
class Reverses(keras.layers.Layer):
    """Gradient reversal: no staircase at all."""

    def call(self, x):
        return tf.custom_gradient(lambda x: (tf.identity(x), lambda upstream: -upstream))(x)


class Wrong(keras.layers.Layer):
    """tanh(x) + x² / 2 with a backward pass that is `planted`: a function of the right terms of its derivative."""

    def __init__(self, planted: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.planted = planted

    def call(self, x):
        @tf.custom_gradient
        def function(x):
            return tf.tanh(x) + x**2 / 2, lambda upstream: upstream * self.planted(1 - tf.tanh(x) ** 2, x)

        return function(x)


def right(a, b):
    return a + b


PLANTED = {"x 1.5": lambda a, b: 1.5 * (a + b), "sign": lambda a, b: -a - b, "a term": lambda a, _: a}
DECLARED = {"round": Rounds, "sign": Signs, "reversal": Reverses}
QUANTIZED = ("int8", "float8")
PLACES = ("before", "behind", "in the branch", "in the other branch", "between two")
ALL = [(q, place, planted) for q in (*DECLARED, *QUANTIZED) for place in PLACES for planted in PLANTED]
#: every quantizer, place and planted error at least once
FEW = {(q, PLACES[i], list(PLANTED)[i]) for i, q in enumerate(DECLARED)}
FEW |= {
    ("reversal", "before", "sign"),
    ("round", "in the other branch", "x 1.5"),
    ("int8", "before", "x 1.5"),
    ("float8", "behind", "sign"),
    ("int8", "between two", "a term"),
}


def network(quantizer: str, *, place: str, planted: Callable[[Any, Any], Any]) -> Any:
    """before → (quantized | plain) → sum → after; what is planted lies in one place."""
    keras.utils.set_random_seed(2)
    made = []

    def quantizing() -> Any:
        layer = DECLARED[quantizer]() if quantizer in DECLARED else keras.layers.Dense(3)
        made.append(layer)
        return layer

    def at(here: str, x: Any) -> Any:
        return Wrong(planted)(x) if here == place else x

    x = keras.Input((3,))
    h = at("before", keras.layers.Dense(3, name="before", bias_initializer="random_normal")(x))
    plain = at("in the other branch", keras.layers.Dense(3, name="plain")(h))
    branch = at("in the branch", keras.layers.Dense(3, name="branch")(h))
    q = quantizing()(branch)
    if place == "between two":
        q = quantizing()(at("between two", q))
    out = keras.layers.Dense(3, name="after")(at("behind", q) + plain)
    model = keras.Model(x, out, name="m")
    for layer in made if quantizer in QUANTIZED else ():
        layer.quantize(quantizer)
    model.compile(loss="mse")
    return model


def verdicts_of(model: Any, **options: Any) -> dict[str, str]:
    report = check_gradients(model, X, Y, oracles=("forward",), **options)
    return {v.name.removeprefix("m/"): str(v.verdict) for v in report.verdicts if v.oracle == "forward"}


#: place → variables whose gradient a planted error there spoils, of those with a surrogate gradient, and the others
SPOILED = {
    "before": {"before/kernel", "before/bias", "input"},
    "behind": {"before/kernel", "before/bias", "branch/kernel", "branch/bias", "input"},
    "in the branch": {"before/kernel", "before/bias", "branch/kernel", "branch/bias", "input"},
    "in the other branch": {"before/kernel", "before/bias", "plain/kernel", "plain/bias", "input"},
    "between two": {"before/kernel", "before/bias", "branch/kernel", "branch/bias", "input"},
}


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("quantizer", "place", "planted"), [pytest.param(*c, marks=() if c in FEW else pytest.mark.slow) for c in ALL]
)
def test_planted(quantizer, place, planted):
    found = verdicts_of(network(quantizer, place=place, planted=PLANTED[planted]))
    of_layers = {name for name in found if name.split("/")[0] not in ("before", "branch", "plain", "after", "input")}
    accused = {name for name, verdict in found.items() if verdict == "mismatch"}
    assert accused - of_layers == SPOILED[place], found


#: where the gradient of what lies before is the derivative after all: the staircase is that of a weight alone, or the
#: gradient is reversed twice
DERIVATIVES = (("sign", "before"), ("sign", "between two"), ("reversal", "between two"))


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("quantizer", "place"),
    [
        pytest.param(
            q, place, marks=() if (q, place) in (("round", "before"), ("float8", "between two")) else pytest.mark.slow
        )
        for q in (*DECLARED, *QUANTIZED)
        for place in ("before", "between two")
    ],
)
def test_right(quantizer, place):
    found = verdicts_of(network(quantizer, place=place, planted=right))
    assert set(found.values()) <= {"match", "surrogate"}, found
    upstream = "match" if (quantizer, place) in DERIVATIVES else "surrogate"
    assert {found[name] for name in ("before/kernel", "branch/kernel", "input")} == {upstream}
    assert {found[name] for name in ("plain/kernel", "after/kernel")} == {"match"}


@pytest.mark.slow
@pytest.mark.parametrize("planted", [right, PLANTED["x 1.5"]], ids=["right", "wrong"])
def test_along_directions(planted):
    found = verdicts_of(network("int8", place="before", planted=planted), effort="fast")
    assert found["before/kernel"] == ("surrogate" if planted is right else "mismatch"), found


@pytest.mark.sampled
def test_inside_a_loop():
    """What is called inside a loop cannot be held, and the report says so."""
    keras.utils.set_random_seed(2)

    class Looping(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Rounds()

        def call(self, x):
            return tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, self.inner(y)), (0, x))[1]

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), Looping()])
    model.compile(loss="mse")
    report = check_gradients(model, X, Y, oracles=("forward",))
    assert {str(v.verdict) for v in report.verdicts} == {"surrogate"}
    assert any("could not be compared: it is called inside a loop or a branch" in note for note in report.notes)


@pytest.mark.sampled
def test_nothing_is_said_of_traces(caplog):
    """TensorFlow's advice against tracing again is not about what a check traces, however many checks there are."""
    for _ in range(6):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), Rounds()])
        check_gradients(model, X, oracles=("forward",), wrt=("weights",))
    assert not [record for record in caplog.records if "retracing" in record.getMessage()]


def test_advice_on_ones_own_traces_stays(caplog):
    """Outside of a check a user is told what TensorFlow has to say."""
    for k in range(8):
        tf.function(lambda x, k=k: x + k)(tf.constant(1.0))
    assert [record for record in caplog.records if "retracing" in record.getMessage()]
