"""The texts of the lesson's pages: each language has all of them, and a page is of one language."""

import re
from pathlib import Path

import browser
import numpy as np
import pytest
from lesson_pages import FACTORY, X, Y, until

import keras_ref.lesson
from keras_ref.lesson import make
from keras_ref.lesson.notebook import build_notebook
from keras_ref.lesson.page import build_page
from keras_ref.lesson.words import read_words
from scratch.recipe import RECIPE_2_NOTE

ROOM = Path(keras_ref.lesson.__file__).parent


def test_the_strings_of_every_language_are_the_same_ones():
    """Every language has every string, with the same placeholders, and none that no program asks for."""
    english, german = read_words("en").texts, read_words("de").texts
    assert set(german) == set(english)
    for name, text in english.items():
        assert sorted(set(re.findall(r"\{\w+\}", text))) == sorted(set(re.findall(r"\{\w+\}", german[name]))), name
    programs = "".join(p.read_text() for p in ROOM.rglob("*.*") if p.suffix in (".py", ".js", ".html"))
    # of a key that a program puts together, what stands before or after its placeholder; or a choice of engine.js
    begins = {"activation_", "loss_", "optimizer_", *re.findall(r"[\"'`](\w+_)\$?\{", programs)}
    ends = set(re.findall(r"\}(_\w+)[\"'`]", programs))
    made = [key for key in english if key.startswith(tuple(begins)) or key.endswith(tuple(ends))]
    assert set(english) - set(re.findall(r"\w+", programs)) <= set(made)
    assert english["note_recipe2"] == RECIPE_2_NOTE


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["recipe2", "classifier"])
def test_a_german_page_has_no_english_in_it(driver, tmp_path, monkeypatch, name):
    """Whatever a reader may see in any part of a page is of its language, also what a screen reader says."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "german_models.py").write_text(FACTORY)
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    target = (name, "") if name == "recipe2" else ("german_models:build", str(tmp_path / "data.npz"))
    made, path = make(*target, epochs=2), tmp_path / "german.html"
    path.write_text(build_page(made, language="de"), encoding="utf-8")
    driver.get(path.as_uri())
    until(driver, "return document.documentElement.dataset.ready === 'yes'")
    for width in (320, 1280):
        browser.emulate(driver, width=width)
        for tab in driver.execute_script("return [...document.querySelectorAll('[role=tab]')].map((t) => t.id)"):
            driver.execute_script("document.getElementById(arguments[0]).click()", tab)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width, (width, tab)
    driver.execute_script("document.getElementById('tab-step').click()")
    cut = (
        "return [...document.querySelectorAll('#panel-step .tight .scroll')].map((e) => e.scrollWidth - e.clientWidth)"
    )
    assert driver.execute_script(cut) == [0]  # the widest table, of the language with the longer words, fits a laptop
    read = driver.execute_script(
        "const names = ['aria-label', 'aria-valuetext', 'title'];"
        "document.querySelectorAll('script, style, .codes pre').forEach((e) => e.remove());"
        "return document.title + document.body.textContent + [...document.querySelectorAll('*')].map("
        "(e) => names.map((n) => e.getAttribute(n) || '').join('|')).join('|')"
    )
    english, german = read_words("en").texts, read_words("de").texts
    pieces = {
        piece.strip()
        for key, text in english.items()
        if text != german[key]
        for piece in re.split(r"\{\w+\}", text)
        if piece.strip().count(" ") >= 2 and piece.strip() not in "".join(german.values())
    }
    assert len(pieces) > 100
    assert not [piece for piece in pieces if piece in read]
    assert german["step_forward"] in read and german["code_printed"] in read and "nudged" not in read


def test_a_notebook_has_the_language_of_its_page():
    """The sentences are those of the language; the programs in it are the same, but for its name."""
    english, german = (build_notebook("recipe1", epochs=2, language=language).cells for language in ("en", "de"))
    texts = read_words("de").texts
    assert texts["book_walk"] in [cell["source"] for cell in german]
    for mine, theirs in zip(english, german, strict=True):
        if mine["cell_type"] == "code":
            assert theirs["source"] == mine["source"].replace("read_words('en')", "read_words('de')")
        else:
            assert theirs["source"] != mine["source"]
