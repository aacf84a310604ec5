"""Every write of every command: one way to write, and a full disk at each write, one after another."""

import ast
import json
import shutil
from pathlib import Path

import pytest
from test_files import FULL, Ending

import keras_ref
from keras_ref.campaign import records, run, standing
from keras_ref.campaign.ledger import load_findings
from keras_ref.campaign.results import Accusation, Result
from keras_ref.campaign.standing import Standing
from keras_ref.frontends.command_line import compare_cli, minimise_cli
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.lesson import lesson, page
from keras_ref.minimisation.minimise import Minimised
from keras_ref.reports.comparison import Comparison, Row
from keras_ref.reports.verdict import Kind, Report, Verdict

ROOM = Path(keras_ref.__file__).parent
#: what writes otherwise: (file, function) → why that may be
OTHERWISE = {
    ("campaign/backend_worker.py", "main"): "the pipe to the parent",
    ("campaign/standing.py", "run_script"): "a folder of its own, which is deleted",
    ("checks/other_backends.py", "_subject_of"): "a folder of its own, which is deleted",
    ("frontends/invocations/distribution.py", "store"): "a folder of its own, which is deleted",
    ("frontends/endings/exit_status.py", "_open_closed_streams"): "the null device",
    ("frontends/invocations/shared_check.py", "_write"): "a folder of its own, which is deleted",
    ("frontends/invocations/shared_check.py", "check_once"): "a folder of its own, which is deleted",
    ("frontends/invocations/watching.py", "__init__"): "a file in memory",
    ("frontends/invocations/variable_names.py", "main"): "a file that the parent made for the answer",
    ("inputs/targets.py", "import_quietly"): "the error stream of the process",
    ("minimisation/running.py", "running"): "the null device",
    ("minimisation/running.py", "_file"): "a folder of its own, which is deleted",
    ("programs/worker.py", "main"): "the pipe to the parent",
    ("programs/wire.py", "encode"): "a buffer",
    ("reports/files.py", "write"): "the one way",
    ("reports/files.py", "append"): "the one way",
    ("reports/files.py", "write_unused"): "the one way",
    ("reports/files.py", "_replace"): "the one way",
    ("supervision/processes.py", "__init__"): "the pipe to the command",
    ("undoing.py", "_open_again"): "a standard stream that a target closed",
}


