"""What --json and --junit write: one shape, which the published schema describes, whatever command wrote it."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from jsonschema import Draft202012Validator

import keras_ref
from keras_ref.errors import CouldNotRun
from keras_ref.frontends.command_line import published_schema as schema_module
from keras_ref.frontends.command_line.published_schema import build_published_schema
from keras_ref.frontends.invocations.invocation import Invocation, make_document
from keras_ref.frontends.plugin.pytest_items import make_document as make_pytest_document
from keras_ref.reports.comparison import Comparison, Row
from keras_ref.reports.culprit import Culprit
from keras_ref.reports.files import KINDS, Output, describe_writer, refuse_outputs
from keras_ref.reports.html import report_html
from keras_ref.reports.junit import build_comparison_suite, build_refusal_suite, build_suite, write_junit
from keras_ref.reports.schema import REPORT
from keras_ref.reports.verdict import Report, Verdict, write_json_text

ROOT = Path(__file__).parents[1]
PUBLISHED = (
    Path(keras_ref.__file__).parent / "reports/assets/gradtwin.schema.json",
    ROOT / ".github/docs/gradtwin.schema.json",
)
ERRORS = {"truncation": 0.25, "rounding": 0.25, "visible": 3e-9}
RIGHT = Report("m:right", (Verdict("v", "forward", "match", 4, 4, {"match": 4}, (0,), 1.0, 1.0, **ERRORS),))
WRONG = Report(
    "m:wrong",
    (
        Verdict("v", "forward", "match", 4, 4, {"match": 4}, (0,), 1.0, 1.0, **ERRORS),
        Verdict("w", "forward", "mismatch", 4, 4, {"mismatch": 4}, (0, 1), 1.0, 2.0, **ERRORS),
    ),
    culprit=Culprit(layer="norm", kind="RmsNorm", file="acme/layers.py", line=41),
)
TRUE = Draft202012Validator(build_published_schema())


def document(*reports, refused=(), command="check"):
    targets = tuple(report.subject for report in reports) + tuple(f"m:dead{i}" for i in range(len(refused)))
    made = make_document(Invocation(command, targets), {report.subject: report for report in reports}, refused)
    return json.loads(write_json_text(made))


def test_the_published_files_are_the_schema():
    """python -m keras_ref.frontends.command_line.published_schema writes them anew."""
    Draft202012Validator.check_schema(build_published_schema())
    for path in PUBLISHED:
        assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(build_published_schema())), path
    assert schema_module.__doc__ and PUBLISHED[1].name in schema_module.__doc__


@pytest.mark.parametrize("command", ["check", "locate", "updates"])
@pytest.mark.parametrize(
    ("reports", "refused"),
    [((RIGHT,), ()), ((WRONG,), ()), ((RIGHT, WRONG), ()), ((WRONG,), ("It could not.",)), ((), ("It could not.",))],
)
def test_one_shape(command, reports, refused):
    made = document(*reports, refused=refused, command=command)
    TRUE.validate(made)
    assert list(made)[:2] == ["written_by", "schema_version"]
    assert made["ok"] == (not refused and all(report.ok for report in reports))
    assert [one["target"] for one in made["reports"]] == [report.subject for report in reports]
    assert made["could_not_run"] == list(refused)
    alone = len(reports) == 1 and not refused
    assert {*REPORT} <= {*made} if alone else not {"verdicts"} & {*made}


def test_what_is_no_such_document_is_none():
    made = document(RIGHT)
    for change in (
        {"schema_version": 2},
        {"written_by": "gradtwin compare"},
        {"more": 1},
        {"reports": []},
        {"ok": None},
    ):
        assert not TRUE.is_valid({**made, **change}), change
    for name in ("written_by", "schema_version", "ok", "could_not_run", "reports", "run"):
        assert not TRUE.is_valid({key: value for key, value in made.items() if key != name}), name


def test_documents_of_other_commands():
    TRUE.validate(json.loads(write_json_text(make_pytest_document([("a::b", write_json_text(WRONG.to_dict()))]))))
    TRUE.validate({**describe_writer("homework"), "ok": True, "submissions": []})
    TRUE.validate(
        {**describe_writer("findings"), "subject": "findings", "ok": True, "versions": "Keras 3", "findings": []}
    )


# JUnit ----------------------------------------------------------------------------------------------------------------


def test_a_suite_has_a_test_for_each_verdict_and_the_place_of_the_layer_at_fault():
    root = ET.fromstring(
        write_junit("check", [build_suite("m:wrong", WRONG), build_refusal_suite("m:dead", "It\x1b died.")])
    )
    first, second = root
    assert (root.get("name"), first.get("tests"), first.get("failures"), second.get("errors")) == (
        "gradtwin check",
        "2",
        "1",
        "1",
    )
    right, wrong = first.iter("testcase")
    assert (right.get("name"), len(right), right.get("file")) == ("v by forward", 0, None)
    assert (wrong.get("name"), wrong.get("file"), wrong.get("line")) == ("w by forward", "acme/layers.py", "41")
    assert "norm (RmsNorm, acme/layers.py:41)" in wrong[0].get("message")
    assert wrong[0].text == WRONG.failures[0].explain()
    assert second.find("testcase/error").get("message") == "It\\x1b died."
    properties = {one.get("name"): one.get("value") for one in first.iter("property")}
    assert properties["culprit"] == "norm (RmsNorm, acme/layers.py:41)"


def test_a_report_that_compared_nothing_is_no_pass():
    suite = ET.fromstring(write_junit("check", [build_suite("m:none", Report("m:none", ()))]))[0]
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")


def test_a_comparison_has_a_test_for_each_place():
    rows = (
        Row(stage="forward", a="out", b="out", difference=0.0, allowed=1e-9),
        Row(stage="gradient", a="w", b="w", difference=0.5, allowed=1e-9),
    )
    found = Comparison(a="keras", b="torch", precision="float64", matched=(), rows=rows, errors=("B raised: x.",))
    cases = list(ET.fromstring(write_junit("compare", [build_comparison_suite(found)])).iter("testcase"))
    assert [(case.get("name"), [child.tag for child in case]) for case in cases] == [
        ("forward: out", []),
        ("gradient: w", ["failure"]),
        ("run", ["error"]),
    ]


# Pages, and whose files are whose -------------------------------------------------------------------------------------


def test_a_page_of_several_targets_has_a_part_for_each():
    page = report_html(RIGHT, WRONG, command="check")
    assert "1 of 2 targets fail." in page
    for i, report in enumerate((RIGHT, WRONG)):
        assert f'<a href="#target-{i}">{report.subject}</a>' in page and f'<section id="target-{i}">' in page
    assert page.count("<main>") == page.count("</main>") == 1
    assert "norm (RmsNorm, acme/layers.py:41)" in page


def written(kind, command):
    """How a file begins that a command wrote."""
    heads = {
        "report": write_json_text({**describe_writer(command), "ok": True}),
        "page": report_html(RIGHT, command=command),
        "notebook": '{\n "cells": [\n  {\n   "metadata": {\n    "generator": "gradtwin ' + command + '"\n   }\n  }',
        "junit": write_junit(command, [build_suite("m", RIGHT)]),
    }
    return heads[kind]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "{}" in KINDS[kind]])  # others are one command's alone
def test_a_file_of_another_command_needs_force(tmp_path, kind):
    path = tmp_path / "out"
    for author in ("check", "compare", "lesson"):
        path.write_text(written(kind, author), encoding="utf-8")
        for command in ("check", "compare", "lesson"):
            output = Output(option="--out", path=str(path), kind=kind, command=command)
            if command == author:
                refuse_outputs([output], force="--force")
            else:
                with pytest.raises(CouldNotRun, match=f"or one that gradtwin {command} wrote"):
                    refuse_outputs([output], force="--force")
            refuse_outputs([output])
