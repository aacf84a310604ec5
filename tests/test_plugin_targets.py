"""Targets in pytest, through pytester: a test for each variable, in this process, in one of their own, under xdist."""

import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from stubbed_checks import STUBS
from tested_projects import DOUBLED, QUIET

from keras_ref.frontends.invocations import variable_names
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.inputs import targets
from keras_ref.reports.verdict import Report, Verdict

TARGETS = (
    """
import keras, tensorflow as tf
"""
    + DOUBLED
    + """
def build(*more):
    keras.utils.set_random_seed(1)
    inner, outer = keras.layers.Dense(2, "tanh", name="inner"), keras.layers.Dense(1, name="outer")
    m = keras.Sequential([keras.Input((3,)), inner, *more, outer], name="mine")
    m.compile(optimizer="sgd", loss="mse")
    return m

def wrong():
    return build(Doubled())
"""
)


@pytest.mark.sampled
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
            "gradtwin: 8 variables and 2 inputs, 3 mismatches; smallest error that would have been seen *",
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


@pytest.mark.sampled
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


@pytest.mark.sampled
def test_reports_travel_from_the_workers_of_xdist(pytester):
    pytester.makeconftest(STUBS)
    pytester.makepyfile(STUBBED)
    options = (
        "-p",
        "no:cacheprovider",
        "-p",
        "no:benchmark",
        "-p",
        "no:randomly",
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
    checked = pytester.path / "checked.log"
    assert checked.read_text().split() == ["package:factory"]  # once, whoever has its tests
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
    written = (pytester.path / "all.json").read_text()
    alone = pytester.runpytest_subprocess(*options, "--gradtwin-force", "-p", "no:xdist")
    alone.assert_outcomes(passed=5, failed=3)
    assert (pytester.path / "all.json").read_text() == written


#: a conftest that notes which processes compute blocks
NOTED = """
import os
from keras_ref.frontends.invocations import distribution

call = distribution._Stored.__call__

def noted(self, *arguments):
    with open("computed.log", "a") as log:
        print(os.getpid(), file=log)
    return call(self, *arguments)

distribution._Stored.__call__ = noted
"""
SPREAD = """
import keras, numpy as np

def build():
    keras.utils.set_random_seed(1)
    relu, tanh, last = (keras.layers.Dense(n, a) for n, a in ((40, "relu"), (40, "tanh"), (3, None)))
    m = keras.Sequential([keras.Input((20,)), relu, tanh, last], name="mine")
    m.compile(optimizer="sgd", loss="mse")
    draw = np.random.default_rng(0).normal
    return m, draw(size=(8, 20)), draw(size=(8, 3))
"""


@pytest.mark.slow
def test_what_processes_of_xdist_check_together_is_what_one_checks(pytester):
    """Kinks too, whose neighbourhoods all variables share."""
    pytester.makepyfile(spread_targets=SPREAD)
    pytester.makeconftest(NOTED)
    options = ("-p", "no:cacheprovider", "-p", "no:randomly", "--gradtwin", "spread_targets:build")
    options = (*options, "--gradtwin-effort", "full", "--gradtwin-json")
    pytester.runpytest_subprocess(*options, "alone.json", "-p", "no:xdist").assert_outcomes(passed=7)
    assert not (pytester.path / "computed.log").exists()
    pytester.runpytest_subprocess(*options, "spread.json", "-n", "2").assert_outcomes(passed=7)
    assert len({*(pytester.path / "computed.log").read_text().split()}) == 2
    assert (pytester.path / "spread.json").read_text() == (pytester.path / "alone.json").read_text()


@pytest.mark.sampled
def test_workers_of_xdist_that_are_tested_each_check_by_themselves(pytester):
    pytester.makeconftest(STUBS)
    options = ("-p", "no:cacheprovider", "-p", "no:benchmark", "--gradtwin", "package:factory")
    result = pytester.runpytest_subprocess(*options, "--dist", "each", "--tx", "2*popen")
    result.assert_outcomes(failed=4)
    assert (pytester.path / "checked.log").read_text().split() == ["package:factory"] * 2


def test_a_generator_is_one_batch_for_all_variables(pytester, monkeypatch):
    """Also where some variables are selected, and each is checked by itself."""
    ran = []

    def run(invocation, target, progress=None, loaded=None, executor=None):
        ran.append(loaded)
        name = invocation.value("variables")
        return Report(target, (Verdict(name, "forward", "match", 4, 4, visible=1e-9),))

    batches = ((np.full((2, 1), i), np.zeros((2, 1))) for i in range(3))
    monkeypatch.setattr(targets, "load_target", lambda target: ("model", batches, None, None))
    monkeypatch.setattr(variable_names, "list_variable_names", lambda model, x, seed: ["first", "second", "third"])
    monkeypatch.setattr(Invocation, "run", run)
    result = pytester.runpytest_inprocess(*QUIET, "--gradtwin", "m:build", "-k", "first or second")
    result.assert_outcomes(passed=2, deselected=1)
    assert len(ran) == 2
    for _, x, y, weight in ran:
        np.testing.assert_array_equal(x, np.zeros((2, 1)))
        assert y.shape == (2, 1) and weight is None
