"""The campaign on another backend of Keras: its gradients against the slopes in many digits; values and refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref.campaign import other_backends
from keras_ref.campaign.cotangents import draw_cotangent
from keras_ref.campaign.other_backends import check_on_backend, open_worker
from keras_ref.campaign.points import make_points
from keras_ref.errors import CouldNotRun


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    wanted = ("generic", "ones", "zeros")
    chosen = lambda kinds, seed: [p for p in make_points(kinds, seed) if p[0] in wanted]  # noqa: E731
    monkeypatch.setattr(other_backends, "make_points", chosen)


class StandIn:
    """A worker that answers with what Keras computes on TensorFlow, changed."""

    def __init__(self, *, slopes=1.0, value=1.0, bend=0.0, refuses=False):
        self.slopes, self.value, self.bend, self.refuses = slopes, value, bend, refuses

    def ask(self, target, verb, request, *, time_limit):
        assert verb == "differentiate" and time_limit > 0
        if self.refuses:
            raise CouldNotRun("no")
        function = getattr(keras.ops, target.removeprefix("keras.ops."))
        floats = [tf.constant(request["arguments"][place]) for place in request["places"]]
        with tf.GradientTape() as tape:
            tape.watch(floats)
            output = function(*floats, **request["options"])
            output += self.bend * tf.math.sin(np.pi * floats[0])  # 0 at whole numbers
            loss = tf.reduce_sum(output * draw_cotangent(output.shape, seed=request["seed"]))
        gradients = [np.asarray(g) * self.slopes for g in tape.gradient(loss, floats)]
        return {"value": float(loss) * self.value, "gradients": gradients}


def test_a_right_backend_is_not_accused():
    result = check_on_backend("keras.ops.square", "other", worker=StandIn())
    assert result.accusations == () and result.counts == {"on other: match": 12}


def test_a_wrong_slope_another_value_and_a_refusal():
    wrong = check_on_backend("keras.ops.square", "other", worker=StandIn(slopes=1 + 1e-6))
    assert {(one.claim, one.kind) for one in wrong.accusations} == {("on other", "mismatch")}
    other = check_on_backend("keras.ops.square", "other", worker=StandIn(value=1 + 1e-6))
    assert {one.kind for one in other.accusations} == {"another value"}
    bent = check_on_backend("keras.ops.square", "other", worker=StandIn(bend=1e-3))
    assert {(one.kind, one.reason) for one in bent.accusations if one.point == "ones"} == {
        ("another value", "beside the point")
    }
    assert {one.kind for one in bent.accusations} == {"another value"}
    refused = check_on_backend("keras.ops.square", "other", worker=StandIn(refuses=True))
    assert refused.reason == "refused on other (no)" and not refused.counts
    joined = check_on_backend("keras.ops.eigh", "other", worker=StandIn())
    assert joined.reason == "is joined with functions of TensorFlow"


@pytest.mark.sampled
def test_jax():
    """The gradient of logaddexp of equal numbers, which is wrong on TensorFlow, is right on JAX."""
    pytest.importorskip("jax", reason="needs gradtwin[jax]")
    worker = open_worker("jax")
    try:
        result = check_on_backend("keras.ops.logaddexp", "jax", worker=worker)
    finally:
        worker.close()
    assert result.accusations == () and result.counts["on jax: match"] == 24


def test_command(gradtwin):
    assert gradtwin("campaign", "--backend", "torch", "--list")[0::2] == (
        2,
        "gradtwin: --backend must be tensorflow, or jax without --deep. Received: torch. Choose one.\n",
    )
    status, out, _ = gradtwin("campaign", "--backend", "jax", "--list")
    assert status == 0 and {line.rpartition(".")[0] for line in out.split()} == {"keras.ops"}
