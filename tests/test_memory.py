"""Running out of memory: evaluations in smaller blocks first, then one sentence."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_gradients
from keras_ref.evaluation.loss_function import LossFunction

X, Y = np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8


def model():
    keras.utils.set_random_seed(1)
    m = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="dense")], name="mine")
    m.compile(optimizer="sgd", loss="mse")
    return m


def exhausted_above(entries, monkeypatch):
    """A probe whose evaluations run out of memory when a block has more than so many entries."""
    stack = LossFunction._stack

    def small(self):
        evaluate = stack(self)

        def losses(steps, *rest):
            if len(steps) > entries:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return evaluate(steps, *rest)

        return losses

    monkeypatch.setattr(LossFunction, "_stack", small)


def test_out_of_memory_is_met_with_smaller_blocks(monkeypatch):
    before = check_gradients(model(), X, Y, oracles=("forward",))
    exhausted_above(2, monkeypatch)
    assert check_gradients(model(), X, Y, oracles=("forward",)).verdicts == before.verdicts


def test_out_of_memory_is_said(monkeypatch):
    exhausted_above(0, monkeypatch)
    with pytest.raises(ValueError) as caught:
        check_gradients(model(), X, Y)
    assert str(caught.value) == (
        "A forward pass must fit into memory. Received: TensorFlow ran out of it at one evaluation, the smallest "
        "block. "
        "Pass a smaller batch, or a machine with more memory."
    )
