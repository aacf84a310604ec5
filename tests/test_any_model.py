"""Every kind of model in model_kinds.py and its neighbours (loss, given, saved and train_step kinds): right, nothing is
accused; with an error of 1e-4 planted in it, it is found.
"""

import given_kinds  # noqa: F401 (registers its kinds)
import keras
import loss_kinds  # noqa: F401 (registers its kinds)
import pytest
import saved_kinds  # noqa: F401 (registers its kinds)
import train_step_kinds  # noqa: F401 (registers its kinds)
from model_kinds import KINDS, PLANTED

import keras_ref


def found(name, wrong):
    keras.utils.set_random_seed(5)
    made = KINDS[name](wrong)
    check = made.check if callable(made.check) else getattr(keras_ref, made.check)
    return check(made.model, made.x, made.y, **made.options)


@pytest.mark.sampled
@pytest.mark.parametrize("name", KINDS)
def test_right(name):
    report = found(name, 0.0)
    assert report.ok, report.explain()
    assert {v.oracle for v in report.verdicts} & {"forward", "update"}


@pytest.mark.sampled
@pytest.mark.parametrize("name", KINDS)
def test_planted(name):
    report = found(name, PLANTED)
    assert "mismatch" in {v.verdict for v in report.failures}, report
    assert all(v.compared for v in report.failures)
