"""Reports as JUnit XML, which every CI system shows: a suite for each target, a test for each verdict.

Source: the schema of Jenkins' xUnit plugin (testsuites, testsuite, testcase; failure, error, skipped).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from xml.etree import ElementTree as ET

from keras_ref.reports.comparison import Comparison
from keras_ref.reports.escaping import make_printable
from keras_ref.reports.verdict import Kind, Report, Verdict


@dataclass(frozen=True, kw_only=True)
class Case:
    """A test: its name and class, and how it ended.

    ended   "" for a pass; "failure", "error" or "skipped", with a message of one line and a text of several
    file    the code at fault with its line, where that is known
    """

    name: str
    classname: str = ""
    ended: str = ""
    message: str = ""
    text: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The tests of one target, by its name, with properties."""

    name: str
    cases: tuple[Case, ...]
    properties: tuple[tuple[str, str], ...] = ()


def write_junit(command: str, suites: Iterable[Suite]) -> str:
    """The document of some suites, written by a command of gradtwin."""
    root = ET.Element("testsuites", name=f"gradtwin {command}")
    for suite in suites:
        root.append(_build_suite_element(suite))
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def build_suite(target: str, report: Report) -> Suite:
    """A test for each verdict of a report; a failed one has its six lines, and the place of the layer at fault."""
    cases = [_build_case(target, report, verdict) for verdict in report.verdicts]
    if not report.ok and not report.failures:
        cases.append(Case(name="anything compared", classname=target, ended="failure", message=report.summary()))
    return Suite(name=target, cases=tuple(cases), properties=tuple(report.properties().items()))


def build_refusal_suite(target: str, sentence: str) -> Suite:
    """The suite of a target that could not be run: one error."""
    return Suite(name=target, cases=(Case(name="run", classname=target, ended="error", message=sentence),))


def build_comparison_suite(found: Comparison) -> Suite:
    """A test for each place of a comparison of two programs; those behind the first that differs may differ, too."""
    name = f"{found.a} and {found.b}"
    cases = [
        Case(
            name=f"{row.stage}: {row.a or row.b}",
            classname=name,
            ended="" if row.agrees else "failure",
            message="" if row.agrees else f"differs by {row.difference:.3e}, allowed {row.allowed:.3e}",
            text="" if row.agrees else found.explain(),
        )
        for row in found.rows
    ]
    cases += [Case(name="run", classname=name, ended="error", message=error) for error in found.errors]
    return Suite(name=name, cases=tuple(cases))


def _build_case(target: str, report: Report, verdict: Verdict) -> Case:
    passed = Case(name=f"{verdict.name} by {verdict.oracle}", classname=target)
    if not report.fails(verdict):
        return passed
    return replace(
        passed,
        ended="error" if verdict.verdict is Kind.CRASH else "failure",
        message=f"{verdict.verdict}; {report.oracles}",
        text=verdict.explain(report.replay),
        file="" if report.culprit is None else report.culprit.file,
        line=0 if report.culprit is None else report.culprit.line,
    )


def _build_suite_element(suite: Suite) -> ET.Element:
    ended = [case.ended for case in suite.cases]
    counts = {
        f"{kind}s" if kind != "skipped" else kind: str(ended.count(kind)) for kind in ("failure", "error", "skipped")
    }
    element = ET.Element("testsuite", {"name": make_printable(suite.name), "tests": str(len(ended)), **counts})
    if suite.properties:
        properties = ET.SubElement(element, "properties")
        for name, value in suite.properties:
            ET.SubElement(properties, "property", name=name, value=make_printable(value))
    for case in suite.cases:
        where = {"file": make_printable(case.file), "line": str(case.line)} if case.file else {}
        classname = {"classname": make_printable(case.classname)} if case.classname else {}
        test = ET.SubElement(element, "testcase", {"name": make_printable(case.name), **classname, **where})
        if case.ended:
            ET.SubElement(test, case.ended, message=make_printable(case.message)).text = _make_visible(case.text)
    return element


def _make_visible(text: str) -> str:
    """A text of several lines in characters that XML can hold."""
    return "\n".join(make_printable(line) for line in text.split("\n"))
