"""A function that was converted to measure its rounding is known to be that function; where it is not, that is said.

That no conversion fails is asserted of every test (conftest.py), and so of every layer, loss and kind of model. What
makes an evaluation raise is told apart: rounding (a matrix that it makes singular), or the conversion itself.
"""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function
from keras_ref.evaluation.rounding_errors import rounded_graph
from keras_ref.evaluation.rounding_errors.rounded_nodes import BY_THEMSELVES
from keras_ref.evaluation.rounding_errors.rounding import ConversionFailed, Rounded
from scratch.noise import ROLLS

X = np.array([[0.5, -1.25, 0.75], [1.5, 0.25, -0.5]])


def traced(function: Any, *arguments: Any) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(*arguments)


def misdirect(monkeypatch: Any, change: Any) -> None:
    """Let every conversion return functions that `change` has been at."""
    converted = rounded_graph.convert

    def convert(*arguments: Any, **keywords: Any) -> Any:
        name, library = converted(*arguments, **keywords)
        change(library[name])
        return name, library

    monkeypatch.setattr("keras_ref.evaluation.rounding_errors.rounding.convert", convert)


def lose_an_input(definition: Any) -> None:
    """A copy takes a tensor that there is not: TensorFlow refuses the graph."""
    node = next(n for n in definition.node_def if n.name.endswith(rounded_graph.COPY))
    node.input[0] = "nowhere:output:0"


def swap_an_operation(definition: Any) -> None:
    """A copy computes something else."""
    node = next(n for n in definition.node_def if n.name.endswith(rounded_graph.COPY) and n.op == "Tanh")
    node.op = "Exp"


@pytest.mark.wrong_conversion
@pytest.mark.parametrize("change", [lose_an_input, swap_an_operation])
def test_a_wrong_conversion(change, monkeypatch):
    function, x = traced(lambda x: tf.reduce_sum(tf.tanh(x)), tf.constant(X)), tf.constant(X)
    assert 0 < Rounded(function).noise([x], calls=ROLLS) < 1e-13
    misdirect(monkeypatch, change)
    with pytest.raises(ConversionFailed):
        Rounded(function).noise([x], calls=ROLLS)
    report = check_function(tf.tanh, X)
    assert any("could not be measured operation by operation" in note for note in report.notes), report.notes


def test_a_matrix_that_rounding_makes_singular():
    """That is no fault of the conversion: those evaluations say nothing, and the others do."""
    matrix = tf.constant([[1.0, 1.0], [1.0, 1.0 + 2.0**-51]], tf.float64)
    rounded = Rounded(traced(lambda a: tf.reduce_sum(tf.linalg.inv(1.5 * a)), matrix))
    raised = 0
    for _ in range(ROLLS):
        try:
            rounded.roll([matrix], how=BY_THEMSELVES)
        except tf.errors.InvalidArgumentError:
            raised += 1
    assert raised
    found = rounded.noise([matrix], calls=ROLLS)
    assert np.isnan(found) or found > 2.0**-27
