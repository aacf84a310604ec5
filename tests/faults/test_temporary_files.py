"""A folder for temporary files that is full, or that a target fills in the middle.

The command says its verdict or one sentence, no earlier report is lost, and nothing is left.
The folder is a disk in memory (tmpfs); only who may mount one can run these tests.
"""

import errno
import os
import subprocess
import sys

import pytest
from test_surroundings import ROOT

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.endings import exit_status
from keras_ref.frontends.invocations.isolation import raise_refusal
from keras_ref.frontends.invocations.watching import Journal
from keras_ref.homework.exercises import EXERCISES
from keras_ref.supervision.supervise import End

pytestmark = pytest.mark.sampled

#: a target that fills the folder when it is made, and a submission that does when it is imported
FILL = """
import os
def fill():
    file = os.open(os.path.join(os.environ["GRADTWIN_FILLED"], "filler"), os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(file, b"x" * 4096):
            pass
    except OSError:
        pass
    os.close(file)
"""
SHOP = f"""{FILL}
import keras
def build():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="small")
    model.compile(optimizer="sgd", loss="mse")
    fill()
    return model
"""
TARGET = "filling_shop:build"
#: name → (words, statuses that it may end with)
COMMANDS = {
    "check": (("check", TARGET), (0,)),
    "check two": (("check", TARGET, TARGET), (0,)),
    "check --isolate": (("check", "--isolate", TARGET), (2,)),
    "check --workers": (("check", "--workers", "2", TARGET), (0,)),
    "updates": (("updates", TARGET), (0,)),
    "compare": (("compare", TARGET, TARGET), (0,)),
    "lesson": (("lesson", TARGET, "-o", "/dev/null"), (0,)),
    "minimise": (("minimise", TARGET), (0,)),
    "minimise --isolate": (("minimise", "--isolate", TARGET), (2,)),
    "homework": (("homework", "filling_linear.py"), (1,)),
    "report": (("check", TARGET, "--json", "report.json"), (0,)),
}


@pytest.fixture
def disk(tmp_path):
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    can = sys.platform == "linux" and os.geteuid() == 0
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if not can or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounts a disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_target_that_fills_the_folder(disk, tmp_path, name):
    (tmp_path / "filling_shop.py").write_text(SHOP)
    (tmp_path / "filling_linear.py").write_text(f"{EXERCISES['linear'].page()}\n{FILL}\nfill()\n")
    (tmp_path / "earlier.json").write_text("what is there")
    words, statuses = COMMANDS[name]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GRADTWIN_"))}
    environment |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(disk)}
    done = subprocess.run(
        [sys.executable, "-m", "keras_ref", *words],
        cwd=tmp_path,
        env={**environment, "GRADTWIN_FILLED": str(disk)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in statuses, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("gradtwin: ")]
    assert len(said) == (done.returncode == 2)
    assert all("There must be a folder for temporary files that has space" in line for line in said)
    assert [path.name for path in disk.iterdir()] == ["filler"]
    assert (tmp_path / "earlier.json").read_text() == "what is there"
    assert ('"ok": true' in (tmp_path / "report.json").read_text()) if name == "report" else True


def test_a_journal_needs_no_disk(disk, monkeypatch):
    """Half a journal would accuse a target of having ended its process, or be an error of gradtwin's own."""
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    with (disk / "filler").open("wb", buffering=0) as file:
        file.write(b"x" * 2**20)
    journal = Journal()
    with journal.running("shop:build"):
        journal.write("shop:build", report="x" * 2**16, status=0)
    assert journal.begun is None
    assert journal.read()["shop:build"]["report"] == "x" * 2**16
    journal.close()


def test_what_an_isolated_command_cannot_write(tmp_path):
    """The option is none that somebody has given."""
    path = f"{tmp_path}/report.json: No space left"
    said = f"gradtwin: --json must name a file that can be written. Received: {path}. Choose another path."
    with pytest.raises(
        CouldNotRun, match=r"^There must be a folder for temporary files .*/report.json: No space left\. Free some"
    ):
        raise_refusal(End(status=2, limit="", stderr=said), str(tmp_path))


def test_a_folder_that_is_full(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def command(**_):
        raise OSError(28, "No space left on device", str(tmp_path / "gradtwin-x"))

    assert exit_status.run_application(command) == 2
    assert capsys.readouterr().err == (
        "gradtwin: There must be a folder for temporary files that has space and may be written. Received: "
        f"{tmp_path}: No space left on device. Free some space, or name one in TMPDIR.\n"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_file_without_a_name_that_may_not_grow(number, capsys):
    """Its process has a limit, perhaps one that the target has set."""

    def command(**_):
        raise OSError(number, os.strerror(number))

    assert exit_status.run_application(command) == 2
    assert capsys.readouterr().err.startswith(f"gradtwin: The output must be writable. Received: {os.strerror(number)}")
