"""Every verb in every scope that TensorFlow and Keras have: right, or refused in one sentence, and nothing changes."""

import subprocess
import sys
from pathlib import Path

import pytest
from everything import changes, everything
from scopes import REFUSING, RIGHT
from subjects import SUBJECTS

from keras_ref.errors import BadInput


@pytest.fixture(scope="module")
def subjects():
    return {name: make() for name, make in SUBJECTS.items()}


def name_of(scope):
    return scope.__name__


@pytest.mark.sampled
@pytest.mark.parametrize("scope", REFUSING, ids=name_of)
@pytest.mark.parametrize("name", SUBJECTS)
def test_a_scope_that_refuses(subjects, name, scope):
    objects, variables, call = subjects[name]
    before = everything(*objects, variables=variables)
    with pytest.raises(BadInput) as caught:
        scope(call)
    assert str(caught.value) == REFUSING[scope]
    assert changes(before, everything(*objects, variables=variables)) == []


def found_in(report):
    """What a report says, and what it says it of; the numbers of some verdicts depend on measured noise."""
    if hasattr(report, "rows"):
        return [(row.stage, row.a, row.b, row.agrees) for row in report.rows]
    return [(v.name, v.oracle, v.verdict, v.compared) for v in report.verdicts]


@pytest.mark.slow
@pytest.mark.parametrize("scope", RIGHT, ids=name_of)
@pytest.mark.parametrize("name", SUBJECTS)
def test_a_scope_in_which_verbs_are_right(subjects, name, scope):
    objects, variables, call = subjects[name]
    alone, reports, found = call(), [], []

    def compared():
        """Inside of the scope, which may itself draw random numbers, and build models, which take names."""
        before = everything(*objects, variables=variables)
        reports.append(call())
        found.extend(changes(before, everything(*objects, variables=variables)))

    scope(compared)
    assert reports
    assert [found_in(report) for report in reports] == [found_in(alone)] * len(reports)
    assert found == []


TWO_DEVICES = """
import sys
sys.path.insert(0, {place!r})
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from subjects import SUBJECTS
from keras_ref.errors import BadInput

strategy = tf.distribute.MirroredStrategy(["/CPU:0", "/CPU:1"])
assert strategy.num_replicas_in_sync == 2

def inside(call):
    with strategy.scope():
        call()

def sentence(call):
    try:
        call()
    except BadInput as error:
        return str(error)
    return "no error"

for name, make in SUBJECTS.items():
    *_, call = make()
    print(name, "in the scope", sentence(lambda: inside(call)), sep=": ")
    print(name, "in a replica", sentence(lambda: strategy.run(call)), sep=": ")
    with strategy.scope():
        *_, call = make()
    print(name, "built in the scope", sentence(call), sep=": ")
"""
IN_SCOPE = (
    "A check must run outside of a distribution scope. Received: a call inside that of MirroredStrategy. Leave the "
    "scope, or build the model without it."
)
BUILT = "A variable must be on one device to be checked. Received: "


@pytest.mark.slow
def test_two_devices():
    code = TWO_DEVICES.format(place=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3 * len(SUBJECTS)
    for line in lines:
        name, where, said = line.split(": ", 2)
        if where == "built in the scope":
            assert said.startswith(BUILT), line
            assert "a MirroredVariable. Build the model outside of the distribution scope" in said, line
        else:
            assert said == IN_SCOPE, (name, where)
