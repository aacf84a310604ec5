"""What the pytest plugin does once there is something to check: targets as tests, returned models, the run's one line."""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from inspect import signature
from typing import Any

import pytest

from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.frontends.pytest_plugin import checked, reported, shared_options
from keras_ref.options import OPTIONS
from keras_ref.reports.verdict import ORDER, Report, worst_of


def collected(session: pytest.Session, targets: Iterable[str]) -> list[pytest.Item]:
    """The tests of all targets, reported as collected."""
    from keras_ref.inputs.targets import import_quietly, quiet_tensorflow

    quiet_tensorflow()
    import_quietly()
    items: list[pytest.Item] = []
    for target in targets:
        report = session.ihook.pytest_make_collect_report(
            collector=Target.from_parent(session, name=target, nodeid=f"gradtwin::{target}")
        )
        session.ihook.pytest_collectreport(report=report)
        items += report.result
    return items


class Target(pytest.Collector):
    """A target: a test for each variable and input, or one that fails where it cannot be loaded.

    All variables are checked at once when the first of them runs, in each process of pytest-xdist that gets any of
    them (--dist loadgroup keeps them together); where only some were chosen (-k), each is checked by itself.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._found: dict[str, Report | Exception] = {}
        self._items: list[Variable] = []

    def collect(self) -> list[pytest.Item]:
        """One test for each variable."""
        try:
            names = _names(self.name, self.config.getoption("--gradtwin-seed"))
        except (CouldNotRun, BadInput) as error:
            self._found["*"] = error
            names = ["load"]
        self._items = [Variable.from_parent(self, name=name) for name in names]
        for item in self._items:
            item.add_marker(pytest.mark.gradients)
            if self.config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group(self.name))
        return list(self._items)

    def report(self, name: str) -> Report:
        """The verdicts of one variable. Raises: CouldNotRun or BadInput where there are none."""
        chosen = {id(item) for item in self.session.items}
        variables = "*" if "*" in self._found or all(id(item) in chosen for item in self._items) else glob.escape(name)
        if variables not in self._found:
            try:
                self._found[variables] = self._checked(variables)
            except (CouldNotRun, BadInput) as error:
                self._found[variables] = error
        found = self._found[variables]
        if isinstance(found, Exception):
            raise found
        own = tuple(v for v in found.verdicts if v.name == name or v.oracle == "process")
        if name == self._items[0].name:  # what belongs to no test is the first one's
            listed = {item.name for item in self._items}
            own += tuple(v for v in found.verdicts if v.name not in listed and v not in own)
        if not own:
            raise CouldNotRun(
                f"A check must have a verdict on every variable. Received: none on {name} of {self.name}. Run gradtwin check {self.name}."
            )
        run = self._run(glob.escape(name))
        return replace(found, subject=self.name, verdicts=own, replay=run.replay())

    def _run(self, variables: str) -> Any:
        from keras_ref.frontends.invocation import Run

        only = {"variables": variables} if variables != OPTIONS["variables"].default else {}
        isolate = {"isolate": True} if self.config.getoption("--gradtwin-isolate") else {}
        return Run("check", (self.name,), "", {**shared_options(self.config), **only, **isolate})

    def _checked(self, variables: str) -> Report:
        from keras_ref.frontends.isolation import isolated

        run = self._run(variables)
        return isolated(run, self.name) if run.value("isolate") else run.report(self.name)


def _names(target: str, seed: int) -> list[str]:
    """The names of a target's trained variables and float inputs, as a check will name them. The model is not run."""
    from keras_ref.evaluation.loss_function import Data, float_inputs, path_of, unique
    from keras_ref.inputs.data import draw_inputs
    from keras_ref.inputs.targets import load_target

    model, x, _, _ = load_target(target)
    x = draw_inputs(model, seed=seed) if x is None else x
    return [*unique([path_of(v) for v in model.trainable_variables]), *float_inputs(Data(x).tensors().x)]


