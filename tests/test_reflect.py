"""Keras → scratch: graphs of every shape keep their values, and what has no twin is refused by name."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ref.checks.gradients import check_gradients
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.translation.from_keras import NoTwin, reflect, reflect_with_variables
from keras_ref.translation.to_keras import mirror
from scratch.calls import Call, Tensor
from scratch.differences import UNIT
from scratch.layers.operations import INPUT, Operation
from scratch.model import Model

GENERATOR = np.random.default_rng(5)
X = GENERATOR.normal(size=(3, 4))
IDS = np.array([[1, 2, 0, 3, 0], [3, 1, 1, 0, 0]])
KEPT = np.array([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]], bool)


def agrees(model, x):
    """The twin of a model, its outputs being Keras's: a few dozen roundings of the largest entry apart at most."""
    with in_float64(model):
        twin, weights = reflect(model)
        ours, theirs = keras.tree.flatten(twin.forward(weights, x)), keras.tree.flatten(model(x, training=False))
    assert len(ours) == len(theirs)
    for mine, keras_value in zip(ours, map(np.asarray, theirs), strict=True):
        assert mine.shape == keras_value.shape
        assert np.abs(mine - keras_value).max() <= 64 * UNIT * max(np.abs(keras_value).max(), 1.0)
    return twin


def tokens():
    return keras.Input((5,), dtype="int32", name="ids")


# Operations ----------------------------------------------------------------------------------------------------------

