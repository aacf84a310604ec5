"""What the pytest plugin does once there is something to check: targets as tests, returned models, the final line."""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.frontends.command_line.minimise_cli import SECONDS, of_invocation
from keras_ref.frontends.invocations.invocation import ISOLATION, TAKES, Invocation, read_versions
from keras_ref.frontends.plugin.pytest_checks import (
    FOLDER,
    check_in_test,
    project_settings,
    read_given_options,
    read_option,
    record_report,
)
from keras_ref.frontends.plugin.pytest_watching import JOURNAL, find_dead_targets
from keras_ref.options import OPTIONS
from keras_ref.reports.escaping import make_printable
from keras_ref.reports.files import describe_writer
from keras_ref.reports.verdict import ORDER, Report, find_worst
from keras_ref.reports.words import count_variables


def collect_targets(session: pytest.Session, targets: Iterable[str]) -> list[pytest.Item]:
    """The tests of all targets, reported to pytest as collected."""
    from keras_ref.inputs.targets import import_quietly, quiet_tensorflow

    quiet_tensorflow()
    import_quietly()
    items: list[pytest.Item] = []
    for target in targets:
        report = session.ihook.pytest_make_collect_report(
            collector=Target.from_parent(session, name=target, nodeid=f"gradtwin::{target}")
        )
        report.__dict__.pop("call", None)  # as pytest's collect_one_node does: no worker of pytest-xdist can send it
        session.ihook.pytest_collectreport(report=report)
        items += report.result
    return items


