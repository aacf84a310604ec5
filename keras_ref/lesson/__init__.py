"""The lesson: a page or a notebook that shows, number by number, that nudging and back-propagation are the same thing.

lesson_model.py   what a lesson is about: a recipe or a small model, with its data, loss and optimizer
two_trainings.py  both trainings, recorded: the NumPy twin that nudges, and Keras's own train_step
walkthrough.py    one epoch, number by number; ReLU units that die;   explain.py  one weight in sentences
what_if.py        other nudges, learning rates, batch sizes and optimizers; landscapes
lesson.py         Lesson, the record of all that;   make(target) computes one
live.py           what the live part of a page begins with; the network, drawn; the questions of an exercise
assets/           the page's text, style, strings and programs; engine.js computes the live part
words.py          the texts of the pages in each language;   captions.py  what to look for in each figure
figures.py        Plotly specifications;   tables.py  HTML tables
page.py           one self-contained file;   notebook.py  the same as a notebook
recipe_table.py, keras_recipe.py   the book's recipes beside Keras;   cli.py  the two commands
"""

from typing import Any

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)

__all__ = ["Lesson", "make"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line starts without TensorFlow."""
    if name not in __all__:
        raise AttributeError(f"module 'keras_ref.lesson' has no attribute {name!r}")
    from keras_ref.lesson import lesson

    return getattr(lesson, name)
