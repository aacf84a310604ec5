"""A number of a layer's own, compared with variables, tensors and numbers: in a check it comes out as without one."""

import operator
from fractions import Fraction
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_gradients, check_layer
from keras_ref.evaluation.changed_state.python_numbers import DoubleFloat

#: how code of a user compares a number of its own with a variable of Keras, or looks it up → what comes out
COMPARED = {
    "number == variable": lambda number, variable: number == variable,
    "variable == number": lambda number, variable: variable == number,
    "number != variable": lambda number, variable: number != variable,
    "variable != number": lambda number, variable: variable != number,
    "number <= variable": lambda number, variable: number <= variable,
    "number > variable": lambda number, variable: number > variable,
    "number == tensor": lambda number, variable: number == tf.convert_to_tensor(variable),
    "tensor == number": lambda number, variable: tf.convert_to_tensor(variable) == number,
    "tf.equal of both": lambda number, variable: tf.equal(number, tf.convert_to_tensor(variable)),
    "tf.equal, the variable first": lambda number, variable: tf.equal(variable, number),
    "tf.not_equal": lambda number, variable: tf.not_equal(variable, number),
    "keras.ops.equal": lambda number, variable: keras.ops.equal(variable, number),
    "keras.ops.equal, the number first": keras.ops.equal,
    "a key of a dictionary": lambda number, _: {0.5: True}.get(number, False),
    "a dictionary of itself": lambda number, _: {number: True}.get(0.5, False),
    "in a set": lambda number, _: number in {0.25, 0.5},
    "in a list": lambda number, _: number in [0.25, 0.5],
    "not in a tuple": lambda number, _: number not in (0.25, 0.75),
    "a number in a set of it": lambda number, _: 0.5 in {number, 3.0},
    "a place in a list": lambda number, _: [0.25, 0.5].index(number) == 1,
    "a whole number": lambda number, _: 2 * number == 1 and number * 2 in {1, 3},
    "another number": lambda number, _: number == 0.25,
    "nothing": lambda number, _: number in {None, "0.5"},
    "an array": lambda number, _: (np.array([0.5, 0.25]) == number)[0] and (number == np.array([0.25, 0.5]))[1],
    "numbers of NumPy": lambda number, _: number == np.float32(0.5) and np.float16(0.5) == number,
    "sorted": lambda number, _: sorted([0.75, number, 0.25]) == [0.25, 0.5, 0.75] and max(number, 0.25) is number,
}  # fmt: skip


#: numbers without a check and in one, and the type of variables there
KINDS = ((float, "float32"), (DoubleFloat, "float64"))


@pytest.mark.parametrize("traced", [False, True], ids=["eagerly", "traced"])
@pytest.mark.parametrize("name", COMPARED)
def test_a_number_of_a_check_is_compared_as_a_plain_one(name, traced):
    """The number that stands in the place of a plain one during a check, in which all is float64."""
    pairs = [(kind(0.5), keras.Variable([0.5, 0.25], dtype=dtype)) for kind, dtype in KINDS]

    def both():
        return [tf.convert_to_tensor(COMPARED[name](*pair)) for pair in pairs]

    plain, double = tf.function(both, autograph=False)() if traced else both()
    assert plain.dtype == double.dtype == tf.bool
    assert np.array_equal(plain, double)


#: operators, and what a number of a check may meet
OPERATORS = {
    name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "lt")
}
MET = {
    "a variable": lambda dtype: keras.Variable([0.5, 0.25], dtype=dtype),
    "a symbolic tensor": lambda dtype: keras.Input((2,), dtype=dtype),
    "a tensor": lambda dtype: tf.constant([0.5, 0.25], dtype),
    "an array": lambda dtype: np.array([0.5, 0.25], dtype),
    "a fraction": lambda dtype: Fraction(1, 2),
    "a whole number": lambda dtype: 2,
    "a float": lambda dtype: 0.25,
    "nothing": lambda dtype: None,
}


@pytest.mark.parametrize("met", MET)
@pytest.mark.parametrize("name", OPERATORS)
def test_what_an_operation_with_such_a_number_gives(name, met):
    """What a plain float gives: of the same kind and value, or a TypeError, whichever side the number is on."""
    for order in (1, -1):
        (plain, value), (double, other) = (
            outcome(OPERATORS[name], (kind(0.5), MET[met](dtype))[::order]) for kind, dtype in KINDS
        )
        assert plain == double
        assert np.allclose(value, other, rtol=np.finfo(np.float32).eps, atol=0)  # one of the two is in float32


def outcome(function, operands):
    """The kind of what a function gives, and its value where it has one."""
    try:
        result = function(*operands)
    except TypeError:
        return TypeError, 0.0
    if isinstance(result, keras.KerasTensor):
        return (keras.KerasTensor, result.shape), 0.0
    return [kind for kind in (tf.Tensor, np.ndarray) if isinstance(result, kind)], np.asarray(result)


class Comparing(keras.layers.Layer):
    """Multiplies by a number that has a bit for each of some comparisons with a number of its own."""

    def __init__(self, names):
        super().__init__(name="comparing")
        self.rate, self.names = 0.5, names

    def build(self, shape):
        self.one = self.add_weight(shape=(), initializer="ones", name="one")
        self.w = self.add_weight(shape=(2,), initializer=lambda *_, **__: [0.5, 0.25], trainable=False)

    def call(self, x):
        said = [tf.reduce_any(COMPARED[name](self.rate, self.w)) for name in self.names]
        bits = [tf.where(one, tf.cast(2**i, x.dtype), 0) for i, one in enumerate(said)]
        return x * self.one * tf.reduce_sum(bits)


@pytest.mark.parametrize("first", [0, 13])
def test_comparisons_in_a_check_come_out_as_without_one(first):
    """The slope of the loss, by all oracles, eagerly and as a function, is the number that Keras computes."""
    names = [*COMPARED][first : first + 13]
    model = keras.Sequential([keras.Input((1,)), Comparing(names)])
    expected = float(model(tf.ones((1, 1), "float32"))[0, 0])
    assert expected == sum(2**i for i, name in enumerate(names) if name not in ("another number", "nothing"))
    report = check_gradients(
        model, np.ones((1, 1)), np.ones((1, 1)), loss=lambda _, output: output, modes=("eager", "function")
    )
    assert report.ok
    assert {verdict.autodiff for verdict in report.verdicts} == {expected}
    assert model.layers[0].rate == 0.5
    assert type(model.layers[0].rate) is float


class Rates(NamedTuple):
    up: float
    down: float


class OfTuples(keras.layers.Layer):
    """A layer that reads its numbers by name, unpacks them, and joins them with others."""

    def __init__(self):
        super().__init__()
        self.rates, self.pair = Rates(0.1, 0.7), (0.3, 0.9)

    def call(self, x):
        a, b, c = operator.add(self.pair, (1.0,))
        return self.rates.up * x + self.rates._replace(up=0.0).down * x * x + a + b + c * x


def test_tuples_of_numbers_stay_tuples():
    """A layer with a named tuple was refused, and one that joins tuples was checked in float32."""
    report = check_layer(OfTuples(), np.array([[0.25, -1.5, 2.0]]))
    assert report.ok, report.explain()
    assert not [note for note in report.notes if note.startswith("float32 inside")]
    assert all(v.visible < 1e-9 for v in report.verdicts)
