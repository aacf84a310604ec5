"""The pytest plugin beside eight others: no finding is doubled, lost or renamed.

One small project is run, with a right and a wrong test and a right and a wrong target, whose reports are stubs.
"""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from stubbed_checks import STUBS

from keras_ref.errors import target_stays

#: pytest's name of a plugin → the module that it is in
NEIGHBOURS = {
    "html": "pytest_html",
    "allure_pytest": "allure_pytest",
    "xdist": "xdist",
    "randomly": "pytest_randomly",
    "rerunfailures": "pytest_rerunfailures",
    "timeout": "pytest_timeout",
    "pytest_cov": "pytest_cov",
}
#: what writes a file beside the run, by the plugin that brings it
REPORTERS = {
    "": ("--junitxml", "junit.xml"),  # pytest's own
    "html": ("--html", "report.html", "--self-contained-html"),
    "allure_pytest": ("--alluredir", "allure"),
    "pytest_cov": ("--cov", "shop", "--cov-report", "json"),
}
TESTS = """
import shop

def test_right(check_gradients):
    check_gradients(shop.right())

def test_wrong(check_layer, check_updates):
    check_updates(["match"])
    check_layer(["mismatch", "match"])
"""
SHOP = """
import os, time

def right():
    return ["match", "kink"]
"""
TARGETS = ("--gradtwin", "shop:right", "--gradtwin", "shop:wrong")
#: (test, variable, verdict)
FINDINGS = Counter(
    [
        ("test_shop.py::test_right", "v0", "match"),
        ("test_shop.py::test_right", "v1", "kink"),
        ("test_shop.py::test_wrong", "v0", "match"),
        ("test_shop.py::test_wrong", "v0", "mismatch"),
        ("test_shop.py::test_wrong", "v1", "match"),
        ("gradtwin::shop:right::v0", "v0", "match"),
        ("gradtwin::shop:right::v1", "v1", "kink"),
        ("gradtwin::shop:wrong::v0", "v0", "match"),
        ("gradtwin::shop:wrong::v0", "v2", "nan"),  # which no test stands for: it fails the first one
        ("gradtwin::shop:wrong::v1", "v1", "mismatch"),
    ]
)
SUMMED_UP = "gradtwin: 10 variables, 2 kinks, 1 nan, 2 mismatches; smallest error that would have been seen 3e-09"
CHECKED = {test for test, _, _ in FINDINGS}
FAILED = ["gradtwin::shop:wrong::v0", "gradtwin::shop:wrong::v1", "test_shop.py::test_wrong"]


@dataclass(frozen=True)
class Run:
    """A test run that ended: its folder, its exit status, what it printed, and its findings, (test, name, verdict)."""

    folder: Path
    status: int
    printed: str

    @property
    def findings(self):
        written = json.loads((self.folder / "all.json").read_text(encoding="utf-8"))
        assert written["ok"] is False
        return Counter((r["test"], v["name"], v["verdict"]) for r in written["reports"] for v in r["verdicts"])

    @property
    def last_line(self):
        return next(line for line in self.printed.splitlines() if line.startswith("gradtwin: "))


