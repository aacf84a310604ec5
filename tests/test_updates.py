"""check_updates: every part of a training step, each right and with a planted error of a millionth; sparse gradients;
and an optimizer that has no twin.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref.checks.updates import check_updates
from keras_ref.errors import BadInput
from keras_ref.inputs.arrays import count_samples, take_samples

SMALL = 1 + 1e-6
X, Y = np.random.default_rng(1).normal(size=(4, 3)), np.random.default_rng(2).normal(size=(4, 1))
#: three samples of two words, one of which comes four times
WORDS, LABELS = np.array([[1, 1], [3, 1], [0, 1]]), np.array([[0.5], [-0.25], [1.0]])


def dense_model(optimizer):
    """Two layers."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, "tanh", name="hidden"), keras.layers.Dense(1, name="out")],
        name="tiny",
    )
    model.compile(optimizer, "mse")
    return model


def sparse_model(optimizer):
    """Words into a number."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((2,)),
        keras.layers.Embedding(4, 2, name="table"),
        keras.layers.Flatten(),
        keras.layers.Dense(1, name="out"),
    ]
    model = keras.Sequential(layers, name="words")
    model.compile(optimizer, "mse")
    return model


def scaled(name, place):
    """A plant: one argument of a method of the optimizer (or, place None, what it returns) too large by a millionth."""

    def plant(optimizer):
        original = getattr(optimizer, name)

        def wrong(*arguments):
            if place is not None:
                arguments = [
                    keras.tree.map_structure(lambda a: a * SMALL, a) if i == place else a
                    for i, a in enumerate(arguments)
                ]
            found = original(*arguments)
            return keras.tree.map_structure(lambda a: a * SMALL, found) if place is None else found

        setattr(optimizer, name, wrong)

    return plant


def with_number(number, method):
    """A plant: a number of the optimizer too large by a millionth while a method runs."""

    def plant(optimizer):
        original = getattr(optimizer, method)

        def wrong(*arguments):
            kept = getattr(optimizer, number)
            setattr(optimizer, number, kept * SMALL)
            try:
                return original(*arguments)
            finally:
                setattr(optimizer, number, kept)

        setattr(optimizer, method, wrong)

    return plant


def decaying():
    return keras.optimizers.schedules.ExponentialDecay(0.125, 2, 0.5)


#: what is set, and what is planted in it
PARTS = {
    "law": (lambda: keras.optimizers.Adam(0.125), scaled("update_step", 2)),
    "schedule": (lambda: keras.optimizers.SGD(decaying()), scaled("_get_current_learning_rate", None)),
    "clipnorm": (lambda: keras.optimizers.SGD(0.125, clipnorm=0.25), scaled("_clip_gradients", None)),
    "clipvalue": (lambda: keras.optimizers.RMSprop(0.125, clipvalue=0.125), scaled("_clip_gradients", None)),
    "global_clipnorm": (
        lambda: keras.optimizers.SGD(0.125, momentum=0.5, global_clipnorm=0.5),
        scaled("_clip_gradients", None),
    ),
    "weight_decay": (
        lambda: keras.optimizers.AdamW(0.125, weight_decay=0.25),
        with_number("weight_decay", "_apply_weight_decay"),
    ),
    "use_ema": (
        lambda: keras.optimizers.SGD(0.125, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=1),
        with_number("ema_momentum", "_update_model_variables_moving_average"),
    ),
    "gradient_accumulation_steps": (
        lambda: keras.optimizers.SGD(0.125, gradient_accumulation_steps=2),
        scaled("_backend_update_step", 0),
    ),
    "loss_scale_factor": (
        lambda: keras.optimizers.Adagrad(0.125, loss_scale_factor=8.0),
        with_number("loss_scale_factor", "scale_loss"),
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize("part", PARTS)
def test_part(part):
    """A right step is accepted."""
    report = check_updates(dense_model(PARTS[part][0]()), X, Y, steps=2)
    assert report.ok, report.explain()
    assert {v.verdict for v in report.verdicts} == {"match"}


@pytest.mark.sampled
@pytest.mark.parametrize("part", PARTS)
def test_planted_error(part):
    """An error of a millionth in one part of the step is found, and blamed on the step, not on the gradient."""
    make, plant = PARTS[part]
    optimizer = make()
    plant(optimizer)
    report = check_updates(dense_model(optimizer), X, Y, steps=2)
    assert [v.name for v in report.failures] == [v.name for v in report.verdicts], report.explain()
    assert all("is not the optimizer's law" in v.reason for v in report.failures)


SPARSE = [
    "SGD",
    "Lion",
    "Adam",
    "Adamax",
    "Nadam",
    "Adagrad",
    "Adadelta",
    "RMSprop",
    "Ftrl",
    "Lamb",
    "Adafactor",
    "ScheduleFreeAdamW",
]
LINEAR = ("SGD", "Lion")


@pytest.mark.sampled
@pytest.mark.parametrize("name", SPARSE)
def test_sparse(name):
    """Rows of a repeated index that Keras squares one by one are the departure, and nothing else is excused by it."""
    report = check_updates(sparse_model(getattr(keras.optimizers, name)(0.125)), WORDS, LABELS, steps=2)
    assert report.ok, report.explain()
    table = next(v for v in report.verdicts if "table" in v.name)
    assert table.verdict == ("match" if name in LINEAR else "departure")
    assert name in LINEAR or "sparse-rows-are-squared-before-they-are-summed" in table.reason


@pytest.mark.sampled
@pytest.mark.parametrize("clipping", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_sparse_clipped(clipping):
    """Keras clips row by row."""
    report = check_updates(sparse_model(keras.optimizers.SGD(0.125, **{clipping: 0.125})), WORDS, LABELS, steps=2)
    assert report.ok, report.explain()
    assert "sparse-rows-are-clipped-before-they-are-summed" in next(
        v.reason for v in report.verdicts if "table" in v.name
    )


@pytest.mark.sampled
@pytest.mark.parametrize("clipping", ["clipnorm", "clipvalue", "global_clipnorm"])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_clipped_and_squared(name, clipping):
    """By a norm of all gradients Keras clips rows and squares their sum; in the other ways it squares rows."""
    report = check_updates(sparse_model(getattr(keras.optimizers, name)(0.125, **{clipping: 0.125})), WORDS, LABELS)
    assert report.ok, report.explain()


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_sums_are_squared_after_a_common_norm(name):
    """Where Keras has clipped by a norm of all gradients it no longer knows slices: seen from the second step on."""
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0).integers
    layers = [keras.layers.Embedding(60, 3), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.Input((4,), dtype="int32"), *layers])
    optimizer = getattr(keras.optimizers, name)(0.1, global_clipnorm=0.1)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    report = check_updates(model, draw(0, 6, (6, 4)), np.random.default_rng(1).integers(0, 3, 6))
    assert report.ok, report.explain()


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["SGD", "Adam", "Ftrl", "Adafactor"])
def test_planted_error_in_a_sparse_step(name):
    """A step that is neither the law's nor Keras's own departure is a mismatch, by a millionth."""
    optimizer = getattr(keras.optimizers, name)(0.125)
    scaled("update_step", 2)(optimizer)
    report = check_updates(sparse_model(optimizer), WORDS, LABELS, steps=2)
    assert "mismatch" in {v.verdict for v in report.verdicts if "table" in v.name}, report.explain()


class Mine(keras.optimizers.SGD):
    """An optimizer of the user's own."""