class Target(pytest.Collector):
    """A target: a test for each variable and input, or one failing test where the target cannot be loaded.

    The target is loaded once: a second call of its factory might give the variables other names. When the first of the
    tests runs, all variables are checked at once (under pytest-xdist by all processes that run one of the tests, see
    shared_check.py; --dist loadgroup keeps them together). Where -k selected some of them, each is checked by itself,
    unless in isolation.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._found: dict[str, Report | Exception] = {}
        self._loaded: Any = None
        self._items: list[Variable] = []

    def collect(self) -> list[pytest.Item]:
        """One test for each variable."""
        journal = self.config.stash.get(JOURNAL, None)
        try:
            with nullcontext() if journal is None else journal.running(self.name):
                found = self._load_names()
        except (CouldNotRun, BadInput) as error:
            self._found["*"] = error
            found = ["load"]
        if isinstance(found, Report):  # of the crash of the process that was to load it
            self._found["*"] = found
            found = [found.verdicts[0].name]
        self._items = [Variable.from_parent(self, name=make_printable(name), variable=name) for name in found]
        for item in self._items:
            item.add_marker(pytest.mark.gradients)
            if self.config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group(self.name))
        return list(self._items)

    def _load_names(self) -> list[str] | Report:
        """The names of the variables; a report where the process crashes that loads the target in isolation."""
        from keras_ref.frontends.invocations.isolation import read_isolated_names
        from keras_ref.frontends.invocations.variable_names import list_variable_names
        from keras_ref.inputs.targets import load_target

        if (sentence := find_dead_targets(self.config).get(self.name)) is not None:
            raise CouldNotRun(sentence)
        if self._isolated:
            return read_isolated_names(self._make_invocation("*"), self.name)
        model, x, y, weight = load_target(self.name)
        if isinstance(x, Iterator):  # a generator gives its batches once, and there is a test for each variable
            from keras_ref.inputs.arrays import convert_data

            data = convert_data(x, batches=project_settings(self.config).get("batches", 1))
            x, y, weight = data.x, data.y, data.sample_weight
        self._loaded = model, x, y, weight
        return list_variable_names(model, x, read_option(self.config, "seed"))

    def check(self, variable: str) -> Report:
        """The verdicts of one variable. Raises: CouldNotRun or BadInput where there are none."""
        selected = {id(item) for item in self.session.items}
        together = self._isolated or "*" in self._found or all(id(item) in selected for item in self._items)
        name = make_printable(variable)  # as reports show it
        found = self._check_once("*" if together else glob.escape(variable))
        if self._isolated:
            found = _rename_by_position(found, [item.name for item in self._items])
        own = tuple(v for v in found.verdicts if v.name == name or v.oracle == "process")
        if name == self._items[0].name:  # verdicts that belong to no test fail the first one
            listed = {item.name for item in self._items}
            own += tuple(v for v in found.verdicts if v.name not in listed and v not in own)
        if not own:
            raise CouldNotRun(
                f"A check must have a verdict on every variable. Received: none on {name} of {self.name}. "
                f"Run gradtwin check {self.name}."
            )
        return replace(
            found, subject=self.name, verdicts=own, replay=self._make_invocation(glob.escape(variable)).replay()
        )

    def _check_once(self, variables: str) -> Report:
        """The report on the variables that match, computed the first time. Raises: CouldNotRun or BadInput."""
        from keras_ref.frontends.invocations.shared_check import SharedChecks, can_share

        if variables not in self._found:
            invocation, folder = self._make_invocation(variables), self.config.stash.get(FOLDER, "")
            check = partial(self._check_now, invocation)
            if variables == "*" and can_share(folder):  # else others have no tests of the same
                self._found[variables] = SharedChecks(Path(folder)).check_once(invocation.replay(), check)
            else:
                self._found[variables] = check()
        found = self._found[variables]
        if isinstance(found, Exception):
            raise found
        return found

    def _check_now(self, invocation: Invocation, executor: Executor | None = None) -> Report | CouldNotRun | BadInput:
        """The report of a command, or why there is none."""
        from keras_ref.frontends.invocations.isolation import run_isolated

        try:
            if self._isolated:
                return run_isolated(invocation, self.name)
            return invocation.run(self.name, loaded=self._loaded, executor=executor)
        except CouldNotRun as error:
            return error
        except BadInput as error:
            return error

    def minimise(self, report: Report) -> str:
        """The script of what a report found, or a sentence that says why there is none."""
        if self._isolated:
            return "Not minimised: the target was checked in a process of its own. Run gradtwin minimise on it."
        try:
            found = of_invocation(self._make_invocation("*"), self.name, report)(SECONDS, None)
        except (CouldNotRun, BadInput) as error:
            return f"Not minimised: {error}"
        return found.script

    @property
    def _isolated(self) -> bool:
        return bool(read_option(self.config, "isolate"))

    def _make_invocation(self, variables: str) -> Invocation:
        """The command that checks the variables that match."""
        only = {"variables": variables} if variables != OPTIONS["variables"].default else {}
        isolate = {name: read_option(self.config, name) for name in ISOLATION}
        isolate = {name: value for name, value in isolate.items() if value != OPTIONS[name].default}
        of_project = {name: v for name, v in project_settings(self.config).items() if name in TAKES["check"]}
        options = {**of_project, **read_given_options(self.config), **only, **isolate}
        return Invocation("check", (self.name,), "", options, for_several=True)


def _rename_by_position(report: Report, names: list[str]) -> Report:
    """A report with these names, where it has as many others: a factory may make up names in each process anew."""
    found = list(dict.fromkeys(v.name for v in report.verdicts))
    if len(found) != len(names):
        return report
    new = dict(zip(found, names, strict=True))
    return replace(report, verdicts=tuple(replace(v, name=new[v.name]) for v in report.verdicts))


class Variable(pytest.Item):
    """The test of one variable of a target, by every oracle."""

    parent: Target

    def __init__(self, *, variable: str, **options: Any) -> None:
        super().__init__(**options)
        self.variable = variable

    def runtest(self) -> None:
        """Fail with the six lines of each finding."""
        report = self.parent.check(self.variable)
        record_report(self, report, lambda: self.parent.minimise(report))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The message alone, where the check could not be run."""
        known = isinstance(excinfo.value, (CouldNotRun, BadInput))
        return (
            make_printable(str(excinfo.value))
            if known and not os.environ.get("GRADTWIN_TRACEBACK")
            else super().repr_failure(excinfo, style)
        )

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """The target and the variable; there is no file and no line."""
        return self.config.rootpath, None, f"{self.parent.name} {self.name}"


