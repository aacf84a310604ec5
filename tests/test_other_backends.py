"""gradtwin check --backend: Keras on JAX and on PyTorch, with the report that TensorFlow's models get."""

import importlib.util
import json

import keras
import numpy as np
import pytest
from kinds_as_targets import NAMES, made

from keras_ref import check_gradients
from keras_ref.checks.other_backends import check_on_backend
from keras_ref.comparison.sources.settings import Settings
from keras_ref.errors import BadInput
from keras_ref.evaluation.loss_function import Data
from keras_ref.inputs.data import apply_class_weight
from keras_ref.programs.remote import Worker

BACKENDS = [
    "jax",
    pytest.param(
        "torch",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: pip install gradtwin[torch]"
        ),
    ),
]
#: kinds of the default run: a twin, no loss, what layers add, several outputs, statistics of batches
FEW = ("Sequential", "training mode: batch statistics and dropout")


@pytest.fixture(scope="module")
def workers():
    """One process for each backend, for all tests of this file."""
    found = {}
    yield lambda backend: found.setdefault(backend, Worker(backend))
    for worker in found.values():
        worker.close()


def checked(name, which, *, backend, worker):
    kind = made(name, 0.0)
    options = dict(kind.options)
    weight = apply_class_weight(kind.y, options.get("sample_weight"), options.get("class_weight"))
    return check_on_backend(
        f"kinds_as_targets:{which}_{NAMES.index(name)}",
        Data(kind.x, kind.y, weight),
        backend=backend,
        loss=options.get("loss"),
        training=options.get("training", False),
        settings=Settings(),
        worker=worker,
    )


def some(names):
    return [pytest.param(n, marks=() if n in FEW else pytest.mark.slow) for n in names]


@pytest.mark.sampled
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", some(NAMES))
def test_a_kind_passes_and_fails_as_on_tensorflow(name, backend, workers):
    right = checked(name, "right", backend=backend, worker=workers(backend))
    assert right.ok, right.explain()
    planted = checked(name, "planted", backend=backend, worker=workers(backend))
    assert "mismatch" in {v.verdict for v in planted.failures}, planted
    assert all(v.compared for v in planted.failures)


def network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3, "tanh", name="a"), layers.Dense(2, name="b")], name="net"
    )
    model.compile(optimizer=keras.optimizers.Adam(), loss="mse")
    return model


X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 2))


@pytest.mark.sampled
def test_the_report_is_that_of_tensorflow(workers):
    """The same names, oracles, kinds and keys; the model, saved for the other process, is left as it was."""
    model = network()
    before = [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]
    here = check_gradients(model, X, Y)
    there = check_on_backend(
        model, Data(X, Y), backend="jax", loss=None, training=False, settings=Settings(), worker=workers("jax")
    )
    assert [(v.name, v.oracle, v.verdict) for v in here.verdicts] == [
        (v.name, v.oracle, v.verdict) for v in there.verdicts
    ]
    assert {v.verdict for v in there.verdicts} == {"match"}
    assert here.to_dict().keys() == there.to_dict().keys()
    assert all(a.to_dict().keys() == b.to_dict().keys() for a, b in zip(here.verdicts, there.verdicts, strict=True))
    assert any("on JAX, in a process of its own" in note for note in there.notes)
    assert before == [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]


@pytest.mark.sampled
def test_what_jax_is_told_wrong_is_found(workers):
    """By a layer that TensorFlow does not run; random layers are in inference, and named."""
    found = check_on_backend(
        "kinds_as_targets:negated_by_jax",
        Data(None),
        backend="jax",
        loss=None,
        training=True,
        settings=Settings(),
        worker=workers("jax"),
    )
    assert [(v.name, v.verdict) for v in found.verdicts] == [
        ("net/a/kernel", "mismatch"),
        ("net/a/bias", "mismatch"),
        ("input", "mismatch"),
    ]
    assert "Random layers are in inference: drop." in found.notes
    assert {v.looks_like for v in found.verdicts} == {"it is the right gradient, negated"}
    assert "  jax.grad\n" in found.explain()


@pytest.mark.slow
def test_the_command(gradtwin):
    """A report by its own process, replayed."""
    options = ("kinds_as_targets:negated_by_jax", "--backend", "jax", "--json", "found.json")
    found = gradtwin("check", *options)
    assert found.status == 1
    report = json.loads((gradtwin.folder / "found.json").read_text())
    assert report["run"]["options"]["backend"] == "jax"
    again = gradtwin("replay", "found.json")
    assert again.status == 1 and "The same 3 verdicts as recorded." in again.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"modes": ("function",)}, r"must not be about TensorFlow's graphs\. Received: modes="),
        ({"order": 2}, "Received: order=2"),
        ({"forward_mode": True}, "Received: forward_mode=True"),
        ({"expect": {"*": "stop_gradient"}}, 'Received: expect="stop_gradient"'),
        ({"loss": lambda y, p: p}, "`loss` must be a name or a loss object of Keras"),
        ({"backend": "mxnet"}, "`backend` must be one of tensorflow, jax, torch"),
        ({"backend": "tensorflow"}, "Received: the text 'somewhere:build'"),
    ],
)
def test_what_cannot_be_checked_there_is_one_sentence(options, sentence):
    with pytest.raises(BadInput, match=sentence):
        check_gradients("somewhere:build", X, Y, **{"backend": "jax", **options})


def test_permissions_are_refused(gradtwin):
    found = gradtwin("check", "somewhere:build", "--backend", "jax", "--unsafe")
    assert found.status == 2 and "With --backend a target must load by itself. Received: --unsafe." in found.err
