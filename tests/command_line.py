"""Run `gradtwin …` in this process, and the fixture of a folder to run it in."""

import contextlib
import io
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from keras_ref.frontends.command_line import cli


class Finished(NamedTuple):
    """A command that ended: its exit status and what it wrote."""

    status: int
    out: str
    err: str


def run_gradtwin(*arguments):
    """Run the command in this process and this folder. Returns Finished."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["gradtwin", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    return Finished(stopped.value.code or 0, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Shell:
    """A folder that is the working directory and on sys.path; call it to run the command there."""

    folder: Path

    def __call__(self, *arguments):
        return run_gradtwin(*arguments)

    def write_module(self, name, source):
        """Write name.py, to be imported anew. Returns the target name:build."""
        (self.folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        sys.modules.pop(name, None)
        return f"{name}:build"


@pytest.fixture
def gradtwin(tmp_path, monkeypatch):
    """A Shell in a folder of its own, outside of GitHub Actions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    return Shell(tmp_path)