class Variable(pytest.Item):
    """A variable of a target, against every oracle."""

    def runtest(self) -> None:
        """Fail with the six lines of each finding."""
        reported(self, self.parent.report(self.name))  # type: ignore[union-attr]

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The sentence alone, where the check could not be done."""
        known = isinstance(excinfo.value, (CouldNotRun, BadInput))
        return str(excinfo.value) if known else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """The target and the variable: there is no file."""
        return self.config.rootpath, None, f"{self.parent.name} {self.name}"  # type: ignore[union-attr]


def check_returned(item: Any, returned: Any, options: dict[str, Any], *, positional: bool = False) -> None:
    """Check what a test marked `gradients` returned: a model with or without data, a layer or a function with inputs."""
    __tracebackhide__ = True
    from keras_ref.inputs.targets import complete_data, quiet_tensorflow

    quiet_tensorflow()
    import keras

    import keras_ref

    subject, *arguments = returned if isinstance(returned, tuple) and returned else (returned,)
    drawn = ""
    verb = (
        "check_gradients"
        if isinstance(subject, keras.Model)
        else "check_layer"
        if isinstance(subject, keras.layers.Layer)
        else "check_function"
    )
    what = (
        f"a tuple of {len(returned)}, {type(subject).__name__} first"
        if isinstance(returned, tuple)
        else type(returned).__name__
    )
    if len(arguments) > 3 if verb == "check_gradients" else not callable(subject) or not arguments:
        pytest.fail(
            f"A test marked `gradients` must return a model, (model, x, y), (layer, *inputs) or (function, *inputs). Received: {what}. Return one of them.",
            pytrace=False,
        )
    known = [*signature(getattr(keras_ref, verb)).parameters, "allow"]
    wrong = [name for name in options if name not in known] + ["a positional one"] * positional
    if wrong:
        pytest.fail(
            f"The marker `gradients` must have options of {verb}. Received: {', '.join(wrong)}. Choose from {', '.join(known[1:])}.",
            pytrace=False,
        )
    try:
        if verb == "check_gradients":
            seed = options.get("seed", item.config.getoption("--gradtwin-seed"))
            (subject, *arguments, weight), drawn = complete_data(subject, *arguments, seed=seed)
            options = options if weight is None else {"sample_weight": weight, **options}
        checked(item, verb, subject, *arguments, note=drawn, **options)
        return
    except BadInput as error:
        sentence = str(error)
    pytest.fail(sentence, pytrace=False)


# What a run says ---------------------------------------------------------------------------------------------------------


def document(texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What --gradtwin-json writes: every report with its test, and the versions."""
    from keras_ref.frontends.invocation import versions

    reports = [{"test": test, **json.loads(text)} for test, text in texts]
    return {
        "ok": all(report["ok"] for report in reports),
        "reports": reports,
        "versions": versions() if reports else {},
    }


def tally(texts: Iterable[tuple[str, str]]) -> tuple[str, bool]:
    """412 variables, 3 kinks, 1 mismatch; smallest error that would have been seen 3e-9. And whether all is well."""
    reports = [json.loads(text) for _, text in texts]
    by_variable: dict[tuple[int, str], list[str]] = {}
    for i, report in enumerate(reports):
        for verdict in report["verdicts"]:
            by_variable.setdefault((i, verdict["name"]), []).append(verdict["verdict"])
    counts = Counter(worst_of(found) for found in by_variable.values())
    visible = [float(v["visible"]) for report in reports for v in report["verdicts"] if v["visible"] != "nan"]
    parts = [
        _counted(len(by_variable), "variable"),
        *(_counted(counts[name], name) for name in reversed(ORDER) if counts[name] and name != "match"),
    ]
    seen = f"; smallest error that would have been seen {max(visible):.0e}" if visible else ""
    return ", ".join(parts) + seen, all(report["ok"] for report in reports)


#: verdicts that are nouns have a plural
_PLURALS = {
    "variable": "variables",
    "kink": "kinks",
    "mismatch": "mismatches",
    "crash": "crashes",
    "surrogate": "surrogates",
    "departure": "departures",
}


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else _PLURALS.get(noun, noun)}"
