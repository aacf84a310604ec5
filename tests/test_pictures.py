"""The pictures of the README can be made again: what tests/pictures.py replaces in gradtwin is there."""

import sys

import pictures
import pytest
from rich.console import Console

from keras_ref.frontends.command_line import running


def test_commands_print_on_a_console_that_records():
    console, before = Console(), running.make_console
    with pictures.recording(console):
        assert running.make_console() is console
    assert running.make_console is before


@pytest.mark.sampled
def test_the_picture_of_a_failure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "models", None)  # put back afterwards, whatever module of this name there is
    monkeypatch.delitem(sys.modules, "models")
    svg = pictures.failure(tmp_path)
    assert "gradtwin&#160;check&#160;models:build" in svg
    assert all(
        f">{word}" in svg for word in ("verdict", "worst&#160;at", "autodiff", "numeric", "differ&#160;by", "replay")
    )
