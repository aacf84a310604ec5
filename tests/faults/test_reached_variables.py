"""Variables that no attribute of a layer leads to, and those of other threads: what a check may not change either."""

import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from scaling import ONE, VERBS, Scaling, model_of
from tensorflow.python.eager import record

from keras_ref import check_function, check_gradients, check_layer
from keras_ref.errors import BadInput


def in_closure():
    variable = tf.Variable(1.0)
    return lambda: variable.assign_add(1.0), variable


def in_closure_of_keras():
    variable = keras.Variable(1.0, trainable=False)
    return lambda: variable.assign(variable + 1.0), variable


def in_module():
    module = tf.Module()
    module.variable = tf.Variable([1.0, 2.0])
    return lambda: module.variable[0].assign(module.variable[0] * 2), module.variable


def in_generator():
    generator = tf.random.Generator.from_seed(3)
    return lambda: generator.uniform(()), generator.state


def in_generator_of_keras():
    seeds = keras.random.SeedGenerator(3)
    return lambda: keras.random.uniform((), seed=seeds), seeds.state


def by_raw_operation():
    variable = tf.Variable(1.0)
    return lambda: tf.raw_ops.AssignAddVariableOp(resource=variable.handle, value=2.0), variable


def in_python_that_a_graph_calls():
    variable = tf.Variable(1.0)

    def python(x):
        variable.assign_add(1.0)
        return x

    return lambda: tf.py_function(python, [1.0], "float32"), variable


def of_another_shape():
    variable = tf.Variable([1.0], shape=(None,))
    return lambda: variable.assign(tf.concat([variable, [1.0]], 0)), variable


#: makes a function that writes a variable, and the variable
REACHED = (
    in_closure, in_closure_of_keras, in_module, in_generator, in_generator_of_keras, by_raw_operation,
    in_python_that_a_graph_calls, of_another_shape,
)  # fmt: skip


def require_kept(make, verb):
    write, variable = make()
    layer = Scaling(write)
    model = model_of(layer)
    before = variable.numpy()
    model(ONE)
    assert not np.array_equal(before, variable.numpy())
    before, handle = variable.numpy(), id(getattr(variable, "handle", None))
    VERBS[verb](layer, model)
    assert np.array_equal(before, variable.numpy())
    assert handle == id(getattr(variable, "handle", None))


@pytest.mark.sampled
@pytest.mark.parametrize("make", REACHED, ids=lambda make: make.__name__)
def test_a_variable_that_no_attribute_leads_to(make):
    for verb in VERBS:
        require_kept(make, verb)


@pytest.mark.parametrize("verb", VERBS)
def test_a_variable_in_a_closure(verb):
    require_kept(in_closure, verb)


def test_a_variable_that_is_written_eagerly_alone():
    tf.config.run_functions_eagerly(run_eagerly=True)
    try:
        require_kept(in_closure, "gradients")
    finally:
        tf.config.run_functions_eagerly(run_eagerly=False)


@pytest.mark.parametrize("eagerly", [True, False])
def test_another_thread_that_trains_another_model_goes_on(eagerly):
    """What it has written is not put back, and its functions are not traced anew."""
    counter, taken, done = tf.Variable(0), [], threading.Event()

    def count():
        traces.append(1)
        counter.assign_add(1)

    traces = []
    step = count if eagerly else tf.function(count)

    def train():
        while not done.is_set():
            step()
            taken.append(1)
            time.sleep(0.001)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    thread = threading.Thread(target=train)
    thread.start()
    try:
        while len(taken) < 3:
            time.sleep(0.001)
        before = len(taken)
        report = check_gradients(model, ONE, np.ones((1, 2)))
        assert len(taken) > before + 3  # or nothing was tried
    finally:
        done.set()
        thread.join()
    assert report.ok
    assert counter.numpy() == len(taken)
    assert eagerly or len(traces) == 1


def in_init_scope(call):
    with tf.init_scope():
        return call()


def in_stopped_recording(call):
    with record.stop_recording():
        return call()


@pytest.mark.parametrize("scope", [in_init_scope, in_stopped_recording], ids=lambda scope: scope.__name__)
def test_where_tapes_do_not_record(scope):
    """There all tapes of the thread are stopped, those too that are made inside: every gradient was 0."""
    layer = Scaling(lambda: None)
    layer(ONE)
    variable = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        square = variable * variable

        def inside():
            report = check_layer(layer, ONE)
            return report, variable * 5.0  # the tape is stopped again

        report, lost = scope(inside)
    assert report.ok
    assert {verdict.verdict.value for verdict in report.verdicts} == {"match"}
    assert tape.gradient([square, lost], variable).numpy() == 6.0


def test_in_a_trace_that_is_lifted_out():
    """There no variables can be made: one sentence."""

    @tf.function(autograph=False)
    def traced():
        with tf.init_scope():
            check_function(tf.sin, ONE)
        return 0.0

    with pytest.raises(
        BadInput, match=r"^A check must run eagerly\. Received: a call inside a tf\.function or a graph"
    ):
        traced()
