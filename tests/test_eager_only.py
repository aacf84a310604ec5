"""Code that no graph can be traced of: differenced eagerly, or with AutoGraph, and the report says which."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ref
from keras_ref import check_function, check_gradients, check_layer, check_updates
from keras_ref.comparison.entries import entrywise
from keras_ref.errors import BadInput
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.evaluation.nudged_losses import remembered_losses
from keras_ref.evaluation.nudged_losses.remembered_losses import RememberedLosses

X = np.abs(np.random.default_rng(0).normal(size=(2, 2))) + 0.1
Y = np.random.default_rng(1).normal(size=(2, 1))
EAGER, AUTOGRAPH = "runs only eagerly", "traced with AutoGraph"


@tf.custom_gradient
def times(x, scale=3.0):
    return x * scale, lambda upstream: upstream * scale


def branching(x):
    if tf.reduce_sum(x) > 0:
        return tf.sin(x) * x
    return x


def looping(x):
    while tf.reduce_sum(x * x) > 1.0:
        x = x / 2.0
    return x


def reading(x):
    return tf.exp(x) * len(x.numpy())


def keyword(x):
    return times(x, scale=2.0)


#: name → (function, what a note says)
FUNCTIONS = {
    "if": (branching, AUTOGRAPH),
    "while": (looping, AUTOGRAPH),
    "numpy": (reading, EAGER),
    "a keyword of a custom gradient": (keyword, EAGER),
    "float": (lambda x: x * x if float(tf.reduce_sum(x)) > 0 else x, EAGER),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    function, note = FUNCTIONS[name]
    report = check_function(function, X)
    assert report.ok and {v.verdict for v in report.verdicts} == {"match"}, report.explain()
    assert any(note in one for one in report.notes), report.notes


class Looks(keras.layers.Layer):
    """x · w, with a branch on values; counts its calls; `wrong` multiplies the gradient of the last feature."""

    def __init__(self, wrong=0.0, **options):
        super().__init__(**options)
        self.wrong = wrong

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones", name="w")
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x):
        self.calls.assign_add(1.0)

        @tf.custom_gradient
        def planted(x):
            factors = tf.constant([1.0] * (x.shape[-1] - 1) + [1.0 + self.wrong], x.dtype)
            return tf.identity(x), lambda upstream: upstream * factors

        if tf.reduce_sum(x) > 0:
            return planted(x * self.w)
        return x

    def compute_output_shape(self, shape):
        return shape


def model_of(wrong=0.0):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([Looks(wrong, name="looks"), keras.layers.Dense(1)], name="net")
    model(X)
    model.compile("sgd", "mse", run_eagerly=True)
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("options", [{"effort": "full"}, {"effort": "fast"}, {"budget": 1}], ids=str)
def test_models(options):
    model = model_of()
    calls = float(model.layers[0].calls.numpy())
    report = check_gradients(model, X, Y, **options)
    assert report.ok and any(EAGER in note for note in report.notes), report.explain()
    assert float(model.layers[0].calls.numpy()) == calls  # nothing of the model is changed
    wrong = check_gradients(model_of(1e-4), X, Y, **options)
    assert "net/looks/w" in {v.name for v in wrong.failures if v.verdict == "mismatch"}, wrong


@pytest.mark.sampled
def test_updates():
    assert check_updates(model_of(), X, Y).ok


@pytest.mark.sampled
def test_a_loss_of_its_own():
    def loss(y, p):
        if tf.reduce_mean(p) > 0:
            return tf.reduce_mean((y - p) ** 2)
        return tf.reduce_mean(tf.exp(y - p))

    model = keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Dense(1)])
    model.compile("sgd", loss, run_eagerly=True)
    report = check_gradients(model, X, Y)
    assert report.ok, report.explain()


@pytest.mark.parametrize("options", [{"order": 2}, {"forward_mode": True}], ids=str)
def test_derivatives_of_other_kinds(options):
    report = check_function(reading, X, **options)
    assert report.ok and len(report.verdicts) == 2, report.explain()


@keras_ref.surrogate
class Rounds(keras.layers.Layer):
    def call(self, x):
        x.numpy()
        return x + tf.stop_gradient(tf.round(x) - x)


@pytest.mark.sampled
def test_a_surrogate():
    report = check_layer(Rounds(), X[:1])
    assert [v.verdict for v in report.verdicts] == ["surrogate"]


@pytest.mark.sampled
def test_one_triangle():
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    report = check_function(lambda x: tf.linalg.cholesky(x) if x.numpy().size else x, matrix)
    assert [v.verdict for v in report.verdicts] == ["symmetrized"]


def test_none():
    report = check_function(lambda v, w: v if w.numpy().size else w, X, X)
    assert [v.verdict for v in report.verdicts] == ["match", "disconnected"]
    assert report.verdicts[1].reason == "the code runs only eagerly, where no graph shows why"


def test_modes_that_it_does_not_run_in():
    for modes in (("eager", "function"), ("function",)):
        with pytest.raises(BadInput) as error:
            check_function(reading, X, modes=modes)
        assert str(error.value) == (
            "`modes` must be ones that the subject runs in. Received: function, which fails: 'SymbolicTensor' object "
            "has no attribute 'numpy'. Leave it out."
        )


def test_what_runs_in_no_way():
    said = r"A subject must run on the data it is checked on\. Received: ValueError: no \(.*test_eager_only\.py:\d+\)\."
    with pytest.raises(BadInput, match=said):
        check_function(_refuses, X)


def _refuses(x):
    raise ValueError("no")


@tf.custom_gradient
def bent(x):
    """Kinks at 0, several of which meet, and a wrong slope of 1.5 beyond 1."""
    return 2 * tf.nn.relu(x) - tf.nn.relu(
        -x
    ), lambda upstream: upstream * tf.where(x > 1, 1.5, tf.where(x > 0, 2.0, 1.0))


def check_bent():
    return check_function(lambda x: bent(x) * len(x.numpy()), np.array([0.0, 0.0, 0.0, 0.5, 1.5, 2.0, 3.0, 4.0, -1.0]))


@pytest.fixture
def passes(monkeypatch):
    """What nudged losses were asked for, and which of these were computed."""
    asked, computed, remembering = [], [], RememberedLosses.compute

    def counting(self, point, *, entries, targets, compute):
        place = np.concatenate([np.ravel(part) for part in point]).tobytes()
        keys = [(id(self), place, int(e), float(t)) for e, t in zip(entries, targets, strict=True)]
        asked.extend(keys)

        def counted(some):
            computed.extend(keys[i] for i in some)
            return compute(some)

        return remembering(self, point, entries=entries, targets=targets, compute=counted)

    monkeypatch.setattr(RememberedLosses, "compute", counting)
    return asked, computed


@pytest.mark.sampled
def test_no_nudge_is_evaluated_twice(monkeypatch, passes):
    """First steps are among the further ones of an entry in doubt. Not remembered, they give the same report."""
    asked, computed = passes
    report = check_bent()
    assert len(computed) == len(set(computed)) < len(asked)
    assert set(computed) == set(asked)
    monkeypatch.setattr(
        RememberedLosses, "compute", lambda *_, targets, compute, **__: compute(np.arange(len(targets)))
    )
    assert check_bent().to_dict() == report.to_dict()


def test_other_data_are_another_loss():
    """What is remembered belongs to the data and the state of the point."""
    w = tf.Variable([1.0, 2.0], dtype="float64", name="w")
    function = LossFunction(
        lambda data: tf.reduce_sum(w * data.x) * len(data.x.numpy()), variables=[w], state=[], data=Data(np.ones(2))
    )
    name, entries, offsets = next(iter(function.values)), np.array([0]), np.array([[0.5]])
    assert function.losses(name, entries, offsets) == function.losses(name, entries, offsets) == 7.0
    function.refresh(Data(np.full(2, 10.0)))
    assert function.losses(name, entries, offsets) == 70.0


def test_what_was_computed_long_ago_is_forgotten(monkeypatch):
    monkeypatch.setattr(remembered_losses, "KEPT", 3)
    known = RememberedLosses()
    for last in range(5):
        targets = np.array([float(last), 0.5])
        found = known.compute([np.zeros(2)], entries=np.array([0, 1]), targets=targets, compute=lambda some: some + 1.0)
        assert found.shape == (2,)
        assert len(known.known) <= 3


@pytest.mark.sampled
def test_some_wrong_entries_decide_for_all(monkeypatch, passes):
    """The verdicts, what they count and whom they accuse are those of a comparison in full, at fewer passes."""
    _, computed = passes
    fewer, some = check_bent(), len(computed)
    monkeypatch.setattr(entrywise, "EXAMPLES", 1000)
    full, every = check_bent(), len(computed) - some
    said = [[(v.name, v.verdict, v.counts, v.accused) for v in one.verdicts] for one in (full, fewer)]
    assert said[0] == said[1]
    assert max(v.counts.get("mismatch", 0) for v in full.verdicts) > 2
    assert some < every