def test_an_optimizer_without_a_twin():
    """It is said in one sentence; nothing is judged, and that is no pass."""
    report = check_updates(dense_model(Mine(0.125)), X, Y, steps=1)
    assert not report.ok
    assert {v.verdict for v in report.verdicts} == {"undecided"}
    assert report.verdicts[0].reason == (
        f"A Keras optimizer must have a definition in scratch to have a twin. Received: {Mine.__module__}.Mine. "
        "Its gradients can still be checked by differencing Keras's own forward pass, which check_gradients does."
    )


class Determinant(keras.layers.Layer):
    """x times the determinant of a matrix of ones, whose derivative TensorFlow takes by an inverse."""

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(2, 2), initializer="ones", name="matrix")

    def call(self, x):
        return x * tf.linalg.det(self.matrix)


def test_a_step_whose_backward_pass_raises_is_not_blamed_on_the_forward_pass():
    model = keras.Sequential([keras.Input((1,)), Determinant()])
    model.compile("sgd", "mse")
    with pytest.raises(BadInput) as refused:
        check_updates(model, np.ones((2, 1)), np.ones((2, 1)))
    assert str(refused.value) == (
        "A training step must run. Received: InvalidArgumentError: Input is not invertible. The loss can be computed "
        "there: look at the backward pass, which check_gradients compares by itself, and at the optimizer."
    )


