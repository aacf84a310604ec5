"""What is no argument of a public function is refused in one sentence that names it, never by an error from inside."""

import inspect
from dataclasses import fields

import gradtwin
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ref.comparison.sources.settings import Settings
from keras_ref.errors import BadInput, CouldNotRun


class Anything:
    """No type that anything knows."""


#: what people pass by mistake
WRONG = {
    "an int": 3,
    "a negative int": -1,
    "a number": 0.5,
    "nan": float("nan"),
    "a complex number": 1j,
    "True": True,
    "None": None,
    "a class": Anything,
    "an object": Anything(),
    "a class of layers": keras.layers.Dense,
    "a text": "abc",
    "bytes": b"abc",
    "nothing": [],
    "a list": [1, 2],
    "nested lists": [[1.0, 2.0], [3.0, 4.0]],
    "ragged lists": [[1.0, 2.0], [3.0]],
    "a set": {1},
    "a dictionary": {"a": 1},
    "a dictionary by numbers": {1: 2},
    "a dictionary of texts": {"a": "b"},
    "a function": lambda: None,
    "an empty generator": iter(()),
    "an array of words": np.array(["a", "b"]),
    "an array of objects": np.array([None, 1], dtype=object),
    "an array": np.ones((2, 2)),
    "a layer": keras.layers.Dense(2),
}
X, Y = np.ones((2, 1)) / 2, np.ones((2, 1))


