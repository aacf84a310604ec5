"""Training steps of models that run only in float32: compared there, by what rounding does to the law in float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref.checks.gradients import check_gradients
from keras_ref.checks.updates import check_updates
from keras_ref.errors import BadInput
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason

DRAW = np.random.default_rng(0).normal
X, Y = DRAW(size=(8, 3)), DRAW(size=(8, 2))
OPTIMIZERS = (
    "SGD RMSprop Adam AdamW Adadelta Adagrad Adamax Adafactor Nadam Ftrl Lion Lamb Muon LossScaleOptimizer".split()  # noqa: SIM905
)
#: what an optimizer is made with; every other one with its defaults
OPTIONS = {"SGD": {"momentum": 0.9, "nesterov": True}, "RMSprop": {"centered": True}, "Adam": {"amsgrad": True}}


class InFloat32(keras.layers.Layer):
    """A layer that refuses float64."""

    def call(self, x):
        return x * tf.ones((5,), tf.float32)


def network(seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(5, "tanh"), InFloat32(), keras.layers.Dense(2, kernel_regularizer="l2")]
    return keras.Sequential([keras.Input((3,)), *layers])


def optimizer_of(name):
    if name == "LossScaleOptimizer":
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))
    return getattr(keras.optimizers, name)(0.01, **OPTIONS.get(name, {}))


def compiled(optimizer, seed=0):
    model = network(seed)
    model.compile(optimizer=optimizer, loss="mse")
    return model


def with_wrong_rate(optimizer, factor):
    """The optimizer, its rate another one wherever it takes a step."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    own = inner.update_step
    inner.update_step = lambda gradient, variable, rate: own(gradient, variable, rate * factor)
    return optimizer


def values_of(model):
    return [(v.dtype, v.numpy().tobytes()) for v in (*model.variables, *model.optimizer.variables)]


@pytest.mark.sampled
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_right_steps(name):
    model = compiled(optimizer_of(name))
    before = values_of(model)
    report = check_updates(model, X, Y)
    assert report.ok, report.explain()
    assert any("does not run in float64" in note for note in report.notes)
    assert values_of(model)[: len(before)] == before
    assert all(verdict.visible >= verdict.allowed for verdict in report.verdicts), "no less is said to be seen"


@pytest.mark.sampled
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_wrong_law(name):
    report = check_updates(compiled(with_wrong_rate(optimizer_of(name), 1.02)), X, Y)
    wrong = [verdict for verdict in report.verdicts if verdict.verdict is Kind.MISMATCH]
    assert wrong, report.explain()
    assert {verdict.reason_code for verdict in wrong} == {Reason.LAW_DIFFERS}


@pytest.mark.sampled
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saturated_network(name):
    """Most gradients are 0, or so small that noise hides them; some laws divide by their size."""
    report = check_updates(compiled(optimizer_of(name), 4), 100 * X, Y, steps=1)
    assert report.ok, report.explain()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_many_steps_of_many_networks(name, seed):
    rate = keras.optimizers.schedules.ExponentialDecay(0.003 * 3**seed, 5, 0.9)
    inner = keras.optimizers.Adam(rate, global_clipnorm=0.1)
    optimizer = (
        keras.optimizers.LossScaleOptimizer(inner)
        if name == "LossScaleOptimizer"
        else getattr(keras.optimizers, name)(rate, clipnorm=0.1, use_ema=True, **OPTIONS.get(name, {}))
    )
    report = check_updates(compiled(optimizer, seed), X * 10.0 ** (seed - 2), Y, steps=8)
    assert report.ok, report.explain()


class Bent(keras.layers.Layer):
    """A layer that refuses float64 and whose backward pass is off by a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        @tf.custom_gradient
        def scaled(x):
            return x * tf.ones((3,), tf.float32), lambda upstream: self.factor * upstream

        return scaled(x)


def convolutions(factor, seed, optimizer):
    """Kinks everywhere, which the long steps of a loss in float32 pass over."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Conv2D(3, 3, activation="relu"), Bent(factor), keras.layers.BatchNormalization()]
    layers += [keras.layers.MaxPooling2D(), keras.layers.Flatten(), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers, keras.layers.Dense(4, "softmax")])
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    generator = np.random.default_rng(seed)
    return model, generator.normal(size=(8, 6, 6, 2)), generator.integers(0, 4, 8)


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(4))
def test_kinks_that_noise_hides(seed):
    model, x, y = convolutions(1.0, seed, "adam")
    assert not [v for v in check_gradients(model, x, y, training=True).verdicts if v.verdict is Kind.MISMATCH]
    report = check_updates(model, x, y, steps=2)
    assert report.ok, report.explain()


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(2))
def test_a_wrong_gradient_beside_kinks(seed):
    model, x, y = convolutions(1.1, seed, "sgd")
    report = check_updates(model, x, y, steps=1)
    wrong = [v for v in report.verdicts if v.verdict is Kind.MISMATCH]
    assert wrong and all("conv2d" in v.name for v in wrong), report.explain()
    assert {v.reason_code for v in wrong} == {Reason.GRADIENT_DIFFERS}


class Stepping(keras.Model):
    """A train_step that hands `factor` times the gradients to the optimizer, or moves the weights itself."""

    def __init__(self, *, factor=1.0, clip=None, rate=None):
        super().__init__()
        self.net, self.factor, self.clip, self.rate = network(), factor, clip, rate

    def call(self, x):
        return self.net(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.net(x) - y) ** 2) + tf.reduce_mean(tf.ones((4,)))
        gradients = [self.factor * g for g in tape.gradient(loss, self.trainable_variables)]
        if self.clip:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip)
        if self.rate:
            for variable, gradient in zip(self.trainable_variables, gradients, strict=True):
                variable.assign_sub(self.rate * gradient)
        else:
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


@pytest.mark.sampled
@pytest.mark.parametrize("options", [{}, {"clip": 0.05}, {"rate": 0.01}], ids=str)
def test_right_steps_of_ones_own(options):
    model = Stepping(**options)
    model.compile(optimizer="adam")
    report = check_updates(model, X, Y, steps=2)
    assert report.ok, report.explain()
    assert {verdict.verdict for verdict in report.verdicts} == {Kind.MATCH}


@pytest.mark.sampled
def test_wrong_gradients_of_ones_own():
    model = Stepping(factor=1.01)
    model.compile(optimizer="adam")
    report = check_updates(model, X, Y, steps=2)
    assert {verdict.verdict for verdict in report.verdicts} == {Kind.MISMATCH}
    assert {verdict.reason_code for verdict in report.verdicts} == {Reason.OWN_STEP_GRADIENT}


class Nowhere(keras.layers.Layer):
    """A layer that runs in no precision."""

    def call(self, x):
        return x * tf.ones((5,), tf.int32)


def test_what_runs_in_no_precision_is_one_sentence():
    model = keras.Sequential([keras.layers.Dense(5), Nowhere()])
    model.compile(optimizer="sgd", loss="mse")
    with pytest.raises(BadInput, match=r"must run on the data it is checked on. Received: .*by itself first"):
        check_updates(model, X, DRAW(size=(8, 5)))
