"""The public verb minimise: from a subject that fails a check to a script of a few lines that shows why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from importlib import import_module
from inspect import Parameter, signature
from itertools import chain
from typing import Any

import keras

from keras_ref.checks.gradients import check_gradients
from keras_ref.checks.layers_and_functions import check_function, check_layer
from keras_ref.checks.updates import check_updates
from keras_ref.errors import BadInput
from keras_ref.evaluation.arguments import takes
from keras_ref.evaluation.changed_state.guard import leaves_no_trace
from keras_ref.evaluation.changed_state.held_signals import answer_interruption
from keras_ref.inputs.arrays import convert_data
from keras_ref.minimisation.cases import CLAIMS, PLAIN, CallCase
from keras_ref.minimisation.definitions import has_same_definition, show_definition
from keras_ref.minimisation.expressions import Expression, Imported, replace_node, walk
from keras_ref.minimisation.finding import Finding, list_findings
from keras_ref.minimisation.origins import of_function, of_layer, of_model
from keras_ref.minimisation.reading import express, find_public_name
from keras_ref.minimisation.reductions import shrink
from keras_ref.minimisation.running import exit_status_of, running
from keras_ref.minimisation.search import Search
from keras_ref.minimisation.showing import Shown, show, write_script, write_whole_setup
from keras_ref.minimisation.source import NotWritable, inline_source
from keras_ref.minimisation.train_steps import has_own_step, has_same_train_step, show_train_step, train_steps_of
from keras_ref.minimisation.updates import has_same_step, list_steps, show_step
from keras_ref.reports.verdict import Report
from scratch.progress import Progress

#: lines that a script may have
LINES = 15
#: lines up to which a script has the user's functions and classes in it, instead of importing them
SHORT = 12
#: packages whose names a script imports as they are
LIBRARIES = ("keras", "tensorflow", "numpy", "functools", "builtins")
#: seconds that a search takes at most, unless told otherwise
SECONDS = 60.0
#: seconds that the script may take by itself
PATIENCE = 120.0


@dataclass(frozen=True, kw_only=True)
class Minimised:
    """A finding made small.

    script     a program without gradtwin, that exits with 1 while the fault is there, 0 when it is not, 2 when it could
               not run
    what       what it shows, in words;   finding  the verdict that stayed
    got, want  both values at the entry that is shown
    seconds    that it took;   tried, checked  candidates
    notes      what else is to be known: that the search was ended, how the script ended by itself where not with 1
    """

    script: str
    what: str
    finding: str
    got: float
    want: float
    seconds: float
    tried: int
    checked: int
    notes: tuple[str, ...] = field(default=())

    @property
    def lines(self) -> int:
        """Lines of the script."""
        return len(self.script.splitlines())

    def __str__(self) -> str:
        return self.script


class NothingToMinimise(BadInput):
    """A subject does not fail, or not twice in the same way."""


@takes()
@leaves_no_trace
def minimise(
    subject: Any,
    *inputs: Any,
    report: Report | None = None,
    seconds: float = SECONDS,
    progress: Progress | None = None,
    updates: bool = False,
    written_as: Expression = None,
    **options: Any,
) -> Minimised:
    """Make a failing subject small, as long as the same finding stays, and write it as a script.

    subject     a keras.Model, a layer or a function, as check_gradients, check_layer and check_function take it
    inputs      x and y of a model, the arguments of a layer or function
    report      of a check that was made already
    seconds     that the search takes at most: then the smallest case so far is written
    progress    called with (done, total, what)
    updates     whether training steps are checked (check_updates), not gradients
    written_as  how the subject is written in the script, where it cannot be read from the object
    options     of the check

    What "the same" means is said in keras_ref/minimisation/finding.py. The subject is left as it was. Ctrl-C ends the
    search, and the smallest case so far is written. Raises: NothingToMinimise (a BadInput) where nothing fails, or not
    the same twice; BadInput where the subject cannot be written as Python.
    """
    started = time.monotonic()
    check = check_updates if updates else _make_check(subject)
    if report is None:
        report = check(subject, *inputs, **options)
    findings = list_findings(report)
    if not findings:
        raise NothingToMinimise(
            f"A subject must fail a check to be made small. Received: {report.subject}, in which nothing is wrong. "
            "Check it with the data and options with which it failed."
        )
    unwritable = ""
    failure = _Failure(
        check=check, subject=subject, inputs=inputs, options=options, report=report, written_as=written_as
    )
    for finding in findings:
        try:
            for case, trial in _list_origins(failure, finding):
                for begun in chain(map(case.with_tree, shrink(case.tree)), (case,)):
                    if trial.shows(begun) is not None and trial.has_same(begun):
                        return search_from(
                            begun, trial, finding=str(finding), started=started, seconds=seconds, progress=progress
                        )
        except NotWritable as error:
            unwritable = unwritable or str(error)
    if not set(findings) & set(list_findings(check(subject, *inputs, **options))):
        raise NothingToMinimise(
            f"A finding must be there twice to be made small. Received: {report.subject}, where {findings[0]} was "
            "found once and not again. Look for what is random in it."
        )
    why = unwritable or "no part of it, and not the whole, written as Python has the same finding"
    raise BadInput(
        f"A subject must be such that it can be written as Python. Received: {report.subject}: {why}. Give its classes "
        "a get_config, or a factory in a module."
    )


def _make_check(subject: Any) -> Callable[..., Report]:
    if isinstance(subject, keras.Model):
        return check_gradients
    return check_layer if isinstance(subject, keras.layers.Layer) else check_function


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How a case is tried: what it shows, quickly; whether the check has the same finding."""

    shows: Callable[[Any], Shown | None]
    has_same: Callable[[Any], bool]


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """A check that failed: the verb, what it was given, and its report.

    written_as   how the subject is written in a script, where it cannot be read from the object
    """

    check: Callable[..., Report]
    subject: Any
    inputs: tuple[Any, ...]
    options: Mapping[str, Any]
    report: Report
    written_as: Expression

    @property
    def batch(self) -> tuple[Any, Any]:
        """x and y of a model; None for what was not given."""
        x, y = (*self.inputs, None, None)[:2]
        return x, y


