"""One check inside a pytest test: it is run with the options of the test run, recorded, and fails the test.

Importing this module imports neither TensorFlow nor Hypothesis nor NumPy.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytest

from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.options import OPTIONS, project_keywords, read_settings

if TYPE_CHECKING:  # which imports NumPy
    from keras_ref.reports.verdict import Report

#: the reports of a test, as they are made
REPORTS: pytest.StashKey[list[Any]] = pytest.StashKey()
#: the folder in which the processes of pytest-xdist on this machine share checks
FOLDER: pytest.StashKey[str] = pytest.StashKey()
#: what pyproject.toml says, read once
_SETTINGS: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
#: options of the test run that a check takes: --gradtwin-effort and the like
_CHECK_OPTIONS = ("effort", "budget", "seed")


def check_in_test(
    item: pytest.Item, verb: str, *arguments: Any, allow: Any = None, note: str = "", **options: Any
) -> Report:
    """Run a check for a test, with the options of the test run, and of the project, where the test gives none itself.

    verb    a name in VERBS, called with `arguments` and `options`
    allow   kinds of verdict that do not fail the test ("undecided"); what the project allows where left out
    note    a note to add to the report's own

    Raises: pytest's failure with the six lines of each finding; BadInput for arguments that the check refuses.
    """
    __tracebackhide__ = True
    from keras_ref.frontends.invocations.verbs import find_check
    from keras_ref.inputs.targets import quiet_tensorflow
    from keras_ref.own_modules import refuse_namesakes

    quiet_tensorflow()
    try:
        refuse_namesakes()
    except CouldNotRun as error:
        pytest.fail(str(error), pytrace=False)
    check = find_check(verb)
    parameters = signature(check).parameters
    shared = {name: value for name, value in read_given_options(item.config).items() if name in parameters}
    told = {"seed": options.get("seed", read_option(item.config, "seed")), **shared}
    words = (word for name, value in told.items() for word in (f"--gradtwin-{name}", str(value)))
    replay = shlex.join(["pytest", item.nodeid, *words])
    try:
        of_project = project_keywords(project_settings(item.config), parameters)
        report = check(*arguments, **{"replay": replay, **of_project, **shared, **options})
    except BadInput as error:  # the message is about the call in the test: the frames of the check do not help
        raise error.with_traceback(None) from None
    notes = (*report.notes, *([note] if note else []))
    allowed = project_settings(item.config).get("allow", ()) if allow is None else allow
    report = replace(report, allowed=frozenset(allowed), notes=notes)
    return record_report(item, report, lambda: minimise_in_test(report, verb, *arguments, **options))


def read_given_options(config: pytest.Config) -> dict[str, Any]:
    """The test run's effort, budget and seed, where they are not the defaults."""
    given = {name: read_option(config, name) for name in _CHECK_OPTIONS}
    return {name: value for name, value in given.items() if value != OPTIONS[name].default}


def project_settings(config: pytest.Config) -> dict[str, Any]:
    """[tool.gradtwin] of the project that is tested. Raises: CouldNotRun."""
    if _SETTINGS not in config.stash:
        config.stash[_SETTINGS] = read_settings(config.rootpath)
    return config.stash[_SETTINGS]


def read_option(config: pytest.Config, name: str) -> Any:
    """--gradtwin-name, else what the project says, else the default."""
    given = config.getoption(f"--gradtwin-{name}")
    default = OPTIONS[name].default
    return project_settings(config).get(name, default) if given == default else given


def minimise_in_test(report: Report, verb: str, subject: Any, *arguments: Any, **options: Any) -> str:
    """The script of what a check found, or a sentence that says why there is none."""
    from keras_ref.minimisation.minimise import minimise

    given = {name: value for name, value in options.items() if name not in ("progress", "replay", "weights")}
    try:
        found = minimise(subject, *arguments, report=report, updates=verb == "check_updates", **given)
    except BadInput as error:
        return f"Not minimised: {error}"
    return "\n".join((found.script, *(f"# {note}" for note in found.notes)))


def record_report(item: pytest.Item, report: Report, minimise: Callable[[], str] | None = None) -> Report:
    """Keep a report with its test, in JUnit's properties too.

    minimise   gives the script of what was found, which --gradtwin-minimise asks for

    Raises: pytest's failure if the report is not ok.
    """
    __tracebackhide__ = True
    item.stash.setdefault(REPORTS, []).append(report)
    item.user_properties += [(f"gradtwin_{name}", value) for name, value in report.properties().items()]
    if not report.ok:
        wanted = minimise is not None and item.config.getoption("--gradtwin-minimise")
        script = f"\n\n{minimise()}" if minimise is not None and wanted else ""
        pytest.fail(report.explain() + script, pytrace=False)
    return report
