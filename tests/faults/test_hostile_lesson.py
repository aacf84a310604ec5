"""Names in a lesson: the page, its figures and what the terminal shows have no element, control or command of them."""

import html
import json
import re
from dataclasses import replace

import keras
import pytest
from hostile_names import NAMES, has_only_visible_characters

from keras_ref.errors import BadInput
from keras_ref.lesson import figures, make
from keras_ref.lesson.lesson_model import make_label
from keras_ref.lesson.notebook import build_notebook
from keras_ref.lesson.page import build_page
from keras_ref.lesson.tables import describe_units
from keras_ref.lesson.walkthrough import Unit
from keras_ref.lesson.words import phrase
from keras_ref.reports.escaping import make_printable


def lesson_of_names():
    """A lesson in which everything has a hostile name: its model, units, weights and landscapes."""
    lesson, shown = make("recipe1", epochs=1), [*map(make_printable, NAMES)]
    labels = [make_label(name, (0,), (2,)) for name in NAMES]
    scenes = [replace(lesson.landscapes[0], first=label, second=label) for label in labels]
    return replace(
        lesson,
        name=" ".join(shown),
        title=phrase("title_model", name=" ".join(shown)),
        units=tuple(Unit(phrase("plain", text=name), 1, -1) for name in shown),
        track=replace(lesson.track, labels=tuple(" ".join(labels) for _ in lesson.track.labels)),
        landscapes=tuple(scenes),
    )


@pytest.mark.sampled
def test_names_in_a_lesson():
    lesson = lesson_of_names()
    text = build_page(lesson)
    plain = re.sub("<(style|script)[^>]*>.*?</\\1>", "", text, flags=re.DOTALL)
    for shown in NAMES.values():
        assert html.escape(shown) in plain
    assert "<img" not in plain
    assert "alert(1)</script>" not in text
    assert has_only_visible_characters(text.replace("\t", ""))
    assert all(one.isprintable() for one in describe_units(lesson.units, 1))
    drawn = json.dumps([figures.plot_loss(lesson), figures.plot_landscape(lesson, epoch=1)])
    for scene in range(len(lesson.landscapes)):
        drawn += json.dumps(figures.plot_landscape(replace(lesson, landscapes=lesson.landscapes[scene:]), epoch=1))
    assert "<img" not in drawn
    assert "<script" not in drawn


def test_a_target_in_a_notebook():
    first, *_ = build_notebook("[x](javascript:y)<b>.keras", epochs=1).cells
    assert "back-propagate: \\[x\\](javascript\\:y)\\<b\\>.keras" in first.source


UNTRACEABLE = """
import keras, numpy as np

def build():
    layers = [keras.layers.Dense(2, name="a[left]"), keras.layers.Dense(1, name="b")]
    model = keras.Sequential([keras.Input((2,)), *layers], name="<img src=x>")
    model.compile(optimizer="sgd", loss="mse")
    return model, np.eye(2), np.ones((2, 1))
"""


def test_a_name_that_tensorflow_refuses_to_trace(gradtwin):
    target = gradtwin.write_module("untraceable_shop", UNTRACEABLE)
    with pytest.raises(BadInput, match=r"Received: ValueError: .* is not a valid root scope name"):
        make(target, epochs=1)
    assert keras.Variable([0.0], name="next").path == "next"