def _list_origins(failure: _Failure, finding: Finding) -> Iterator[tuple[Any, Trial]]:
    """Cases to begin from, the smallest first, each with how it is tried. Raises: NotWritable."""
    subject = failure.subject
    if finding.oracle == "update":
        wrong = next(v.name for v in failure.report.verdicts if Finding.of(v) == finding)
        optimizer = failure.options.get("optimizer") or subject.optimizer
        step = Trial(shows=show_step, has_same=lambda case: has_same_step(case, finding))
        yield from ((case, step) for case in list_steps(subject, optimizer, wrong))
        if has_own_step(subject):
            own = Trial(shows=show_train_step, has_same=lambda case: has_same_train_step(case, finding))
            yield from ((case, own) for case in train_steps_of(subject, *failure.batch))
        return
    trial = (
        Trial(shows=show_definition, has_same=lambda case: has_same_definition(case, finding))
        if finding.claim == "definition"
        else Trial(shows=show, has_same=lambda case: _has_same(case, finding))
    )
    yield from ((case, trial) for case in _list_calls(failure, finding))


def _list_calls(failure: _Failure, finding: Finding) -> Iterator[CallCase]:
    subject, options, report = failure.subject, failure.options, failure.report
    keywords = {name: value for name, value in options.items() if name not in check_options(failure.check)}
    if failure.check is check_function:
        return of_function(subject, failure.inputs, keywords, finding)
    if failure.check is check_layer:
        return of_layer(subject, failure.inputs, keywords, finding, subject=failure.written_as)
    data = convert_data(*failure.batch, options.get("sample_weight"))
    culprit = "" if report.culprit is None else report.culprit.layer
    return of_model(
        subject,
        data,
        finding,
        loss=options.get("loss"),
        training=bool(options.get("training")),
        culprit=culprit,
        subject=failure.written_as,
    )


