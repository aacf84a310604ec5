"""Names, files and reports that came from somewhere: shown harmlessly, refused in a sentence, never obeyed."""

import html
import io
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hostile_names import NAMES, has_only_visible_characters
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from keras_ref.campaign import standing
from keras_ref.campaign.ledger import load_findings
from keras_ref.campaign.page import build_ledger_page, draft_report
from keras_ref.campaign.standing import Standing
from keras_ref.frontends.command_line.compare_cli import print_comparison
from keras_ref.frontends.command_line.homework_cli import print_grade, print_table, write_junit
from keras_ref.frontends.invocations import recorded
from keras_ref.homework.grades import Grade, StageResult
from keras_ref.reports import github, junit
from keras_ref.reports.comparison import Comparison, Matched, Row, write_comparison_html
from keras_ref.reports.culprit import Culprit
from keras_ref.reports.escaping import escape_markdown, fence, make_printable
from keras_ref.reports.html import report_html
from keras_ref.reports.terminal import print_report
from keras_ref.reports.verdict import Kind, Report, Verdict, write_json_text


def report_on(name):
    """A report with a name, or a text with that name, wherever it has one."""
    verdict = Verdict(
        name, "forward", Kind.MISMATCH, 4, 4, {"mismatch": 1}, (1,), 1.0, 2.0, truncation=0.0, rounding=0.1
    )
    return Report(
        name, (verdict, replace(verdict, how=name, reason=name)), (name,), 0, name, precision_loss={name: 1.0}
    )


def shown_in_terminal(report, width=200):
    out = io.StringIO()
    print_report(Console(file=out, width=width, highlight=False, emoji=False), report)
    return out.getvalue()


@pytest.mark.parametrize("name", NAMES, ids=make_printable)
def test_a_name_in_every_front(name):
    report, shown = report_on(name), NAMES[name]
    assert make_printable(name) == shown
    assert report.verdicts[0].name == report.subject == shown

    terminal = shown_in_terminal(report, width=1000)
    assert terminal.count(shown) >= 5  # no markup is taken for one, no picture drawn
    for width in (40, 80, 200, 1000):
        assert has_only_visible_characters(shown_in_terminal(report, width))
    assert has_only_visible_characters(report.explain())
    assert has_only_visible_characters(repr(report))

    written = write_json_text(report.to_dict())
    assert write_json_text(recorded.read_report(json.loads(written)).to_dict()) == written

    page = report_html(report)
    assert html.escape(shown) in page
    assert "<script" not in page
    assert has_only_visible_characters(re.sub("<style>.*</style>", "", page, flags=re.DOTALL))

    for line in github.annotate("a:b", report):
        assert line.startswith("::error ")
        assert line.isprintable()
    token, *lines, end = github.without_commands(terminal).split("\n")
    assert token == f"::stop-commands::{end.strip(':')}"
    assert end not in lines

    summary = github.write_summary(name, report)
    assert has_only_visible_characters(summary.replace("\n", ""))
    outside = re.sub(r"^(`{3,})text$.*?^\1$", "", summary, flags=re.DOTALL | re.MULTILINE)
    outside = re.sub(r"(?<!\\)`[^`]*`", "", outside)  # code is shown as it is
    assert not re.search(r"(?<!\\)([<\[@$]|://)|www\.", outside.replace("compared |", ""))

    for value in report.properties().values():
        assert value.isprintable()

    for one in ET.fromstring(junit.write_junit("check", [junit.build_suite(name, report)])).iter():
        assert all(value.isprintable() for value in one.attrib.values())
        assert has_only_visible_characters(one.text or "")


