"""Every option of every verb that names no file, with values that no option can take: one sentence, no trace.

What commands compute is a stub (test_all_outputs.py): this is about how values are read.
"""

import functools

import pytest
import typer
from hostile_names import has_only_visible_characters
from test_all_outputs import stub

from keras_ref.frontends.command_line import cli
from keras_ref.frontends.command_line.path_command import is_path, name_path

APPLICATION = typer.main.get_command(cli.app)
#: verb → what it needs beside an option
BESIDE = {
    **dict.fromkeys(("check", "updates", "locate", "minimise"), ("values_shop:build",)),
    "compare": ("a", "b"),
    "replay": ("report.json",),
    "homework": ("none.py",),
    "campaign": ("keras.ops.square",),
    "lesson": ("recipe1", "-o", "l.html", "--force"),
    "recipe": ("recipe1",),
}
OPTIONS = {
    f"{verb} {name_path(one)}": (verb, one)
    for verb, command in APPLICATION.commands.items()
    for one in command.params
    if one.param_type_name == "option" and not is_path(one) and not one.is_flag and name_path(one) != "--help"
}
VALUES = (
    *("", "-1", "-" * 50, "nan", "inf", "1e400", "9" * 400, f"{'9' * 400}h", f"{'9' * 400}G", "0x10", "٣", "½"),
    *("a\0b", "a\nb\x1b[2J::error::owned", "[" * 5000, '{"a": ' * 2000, ",,,", "..", "../../x", "a=b=c", "%s{0}"),
)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "0", "-1", "1e400"])
@pytest.mark.parametrize("verb", ["compare", "homework"])
def test_seconds_that_are_none(gradtwin, verb, seconds):
    status, out, err = gradtwin(verb, *BESIDE[verb], "--time-limit", seconds)
    assert (status, out) == (2, "")
    assert err == (
        f"gradtwin: --time-limit must be a number of seconds above 0. Received: {float(seconds):g}. Pass 60, say.\n"
    )


def test_more_workers_than_a_machine_has(gradtwin):
    assert gradtwin("check", *BESIDE["check"], "--workers", "1025") == (
        2,
        "",
        "gradtwin: --workers must be at most 1024. Received: 1025. Pass 0, say.\n",
    )


def test_there_are_many():
    assert len(OPTIONS) > 60


@pytest.mark.sampled
@pytest.mark.parametrize("name", OPTIONS)
def test_a_value_that_no_option_takes(gradtwin, tmp_path, monkeypatch, name):
    verb, option = OPTIONS[name]
    stub(monkeypatch)
    monkeypatch.setattr("keras_ref.lesson.cli._show", lambda out, *given, **options: out.print("a recipe"))
    (tmp_path / "none.py").write_text("a submission of no exercise")
    (tmp_path / "report.json").write_text('{"run": {}}')
    # a process runs one command; here many share what Typer reads from the functions of all commands
    monkeypatch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
    for value in VALUES:
        status, out, err = gradtwin(verb, *BESIDE.get(verb, ()), name_path(option), value)
        assert status in (0, 1, 2), (value, err)
        assert (status == 2) == bool(err) or "It could not be run." in out, (value, out, err)
        assert err == "" or (err.startswith("gradtwin: ") and err.count("\n") == 1), (value, err)
        assert has_only_visible_characters(err), (value, err)
