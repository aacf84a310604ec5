"""Unused rows of an embedding cost nothing in a check of gradients."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from everything import changes, everything

from keras_ref import check_function, check_gradients, check_layer

IDS, TARGETS = np.array([[7, 70_000, 3], [3, 50, 0]]), np.array([[1.0], [0.5]])


class Wrong(keras.layers.Layer):
    """x², whose gradient is wrong where the first sample's second index is looked up."""

    def call(self, x):
        @tf.custom_gradient
        def square(x):
            off = tf.one_hot(1, 3, dtype=x.dtype)[None, :, None] * tf.one_hot(0, 2, dtype=x.dtype)[:, None, None]
            return x * x, lambda upstream: upstream * x * (2 + off)

        return square(x)


class Tied(keras.layers.Layer):
    """Reads the whole matrix of an embedding."""

    def __init__(self, embedding):
        super().__init__(name="tied")
        self.embedding = embedding

    def call(self, x):
        return x + keras.ops.mean(self.embedding.embeddings)


def looking_up(rows=80_000, *, after=(), **options):
    keras.utils.set_random_seed(0)
    embedding = keras.layers.Embedding(rows, 8, name="rows", **options)
    layers = [embedding, *(one(embedding) if one is Tied else one() for one in after)]
    last = [keras.layers.Flatten(), keras.layers.Dense(1, "tanh", name="dense")]
    model = keras.Sequential([keras.Input((3,), dtype="int32"), *layers, *last], name="large")
    model.compile(optimizer="adam", loss="mse")
    return model


def of_rows(report):
    return next(v for v in report.verdicts if "rows" in v.name)


@pytest.mark.sampled
def test_unused_rows_are_left_out():
    model = looking_up()
    check_gradients(model, IDS, TARGETS, oracles=("forward",), effort="fast")
    before, arrays = everything(model), [one.numpy() for one in model.variables]
    report = check_gradients(model, IDS, TARGETS, oracles=("forward", "twin"))
    assert changes(before, everything(model)) == []
    assert all((one.numpy() == array).all() for one, array in zip(model.variables, arrays, strict=True))
    assert model.layers[0].input_dim == 80_000
    assert report.ok
    assert report.notes[0] == (
        "large/rows/embeddings: 79,995 of 80,000 rows are used by none of the data. The loss does not depend on them, "
        "and autodiff gives them no gradient: they were left out."
    )
    found = [v for v in report.verdicts if "rows" in v.name]
    assert {v.oracle for v in found} == {"forward", "twin"}
    assert {(v.compared, v.total) for v in found} == {(40, 640_000)}
    assert all(v.worst[0] in IDS for v in found)


@pytest.mark.sampled
def test_an_error_in_a_used_row_has_its_own_index():
    verdict = of_rows(check_gradients(looking_up(after=(Wrong,)), IDS, TARGETS, oracles=("forward",), effort="full"))
    assert verdict.verdict == "mismatch"
    assert verdict.worst[0] == 70_000
    assert verdict.counts["mismatch"] == 8


@pytest.mark.parametrize(
    "options",
    [{"after": (Tied,)}, {"embeddings_regularizer": "l2"}, {"rows": 80_000, "mask_zero": True}, {"rows": 70_001}],
    ids=str,
)
def test_what_else_the_rows_are_used_for(options):
    """A matrix that is read elsewhere keeps all its rows; index 0 goes on to be masked."""
    report = check_gradients(looking_up(**options), IDS, TARGETS, oracles=("forward",), effort="fast")
    assert report.ok
    keeps_all = "after" in options or "embeddings_regularizer" in options
    assert of_rows(report).together == (of_rows(report).total if keeps_all else 40)


class Holding(keras.layers.Layer):
    """Looks up rows, by indices that a dictionary may hold."""

    def __init__(self, rows):
        super().__init__(name="holding")
        self.embedding = keras.layers.Embedding(rows, 8, name="rows")
        self.dense = keras.layers.Dense(1, name="dense")

    def build(self, _):
        self.embedding.build(None)
        self.dense.build((None, 8))

    def call(self, x):
        return self.dense(self.embedding(x["indices"] if isinstance(x, dict) else x))


class HoldingModel(Holding, keras.Model):
    pass


def table_of(rows, *, zeros=False):
    values = np.zeros((rows, 8)) if zeros else np.random.default_rng(0).normal(size=(rows, 8))
    return tf.Variable(values.astype("float32"), name="rows")


def checked_layer(rows, **options):
    layer = keras.layers.Embedding(rows, 8, name="rows")
    layer.build(None)
    return [layer.embeddings], lambda: check_layer(layer, IDS, **options)


def checked_holding(rows, **options):
    layer = Holding(rows)
    layer.build(None)
    return layer.variables, lambda: check_layer(layer, IDS, **options)


def checked_dictionary(rows, **options):
    model = HoldingModel(rows)
    return [], lambda: check_gradients(model, {"indices": IDS}, **options)


def checked_function(rows, **options):
    table = table_of(rows)
    return [table], lambda: check_function(
        tf.function(lambda i: tf.tanh(tf.gather(table, i))), IDS, variables=[table], **options
    )


def checked_function_of_a_layer(rows, **options):
    layer = keras.layers.Embedding(rows, 8, name="rows")
    layer.build(None)
    return [layer.embeddings], lambda: check_function(
        lambda i: tf.tanh(layer(i)), IDS, variables=[layer.embeddings], **options
    )


