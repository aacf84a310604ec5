"""An operation that the campaign accuses, minimised at the first point at which it does."""

from __future__ import annotations

import time

from keras_ref.campaign.points import draw_generic_arguments, make_points
from keras_ref.campaign.run import bind_floats
from keras_ref.campaign.subjects import NotCalled, find_subject
from keras_ref.checks.layers_and_functions import check_function
from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.guard import leaves_no_trace
from keras_ref.minimisation.finding import list_findings
from keras_ref.minimisation.minimise import SECONDS, Minimised, NothingToMinimise, minimise
from keras_ref.reports.reasons import Reason
from scratch.progress import Progress


@leaves_no_trace
def minimise_operation(
    name: str, *, seed: int = 0, seconds: float = SECONDS, progress: Progress | None = None
) -> Minimised:
    """Minimise an operation, "tensorflow.math.xlogy" say, at a point at which its derivative is wrong.

    Raises: NothingToMinimise where it is right at all points; BadInput where it is not called by the campaign.
    """
    subject = find_subject(name, lambda kinds: draw_generic_arguments(kinds, seed))
    if isinstance(subject, NotCalled):
        raise BadInput(
            f"An operation must be one that the campaign calls. Received: {name}, which {subject.reason}. Give a "
            "factory that returns (function, *inputs)."
        )
    started = time.monotonic()
    options = {**subject.options}
    refusal: BadInput | None = None
    for point, arguments in make_points(subject.arguments, seed):
        if progress is not None:
            progress(0, 1, point)
        try:
            function, floats = bind_floats(subject.function, arguments, options)
            report = check_function(function, *floats, seed=seed)
        except BadInput:
            continue  # no finite value here
        wrong = [v for v in report.verdicts if v.reason_code is not Reason.NO_SLOPE]
        if not list_findings(report) or not any(v.failed for v in wrong):
            continue
        left = max(1.0, seconds - (time.monotonic() - started))
        try:
            return minimise(subject.function, *arguments, report=report, seconds=left, progress=progress, **options)
        except BadInput as error:
            refusal = error
    if refusal is not None:
        raise refusal
    raise NothingToMinimise(
        f"A subject must fail a check to be made small. Received: {name}, whose derivative is right at all points of "
        "the campaign. Check it at the point at which it failed."
    )
