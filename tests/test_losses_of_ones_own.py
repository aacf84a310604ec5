"""Losses that people write themselves in a train step: right ones, and planted errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from situations import Situations

from keras_ref import check_gradients, check_updates

X = np.sin(1.0 + np.arange(12.0)).reshape(4, 3)
Y = np.cos(np.arange(8.0)).reshape(4, 2)
BLAME = ("look at the optimizer", "look at the backward pass")
OWN = "has a train_step of its own"
TABLE = Situations()
right = TABLE.add(says=(OWN,))


def dense(units=2, activation=None, **options):
    return keras.layers.Dense(units, activation, **options)


def net(*layers, width=3):
    return keras.Sequential([keras.Input((width,)), *layers])


def off(x, wrong):
    """x with a gradient that is 1 + `wrong` times what it should be."""
    own = tf.custom_gradient(lambda z: (tf.identity(z), lambda upstream: (1 + wrong) * upstream))
    return own(x) if wrong else x


class Own(keras.Model):
    """A model whose losses are computed by `losses_of`, and applied by its own train_step."""

    def __init__(self, wrong=0.0, **options):
        super().__init__(name="mine", **options)
        self.wrong = wrong
        self.net = net(dense(3, "tanh"), dense(2))

    def call(self, x, training=False):
        return self.net(x, training=training)

    def loss_of(self, data):
        raise NotImplementedError

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = off(self.loss_of(data), self.wrong)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


def updated(model, x=X, y=Y, *, optimizer="adam", **compiled):
    keras.utils.set_random_seed(3)
    model(x)
    model.compile(optimizer=optimizer, **compiled)
    return check_updates(model, x, y, steps=1)


class Contrasting(Own):
    """Two views of a batch, and a crossentropy of their similarities (SimCLR)."""

    def loss_of(self, x):
        views = [tf.linalg.l2_normalize(self(x + shift, training=True), axis=1) for shift in (0.0, 0.25)]
        similar = tf.matmul(*views, transpose_b=True) / 0.5
        return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(tf.range(4), similar, from_logits=True))


class Physical(Own):
    """A network whose own slopes by its input have to solve a differential equation (PINN)."""

    def loss_of(self, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            u = self(x, training=True)
        return tf.reduce_mean((tape.gradient(u, x) + tf.reduce_sum(u, 1, keepdims=True)) ** 2)


class Deciding(Own):
    """The temporal difference of a network and a frozen copy of it, at the actions that were taken (DQN)."""

    def __init__(self, wrong=0.0):
        super().__init__(wrong)
        self.slow = net(dense(3, "tanh"), dense(2))
        self.slow.trainable = False

    def loss_of(self, data):
        now, then = data
        best = tf.reduce_max(self.slow(then), 1)
        taken = tf.gather(self(now, training=True), [0, 1, 1, 0], batch_dims=1)
        return tf.reduce_mean(keras.losses.huber((1.0 + 0.9 * best)[:, None], taken[:, None]))


class Rewarding(Own):
    """Logarithms of probabilities times rewards (REINFORCE)."""

    def loss_of(self, data):
        states, rewards = data
        logs = tf.nn.log_softmax(self(states, training=True))
        return -tf.reduce_mean(tf.reduce_sum(logs * rewards, 1))


class Adapting(Own):
    """One step on half of the batch, inside the loss of the other half (MAML)."""

    def __init__(self, wrong=0.0):
        super().__init__(wrong)
        self.kernel = self.add_weight(shape=(3, 2), name="kernel")

    def call(self, x, training=False):
        return tf.tanh(x @ self.kernel)

    def loss_of(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            inner = tf.reduce_mean((self(x[:2]) - y[:2]) ** 2)
        adapted = tf.convert_to_tensor(self.kernel) - 0.5 * tape.gradient(inner, self.kernel.value)
        return tf.reduce_mean((tf.tanh(x[2:] @ adapted) - y[2:]) ** 2)


class Coupling(Own):
    """The log likelihood of an affine coupling layer (a flow)."""

    def loss_of(self, x):
        shift_and_scale = self(x * [1.0, 1.0, 0.0], training=True)
        z = (x[:, 2] - shift_and_scale[:, 0]) * tf.exp(-tf.tanh(shift_and_scale[:, 1]))
        return tf.reduce_mean(z**2 / 2 + tf.tanh(shift_and_scale[:, 1]))


class Mixing(Own):
    """Examples are mixed by a number that the train step draws with a seed of Keras's (mixup)."""

    def __init__(self, wrong=0.0):
        super().__init__(wrong)
        self.seeds = keras.random.SeedGenerator(7)

    def loss_of(self, data):
        x, y = data
        share = keras.random.uniform((len(x), 1), dtype=x.dtype, seed=self.seeds)
        mixed = [share * part + (1 - share) * part[::-1] for part in (x, y)]
        return tf.reduce_mean((self(mixed[0], training=True) - mixed[1]) ** 2)


class Computing(Own):
    """The compiled loss by Keras's own methods, and the metrics with it."""

    def loss_of(self, data):
        x, y = data
        predicted = self(x, training=True)
        self.compute_metrics(x, y, predicted)
        return self.compute_loss(x, y, predicted)