def is_write(call):
    """Whether a call may write a file: a method that does, or open with a mode other than reading."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("write_text", "write_bytes", "savez", "savez_compressed", "save", "touch", "rename", "copyfile"):
        return True
    if name not in ("open", "fdopen"):
        return False
    arguments = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)


@pytest.mark.sampled
def test_there_is_one_way_to_write():
    found = set()
    for path in ROOM.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                if any(map(is_write, calls)):
                    found.add((path.relative_to(ROOM).as_posix(), function.name))
    assert found == set(OTHERWISE)


# A full disk ----------------------------------------------------------------------------------------------------------

PAGE = '<!doctype html><html><head><meta charset="utf-8"><meta name="generator" content="gradtwin lesson">'
RESULTS = [Result(name=f"keras.ops.{name}", counts={"match": 3}) for name in ("square", "relu", "sqrt")]
ROW = Row(stage="forward", a="a", b="b", difference=0.0, allowed=0.1)


def stub(patch):
    """In the place of what commands compute: something of theirs to write."""
    patch.setattr(run, "run_campaign", lambda names, **options: (r for r in RESULTS if r.name in names))
    finding = load_findings()[0]
    found = [Standing(finding=finding, state="still there", said="1")]
    patch.setattr(standing, "find_standings", lambda findings: found)
    patch.setattr(compare_cli.ComparisonRun, "run", lambda self, progress: Comparison(a="a", b="b", rows=(ROW,)))
    verdict = Verdict("m/kernel", "forward", Kind.MATCH, 4, 4, {"match": 4}, (0, 1), 1.0, 1.0, visible=1e-9)
    patch.setattr(Invocation, "run", lambda self, target, progress=None: Report(target, (verdict,)))
    patch.setattr(minimise_cli, "open_subject", lambda *given: lambda seconds, progress: MINIMISED)
    patch.setattr(lesson, "make", lambda *arguments, **options: lesson_stub())
    patch.setattr(page, "build_page", lambda made, **options: PAGE)


MINIMISED = Minimised(script="# gradtwin: one\n", what="", finding="", got=1.0, want=2.0, seconds=0, tried=1, checked=1)


class lesson_stub:
    note = verdict = "a note"


CAMPAIGN = ("campaign", *(result.name for result in RESULTS), "--file")
#: command → (arguments before the name of each file, the files)
COMMANDS = {
    "check": (("check", "m:build"), {"--json": "m.json", "--html": "m.html", "--junit": "m.xml"}),
    "updates": (("updates", "m:build"), {"--json": "u.json", "--html": "u.html", "--junit": "u.xml"}),
    "minimise": (("minimise", "m:build"), {"--script": "s.txt"}),
    "compare": (("compare", "a", "b"), {"--json": "c.json", "--html": "c.html", "--junit": "c.xml"}),
    "findings": (("findings", load_findings()[0].id), {"--json": "f.json", "--html": "f.html"}),
    "lesson": (("lesson", "recipe1", "--exercise"), {"--output": "l.html"}),
    "notebook": (("lesson", "recipe1"), {"--notebook": "l.ipynb"}),
    "homework": (("homework", "none.py"), {"--json": "h.json", "--junit": "h.xml"}),
    "exercises": (("homework",), {"--new": "new"}),
    "campaign": (CAMPAIGN[:-1], {"--file": "campaign.jsonl"}),
}


#: how a command ends whose files were written, where not with 0
STATUS = {"homework": 2, "minimise": 1}


class Disk:
    """A disk that is full at the n-th file that is opened for writing."""

    def __init__(self, n):
        self.n, self.opened, self.open = n, 0, Path.open

    def as_method(self):
        def opened(path, mode="r", *arguments, **options):
            file = self.open(path, mode, *arguments, **options)
            if not set(mode) & set("wax"):
                return file
            self.opened += 1
            return Ending(file, "write", FULL) if self.opened == self.n else file

        return opened


@pytest.mark.sampled
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_at_every_write(gradtwin, tmp_path, monkeypatch, name):
    arguments, outputs = COMMANDS[name]
    call = [*arguments, *(part for pair in outputs.items() for part in pair)]
    stub(monkeypatch)
    (tmp_path / "none.py").write_text("a submission of no exercise")

    def on(n):
        """Run the command on a disk that is full at the n-th write. Returns (Finished, the disk)."""
        disk = Disk(n)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", disk.as_method())
            return gradtwin(*call), disk

    def written():
        return {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.*")}

    n, seen = 1, []
    while True:
        finished, disk = on(n)
        if disk.opened < n:
            break
        assert finished.status == 2
        assert any(finished.err.startswith(f"gradtwin: {option} must name a file ") for option in outputs)
        assert finished.err.endswith("No space left on device. Choose another path.\n")
        assert finished.err.count("\n") == 1
        seen.append(written())
        if name == "exercises":  # a folder that has been begun is not written to again
            shutil.rmtree(tmp_path / "new")
        n += 1
    assert finished.status == STATUS.get(name, 0)
    whole = written()
    assert n > len(outputs)
    assert all((tmp_path / file).exists() for file in outputs.values())
    for texts in seen:
        assert texts.keys() <= whole.keys()  # nothing is left beside
        if name != "campaign":
            assert all(text == whole[file] for file, text in texts.items())
    if name == "campaign":
        results = [records.read_results(str(tmp_path / "campaign.jsonl"), head=head())]
        for texts in seen:
            (tmp_path / "seen.jsonl").write_text(texts.get("campaign.jsonl", ""))
            results.append(records.read_results(str(tmp_path / "seen.jsonl"), head=head()))
        assert results[0] == RESULTS
        assert all(found == RESULTS[: len(found)] for found in results)
        assert [len(found) for found in results[1:]] == [0, 0, 1]


def head():
    return {"seed": 0, "deep": False, "versions": standing.describe_installed()}


# Files of a campaign that came from somewhere -------------------------------------------------------------------------

ACCUSED = Accusation(
    name="keras.ops.relu\x1b[2J\n::error::owned",
    point="0",
    argument="x",
    claim="gradient",
    kind="mismatch",
    entry=(0,),
    autodiff=1.0,
    numeric=2.0,
    allowed=1e-9,
    reason="",
)
HEAD = {"seed": 0}
FILES = {
    "bytes": b"\xff\xfe\x00model",
    "nesting": b"[" * 100_000,
    "no counts": b'{"name": "a"}',
    "a list for counts": b'{"name": "a", "counts": [1], "accusations": [], "reason": ""}',
    "a text for a count": b'{"name": "a", "counts": {"match": "3"}, "accusations": [], "reason": ""}',
    "a number for a name": b'{"name": 3, "counts": {}, "accusations": [], "reason": ""}',
    "an accusation of another kind": b'{"name": "a", "counts": {}, "accusations": [{"entry": []}], "reason": ""}',
    "a text for a slope": json.dumps(
        Result(name="a", accusations=(ACCUSED,)).to_dict() | {"accusations": [vars(ACCUSED) | {"numeric": "x"}]}
    ).encode(),
    "accusations that are no list": b'{"name": "a", "counts": {}, "accusations": 3, "reason": ""}',
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_campaign_that_somebody_edited(tmp_path, name):
    file = tmp_path / "c.jsonl"
    first = b"" if name in ("bytes", "nesting") else json.dumps({"campaign": HEAD}).encode() + b"\n"
    file.write_bytes(first + FILES[name])
    with pytest.raises(records.CouldNotRun) as caught:
        records.read_results(str(file), head=HEAD)
    assert str(caught.value) == (
        f"--file must name a new file, or one of a campaign. Received: {file}. Choose another path."
    )


def test_names_from_the_file_of_a_campaign_are_shown_harmlessly(tmp_path):
    file = str(tmp_path / "c.jsonl")
    results = [Result(name=ACCUSED.name, accusations=(ACCUSED,)), Result(name="b", reason="\u202e\x00 (x)")]
    records.begin(file, head=HEAD, results=results)
    lines = records.summarize(records.read_results(file, head=HEAD))
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("keras.ops.relu\\x1b[2J\\n::error::owned at 0, gradient, x[0]: mismatch")
