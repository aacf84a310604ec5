"""The pytest plugin: fixtures, the marker `gradients`, targets collected as tests, and one line that sums up.

    check_gradients, check_updates, check_layer, check_function   fixtures that fail the test with six lines per finding
    compare                                                       a fixture that fails where two programs part
    @pytest.mark.gradients(effort="full")                         the test returns a model, or (model, x, y)
    gradtwin_targets = package.module:factory                     (ini) a test for each variable of each target

Loading this plugin imports neither TensorFlow nor Hypothesis; the first check does.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.plugin import pytest_watching
from keras_ref.frontends.plugin.pytest_checks import FOLDER, REPORTS, check_in_test, project_settings
from keras_ref.options import OPTIONS, require_path

#: options of the command line that pytest has too: --effort there is --gradtwin-effort here
SHARED = ("effort", "budget", "seed", "json", "force", "minimise", "isolate", "time-limit", "memory-limit")
#: the targets of a test run
_TARGETS: pytest.StashKey[Any] = pytest.StashKey()
#: log lines of a TensorFlow that the test imported before the plugin could silence it; they would bury the six lines
_LOG_LINES = re.compile(r"^[IW]\d{4} \d\d:\d\d:\S+ +\d+ \S+\] .*\n", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """--gradtwin, and the shared options from the same table as the command line's."""
    pluginmanager.register(pytest_watching, "gradtwin-watching")
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
        kind: dict[str, Any] = (
            {"action": "store_true"}
            if option.type is bool
            else {"type": option.type, "choices": option.choices or None, "metavar": option.metavar}
        )
        help_text = option.help.partition("; gradtwin replay")[0]
        default = option.default if option.metavar is None else None  # an empty text is no path that was left out
        group.addoption(f"--gradtwin-{name}", default=default, help=help_text, **kind)
    parser.addini(
        "gradtwin_targets",
        "Targets (package.module:factory) to check in every test run that does not name its tests.",
        type="linelist",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, note the targets, and refuse a file that cannot be written before any test runs."""
    config.addinivalue_line(
        "markers",
        "gradients(**options): the test returns a model, (model, x, y) or (layer, *inputs); its gradients are checked "
        "with these options of check_gradients",
    )
    worker = getattr(config, "workerinput", None)  # of pytest-xdist
    if worker is not None:
        config.stash[_TARGETS] = worker["gradtwin"]
        config.stash[FOLDER] = worker["gradtwin_folder"]
        return
    try:
        project_settings(config)
    except CouldNotRun as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_TARGETS] = pytest_watching.list_targets(config)
    path = config.getoption("--gradtwin-json")
    # a test may leave another working directory behind
    config.pluginmanager.register(Reports(path and str(Path(path).absolute())), "gradtwin-reports")
    if path is not None:
        from keras_ref.reports.files import Output, find_sources, refuse_outputs

        force = "" if config.getoption("--gradtwin-force") else "--gradtwin-force"
        output = Output(option="--gradtwin-json", path=path, kind="report", command="pytest")
        try:
            require_path("--gradtwin-json", path)
            refuse_outputs([output], inputs=find_sources(config.stash[_TARGETS]), force=force)
        except CouldNotRun as error:
            raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist which targets to collect, and where those of this machine share checks."""
    config = node.config
    node.workerinput["gradtwin"] = config.stash[_TARGETS]
    if FOLDER not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="gradtwin-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        config.stash[FOLDER] = folder.name
    # with --dist each it is every worker by itself that is tested
    is_shared = node.gateway.spec.popen and config.getoption("dist") != "each"
    node.workerinput["gradtwin_folder"] = config.stash[FOLDER] if is_shared else ""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test for each variable of each target, before -k and -m select."""
    if config.stash[_TARGETS]:
        from keras_ref.frontends.plugin.pytest_items import collect_targets

        items += collect_targets(session, config.stash[_TARGETS])


# Checks inside tests --------------------------------------------------------------------------------------------------


def _make_fixture(verb: str) -> Any:
    def fixture(request: pytest.FixtureRequest) -> Callable[..., Any]:
        def check(*arguments: Any, **options: Any) -> Any:
            __tracebackhide__ = True
            return check_in_test(request.node, verb, *arguments, **options)

        return check

    fixture.__doc__ = f"keras_ref.{verb}, which fails the test with six lines per finding, else returns the report."
    return pytest.fixture(name=verb)(fixture)


check_gradients = _make_fixture("check_gradients")
check_updates = _make_fixture("check_updates")
check_layer = _make_fixture("check_layer")
check_function = _make_fixture("check_function")


@pytest.fixture
def compare() -> Callable[..., Any]:
    """keras_ref.compare, which fails the test with the whole comparison where two programs part, else returns it."""

    def check(*arguments: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        from keras_ref.checks.compare import compare as compare_programs
        from keras_ref.inputs.targets import quiet_tensorflow

        quiet_tensorflow()
        found = compare_programs(*arguments, **options)
        if not found.ok:
            pytest.fail(found.explain(), pytrace=False)
        return found

    return check


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test marked `gradients`, and check what it returns."""
    marks = list(pyfuncitem.iter_markers("gradients"))
    if not marks:
        return None
    from keras_ref.frontends.plugin.pytest_items import check_returned

    names = pyfuncitem._fixtureinfo.argnames  # noqa: SLF001 (pytest's own pytest_pyfunc_call does the same)
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    options = {name: value for mark in reversed(marks) for name, value in mark.kwargs.items()}
    check_returned(pyfuncitem, pyfuncitem.obj(**arguments), options, positional=any(mark.args for mark in marks))
    return True


# What a test run reports ----------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget what a former run of a test has said: pytest-rerunfailures runs one again that failed."""
    item.user_properties[:] = [one for one in item.user_properties if not one[0].startswith("gradtwin_")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Attach the reports of a test to its result, with which they travel from workers of pytest-xdist."""
    result = yield
    reports = item.stash.get(REPORTS, [])
    if reports:
        from keras_ref.reports.verdict import write_json_text

        result.gradtwin = [write_json_text(report.to_dict()) for report in reports]
        culprit = next((report.culprit for report in reports if report.culprit is not None), None)
        if result.failed and culprit is not None and culprit.file:  # where editors and CI services lead
            result.location = (culprit.file, culprit.line - 1, result.location[2])
        result.sections = [
            (name, text) for name, text in ((n, _LOG_LINES.sub("", t)) for n, t in result.sections) if text
        ]
        reports.clear()
    return result


class Reports:
    """Every report of the test run, gathered in the main process: one line in the terminal, one file."""

    def __init__(self, path: str | None) -> None:
        self.path, self.texts = path, list[tuple[str, str]]()
        #: the tests in the order in which they were collected, which those of several processes do not end in
        self.order: dict[str, int] = {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Note the order of the tests, which is the same in every worker of pytest-xdist."""
        del node
        self.order = {test: i for i, test in enumerate(ids)}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the reports of a finished test, this process's or a worker's; none of one that runs again."""
        if report.outcome != "rerun":  # of pytest-rerunfailures
            self.texts += [(report.nodeid, text) for text in getattr(report, "gradtwin", ())]

    def pytest_sessionfinish(self) -> None:
        """Write --gradtwin-json."""
        if self.path:
            from keras_ref.frontends.plugin.pytest_items import make_document
            from keras_ref.reports.files import write
            from keras_ref.reports.verdict import write_json_text

            ordered = sorted(self.texts, key=lambda one: self.order.get(one[0], 0))
            write("--gradtwin-json", self.path, write_json_text(make_document(ordered)) + "\n")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the line that sums up, in red if a check failed."""
        if self.texts:
            from keras_ref.frontends.plugin.pytest_items import sum_up

            total = sum_up(self.texts)
            terminalreporter.write_line(f"gradtwin: {total.line}", **({} if total.ok else {"red": True}))
