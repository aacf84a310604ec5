"""Programs of students: functions, weights and files of NumPy in every form, with one sentence for what goes wrong."""

import textwrap

import keras
import numpy as np
import pytest

from keras_ref import compare
from keras_ref.errors import CouldNotRun
from keras_ref.programs.numpy_module import NumpyModule
from keras_ref.programs.program import Point
from keras_ref.programs.remote import RemoteProgram
from keras_ref.programs.targets import make_loader

X, Y = np.random.default_rng(0).normal(size=(5, 3)), np.random.default_rng(1).normal(size=(5, 2))


def network():
    layers = keras.layers
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh", name="a"), layers.Dense(2, name="b")])
    model.compile(optimizer="sgd", loss="mse")
    return model


class Student:
    def __init__(self):
        self.weights = {"W1": np.ones((3, 4)), "b1": np.ones(4), "W2": np.ones((4, 2)), "b2": np.ones(2)}

    def forward(self, x, weights):
        print("noise")
        return np.tanh(x @ weights["W1"] + weights["b1"]) @ weights["W2"] + weights["b2"]


def test_a_program_without_a_backward_pass_is_compared_as_far_as_it_goes(capsys):
    found = compare(network(), Student(), X, Y)
    assert found.ok and {row.stage for row in found.rows} == {"forward"}
    assert "B: There is no function for the gradient: it is not compared." in found.notes


def test_the_book_s_own_signatures():
    from scratch import recipe

    program = NumpyModule(lambda: (recipe, None, None))
    assert set(program.functions) == {"loss", "update"}
    weights = {"0": np.full((3, 4), 0.5), "1": np.zeros(4), "2": np.full((4, 2), 0.5), "3": np.zeros(2)}
    trace = program.run(Point(weights=weights, x=X, y=Y, steps=1))
    assert trace.loss == np.mean(recipe.feed_forward(X, Y, list(weights.values())))
    after = recipe.update_weights(X, Y, list(weights.values()), 1)
    assert all((trace.steps[0][name] == value).all() for name, value in zip(weights, after, strict=True))


@pytest.mark.parametrize("kept_in", ["slots", "a dictionary"])
def test_weights_that_an_object_holds(kept_in):
    class Held:
        if kept_in == "slots":
            __slots__ = ("W1",)

        def __init__(self):
            self.W1 = np.ones((3, 2))

        def forward(self, x):
            return x @ self.W1

    program = NumpyModule(lambda: (Held(), None, None))
    assert [weight.name for weight in program.facts().weights] == ["W1"]
    assert (program.run(Point(weights={"W1": np.eye(3)}, x=X)).tensors["output"] == X).all()


def test_what_takes_arguments_makes_no_weights():
    """init_params(sizes) of a student cannot be called: the weights are those of the other program."""

    class Sized(Student):
        def __init__(self):
            pass

        def init_params(self, sizes):
            raise AssertionError(sizes)

    assert NumpyModule(lambda: (Sized(), None, None)).values() == {}


def test_an_error_where_weights_are_made_is_one_sentence(tmp_path):
    value = load(tmp_path, "def init_params():\n    return 1 / 0\ndef forward(x): ...")
    with pytest.raises(CouldNotRun, match=r"student\.py, line 4, in init_params: ZeroDivisionError"):
        NumpyModule(lambda: (value, None, None))


def test_functions_without_a_file_of_their_own(tmp_path):
    """A functools.partial is called, and an error in it is that of the file that it is in."""
    text = """
        from functools import partial
        def scaled(scale, x):
            return x * scale if scale else x / None
        forward, wrong = partial(scaled, 2.0), partial(scaled, 0.0)
    """
    program = NumpyModule(lambda: (load(tmp_path, text), None, None))
    assert (program.run(Point(weights={}, x=X)).tensors["output"] == 2 * X).all()
    program.functions["forward"] = program.value.wrong
    assert "student.py, line 6, in scaled: TypeError" in program.run(Point(weights={}, x=X)).errors["forward"]


def test_ctrl_c_in_a_file_is_no_refusal(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, "raise KeyboardInterrupt")


def load(tmp_path, text):
    """A student's file as a module of this process."""
    path = tmp_path / "student.py"
    path.write_text("import os, time\nimport numpy as np\n" + textwrap.dedent(text), encoding="utf-8")
    return make_loader(str(path))()[0]


def module(tmp_path, text):
    path = tmp_path / "student.py"
    path.write_text("import os, time\nimport numpy as np\n" + textwrap.dedent(text), encoding="utf-8")
    return RemoteProgram(f"numpy:{path}", time_limit=120)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def forward(x, weights:\n", r"student\.py, line 3: SyntaxError"),
        ("raise ValueError('no')\ndef forward(x): ...", r"student\.py, line 3: ValueError: no\. Correct it there\."),
        ("os._exit(7)", r"must not end its process.*ended with exit status 7"),
    ],
)
def test_a_file_that_does_not_run_is_one_sentence(tmp_path, text, sentence):
    program = module(tmp_path, text)
    with pytest.raises(CouldNotRun, match=sentence):
        program.facts()
    program.close()


def test_a_parameter_without_a_known_name_is_named():
    class Odd:
        def forward(self, mystery):
            return mystery

    with pytest.raises(CouldNotRun, match=r"A parameter must have a known name.*'mystery' of forward\."):
        NumpyModule(lambda: (Odd(), None, None))._run("forward", {})


@pytest.mark.sampled
def test_what_a_program_prints_is_caught(tmp_path, capfd):
    program = module(tmp_path, "print('hello')\ndef forward(x, weights):\n    print('again')\n    return x\n")
    trace = program.run(Point(weights={}, x=X))
    assert (trace.tensors["output"] == X).all() and program.printed.split() == ["hello", "again"]
    program.close()
    assert capfd.readouterr().out == ""
