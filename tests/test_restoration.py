"""evaluation/changed_state/restoration.py: every change is undone, the last one first, whatever ends the block."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref.evaluation.changed_state.restoration import Restoration, restore_attributes, restore_variables


class Owner:
    def __init__(self):
        self.number, self.items, self.table = 1, [1, 2], {"a": 1}


class Interrupted(BaseException):
    pass


def change_and_interrupt(owner):
    with Restoration() as restoration:
        restoration.set_attribute(owner, "number", 2)
        restoration.set_attribute(owner, "made", 3)
        restoration.keep_attributes(owner)
        owner.items.append(3)
        owner.table["b"] = 2
        owner.items, owner.table, owner.number, owner.other = [], {}, 4, 5
        restoration.set_attribute(owner, "number", 6)
        raise Interrupted


def test_attributes_and_contents_come_back():
    owner = Owner()
    items, table = owner.items, owner.table
    with pytest.raises(Interrupted):
        change_and_interrupt(owner)
    assert vars(owner) == {"number": 1, "items": [1, 2], "table": {"a": 1}}
    assert owner.items is items
    assert owner.table is table


def test_a_replaced_variable_is_itself_again():
    variable = tf.Variable([1.0, 2.0])
    with Restoration() as restoration:
        restoration.replace_variable(variable, tf.Variable(np.array([3.0, 4.0])))
        assert variable.dtype == tf.float64
        variable.assign([5.0, 6.0])
    assert variable.dtype == tf.float32
    np.testing.assert_array_equal(variable.numpy(), [1.0, 2.0])


def assign_and_interrupt(variables):
    with restore_variables([*variables, "no variable"]):
        for variable in variables:
            variable.assign([3.0])
        raise Interrupted


def test_values_of_variables_come_back():
    variables = [keras.Variable([1.0]), tf.Variable([2.0])]
    with pytest.raises(Interrupted):
        assign_and_interrupt(variables)
    assert [float(np.asarray(v)[0]) for v in variables] == [1.0, 2.0]


def test_attributes_of_inner_layers_come_back():
    inner = keras.layers.Dense(1)
    layer = keras.layers.TimeDistributed(inner)
    with restore_attributes(layer):
        inner.units, inner.added = 2, True
    assert inner.units == 1
    assert not hasattr(inner, "added")
