"""The public strategies on a person's own Keras models and layers: weights, inputs, special points."""

import keras
import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from keras_ref import check_gradients, strategies


class Scaled(keras.layers.Layer):
    """A layer of a person's own, without twin."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return keras.ops.abs(x * self.scale)


def own():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, name="dense"),
            keras.layers.BatchNormalization(name="norm"),
            Scaled(name="scaled"),
        ],
        name="own",
    )


OWN = own()
ABC = {
    "a": keras.Input((2,), name="a"),
    "b": keras.Input((None, 2), name="b"),
    "ids": keras.Input((3,), dtype="int32", name="ids"),
}
TREE = keras.Model(
    ABC, [keras.layers.Flatten()(keras.layers.Embedding(5, 2)(ABC["ids"])), ABC["a"], keras.ops.sum(ABC["b"], 1)]
)


@pytest.mark.sampled
@settings(max_examples=3)
@given(st.data())
def test_an_own_model_at_special_points(data):
    """Zeros put every unit on the kink of |x|, and no correct gradient is accused there."""
    weights = data.draw(strategies.weights_of(OWN))
    x = data.draw(strategies.inputs_of(OWN, batch=2))
    assert list(weights) == [v.path for v in OWN.weights] and x.shape == (2, 3)
    OWN.set_weights(list(weights.values()))
    assert check_gradients(OWN, x).ok


@pytest.mark.sampled
def test_every_pattern_comes_up_and_what_is_not_trained_stays():
    kernels = strategies.weights_of(OWN).map(lambda weights: weights["own/dense/kernel"])
    enough = settings(database=None, max_examples=2000)
    for special in (
        lambda k: not k.any(),
        lambda k: k.any() and np.ptp(k) == 0,
        lambda k: np.abs(k).max() > 40,
        lambda k: np.ptp(k, axis=0).max() == 0 < np.ptp(k),
        lambda k: np.array_equal(k * 8, np.round(k * 8)) and np.ptp(k) > 0,
    ):
        assert special(find(kernels, special, settings=enough))
    variances = strategies.weights_of(OWN).map(lambda weights: weights["own/norm/moving_variance"])
    np.testing.assert_array_equal(find(variances, lambda _: True), OWN.get_layer("norm").moving_variance.numpy())


@given(strategies.inputs_of(TREE))
def test_inputs_are_what_the_model_takes(x):
    assert set(x) == {"a", "b", "ids"}
    batch = len(x["a"])
    assert 1 <= batch <= 4 and [x[k].shape for k in ("a", "b", "ids")] == [(batch, 2), (batch, 4, 2), (batch, 3)]
    assert x["ids"].dtype == "int32" and x["ids"].min() >= 0 and x["ids"].max() < 5
    assert len(TREE(x)) == 3


class Pair(keras.layers.Layer):
    def build(self, a_shape, b_shape):
        self.kernel = self.add_weight(shape=(a_shape[-1], b_shape[-1]), name="kernel")

    def call(self, a, b):
        return (a @ self.kernel) * b


@pytest.mark.parametrize(
    ("layer", "shapes", "call"),
    [
        (Scaled(), [(3,)], lambda layer, x: layer(x)),
        (Pair(), [(3,), (2,)], lambda layer, x: layer(*x)),
        (keras.layers.Embedding(5, 2), [(3,)], lambda layer, x: layer(x)),
    ],
    ids=["one", "two", "indices"],
)
def test_layers_that_were_built(layer, shapes, call):
    call(layer, [np.zeros((4, *s)) for s in shapes] if len(shapes) > 1 else np.zeros((4, *shapes[0])))
    x = find(strategies.inputs_of(layer, batch=2), lambda _: True)
    assert [leaf.shape for leaf in keras.tree.flatten(x)] == [(2, *s) for s in shapes]
    call(layer, x)
    weights = find(strategies.weights_of(layer), lambda _: True)
    assert [(name, w.shape) for name, w in weights.items()] == [(v.path, tuple(v.shape)) for v in layer.weights]


def test_what_is_not_built_is_refused():
    for strategy in (strategies.weights_of, strategies.inputs_of):
        with pytest.raises(ValueError) as caught:
            find(strategy(Scaled(name="raw")), lambda _: True)
        assert str(caught.value) == (
            "A model or layer must be built for its weights or inputs to be drawn. Received: 'raw', unbuilt. Call "
            "it once on data."
        )
