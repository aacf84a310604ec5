"""Random architectures of registered parts: both oracles agree with autodiff, in float32 and float64; updates too."""

import keras
import numpy as np
import pytest
from hypothesis import assume, given, note
from hypothesis import strategies as st
from support_built import wrong_only_at_known_points

from keras_ref import check_gradients, check_updates
from keras_ref import strategies as gt
from keras_ref.frontends.command_line.gallery import exhibits
from keras_ref.translation.from_keras import reflect
from keras_ref.translation.to_keras import mirror, mirror_object

PARTS = ("Dense", "Activation", "Flatten")
LOSSES = ("MeanSquaredError", "BinaryCrossentropy", "CategoricalCrossentropy")


@st.composite
def networks(draw):
    """A chain, weights and data at any of the special points, and a loss that fits its end."""
    model = draw(gt.models(PARTS))
    weights, x = draw(gt.weights_of(model)), draw(gt.inputs_of(model))["input"]
    y = draw(gt.samples((len(x), *model.shapes[model.outputs[0]][1:]), gt.domains.Probability()))
    return model, weights, x, y


@given(networks())
def test_forward_and_reflection(case):
    """mirror gives Keras's values, and reflect gives the model back."""
    model, weights, x, _ = case
    built = mirror(model, weights)
    theirs, ours = np.asarray(built(x)), model.forward(weights, x)
    again, same = reflect(built)
    np.testing.assert_array_equal(again.forward(same, x), ours)
    largest = np.max(np.abs(ours), initial=np.max([np.max(np.abs(w), initial=0) for w in weights.values()]))
    # a chain of sums of at most 4 products: a few units in the last place of its largest term, precision departures
    # aside
    departing = gt.departures_of(model)
    assert departing or (np.abs(theirs - ours) <= 256 * np.finfo(float).eps * max(largest, 1) ** 2).all()


@pytest.mark.sampled
@given(networks(), st.integers(0, 9))
def test_gradients_by_both_oracles(case, seed):
    """Weights and inputs, under random cotangents; the float32 model is checked through float64."""
    model, weights, x, _ = case
    note(f"replay: check_gradients({model}, x, weights=…, seed={seed})")
    for dtype in ("float64", "float32"):
        built = mirror(model, {n: w.astype(dtype) for n, w in weights.items()}, dtype=dtype)
        before = [v.numpy() for v in built.variables]
        report = check_gradients(built, x.astype(dtype), seed=seed)
        assert report.ok, report.explain()
        assert {v.oracle for v in report.verdicts} == {"forward", "twin"}
        for variable, value in zip(built.variables, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.sampled
@pytest.mark.parametrize("loss", LOSSES)
@given(data=st.data())
def test_losses_of_models(loss, data):
    """Loss of a model and its gradients, from probabilities, from logits, and through the shortcut of a last
    activation.
    """
    # one class is no choice: Keras warns of it, and a warning is an error here
    least = 2 if loss == "CategoricalCrossentropy" else 1
    model, weights, x, y = data.draw(networks().filter(lambda case: case[3].shape[-1] >= least))
    if loss == "CategoricalCrossentropy":  # the classes share one: crossentropy-of-logits-assumes-one-hot
        y = y / y.sum(axis=-1, keepdims=True)
    y = np.round(y) if loss == "BinaryCrossentropy" else y
    fixed = {"reduction": "sum_over_batch_size"} | ({} if loss == "MeanSquaredError" else {"axis": -1})
    spec = data.draw(gt.specifications("loss", loss, **fixed))
    with np.errstate(all="ignore"):
        # outputs of a Dense are no probabilities: those that sum to 0 have no share of it, and no crossentropy
        assume(np.isfinite(spec(y, model.forward(weights, x))))
    report = check_gradients(model, x, y, weights=weights, loss=spec)
    assert report.ok or wrong_only_at_known_points(report, model.layers.values()), report.explain()


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@given(data=st.data())
def test_updates_of_models(optimizer, data):
    """Weights after one and several of Keras's own steps."""
    model, weights, x, y = data.draw(networks())
    spec = data.draw(gt.specifications("optimizer", optimizer, learning_rate=0.125))
    steps = data.draw(st.integers(1, 3))
    note(f"replay: check_updates({model}, x, y, optimizer={spec}, steps={steps})")
    report = check_updates(model, x, y, weights=weights, optimizer=mirror_object(spec), loss="mse", steps=steps)
    assert report.ok, report.explain()


@pytest.mark.sampled
def test_the_gallery():
    for exhibit in exhibits():
        assert check_gradients(exhibit.model, exhibit.x, exhibit.y, loss=exhibit.loss, weights=exhibit.weights).ok
        assert check_updates(
            exhibit.model, exhibit.x, exhibit.y, loss=exhibit.loss, weights=exhibit.weights, optimizer=exhibit.optimizer
        ).ok


@pytest.mark.sampled
def test_modes_agree():
    """Eager, graph and compiled gradients are compared with each other."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
    model.compile(loss="mse")
    x, y = np.arange(6.0).reshape(2, 3), np.ones((2, 2))
    report = check_gradients(model, x, y, modes=("eager", "function", "jit_compile"))
    assert report.ok, report.explain()
    assert {v.oracle for v in report.verdicts} == {"forward", "twin", "function", "jit_compile"}
