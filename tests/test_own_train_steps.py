"""check_updates and check_gradients where the loss or the train step is the model's own: what is checked, and what is
said of it.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_kinds import Flow, Penalized, Stepping, X, Y, dense

from keras_ref import check_gradients, check_updates


def made(cls, *arguments, optimizer="adam", loss="mse"):
    """A built and compiled model."""
    keras.utils.set_random_seed(5)
    model = cls(*arguments, name="mine")
    model(X)
    model.compile(optimizer=optimizer, loss=loss)
    return model


class Sharpness(Stepping):
    """Sharpness-aware minimization: the gradient is taken at weights that are moved there and back."""

    def gradients(self, x, y):
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        return loss, tape.gradient(loss, self.trainable_variables)

    def train_step(self, data):
        loss, uphill = self.gradients(*data)
        moves = [0.05 * g / tf.linalg.global_norm(uphill) for g in uphill]
        for variable, move in zip(self.trainable_variables, moves, strict=True):
            variable.assign_add(move)
        _, found = self.gradients(*data)
        for variable, move in zip(self.trainable_variables, moves, strict=True):
            variable.assign_sub(move)
        self.optimizer.apply_gradients(zip(found, self.trainable_variables, strict=True))
        return {"loss": loss}


class Accumulating(Stepping):
    """Gradients of two steps are summed, and applied at the second."""

    def build(self, shape):
        super().build(shape)
        self.sums, self.count = [], tf.Variable(0, trainable=False)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        found = tape.gradient(loss, self.trainable_variables)
        if not self.sums:
            self.sums = [tf.Variable(tf.zeros_like(g), trainable=False) for g in found]
        for total, g in zip(self.sums, found, strict=True):
            total.assign_add(g)
        self.count.assign_add(1)
        tf.cond(self.count % 2 == 0, self.apply_sums, lambda: None)
        return {"loss": loss}

    def apply_sums(self):
        sums = [tf.convert_to_tensor(total) for total in self.sums]
        self.optimizer.apply_gradients(zip(sums, self.trainable_variables, strict=True))
        for total in self.sums:
            total.assign(tf.zeros_like(total))


class Adversarial(keras.Model):
    """Two networks, two optimizers, two losses."""

    def __init__(self):
        super().__init__(name="mine")
        self.made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)], name="maker")
        self.judged = keras.Sequential([keras.Input((3,)), dense(3), dense(1, None)], name="judge")
        self.seeds = keras.random.SeedGenerator(3)

    def compile(self, first, second):
        super().compile()
        self.first, self.second = first, second

    def call(self, x):
        return self.judged(x)

    def train_step(self, real):
        z = keras.random.normal((tf.shape(real)[0], 2), dtype=real.dtype, seed=self.seeds)
        with tf.GradientTape() as tape:
            judged = tf.nn.softplus(-self.judged(real)) + tf.nn.softplus(self.judged(self.made(z)))
            judge_loss = tf.reduce_mean(judged)
        variables = self.judged.trainable_variables
        self.first.apply_gradients(zip(tape.gradient(judge_loss, variables), variables, strict=True))
        with tf.GradientTape() as tape:
            maker_loss = tf.reduce_mean(tf.nn.softplus(-self.judged(self.made(z))))
        variables = self.made.trainable_variables
        self.second.apply_gradients(zip(tape.gradient(maker_loss, variables), variables, strict=True))
        return {"judge_loss": judge_loss, "maker_loss": maker_loss}


def adversarial(*, second=None):
    keras.utils.set_random_seed(5)
    model = Adversarial()
    model(X)
    model.compile(keras.optimizers.Adam(0.01), second or keras.optimizers.Adam(0.02))
    return model


@pytest.mark.parametrize("cls", [Sharpness, Accumulating])
def test_no_gradient_step_of_its_loss(cls):
    """What is no gradient step of the loss that it returns is said to be none, and no optimizer is blamed."""
    report = check_updates(made(cls, 0.0), X, Y, steps=2)
    assert {(v.verdict, v.reason_code) for v in report.failures} == {("undecided", "own-step-gathers")}, report
    assert report.failures[0].reason == (
        "the train step is the model's own: the gradients that it hands to the optimizer are not the slopes of the "
        "loss that it returns, and it moves weights by itself, calls an optimizer several times, or gathers gradients "
        "over steps"
    )
    assert report.oracles == (
        "nothing was shown to be wrong: the train step cannot be compared with the slopes of a loss"
    )


@pytest.mark.parametrize("trained", [False, True])
def test_two_optimizers(trained):
    """Both updates are compared with the laws of the optimizers; that the gradients are not is said."""
    model = adversarial()
    if trained:
        model.fit(X, verbose=0)
    before = [v.numpy() for v in model.trainable_variables]
    report = check_updates(model, X, steps=2)
    assert {(v.verdict, v.reason_code) for v in report.verdicts} == {("undecided", "own-step")}
    assert {v.reason for v in report.verdicts} == {
        (
            "the train step is the model's own: it returns no scalar 'loss' (but judge_loss, maker_loss); its update "
            "is the optimizer's law on the gradients that it hands over"
        )
    }
    assert len(report.verdicts) == 6
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    model.fit(X, verbose=0)
    assert all(np.any(v.numpy() != value) for v, value in zip(model.trainable_variables, before, strict=True))


def test_a_wrong_optimizer_among_two():
    """An optimizer that is off by a millionth is found, on its own variables alone, and is blamed."""
    wrong = keras.optimizers.SGD(0.125)
    update = wrong.update_step
    wrong.update_step = lambda gradient, variable, rate: update(gradient, variable, rate * (1 + 1e-6))
    report = check_updates(adversarial(second=wrong), X, steps=2)
    blamed = [v for v in report.failures if v.verdict == "mismatch"]
    assert {v.name.split("/")[0] for v in blamed} == {"maker"} and len(blamed) == 2, report
    assert {v.reason_code for v in blamed} == {"law-differs"}
    assert report.oracles == "the gradient is right and the update is not: look at the optimizer"


class Drawing(Stepping):
    """A loss that is another one every time."""

    def call(self, x):
        return super().call(x) + tf.random.normal((4, 2), dtype=x.dtype)


def test_a_loss_that_draws_without_a_seed():
    report = check_updates(made(Drawing, 0.0), X, Y, steps=1)
    assert {(v.verdict, v.reason_code) for v in report.failures} == {("undecided", "own-step")}, report
    assert all("with the same weights and data" in v.reason for v in report.failures)


class Compiled(Stepping):
    """The train step as a function of TensorFlow's own."""

    train_step = tf.function(Stepping.train_step)


