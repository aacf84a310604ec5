"""Names in minimised scripts, settings, records of a campaign and homework: shown as they are, never run."""

import ast
import itertools
import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from hostile_names import NAMES, has_only_visible_characters
from markdown_it import MarkdownIt

from keras_ref.campaign import records
from keras_ref.campaign.results import Accusation, Result
from keras_ref.errors import CouldNotRun
from keras_ref.homework.exercises import find_exercise
from keras_ref.lesson.lesson_model import make_recipe_model
from keras_ref.lesson.live import build_live, draw_layers
from keras_ref.minimisation.cases import CallCase
from keras_ref.minimisation.expressions import Call, Imported, Inline, Item, Listing, Table, Values, is_dotted_name
from keras_ref.minimisation.reading import express, find_reference
from keras_ref.minimisation.showing import run_setup, write_script
from keras_ref.minimisation.source import NotWritable
from keras_ref.reports.escaping import make_printable

#: texts that would end the text, the comment or the argument in which they stand, and then do something
BREAKING = [
    "'", '"', "'''", '"""', "\\", "\\'", '\\"', "a=1, b", "a\nowned()", 'a"\nowned()\n"', "'''\nowned()\n'''",
    '"""\nowned()\n"""', "x); owned(); (x", "x=owned(), y", "{owned()}", "%s{0}", "#", "\\N{BULLET}", "lambda", "a.b",
    "import os", "x\\", "\n    owned()", "\x0cowned()", "\x0bowned()", "\x85owned()", "", " ",
]  # fmt: skip
TEXTS = [*NAMES, *BREAKING]
POINT = Values(np.array([1.0, 2.0]))


class Keyed:
    """Something of a user's that is made of any keywords."""

    def __init__(self, **given):
        self.given = given

    def get_config(self):
        return self.given


def script_of(case):
    """The script of a case that somebody has found to show something."""
    setup = case.setup()
    lines = [f"f = {setup.function}", f"points = {setup.points}"]
    return write_script(run_setup(setup, lines, got=1.0, want=2.0, names=("got", "want")), case.what)


def plain_case(text):
    """A call with a text wherever a model, its configuration or a batch may have one."""
    subject = Call(
        Imported("keras.layers", "Dense"), (1,), (("name", text), (text, 1), ("table", Table(((text, text),))))
    )
    arguments = (Listing((text, Item(Table(((text, POINT),)), text))),)
    return CallCase(subject=subject, is_layer=True, arguments=arguments, keywords=Table(((text, text),)))


@pytest.mark.parametrize("text", TEXTS, ids=make_printable)
def test_a_name_in_a_minimised_script(text):
    """The script is the one of a plain name, with the text in its places: as Python reads it, and as it is seen."""
    script = script_of(plain_case(text))
    tree, plain = ast.parse(script), ast.parse(script_of(plain_case("a b")))
    assert [type(node) for node in ast.walk(tree)] == [type(node) for node in ast.walk(plain)] or text.isidentifier()
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    assert texts.count(text) >= 5
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "owned"]
    assert has_only_visible_characters(script)


@pytest.mark.parametrize("text", TEXTS, ids=make_printable)
def test_a_subject_whose_name_is_any_text(text):
    """In the comment that says what is wrong, which is one line."""
    case = CallCase(subject=text, is_layer=False, arguments=(POINT,))
    first, second, *_ = script_of(case).split("\n")
    assert first.startswith(f"# gradtwin: {make_printable(text)}")
    assert second.startswith("import os, sys; ")


@pytest.mark.parametrize("text", TEXTS, ids=make_printable)
def test_keywords_of_a_configuration(text):
    """What came from a configuration is given back as it is, by the text that is run."""
    script = script_of(CallCase(subject=express(Keyed(**{text: text})), is_layer=False, arguments=(POINT,)))
    lines = [line for line in script.split("\n") if line.startswith("f = ")]
    call = ast.parse(lines[0].removeprefix("f = ")).body[0].value.body.func
    made = eval(compile(ast.Expression(call), "<call>", "eval"), {"Keyed": Keyed})
    assert made.given == {text: text}


def function_of_the_test(x):
    return x


@pytest.mark.parametrize("text", [text for text in TEXTS if not is_dotted_name(text)], ids=make_printable)
def test_classes_functions_and_modules_of_any_name(text, monkeypatch):
    """A class or module that no statement can import by its name is not written; a function has that of its source."""
    made = types.ModuleType(text)
    monkeypatch.setitem(sys.modules, text, made)
    for named in (types.new_class("Named", (Keyed,)), types.new_class("Named", (keras.layers.Layer,))):
        named.__module__ = named.__qualname__ = text
        setattr(made, text, named)
        with pytest.raises(NotWritable):
            find_reference(named)
    with pytest.raises(NotWritable):
        express(made)
    function = types.FunctionType(function_of_the_test.__code__, {})
    function.__module__ = function.__name__ = function.__qualname__ = text
    setattr(made, text, function)
    assert find_reference(function) == Inline("function_of_the_test", "def function_of_the_test(x):\n    return x")


