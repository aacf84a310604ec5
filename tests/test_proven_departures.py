"""A departure has to prove its excuse: real ones do; a wrong law of the twin, beside them or in the part, does not."""

import warnings
from contextlib import contextmanager

import keras
import numpy as np
import pytest
import tensorflow as tf
from departing_models import CASES, generic

from keras_ref import check_gradients
from keras_ref.reports.verdict import Reason
from keras_ref.translation.departures import load_departures
from keras_ref.translation.departures.laws import as_keras
from keras_ref.translation.departures.laws.registry import load_laws
from keras_ref.translation.to_keras import mirror
from scratch import registry
from scratch.activations import smooth
from scratch.differences import UNIT
from scratch.layers.core import Dense
from scratch.losses.base import Projection
from scratch.objective import Objective

SHOWN = {
    "value": "with what Keras computes there, the twin agrees",
    "bound": "within rounding to float32 there",
    "place": "Keras's own forward pass has the slope of the twin",
}
IN_CHECKS = [case for case in CASES if case.in_checks]
OUTSIDE = [case for case in CASES if not case.in_checks]
WRONG = 1.05


def called(case):
    return f"{case.id}-{type(case.layers[-1]).__name__}"


@contextmanager
def scaled(definition, method):
    """A law that is 5 % off: whatever the method of a definition returns is scaled."""
    right = getattr(definition, method)
    own = method in vars(definition)

    def wrong(self, *arguments, **keywords):
        y = right(self, *arguments, **keywords)
        return (WRONG * y[0], *y[1:]) if isinstance(y, tuple) else WRONG * y

    setattr(definition, method, wrong)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a declared linear structure that no longer holds says so
            yield
    finally:
        setattr(definition, method, right) if own else delattr(definition, method)


def test_every_entry_that_shows_in_a_gradient_has_its_proof():
    """An entry that excuses a twin is proven by its law, by a bound, or by its place in a backward pass."""
    excusing = [e for e in load_departures() if e.applies and e.reading != "refusal" and set(e.shows_in) & {"gradient"}]
    proven = {e.id for e in excusing if e.shows_in == ("gradient",) or e.reading == "precision" or e.id in load_laws()}
    # the twin broadcasts the mask of a Softmax as Keras does, so that there is nothing to excuse
    assert {e.id for e in excusing} - proven == {"softmax-mask-aligns-from-the-right"}
    assert set(load_laws()) <= {e.id for e in excusing}
    assert set(load_laws()) == {case.id for case in CASES if case.by.startswith("value")}


@pytest.mark.sampled
@pytest.mark.parametrize("case", IN_CHECKS, ids=called)
def test_real_departure(case):
    report = case.check()
    found = {v.reason for v in report.verdicts if v.verdict == "departure"}
    assert report.ok, report.explain()
    if case.by == "rounding":
        assert {v.verdict for v in report.verdicts} == {"match"}, report
        return
    if case.by == "bound" and not found:  # what rounds inside a loop may have been measured, and allows it then
        assert {v.verdict for v in report.verdicts} == {"match"}, report
        assert max(v.visible for v in report.verdicts) > np.finfo(np.float32).eps / 64
        return
    shown = SHOWN[case.by.split()[-1]]
    assert any(case.id in reason.split(": ")[0].split(", ") and reason.endswith(shown) for reason in found), found
    assert any(f"({case.id}): " in note for note in report.notes)


@pytest.mark.sampled
@pytest.mark.parametrize("case", IN_CHECKS, ids=called)
def test_wrong_law_in_the_part_itself(case):
    """The very layer or loss that departs computes 5 % too much: no departure explains that."""
    part = case.layers[-1] if case.loss is None else case.loss
    part = getattr(part, "layer", part)
    with scaled(type(part), "forward" if case.loss is None else "per_sample"):
        report = case.check()
    assert {v.verdict for v in report.failures} & {"mismatch", "nan"}, report
    assert any(note.startswith("No known departure explains what differs") for note in report.notes)


@pytest.mark.parametrize("case", OUTSIDE, ids=called)
def test_values_outside_of_checks(case):
    """The law is what Keras computes, to rounding in float64, and the definition is not."""
    model = case.model
    twin = Objective.of(model, [Projection() for _ in model.outputs])
    shapes = {name: [x.shape for x in case.inputs] for name in model.layers}
    law = as_keras(twin, [case.id], shapes).model
    right, ours = (np.asarray(one.forward(case.weights, case.x)) for one in (model, law))
    theirs = np.asarray(mirror(model, case.weights)(case.x))
    allowed = 256 * UNIT * np.abs(ours).max()
    assert np.abs(ours - theirs).max() <= allowed < np.abs(right - theirs).max()


# Wrong laws in whole models ------------------------------------------------------------------------------------------


def with_everything(rank):
    """A model of embeddings or a dense layer, attention, pooling, normalization and gelu, with its data."""
    keras.utils.set_random_seed(rank)
    layers = keras.layers
    if rank == 2:
        words = keras.Input((2,), dtype="int32")
        x, y = np.array([[0, 2], [3, 1]]), generic(2, 1)
        steps = layers.Embedding(4, 2, name="embedding")(words)
        inputs = words
    else:
        inputs = keras.Input((2, 2))
        x, y = generic(2, 2, 2), generic(2, 1, start=3.0)
        steps = layers.Dense(2, "gelu", bias_initializer="random_normal", name="first")(inputs)
    heads = layers.MultiHeadAttention(1, 2, bias_initializer="random_normal", name="attention")(steps, steps)
    pooled = layers.AveragePooling1D(2)(layers.LayerNormalization()(heads))
    wide = layers.Dense(2, "gelu", bias_initializer="random_normal", name="second")(layers.Flatten()(pooled))
    model = keras.Model(inputs, layers.Dense(1, name="last")(wide))
    model.compile(loss="mse")
    return model, x, y