@pytest.mark.parametrize("wrong", [0.0, 1e-4])
def test_a_traced_train_step_still_trains(wrong):
    """No trace without an optimizer is left behind by the check."""
    model = made(Compiled, wrong)
    report = check_updates(model, X, Y, steps=1)
    assert {v.verdict for v in report.verdicts} == {"mismatch" if wrong else "match"}
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_planted_step_is_not_blamed_on_the_optimizer():
    """Adam does not see a factor: the gradients that it is handed show it."""
    report = check_updates(made(Stepping, 1e-4), X, Y, steps=1)
    assert {(v.verdict, v.reason_code) for v in report.verdicts} == {("mismatch", "own-step-gradient")}
    assert report.failures[0].reason == (
        "step 1: the train step is the model's own: the gradients that it hands to the optimizer are not the slopes of "
        "the loss that it returns"
    )
    assert report.oracles == (
        "the optimizer applies the gradients that it is handed: look at what the train step makes of the gradient"
    )


def test_a_loss_in_the_train_step_is_said_not_to_be_checked():
    model = made(Flow, 0.0, loss=None)
    note = (
        "Flow has a train_step of its own: a loss that is computed there, and nowhere else, was not checked. "
        "check_updates checks what the train step does, check_function the function that computes the loss."
    )
    assert note in check_gradients(model, X).notes
    with pytest.raises(ValueError) as caught:
        check_gradients(model, X, Y)
    assert str(caught.value) == (
        "A model must have a loss when targets are given. Received: 'mine', which has a train_step of its own and no "
        "compiled loss, and loss=None. Check its steps with check_updates, or the function that computes its loss with "
        "check_function; or pass loss=."
    )


def penalized(loss=None):
    """A model whose layer adds a loss, which was never called."""
    keras.utils.set_random_seed(5)
    x = keras.Input((3,))
    model = keras.Model(x, dense(2)(Penalized(0.0)(dense(3)(x))), name="mine")
    model.compile("sgd", loss)
    return model


ADDED = (
    "No loss was compiled: what was checked is the sum of the losses that mine adds (add_loss, regularizers), which is "
    "all that training minimises"
)


@pytest.mark.parametrize(("y", "said"), [(None, f"{ADDED}."), (Y, f"{ADDED}; the targets are not used.")])
def test_added_losses_alone(y, said):
    """The last layer is behind the loss: nothing reaches it."""
    report = check_gradients(penalized(), X, y)
    assert report.ok and said in report.notes
    kinds = {v.name.split("/")[0]: v.verdict for v in report.verdicts if v.oracle == "forward"}
    assert [kinds[name] for name in kinds if name.startswith("dense")] == ["match", "disconnected"]
    updates = check_updates(penalized(), X, y, steps=1)
    assert updates.ok and said in updates.notes


def test_added_losses_beside_a_compiled_one():
    """With a compiled loss and no targets the outputs still meet cotangents, which is said."""
    report = check_gradients(penalized("mse"), X)
    assert {v.verdict for v in report.verdicts} == {"match"}
    assert "No targets were given: every output meets a random cotangent in place of the compiled loss." in report.notes
    with pytest.raises(ValueError) as caught:
        check_updates(penalized("mse"), X)
    assert str(caught.value) == (
        "A training step needs a loss to minimise. Received: y=None for 'mine', which was compiled with a loss. Pass y."
    )


def test_nothing_to_minimise():
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="mine")
    model.compile("sgd")
    with pytest.raises(ValueError) as caught:
        check_gradients(model, X, Y)
    assert str(caught.value) == (
        "A model must have a loss when targets are given. Received: 'mine', compiled without a loss, and loss=None. "
        "Compile it with a loss, or pass loss=."
    )
    with pytest.raises(ValueError) as caught:
        check_updates(model, X)
    assert str(caught.value) == (
        "A training step needs a loss to minimise. Received: y=None for 'mine', which was compiled without a loss. "
        "Compile it with one and pass y."
    )
