"""check_updates and check_gradients where the loss or the train step is the model's own: what is checked, and what is
said of it.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
import train_step_kinds
from loss_kinds import Penalized
from model_kinds import Flow, Stepping, X, Y, dense
from train_step_kinds import Adversarial, Autoencoder, Averaging, Descending, Gathering, Regression, Terms

from keras_ref import check_gradients, check_updates


def made(cls, *arguments, optimizer="adam", loss="mse"):
    """A built and compiled model."""
    keras.utils.set_random_seed(5)
    model = cls(*arguments, name="mine")
    model(X)
    model.compile(optimizer=optimizer, loss=loss)
    return model


def made_by(model, *, y=Y):
    """A model that is built and compiled."""
    keras.utils.set_random_seed(5)
    return train_step_kinds.made(model, y=y).model


class Sharpness(Stepping):
    """Sharpness-aware minimization: the gradient is taken at weights that are moved there and back."""

    def gradients(self, x, y):
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        return loss, [g * (1 + self.wrong) for g in tape.gradient(loss, self.trainable_variables)]

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


OWN = "the model's own train step"
MEANT = (
    "nothing was shown to be wrong in a backward pass or an optimizer: check whether the train step is meant to do this"
)


def only_failure(report):
    """(kind, code of the reason, reason) of the failures, which are all alike."""
    found = {(v.verdict, v.reason_code, v.reason) for v in report.failures}
    assert len(found) == 1, report
    return found.pop()


@pytest.mark.sampled
def test_slopes_at_other_weights():
    """Sharpness-aware minimization is no gradient step of a loss: that is said, and nothing is blamed."""
    report = check_updates(made(Sharpness, 0.0), X, Y, steps=2)
    assert only_failure(report) == (
        "undecided",
        "own-step-moved",
        (f"step 1: {OWN} moves the weights between the gradient and the update: it hands over slopes at other weights"),
    )
    assert report.oracles == MEANT


@pytest.mark.sampled
def test_sharpness_with_a_wrong_gradient():
    report = check_updates(made(Sharpness, 1e-4), X, Y, steps=1)
    assert only_failure(report)[:2] == ("mismatch", "own-step-gradient")


@pytest.mark.sampled
@pytest.mark.parametrize("halves", [False, True])
def test_a_forgotten_division(halves):
    """Gradients that are gathered, and handed over undivided."""
    model = Gathering(0.0, divisor=1.0, halves=halves)
    report = check_updates(made_by(model), X, Y, steps=2)
    step = 1 if halves else 2
    assert only_failure(report) == (
        "undecided",
        "own-step-sum",
        (f"step {step}: {OWN} hands over the sum of the gradients of 2 losses, not their mean"),
    )
    assert report.oracles == MEANT


@pytest.mark.sampled
def test_a_wrong_sign_of_one_term():
    """The loss that is differentiated is another one than is returned: its gradient is right, and no error in it."""
    report = check_updates(made_by(Autoencoder(0.0, sign=-1.0), y=None), X, steps=1)
    kind, code, reason = only_failure(report)
    assert (kind, code) == ("undecided", "own-step-other-loss")
    assert f"{OWN} hands over the slopes of the loss that it differentiates (" in reason and "returns another" in reason


@pytest.mark.sampled
def test_a_wrong_sign_of_one_gradient():
    report = check_updates(made_by(Terms(-2.0)), X, Y, steps=1)
    assert "mismatch" in {v.verdict for v in report.failures}


class Twins(keras.Model):
    """Two networks of the same shapes, two optimizers: `swapped`, each gets the gradients of the other."""

    def __init__(self, *, swapped, changed=False):
        super().__init__(name="mine")
        self.swapped, self.changed = swapped, changed
        self.left = keras.Sequential([keras.Input((3,)), dense(2)], name="left")
        self.right = keras.Sequential([keras.Input((3,)), dense(2)], name="right")
        self.second = keras.optimizers.SGD(0.1)

    def call(self, x):
        return self.left(x) + self.right(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_mean((self.left(x) - y) ** 2 + tf.abs(self.right(x)))
        nets = [self.left, self.right]
        found = [tape.gradient(loss, net.trainable_variables) for net in nets]
        if self.changed:
            found = [[tf.identity(g) for g in gradients] for gradients in found]
        for optimizer, net, gradients in zip(
            (self.optimizer, self.second), nets, found[::-1] if self.swapped else found, strict=True
        ):
            optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))
        return {"both": loss}


@pytest.mark.sampled
@pytest.mark.parametrize("changed", [False, True])
def test_gradients_of_one_network_handed_to_the_other(changed):
    """They are known by what the tape gave, and where the step has made new tensors of that, by their values."""
    assert check_updates(made_by(Twins(swapped=False)), X, Y, steps=1).ok
    report = check_updates(made_by(Twins(swapped=True, changed=changed)), X, Y, steps=1)
    assert {(v.verdict, v.reason_code) for v in report.verdicts} == {("mismatch", "own-step-foreign")}, report
    own, other = report.verdicts[0].name, report.verdicts[2].name
    assert report.verdicts[0].reason == (f"step 1: {OWN} hands over the gradient by {other} here"), (
        own,
        other,
    )
    assert report.oracles == (
        "the optimizer applies the gradients that it is handed: look at what the train step makes of the gradient"
    )


@pytest.mark.sampled
def test_clipping_is_said():
    report = check_updates(
        made_by(Regression(take=lambda found: tf.clip_by_global_norm(found, 0.125)[0])), X, Y, steps=1
    )
    assert report.ok and {v.reason_code for v in report.verdicts} == {"own-step-loss"}
    assert all(v.reason.endswith("clipped to a norm of 0.125") for v in report.verdicts)


@pytest.mark.sampled
def test_an_average_with_its_decay():
    report = check_updates(made_by(Averaging(0.0, decay=0.75)), X, Y, steps=1)
    assert report.ok
    said = [v.reason for v in report.verdicts if v.reason_code == "own-step-moves"]
    assert len(said) == 5 and all(text.endswith("with the decay 0.75") for text in said)
    assert said[0] == (
        f"worst at step 1: {OWN} moves this weight by itself: a moving average of {report.verdicts[0].name} with "
        "the decay 0.75"
    )


class Velocity(Descending):
    """Momentum by hand: no law that is known."""

    def train_step(self, data):
        loss, gradients = self.gradients(*data)
        for variable, gradient in zip(self.trainable_variables, gradients, strict=True):
            variable.assign_sub(0.125 * tf.sign(gradient))
        return {"loss": loss}


@pytest.mark.sampled
def test_weights_moved_by_no_law_that_is_known():
    report = check_updates(made_by(Velocity()), X, Y, steps=1)
    assert only_failure(report) == (
        "undecided",
        "own-step",
        f"{OWN} cannot be judged: it moves this weight by itself, by no law that is known",
    )


def adversarial(*, second=None):
    """Two networks, two optimizers: the second as given."""
    model = made_by(Adversarial(0.0), y=None)
    if second is not None:
        model.second = second
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("trained", [False, True])
def test_two_optimizers(trained):
    """Each network's gradients are the slopes of its own loss, at the weights that the step has by then."""
    model = adversarial()
    if trained:
        model.fit(X, verbose=0)
    before = [v.numpy() for v in model.trainable_variables]
    report = check_updates(model, X, steps=2)
    assert {(v.verdict, v.reason_code) for v in report.verdicts} == {("match", "own-step-loss")}, report
    assert all("hands over the slopes of the loss that it differentiates (" in v.reason for v in report.verdicts)
    assert len(report.verdicts) == 10
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    model.fit(X, verbose=0)
    moved = [np.any(v.numpy() != value) for v, value in zip(model.trainable_variables, before, strict=True)]
    assert moved == [True] * 9 + [False]  # a bias that both means of the judge's loss have cancels


