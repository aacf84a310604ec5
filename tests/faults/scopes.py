"""Where a verb may be called: scope → what calls it there. In some it is right, in others refused in a sentence."""

import threading

import keras
import numpy as np
import tensorflow as tf
from subjects import X, Y, plain_model


def in_function(call, **options):
    @tf.function(autograph=False, **options)
    def inside():
        call()
        return 0.0

    inside()


def in_function_of_autograph(call):
    @tf.function
    def inside():
        call()
        return 0.0

    inside()


def in_compiled_function(call):
    in_function(call, jit_compile=True)


def in_graph(call):
    with tf.Graph().as_default():
        call()


def in_vectorized_map(call):
    tf.vectorized_map(lambda x: (call(), x)[1], tf.constant([1.0, 2.0]))


def in_stateless_scope(call):
    with keras.StatelessScope(initialize_variables=False):
        call()


def in_tape(call):
    variable = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        square = variable * variable
        call()
    assert tape.gradient(square, variable).numpy() == 6.0


def in_two_tapes(call):
    with tf.GradientTape(persistent=True):
        in_tape(call)


def in_forward_accumulator(call):
    x = tf.constant(3.0)
    with tf.autodiff.ForwardAccumulator(x, tf.constant(1.0)) as accumulator:
        square = x * x
        call()
    assert accumulator.jvp(square).numpy() == 6.0


def in_backward_pass(call):
    @tf.custom_gradient
    def identity(x):
        def gradient(upstream):
            call()
            return upstream

        return x, gradient

    x = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        y = identity(x)
    assert tape.gradient(y, x).numpy() == 1.0


def in_map(call):
    tf.map_fn(lambda x: (call(), x)[1], tf.constant([1.0]))


def in_eager_function(call):
    tf.config.run_functions_eagerly(run_eagerly=True)
    try:
        in_function_of_autograph(call)
    finally:
        tf.config.run_functions_eagerly(run_eagerly=False)


def in_python_function(call, wrapper=tf.py_function):
    """In a thread of TensorFlow's, of which there may be one alone: a check that needs another waits for ever."""
    raised = []

    def python():
        try:
            call()
        except Exception as error:  # noqa: BLE001 (raised below: TensorFlow would raise one of its own)
            raised.append(error)
        return np.float32(0)

    tf.function(lambda: wrapper(python, [], tf.float32), autograph=False)()
    for error in raised:
        raise error


def in_numpy_function(call):
    in_python_function(call, tf.numpy_function)


def in_eager_python_function(call):
    tf.py_function(lambda: (call(), 0.0)[1], [], tf.float32)


def in_data_set(call):
    raised = []

    def batches():
        try:
            call()
        except Exception as error:  # noqa: BLE001 (raised below: TensorFlow would raise one of its own)
            raised.append(error)
        yield 0.0

    list(tf.data.Dataset.from_generator(batches, output_signature=tf.TensorSpec((), tf.float32)))
    for error in raised:
        raise error


def in_scopes_of_names(call):
    with tf.name_scope("a"), keras.name_scope("b"), tf.device("/CPU:0"):
        call()


def under_a_policy(call):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        call()
    finally:
        keras.config.set_dtype_policy(before)


def under_errors_of_numpy(call):
    with np.errstate(all="raise"):
        call()


def in_thread(call):
    raised = []

    def run():
        try:
            call()
        except Exception as error:  # noqa: BLE001 (raised below)
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in raised:
        raise error


def in_callback(call):
    class Calling(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            call()

    plain_model().fit(X, Y, verbose=0, callbacks=[Calling()])


EAGERLY = "A check must run eagerly. Received: a call inside a tf.function or a graph. Call it outside of that."
VALUES = (
    "A check must run where variables have values of their own. Received: a call inside a keras.StatelessScope, which "
    "would keep what the check writes. Call it outside of that."
)
THREAD = (
    "A check must not run in a thread that TensorFlow needs to run it. Received: a call inside a tf.py_function or "
    "tf.numpy_function of a tf.function or data set. Call it outside of that."
)
#: scope → the sentence
REFUSING = {
    in_function: EAGERLY,
    in_function_of_autograph: EAGERLY,
    in_compiled_function: EAGERLY,
    in_graph: EAGERLY,
    in_vectorized_map: EAGERLY,
    in_stateless_scope: VALUES,
    in_python_function: THREAD,
    in_numpy_function: THREAD,
    in_data_set: THREAD,
}
RIGHT = (
    in_tape,
    in_two_tapes,
    in_forward_accumulator,
    in_backward_pass,
    in_map,
    in_eager_function,
    in_eager_python_function,
    in_scopes_of_names,
    under_a_policy,
    under_errors_of_numpy,
    in_thread,
    in_callback,
)
