"""Why a verdict is what it is: a code to branch on, and one sentence to read.

The text of a reason in a report is its code's sentence, with a gap `{}` for each detail that belongs to one case (an
operation's name, a number, a step).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """A reason's code. `sentence` is what it means; `template` its text in a report, the sentence unless given."""

    sentence: str
    template: str

    def __new__(cls, code: str, sentence: str = "", template: str = "") -> Self:
        """A member from its code, its sentence and its template."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence, member.template = sentence, template or sentence
        return member

    @property
    def failing(self) -> bool:
        """Whether a verdict fails a check for this reason, whatever its kind."""
        return self is Reason.NOTHING_TRAINS

    @property
    def is_kink(self) -> bool:
        """Whether the reason is a kink at the point, of which the slopes from left and right tell more."""
        return self in KINKS

    @property
    def is_handed(self) -> bool:
        """Whether the reason is what a train step hands to an optimizer, which the numbers of the verdict are then."""
        return self in HANDED

    @property
    def names_a_step(self) -> bool:
        """Whether the first gap of a reason for a train step of the model's own is the step of the training."""
        return self not in STEPLESS

    def text(self, *details: object) -> str:
        """The text in a report, its gaps filled. Raises: IndexError where a detail is missing."""
        return self.template.format(*details)

    # What the loss does at the point
    JUMP = "jump", "the loss jumps at the point"
    ON_A_JUMP = (
        "on-a-jump",
        (
            "the loss jumps here, where a comparison (or a rounding, or an index) decides: it has no derivative, and "
            "autodiff is right on the branch that the point lies on"
        ),
    )
    NOT_FINITE_BESIDE = "not-finite-beside", "the loss is not finite beside the point"
    NO_SLOPE = "no-slope", "autodiff is not finite and the loss has no slope at the point"
    AUTODIFF_RAISES = (
        "autodiff-raises",
        "the loss is finite, and autodiff itself raises an error",
        "the loss is finite, and autodiff itself raises: {}",
    )
    WRONG_SHAPE = (
        "wrong-shape",
        "autodiff gives a gradient of another shape than what it is the gradient of",
        "autodiff gives a gradient of shape {} for values of shape {}",
    )
    UNTAKEN_BRANCH = "untaken-branch", "the loss is finite; {} hides a branch whose own derivative is not"

    # Kinks, and points that differ from their neighbourhood
    KINK_BETWEEN = "kink-between", "a kink: autodiff lies between the sides"
    KINK_ALONE = (
        "kink-alone",
        "a kink: autodiff lies between the sides; no smooth point was found beside it",
    )
    KINK_WRONG_BESIDE = (
        "kink-wrong-beside",
        "at a kink, and autodiff is wrong at generic points beside it too",
    )
    KINKS_MEET = (
        "kinks-meet",
        "several kinks meet here: autodiff is off at this very point and right at generic points beside it",
    )
    KINK_OUTSIDE = (
        "kink-outside",
        "autodiff lies outside the slopes from left and right, and no smooth point was found beside",
    )
    KINK_EVERYWHERE = (
        "kink-everywhere",
        "left and right slopes differ along random directions, and no smooth point was found beside",
    )
    WRONG_ONLY_HERE = (
        "wrong-only-here",
        (
            "only at this very point, where the loss has a derivative: its slopes from all sides agree, and autodiff "
            "is right beside it"
        ),
    )
    BEYOND_KINKS = (
        "beyond-kinks",
        "at a kink, and autodiff is farther outside the slopes from left and right than kinks that meet here explain",
    )
    BLUNT = (
        "blunt",
        "an error as large as the gradient itself would have been let through, here and with weights and inputs scaled",
    )
    DECIDED_BESIDE = (
        "decided-beside",
        "the loss does not carry the digits of this gradient; compared with weights and inputs scaled",
    )
    WRONG_BESIDE = (
        "wrong-beside",
        "the loss does not carry the digits of this gradient; autodiff is wrong with weights and inputs scaled",
    )
    BESIDE_A_JUMP = (
        "beside-a-jump",
        "compared at a point beside: the slope jumps at the point itself, where the loss has a kink",
    )

    # Autodiff says None
    NONE_WHERE_LOSS_MOVES = "none-where-loss-moves", "autodiff gives None where the loss moves"
    NONE_EXPLAINED = "none-explained", "autodiff gives None where the loss moves: {}"
    NOT_CONNECTED = "not-connected", "not connected to the loss"
    CONNECTED_ONLY_IN = "connected-only-in", "connected to the loss only in {}"
    STOPPED = "stopped", "stopped on purpose by {}"
    NOT_DIFFERENTIABLE = (
        "not-differentiable",
        "an operation on the way to the loss is not differentiable",
        "not differentiable: {}",
    )
    NO_OPERATION_LEADS = (
        "no-operation-leads",
        (
            "no operations lead from it to the loss, which depends on it in a way that autodiff does not follow: an "
            "assigned variable, NumPy or other Python"
        ),
    )
    ONLY_EAGER = "only-eager", "the code runs only eagerly, where no graph shows why"
    NO_GRADIENT = "no-gradient", "no gradient, although it is connected to the loss"
    NOTHING_TRAINS = (
        "nothing-trains",
        "no trained variable has a gradient, which Keras's optimizer refuses (No gradients provided for any variable)",
        (
            "{}; no other trained variable has a gradient either, which Keras's optimizer refuses (No gradients "
            "provided for any variable)"
        ),
    )

    # The loss or its gradient depends on more than the point
    LOSS_NOT_REPEATABLE = "loss-not-repeatable", "the loss is {} and {} at the same point"
    LOSS_DEPENDS_ON_MODE = (
        "loss-depends-on-mode",
        "the loss itself is {} in mode {} and {} in the graph that is differenced",
    )
    NONE_IN_ONE_MODE = "none-in-one-mode", "None in {} only"
    DOES_NOT_COMPILE = "does-not-compile", "it does not compile: {}"
    FORWARD_AND_REVERSE_DIFFER = "forward-and-reverse-differ", "forward mode gives {}, reverse mode {}"

    # The digits of a derivative
    FEW_DIGITS = (
        "few-digits",
        (
            "right to the scale of the loss, and most of its own digits are lost: fewer than half of what the "
            "conditioning of the function allows are right"
        ),
        "{} digits are right of {} that the conditioning of the function allows",
    )

    # What it trains in
    NOT_FINITE_IN_PRECISION = (
        "not-finite-in-precision",
        "the gradient is finite in float64 and not in the precision that training computes in",
        "the gradient is finite in float64 and not in {}, which training computes in",
    )

    # What was expected or is known
    ONE_TRIANGLE = (
        "one-triangle",
        (
            "the function does not read the {} triangle, and autodiff spreads the slope over both; along symmetric "
            "changes they agree"
        ),
    )
    STOPPED_IN_PART = (
        "stopped-in-part",
        (
            "{} cuts a path to the loss; the gradient agrees with slopes that hold its value. If that is meant, say "
            "expect={{'{}': 'stop_gradient'}}, or --expect '{}=stop_gradient'"
        ),
    )
    STOPPED_AS_DECLARED = (
        "stopped-as-declared",
        "as declared, {} cuts a path to the loss, and the gradient agrees with slopes that hold its value",
    )
    WRONG_BESIDE_STOP = "wrong-beside-stop", "{} was declared, and slopes that hold its value differ too"
    WITHIN_APPROXIMATION = "within-approximation", "off by {} of its largest entry, within the {} that is declared"
    BEYOND_APPROXIMATION = "beyond-approximation", "off by {} of its largest entry, more than the {} that is declared"
    SURROGATE_BY_NAME = "surrogate-by-name", "declared a surrogate; found: {}"
    SURROGATE_BY_LAYER = "surrogate-by-layer", "its gradient passes through a layer under @surrogate; found: {}"
    SURROGATE_BY_QUANTIZATION = (
        "surrogate-by-quantization",
        "a layer quantizes it, a staircase to which Keras gives the gradient of the line through it; found: {}",
    )
    WRONG_BESIDE_SURROGATE = (
        "wrong-beside-surrogate",
        "compared with the outputs of the layers that have a surrogate gradient held as they are; found: {}",
    )
    KNOWN_DEPARTURE = "known-departure", "Keras is known to depart from the definition here", "{}: {}"

    # Random directions and bisection
    OTHERS_MATCH = "others-match", "the other entries match along a random direction"
    OTHERS_WRONG = "others-wrong", "other entries of this variable are wrong too"
    WHOLE_TENSOR = "whole-tensor", "the whole tensor is wrong, by a factor of {}"
    NOT_TOLD_APART = "not-told-apart", "{} variables are wrong already; the others were not told apart"
    NO_SINGLE_ENTRY = (
        "no-single-entry",
        "random directions disagree, and bisection found no entry that is wrong by itself",
    )

    # Training steps
    WORST_STEP = "worst-step", "worst at step {}"
    GRADIENT_DIFFERS = "gradient-differs", "step {}: the gradient differs, not the law"
    LAW_DIFFERS = (
        "law-differs",
        "step {}: Keras's step is not the optimizer's law even with Keras's own gradient",
    )
    FORWARD_WRITES = (
        "forward-writes",
        "step {}: the forward pass of the step writes this weight by itself, before the optimizer moves it",
    )
    STEP_DEPARTS = "step-departs", "Keras's step is known to depart from the optimizer's law here", "step {}: {}"
    OWN_STEP_GRADIENT = (
        "own-step-gradient",
        "the model's own train step hands over gradients that are not the slopes of the loss that it returns",
        "step {}: the model's own train step hands over gradients that are not the slopes of the loss that it {}",
    )
    OWN_STEP_FOREIGN = (
        "own-step-foreign",
        "the model's own train step hands over the gradient by one variable as another one's",
        "step {}: the model's own train step hands over the gradient by {} here",
    )
    OWN_STEP_LOSS = (
        "own-step-loss",
        "the model's own train step hands over the slopes of losses that it computes",
        "worst at step {}: the model's own train step hands over {}",
    )
    OWN_STEP_OTHER_LOSS = (
        "own-step-other-loss",
        "the model's own train step differentiates another loss than it returns",
        (
            "step {}: the model's own train step hands over the slopes of the loss that it differentiates ({}), and "
            "returns another one ({})"
        ),
    )
    OWN_STEP_MOVED = (
        "own-step-moved",
        "the model's own train step moves weights between a gradient and its update: it hands over slopes at others",
        (
            "step {}: the model's own train step moves the weights between the gradient and the update: it hands over "
            "slopes at other weights"
        ),
    )
    OWN_STEP_SUM = (
        "own-step-sum",
        "the model's own train step gathers gradients, and hands over their sum, not their mean",
        "step {}: the model's own train step hands over the sum of the gradients of {} losses, not their mean",
    )
    OWN_STEP_MOVES = (
        "own-step-moves",
        "the model's own train step moves a weight by itself: by a moving average, or along slopes",
        "worst at step {}: the model's own train step {}",
    )
    OWN_STEP_MOVES_ASIDE = (
        "own-step-moves-aside",
        "the model's own train step moves a weight by itself, not along slopes as it does others",
        (
            "step {}: the model's own train step moves this weight by itself, not by {} times slopes of the loss that "
            "it differentiates, as it does others"
        ),
    )
    OWN_STEP_GATHERS = (
        "own-step-gathers",
        (
            "the model's own train step hands over no slopes of the loss that it returns: it moves weights by itself, "
            "updates several times, or gathers gradients"
        ),
    )
    OWN_STEP = (
        "own-step",
        "the model's own train step is no gradient step of a loss that it returns",
        "the model's own train step cannot be judged: {}",
    )
    NO_TWIN = "no-twin", "there is no NumPy twin to compare with", "{}"

    # The process that checked
    PROCESS_DIED = "process-died", "the process died in which the gradient was computed", "{}"


#: reasons for a train step of the model's own that are about no step of it
STEPLESS = frozenset((Reason.OWN_STEP, Reason.OWN_STEP_GATHERS))
#: reasons that are about a gradient which a train step of a model's own hands to an optimizer, and fail
HANDED = frozenset(
    (
        Reason.OWN_STEP_GRADIENT,
        Reason.OWN_STEP_FOREIGN,
        Reason.OWN_STEP_OTHER_LOSS,
        Reason.OWN_STEP_MOVED,
        Reason.OWN_STEP_SUM,
        Reason.OWN_STEP_GATHERS,
    )
)
#: reasons that are about a kink at the point itself
KINKS = frozenset(
    (
        Reason.KINK_BETWEEN,
        Reason.KINK_ALONE,
        Reason.KINK_WRONG_BESIDE,
        Reason.KINKS_MEET,
        Reason.KINK_OUTSIDE,
        Reason.KINK_EVERYWHERE,
        Reason.BEYOND_KINKS,
    )
)
