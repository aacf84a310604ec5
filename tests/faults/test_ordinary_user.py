"""The command as an ordinary user runs it, in a folder of somebody else: one sentence and 2, or it works.

Only root may become another user. The tests run as root in containers, where nothing is unreadable or unwritable.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from test_surroundings import ROOT

from keras_ref.frontends.invocations.invocation import Invocation, make_document
from keras_ref.homework.exercises import EXERCISES
from keras_ref.reports.verdict import Kind, Report, Verdict, write_json_text

pytestmark = [
    pytest.mark.sampled,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="becomes another user"),
]

NOBODY = 65534
#: as root in a view of the file system of its own (unshare): opens the way to Python and gradtwin, where a folder above
#: them is closed to others (/root is), and goes on as nobody. Arguments: a folder for mounts, paths, --, the command
ENTER = f"""
import os, subprocess, sys
from pathlib import Path
end = sys.argv.index("--")
hold, *needed = map(Path, sys.argv[1:end])
for above in sorted({{p for path in needed for p in path.parents}}, key=lambda path: len(path.parts)):
    if not above.stat().st_mode & 1:
        kept = hold / str(len(above.parts))
        kept.mkdir()
        subprocess.run(["mount", "--rbind", above, kept], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", above], check=True)
        for name in {{path.relative_to(above).parts[0] for path in needed if above in path.parents}}:
            (above / name).mkdir()
            subprocess.run(["mount", "--rbind", kept / name, above / name], check=True)
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
os.execv(sys.executable, [sys.executable, *sys.argv[end + 1:]])
"""
SHOP = """
import keras
def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="small")
    model.compile(optimizer="sgd", loss="mse")
    return model
