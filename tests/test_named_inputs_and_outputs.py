"""What is given by the names of inputs or outputs belongs to these, whatever the order of the names is."""

import itertools

import keras
import numpy as np
import pytest

from keras_ref import check_gradients, check_updates
from keras_ref.evaluation.keras_objects.keras_parts import list_by_output
from keras_ref.inputs.data import draw_targets
from keras_ref.lesson.lesson_model import load_target_model

X = np.random.default_rng(0).normal(size=(4, 3))
#: {output: (its loss, the weight of that, its targets, its sample weights)}
OUTPUTS = {
    "zeta": ("mae", 2.0, np.ones((4, 1)), np.arange(1.0, 5.0)),
    "alpha": ("sparse_categorical_crossentropy", 0.5, np.array([0, 4, 2, 1]), np.full(4, 0.25)),
    "mu": ("mse", 1.5, np.zeros((4, 2)), np.array([2.0, 0.0, 1.0, 1.0])),
}
WIDTHS = {"zeta": 1, "alpha": 5, "mu": 2}


def build(names, *, by_name):
    keras.utils.set_random_seed(0)
    x = keras.Input((3,))
    shared = keras.layers.Dense(3, "tanh", name="shared")(x)
    made = {
        name: keras.layers.Dense(WIDTHS[name], "softmax" if name == "alpha" else None, name=name)(shared)
        for name in names
    }
    return keras.Model(x, made if by_name else list(made.values()))


def of(names, place, *, form):
    """One of the parts of OUTPUTS, as a mapping in another order than that of the outputs, or in their order."""
    found = {name: OUTPUTS[name][place] for name in names}
    return dict(reversed(found.items())) if form is dict else list(found.values())


@pytest.mark.sampled
@pytest.mark.parametrize("by_name", [False, True], ids=["a list of outputs", "outputs by name"])
@pytest.mark.parametrize("names", list(itertools.permutations(OUTPUTS)), ids=" ".join)
def test_losses_and_targets(names, by_name):
    """Both oracles agree with autodiff: the twin has each loss where Keras has it."""
    model = build(names, by_name=by_name)
    model.compile("sgd", of(names, 0, form=dict), loss_weights=of(names, 1, form=dict))
    y = of(names, 2, form=dict)
    report = check_gradients(model, X, y, wrt=("weights",))
    assert report.ok, report.explain()
    assert {v.oracle for v in report.verdicts} == {"forward", "twin"}


@pytest.mark.parametrize(
    ("form", "weights"),
    [(list, of(OUTPUTS, 3, form=list)), (dict, OUTPUTS["zeta"][3]), (list, OUTPUTS["mu"][3])],
    ids=["weights of each", "targets by name, weights of all", "weights of all"],
)
def test_sample_weights(form, weights):
    """Sample weights of each output, or one for all of them."""
    model = build(OUTPUTS, by_name=False)
    model.compile("sgd", of(OUTPUTS, 0, form=form), loss_weights=of(OUTPUTS, 1, form=form))
    report = check_gradients(model, X, of(OUTPUTS, 2, form=form), sample_weight=weights, wrt=("weights",))
    assert report.ok, report.explain()
    assert {v.oracle for v in report.verdicts} == {"forward", "twin"}


@pytest.mark.parametrize(
    "weights", [None, {"zeta": 2.0, "mu": 3.0}, [3.0, 2.0]], ids=["no weights", "by name", "in order"]
)
def test_an_output_without_a_loss(weights):
    model = build(OUTPUTS, by_name=True)
    model.compile("sgd", {"zeta": "mae", "mu": "mse"}, loss_weights=weights)
    report = check_gradients(model, X, of(OUTPUTS, 2, form=dict), wrt=("weights",))
    assert report.ok, report.explain()
    assert "twin" in {v.oracle for v in report.verdicts}


