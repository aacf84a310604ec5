"""A train_step that takes a gradient from its tape when the weights have moved since."""

import pytest
import tensorflow as tf
from model_kinds import Stepping, X, Y
from test_own_train_steps import made

from keras_ref import check_updates
from keras_ref.comparison.steps.step_losses import StepLosses

pytestmark = pytest.mark.sampled


class Late(Stepping):
    """Two losses from one tape; the gradient of the second is taken when the weights have moved by the first.

    renewed   whether the second is computed after that, too, while the same tape records
    """

    renewed = False

    def train_step(self, data):
        x, y = data
        weights = self.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            first = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
            second = tf.reduce_mean(self(x, training=True) ** 4)
            if self.renewed:
                self.optimizer.apply_gradients(zip(tape.gradient(first, weights), weights, strict=True))
        if not self.renewed:
            self.optimizer.apply_gradients(zip(tape.gradient(first, weights), weights, strict=True))
        found = [g * (1 + self.wrong) for g in tape.gradient(second, weights)]
        self.optimizer.apply_gradients(zip(found, weights, strict=True))
        return {"loss": first}


def test_a_gradient_of_weights_that_have_moved_since(monkeypatch):
    """It is differenced where its loss was computed; where that is not known, no weights are said to be the same."""
    known, measure = [], StepLosses.measure_differentiated

    def measured(losses, taken, data):
        known.append((taken.number, taken.is_there))
        return measure(losses, taken, data)

    monkeypatch.setattr(StepLosses, "measure_differentiated", measured)
    report = check_updates(made(Late, 0.0), X, Y, steps=2)
    assert all("it hands over slopes at other weights" in v.reason for v in report.verdicts), report
    report = check_updates(made(Late, 0.5), X, Y, steps=1)
    assert {v.verdict for v in report.verdicts} == {"mismatch"}, report
    assert set(known) == {(0, True), (1, True)}
    known.clear()
    model = made(Late, 0.0)
    model.renewed = True
    report = check_updates(model, X, Y, steps=1)
    assert set(known) >= {(1, False)}
    assert not any("with the same weights" in v.reason for v in report.verdicts), report
