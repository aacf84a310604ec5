"""What to look at where a check fails, by the kind, the oracle and the reason of a failure: a report's closing line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keras_ref.reports.kinds import Kind, find_worst
from keras_ref.reports.reasons import Reason


@dataclass(frozen=True)
class Failure:
    """What an advice is chosen by: the parts of a failed verdict."""

    kind: Kind
    oracle: str
    reason_code: Reason | None


@dataclass(frozen=True)
class Advice:
    """What to look at, and the failures that it is for: of these kinds, oracles and reasons; None for any."""

    text: str
    kinds: frozenset[Kind] | None = None
    oracles: frozenset[str] | None = None
    reasons: frozenset[Reason | None] | None = None

    def fits(self, failure: Failure) -> bool:
        """Whether it is for this failure."""
        return (
            (self.kinds is None or failure.kind in self.kinds)
            and (self.oracles is None or failure.oracle in self.oracles)
            and (self.reasons is None or failure.reason_code in self.reasons)
        )


def _advise(text: str, *kinds: Kind, oracles: tuple[str, ...] = (), reasons: tuple[Reason | None, ...] = ()) -> Advice:
    """An advice; nothing given means any."""
    return Advice(text, frozenset(kinds) or None, frozenset(oracles) or None, frozenset(reasons) or None)


#: what to look at where a check fails: the first that fits a failure of the worst kind
ADVICE = (
    _advise("the process died before a gradient could be compared: look at the operation that kills it", Kind.CRASH),
    _advise(
        "autodiff gives None where the loss moves: look at what cuts the gradient off",
        Kind.MISMATCH,
        reasons=(Reason.NONE_WHERE_LOSS_MOVES, Reason.NONE_EXPLAINED),
    ),
    _advise(
        "a gradient must have the shape of what it is the gradient of: look at the backward pass that makes it",
        Kind.MISMATCH,
        reasons=(Reason.WRONG_SHAPE,),
    ),
    _advise(
        "autodiff is not the derivative of Keras's own forward pass: look at the backward pass",
        Kind.MISMATCH,
        oracles=("forward",),
    ),
    _advise(
        "autodiff is the derivative of Keras's forward pass, which is not the definition: look at the forward pass",
        Kind.MISMATCH,
        oracles=("twin",),
    ),
    _advise(
        "the gradient is right and its own derivative is not: look at the backward pass of the backward pass",
        Kind.MISMATCH,
        oracles=("hessian",),
    ),
    _advise(
        "reverse mode is right and forward mode is not: look at the forward-mode rule (tf.autodiff.ForwardAccumulator)",
        Kind.MISMATCH,
        oracles=("forward-mode",),
    ),
    _advise(
        "the gradient is right and the update is not: look at the optimizer",
        Kind.MISMATCH,
        oracles=("update",),
        reasons=(Reason.LAW_DIFFERS,),
    ),
    _advise(
        "a layer assigns to a weight that is trained: look at what its call does in training",
        Kind.MISMATCH,
        oracles=("update",),
        reasons=(Reason.FORWARD_WRITES,),
    ),
    _advise(
        "the optimizer applies the gradients that it is handed: look at what the train step makes of the gradient",
        Kind.MISMATCH,
        oracles=("update",),
        reasons=(Reason.OWN_STEP_GRADIENT, Reason.OWN_STEP_FOREIGN),
    ),
    _advise(
        "the train step moves weights by itself: look at the gradient that it takes",
        Kind.MISMATCH,
        oracles=("update",),
        reasons=(Reason.OWN_STEP_MOVES_ASIDE,),
    ),
    _advise(
        "the step is the optimizer's law, on a gradient that is not the loss's: check the gradients",
        Kind.MISMATCH,
        oracles=("update",),
    ),
    _advise(
        "the gradient is right in float64 and not finite in the precision of training: scale the loss, or let these "
        "layers compute in a higher precision",
        Kind.NAN,
        oracles=("low-precision",),
    ),
    _advise(
        "the loss is finite and its gradient is not: give the branch that is not taken an argument at which its "
        "gradient is finite",
        Kind.NAN,
        reasons=(Reason.UNTAKEN_BRANCH,),
    ),
    _advise(
        "the forward pass runs and the backward pass does not: look at the operation that raises",
        Kind.NAN,
        reasons=(Reason.AUTODIFF_RAISES,),
    ),
    _advise("the loss is finite and its gradient is not: look at the backward pass at this point", Kind.NAN),
    _advise(
        "the gradient depends on how it is computed: look at what differs between eager execution, graph and XLA",
        Kind.MODE_DEPENDENT,
    ),
    _advise(
        "the gradient is right to the scale of the loss and has lost most of its own digits: look at what cancels in "
        "the backward pass",
        Kind.INACCURATE,
    ),
    _advise(
        "the loss is no function of its inputs: look for random draws, counters and other state in it",
        Kind.NONDETERMINISTIC,
    ),
    _advise(
        "nothing was shown to be wrong: the train step cannot be compared with the slopes of a loss",
        Kind.UNDECIDED,
        reasons=(Reason.OWN_STEP, Reason.OWN_STEP_GATHERS),
    ),
    _advise(
        "nothing was shown to be wrong in a backward pass or an optimizer: check whether the train step is "
        "meant to do this",
        Kind.UNDECIDED,
        reasons=(Reason.OWN_STEP_MOVED, Reason.OWN_STEP_SUM, Reason.OWN_STEP_OTHER_LOSS),
    ),
    _advise(
        "nothing was shown to be wrong: there is no definition to compare with",
        Kind.UNDECIDED,
        reasons=(Reason.NO_TWIN,),
    ),
    _advise(
        "nothing was shown to be wrong: the loss has no slope at this point; look at it, or check another point",
        Kind.UNDECIDED,
        reasons=(Reason.JUMP, Reason.NOT_FINITE_BESIDE, Reason.NO_SLOPE),
    ),
    _advise(
        "nothing was shown to be wrong: the subject does not run in this mode",
        Kind.UNDECIDED,
        reasons=(Reason.DOES_NOT_COMPILE,),
    ),
    _advise("nothing was shown to be wrong, and too little to be right: check another point", Kind.UNDECIDED),
    _advise(f"{Reason.NOTHING_TRAINS.sentence}: look at the operations that stop it", reasons=(Reason.NOTHING_TRAINS,)),
    _advise("look at the first of the failures"),
)


def advise(failures: Iterable[Failure]) -> str:
    """The advice for some failures: the first of ADVICE that fits one of the worst kind."""
    found = list(failures)
    worst = find_worst(failure.kind for failure in found)
    deciding = [failure for failure in found if failure.kind is worst]
    return next(advice.text for advice in ADVICE if any(map(advice.fits, deciding)))