def test_weights_by_name_beside_a_list_of_losses():
    """Keras takes them sorted by name, whatever the names of the outputs: the twin computes what Keras computes."""
    model = build(OUTPUTS, by_name=False)
    model.compile("sgd", of(OUTPUTS, 0, form=list), loss_weights=of(OUTPUTS, 1, form=dict))
    report = check_gradients(model, X, of(OUTPUTS, 2, form=list), wrt=("weights",))
    assert report.ok, report.explain()
    assert "twin" in {v.oracle for v in report.verdicts}
    assert (
        "Keras gives loss weights by name to the losses in a list in the order of their sorted names: 'zeta' has 0.5 "
        "in place of 2.0, 'alpha' has 1.5 in place of 0.5, 'mu' has 2.0 in place of 1.5. Pass the losses by name, too."
    ) in report.notes


def test_weights_by_name_in_the_order_of_their_names():
    """They are those of the outputs, and nothing is noted."""
    names = sorted(OUTPUTS)
    model = build(names, by_name=False)
    model.compile("sgd", of(names, 0, form=list), loss_weights=of(names, 1, form=dict))
    report = check_gradients(model, X, of(names, 2, form=list), wrt=("weights",))
    assert report.ok and not any("loss weights" in note for note in report.notes), report.explain()


def test_updates():
    model = build(OUTPUTS, by_name=False)
    model.compile("sgd", of(OUTPUTS, 0, form=dict), loss_weights=of(OUTPUTS, 1, form=dict))
    report = check_updates(model, X, of(OUTPUTS, 2, form=dict), steps=1)
    assert report.ok, report.explain()


def test_drawn_targets():
    """Targets are drawn as the loss of their output asks: classes for the sparse one."""
    model = build(OUTPUTS, by_name=False)
    model.compile("sgd", of(OUTPUTS, 0, form=dict))
    drawn = dict(zip(OUTPUTS, draw_targets(model, model.outputs and model(X)), strict=True))
    assert {name: target.dtype.kind for name, target in drawn.items()} == {"zeta": "f", "alpha": "i", "mu": "f"}


def test_what_is_left_out():
    model = build(OUTPUTS, by_name=False)
    assert list_by_output(model, {"mu": 1, "zeta": 2}, 3) == (2, None, 1)
    assert list_by_output(model, "mse", 3) == ("mse",) * 3
    assert list_by_output(model, [1, 2, 3], 3) == (1, 2, 3)
    assert list_by_output(model, {"b": 2, "a": 1, "c": 3}, 3) == (1, 2, 3)  # of names that the model does not know


INPUTS = {"zeta": X, "alpha": np.random.default_rng(1).normal(size=(4, 2))}


def build_of_two(*, by_name=False):
    keras.utils.set_random_seed(0)
    inputs = {name: keras.Input(x.shape[1:], name=name) for name, x in INPUTS.items()}
    ends = [
        keras.layers.Dense(2, activation)(one) for one, activation in zip(inputs.values(), ("tanh", None), strict=True)
    ]
    output = keras.layers.Dense(1, name="output")(keras.layers.concatenate(ends))
    model = keras.Model(inputs if by_name else list(inputs.values()), {"zeta": output, "alpha": ends[0]})
    model.compile("sgd", {"zeta": "mse", "alpha": "mae"})
    return model


TARGETS = {"alpha": np.zeros((4, 2)), "zeta": np.ones((4, 1))}


@pytest.mark.parametrize(
    ("by_name", "x"),
    [(False, INPUTS), (True, INPUTS), (False, dict(reversed(INPUTS.items()))), (False, list(INPUTS.values()))],
    ids=["by name", "by name for inputs by name", "in another order", "in order"],
)
def test_inputs(by_name, x):
    report = check_gradients(build_of_two(by_name=by_name), x, TARGETS)
    assert report.ok, report.explain()
    assert "twin" in {v.oracle for v in report.verdicts if v.name.startswith("input")}


def test_lesson(monkeypatch):
    """A lesson computes Keras's loss of data by name."""
    model = build_of_two()
    monkeypatch.setattr(
        "keras_ref.lesson.lesson_model.load_target",
        lambda target: (model, INPUTS, dict(reversed(TARGETS.items())), None),
    )
    lesson = load_target_model("module:factory")
    expected = model.evaluate(INPUTS, TARGETS, verbose=0, return_dict=True)["loss"]
    # Keras computes it in float32, to some eight units; targets at other outputs change the first digit
    np.testing.assert_allclose(lesson.evaluate_loss(lesson.weights), expected, rtol=1e-6)
