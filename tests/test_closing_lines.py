"""The last line of a failed report, and slopes from both sides: each fits the kind and the reason of the failure."""

import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_function
from keras_ref.reports.advice import ADVICE, Failure, advise
from keras_ref.reports.kinds import FAILING
from keras_ref.reports.reasons import KINKS, Reason
from keras_ref.reports.verdict import Kind, Report, Verdict

BACKWARD = "autodiff is not the derivative of Keras's own forward pass: look at the backward pass"
OPTIMIZER = "the gradient is right and the update is not: look at the optimizer"

#: (kind, oracle, reason) → the closing line of a report that fails for it alone
LINES = {
    ("crash", "process", Reason.PROCESS_DIED): (
        "the process died before a gradient could be compared: look at the operation that kills it"
    ),
    ("mismatch", "forward", None): BACKWARD,
    ("mismatch", "forward", Reason.WRONG_ONLY_HERE): BACKWARD,
    ("mismatch", "forward", Reason.NONE_EXPLAINED): (
        "autodiff gives None where the loss moves: look at what cuts the gradient off"
    ),
    ("mismatch", "forward", Reason.WRONG_SHAPE): (
        "a gradient must have the shape of what it is the gradient of: look at the backward pass that makes it"
    ),
    ("nan", "forward", Reason.AUTODIFF_RAISES): (
        "the forward pass runs and the backward pass does not: look at the operation that raises"
    ),
    ("mismatch", "twin", None): (
        "autodiff is the derivative of Keras's forward pass, which is not the definition: look at the forward pass"
    ),
    ("mismatch", "hessian", None): (
        "the gradient is right and its own derivative is not: look at the backward pass of the backward pass"
    ),
    ("mismatch", "forward-mode", None): (
        "reverse mode is right and forward mode is not: look at the forward-mode rule (tf.autodiff.ForwardAccumulator)"
    ),
    ("mismatch", "update", Reason.LAW_DIFFERS): OPTIMIZER,
    ("mismatch", "update", Reason.GRADIENT_DIFFERS): (
        "the step is the optimizer's law, on a gradient that is not the loss's: check the gradients"
    ),
    ("mismatch", "update", Reason.OWN_STEP_GRADIENT): (
        "the optimizer applies the gradients that it is handed: look at what the train step makes of the gradient"
    ),
    ("nan", "forward", Reason.UNTAKEN_BRANCH): (
        "the loss is finite and its gradient is not: give the branch that is not taken an argument at which its "
        "gradient is finite"
    ),
    ("nan", "forward", Reason.NO_SLOPE): (
        "the loss is finite and its gradient is not: look at the backward pass at this point"
    ),
    ("nan", "low-precision", Reason.NOT_FINITE_IN_PRECISION): (
        "the gradient is right in float64 and not finite in the precision of training: scale the loss, or let these "
        "layers compute in a higher precision"
    ),
    ("mode-dependent", "jit_compile", None): (
        "the gradient depends on how it is computed: look at what differs between eager execution, graph and XLA"
    ),
    ("nondeterministic", "forward", Reason.LOSS_NOT_REPEATABLE): (
        "the loss is no function of its inputs: look for random draws, counters and other state in it"
    ),
    ("inaccurate", "digits", Reason.FEW_DIGITS): (
        "the gradient is right to the scale of the loss and has lost most of its own digits: look at what cancels in "
        "the backward pass"
    ),
    ("undecided", "forward", Reason.JUMP): (
        "nothing was shown to be wrong: the loss has no slope at this point; look at it, or check another point"
    ),
    ("undecided", "forward", Reason.BLUNT): (
        "nothing was shown to be wrong, and too little to be right: check another point"
    ),
    ("undecided", "jit_compile", Reason.DOES_NOT_COMPILE): (
        "nothing was shown to be wrong: the subject does not run in this mode"
    ),
    ("undecided", "update", Reason.NO_TWIN): "nothing was shown to be wrong: there is no definition to compare with",
    ("undecided", "update", Reason.OWN_STEP): (
        "nothing was shown to be wrong: the train step cannot be compared with the slopes of a loss"
    ),
}


@pytest.mark.parametrize("case", LINES, ids=str)
def test_line(case):
    kind, oracle, reason = case
    report = Report("m", (Verdict("w", oracle, kind, reason_code=reason), Verdict("v", "forward", "match")))
    assert report.oracles == LINES[case]


def test_the_worst_kind_decides():
    """What was shown to be wrong is what to look at, whatever else is undecided."""
    undecided = Verdict("v", "forward", "undecided", reason_code=Reason.JUMP)
    assert Report("m", (undecided, Verdict("w", "twin", "mismatch"))).oracles == LINES["mismatch", "twin", None]


def test_every_failure_has_a_line_that_accuses_no_one_else():
    """Only a mismatch blames a backward pass or an optimizer; what is undecided blames nobody."""
    oracles = {oracle for _, oracle, _ in LINES}
    for kind in FAILING:
        for oracle in oracles:
            for reason in (None, *Reason):
                line = advise([Failure(kind, oracle, reason)])
                assert (kind is Kind.UNDECIDED) == line.startswith("nothing was shown to be wrong"), (kind, reason)
                assert line not in (BACKWARD, OPTIMIZER) or kind is Kind.MISMATCH
                assert line != OPTIMIZER or reason is Reason.LAW_DIFFERS
    assert len({advice.text for advice in ADVICE}) == len(ADVICE)


@pytest.mark.parametrize("reason", [None, *Reason])
@pytest.mark.parametrize("kind", ["mismatch", "kink", "undecided"])
def test_both_sides_are_shown_at_kinks_alone(kind, reason):
    verdict = Verdict("w", "forward", kind, reason_code=reason, left=-1.0, right=1.0)
    shown = " (left -1.000000e+00, right +1.000000e+00)" in verdict.explain()
    assert shown == (kind == "kink" or reason in KINKS)


def assigned():
    """A loss that reads a variable which another one is assigned to: the loss moves, and no operation leads there."""
    kept, weight = (
        tf.Variable(1.0, dtype="float64", trainable=False),
        tf.Variable([0.5, 2.0], dtype="float64", name="w"),
    )

    def loss(x):
        kept.assign(tf.reduce_sum(weight**2))
        return kept * tf.reduce_sum(x)

    return loss, weight


def through_numpy():
    """A loss that reads a variable in NumPy."""
    weight = tf.Variable([0.5, 2.0], dtype="float64", name="w")
    return lambda x: tf.numpy_function(lambda w: np.sum(w**2), [weight], tf.float64) * tf.reduce_sum(x), weight


@pytest.mark.parametrize("way", [assigned, through_numpy])
def test_a_loss_that_moves_is_not_said_to_be_unconnected(way):
    """What moves the loss is never called "not connected to the loss"."""
    loss, weight = way()
    report = check_function(loss, np.array([1.0, 3.0]), variables=[weight])
    (found,) = [v for v in report.verdicts if v.name == "w"]
    assert found.verdict == "mismatch" and found.reason_code is Reason.NONE_EXPLAINED, report
    text = report.explain()
    assert "not connected" not in text and "does not move" not in text
    assert report.oracles == "autodiff gives None where the loss moves: look at what cuts the gradient off"


def test_an_assigned_variable_is_explained():
    loss, weight = assigned()
    report = check_function(loss, np.array([1.0, 3.0]), variables=[weight])
    assert report.failures[0].reason == (
        "autodiff gives None where the loss moves: no operations lead from it to the loss, which depends on it in a "
        "way that autodiff does not follow: an assigned variable, NumPy or other Python"
    )