def test_names_of_a_real_model_do_not_reach_its_script():
    """Names of layers say nothing of what is computed: they are left out."""
    for text in ("x[left]", "a\n::error::owned", "'''", "\u202e"):
        layer = keras.layers.Dense(1, name=text)
        assert express(keras.Sequential([keras.Input((2,)), layer])) == express(
            keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        )


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.sampled
@pytest.mark.parametrize("text", [text for text in TEXTS if text != "\ud800"], ids=make_printable)
def test_a_name_in_settings(gradtwin, tmp_path, text):
    """As a key, a value, a choice, a pattern: one sentence in which everything is visible."""
    quoted = json.dumps(text)
    for line in (f"{quoted} = 1", f"seed = {quoted}", f"effort = {quoted}", f"expect = [{quoted}]"):
        (tmp_path / "pyproject.toml").write_text(f"[tool.gradtwin]\n{line}\n", encoding="utf-8")
        status, out, err = gradtwin("check", "nothing:build")
        assert (status, out) == (2, ""), line
        assert err.startswith("gradtwin: ") and err.count("\n") == 1, (line, err)
        assert has_only_visible_characters(err), line


# Records of a campaign ------------------------------------------------------------------------------------------------


def accused(name):
    accusation = Accusation(
        name=name, point=name, argument=name, claim=name, kind=name, entry=(0,), autodiff=1.0, numeric=2.0,
        allowed=1e-9, reason=name,
    )  # fmt: skip
    return Result(name=name, counts={f"{name}: {name}": 2}, accusations=(accusation,))


def tokens(lines):
    """What Markdown makes of lines, without their text."""
    render = MarkdownIt("commonmark").enable("table").parse
    return [
        (token.type, [child.type for child in token.children or ()])
        for token in render("\n".join(lines))
        if token.type != "text"
    ]


@pytest.mark.sampled
@pytest.mark.parametrize("name", TEXTS, ids=make_printable)
def test_a_name_in_the_record_of_a_campaign(gradtwin, tmp_path, name):
    """A record that came from somewhere: what it came to, its tables, and the commands that show them."""
    file = str(tmp_path / "c.jsonl")
    results = [accused(f"m.{name}"), Result(name=f"n.{name}", reason=f"{name} (x)")]
    records.begin(file, head={"seed": 0}, results=results)
    read = records.read_results(file, head={"seed": 0})
    lines, table = records.summarize(read), records.tabulate(read)
    assert all(line.isprintable() for line in (*lines, *table))
    assert not [line for line in lines if line.lstrip().startswith(("::", "##"))]
    plain = [accused("m.x"), Result(name="n.x", reason="x (x)")]
    assert tokens(table) == tokens(records.tabulate(plain))
    status, out, err = gradtwin("campaign", "--table", file)
    assert (status, err) == (0, "")
    assert out.split("\n") == [*table, ""]


# What a reader of a lesson takes home ---------------------------------------------------------------------------------


@pytest.mark.sampled
@pytest.mark.parametrize("name", TEXTS, ids=make_printable)
def test_a_name_in_what_is_taken_home(name):
    """The page writes layers' names as a list of texts into programs, and a notebook, that a reader takes home."""
    lesson_model = make_recipe_model("recipe2")
    model, ends = lesson_model.model, (" one", " two")
    called = dict(zip(model.layers, (name + end for end in ends), strict=True))
    renamed = replace(
        model,
        layers={called[old]: layer for old, layer in model.layers.items()},
        calls=tuple(replace(call, layer=called[call.layer]) for call in model.calls),
    )
    weights = {f"{called[key.split('/')[0]]}/{key.split('/')[1]}": value for key, value in lesson_model.weights.items()}
    given = replace(lesson_model, model=renamed, weights=weights)
    shown = [make_printable(one) for one in called.values()]
    live = build_live(given)
    assert [live.names["hidden"], live.names["output"]] == shown
    assert [one.name for one in draw_layers(given)] == shown
    line = f"NAMES = {json.dumps(shown, ensure_ascii=False)}"  # as assets/programs.js writes them
    assert has_only_visible_characters(line)
    (assigned,) = ast.parse(line).body
    assert ast.literal_eval(assigned.value) == shown


# Homework -------------------------------------------------------------------------------------------------------------


def file_names():
    return [text[:80] for text in TEXTS if text.strip() and "/" not in text and "\0" not in text and text != "\ud800"]


def test_submissions_of_any_name(gradtwin, tmp_path):
    """Take-home files: their names, and the exercises that they say they are of; none of them is run."""
    folder = tmp_path / "in"
    folder.mkdir()
    pairs = list(itertools.zip_longest(file_names(), TEXTS, fillvalue="x"))
    for name, said in pairs:
        Path(folder, f"{name} .py").write_bytes(f"EXERCISE = {said!r}\nraise SystemExit('ran')\n".encode())
    with pytest.raises(CouldNotRun):
        find_exercise(str(folder / f"{pairs[0][0]} .py"))
    status, out, err = gradtwin("homework", "in", "--json", "h.json", "--junit", "h.xml")
    assert (status, err) == (2, "")
    assert has_only_visible_characters(out)
    assert not [line for line in out.split("\n") if line.lstrip().startswith(("::", "##"))]
    graded = json.loads(Path("h.json").read_text(encoding="utf-8"))["submissions"]
    assert len(graded) == len([path for path in folder.iterdir() if path.name[0] not in "._"])
    assert all(one["path"].isprintable() and one["refused"].isprintable() for one in graded)
