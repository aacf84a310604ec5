"""Operations that compute in float32 whatever dtype they take and give: what they round is known, and said."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support_coarse import as_tensor, is_coarse, moves

from keras_ref.campaign.points import draw_generic_arguments
from keras_ref.campaign.subjects import NotCalled, find_subject, list_names
from keras_ref.checks.gradients import check_gradients
from keras_ref.checks.layers_and_functions import check_function, check_layer
from keras_ref.evaluation.graphs.graph import find_casts_down, is_cast_down, lower_dtype, walk_operations
from keras_ref.evaluation.graphs.operation_rounding import IN_FLOAT32
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason

DRAW = np.random.default_rng(0).normal
LABELS = np.array([[1, 2, 3], [2, 1, 1]])
SCORES = DRAW(size=(6, 2, 5))
IMAGES = DRAW(size=(2, 4, 4, 1))
TURNED = np.array([[0.9, 0.1, 0.2, -0.1, 1.1, 0.3, 0.0, 0.0]] * 2, np.float32)


def ctc(scores):
    sparse = tf.sparse.from_dense(LABELS.astype(np.int32))
    return tf.compat.v1.nn.ctc_loss(inputs=scores, labels=sparse, sequence_length=[6, 6])


def turned(operation, images, **options):
    shape, fill = [4, 4], "CONSTANT"
    return operation(
        images=images, transforms=TURNED, output_shape=shape, interpolation="BILINEAR", fill_mode=fill, **options
    )


EXAMPLES = {
    "CTCLoss": (ctc, SCORES),
    "ImageProjectiveTransformV2": (lambda x: turned(tf.raw_ops.ImageProjectiveTransformV2, x), IMAGES),
    "ImageProjectiveTransformV3": (lambda x: turned(tf.raw_ops.ImageProjectiveTransformV3, x, fill_value=0.0), IMAGES),
}


def test_each_has_an_example():
    assert set(EXAMPLES) == set(IN_FLOAT32)


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_stands_still_where_float64_moves(name):
    function, x = EXAMPLES[name]
    assert name in {o.type for o in walk_operations(traced(function, [x]))}
    if not is_coarse(function, [x]):
        pytest.skip(f"{name} computes in float64 in TensorFlow {tf.__version__}: it may leave IN_FLOAT32")


@pytest.mark.slow
def test_no_operation_of_the_campaign_does_without_being_listed():
    """Those that cast, or give float32, say it by their dtypes."""
    found, tried = [], 0
    for name in list_names():
        subject = find_subject(name, lambda kinds: draw_generic_arguments(kinds, 0))
        if isinstance(subject, NotCalled) or "irfft2d" in name or "random" in name:  # the first ends the process
            continue
        arguments = draw_generic_arguments(subject.arguments, 0)

        def function(*tensors, subject=subject):
            return subject.function(*tensors, **dict(subject.options))

        if moves(function, arguments) is None:  # no floats, or none that move
            continue
        tried += 1
        if is_coarse(function, arguments) and not find_casts_down(traced(function, arguments)):
            found.append(name)
    assert tried > 400 and not found


def traced(function, arguments):
    def call():
        return function(*map(as_tensor, arguments))

    return tf.function(call, autograph=False).get_concrete_function().graph


@pytest.mark.parametrize(
    ("function", "x", "casts"),
    [
        (lambda x: tf.image.resize(x, [6, 6]), IMAGES, {"ResizeBilinear"}),
        (lambda x: tf.image.crop_and_resize(x, [[0.1, 0.2, 0.8, 0.9]], [0], [3, 3]), IMAGES, {"CropAndResize"}),
        (ctc, SCORES, {"CTCLoss"}),
        (lambda x: tf.cast(x, tf.float32), IMAGES, {"Cast"}),
        (tf.function(lambda a: (a, tf.constant(1.0))), IMAGES, set()),
        (lambda x: tf.identity_n([x, tf.constant(1.0)]), IMAGES, set()),
        (lambda x: tf.where(x > 0, x, 2 * x), IMAGES, set()),
    ],
)
def test_what_casts(function, x, casts):
    graph = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec(x.shape, tf.float64)).graph
    found = [o for o in walk_operations(graph) if is_cast_down(o)]
    assert {o.type for o in found} == casts and {lower_dtype(o) for o in found} <= {tf.float32}


@tf.custom_gradient
def scaled_backwards(x):
    return tf.identity(x), lambda dy: 1.01 * dy


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(4))
def test_ctc(seed):
    """The loss as optical character recognition has it: softmax, logarithm, TensorFlow's own kernel."""
    scores = np.random.default_rng(seed).normal(size=(6, 2, 5))

    def loss(x):
        return ctc(tf.math.log(tf.nn.softmax(x) + 1e-7))

    right = check_function(loss, scores)
    assert right.ok, right.explain()
    assert "float32 inside" in " ".join(right.notes)
    wrong = check_function(lambda x: loss(scaled_backwards(x)), scores)
    assert not wrong.ok