@pytest.mark.parametrize("name", NAMES, ids=make_printable)
def test_a_name_in_a_comparison_and_in_homework(name):
    """The console, the page, JSON and JUnit of compare and homework."""
    shown = NAMES[name]
    row = Row(stage="forward", a=name, b=name, difference=1.0, allowed=0.1, worst=(0,), note=name)
    found = Comparison(
        a=name,
        b=name,
        matched=(Matched(a=name, b=name, layout=name),),
        rows=(row,),
        parting=row,
        cause=name,
        notes=(name,),
        errors=(name,),
        replay=name,
    )
    graded = Grade(name, name, (StageResult("forward", "wrong", name, shown=f"{name}\nyours: {name}"),), notes=(name,))
    out = io.StringIO()
    console = Console(file=out, width=1000, highlight=False, emoji=False)
    print_comparison(console, found)
    print_grade(console, graded, show=True)
    print_table(console, [graded, replace(graded, refused=name)])
    terminal = out.getvalue()
    assert terminal.count(shown) >= 10
    assert has_only_visible_characters(terminal)
    assert not [line for line in terminal.split("\n") if re.match(r"\s*(::|##)", line)]
    page = write_comparison_html(found)
    assert html.escape(shown) in page and "<script" not in page
    assert has_only_visible_characters(re.sub("<style>.*</style>", "", page, flags=re.DOTALL))
    written = json.loads(write_json_text({"compared": found.to_dict(), "graded": graded.to_dict()}))
    assert written["compared"]["rows"][0]["a"] == written["graded"]["path"] == shown
    suite = ET.fromstring(write_junit([graded]))[0]
    assert suite.get("name") == suite[0][0].get("message") == shown
    suites = [junit.build_comparison_suite(found), junit.build_refusal_suite(name, name)]
    for one in ET.fromstring(junit.write_junit("compare", suites)).iter():
        assert all(value.isprintable() for value in one.attrib.values())
        assert has_only_visible_characters(one.text or "")


@pytest.mark.parametrize("name", NAMES, ids=make_printable)
def test_a_name_in_what_a_finding_says(gradtwin, monkeypatch, name):
    """The console, the page, JSON and the draft of a report: what a script prints comes from what is installed."""
    finding = load_findings()[0]
    said = Standing(finding=finding, state="still there", said=name.replace("\n", " "))
    shown = make_printable(name.replace("\n", " "))
    assert said.said == shown
    page = build_ledger_page([said], "1.0")
    assert html.escape(shown) in page and "<script" not in page
    assert has_only_visible_characters(re.sub("<style>.*</style>", "", page, flags=re.DOTALL))
    draft = draft_report(said)
    assert fence(shown) in draft
    assert has_only_visible_characters(draft)
    monkeypatch.setattr(standing, "find_standings", lambda findings: [said])
    status, out, _ = gradtwin("findings", finding.id, "--report", "--json", "f.json")
    assert status == 0
    assert has_only_visible_characters(out)
    assert json.loads(Path("f.json").read_text(encoding="utf-8"))["findings"][0]["said"] == shown


def test_text_in_markdown():
    assert escape_markdown("a_b [x](y) <b> `c`\n@d") == "a\\_b \\[x\\](y) \\<b\\> \\`c\\`\\\\n\\@d"
    assert escape_markdown("https://x www.y $z$ 0.5") == "https\\://x www\\.y \\$z\\$ 0.5"  # no link, no formula


@pytest.mark.parametrize("line", ["plain", "```", "````", "a ``` b", "~~~", "```text"])
def test_a_block_of_markdown_that_no_line_ends(line):
    first, *inside, last = fence(f"{line}\n{line}").split("\n")
    assert inside == [line, line]
    assert first == f"{last}text"
    assert not any(re.fullmatch(r" {0,3}`+ *", one) and one.count("`") >= len(last) for one in inside)


def unescaped(text):
    """What a runner reads in a workflow command: actions/runner, ActionCommand.cs."""
    for sign, code in (("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C"), ("%", "%25")):
        text = text.replace(code, sign)
    return text


