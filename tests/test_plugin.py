"""The pytest plugin, through pytester: fixtures, marker and targets pass, fail with six lines, and cost nothing unused.

What needs no Keras runs with stubs, in a process of its own where workers or the cost are the subject.
"""

import json
import sys

import pytest
from tested_projects import DOUBLED, MODEL, QUIET

# a run inside this process forgets what it imports, and TensorFlow cannot be imported twice


@pytest.mark.sampled
def test_fixtures_pass_and_return_the_report(pytester):
    pytester.makepyfile(
        MODEL
        + """
def test_gradients(check_gradients):
    assert check_gradients(model(), X, Y).ok

def test_updates(check_updates):
    assert check_updates(model(), X, Y, steps=2).ok
"""
    )
    pytester.runpytest_inprocess(*QUIET).assert_outcomes(passed=2)


@pytest.mark.sampled
def test_a_finding_fails_with_six_lines_and_no_stack(pytester):
    pytester.makepyfile(
        MODEL
        + DOUBLED
        + """
def test_wrong(check_gradients):
    m = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense"), Doubled()])
    m.compile(loss="mse")
    check_gradients(m, X, Y)
"""
    )
    result = pytester.runpytest_inprocess(*QUIET, "--gradtwin-seed", "7")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "verdict    mismatch: *dense/kernel, by the oracle 'forward'",
            "worst at   *of 6 compared entries",
            "autodiff   *GradientTape, eager",
            "numeric    *Keras's own forward pass, differenced",
            "differ by  *allowed*= truncation*+ rounding*",
            "replay     pytest *test_wrong* --gradtwin-seed 7",
        ]
    )
    assert "Traceback" not in result.stdout.str() and "def test_wrong" not in result.stdout.str()


def test_importing_the_plugin_loads_neither_tensorflow_nor_hypothesis(pytester):
    code = (
        "import sys, keras_ref.frontends.plugin.pytest_plugin, scratch; print([m for m in ('tensorflow', 'keras', "
        "'hypothesis', 'numpy', 'rich', 'typer') if m in sys.modules])"
    )
    result = pytester.run(sys.executable, "-c", code)
    assert result.outlines == ["[]"]


@pytest.mark.sampled
def test_layers_and_functions(pytester):
    pytester.makepyfile(
        MODEL
        + """
def test_layer(check_layer, check_function):
    assert check_layer(keras.layers.Dense(2), X).ok
    assert check_function(lambda a, b: tf.sin(a) * b, X, X).ok

@pytest.mark.gradients(seed=3)
def test_marked_layer():
    return keras.layers.Dense(2), X

@pytest.mark.gradients(wrt=("inputs",))
def test_marked_function():
    return tf.linalg.matmul, X, X.T
"""
    )
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(passed=3)


MARKED = (
    MODEL
    + """
@pytest.mark.gradients(variables="dense/*")
def test_model():
    return model()

@pytest.mark.gradients
@pytest.mark.parametrize("rows", [2, 4])
def test_model_and_data(rows):
    return model(), X[:rows], Y[:rows]

@pytest.mark.gradients(wrt=("weights",))
class TestAll:
    @pytest.mark.gradients(modes=("eager", "function"))
    def test_method(self):
        return model(), X, Y
"""
)


@pytest.mark.sampled
def test_the_marker_checks_what_a_test_returns(pytester):
    pytester.makepyfile(MARKED)
    result = pytester.runpytest_inprocess(*QUIET, "--strict-markers", "--gradtwin-json", "all.json")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["gradtwin: 8 variables and 2 inputs; smallest error that would have been seen ?e-*"])
    found = {
        r["test"]: {(v["name"], v["oracle"]) for v in r["verdicts"]}
        for r in json.loads((pytester.path / "all.json").read_text())["reports"]
    }
    names = {test.partition("::")[2]: pairs for test, pairs in found.items()}
    assert {name.rpartition("/")[2] for name, _ in names["test_model"]} == {"kernel", "bias"}
    assert {"input"} < {name for name, _ in names["test_model_and_data[2]"]}
    # the class's option and the method's own
    assert {"weights", "function"} <= {
        "weights" if name.endswith("bias") else oracle for name, oracle in names["TestAll::test_method"]
    }
    assert "input" not in {name for name, _ in names["TestAll::test_method"]}


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("mark", "returns", "sentence"),
    [
        (
            "gradients",
            "None",
            (
                "A test marked `gradients` must return a model, (model, x, y), (layer, *inputs) or (function, "
                "*inputs). Received: NoneType. Return one of them."
            ),
        ),
        (
            "gradients",
            "(3, X)",
            (
                "A test marked `gradients` must return a model, (model, x, y), (layer, *inputs) or (function, "
                "*inputs). Received: a tuple of 2, int first. Return one of them."
            ),
        ),
        (
            "gradients(varables='x')",
            "(model(), X, Y)",
            "The marker `gradients` must have options of check_gradients. Received: varables. Choose from x, y, *",
        ),
        (
            "gradients",
            "(model(), X[:, :2], Y)",
            (
                "Input 'table' must have shape (any, 3). Received: (4, 2). Reshape the data or change the model's "
                "input shape."
            ),
        ),
        (
            "gradients('dense/*')",
            "(model(), X, Y)",
            (
                "The marker `gradients` must have options of check_gradients. Received: a positional one. Choose from "
                "x, y, *"
            ),
        ),
    ],
    ids=["nothing", "no model", "an unknown option", "data that do not fit", "a positional option"],
)
def test_a_marked_test_that_cannot_be_checked_says_so_in_one_sentence(pytester, mark, returns, sentence):
    pytester.makepyfile(MODEL + f"\n@pytest.mark.{mark}\ndef test_it():\n    return {returns}\n")
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(failed=1)
    lines = result.stdout.lines
    at = next(i for i, line in enumerate(lines) if "test_it" in line and line.startswith("___"))
    result.stdout.fnmatch_lines([sentence.replace("[", "[[]")])
    assert lines[at + 2].startswith("=") and "Traceback" not in result.stdout.str()


@pytest.mark.sampled
def test_a_fixture_points_at_the_call_that_it_refuses(pytester):
    pytester.makepyfile(MODEL + "\ndef test_it(check_gradients):\n    check_gradients(model(), X[:, :2], Y)\n")
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       check_gradients(model(), X[[]:, :2], Y)",
            "E       keras_ref.errors.BadInput: Input 'table' must have shape (any, 3). Received: (4, 2). *",
        ]
    )
    assert not [
        line for line in result.stdout.lines if "keras_ref/" in line and "Error" not in line and line.startswith("/")
    ]


def test_a_json_file_that_cannot_be_written_is_refused_before_the_work(pytester):
    pytester.makepyfile("def test_it(): open('ran', 'w')")
    result = pytester.runpytest_inprocess(*QUIET, "--gradtwin-json", "no/such/file.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            (
                "ERROR: --gradtwin-json must name a file that can be written. Received: no/such/file.json: No such "
                "file or directory. Choose another path."
            )
        ]
    )
    assert not (pytester.path / "ran").exists()


def test_a_run_that_checks_nothing_says_nothing(pytester):
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess(*QUIET)
    result.assert_outcomes(passed=1)
    assert "gradtwin:" not in result.stdout.str()
