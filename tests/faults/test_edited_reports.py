"""Reports that came from somewhere: edited, or no reports; refused in a sentence, never obeyed."""

import copy
import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from command_line import run_gradtwin
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ref.frontends.command_line import cli
from keras_ref.frontends.invocations.invocation import Invocation, make_document
from keras_ref.reports.escaping import make_printable
from keras_ref.reports.verdict import Kind, Reason, Report, Verdict, write_json_text

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
    return json.loads(write_json_text(make_document(invocation, {TARGET: true_report()})))


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
        patch.setattr(cli, "start_tensorflow", lambda: None)
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
        assert sorted((make_printable(n), make_printable(o), k) for n, o, k in kinds) == sorted(true)


def replay_edited(examples):
    @settings(max_examples=examples, database=None, deadline=None)
    @given(edited_documents())
    def replay(document):
        require_kept(*replayed(document), document)

    # a process runs one command; here hundreds share what Typer reads from the functions of all commands
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        replay()


@pytest.mark.sampled
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
    "this program": (
        {"targets": ["keras_ref.frontends.command_line.cli:main"]},
        "Received: keras_ref.frontends.command_line.cli:main, which is",
    ),
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
