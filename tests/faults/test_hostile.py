"""Names, files and reports that came from somewhere: shown harmlessly, refused in a sentence, never obeyed."""

import copy
import functools
import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import typer
from command_line import run_gradtwin
from hostile_names import NAMES, has_only_visible_characters
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from keras_ref.campaign import standing
from keras_ref.campaign.ledger import load_findings
from keras_ref.campaign.page import draft_report, ledger_html
from keras_ref.campaign.standing import Standing
from keras_ref.frontends import cli, recorded
from keras_ref.frontends.compare_cli import print_comparison
from keras_ref.frontends.homework_cli import junit_xml, print_grade, print_table
from keras_ref.frontends.invocation import Invocation, make_document
from keras_ref.homework.grades import Grade, StageResult
from keras_ref.reports import github, junit
from keras_ref.reports.comparison import Comparison, Matched, Row, comparison_html
from keras_ref.reports.culprit import Culprit
from keras_ref.reports.escaping import fenced, markdown, printable
from keras_ref.reports.html import report_html
from keras_ref.reports.terminal import print_report
from keras_ref.reports.verdict import Kind, Reason, Report, Verdict, json_text


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


@pytest.mark.parametrize("name", NAMES, ids=printable)
def test_a_name_in_every_front(name):
    report, shown = report_on(name), NAMES[name]
    assert printable(name) == shown
    assert report.verdicts[0].name == report.subject == shown

    terminal = shown_in_terminal(report, width=1000)
    assert terminal.count(shown) >= 5  # no markup is taken for one, no picture drawn
    for width in (40, 80, 200, 1000):
        assert has_only_visible_characters(shown_in_terminal(report, width))
    assert has_only_visible_characters(report.explain())
    assert has_only_visible_characters(repr(report))

    written = json_text(report.to_dict())
    assert json_text(recorded.read_report(json.loads(written)).to_dict()) == written

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

    summary = github.summary(name, report)
    assert has_only_visible_characters(summary.replace("\n", ""))
    outside = re.sub(r"^(`{3,})text$.*?^\1$", "", summary, flags=re.DOTALL | re.MULTILINE)
    outside = re.sub(r"(?<!\\)`[^`]*`", "", outside)  # code is shown as it is
    assert not re.search(r"(?<!\\)([<\[@$]|://)|www\.", outside.replace("compared |", ""))

    for value in report.properties().values():
        assert value.isprintable()

    for one in ET.fromstring(junit.junit_xml("check", [junit.suite_of(name, report)])).iter():
        assert all(value.isprintable() for value in one.attrib.values())
        assert has_only_visible_characters(one.text or "")


@pytest.mark.parametrize("name", NAMES, ids=printable)
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
    page = comparison_html(found)
    assert html.escape(shown) in page and "<script" not in page
    assert has_only_visible_characters(re.sub("<style>.*</style>", "", page, flags=re.DOTALL))
    written = json.loads(json_text({"compared": found.to_dict(), "graded": graded.to_dict()}))
    assert written["compared"]["rows"][0]["a"] == written["graded"]["path"] == shown
    suite = ET.fromstring(junit_xml([graded]))[0]
    assert suite.get("name") == suite[0][0].get("message") == shown
    suites = [junit.suite_of_comparison(found), junit.suite_of_refusal(name, name)]
    for one in ET.fromstring(junit.junit_xml("compare", suites)).iter():
        assert all(value.isprintable() for value in one.attrib.values())
        assert has_only_visible_characters(one.text or "")


@pytest.mark.parametrize("name", NAMES, ids=printable)
def test_a_name_in_what_a_finding_says(gradtwin, monkeypatch, name):
    """The console, the page, JSON and the draft of a report: what a script prints comes from what is installed."""
    finding = load_findings()[0]
    said = Standing(finding=finding, state="still there", said=name.replace("\n", " "))
    shown = printable(name.replace("\n", " "))
    assert said.said == shown
    page = ledger_html([said], "1.0")
    assert html.escape(shown) in page and "<script" not in page
    assert has_only_visible_characters(re.sub("<style>.*</style>", "", page, flags=re.DOTALL))
    draft = draft_report(said)
    assert fenced(shown) in draft
    assert has_only_visible_characters(draft)
    monkeypatch.setattr(standing, "find_standings", lambda findings: [said])
    status, out, _ = gradtwin("findings", finding.id, "--report", "--json", "f.json")
    assert status == 0
    assert has_only_visible_characters(out)
    assert json.loads(Path("f.json").read_text(encoding="utf-8"))["findings"][0]["said"] == shown