@pytest.mark.sampled
def test_a_wrong_optimizer_among_two():
    """An optimizer that is off by a millionth is found, on its own variables alone, and is blamed."""
    wrong = keras.optimizers.SGD(0.125)
    update = wrong.update_step
    wrong.update_step = lambda gradient, variable, rate: update(gradient, variable, rate * (1 + 1e-6))
    report = check_updates(adversarial(second=wrong), X, steps=2)
    blamed = [v for v in report.failures if v.verdict == "mismatch"]
    assert {v.name.split("/")[0] for v in blamed} == {"maker"} and len(blamed) == 5, report
    assert {v.reason_code for v in blamed} == {"law-differs"}
    assert report.oracles == "the gradient is right and the update is not: look at the optimizer"


class Drawing(Stepping):
    """A loss that is another one every time."""

    def call(self, x):
        return super().call(x) + tf.random.normal((4, 2), dtype=x.dtype)


@pytest.mark.sampled
def test_a_loss_that_draws_without_a_seed():
    report = check_updates(made(Drawing, 0.0), X, Y, steps=1)
    assert {(v.verdict, v.reason_code) for v in report.failures} == {("undecided", "own-step")}, report
    assert all("with the same weights and data" in v.reason for v in report.failures)


class Compiled(Stepping):
    """The train step as a function of TensorFlow's own."""

    train_step = tf.function(Stepping.train_step)


@pytest.mark.sampled
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
        f"step 1: {OWN} hands over gradients that are not the slopes of the loss that it returns"
    )
    assert report.oracles == (
        "the optimizer applies the gradients that it is handed: look at what the train step makes of the gradient; it "
        "looks like this: it is the right gradient × 1.0001"
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
