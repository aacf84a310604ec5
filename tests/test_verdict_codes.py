"""Kinds and reasons of verdicts: a code has a sentence, reaches JSON and is used; no decision reads a sentence."""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import keras_ref
from keras_ref.frontends.invocations.recorded import read_report
from keras_ref.reports.kinds import FAILING, ORDER, find_worst
from keras_ref.reports.verdict import Kind, Reason, Report, Verdict

PACKAGE = Path(keras_ref.__file__).parent


def gaps(reason):
    return reason.template.count("{}")


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_has_a_sentence_and_reaches_json(reason):
    assert len(re.sub(r"\{\}", "", reason.sentence).split()) >= 3, "a sentence, gaps left out"
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", reason.value)
    details = [f"detail {i}" for i in range(gaps(reason))]
    verdict = Verdict("v", "forward", Kind.UNDECIDED).because(reason, *details)
    assert all(detail in verdict.reason for detail in details)
    data = json.loads(Report("m", (verdict,)).to_json())
    assert data["verdicts"][0]["reason_code"] == reason.value
    assert data["verdicts"][0]["reason"] == reason.text(*details)
    (again,) = read_report(data).verdicts
    assert (again.verdict, again.reason_code, again.reason) == (Kind.UNDECIDED, reason, verdict.reason)


def test_a_verdict_without_a_reason_says_so_in_json():
    data = json.loads(Report("m", (Verdict("v", "forward", "match"),)).to_json())
    assert (data["verdicts"][0]["reason_code"], data["verdicts"][0]["reason"]) == (None, "")
    assert read_report(data).verdicts[0].reason_code is None


@pytest.mark.parametrize("enumeration", [Kind, Reason])
def test_every_code_is_used(enumeration):
    """A kind or reason that nothing gives would be a promise."""
    text = "\n".join(f.read_text() for f in PACKAGE.rglob("*.py") if f.parent.name != "reports")
    unused = [one.name for one in enumeration if f"{enumeration.__name__}.{one.name}" not in text]
    assert not unused


def test_kinds():
    assert [kind.value for kind in ORDER] == [
        "crash", "mismatch", "nan", "mode-dependent", "nondeterministic", "inaccurate", "undecided", "kink",
        "disconnected", "surrogate", "symmetrized", "departure", "match",
    ]  # fmt: skip
    assert {kind for kind in Kind if kind.failing} == FAILING
    assert find_worst(["match", "kink", "undecided"]) is Kind.UNDECIDED
    with pytest.raises(ValueError, match="not a valid Kind"):
        Verdict("v", "forward", "wrong")


@pytest.mark.parametrize("reason", Reason)
def test_the_sides_are_printed_of_kinks_alone(reason):
    details = [""] * gaps(reason)
    verdict = Verdict("v", "forward", Kind.MISMATCH, 1, 1, left=-1.0, right=1.0).because(reason, *details)
    assert ("(left -1.000000e+00, right +1.000000e+00)" in verdict.explain()) == reason.is_kink
    assert "(left" in replace(verdict, verdict=Kind.KINK).explain()


def strings_read_as_code(path):
    """Places of a module where a decision hangs on the words of a reason, a sentence or an error."""
    for node in ast.walk(ast.parse(path.read_text())):
        operands = []
        if isinstance(node, ast.Compare) and not isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            operands = [node.func.value] if node.func.attr in {"startswith", "endswith", "find", "count"} else []
        for operand in operands:
            if isinstance(operand, ast.Attribute) and operand.attr in {"reason", "sentence", "template"}:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_no_decision_hangs_on_english():
    rooms = ("comparison", "checks", "reports", "frontends")
    found = [place for room in rooms for f in (PACKAGE / room).rglob("*.py") for place in strings_read_as_code(f)]
    assert not found
