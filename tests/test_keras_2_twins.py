"""The twins of layers, losses and models of Keras 2 (tf_keras): Keras 3 has the law where the table says so."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_gradients, check_layer
from keras_ref.reports.verdict import Kind
from keras_ref.translation.keras_2_models import SAME_LAYERS, SAME_LOSSES

tf_keras = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")
layers = tf_keras.layers

RANDOM = np.random.default_rng(0)
ROWS, SEQUENCES, IMAGES, VOLUMES, MOVIES = (
    RANDOM.normal(size=shape) for shape in ((3, 4), (2, 5, 4), (2, 6, 6, 4), (2, 4, 4, 4, 2), (2, 3, 4, 4, 2))
)
IDS = RANDOM.integers(0, 5, (2, 3))
BY_RANK = ((1, SEQUENCES), (2, IMAGES), (3, VOLUMES))

#: (layer, inputs): every class of the table; those that are in the default run
FEW = [
    (layers.BatchNormalization(), ROWS),
    (layers.Dense(3, "gelu", kernel_regularizer="l2", kernel_constraint="max_norm"), ROWS),
    (layers.Embedding(5, 3), IDS),
    (layers.ReLU(max_value=1.0, negative_slope=0.125, threshold=0.25), ROWS),
    (layers.Bidirectional(layers.LSTM(2)), SEQUENCES),
    (layers.DepthwiseConv2D(2, depth_multiplier=2), IMAGES),
    (layers.Concatenate(), [ROWS, ROWS + 1]),
]
MOST = [
    (layers.Activation("swish"), ROWS),
    (layers.ELU(0.5), ROWS),
    (layers.LeakyReLU(0.25), ROWS),
    (layers.PReLU(), ROWS),
    (layers.Rescaling(2.0, 0.5), ROWS),
    (layers.Softmax(), ROWS),
    (layers.UnitNormalization(), ROWS),
    (layers.RepeatVector(2), ROWS),
    (layers.Reshape((2, 2)), ROWS),
    (layers.Dropout(0.5), ROWS),
    (layers.GaussianDropout(0.5), ROWS),
    (layers.GaussianNoise(0.5), ROWS),
    *((getattr(layers, name)(), [ROWS, ROWS + 1]) for name in ("Add", "Average", "Maximum", "Minimum", "Multiply")),
    (layers.Subtract(), [ROWS, ROWS + 1]),
    (layers.Dot(1), [ROWS, ROWS + 1]),
    (layers.LayerNormalization(), SEQUENCES),
    (layers.Masking(), SEQUENCES),
    (layers.Permute((2, 1)), SEQUENCES),
    (layers.Attention(use_scale=True), [SEQUENCES, SEQUENCES + 1]),
    (layers.AdditiveAttention(), [SEQUENCES, SEQUENCES + 1]),
    (layers.TimeDistributed(layers.Dense(2)), SEQUENCES),
    (layers.TimeDistributed(layers.BatchNormalization()), SEQUENCES),
    (layers.GRU(3), SEQUENCES),
    (layers.GRU(3, reset_after=False), SEQUENCES),
    (layers.LSTM(3, return_sequences=True, return_state=True), SEQUENCES),
    (layers.SimpleRNN(3, go_backwards=True), SEQUENCES),
    (layers.RNN(layers.StackedRNNCells([layers.LSTMCell(2), layers.GRUCell(2)])), SEQUENCES),
    (layers.RNN(layers.SimpleRNNCell(2)), SEQUENCES),
    (layers.ConvLSTM2D(2, 2, recurrent_activation="sigmoid"), MOVIES),
    (layers.DepthwiseConv1D(2), SEQUENCES),
    (layers.SeparableConv1D(2, 2), SEQUENCES),
    (layers.SeparableConv2D(2, 2, activation="relu"), IMAGES),
    (layers.GroupNormalization(2), IMAGES),
    (layers.Flatten(), IMAGES),
    (layers.UpSampling2D(2, interpolation="bilinear"), IMAGES),
    (layers.Conv1D(2, 2, padding="causal"), SEQUENCES),
    (layers.Conv2D(2, 3, strides=2, padding="same"), IMAGES),
    (layers.Conv3D(2, 2), VOLUMES),
    (layers.Conv1DTranspose(2, 2), SEQUENCES),
    (layers.Conv2DTranspose(2, 3, strides=2, output_padding=1), IMAGES),
    (layers.Conv3DTranspose(2, 2), VOLUMES),
    *(
        (getattr(layers, f"{kind}Pooling{n}D")(), x)
        for n, x in BY_RANK
        for kind in ("Average", "GlobalAverage", "GlobalMax", "Max")
    ),
    *((getattr(layers, f"{kind}{n}D")(1), x) for n, x in BY_RANK for kind in ("Cropping", "UpSampling", "ZeroPadding")),
    *((getattr(layers, f"SpatialDropout{n}D")(0.5), x) for n, x in BY_RANK),
]


def name_of(case):
    return type(case).__name__ if isinstance(case, layers.Layer) else ""


def twins_in(report):
    return [v for v in report.verdicts if v.oracle == "twin"]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("layer", "inputs"), [*FEW, *(pytest.param(*one, marks=pytest.mark.slow) for one in MOST)], ids=name_of
)
def test_layers(layer, inputs):
    report = check_layer(layer, inputs)
    assert report.ok and twins_in(report), report.explain()


@pytest.mark.sampled
def test_attention_of_several_heads():
    report = check_layer(layers.MultiHeadAttention(2, 2), SEQUENCES, SEQUENCES + 1)
    assert report.ok and len(twins_in(report)) == 10, report.explain()


def test_every_class_of_the_table_is_tried():
    inside = {"GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells", "MultiHeadAttention"}
    assert {type(layer).__name__ for layer, _ in (*FEW, *MOST)} | inside == SAME_LAYERS


# Losses ---------------------------------------------------------------------------------------------------------------

SHARES = np.abs(ROWS) / np.abs(ROWS).sum(1, keepdims=True)
#: {loss: (targets, activation)} where not any number will do
TARGETS = {
    "BinaryCrossentropy": (np.eye(4)[[0, 2, 1]], "sigmoid"),
    "CategoricalCrossentropy": (np.eye(4)[[0, 2, 1]], "softmax"),
    "CategoricalHinge": (np.eye(4)[[0, 2, 1]], None),
    "Hinge": (np.sign(ROWS), None),
    "KLDivergence": (SHARES[::-1].copy(), "softmax"),
    "MeanSquaredLogarithmicError": (SHARES, "softplus"),
    "Poisson": (SHARES, "exponential"),
    "SparseCategoricalCrossentropy": (np.array([0, 2, 1]), "softmax"),
    "SquaredHinge": (np.sign(ROWS), None),
}


def network(*, activation=None, loss="mse"):
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential(
        [tf_keras.Input((4,)), layers.Dense(4, activation, kernel_regularizer="l1", name="block/dense")]
    )
    model.compile("sgd", loss)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, np.array([0.5, 1.0, 2.0])], ids=["", "weighted"])
@pytest.mark.parametrize("name", sorted(SAME_LOSSES))
def test_losses(name, weights):
    y, activation = TARGETS.get(name, (np.abs(ROWS) + 0.125, None))
    for loss in (getattr(tf_keras.losses, name)(), getattr(tf_keras.losses, name)().fn):
        report = check_gradients(network(activation=activation, loss=loss), ROWS, y, sample_weight=weights)
        assert report.ok and twins_in(report), report.explain()


@pytest.mark.sampled
def test_a_loss_that_is_given_counts_as_a_compiled_one():
    """By a name, with the penalty and the weights of the samples: they were left out where a loss was given."""
    weights = np.array([0.5, 1.0, 2.0])
    report = check_gradients(network(loss="mae"), ROWS, ROWS + 1, loss="mse", sample_weight=weights)
    compiled = check_gradients(network(), ROWS, ROWS + 1, sample_weight=weights)
    assert report.ok and twins_in(report), report.explain()
    assert [v.numeric for v in report.verdicts] == [v.numeric for v in compiled.verdicts]


# Models ---------------------------------------------------------------------------------------------------------------


def graph():
    """Two inputs and outputs, a shared layer, a nested model, a frozen layer."""
    a, b = tf_keras.Input((4,), name="a"), tf_keras.Input((4,), name="b")
    shared = layers.Dense(3, "tanh", name="shared")
    inner = tf_keras.Sequential([tf_keras.Input((3,)), layers.Dense(2, name="inside")], name="inner")
    frozen = layers.Dense(1, name="frozen", trainable=False)
    h = layers.Concatenate()([shared(a), shared(b)])
    model = tf_keras.Model([a, b], [inner(shared(a)), frozen(h)])
    model.compile("sgd", ["mse", "mae"], loss_weights=[0.25, 3.0])
    return model


@pytest.mark.sampled
def test_graphs():
    y = [RANDOM.normal(size=(3, n)) for n in (2, 1)]
    report = check_gradients(graph(), [ROWS, ROWS + 1], y)
    assert report.ok and len(twins_in(report)) == 6, report.explain()


@pytest.mark.sampled
def test_a_law_that_is_another_is_seen_by_the_twin_alone(monkeypatch):
    """Autodiff follows the forward pass, which is not the definition."""
    own = layers.Dense.call
    monkeypatch.setattr(layers.Dense, "call", lambda self, x: own(self, x) * (1 + 1e-6))
    report = check_gradients(network(), ROWS, ROWS + 1)
    assert {v.oracle for v in report.failures} == {"twin"}
    assert {v.verdict for v in report.verdicts if v.oracle == "forward"} == {Kind.MATCH}


def shifted(x):
    return tf.tanh(x) + 1e-3


shifted.__name__ = "tanh"


class Dense(layers.Dense):
    """A layer of somebody's own, under the name of Keras's."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: layers.Dense(2, shifted), "An activation of Keras 2 must have the law"),
        (lambda: layers.Dense(2, "hard_sigmoid"), "Received: hard_sigmoid"),
        (lambda: Dense(2), "A layer of Keras 2 must have the law"),
        (lambda: layers.Dense(2, activity_regularizer="l2"), "must have activity_regularizer=None"),
        (lambda: layers.Dense(2, kernel_regularizer=lambda w: tf.reduce_sum(w**4)), "must be one of Keras's"),
        (lambda: layers.TimeDistributed(Dense(2)), "A layer of Keras 2 must have the law"),
        (lambda: layers.Lambda(lambda x: x * 2), "Received: Lambda"),
    ],
)
def test_what_is_no_law_of_keras_3_has_no_twin(make, words):
    layer = make()
    report = check_layer(layer, SEQUENCES)
    assert report.ok and not twins_in(report)
    assert any(words in note for note in report.notes), report.notes