OPERATIONS = {
    "a constant before": lambda x: 1.0 - x,
    "a constant behind": lambda x: x / 3.0,
    "two tensors": lambda x: x * layers.Dense(4)(x) + x,
    "an unstretched column": lambda x: x - ops.mean(x, axis=1, keepdims=True),
    "slices": lambda x: x[:, 1:3],
    "an ellipsis": lambda x: x[..., ::-1],
    "an activation": lambda x: ops.softmax(ops.relu(x), axis=-1),
    "a list": lambda x: ops.concatenate([x, ops.square(x)], axis=1),
    "a stack": lambda x: ops.stack([x, -x], axis=1),
    "shapes": lambda x: ops.transpose(ops.reshape(x, (-1, 2, 2)), axes=(0, 2, 1)),
    "extremes": lambda x: ops.max(x, axis=1) - ops.min(x, axis=1),
    "clipping": lambda x: ops.clip(ops.abs(x), 0.25, 1.0),
    "matrices": lambda x: ops.matmul(ops.expand_dims(x, 1), ops.expand_dims(x, -1)),
    "choices": lambda x: ops.where(x > 0, x, 0.1 * x),
    "roots": lambda x: ops.sqrt(ops.exp(x)) + ops.log(ops.maximum(x, 0.5)),
    "an array": lambda x: ops.multiply(np.arange(4.0), ops.add(x, np.arange(4.0))),
    "whole numbers": lambda x: x - ops.cast(ops.cast(2.0 * x, "int32"), "float32"),
    "whole numbers as conditions": lambda x: x * ops.cast(ops.cast(ops.cast(2.0 * x, "int32"), "bool"), "float32"),
    "an array on the right": lambda x: x * np.arange(4.0) + np.ones(4),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    """Operations between layers are part of the twin, constants in their places."""
    x = keras.Input((4,))
    agrees(keras.Model(x, OPERATIONS[name](x)), X)


SPECIAL = {
    "unsigned": np.array([[3, 1, 2], [0, 255, 7]], np.uint8),
    "signed": np.array([[3, -1, 2], [-128, 127, 7]], np.int8),
    "not a number": np.array([[np.nan, 1.0, -1.0], [0.5, np.nan, np.nan]]),
    "fractions": np.array([[1.75, -1.75, 0.5], [-0.5, 0.0, 2.0]]),
}


@pytest.mark.parametrize("x", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize(
    ("name", "keywords"),
    [("max", {"axis": 1}), ("min", {"axis": 0}), ("maximum", {}), ("minimum", {}), ("clip", {}), ("cast", {})],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_operations_of_special_numbers(name, keywords, x):
    """Unsigned and whole numbers, fractions that a cast drops, and what is not a number, in every place of it."""
    if name in ("maximum", "minimum"):
        arguments, values = (INPUT, INPUT), (x, x[:, ::-1])
    elif name == "clip":
        arguments, values = (INPUT, 0, 1), (x,)
    elif name == "cast":
        arguments, values = (INPUT, "int32" if np.isfinite(x).all() else "float64"), (x,)
    else:
        arguments, values = (INPUT,), (x,)
    found = Operation(name, arguments, keywords or None).forward({}, *values)
    given = iter(values)
    wanted = getattr(ops, name)(*(next(given) if one is INPUT else one for one in arguments), **keywords)
    assert np.array_equal(found, np.asarray(wanted), equal_nan=np.asarray(wanted).dtype.kind == "f")


def test_operations_with_an_array():
    """An array among the arguments is no entry-by-entry operation on one tensor, and asking that raises nothing."""
    spec = Operation("add", (np.arange(4.0), INPUT), per_sample=True)
    assert not spec.elementwise
    assert Operation("add", (1.0, INPUT), per_sample=True).elementwise
    assert len(spec.input_shapes(lambda low, _: low)) == 1


def test_whole_numbers_between_layers():
    """A cast to whole numbers has no slope, and the twin follows it: no right model is called wrong."""
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(x + ops.cast(ops.cast(3.0 * x, "int32"), "float32")))
    report = check_gradients(model, X)
    assert report.ok, report.explain()
    assert {v.oracle for v in report.verdicts} == {"forward", "twin"}


def test_one_operation_at_two_places():
    """An operation object used twice, with another constant each time, is two operations of the twin."""
    x, multiply = keras.Input((4,)), keras.src.ops.numpy.Multiply()
    twin = agrees(keras.Model(x, layers.Add()([multiply(x, 2.0), multiply(x, 3.0)])), X)
    assert sorted(s.arguments for s in twin.layers.values() if isinstance(s, Operation)) == [(INPUT, 2.0), (INPUT, 3.0)]


def test_one_operation_with_two_arrays():
    """The same with arrays, which are not compared as numbers are."""
    x, multiply = keras.Input((4,)), keras.src.ops.numpy.Multiply()
    model = keras.Model(x, multiply(multiply(layers.Dense(4)(x), np.arange(4.0)), np.arange(4.0) - 2))
    agrees(model, X)
    report = check_gradients(model, X, oracles=("twin",))
    assert report.ok, report.explain()


def test_gradients_through_operations():
    """Residual connections written with +: both oracles run, weights and inputs."""
    x = keras.Input((4,))
    y = layers.Dense(4, "tanh")(x) + x
    report = check_gradients(keras.Model(x, 0.5 * y * y), X)
    assert report.ok, report.explain()
    assert {v.oracle for v in report.verdicts} == {"forward", "twin"}


def test_mirrored_operation_comes_back():
    """scratch → Keras → scratch: an operation is what it was."""
    spec = Operation("subtract", (1.0, INPUT), per_sample=True)
    model = Model({"x": (None, 4)}, {"one_minus": spec}, (Call("one_minus", ("x",), ("y",)),), ("y",))
    assert reflect(mirror(model))[0].layers["one_minus"] == spec


# Graphs --------------------------------------------------------------------------------------------------------------


def test_shared_layer_across_nesting():
    """A layer that outer and nested model share is one layer with one kernel."""
    shared, inner_x, x = layers.Dense(4, "tanh"), keras.Input((4,)), keras.Input((4,))
    inner = keras.Model(inner_x, shared(inner_x))
    model = keras.Model(x, shared(inner(inner(x))))
    twin = agrees(model, X)
    assert len(twin.trainable) == 2
    report = check_gradients(model, X, oracles=("twin",))
    assert report.ok, report.explain()


def test_nested_models_with_several_outputs():
    """Two outputs of a nested model, in the order in which it gives them."""
    a, b, x = keras.Input((4,)), keras.Input((2,)), keras.Input((4,))
    inner = keras.Model([a, b], [layers.Dense(3)(layers.Concatenate()([a, b])), layers.Dense(1)(b)])
    first, second = inner([x, layers.Dense(2)(x)])
    agrees(keras.Model(x, [second, first]), X)


@pytest.mark.parametrize("made_of", [list, dict])
def test_nested_models_called_on_a_dictionary(made_of):
    """Inputs by name reach the inputs of that name, in whatever order the nested model has them."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    y = layers.Subtract()([layers.Dense(4)(b), a])
    inner = keras.Model([b, a] if made_of is list else {"b": b, "a": a}, y)
    p, q = keras.Input((4,)), keras.Input((4,))
    agrees(keras.Model([p, q], inner({"a": p, "b": q})), [X, X[::-1]])


def test_sequential_inside_functional():
    """A Sequential model inside a graph, twice."""
    block = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(4)])
    x = keras.Input((4,))
    agrees(keras.Model(x, block(block(x)) + x), X)


def test_a_nested_model_is_mirrored():
    """scratch → Keras: the layers of a nested model, "block/first", have names that Keras allows."""
    first = layers.Dense(4, "relu", kernel_regularizer="l2", name="first")
    block = keras.Sequential([first, layers.Dense(4)], name="block")
    x = keras.Input((4,))
    model = keras.Model(x, block(x) + x)
    with in_float64(model):
        twin, weights = reflect(model)
        mirrored = mirror(twin, weights)
        assert "block.first" in [layer.name for layer in mirrored.layers]
        np.testing.assert_array_equal(mirrored(X), model(X))
        np.testing.assert_array_equal(mirrored.losses, model.losses)


def test_frozen_layers():
    """What is not trained is frozen in the twin, and a batch normalization called with training=False is found."""
    x = keras.Input((4,))
    frozen = layers.Dense(3, name="frozen", trainable=False)
    twin, _ = reflect(keras.Model(x, layers.BatchNormalization(name="bn")(frozen(x), training=False)))
    assert twin.trainable == ("bn/gamma", "bn/beta")


# Masks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        layers.LSTM(3),
        layers.GRU(2, return_sequences=True),
        layers.Bidirectional(layers.SimpleRNN(2)),
        layers.GlobalAveragePooling1D(),
    ],
    ids=lambda layer: layer.name,
)
def test_masks_travel(layer):
    """The mask of an Embedding reaches the layer behind it, through a Dense layer, without operations that make it."""
    x = tokens()
    twin = agrees(keras.Model(x, layer(layers.Dense(4)(layers.Embedding(4, 3, mask_zero=True)(x)))), IDS)
    assert not any(isinstance(spec, Operation) for spec in twin.layers.values())


def test_explicit_mask():
    """A mask given by keyword is taken from the graph."""
    x, kept = keras.Input((5, 3)), keras.Input((5,), dtype="bool")
    twin = agrees(keras.Model([x, kept], layers.LSTM(2)(x, mask=kept)), [GENERATOR.normal(size=(2, 5, 3)), KEPT])
    assert any(isinstance(value, Tensor) for call in twin.calls for value in call.keywords.values())


def test_mask_made_in_the_graph():
    """A mask that operations make from the inputs."""
    x = tokens()
    agrees(keras.Model(x, layers.GRU(2)(layers.Embedding(4, 3)(x), mask=ops.not_equal(x, 2))), IDS)


def test_operations_end_masks():
    """Behind an operation there is no mask, in Keras and in the twin."""
    x = tokens()
    agrees(keras.Model(x, layers.LSTM(2)(2.0 * layers.Embedding(4, 3, mask_zero=True)(x))), IDS)


def test_attention_by_keyword():
    """Query, value and key by keyword, in any order, and an attention mask."""
    q, v = keras.Input((2, 4)), keras.Input((3, 4))
    mask = keras.Input((2, 3), dtype="bool")
    y = layers.MultiHeadAttention(2, 2)(value=v, query=q, attention_mask=mask)
    allowed = np.array([[[1, 0, 1], [1, 1, 0]], [[0, 1, 1], [1, 0, 0]]], bool)
    agrees(keras.Model([q, v, mask], y), [GENERATOR.normal(size=(2, 2, 4)), GENERATOR.normal(size=(2, 3, 4)), allowed])


def test_initial_states():
    """States from one recurrent layer into another."""
    x = keras.Input((5, 3))
    _, h, c = layers.LSTM(2, return_state=True)(x)
    agrees(keras.Model(x, layers.LSTM(2)(x, initial_state=[h, c])), GENERATOR.normal(size=(2, 5, 3)))


# Refusals ------------------------------------------------------------------------------------------------------------

ASIDE = "Its gradients can still be checked by differencing Keras's own forward pass, which check_gradients does."


class Dense(layers.Dense):
    """A class of the user's with a name of Keras's."""

    def call(self, inputs, training=None):
        return -super().call(inputs)


class Cell(layers.SimpleRNNCell):
    """A cell of the user's."""


def relu(x):
    """A function of the user's with a name of Keras's."""
    return ops.maximum(x, 0.5)


def _lora():
    layer = layers.Dense(3, name="adapted")
    layer.build((None, 4))
    layer.enable_lora(2)
    return layer


@pytest.mark.sampled
@pytest.mark.filterwarnings("error")  # Keras warns of a lambda in what is saved, and nothing is saved here
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dense(3), f"Received: {__name__}.Dense. {ASIDE}"),
        (lambda: layers.Dense(3, activation=relu), f"Received: activation='relu' of 'dense', from {__name__}. {ASIDE}"),
        (lambda: layers.Dense(3, activation=ops.gelu), "Received: activation='gelu' of 'dense'"),
        (lambda: layers.Dense(3, activation=partial(ops.leaky_relu, negative_slope=0.3)), "a part of which has none."),
        (lambda: layers.Dense(3, activation=lambda x: 2 * x), "must be a registered activation"),
        (_lora, f"Received: 'adapted' with lora_enabled=True. {ASIDE}"),
        (
            lambda: layers.Dense(3, dtype="int8_from_float32", name="q"),
            f"Received: 'q' with quantization_mode='int8'. {ASIDE}",
        ),
    ],
    ids=["a subclass", "a function", "another function of Keras", "a partial", "a lambda", "LoRA", "quantised"],
)
def test_refused_layers(make, words):
    """What is not the class or function that it is called after has no twin."""
    keras.backend.clear_session()
    x = keras.Input((4,))
    layer = make()
    if not layer.name.startswith(("q", "adapted")):
        layer.name = "dense"
    with pytest.raises(NoTwin) as caught:
        reflect(keras.Model(x, layer(x)))
    assert words in str(caught.value)


