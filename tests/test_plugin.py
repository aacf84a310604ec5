"""The pytest plugin, through pytester: fixtures, marker and targets pass, fail with six lines, and cost nothing unused.

What needs no Keras runs with stubs, in a process of its own where workers or the cost are the subject.
"""

import json
import sys
from xml.etree import ElementTree as ET

import pytest
from stubbed_checks import STUBS

# a run inside this process forgets what it imports, and TensorFlow cannot be imported twice

MODEL = """
import keras, numpy as np, pytest, tensorflow as tf

def model():
    keras.utils.set_random_seed(1)
    m = keras.Sequential([keras.Input((3,), name="table"), keras.layers.Dense(2, "tanh", name="dense")])
    m.compile(optimizer="sgd", loss="mse")
    return m

X, Y = np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8
"""
QUIET = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-W", "ignore")


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


def test_a_finding_fails_with_six_lines_and_no_stack(pytester):
    pytester.makepyfile(
        MODEL
        + """
@tf.custom_gradient
def doubled(x):
    return x * 2.0, lambda upstream: upstream * 2.001

class Doubled(keras.layers.Layer):
    def call(self, x):
        return doubled(x)

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
        "import sys, keras_ref.frontends.pytest_plugin, scratch; print([m for m in ('tensorflow', 'keras', "
        "'hypothesis', 'numpy', 'rich', 'typer') if m in sys.modules])"
    )
    result = pytester.run(sys.executable, "-c", code)
    assert result.outlines == ["[]"]


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


def test_the_marker_checks_what_a_test_returns(pytester):
    pytester.makepyfile(MARKED)
    result = pytester.runpytest_inprocess(*QUIET, "--strict-markers", "--gradtwin-json", "all.json")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["gradtwin: 10 variables; smallest error that would have been seen ?e-*"])
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


TARGETS = """
import keras, tensorflow as tf

@tf.custom_gradient
def doubled(x):
    return x * 2.0, lambda upstream: upstream * 2.001

class Doubled(keras.layers.Layer):
    def call(self, x):
        return doubled(x)

def build(*more):
    keras.utils.set_random_seed(1)
    inner, outer = keras.layers.Dense(2, "tanh", name="inner"), keras.layers.Dense(1, name="outer")
    m = keras.Sequential([keras.Input((3,)), inner, *more, outer], name="mine")
    m.compile(optimizer="sgd", loss="mse")
    return m

def wrong():
    return build(Doubled())
"""


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


def test_targets_of_the_ini_file_and_the_command_line_are_tests(pytester):
    pytester.makepyfile(plugin_targets_a=TARGETS, test_own="def test_own(): pass")
    pytester.makeini("[pytest]\ngradtwin_targets =\n    plugin_targets_a:build\n")
    result = pytester.runpytest_inprocess(
        *QUIET, "-v", "--gradtwin", "plugin_targets_a:wrong", "--gradtwin", "plugin_targets_a:missing"
    )
    result.assert_outcomes(passed=1 + 5 + 2, failed=3 + 1)
    result.stdout.fnmatch_lines(
        [
            "gradtwin::plugin_targets_a:build::mine/inner/kernel PASSED*",
            "gradtwin::plugin_targets_a:build::input PASSED*",
            "gradtwin::plugin_targets_a:wrong::mine/inner/kernel FAILED*",
            "gradtwin::plugin_targets_a:wrong::mine/outer/kernel PASSED*",
            "gradtwin::plugin_targets_a:missing::load FAILED*",
            "verdict    mismatch: mine/inner/kernel, by the oracle 'forward'",
            "replay     gradtwin check plugin_targets_a:wrong --variables mine/inner/kernel",
            (
                "A target's factory must exist. Received: 'missing', which plugin_targets_a does not have. Check the "
                "name after the colon."
            ),
            "gradtwin: 10 variables, 3 mismatches; smallest error that would have been seen *",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    # a run that names its tests does not get those of the ini file; -k chooses among a target's variables
    pytester.runpytest_inprocess(*QUIET, "test_own.py").assert_outcomes(passed=1)
    result = pytester.runpytest_inprocess(
        *QUIET, "-k", "outer and bias", "--gradtwin", "plugin_targets_a:wrong", "test_own.py"
    )
    result.assert_outcomes(passed=1, deselected=5)
    result.stdout.fnmatch_lines(["gradtwin: 1 variable; *"])


def test_a_target_in_a_process_of_its_own(pytester):
    dies = TARGETS.replace(
        "def call(self, x):\n",
        (
            "def call(self, x):\n        if not isinstance(x, keras.KerasTensor):\n            "
            "tf.py_function(__import__('os').abort, [], [])\n"
        ),
    )
    pytester.makepyfile(
        plugin_targets_b=dies.replace(
            "def build(", "    def compute_output_shape(self, shape):\n        return shape\n\ndef build("
        )
    )
    result = pytester.runpytest_inprocess(
        *QUIET, "--gradtwin", "plugin_targets_b:wrong", "--gradtwin-isolate", "-k", "outer and kernel"
    )
    result.assert_outcomes(failed=1, deselected=4)
    result.stdout.fnmatch_lines(
        [
            "verdict    crash: plugin_targets_b:wrong, killed by SIGABRT*",
            "replay     gradtwin check plugin_targets_b:wrong --variables mine/outer/kernel --isolate",
            "gradtwin: 1 variable, 1 crash",
        ]
    )


STUBBED = """
import pytest

@pytest.mark.parametrize("i", range(4))
def test_kinks(check_gradients, i):
    check_gradients(["kink", "match"])

def test_wrong(check_layer):
    check_layer(["mismatch", "match"])

def test_undecided(check_function, check_updates):
    assert check_function(["undecided"], allow=["undecided"]).ok
    check_updates(["match"])
"""


def test_reports_travel_from_the_workers_of_xdist(pytester):
    pytester.makeconftest(STUBS)
    pytester.makepyfile(STUBBED)
    options = (
        "-p",
        "no:cacheprovider",
        "-p",
        "no:benchmark",
        "--gradtwin-seed",
        "5",
        "--gradtwin-json",
        "all.json",
        "--junitxml",
        "junit.xml",
        "--gradtwin",
        "package:factory",
    )
    result = pytester.runpytest_subprocess(*options, "-n", "2")
    result.assert_outcomes(passed=5, failed=3)
    result.stdout.fnmatch_lines_random(
        [
            "verdict    mismatch: v0, by the oracle 'forward'",
            "replay     pytest *::test_wrong --gradtwin-seed 5",
            "verdict    mismatch: v1, by the oracle 'forward'",
            "verdict    nan: v2, by the oracle 'forward'",  # which no test stands for: it fails the first one
            "replay     gradtwin check package:factory --seed 5 --variables v1",
            (
                "gradtwin: 15 variables, 4 kinks, 1 undecided, 1 nan, 2 mismatches; smallest error that would have "
                "been seen 3e-09"
            ),
        ]
    )
    assert "Traceback" not in result.stdout.str()
    reports = json.loads((pytester.path / "all.json").read_text())["reports"]
    assert len(reports) == 9 and {r["seed"] for r in reports if "package" not in r["test"]} == {5}
    cases = ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    properties = {case.get("name"): [(p.get("name"), p.get("value")) for p in case.iter("property")] for case in cases}
    assert properties["test_wrong"] == [
        ("gradtwin_subject", "stub"),
        ("gradtwin_compared", "8 of 8"),
        ("gradtwin_verdicts", "1 match, 1 mismatch"),
        ("gradtwin_would_see", "3.0e-09"),
        ("gradtwin_seed", "5"),
    ]
    assert properties["v1"][:3] == [
        ("gradtwin_subject", "package:factory"),
        ("gradtwin_compared", "4 of 4"),
        ("gradtwin_verdicts", "1 mismatch"),
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