def check_options(check: Callable[..., Report]) -> set[str]:
    """The names of the options of a check, without its subject and inputs."""
    return {p.name for p in signature(check).parameters.values() if p.kind is Parameter.KEYWORD_ONLY}


def _has_same(case: CallCase, finding: Finding) -> bool:
    """Whether the check of what a case builds has the same finding."""
    try:
        with running(write_whole_setup(case.setup())) as names:
            report = check_function(names["f"], *names["points"], **CLAIMS[case.claim].options)
    except Exception:  # noqa: BLE001 (a candidate that makes no sense may raise anything)
        return False
    return finding.is_in(report)


def search_from(
    case: Any, trial: Trial, *, finding: str, started: float, seconds: float, progress: Progress | None
) -> Minimised:
    """The smallest case from one that has the finding, as a script.

    started   the time.monotonic() at which the search began

    Raises: NothingToMinimise where what was shown once is not shown again.
    """
    search = Search(
        shows=lambda one: trial.shows(one) is not None,
        has_same=trial.has_same,
        text_of=lambda one: write_whole_setup(one.setup()),
        until=started + seconds,
        progress=progress,
    )
    notes = []
    try:
        search.run(case)
    except KeyboardInterrupt:
        answer_interruption()
        notes.append("Interrupted: this is the smallest case so far.")
    else:
        if not search.finished:
            notes.append(f"The search ended at its limit of {seconds:g} s: a smaller case may be possible.")
    best = search.best
    shown = trial.shows(best)
    if shown is None:
        raise NothingToMinimise(
            f"A finding must be there twice to be made small. Received: {best.what}, which was shown once and not "
            "again. Look for what is random in it."
        )
    best, shown = _with_source(best, shown, trial)
    script, more = _prove(shown, best.what)
    if len(script.splitlines()) > LINES:
        more.append(f"The script has {len(script.splitlines())} lines, more than {LINES}.")
    return Minimised(
        script=script,
        what=best.what,
        finding=finding,
        got=shown.got,
        want=shown.want,
        seconds=time.monotonic() - started,
        tried=search.tried,
        checked=search.checked,
        notes=(*notes, *more),
    )


def _with_source(case: Any, shown: Shown, trial: Trial) -> tuple[Any, Shown]:
    """The case with all of the user's functions and classes written out, where the script is short enough then."""
    tree = case.tree
    while theirs := [(path, node) for path, node in walk(tree) if _is_of_user(node)]:
        path, node = theirs[0]
        try:
            tree = replace_node(tree, path, inline_source(_compute_value(node), express))
        except NotWritable:
            return case, shown
    if tree == case.tree:
        return case, shown
    written = case.with_tree(tree)
    found = trial.shows(written)
    if found is None or len(write_script(found, written.what).splitlines()) > SHORT or not trial.has_same(written):
        return case, shown
    return written, found


def _compute_value(node: Imported) -> Any:
    return reduce(getattr, node.name.split("."), import_module(node.module))


def _is_of_user(node: Expression) -> bool:
    """Whether an expression imports something that no library of Keras's or TensorFlow's has."""
    if not isinstance(node, Imported) or not node.name or node.module.partition(".")[0] in LIBRARIES:
        return False
    return find_public_name(_compute_value(node)) is None


def _prove(shown: Shown, what: str) -> tuple[str, list[str]]:
    """The script, run by itself, and a note where it did not end with 1."""
    script = write_script(shown, what)
    status = exit_status_of(script, seconds=PATIENCE)
    if status == 0:
        plain = write_script(shown, what, plain=PLAIN)
        if exit_status_of(plain, seconds=PATIENCE) == 1:
            return plain, []
    if status == 1:
        return script, []
    ended = "did not end" if status is None else f"ended with exit status {status}"
    return script, [f"Run by itself the script {ended}, not with 1: what it shows depends on what ran before."]