SIGNS = "`|*_~[]()<>&@!#$:,%\\\"'=-+.\n\r\t\0\x1b\x9b\u2028\u202e "
HOSTILE_NAMES = st.one_of(
    st.sampled_from(
        [*NAMES, "::endgroup::", "::stop-commands::x", "</code></pre>", "~~~", "| a | b |", "\\|", "x`", "-"]
    ),
    st.text(st.sampled_from(SIGNS) | st.sampled_from("axAX0"), max_size=12),
    st.text(max_size=8),
).filter(str.strip)  # a note of nothing is no paragraph


@pytest.mark.sampled
@settings(max_examples=50, database=None, deadline=None)
@given(HOSTILE_NAMES, HOSTILE_NAMES, HOSTILE_NAMES)
def test_names_are_harmless_in_github(name, layer, file):
    """Any name of a variable, a layer, a class and its file: a summary has the elements that it has with a plain name,
    and an annotation is one command whose parts are what was put in."""
    culprit = Culprit(layer=layer, kind=name, file=file, line=3)
    report, plain = (replace(report_on(one), culprit=culprit) for one in (name, "plain"))
    render = MarkdownIt("commonmark").enable("table").parse
    kinds, plain_kinds = (
        [
            (token.type, child.type)
            for token in render(github.write_summary(f"{file}:{name}", one))
            for child in [token, *(token.children or ())]
            if child.type != "text"
        ]
        for one in (report, replace(plain, culprit=replace(culprit, layer="a", kind="b", file="c")))
    )
    assert kinds == plain_kinds
    cells = [
        child.content
        for token in render(github.write_summary(name, report))
        for child in token.children or ()
        if child.type == "code_inline"
    ]
    assert {one.strip() for one in cells} == {make_printable(name).replace("`", "'").strip()}

    for line in github.annotate(f"shop:{name}", report):
        assert line.isprintable()
        command, _, message = line.removeprefix("::error ").partition("::")
        properties = dict(one.split("=", 1) for one in command.split(","))
        assert set(properties) <= {"title", "file", "line"}
        assert unescaped(properties["title"]).startswith(f"gradtwin: mismatch in {make_printable(name)}, in the layer ")
        assert unescaped(message) in {v.explain(report.replay) for v in report.failures}


def test_every_text_of_a_verdict_is_harmless():
    """Whichever field of a verdict has a name of a model or of a file in it, no front is given what is not seen."""
    texts = [one.name for one in fields(Verdict) if one.type == "str"]
    assert {"name", "oracle", "how", "reason", "looks_like", "instead"} == set(texts)
    given = Verdict(verdict=Kind.MISMATCH, compared=1, **dict.fromkeys(texts, "::error::a\x1b[2J\n"))
    (shown,) = Report("shop", (given,)).verdicts
    assert all(getattr(shown, name).isprintable() and "::error" not in getattr(shown, name) for name in texts)
    assert has_only_visible_characters(shown.explain())


HOSTILE = """
import keras

def build():
    keras.utils.set_random_seed(1)
    x = keras.Input((2,), name="x")
    layer = keras.layers.Dense(1, name="::error::owned[left]\\n::error::owned\\x1b[2J")
    model = keras.Model({"a\\n::error::owned": x}, layer(x), name="hostile")
    model.compile(optimizer="sgd", loss="mse")
    return model
"""


@pytest.mark.sampled
def test_hostile_names_of_a_model_in_github_actions(gradtwin, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    status, out, err = gradtwin("check", gradtwin.write_module("hostile_shop", HOSTILE), "--json", "report.json")
    assert (status, err) == (0, "")
    lines = out.split("\n")
    commands = [line for line in lines if line.lstrip().startswith("::")]
    assert len(commands) == 2
    assert commands[0].startswith("::stop-commands::")
    assert "\\n::error::owned" in out
    assert has_only_visible_characters(out)
    assert has_only_visible_characters((tmp_path / "summary.md").read_text())
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert gradtwin("replay", "report.json").out.endswith("verdicts as recorded.\n")