def run_project(folder, *options, plugins=(), conftest=STUBS, tests=TESTS):
    """Run the project with these plugins alone."""
    for name, text in (("conftest.py", conftest), ("shop.py", SHOP), ("test_shop.py", tests)):
        (folder / name).write_text(text, encoding="utf-8")
    off = [word for name in NEIGHBOURS if name not in plugins for word in ("-p", f"no:{name}")]
    words = ["-p", "no:cacheprovider", "-p", "no:benchmark", *off, *TARGETS, "--gradtwin-json", "all.json", *options]
    command = [sys.executable, "-m", "pytest", *words]
    # of the run that this test is in
    ours = ("COV_", "COVERAGE_", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return Run(folder, done.returncode, done.stdout + done.stderr)


def require(name):
    """Skip a test whose plugin is not installed."""
    if find_spec(NEIGHBOURS[name]) is None:
        pytest.skip(f"{NEIGHBOURS[name]} is not installed: it is in the extra `test`")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The project with everything that writes a report of its own, as far as it is installed."""
    plugins = [name for name in REPORTERS if not name or find_spec(NEIGHBOURS[name])]
    words = [word for name in plugins for word in REPORTERS[name]]
    return run_project(tmp_path_factory.mktemp("reported"), *words, plugins=plugins)


def require_same(run):
    assert run.status == 1, run.printed
    assert run.findings == FINDINGS
    assert run.last_line == SUMMED_UP


def require_junit(folder, *, reruns=0):
    """Each test once, by its name; what failed failed once with its six lines; the properties of each report once.

    reruns   cases without a failure that pytest-rerunfailures writes of any test that failed
    """
    cases = {}
    for case in ET.parse(folder / "junit.xml").getroot().iter("testcase"):
        cases.setdefault(f"{case.get('classname').replace('.', '::', 1)}::{case.get('name')}", []).append(case)
    assert set(cases) == {test.replace("test_shop.py", "test_shop") for test in CHECKED}
    for test in CHECKED:
        found = cases[test.replace("test_shop.py", "test_shop")]
        failures = [case.find("failure") for case in found if case.find("failure") is not None]
        assert (len(found), len(failures)) == ((1 + reruns, 1) if test in FAILED else (1, 0))
        assert all("verdict    " in failure.text for failure in failures)
        for case in found:
            names = Counter(one.get("name") for one in case.iter("property"))
            assert names["gradtwin_subject"] == names["gradtwin_verdicts"] == 1 + test.endswith("test_wrong")


def test_junitxml(reported):
    require_same(reported)
    require_junit(reported.folder)


class Blob(HTMLParser):
    """The data of a page of pytest-html."""

    found = ""

    def handle_starttag(self, tag, attrs):
        self.found = dict(attrs).get("data-jsonblob", self.found)


def test_pytest_html(reported):
    require("html")
    require_same(reported)
    page = Blob()
    page.feed((reported.folder / "report.html").read_text(encoding="utf-8"))
    shown = json.loads(page.found)["tests"]
    results = {test: [row["result"] for row in rows] for test, rows in shown.items()}
    assert results == {test: ["Failed" if test in FAILED else "Passed"] for test in CHECKED}
    assert all("verdict    " in shown[test][0]["log"] for test in FAILED)


def test_allure(reported):
    require("allure_pytest")
    require_same(reported)
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in (reported.folder / "allure").glob("*-result.json")
    ]
    assert Counter(one["name"] for one in results) == Counter(test.rpartition("::")[2] for test in CHECKED)
    assert len({one["historyId"] for one in results}) == len(results)  # of equal ones it shows the last alone
    failed = [one for one in results if one["status"] == "failed"]
    assert len(failed) == len(FAILED)
    assert all("verdict    " in one["statusDetails"]["trace"] for one in failed)


@pytest.mark.sampled
def test_pytest_cov(reported):
    require("pytest_cov")
    require_same(reported)
    measured = json.loads((reported.folder / "coverage.json").read_text(encoding="utf-8"))["files"]["shop.py"]
    assert measured["summary"]["percent_covered"] == 100


@pytest.mark.sampled
def test_xdist(tmp_path):
    require("xdist")
    require_same(run_project(tmp_path, "-n", "2", "--junitxml", "junit.xml", plugins=["xdist"]))
    require_junit(tmp_path)


@pytest.mark.sampled
def test_randomly(tmp_path):
    require("randomly")
    run = run_project(tmp_path, "-p", "randomly", "-p", "no:xdist", "--randomly-seed", "2", plugins=["randomly"])
    assert "Using --randomly-seed=2" in run.printed
    require_same(run)


@pytest.mark.sampled
def test_rerunfailures(tmp_path):
    """A test that is run again has the findings of its last run."""
    require("rerunfailures")
    run = run_project(tmp_path, "--reruns", "2", "--junitxml", "junit.xml", plugins=["rerunfailures"])
    assert f"{2 * len(FAILED)} rerun" in run.printed
    require_same(run)
    require_junit(tmp_path, reruns=2)


HANGS = STUBS.replace(
    "verbs.find_check = lambda verb: check",
    """
import time
from keras_ref.errors import target_stays

def check_in_time(subject, *arguments, **options):
    if subject == ["hangs"]:
        with target_stays("shop:hangs"):
            time.sleep(600)
    return check(subject, *arguments, **options)

verbs.find_check = lambda verb: check_in_time
""",
)
HANGING = (
    TESTS
    + """
def test_hangs(check_gradients):
    check_gradients(["hangs"])
"""
)


@pytest.mark.sampled
def test_timeout(tmp_path):
    """A test that takes too long fails, and takes no finding with it."""
    require("timeout")
    words = ("--timeout", "2", "--timeout-method", "signal")
    run = run_project(tmp_path, *words, plugins=["timeout"], conftest=HANGS, tests=HANGING)
    assert "Timeout (>2.0s) from pytest-timeout." in run.printed
    require_same(run)


@pytest.mark.slow
def test_timeout_by_a_thread(tmp_path):
    """It ends the process, which no target may; the next test is the short form."""
    require("timeout")
    words = ("--timeout", "2", "--timeout-method", "thread", "-k", "test_hangs")
    run = run_project(tmp_path, *words, plugins=["timeout"], conftest=HANGS, tests=HANGING)
    assert run.status == 1
    assert "+ Timeout +" in run.printed


def test_a_timer_that_was_set_before_a_target_may_end_the_process(monkeypatch):
    """And one that a target sets may not."""
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)

    def leave(status):
        with suppress(SystemExit):
            os._exit(status)

    before = threading.Timer(0.05, leave, [3])
    before.start()
    with target_stays("shop:right"):
        within = threading.Timer(0, leave, [4])
        within.start()
        for timer in (before, within):
            timer.join()
    assert ended == [3]
