"""Errors in backward passes wherever people write them: one sentence that names the function and the line."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from situations import Situations

from keras_ref import check_function, check_gradients, check_layer, check_updates

X = np.sin(1.0 + np.arange(12.0)).reshape(4, 3)
Y = np.cos(np.arange(8.0)).reshape(4, 2)
HERE = "of test_backward_errors_everywhere.py"
RULE = "A backward pass must run, with one gradient of the shape and dtype of each input. Received: "
TABLE = Situations()


def refused(*says):
    """One sentence that names a line of this file."""
    return TABLE.add(ok=None, says=(RULE, HERE, "Correct the backward pass there", *says), never=("keras_ref",))


@tf.custom_gradient
def unwritten(x):
    """x, with a backward pass that is not written yet."""

    def backward(upstream):
        raise NotImplementedError("comes later")

    return tf.identity(x), backward


MISSING = "NotImplementedError: comes later."


def sequential(*layers, loss="mse"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("sgd", loss)
    return model


@refused(MISSING, "unwritten.backward")
def _in_a_compiled_loss():
    return check_gradients(
        sequential(keras.layers.Dense(2), loss=lambda y, p: tf.reduce_mean((unwritten(p) - y) ** 2)), X, Y
    )


@refused(MISSING)
def _in_an_activation():
    return check_gradients(sequential(keras.layers.Dense(2, unwritten)), X, Y)


@refused(MISSING)
def _in_a_regularizer():
    return check_gradients(
        sequential(
            keras.layers.Dense(2, kernel_regularizer=lambda w: tf.reduce_sum(unwritten(tf.convert_to_tensor(w)) ** 2))
        ),
        X,
        Y,
    )


class Cell(keras.layers.SimpleRNNCell):
    def call(self, x, states, training=False):
        return super().call(unwritten(x), states, training)


@refused(MISSING)
def _in_the_cell_of_a_recurrence():
    return check_layer(keras.layers.RNN(Cell(2)), X[None])


@refused(MISSING)
def _in_an_unrolled_recurrence():
    return check_layer(keras.layers.RNN(Cell(2), unroll=True), X[None])


@refused(MISSING)
def _in_a_map_of_rows():
    return check_function(lambda x: tf.map_fn(unwritten, x), X)


@refused(MISSING)
def _in_a_branch():
    return check_function(lambda x: tf.cond(tf.reduce_sum(x) < 100, lambda: unwritten(x), lambda: x), X)


@refused("comes later", "unwritten.backward")
def _in_a_traced_method():
    class Traced(keras.layers.Layer):
        @tf.function
        def call(self, x):
            return unwritten(x) * 2.0

    return check_layer(Traced(), X)


@refused(MISSING)
def _in_a_model_of_Keras_2():
    model = tf_keras.Sequential([tf_keras.layers.Input((3,)), tf_keras.layers.Dense(2, unwritten)])
    model.compile("sgd", "mse")
    return check_gradients(model, X, Y)


@refused(MISSING)
def _in_a_recomputed_part():
    return check_function(tf.recompute_grad(lambda z: unwritten(z) ** 2), X)


@refused(MISSING)
def _in_a_train_step_of_ones_own():
    class Own(keras.Sequential):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((unwritten(self(x, training=True)) - y) ** 2)
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    keras.utils.set_random_seed(0)
    model = Own([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd")
    return check_updates(model, X, Y)


@refused("ZeroDivisionError")
def _a_division_of_numbers_of_Python():
    @tf.custom_gradient
    def halved(x):
        return x / 2, lambda upstream: upstream * (1 / (len(x.shape) - 2))

    return check_function(halved, X)


@refused("RecursionError")
def _a_backward_pass_that_calls_itself():
    @tf.custom_gradient
    def looping(x):
        def backward(upstream):
            return backward(upstream)

        return tf.identity(x), backward

    return check_function(looping, X)


@refused("InvalidArgumentError")
def _an_assertion_that_fails_backward():
    @tf.custom_gradient
    def watched(x):
        def backward(upstream):
            tf.debugging.assert_less(upstream, tf.constant(-100.0, upstream.dtype), "too large")
            return upstream

        return tf.identity(x), backward

    return check_function(watched, X)


class Unaware(keras.layers.Layer):
    """A custom gradient around a weight, that does not take `variables`."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2), initializer="glorot_uniform", name="kernel")

    def call(self, x):
        kernel = self.kernel.value

        @tf.custom_gradient
        def product(z):
            return z @ kernel, lambda upstream: upstream @ tf.transpose(kernel)

        return product(x)


@TABLE.add(ok=None, says=("variables",), never=("Traceback",))
def _variables_that_a_custom_gradient_does_not_take():
    return check_layer(Unaware(), X)


@refused("gradient")
def _too_few_gradients_of_two():
    @tf.custom_gradient
    def product(a, b):
        return a * b, lambda upstream: [upstream * b]

    return check_function(product, X, X + 1)


@TABLE.add(fails="mismatch")
def _integers():
    @tf.custom_gradient
    def rounded(x):
        return x * 2, lambda upstream: tf.cast(upstream, "int32")

    return check_function(rounded, X)


@tf.RegisterGradient("UnwrittenOfGradtwinsTests")
def _unwritten(operation, upstream):
    raise NotImplementedError("comes later")


@refused(MISSING)
def _a_registered_gradient():
    @tf.function(autograph=False)
    def function(x):
        overridden = {"Identity": "UnwrittenOfGradtwinsTests"}
        with tf.compat.v1.get_default_graph().gradient_override_map(overridden):
            return tf.identity(x) * 2

    return check_function(function, X)


NONE = "Autodiff must have a gradient for every operation. Received: "


@TABLE.add(ok=None, says=(NONE,), never=("keras_ref",))
def _an_operation_without_gradient_in_a_layer():
    class Counting(keras.layers.Layer):
        def call(self, x):
            return tf.raw_ops.DenseBincount(input=tf.range(4), size=4, weights=tf.reduce_sum(x, 1))

    return check_layer(Counting(), X)


@TABLE.add(ok=None, says=(NONE,), never=("keras_ref", "look at the optimizer"))
def _steps_through_an_operation_without_gradient():
    def loss(y, p):
        return tf.raw_ops.DenseBincount(input=tf.zeros(4, "int32"), size=1, weights=tf.reduce_sum((y - p) ** 2, 1))[0]

    return check_updates(sequential(keras.layers.Dense(2), loss=loss), X, Y)


# What only looks like an error -------------------------------------------------------------------------------------


@TABLE.add()
def _an_array_of_NumPy_as_a_gradient():
    @tf.custom_gradient
    def doubled(x):
        return x * 2, lambda upstream: upstream * np.full(x.shape, 2.0)

    return check_function(doubled, X)


@TABLE.add()
def _a_list_of_one_gradient():
    @tf.custom_gradient
    def doubled(x):
        return x * 2, lambda upstream: [upstream * 2]

    return check_function(doubled, X)


@TABLE.add(fails="nan")
def _an_assertion_that_TensorFlow_makes():
    """A matrix has a determinant, and not the inverse that TensorFlow's backward pass asks for."""
    return check_function(tf.linalg.det, np.diag([1.0, 0.0]))


@pytest.mark.sampled
@pytest.mark.parametrize("name", TABLE.parameters())
def test_situation(name):
    TABLE.rows[name].judge()
