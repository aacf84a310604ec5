"""What a Keras object says of itself in more than one way, its twin takes in all of them."""

import keras
import numpy as np
import pytest
from replaying_layers import called, compared

from keras_ref.translation.from_keras import NoTwin, reflect, reflect_object

X = np.array([[[0.5, -1.25], [2.0, 0.375], [-0.875, 0.125]], [[1.5, 0.25], [-0.5, 1.0], [0.75, -2.0]]])
# Keras rounds 1/√key_dim to float32 (the departure multi-head-attention-scale-is-float32), relatively by half an eps:
# so do scores s change, and what softmax makes of them by up to 2 |s| times that; scores here are below 8
FLOAT32_SCALE = 2 * 8 * np.finfo(np.float32).eps / 2
MASK = np.array([[True, False, True], [True, True, False]])


def drawn(model):
    """The model with weights that are not zero."""
    generator = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape))
    return model


@pytest.mark.parametrize("name", ["value_mask", "key_mask", "attention_mask"])
def test_explicit_masks(name):
    """A mask that a call names for one input is that input's mask, also where no key is passed."""
    shape = (3, 3) if name == "attention_mask" else (3,)
    query, mask = keras.Input((3, 2), dtype="float64"), keras.Input(shape, dtype="bool")
    layer = keras.layers.MultiHeadAttention(2, 2, dtype="float64")
    model = drawn(keras.Model([query, mask], layer(query, query, **{name: mask})))
    twin, weights = reflect(model)
    given = MASK if name != "attention_mask" else np.tril(np.ones((2, 3, 3), bool))
    y = twin.forward(weights, [X, given])
    np.testing.assert_allclose(y, model([X, given]), rtol=FLOAT32_SCALE)
    assert np.abs(y - twin.forward(weights, [X, np.ones_like(given)])).max() > 1e-3


def test_an_explicit_mask_beside_one_that_travels():
    """The call names the values' mask; the queries' comes along with them."""
    query, value, mask = (
        keras.Input((3, 2), dtype="float64"),
        keras.Input((3, 2), dtype="float64"),
        keras.Input((3,), dtype="bool"),
    )
    masked = keras.layers.Masking(dtype="float64")(query)
    layer = keras.layers.GroupQueryAttention(2, 2, 1, dropout=0.5, dtype="float64")
    model = drawn(keras.Model([query, value, mask], layer(masked, value, value_mask=mask)))
    twin, weights = reflect(model)
    x = X * np.array([1.0, 0.0, 1.0])[:, None]
    np.testing.assert_allclose(twin.forward(weights, [x, X, MASK]), model([x, X, MASK]), rtol=FLOAT32_SCALE)


@pytest.mark.parametrize("name", ["MaxPooling1D", "AveragePooling1D"])
def test_padding_in_capitals(name):
    """keras.io: "valid" or "same", case-insensitive."""
    assert reflect_object(getattr(keras.layers, name)(2, padding="SAME"), "layer").padding == "same"


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.Rescaling([0.1, 0.2], offset=0.5),
        lambda: keras.layers.Resizing(5, 4, "lanczos3"),
        lambda: keras.layers.Resizing(3, 2, antialias=True),
        lambda: keras.layers.CenterCrop(5, 4),
        keras.layers.AutoContrast,
        lambda: keras.layers.LeakyReLU(0.25),
        lambda: keras.layers.ReLU(negative_slope=0.25),
    ],
    ids=["Rescaling", "Resizing-lanczos3", "Resizing-antialias", "CenterCrop", "AutoContrast", "LeakyReLU", "ReLU"],
)
def test_integers(layer, dtype):
    """Whole numbers are not cut: where Keras computes in floats so does the twin, and where it rounds it does too."""
    x = np.array([[8, 3, 200, 77], [16, 5, 41, 99], [0, 120, 250, 2]]).reshape(1, 3, 2, 2).astype(dtype)
    if dtype == "uint8" and isinstance(layer(), (keras.layers.LeakyReLU, keras.layers.ReLU)):
        x = x.astype("int8")
    compared(called(layer(), x, {}))


def test_scales_along_channels_first():
    """Where Keras puts the channels of images first, a row of scales lies along them."""
    x = np.arange(12.0).reshape(1, 2, 3, 2)
    keras.config.set_image_data_format("channels_first")
    try:
        layer = keras.layers.Rescaling([0.5, 2.0], dtype="float64")
        np.testing.assert_allclose(reflect_object(layer, "layer").forward({}, x), layer(x))
    finally:
        keras.config.set_image_data_format("channels_last")


def test_functions_as_losses():
    """loss="mse" is MeanSquaredError; a function of the user's own has no twin."""
    wrapper = keras.src.losses.losses.LossFunctionWrapper
    assert type(reflect_object(wrapper(keras.losses.get("mse")), "loss")).__name__ == "MeanSquaredError"
    assert reflect_object(wrapper(keras.losses.huber, delta=2.0), "loss").delta == 2.0

    def mine(y_true, y_pred):
        return y_pred

    with pytest.raises(NoTwin) as refused:
        reflect_object(wrapper(mine), "loss")
    assert (
        str(refused.value)
        == f"A loss function must be one of keras.losses to have a twin. Received: {mine!r}. Use a loss object."
    )