def checked_keras_2(rows, **options):
    layers = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]").layers
    last = [layers.Flatten(), layers.Dense(1, name="dense")]
    model = sys.modules["tf_keras"].Sequential([layers.Embedding(rows, 8, input_length=3, name="rows"), *last])
    model.compile("adam", "mse")
    return model.variables, lambda: check_gradients(model, IDS, TARGETS, **options)


def checked_keras_2_layer(rows, **options):
    layer = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]").layers.Embedding(rows, 8, name="rows")
    layer(IDS)
    return layer.variables, lambda: check_layer(layer, IDS, **options)


#: what may hold an embedding: of a number of rows, (its variables, what checks it)
HOLDERS = {
    "layer": checked_layer,
    "layer in a layer": checked_holding,
    "dictionary": checked_dictionary,
    "function": checked_function,
    "function of a layer": checked_function_of_a_layer,
    "Keras 2": checked_keras_2,
    "layer of Keras 2": checked_keras_2_layer,
}


@pytest.mark.sampled
@pytest.mark.parametrize("holder", HOLDERS)
def test_unused_rows_of_whatever_holds_them(holder):
    variables, check = HOLDERS[holder](80_000)
    before = [one.numpy() for one in variables]
    report = check()
    assert report.ok
    assert "79,995 of 80,000 rows are used by none of the data" in report.notes[0]
    assert {(v.compared, v.total) for v in report.verdicts if "rows" in v.name} == {(40, 640_000)}
    assert all(v.worst[0] in IDS for v in report.verdicts if "rows" in v.name)
    assert [tuple(one.shape) for one in variables] == [one.shape for one in before]
    assert all((one.numpy() == array).all() for one, array in zip(variables, before, strict=True))


def test_a_wrong_gradient_of_a_used_row():
    table, wrong = table_of(80_000), Wrong()
    report = check_function(lambda i: wrong.call(tf.gather(table, i)), IDS, variables=[table])
    assert (of_rows(report).verdict, of_rows(report).worst[0]) == ("mismatch", 70_000)
    assert of_rows(report).counts["mismatch"] == 8


#: what else a function may do with a matrix and the indices of its rows; the second one's gradient is wrong in all rows
OTHER_USES = {
    "indices are numbers too": lambda table, i: tf.gather(table, i) * tf.cast(i, table.dtype)[..., None],
    "a mean that autodiff does not see": lambda table, i: (
        tf.gather(table, i) + 1e6 * tf.stop_gradient(tf.reduce_mean(table))
    ),
    "another row": lambda table, i: tf.gather(table, tf.concat([i, tf.fill(tf.shape(i), tf.cast(5, i.dtype))], 0)),
    "indices are computed": lambda table, i: tf.gather(table, (i * 7) % 33_000),
}


@pytest.mark.sampled
@pytest.mark.parametrize("use", OTHER_USES)
def test_what_else_a_function_does_with_rows(use):
    """All rows stay; also where they are zeros, which a sum does not notice the loss of."""
    table = table_of(33_000, zeros="mean" in use)
    report = check_function(lambda i: OTHER_USES[use](table, i), IDS % 33_000, variables=[table], most=1)
    assert not any("none of the data" in note for note in report.notes)
    assert of_rows(report).verdict == ("mismatch" if "mean" in use else "match")


def checked_model(rows, **options):
    model = looking_up(rows)
    return model.variables, lambda: check_gradients(model, IDS, TARGETS, **options)


def peak_of_arrays(rows, holder):
    _, check = holder(rows, effort="fast")
    tracemalloc.start()
    try:
        check()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.sampled
@pytest.mark.parametrize("holder", [checked_model, *HOLDERS.values()])
def test_memory_does_not_grow_with_unused_rows(holder):
    """Arrays of NumPy: less than twice what the weights grow by (15 to 21 times before unused rows were left out)."""
    peak_of_arrays(80_000, holder)
    assert peak_of_arrays(580_000, holder) - peak_of_arrays(80_000, holder) < 2 * 500_000 * 8 * 4


RESIDENT = """
import resource, sys
sys.path.insert(0, {place!r})
import numpy as np
from test_unused_rows import IDS, TARGETS, check_gradients, looking_up
from test_unused_rows_of_steps import Stepping, check_updates, of_keras_2
make, verb = {make}, {verb}
verb(make(71_000))
model = make(1_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
verb(model)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (1_000_000 * 8 * 4))
"""


UPDATES = "lambda model: check_updates(model, IDS, TARGETS, steps=1)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "verb"),
    [
        ("looking_up", 'lambda model: check_gradients(model, IDS, TARGETS, effort="fast")'),
        ("looking_up", "lambda model: check_gradients(model, IDS, TARGETS)"),
        ("looking_up", UPDATES),
        ("Stepping", UPDATES),
        ("of_keras_2", UPDATES),
    ],
    ids=["fast", "auto", "updates", "a train_step of its own", "updates of Keras 2"],
)
def test_memory_of_a_million_rows(make, verb):
    """Of the whole process, in units of the float32 weights: the promise of the chapter."""
    code = RESIDENT.format(place=str(Path(__file__).parent), make=make, verb=verb)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    print(done.stdout)  # -s shows the figure
    assert float(done.stdout.split()[-1]) < 5