def test_text_in_markdown():
    assert markdown("a_b [x](y) <b> `c`\n@d") == "a\\_b \\[x\\](y) \\<b\\> \\`c\\`\\\\n\\@d"
    assert markdown("https://x www.y $z$ 0.5") == "https\\://x www\\.y \\$z\\$ 0.5"  # no link, no formula


@pytest.mark.parametrize("line", ["plain", "```", "````", "a ``` b", "~~~", "```text"])
def test_a_block_of_markdown_that_no_line_ends(line):
    first, *inside, last = fenced(f"{line}\n{line}").split("\n")
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
            for token in render(github.summary(f"{file}:{name}", one))
            for child in [token, *(token.children or ())]
            if child.type != "text"
        ]
        for one in (report, replace(plain, culprit=replace(culprit, layer="a", kind="b", file="c")))
    )
    assert kinds == plain_kinds
    cells = [
        child.content
        for token in render(github.summary(name, report))
        for child in token.children or ()
        if child.type == "code_inline"
    ]
    assert {one.strip() for one in cells} == {printable(name).replace("`", "'").strip()}

    for line in github.annotate(f"shop:{name}", report):
        assert line.isprintable()
        command, _, message = line.removeprefix("::error ").partition("::")
        properties = dict(one.split("=", 1) for one in command.split(","))
        assert set(properties) <= {"title", "file", "line"}
        assert unescaped(properties["title"]).startswith(f"gradtwin: mismatch in {printable(name)}, in the layer ")
        assert unescaped(message) in {v.explain(report.replay) for v in report.failures}


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


# Reports --------------------------------------------------------------------------------------------------------------

TARGET = "shop:build"


def true_report():
    verdicts = (
        Verdict("shop/kernel", "forward", Kind.MATCH, 4, 4, {"match": 4}, (0, 1), 1.0, 1.0, visible=1e-9),
        Verdict("shop/bias", "forward", Kind.MISMATCH, 2, 2, {"mismatch": 1}, (1,), 1.0, 2.0).because(
            Reason.WORST_STEP, 1
        ),
    )
    return Report(
        "shop", verdicts, ("a note",), 3, "gradtwin check shop:build --seed 3", 1e-12, precision_loss={"a": 0.1}
    )


def true_document():
    invocation = Invocation("check", (TARGET,), "", {"seed": 3, "expect": ("a=surrogate",)})
    return json.loads(json_text(make_document(invocation, {TARGET: true_report()})))


def paths_in(data, path=()):
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from paths_in(value, (*path, key))


ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 10),
        st.integers(),
        st.floats(),
        st.sampled_from(
            ["nan", "inf", "match", "mismatch", "kink", "undecided", "update", TARGET, "os:abort", "x.keras"]
        ),
        st.text(max_size=5),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def edited_documents(draw):
    """A report with one to three edits: a value replaced by anything, removed, doubled, or a property added."""
    data = {"report": true_document()}
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from([path for path in paths_in(data) if path]))
        owner = data
        for key in path:
            owner = owner[key]
        kind = draw(st.sampled_from(["replace", "remove", "double", "add"]))
        if kind == "remove" and path:
            del owner[last]
        elif kind == "double" and isinstance(owner, list):
            owner.insert(last, copy.deepcopy(owner[last]))
        elif kind == "add" and isinstance(owner[last], dict):
            owner[last][draw(st.text(max_size=5) | st.sampled_from(["unsafe", "import", "variables"]))] = draw(ANYTHING)
        else:
            owner[last] = draw(ANYTHING)
        if not isinstance(data["report"], (dict, list)):
            break
    return data["report"]


