"""Isolated subjects that nobody had listed, and what they leave: their temporary files are gone with them, however they
end, and what is in the place of a report is no report.
"""

import json
import os
import sys
import time

import pytest
from odd_subjects import ODD
from test_isolation import LIMITS, MARK, nothing_is_left

from keras_ref.frontends.invocations import isolation
from keras_ref.frontends.invocations.invocation import Invocation, make_document
from keras_ref.frontends.invocations.isolation import report_crash
from keras_ref.reports.verdict import Kind, Report, Verdict, write_json_text
from keras_ref.supervision.processes import making_folder, read_written, run_limited
from keras_ref.supervision.supervise import Limits, remove_folder

pytestmark = [
    pytest.mark.sampled,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]

INVOCATION = Invocation("check", ("shop:build",), "", {"isolate": True})


@pytest.mark.parametrize("name", ODD)
def test_an_odd_subject(own_temporary_files, name, monkeypatch):
    monkeypatch.setenv("GRADTWIN_FAULT_MARK", MARK)
    code, limits, how = ODD[name]
    monkeypatch.setattr("keras_ref.supervision.processes.GRACE", 2.0)
    program = [sys.executable, "-c", f"import os, signal, subprocess, sys, time\n{code}", MARK]
    begun = time.monotonic()
    end = run_limited(program, Limits(**{**vars(LIMITS), **limits}))
    assert time.monotonic() - begun < 25
    said = report_crash("shop:build", end, "").summary()
    if how is None:
        assert said.startswith("shop:build: stopped, for the process that supervises it ")
    else:
        assert said == f"shop:build: {how}"
    assert nothing_is_left()


# What is in the place of what was asked for ---------------------------------------------------------------------------


def report(target="shop:build"):
    verdict = Verdict("m/kernel", "forward", Kind.MATCH, 4, 4, {"match": 4}, (0, 1), 1.0, 1.0, visible=1e-9)
    made = Report(target, (verdict,), notes=(), seed=0, replay="")
    return write_json_text(make_document(INVOCATION, {target: made}))


WHOLE = json.loads(report())
#: what a command writes in the place of its report; a function of the path
DOCUMENTS = {
    **{text: text for text in ("[3]", "null", "3", '"x"', "{}", '{"reports": 3}', '{"reports": [[]]}', "")},
    "no numbers": report().replace("1e-09", "NaN"),
    "half": report()[:300],
    "deep": "[" * 900 + "]" * 900,
    "deep in a report": json.dumps({**WHOLE, "reports": [{**WHOLE["reports"][0], "notes": "@"}]}).replace(
        '"@"', "[" * 900 + "]" * 900
    ),
    "pickle": "\x80\x04K\x03.",
    "half of a character": '"\\ud800"',
    "of another target": report("other:build"),
    "of two targets": json.dumps({**WHOLE, "reports": WHOLE["reports"] * 2}),
    "contradicts itself": json.dumps({**WHOLE, "reports": [{**WHOLE["reports"][0], "ok": False}]}),
    "a pipe": "import os, sys; os.mkfifo(sys.argv[1])",
    "a folder": "import os, sys; os.mkdir(sys.argv[1])",
    "a link": "import os, sys; os.symlink('/dev/zero', sys.argv[1])",
}


@pytest.fixture
def write_instead(own_temporary_files, monkeypatch):
    """Let isolated commands write what a text says, or do what it says with the path."""

    def write(text):
        code = text if text.startswith("import os") else "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
        monkeypatch.setattr(
            isolation, "own_command", lambda *words, **_: [sys.executable, "-c", code, words[-1], text or " "]
        )

    return write


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_is_no_report(write_instead, name):
    write_instead(DOCUMENTS[name])
    assert isolation.run_isolated(INVOCATION, "shop:build").summary() == "shop:build: ended with exit status 0"


@pytest.mark.parametrize("name", [*DOCUMENTS, "a number"])
def test_a_document_that_has_no_names(write_instead, name):
    write_instead({**DOCUMENTS, "a number": '["kernel", 3]'}[name])
    found = isolation.read_isolated_names(INVOCATION, "shop:build")
    assert found.summary() == "shop:build: ended with exit status 0"


def test_a_document_that_is_right(write_instead):
    write_instead(report())
    assert isolation.run_isolated(INVOCATION, "shop:build").ok
    write_instead('["kernel", "bias"]')
    assert isolation.read_isolated_names(INVOCATION, "shop:build") == ["kernel", "bias"]


def test_a_text_that_was_written(tmp_path):
    (tmp_path / "text").write_text("# gradtwin: é\n", encoding="utf-8")
    assert read_written(tmp_path / "text") == "# gradtwin: é\n"
    (tmp_path / "text").write_bytes(b"\xff")
    (tmp_path / "link").symlink_to(__file__)
    os.mkfifo(tmp_path / "pipe")
    assert [read_written(tmp_path / name) for name in ("text", "link", "pipe", "none")] == [""] * 4


def test_folders_of_any_depth_are_removed(own_temporary_files):
    """Deeper than Python's recursion, and than the longest path."""
    with making_folder() as folder:
        here = os.open(folder, os.O_RDONLY)
        for _ in range(1100):
            os.mkdir("folder", dir_fd=here)
            before, here = here, os.open("folder", os.O_RDONLY, dir_fd=here)
            os.close(before)
        os.close(here)
    assert list(own_temporary_files.iterdir()) == []
    remove_folder(folder)  # which is harmless where it is gone