def small():
    """The smallest model that can be checked."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="dense")], name="small")
    model.compile("sgd", "mse")
    return model


#: {function: (arguments by position, by keyword) of a call that is right}
CALLS = {
    "check_gradients": lambda: ((small(), X, Y), {"effort": "fast"}),
    "check_updates": lambda: ((small(), X, Y), {"steps": 1}),
    "check_layer": lambda: ((keras.layers.Dense(1), X), {"effort": "fast"}),
    "check_function": lambda: ((tf.sin, X), {"effort": "fast"}),
    "compare": lambda: ((small(), small(), X, Y), {"steps": 0}),
    # of what is right there is nothing to make small, which is one sentence, too
    "minimise": lambda: ((tf.sin, X), {}),
    "mirror": lambda: ((gradtwin.reflect(small())[0],), {}),
    "reflect": lambda: ((small(),), {}),
    "surrogate": lambda: ((keras.layers.Dense,), {}),
    "Approximation": lambda: ((1e-8,), {}),
    "GradientCheck": lambda: (((X, Y),), {}),
}
PAIRS = [
    (name, parameter.name)
    for name in CALLS
    for parameter in inspect.signature(getattr(gradtwin, name)).parameters.values()
    if parameter.kind is not parameter.VAR_KEYWORD
]


def call_with(function, parameter, value):
    """Call a public function as it should be, but for one argument."""
    positional, keywords = CALLS[function]()
    verb = getattr(gradtwin, function)
    parameters = list(inspect.signature(verb).parameters.values())
    found = next(one for one in parameters if one.name == parameter)
    place = parameters.index(found)
    if found.kind is found.KEYWORD_ONLY:
        return verb(*positional, **keywords | {parameter: value})
    return verb(*positional[:place], value, *positional[place + 1 :], **keywords)


def require_sentence(function, parameter, value):
    """What is refused is refused in one sentence of three parts; nothing else is raised."""
    try:
        call_with(function, parameter, value)
        text = ""
    except (CouldNotRun, ValueError) as error:  # a BadInput is a ValueError, and so are the callback's and NoTwin
        text = str(error)
    said = ". Received: " in text and "\n" not in text and len(text) < 700 and " object at 0x" not in text
    assert said or not text, text


CASES = [(*pair, name) for pair in PAIRS for name in WRONG]


@pytest.mark.sampled
@settings(max_examples=60)
@given(st.sampled_from(CASES))
def test_a_wrong_argument_is_one_sentence(case):
    function, parameter, name = case
    require_sentence(function, parameter, WRONG[name])


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_every_wrong_argument_is_one_sentence(pair):
    for value in WRONG.values():
        require_sentence(*pair, value)


M, X0 = (
    "`model` must be a keras.Model or a scratch.Model",
    "Pass a model: call the class or the function that makes it.",
)
#: (function, parameter, what) → the whole sentence
SENTENCES = {
    ("check_gradients", "model", "an int"): f"{M}. Received: 3 (int). {X0}",
    ("check_gradients", "model", "a class"): f"{M}. Received: the class Anything. {X0}",
    ("check_updates", "model", "None"): f"{M}. Received: None. {X0}",
    ("check_gradients", "x", "None"): "`x` must hold the inputs of the model. Received: None. Pass a batch of them.",
    ("check_gradients", "x", "nested lists"): (
        "`x` must hold arrays, tensors or frames, nested in lists, tuples or dictionaries if need be. Received: a list "
        "of list. Convert it with numpy.array(…)."
    ),
    ("check_gradients", "y", "a text"): (
        "`y` must hold arrays, tensors or frames, nested in lists, tuples or dictionaries if need be. Received: the "
        "text 'abc'. Convert it with numpy.array(…)."
    ),
    ("check_gradients", "expect", "a list"): (
        "`expect` must be a dictionary of patterns. Received: a list of int. Pass {'quant*/kernel': 'surrogate'}, say."
    ),
    ("check_gradients", "class_weight", "a list"): (
        "`class_weight` must be a dictionary of numbers by class. Received: a list of int. Pass {0: 1.0, 1: 2.0}, say."
    ),
    ("check_gradients", "wrt", "a text"): (
        "`wrt` must be a list or tuple of texts. Received: the text 'abc'. Pass a tuple, also for a single one: "
        "('weights',), say."
    ),
    ("check_gradients", "seed", "a text"): (
        "`seed` must be a whole number, 0 or more. Received: the text 'abc'. Pass 0, say."
    ),
    ("check_updates", "steps", "a text"): "`steps` must be a whole number. Received: the text 'abc'. Pass 3, say.",
    ("check_function", "variables", "an int"): (
        "`variables` must be a list of variables. Received: 3 (int). Pass [variable]."
    ),
    ("mirror", "model", "a text"): (
        "`model` must be a scratch.Model. Received: the text 'abc'. Pass a model of scratch; reflect makes one of a "
        "Keras model."
    ),
    ("reflect", "model", "an object"): (
        "`model` must be a keras.Model. Received: a Anything. Pass a model; mirror makes one of scratch's."
    ),
    ("surrogate", "cls", "a function"): (
        "`surrogate` must decorate the class of a Keras layer. Received: a function. Write @surrogate above the class."
    ),
    (
        "Approximation",
        "relative",
        "a text",
    ): "`relative` must lie between 0 and 1. Received: the text 'abc'. Pass 1e-8, say.",
}


@pytest.mark.parametrize("case", SENTENCES, ids=" ".join)
def test_the_whole_sentence(case):
    function, parameter, name = case
    with pytest.raises(BadInput) as caught:
        call_with(function, parameter, WRONG[name])
    assert str(caught.value) == SENTENCES[case]


def test_every_public_function_is_misused():
    """What is not a record of results, or an error, is in the table above."""
    records = {"Comparison", "GradientMismatch", "GradientWarning", "Minimised", "ProgramsDiffer", "Report", "Verdict"}
    assert {*CALLS} == {*gradtwin.__all__} - records


@pytest.mark.parametrize("name", ["check_gradients", "check_layer", "check_function"])
def test_the_options_that_verbs_share_are_those_of_settings(name):
    """They stand in three signatures, for whoever reads these, and are the same there: names, defaults, annotations."""
    own = {"check_function": {"variables"}, "check_layer": set(), "check_gradients": set()}[
        name
    ]  # another meaning there
    parameters = inspect.signature(getattr(gradtwin, name)).parameters
    shared = [one for one in fields(Settings) if one.name in parameters and one.name not in own]
    assert len(shared) >= 12
    for one in shared:
        assert repr(parameters[one.name].default) == repr(one.default), one.name
        assert parameters[one.name].annotation == one.type, one.name
