"""check_updates of models of Keras 2 (tf_keras): the optimizers whose law Keras 3 has too, right and with errors."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_updates
from keras_ref.errors import BadInput
from keras_ref.translation.from_keras_2 import SAME_LAW, as_keras_3

tf_keras = pytest.importorskip("tf_keras")

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 2))
OPTIONS = {"SGD": {"momentum": 0.9, "nesterov": True}, "Adam": {"amsgrad": True}, "RMSprop": {"centered": True}}


def model_of(optimizer, error=0.0):
    @tf.custom_gradient
    def tanh(x):
        return tf.tanh(x), lambda upstream: upstream * (1 - tf.tanh(x) ** 2) * (1 + error)

    tf_keras.utils.set_random_seed(3)
    layers = tf_keras.layers
    model = tf_keras.Sequential([tf_keras.Input((3,)), layers.Dense(3, tanh, name="inside"), layers.Dense(2)])
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize("name", sorted(SAME_LAW))
def test_right(name):
    """Two steps are compared; model and optimizer are afterwards what they were, and train."""
    optimizer = getattr(tf_keras.optimizers, name)(learning_rate=0.0625, **OPTIONS.get(name, {}))
    model = model_of(optimizer)
    before = [v.numpy().tobytes() for v in model.variables]
    report = check_updates(model, X, Y, steps=2)
    assert report.ok and {v.verdict for v in report.verdicts} == {"match"}, report.explain()
    assert report.subject == f"{model.name}, 2 steps of {name}"
    assert [v.numpy().tobytes() for v in model.variables] == before
    assert int(optimizer.iterations) == 0 and tf_keras.backend.floatx() == "float32"
    model.fit(X, Y, verbose=0)
    assert int(optimizer.iterations) == 1


def test_a_wrong_backward_pass():
    report = check_updates(model_of("adam", 1e-4), X, Y, steps=1)
    assert {v.name for v in report.failures} == {"inside/kernel", "inside/bias"}
    assert {(v.verdict, v.reason_code) for v in report.failures} == {("mismatch", "own-step-gradient")}


def test_a_wrong_optimizer():
    optimizer = tf_keras.optimizers.SGD(0.125)
    step = optimizer.update_step
    optimizer.update_step = lambda gradient, variable: step(gradient * (1 + 1e-6), variable)
    report = check_updates(model_of(optimizer), X, Y, steps=1)
    assert {(v.verdict, v.reason_code) for v in report.verdicts} == {("mismatch", "law-differs")}, report


def only_reason(model):
    report = check_updates(model, X, Y, steps=1)
    assert {(v.verdict, v.reason_code) for v in report.verdicts} == {("undecided", "no-twin")}, report
    return report.verdicts[0].reason


def test_optimizers_without_a_twin():
    """What has no law that is known to be the same is said, and is left as it was."""
    model = model_of("adam")
    model.fit(X, Y, verbose=0)
    assert only_reason(model) == (
        "An optimizer of Keras 2 must not have taken a step to have a twin. Received: one that has."
    )
    model.fit(X, Y, verbose=0)
    assert int(model.optimizer.iterations) == 2
    assert only_reason(model_of("nadam")) == (
        "An optimizer of Keras 2 must have the law of Keras 3's to have a twin. Received: Nadam."
    )
    assert only_reason(model_of(tf_keras.optimizers.Adam(weight_decay=0.1))) == (
        "An optimizer of Keras 2 must have the arguments of Keras 3's, and no weight decay, to have a twin. Received: "
        "Adam with weight_decay."
    )
    schedule = tf_keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    assert only_reason(model_of(tf_keras.optimizers.SGD(schedule))).startswith(
        "An optimizer of Keras 2 must have a constant rate to have a twin. Received: SGD with "
    )


@pytest.mark.parametrize("name", sorted(SAME_LAW))
def test_a_configuration_is_carried_over(name):
    optimizer = getattr(tf_keras.optimizers, name)(learning_rate=0.25, **OPTIONS.get(name, {}))
    made = as_keras_3(optimizer).get_config()
    for key, value in optimizer.get_config().items():
        if key in made and key not in ("name", "learning_rate"):
            assert made[key] == value, key
    assert float(made["learning_rate"]) == 0.25


def test_not_compiled():
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2)])
    with pytest.raises(BadInput, match="A model must have an optimizer for its updates to be checked"):
        check_updates(model, X, Y)