"""
SHUT = ("shut.py", "shut.keras", "shut.npz", "shut.json", "shut.jsonl", "shut.toml", "shut_linear.py", "closed")


@pytest.fixture(scope="module")
def place():
    """A folder of root's with targets that others may read and such that they may not, and folders of nobody beside it.

    Those of pytest are closed to others.
    """
    with tempfile.TemporaryDirectory() as name:
        prepare_shop(Path(name))
        found = run_as_nobody(Path(name), "-c", "import numpy, keras_ref")
        if found.returncode:
            pytest.skip(f"becomes another user: {found.stderr.splitlines()[-1:]}")
        yield Path(name)


def prepare_shop(top):
    top.chmod(0o755)
    shop, mine, files, hold = (top / name for name in ("shop", "mine", "files", "hold"))
    for folder in (shop, mine, files, hold, shop / "closed"):
        folder.mkdir()
    for name in ("open_shop.py", "shut.py"):
        (shop / name).write_text(SHOP)
    for name in ("linear.py", "shut_linear.py"):
        (shop / name).write_text(EXERCISES["linear"].page())
    invocation = Invocation("check", ("open_shop:build",), "", {})
    verdict = Verdict("small/dense/kernel", "forward", Kind.MATCH, 4, 4, {"match": 4}, (0, 1), 1.0, 1.0, visible=1e-9)
    report = Report("open_shop:build", (verdict,), notes=(), seed=0, replay="")
    (shop / "shut.json").write_text(write_json_text(make_document(invocation, {"open_shop:build": report})))
    for name in ("shut.keras", "shut.npz", "shut.jsonl", "shut.toml"):
        (shop / name).write_text("x")
    for name in ("out.json", "out.html", "out.xml", "out.ipynb", "out.txt"):  # which their owner may write, not read
        (mine / name).write_text("what is there")
        (mine / name).chmod(0o222)
    for path in (files, mine, *mine.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    for name in SHUT:
        (shop / name).chmod(0)


def run_as_nobody(top, *words):
    """A process of Python's that ended: without a home, in the folder `shop`, with temporary files in `files`."""
    needed = [*map(Path, (os.path.realpath(sys.executable), sys.executable, sys.prefix, sys.base_prefix)), ROOT, top]
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(top / "files")}
    hold = top / "hold" / str(len(list((top / "hold").iterdir())))
    hold.mkdir()
    enter = ["unshare", "--mount", sys.executable, "-I", "-c", ENTER, str(hold), *map(str, needed), "--"]
    return subprocess.run(
        [*enter, "-B", *words],
        cwd=top / "shop",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def run_command(top, *words):
    """(status, output, the sentence that it says, or "") of the command; nothing is left, and nothing has changed."""

    def look():
        return {
            p: (p.stat().st_mode, p.read_bytes() if p.is_file() else b"")
            for n in ("shop", "mine", "files")
            for p in (top / n).rglob("*")
        }

    before = look()
    done = run_as_nobody(top, "-m", "keras_ref", *words)
    assert "Traceback" not in done.stderr + done.stdout
    said = [line.removeprefix("gradtwin: ") for line in done.stderr.splitlines() if line.startswith("gradtwin: ")]
    assert len(said) == (done.returncode == 2 and "could not be run" not in done.stdout), done.stderr
    assert look() == before
    return done.returncode, done.stdout, "".join(said)


#: what works as it is
WORKS = {
    "version": ("--version",),
    "check": ("check", "open_shop:build"),
    "check --isolate": ("check", "--isolate", "open_shop:build"),
    "check --workers": ("check", "--workers", "2", "open_shop:build"),
    "updates": ("updates", "open_shop:build"),
    "locate": ("locate", "open_shop:build"),
    "compare": ("compare", "open_shop:build", "open_shop:build"),
    "lesson": ("lesson", "recipe1", "-o", "/dev/null"),
    "recipe": ("recipe", "recipe1"),
    "campaign": ("campaign", "keras.ops.relu"),
    "findings": ("findings", "irfft-of-one-column-ends-the-process"),
    "coverage": ("coverage",),
    "minimise": ("minimise", "open_shop:build"),
    "minimise --isolate": ("minimise", "--isolate", "open_shop:build"),
    "bare": (),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_what_an_ordinary_user_may_do(place, name):
    assert run_command(place, *WORKS[name])[::2] == (0, "")


def test_a_submission_of_an_ordinary_user(place):
    status, out, _ = run_command(place, "homework", "linear.py")
    assert (status, "Nothing is written yet." in out) == (1, True)


#: what is not readable → the words of a command
UNREADABLE = {
    "a report": ("replay", "shut.json"),
    "a report in a closed folder": ("replay", "closed/report.json"),
    "a report to minimise": ("minimise", "shut.json"),
    "a factory": ("check", "shut:build"),
    "a factory to isolate": ("check", "--isolate", "shut:build"),
    "a factory to minimise": ("minimise", "--isolate", "shut:build"),
    "a model": ("check", "shut.keras"),
    "a model in a closed folder": ("updates", "closed/model.keras"),
    "a model to isolate": ("check", "--isolate", "shut.keras"),
    "a model of a lesson": ("lesson", "shut.keras", "-o", "/dev/null"),
    "data": ("check", "open_shop:build", "--data", "shut.npz"),
    "a program": ("compare", "open_shop:build", "shut:build"),
    "a file of NumPy": ("compare", "open_shop:build", "numpy:shut.py"),
    "questions": ("lesson", "recipe1", "--exercise", "--questions", "shut.toml", "-o", "/dev/null"),
    "a campaign": ("campaign", "--table", "shut.jsonl"),
    "a campaign in a closed folder": ("campaign", "--table", "closed/c.jsonl"),
    "a submission": ("homework", "shut_linear.py"),
    "a folder of submissions": ("homework", "closed"),
    "a submission in a closed folder": ("homework", "closed/linear.py"),
}
#: those that load no TensorFlow
QUICK = ("a report", "a report in a closed folder")


def mark_slow(names, quick):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", mark_slow(UNREADABLE, QUICK))
def test_what_may_not_be_read(place, name):
    status, out, said = run_command(place, *UNREADABLE[name])
    assert status == 2
    assert "Permission denied" in said + out


#: the words of a command, before the name of what it is to write, and how that ends
WRITES = {
    "check": (("check", "open_shop:build", "--json"), ".json"),
    "check --html": (("check", "--isolate", "open_shop:build", "--html"), ".html"),
    "updates": (("updates", "open_shop:build", "--junit"), ".xml"),
    "replay": (("replay", "closed/report.json", "--json"), ".json"),
    "compare": (("compare", "open_shop:build", "open_shop:build", "--json"), ".json"),
    "lesson": (("lesson", "recipe1", "--output"), ".html"),
    "notebook": (("lesson", "recipe1", "--notebook"), ".ipynb"),
    "minimise": (("minimise", "open_shop:build", "--script"), ".txt"),
    "homework": (("homework", "linear.py", "--json"), ".json"),
    "homework --new": (("homework", "--new"), ""),
    "findings": (("findings", "--html"), ".html"),
    "campaign": (("campaign", "keras.ops.relu", "--file"), ".jsonl"),
}


@pytest.mark.parametrize("name", mark_slow(WRITES, ("check", "check --html", "updates")))
def test_what_may_not_be_written(place, name):
    """In a folder of somebody else's, in one that is closed, and in the place of a file that may not be read."""
    words, ending = WRITES[name]
    tried = [f"new{ending}", f"closed/new{ending}"]
    tried += [f"{place}/mine/out{ending}"] * (place / "mine" / f"out{ending}").is_file()
    for path in tried:
        status, _, said = run_command(place, *words, path)
        assert status == 2, path
        assert words[-1] in said or words[0] == "replay"
        assert path in said or words[0] == "replay"


@pytest.mark.slow
def test_no_folder_for_temporary_files_may_be_written(place):
    """A file in its place, and none of the folders that Python takes otherwise."""
    code = (
        "import sys, tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc', '.']; sys.argv[1:] = ['check', "
        "'open_shop:build']; from keras_ref.frontends.command_line.command import main; main()"
    )
    done = run_as_nobody(place, "-c", code)
    assert done.returncode == 2
    assert "gradtwin: There must be a folder for temporary files that has space and may be written." in done.stderr