class Endpoint(keras.layers.Layer):
    """The loss of a batch is added where the labels are an input."""

    def call(self, labels, scores):
        scores = keras.ops.log(keras.ops.transpose(scores, (1, 0, 2)) + 1e-7)
        sparse = tf.sparse.from_dense(tf.cast(labels, tf.int32))
        self.add_loss(tf.compat.v1.nn.ctc_loss(inputs=scores, labels=sparse, sequence_length=[6, 6]))
        return scores


@pytest.mark.sampled
def test_a_model_that_reads_characters():
    images, labels = keras.Input((6, 3)), keras.Input((3,))
    scores = keras.layers.Dense(5, "softmax")(keras.layers.SimpleRNN(3, return_sequences=True)(images))
    model = keras.Model([images, labels], Endpoint()(labels, scores))
    model.compile(optimizer="adam")
    report = check_gradients(model, [DRAW(size=(2, 6, 3)), LABELS.astype(float)], most=4)
    assert report.ok, report.explain()


# What runs in float64, and its backward pass does not -----------------------------------------------------------------


@tf.custom_gradient
def backwards_in_float32(x):
    def gradient(dy):
        return dy * tf.ones_like(x, tf.float32)  # raises where dy is float64

    return tf.identity(x), gradient


class Passing(keras.layers.Layer):
    """A function of tensors as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def with_layer(layer):
    layers = [keras.layers.Conv2D(2, 3, padding="same"), layer, keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    model.compile(loss="mse")
    return model, IMAGES.astype(np.float32), DRAW(size=(2, 2))


@pytest.mark.sampled
@pytest.mark.parametrize(
    "layer", [keras.layers.Resizing(3, 3, antialias=True), Passing(backwards_in_float32)], ids=["resizing", "own"]
)
def test_it_is_checked_in_the_precision_it_has(layer):
    """TensorFlow resizes float64 with antialiasing, and has no gradient of that."""
    report = check_gradients(*with_layer(layer))
    assert report.ok, report.explain()
    assert any("in the precision it has" in note for note in report.notes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_that_raises_in_every_precision_fails(dtype):
    """The gradient of a determinant needs the inverse of the matrix."""
    report = check_function(tf.linalg.det, np.ones((2, 2), dtype))
    assert [(v.verdict, v.reason_code) for v in report.verdicts] == [(Kind.NAN, Reason.AUTODIFF_RAISES)]


def test_float64_of_ones_own_is_what_is_checked():
    report = check_function(lambda x: tf.image.resize(x, [3, 3], antialias=True), IMAGES)
    assert [v.verdict for v in report.verdicts] == ["nan"]
    assert check_function(lambda x: tf.image.resize(x, [3, 3], antialias=True), IMAGES.astype(np.float32)).ok


# What else noise of float32 may not do --------------------------------------------------------------------------------


class InFloat32(keras.layers.Layer):
    """A layer that refuses float64."""

    def call(self, x):
        return tf.cast(x * tf.ones((3,), tf.float32), tf.float32)


@pytest.mark.sampled
@pytest.mark.parametrize("seed", range(8))
def test_a_step_longer_than_epsilon_accuses_nothing(seed):
    """Biases of 0 behind a dense layer whose scaled-down outputs are smaller than the epsilon of a normalization."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(3, "relu"), keras.layers.Dense(3), InFloat32()]
    layers += [keras.layers.LayerNormalization(epsilon=1e-6), keras.layers.GlobalAveragePooling1D()]
    model = keras.Sequential([keras.Input((4, 3)), *layers, keras.layers.Dense(2)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(seed).normal(size=(3, 4, 3)).astype(np.float32)
    report = check_gradients(model, x, np.array([0, 1, 1]))
    assert "mismatch" not in {v.verdict for v in report.verdicts}, report.explain()


@pytest.mark.parametrize("slope", [1.0, 3.0, -2.0])
def test_rounding_of_a_gradient_larger_than_the_loss_decides_nothing(slope):
    """The backward pass adds 1e16 and takes it away: whatever is left of its slope is no zero."""

    @tf.custom_gradient
    def drowned(x):
        return tf.identity(x), lambda dy: dy * ((tf.constant(slope, tf.float64) + 1e16) - 1e16)

    report = check_function(drowned, np.array([0.5, -1.25]))
    assert {v.verdict for v in report.verdicts} <= {Kind.UNDECIDED, Kind.MISMATCH}


@pytest.mark.sampled
def test_a_layer_that_turns_images():
    """TensorFlow's backward pass turns them back, which is another matrix than the transposed one: a finding."""
    layer = keras.layers.RandomRotation(0.1, seed=1)
    report = check_layer(layer, IMAGES.astype(np.float32), training=True)
    assert "float32" in " ".join(report.notes)