def test_refused_cell():
    """A wrapper with a class of the user's inside is refused for what is inside."""
    x = keras.Input((5, 3))
    with pytest.raises(NoTwin, match=r"Received: .*\.Cell\. Its gradients"):
        reflect(keras.Model(x, layers.RNN(Cell(2))(x)))


def test_refused_operation():
    """An operation without law is named."""
    x = keras.Input((4,))
    with pytest.raises(NoTwin, match=r"a law for\. Received: keras\.src\.ops\.numpy\.Cumsum\."):
        reflect(keras.Model(x, ops.cumsum(x, axis=1)))


def test_refused_subclassed_model():
    """A model that defines its own call has no graph to walk, a functional one with an overridden call neither."""

    class Own(keras.Model):
        def call(self, inputs):
            return -super().call(inputs)

    x = keras.Input((4,))
    with pytest.raises(NoTwin, match="Received: Own, which defines its own call"):
        reflect(Own(x, layers.Dense(1)(x)))


def test_unnamed_variables_go_by_their_attribute():
    """ConvNeXt's LayerScale gives its variable no name: it is gamma in the twin."""
    from keras.src.applications.convnext import LayerScale

    x = keras.Input((4,))
    model = keras.Model(x, LayerScale(0.5, 4, name="scale")(x))
    agrees(model, X)
    assert list(reflect_with_variables(model)[1]) == ["scale/gamma"]