def test_random_layers_have_no_twin_in_training():
    report = check_layer(layers.Dropout(0.5), ROWS, training=True)
    assert report.ok and any("must draw as Keras 3 does" in note for note in report.notes), report.notes


@pytest.mark.sampled
def test_keras_3_is_left_as_it_was():
    before = keras.config.floatx(), keras.config.dtype_policy().name
    check_gradients(graph(), [ROWS, ROWS + 1], [ROWS[:, :2], ROWS[:, :1]])
    assert (keras.config.floatx(), keras.config.dtype_policy().name) == before


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        ({"zeta": "mae", "alpha": "mse"}, {"alpha": 2.0, "zeta": 3.0}),
        (["mae", "mse"], {"alpha": 2.0, "zeta": 3.0}),
        ({"alpha": "mse"}, [3.0, 2.0]),
    ],
    ids=["both by name", "weights by name", "one loss by name"],
)
def test_losses_and_weights_by_name(loss, weights):
    """Keras 2 gives each output the loss and the weight of its name, whatever form the other has."""
    a, b = tf_keras.Input((3,), name="second"), tf_keras.Input((2,), name="first")
    joined = layers.Concatenate()([layers.Dense(2, "tanh")(a), layers.Dense(2)(b)])
    model = tf_keras.Model([a, b], [layers.Dense(1, name="zeta")(joined), layers.Dense(2, name="alpha")(joined)])
    model.compile("sgd", loss, loss_weights=weights)
    rng = np.random.default_rng(0)
    x = {"first": rng.normal(size=(4, 2)), "second": rng.normal(size=(4, 3))}
    report = check_gradients(model, x, {"alpha": np.zeros((4, 2)), "zeta": np.ones((4, 1))}, wrt=("weights",))
    assert report.ok, report.explain()
    assert "twin" in {v.oracle for v in report.verdicts}