@pytest.mark.sampled
@pytest.mark.parametrize("rank", [2, 3])
def test_right_laws_in_a_whole_model(rank):
    report = check_gradients(*with_everything(rank), oracles=("twin",))
    assert report.ok, report.explain()
    assert {v.verdict for v in report.verdicts} == {"match", "departure"}
    assert all(v.reason.startswith("gelu-has-float32-constants: ") for v in report.verdicts if v.reason)


LAWS = ("Dense", "MultiHeadAttention", "LayerNormalization", "AveragePooling1D", "Embedding")


@pytest.mark.sampled
@pytest.mark.parametrize("name", LAWS)
def test_a_gelu_excuses_no_wrong_law(name):
    """With a gelu in the model, a law that is 5 % off is a mismatch, also in the layer that ends in the gelu."""
    with scaled(registry.get("layer", name), "forward"):
        report = check_gradients(*with_everything(2 if name == "Embedding" else 3), oracles=("twin",), most=4)
    assert "mismatch" in {v.verdict for v in report.failures}, report


WRONG_GELUS = {
    "doubled": lambda right: lambda x, **more: 2 * right(x, **more),
    "approximated": lambda right: lambda x, **more: right(x, approximate=True),
    "a millionth off": lambda right: lambda x, **more: (1 + 1e-6) * right(x, **more),
    "silu": lambda right: lambda x, **more: registry.get("activation", "silu")(x),
}


@pytest.mark.sampled
@pytest.mark.parametrize("wrong", WRONG_GELUS)
def test_a_wrong_gelu_is_no_departure(wrong, monkeypatch):
    """The law that departs by a rounding is still the definition's: one that is wrong by more is a mismatch."""
    changed = WRONG_GELUS[wrong](smooth.gelu)
    changed.elementwise = True
    monkeypatch.setattr(smooth, "gelu", changed)
    monkeypatch.setitem(registry._RECORDS["activation"], "gelu", changed)
    report = check_gradients(*with_everything(3), oracles=("twin",), most=4)
    assert "mismatch" in {v.verdict for v in report.failures}, report


@pytest.mark.sampled
def test_a_kernel_product_doubled_in_front_of_a_gelu():
    """The law of the very layer that holds the departing activation, wrong inside."""
    right = Dense.forward

    def doubled(self, weights, *inputs):
        return right(self, {**weights, "kernel": 2 * weights["kernel"]}, *inputs)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(Dense, "forward", doubled)
        report = check_gradients(*with_everything(3), oracles=("twin",), most=4)
    assert {v.verdict for v in report.failures} == {"mismatch"}


# A gradient that nobody has, variables that nobody trains -------------------------------------------------------------


def through_argmax(model_input):
    return keras.layers.Lambda(lambda z: keras.ops.cast(keras.ops.argmax(z, -1), z.dtype)[:, None])(model_input)


def test_nothing_trainable_has_a_gradient():
    """Keras's optimizer refuses such a model; so does the check, and it says why each variable has none."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, through_argmax(keras.layers.Dense(4, name="dense")(inputs)))
    model.compile("sgd", "mse")
    report = check_gradients(model, generic(4, 3), generic(4, 1))
    assert not report.ok
    assert {v.verdict for v in report.failures} == {"disconnected"}
    assert {v.reason_code for v in report.failures} == {Reason.NOTHING_TRAINS}
    assert all("ArgMax" in v.reason for v in report.failures)
    assert Reason.NOTHING_TRAINS.sentence in report.explain()
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        model.fit(generic(4, 3), generic(4, 1), verbose=0)


def test_something_trainable_has_a_gradient():
    """One variable with a gradient is enough: the others are named, as they always were."""
    inputs = keras.Input((3,))
    cut = through_argmax(keras.layers.Dense(4, name="cut")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, name="last")(cut))
    model.compile("sgd", "mse")
    report = check_gradients(model, generic(4, 3), generic(4, 1), wrt=("weights",))
    assert report.ok
    assert sum(v.verdict == "disconnected" for v in report.verdicts) == 2


class Polynomial(keras.layers.Layer):
    """c₀ + c₁ x + …, with coefficients that Keras does not know of where `held` says so."""

    def __init__(self, held, **options):
        super().__init__(**options)
        made = [tf.Variable(0.5 - 0.25 * i, name=f"c{i}") for i in range(2)]
        if held == "list":
            self.coefficients = made
        elif held == "dictionary":
            self.coefficients = dict(enumerate(made))
        else:
            self.coefficients = [self.add_weight(shape=(), name=f"c{i}") for i in range(2)]
        self.unused = tf.Variable(1.0, name="unused") if held == "list" else None

    def call(self, x):
        own = self.coefficients.values() if isinstance(self.coefficients, dict) else self.coefficients
        return sum(tf.cast(c, x.dtype) * x**i for i, c in enumerate(own))


@pytest.mark.parametrize("held", ["list", "dictionary", "weights"])
def test_untracked_variables_are_named(held):
    model = keras.Sequential([keras.Input((3,)), Polynomial(held, name="polynomial"), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    report = check_gradients(model, generic(4, 3), generic(4, 1))
    told = [note for note in report.notes if "tf.Variable" in note]
    why = "a tf.Variable is no weight of a layer, so that Keras does not train it"
    read = [f"polynomial/c{i}: {why}, although the loss depends on it. Make it with add_weight." for i in range(2)]
    rest = [f"polynomial/unused: {why}. Make it with add_weight."] if held == "list" else []
    assert report.ok
    assert told == ([] if held == "weights" else [*read, *rest])
