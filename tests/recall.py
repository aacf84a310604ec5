"""Recall: of public reports of wrong derivatives, which are live in what is installed, and which gradtwin finds untold.

    python tests/recall.py [--only WORD]

Each report has the function it is about, and the closed form at the reporter's point. It is live where TensorFlow by
itself differs from the closed form. Found is what a public verb says by itself: it gets the function, the option that
the report is about (order=2, forward_mode, digits), and the special points that the campaign has for arguments of that
kind (keras_ref/campaign/points.py), never the reporter's point; where it finds nothing, what `gradtwin campaign` says
of the operation. Prints a row for each report, and the counts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Sequence

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
from recall_closed import CLOSED
from recall_further import FURTHER
from recall_open import OPEN
from support_recall import Report

from keras_ref import check_function
from keras_ref.campaign.points import make_points
from keras_ref.campaign.run import check_operation
from keras_ref.errors import BadInput
from keras_ref.reports.kinds import Kind
from keras_ref.reports.reasons import Reason
from keras_ref.reports.verdict import Verdict

#: what accuses a derivative
ACCUSED = (Kind.MISMATCH, Kind.NAN, Kind.MODE_DEPENDENT, Kind.INACCURATE, Kind.DISCONNECTED)
#: what a reporter's point has to keep of the closed form not to be live
DIGITS = 1e-6


def is_live(report: Report) -> bool:
    """Whether TensorFlow differs from the closed form at the reporter's point. Raises what TensorFlow raises."""
    got, want = (np.ravel(np.asarray(v, complex)) for v in report.live())
    with np.errstate(invalid="ignore"):
        return not bool(np.all(np.abs(got - want) <= DIGITS * np.abs(want)))


def accused_by(report: Report) -> str:
    """The point and the verdict with which check_function accuses the function; "" where it does not."""
    refused: Counter[str] = Counter()
    for name, arguments in make_points(report.kinds, 0):
        if report.points and name not in report.points:
            continue
        try:
            said = check_function(report.function, *arguments, **report.options)
        except BadInput as refusal:
            refused[str(refusal)] += 1
            continue
        for verdict in (v for v in said.verdicts if _accuses(v, report)):
            return f"{name}: {verdict.verdict} of {verdict.name}, {verdict.autodiff:.3g} for {verdict.numeric:.3g}"
    # a derivative that is missing is refused in a sentence that names it
    missing = [text for text in refused if report.refusal and report.refusal in text]
    if missing:
        return f"refusal: {missing[0]}"
    accusations = check_operation(report.operation).accusations if report.operation else ()
    return f"campaign: {accusations[0]}" if accusations else ""


def _accuses(verdict: Verdict, report: Report) -> bool:
    """Whether a verdict accuses what the report is about: the first derivative, the second, or forward mode."""
    of_order = {"order": ("hessian", "hessian-digits"), "forward_mode": ("forward-mode",)}
    wanted = [oracles for option, oracles in of_order.items() if option in report.options]
    about = verdict.oracle in wanted[0] if wanted else verdict.oracle not in sum(of_order.values(), ())
    return about and verdict.verdict in ACCUSED and verdict.reason_code is not Reason.NO_SLOPE


def verb_of(report: Report) -> str:
    """The call of the verb, in words."""
    options = ", ".join(f"{key}={value!r}" for key, value in report.options.items())
    return f"check_function({options})"


def main(only: str) -> None:
    """Print a row for each report, and the counts."""
    counts: Counter[str] = Counter()
    for report in (*OPEN, *CLOSED, *FURTHER):
        if only not in report.thread + report.name:
            continue
        started = time.monotonic()
        if report.live is None:
            state, found = f"not run: {report.reason}", ""
        else:
            try:
                state = "live" if is_live(report) else "not live"
            except Exception as error:  # noqa: BLE001 (a missing derivative is raised)
                state = "live" if report.refusal else f"not live ({type(error).__name__})"
            found = accused_by(report) if state == "live" else ""
        counts[state.partition(":")[0]] += 1
        if state == "live":
            counts["found" if found else "missed"] += 1
        end = f"{verb_of(report)} | {found}" if found else ("MISSED | " + report.reason if state == "live" else "- | ")
        print(f"| {report.thread} | {report.name} | {state} | {end} | {time.monotonic() - started:.1f} |", flush=True)
    print(dict(counts))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="reports whose thread or name has this in it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parse().only)