@tf.custom_gradient
def negated(x):
    return tf.identity(x), lambda upstream: -upstream


class Negated(keras.layers.Layer):
    """The identity with a backward pass of the wrong sign."""

    def call(self, x):
        return negated(x)


def changed(method, make):
    """An SGD with one of its methods replaced by make(that method)."""
    optimizer = keras.optimizers.SGD(0.125)
    setattr(optimizer, method, make(getattr(optimizer, method)))
    return optimizer


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("optimizer", "inside", "words"),
    [
        (keras.optimizers.SGD(0.125), [Negated()], "it is the right gradient, negated"),
        (
            changed("update_step", lambda step: lambda g, v, rate: step(-g, v, rate)),
            [],
            "Keras's step adds the gradient in place of subtracting it",
        ),
        (
            changed("update_step", lambda step: lambda g, v, rate: step(g, v, rate * 8)),
            [],
            "the optimizer's law has learning_rate=0.125, Keras's step 1",
        ),
        (changed("update_step", lambda step: lambda g, v, rate: None), [], "Keras's step does not update it"),
    ],
)
def test_what_a_wrong_step_looks_like(optimizer, inside, words):
    """An explanation that fits to rounding is told, in the closing line too."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, "tanh"), *inside, keras.layers.Dense(2)])
    model.compile(optimizer=optimizer, loss="mse")
    report = check_updates(model, X, np.resize(Y, (len(X), 2)), steps=2)
    wrong = [v for v in report.verdicts if v.failed]
    assert wrong and {v.looks_like for v in wrong} == {words}, report.explain()
    where = (
        "the step is the optimizer's law, on a gradient that is not the loss's: check the gradients; it"
        if inside
        else "the step is wrong, and it"
    )
    assert report.oracles == f"{where} looks like this: {words}"


def test_an_error_that_nothing_explains_is_not_explained():
    """A millionth of a step is no mistake that people make."""
    optimizer = changed(
        "update_step", lambda step: lambda g, v, rate: step(g * np.linspace(1, 2, g.shape[-1]), v, rate)
    )
    report = check_updates(dense_model(optimizer), X, Y, steps=1)
    assert report.failures and not any(v.looks_like for v in report.failures), report.explain()


def given_as(form, x):
    """Rows as a sparse or ragged tensor."""
    return tf.sparse.from_dense(x) if form == "sparse" else tf.RaggedTensor.from_tensor(tf.constant(x))


@pytest.mark.parametrize("size", [None, 2])
def test_inputs_that_are_sparse(size):
    """Steps on a SparseTensor, and on batches of it, are compared."""
    model = keras.Sequential([keras.Input((3,), sparse=True), keras.layers.Dense(1, name="out")])
    model.compile("sgd", "mse")
    report = check_updates(model, given_as("sparse", np.where(X > 0, X, 0.0)), Y, batch_size=size)
    assert report.ok, report.explain()
    assert {(v.name, v.oracle) for v in report.verdicts} == {(v.path, "update") for v in model.trainable_variables}


@pytest.mark.parametrize("form", ["sparse", "ragged"])
@pytest.mark.parametrize(("start", "count"), [(0, 4), (1, 2), (2, 9)])
def test_samples_of_every_form(form, start, count):
    """A part of the samples, and how many there are, whatever form the rows have; None stays None."""
    given = {"a": given_as(form, X), "b": [X, None]}
    assert count_samples(given) == len(X)
    taken = take_samples(given, start, count)
    rows = tf.sparse.to_dense(taken["a"]) if form == "sparse" else taken["a"].to_tensor()
    assert np.array_equal(rows, X[start : start + count]) and np.array_equal(taken["b"][0], X[start : start + count])
    assert taken["b"][1] is None
