"""Models in which nothing that is trained has a gradient, and others that only look like it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from situations import Situations

from keras_ref import check_function, check_gradients, check_layer, check_updates

X = np.sin(1.0 + np.arange(12.0)).reshape(4, 3)
Y = np.eye(4, 2)
STOPPED = "cuts a path to the loss"
NOTHING = "no other trained variable has a gradient either, which Keras's optimizer refuses"
TABLE = Situations()
#: the loss moves, and nothing that is trained has a gradient: that is a mismatch
cut = TABLE.add(fails="mismatch", says=(STOPPED,))
nothing = TABLE.add(fails="disconnected", says=(NOTHING,), never=("look at the optimizer", "look at the backward pass"))


def dense(units=2, activation="tanh", **options):
    return keras.layers.Dense(units, activation, **options)


def compiled(model, loss="mse", **options):
    model.compile("sgd", loss, **options)
    return model


def sequential(*layers, loss="mse"):
    keras.utils.set_random_seed(0)
    return compiled(keras.Sequential([keras.Input((3,)), *layers]), loss)


@nothing
def _accuracy_as_a_loss():
    return check_gradients(sequential(dense(), loss=keras.metrics.categorical_accuracy), X, Y)


@nothing
def _an_f1_of_thresholded_probabilities():
    def f1(y, p):
        hard = tf.cast(p > 0.5, p.dtype)
        return 1 - (2 * tf.reduce_sum(y * hard) + 1) / (tf.reduce_sum(y + hard) + 1)

    return check_gradients(sequential(dense(2, "sigmoid"), loss=f1), X, Y)


@nothing
def _outputs_rounded_by_the_last_layer():
    return check_gradients(sequential(dense(4), keras.layers.Lambda(lambda z: 2 * keras.ops.round(z))), X, X[:, :1])


@nothing
def _a_step_as_an_activation():
    return check_layer(dense(2, lambda z: tf.cast(z > 0, z.dtype)), X)


@cut
def _predictions_stopped_in_a_subclassed_model():
    class Teacher(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = dense()

        def call(self, x):
            return keras.ops.stop_gradient(self.inner(x))

    keras.utils.set_random_seed(0)
    model = Teacher()
    model(X)
    return check_gradients(compiled(model), X, Y)


@nothing
def _a_histogram_of_the_outputs():
    def histogram(y, p):
        counts = tf.histogram_fixed_width(tf.cast(p, tf.float32), [-1.0, 1.0], nbins=4)
        return tf.reduce_mean(tf.cast(counts, p.dtype)) + 0 * tf.reduce_sum(y)

    return check_gradients(sequential(dense(), loss=histogram), X, Y)


@TABLE.add(fails="mismatch", says=("autodiff gives None where the loss moves: not differentiable: PyFunc",))
def _a_loss_through_numpy():
    def loss(y, p):
        return tf.ensure_shape(tf.numpy_function(lambda a, b: np.mean((a - b) ** 2), [y, p], p.dtype), ())

    return check_gradients(sequential(dense(), loss=loss), X, Y)


@TABLE.add(fails="mismatch", says=(STOPPED,), slow=True)
def _a_frozen_base_and_a_head_beside_the_way():
    inputs = keras.Input((3,))
    base = keras.Sequential([keras.Input((3,)), dense(2)])
    base.trainable = False
    head = dense(2)
    aside = head(base(inputs))
    return check_gradients(compiled(keras.Model(inputs, base(inputs) + keras.ops.stop_gradient(aside))), X, Y)


@nothing
def _a_layer_alone_whose_weights_are_rounded():
    class Rounding(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 2), initializer="glorot_uniform", name="kernel")

        def call(self, x):
            return x @ keras.ops.round(4 * self.kernel)

    return check_layer(Rounding(), X)


@nothing
def _a_function_whose_variables_are_all_counted():
    weight = tf.Variable([0.5, 1.5], dtype="float64", name="w")
    return check_function(lambda x: x * tf.cast(tf.math.count_nonzero(weight > 1.0), x.dtype), X, variables=[weight])


@nothing
def _a_model_of_Keras_2():
    model = tf_keras.Sequential(
        [tf_keras.layers.Input((3,)), tf_keras.layers.Dense(2), tf_keras.layers.Lambda(tf.round)]
    )
    model.compile("sgd", "mse")
    return check_gradients(model, X, Y)


@TABLE.add(
    ok=None,
    says=(
        (
            "A training step needs the gradient of at least one trained variable: Keras's optimizer refuses it "
            "otherwise (No gradients provided for any variable). Received: none for "
        ),
        "/kernel, ",
        "/bias. check_gradients says what stops each of them.",
    ),
)
def _updates_of_a_model_that_rounds():
    return check_updates(sequential(dense(), keras.layers.Lambda(keras.ops.round)), X, Y)


@TABLE.add(ok=None, says=("No gradients provided for any variable",))
def _a_train_step_that_leaves_its_tape_too_late():
    class Late(keras.Sequential):
        def train_step(self, data):
            x, y = data
            predicted = self(x, training=True)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((tf.stop_gradient(predicted) - y) ** 2)
            self.optimizer.apply_gradients(
                zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
            )
            return {"loss": loss}

    model = Late([keras.Input((3,)), dense()])
    return check_updates(compiled(model, None), X, Y)


# What only looks like it -------------------------------------------------------------------------------------------


@TABLE.add(says=("every compared slope is zero",))
def _dead_units():
    """A gradient of zeros is no gradient that is missing."""
    model = sequential(keras.layers.Dense(2, "relu", bias_initializer=keras.initializers.Constant(-50.0)))
    return check_gradients(model, X, Y)


@TABLE.add(never=(NOTHING,))
def _a_codebook_without_straight_through():
    """The codebook learns; the encoder in front of the argmax does not, which is said."""

    class Quantizer(keras.layers.Layer):
        def build(self, shape):
            self.codes = self.add_weight(shape=(5, shape[-1]), initializer="glorot_uniform", name="codes")

        def call(self, z):
            codes = tf.convert_to_tensor(self.codes)
            distances = tf.reduce_sum((z[:, None] - codes) ** 2, -1)
            return tf.gather(codes, tf.argmin(distances, -1))

    return check_gradients(sequential(dense(2), Quantizer()), X, Y, wrt=("weights",))


@TABLE.add(never=(NOTHING,))
def _a_model_without_trainable_weights():
    model = sequential(dense(2))
    model.trainable = False
    return check_gradients(model, X, Y)


@TABLE.add(says=("not differentiable: Round",), never=(NOTHING,))
def _a_penalty_alone_trains():
    """The outputs are rounded, and a regularizer still has a gradient."""
    rounded = keras.layers.Lambda(lambda z: keras.ops.round(4 * z))
    return check_gradients(sequential(dense(kernel_regularizer="l2"), rounded), X, Y, wrt=("weights",))


@TABLE.add(ok=None, says=("A model must have trainable weights to be checked",))
def _updates_of_a_model_without_trainable_weights():
    model = sequential(dense(2))
    model.trainable = False
    return check_updates(model, X, Y)


@TABLE.add(says=("not differentiable: Round",))
def _a_function_of_data_alone():
    """Where nothing is trained, the derivative of a step is 0 beside its jumps, and None says so."""
    return check_function(lambda x: tf.reduce_mean(tf.round(x) ** 2), X)


@pytest.mark.sampled
@pytest.mark.parametrize("name", TABLE.parameters())
def test_situation(name):
    TABLE.rows[name].judge()
