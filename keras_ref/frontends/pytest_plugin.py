"""pytest: fixtures, the marker `gradients`, targets collected as tests, and one line that sums up.

    check_gradients, check_updates, check_layer, check_function     fixtures that fail the test with six lines a finding
    @pytest.mark.gradients(effort="full")                           the test returns a model, or (model, x, y)
    gradtwin_targets = package.module:factory                       (ini) one test for each variable of each target

Loading this plugin imports neither TensorFlow nor Hypothesis; the checks do, when first called.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Generator
from typing import Any

import pytest

from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.options import OPTIONS

#: options that both fronts share: --gradtwin-effort here is --effort on the command line
SHARED = ("effort", "budget", "seed", "json", "isolate")
VERBS = ("check_gradients", "check_updates", "check_layer", "check_function")
#: reports of a test, as they are made; targets of a run
_MADE: pytest.StashKey[list[Any]] = pytest.StashKey()
#: what TensorFlow logs where the test imported it before its level could be set: not beside six lines that matter
_LOG_LINES = re.compile(r"^[IW]\d{4} \d\d:\d\d:\S+ +\d+ \S+\] .*\n", re.MULTILINE)
_TARGETS: pytest.StashKey[Any] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """--gradtwin-effort and the like, from the same table as the command line's options."""
    group = parser.getgroup("gradtwin", "gradient checks")
    group.addoption(
        "--gradtwin",
        action="append",
        default=[],
        metavar="TARGET",
        help="Check package.module:factory (or a .keras file): one test for each variable.",
    )
    for name in SHARED:
        option = OPTIONS[name]
        kind = (
            {"action": "store_true"}
            if option.type is bool
            else {"type": option.type, "choices": option.choices or None}
        )
        group.addoption(
            f"--gradtwin-{name}", default=option.default, help=option.help.partition("; gradtwin replay")[0], **kind
        )
    parser.addini(
        "gradtwin_targets",
        "Targets to check in every run that names no tests of its own: package.module:factory.",
        type="linelist",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; find out which targets are meant; refuse a file that cannot be written before the work."""
    config.addinivalue_line(
        "markers",
        "gradients(**options): the test returns a model, (model, x, y) or (layer, *inputs); its gradients are checked with these options of check_gradients",
    )
    worker = getattr(config, "workerinput", None)
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    targets: Any = (
        worker["gradtwin"] if worker else [*config.getini("gradtwin_targets") * whole, *config.getoption("--gradtwin")]
    )
    config.stash[_TARGETS] = targets
    if worker is None:
        path = config.getoption("--gradtwin-json")
        config.pluginmanager.register(Reports(path), "gradtwin-reports")
        if path:
            from keras_ref.reports.files import writable

            try:
                writable("--gradtwin-json", path)
            except CouldNotRun as error:
                raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under pytest-xdist: every worker collects the targets that were meant here."""
    node.workerinput["gradtwin"] = node.config.stash[_TARGETS]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """One test for each variable of each target; before -k and -m choose."""
    if config.stash[_TARGETS]:
        from keras_ref.frontends.pytest_items import collected

        items += collected(session, config.stash[_TARGETS])


# Checks inside tests ---------------------------------------------------------------------------------------------------


def checked(item: Any, verb: str, *arguments: Any, allow: Any = (), note: str = "", **options: Any) -> Any:
    """The report of a check for a test, with the options of the run where the test gives none of its own.

    `allow`: verdicts that do not fail it ("undecided"); `note`: what is worth saying beside the check's own notes.
    """
    __tracebackhide__ = True
    from dataclasses import replace
    from inspect import signature

    from keras_ref.inputs.targets import quiet_tensorflow

    quiet_tensorflow()
    import keras_ref

    function = getattr(keras_ref, verb)
    takes = signature(function).parameters
    shared = {name: value for name, value in shared_options(item.config).items() if name in takes}
    given = {"seed": options.get("seed", item.config.getoption("--gradtwin-seed")), **shared}
    replay = [
        "pytest",
        item.nodeid,
        *(word for name, value in given.items() for word in (f"--gradtwin-{name}", str(value))),
    ]
    try:
        report = function(*arguments, **{"replay": shlex.join(replay), **shared, **options})
    except BadInput as error:  # the sentence is about the call, not about the frames that found it out
        raise error.with_traceback(None) from None
    return reported(item, replace(report, allowed=frozenset(allow), notes=(*report.notes, *([note] if note else []))))


def shared_options(config: pytest.Config) -> dict[str, Any]:
    """The run's effort, budget and seed that are not as they are by default."""
    given = {name: config.getoption(f"--gradtwin-{name}") for name in ("effort", "budget", "seed")}
    return {name: value for name, value in given.items() if value != OPTIONS[name].default}


def reported(item: Any, report: Any) -> Any:
    """A report that belongs to a test: kept, in JUnit's properties, and the test fails with it."""
    __tracebackhide__ = True
    item.stash.setdefault(_MADE, []).append(report)
    item.user_properties += [(f"gradtwin_{name}", value) for name, value in report.properties().items()]
    if not report.ok:
        pytest.fail(report.explain(), pytrace=False)
    return report


def _fixture(verb: str) -> Any:
    def fixture(request: pytest.FixtureRequest) -> Callable[..., Any]:
        def check(*arguments: Any, **options: Any) -> Any:
            __tracebackhide__ = True
            return checked(request.node, verb, *arguments, **options)

        return check

    fixture.__doc__ = (
        f"keras_ref.{verb} that fails the test with the six lines of each finding, and returns the report."
    )
    return pytest.fixture(name=verb)(fixture)


check_gradients, check_updates, check_layer, check_function = map(_fixture, VERBS)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test marked `gradients`: what it returns is checked."""
    marks = list(pyfuncitem.iter_markers("gradients"))
    if not marks:
        return None
    from keras_ref.frontends.pytest_items import check_returned

    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    options = {name: value for mark in reversed(marks) for name, value in mark.kwargs.items()}
    check_returned(pyfuncitem, pyfuncitem.obj(**arguments), options, positional=any(mark.args for mark in marks))
    return True


# What a run says ---------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """The reports of a test travel with its result, from the workers of pytest-xdist too."""
    result = yield
    made = item.stash.get(_MADE, [])
    if made:
        from keras_ref.reports.verdict import json_text

        result.gradtwin = [json_text(report.to_dict()) for report in made]
        result.sections = [
            (name, text) for name, text in ((n, _LOG_LINES.sub("", t)) for n, t in result.sections) if text
        ]
        made.clear()
    return result


class Reports:
    """Every report of the run, gathered in the process that speaks: one line in the terminal, one file."""

    def __init__(self, path: str) -> None:
        self.path, self.texts = path, list[tuple[str, str]]()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of this process or a worker's."""
        self.texts += [(report.nodeid, text) for text in getattr(report, "gradtwin", ())]

    def pytest_sessionfinish(self) -> None:
        """Write --gradtwin-json."""
        if self.path:
            from keras_ref.frontends.pytest_items import document
            from keras_ref.reports.files import write
            from keras_ref.reports.verdict import json_text

            write("--gradtwin-json", self.path, json_text(document(self.texts)) + "\n")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """412 variables, 3 kinks, 1 mismatch; smallest error that would have been seen 3e-9."""
        if self.texts:
            from keras_ref.frontends.pytest_items import tally

            line, ok = tally(self.texts)
            terminalreporter.write_line(f"gradtwin: {line}", **({} if ok else {"red": True}))