def replayed(document, text=None):
    """Replay a document. Returns (Finished, the invocations that were run)."""
    ran = []

    def run(invocation, target, progress=None):
        ran.append((invocation, target))
        return replace(true_report(), allowed=frozenset(invocation.value("allow")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Invocation, "run", run)
        patch.setattr(cli, "import_quietly", lambda: None, raising=False)
        with Path("edited.json").open("w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(json.dumps(document) if text is None else text)
        return run_gradtwin("replay", "edited.json"), ran


def require_kept(finished, ran, document):
    """No traceback, nothing obeyed, no false "same"."""
    status, out, err = finished
    assert status in (0, 1, 2), err
    assert "Traceback" not in out + err
    assert (status == 2) == bool(err)
    assert err.count("\n") == (status == 2)
    for invocation, target in ran:
        assert not invocation.value("unsafe")
        assert invocation.value("import") == ()
        assert target.partition(":")[0] not in ("os", "sys")
    if "verdicts as recorded." in out:
        listed = document.get("reports", [document])
        kinds = [(v["name"], v["oracle"], v["verdict"]) for report in listed for v in report["verdicts"]]
        true = [(v.name, v.oracle, str(v.verdict)) for v in true_report().verdicts] * len(listed)
        assert sorted((printable(n), printable(o), k) for n, o, k in kinds) == sorted(true)


def replay_edited(examples):
    @settings(max_examples=examples, database=None, deadline=None)
    @given(edited_documents())
    def replay(document):
        require_kept(*replayed(document), document)

    # a process runs one command; here hundreds share what Typer reads from the functions of all commands
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        replay()


def test_edited_reports(gradtwin):
    finished, ran = replayed(true_document())
    assert finished.out.endswith("The same 2 verdicts as recorded.\n")
    assert len(ran) == 1
    replay_edited(25)


@pytest.mark.slow
def test_many_edited_reports(gradtwin):
    replay_edited(600)


EDITS = {
    "unsafe": ({"options": {"unsafe": True}}, "which asks for --unsafe. Pass that to gradtwin replay"),
    "import": ({"options": {"import": ["evil"]}}, "which asks for --import evil. Pass that to gradtwin replay"),
    "a function of Python's own": ({"targets": ["os:abort"]}, "Received: os:abort, which is of Python's own library "),
    "a test of Python's own": ({"targets": ["test.support:gc_collect"]}, "Received: test.support:gc_collect, which is"),
    "the command itself": (
        {"targets": ["__main__:main"]},
        "Received: __main__:main, which is of Python's own library ",
    ),
    "this program": ({"targets": ["keras_ref.frontends.cli:main"]}, "Received: keras_ref.frontends.cli:main, which is"),
    "a list for a text": ({"data": []}, "(run/data: [] is not of type 'string')"),
    "a word for a number": ({"options": {"seed": "3"}}, "(run/options/seed: '3' is not of type 'integer')"),
    "no targets": ({"targets": []}, "(run/targets: [] should be non-empty)"),
    "a NUL in a path": ({"data": "a\x00b"}, "(run/data: 'a\\x00b' does not match"),
    "an effort that is none": ({"options": {"effort": "none"}}, "(run/options/effort: 'none' is not one of"),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_a_report_cannot_ask_for(gradtwin, name):
    edits, said = EDITS[name]
    document = true_document()
    document["run"] |= edits
    finished, ran = replayed(document)
    assert (finished.status, finished.out, ran) == (2, "", [])
    assert said in finished.err
    assert finished.err.count("\n") == 1


@pytest.mark.parametrize(
    "text", ["", "[", "null", "3", '"x"', "[" * 100000, '{"run": NaN}', '{"run": 1e999, "ok": 1}', "\x00", "9" * 5000]
)
def test_files_that_are_no_reports(gradtwin, text):
    finished, ran = replayed(None, text)
    assert (finished.status, finished.out, ran) == (2, "", [])
    assert finished.err.startswith("gradtwin: A report to replay must be one that --json wrote. Received: edited.json")


def test_verdicts_that_contradict_the_summary(gradtwin):
    document = true_document()
    document["ok"] = True
    finished, _ = replayed(document)
    assert finished.status == 2
    assert "(its parts contradict one another)" in finished.err


def test_a_target_that_cannot_be_run_is_not_the_same(gradtwin):
    document = true_document()
    Path("report.json").write_text(json.dumps(document), encoding="utf-8")
    status, out, err = run_gradtwin("replay", "report.json")  # there is no module shop
    assert status == 2
    assert "as recorded" not in out
    assert err.startswith("gradtwin: A target's module must import. Received: shop: ")