#: how it is checked, by what it is
STEPS = {
    "a contrast of two views": (lambda wrong: updated(Contrasting(wrong), y=None), "mismatch"),
    "slopes by the input in a loss": (lambda wrong: updated(Physical(wrong), y=None), "mismatch"),
    "a temporal difference": (lambda wrong: updated(Deciding(wrong), y=X[::-1].copy()), "mismatch"),
    "a policy gradient": (lambda wrong: updated(Rewarding(wrong)), "mismatch"),
    "a step inside a loss": (lambda wrong: updated(Adapting(wrong)), "mismatch"),
    "a coupling layer": (lambda wrong: updated(Coupling(wrong), y=None), "mismatch"),
    "mixed examples": (lambda wrong: updated(Mixing(wrong)), "mismatch"),
    "the compiled loss by hand": (lambda wrong: updated(Computing(wrong), loss="mse", metrics=["mae"]), "mismatch"),
}

QUICK = {"a step inside a loss", "a coupling layer"}
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in STEPS]


@pytest.mark.parametrize("name", EVERY)
def test_a_right_step(name):
    report = STEPS[name][0](0.0)
    assert report.ok, report.explain()
    assert {str(v.verdict) for v in report.verdicts} <= {"match", "departure"}


@pytest.mark.sampled
@pytest.mark.parametrize("name", EVERY)
def test_a_wrong_step(name):
    check, kind = STEPS[name]
    report = check(1e-4)
    assert {str(v.verdict) for v in report.failures} == {kind}, report.explain()
    assert not any(line in report.explain() for line in BLAME)


class Clipping(Own):
    """A critic whose weights are clipped after every step (WGAN)."""

    def loss_of(self, x):
        return tf.reduce_mean(self(x, training=True)) - tf.reduce_mean(self(-x, training=True))

    def train_step(self, data):
        logs = super().train_step(data)
        for variable in self.trainable_variables:
            variable.assign(tf.clip_by_value(variable, -0.1, 0.1))
        return logs


def test_weights_that_are_clipped_after_a_step():
    keras.utils.set_random_seed(3)  # initializers take their seeds when layers are made; both bounds have to be met
    report = updated(Clipping(), y=None)
    assert report.ok, report.explain()
    clipped = [v.reason for v in report.verdicts if v.reason_code == "own-step-moves"]
    assert len(clipped) == 2
    assert all(reason.endswith("the model's own train step clips this weight to [-0.1, 0.1]") for reason in clipped)


class Decaying(Own):
    """Weights that decay by hand before or after a step."""

    def __init__(self, *, after):
        super().__init__()
        self.after = after

    def loss_of(self, data):
        x, y = data
        return tf.reduce_mean((self(x, training=True) - y) ** 2)

    def train_step(self, data):
        logs = super().train_step(data) if self.after else None
        for variable in self.trainable_variables:
            variable.assign(0.99 * variable)
        return logs or super().train_step(data)


DECAYED = TABLE.add(fails="undecided", says=("it moves this weight by itself beside its optimizer",), never=BLAME)


@DECAYED
def _weights_that_decay_after_a_step():
    return updated(Decaying(after=True))


@DECAYED
def _weights_that_decay_before_a_step():
    return updated(Decaying(after=False))


class Centring(Own):
    """Gradients less their means (gradient centralization): no slopes of a loss, on purpose."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        variables = self.trainable_variables
        found = tape.gradient(loss, variables)
        self.optimizer.apply([g - tf.reduce_mean(g, 0) if g.shape.rank > 1 else g for g in found], variables)
        return {"loss": loss}


@TABLE.add(fails="mismatch", says=("not the slopes of the loss",), never=BLAME)
def _gradients_that_are_changed_on_purpose():
    return updated(Centring())


class Searching(Own):
    """Weights that are moved where a random step lowers the loss (an evolution strategy): no gradient at all."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(7)

    def train_step(self, data):
        x, y = data
        before = tf.reduce_mean((self(x) - y) ** 2)
        for variable in self.trainable_variables:
            variable.assign_add(0.01 * keras.random.normal(variable.shape, dtype=variable.dtype, seed=self.seeds))
        return {"loss": before}


@TABLE.add(fails="undecided", says=("by no law that is known",), never=BLAME)
def _steps_without_a_gradient():
    return updated(Searching())


@TABLE.add(says=(OWN, "was not checked"))
def _gradients_of_a_model_whose_loss_is_in_its_train_step():
    keras.utils.set_random_seed(3)
    model = Coupling()
    model(X)
    model.compile("adam")
    return check_gradients(model, X)


class Inheriting(keras.Model):
    """A train_step that does something else first, and leaves the rest to Keras."""

    def __init__(self):
        super().__init__(name="mine")
        self.inner = dense(2, "tanh")

    def call(self, x):
        return self.inner(x)

    def train_step(self, data):
        x, y = data
        return super().train_step((2.0 * x, y))


@right
def _a_train_step_that_changes_its_data():
    """The loss that is trained is that of the changed data."""
    return updated(Inheriting(), loss="mse")


@pytest.mark.sampled
@pytest.mark.parametrize("name", TABLE.parameters())
def test_situation(name):
    TABLE.rows[name].judge()