def check_returned(item: pytest.Item, returned: Any, options: dict[str, Any], *, positional: bool = False) -> None:
    """Check what a test marked `gradients` returned: a model with or without data, a layer or a function with inputs.

    options      keyword arguments of the marker;   positional   whether the marker had positional ones

    Raises: pytest's failure, with one sentence where the marker or the returned value cannot be used.
    """
    __tracebackhide__ = True
    from keras_ref.inputs.targets import complete_data, quiet_tensorflow

    quiet_tensorflow()
    subject, *arguments = returned if isinstance(returned, tuple) and returned else (returned,)
    verb = _choose_verb(subject)
    if len(arguments) > 3 if verb == "check_gradients" else not callable(subject) or not arguments:
        received = (
            f"a tuple of {len(returned)}, {type(subject).__name__} first"
            if isinstance(returned, tuple)
            else type(returned).__name__
        )
        pytest.fail(
            "A test marked `gradients` must return a model, (model, x, y), (layer, *inputs) or (function, *inputs). "
            f"Received: {received}. Return one of them.",
            pytrace=False,
        )
    _refuse_unknown(verb, options, positional=positional)
    drawn = ""
    try:
        if verb == "check_gradients":
            seed = options.get("seed", read_option(item.config, "seed"))
            (subject, *arguments, weight), drawn = complete_data(subject, *arguments, seed=seed)
            options = options if weight is None else {"sample_weight": weight, **options}
        check_in_test(item, verb, subject, *arguments, note=drawn, **options)
    except BadInput as error:
        refusal = str(error)
    else:
        return
    pytest.fail(refusal, pytrace=False)  # outside of the handler, so that pytest does not show the chain of errors


def _choose_verb(subject: Any) -> str:
    import keras

    if isinstance(subject, keras.Model):
        return "check_gradients"
    return "check_layer" if isinstance(subject, keras.layers.Layer) else "check_function"


def _refuse_unknown(verb: str, options: dict[str, Any], *, positional: bool) -> None:
    """Fail the test for options that the check does not have."""
    __tracebackhide__ = True
    from keras_ref.frontends.invocations.verbs import find_check

    known = [*signature(find_check(verb)).parameters, "allow"]
    wrong = [name for name in options if name not in known] + ["a positional one"] * positional
    if wrong:
        pytest.fail(
            f"The marker `gradients` must have options of {verb}. Received: {', '.join(wrong)}. "
            f"Choose from {', '.join(known[1:])}.",
            pytrace=False,
        )


# What a test run reports ----------------------------------------------------------------------------------------------


def make_document(texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What --gradtwin-json writes: every report with its test, and the versions. `texts`: (test, report as JSON)."""
    reports = [{"test": test, **json.loads(text)} for test, text in texts]
    return {
        **describe_writer("pytest"),
        "ok": all(report["ok"] for report in reports),
        "could_not_run": [],
        "reports": reports,
        "versions": read_versions() if reports else {},
    }


@dataclass(frozen=True)
class Total:
    """The line that sums up a test run, and whether every check passed."""

    line: str
    ok: bool


def sum_up(texts: Iterable[tuple[str, str]]) -> Total:
    """The last line of a test run, of (test, report as JSON) pairs.

    "412 variables and 20 inputs, 3 kinks, 1 mismatch; smallest error that would have been seen 3e-9"
    """
    reports = [json.loads(text) for _, text in texts]
    by_variable: dict[tuple[int, str], list[str]] = {}
    for i, report in enumerate(reports):
        for verdict in report["verdicts"]:
            by_variable.setdefault((i, verdict["name"]), []).append(verdict["verdict"])
    counts = Counter(find_worst(found) for found in by_variable.values())
    visible = [float(v["visible"]) for report in reports for v in report["verdicts"] if v["visible"] != "nan"]
    parts = [
        count_variables(name for _, name in by_variable),
        *(_describe_counts(counts[name], name) for name in reversed(ORDER) if counts[name] and name != "match"),
    ]
    seen = f"; smallest error that would have been seen {max(visible):.0e}" if visible else ""
    return Total(", ".join(parts) + seen, all(report["ok"] for report in reports))


#: plurals; the other verdicts are adjectives
_PLURALS = {
    "kink": "kinks",
    "mismatch": "mismatches",
    "crash": "crashes",
    "surrogate": "surrogates",
    "departure": "departures",
}


def _describe_counts(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else _PLURALS.get(noun, noun)}"
