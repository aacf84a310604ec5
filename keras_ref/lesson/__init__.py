"""The lesson: a page or a notebook that shows, number by number, that nudging and back-propagation are the same thing.

subject.py     what it is about: a recipe or a small model, with its data, loss and optimizer
sides.py       both trainings, recorded: the twin that nudges, and Keras's own train_step
steps.py       one epoch, number by number; units that die
what_if.py     nudges, learning rates, batches, optimizers, landscapes
records.py     Lesson: all of it, frozen; make(target)
figures.py     Plotly specifications;   tables.py  HTML tables
page.py        one self-contained file;   notebook.py  the same as a notebook;   cli.py  the commands
"""

from typing import Any

__all__ = ["Lesson", "make"]


def __getattr__(name: str) -> Any:
    """Import lazily: the command line starts without TensorFlow."""
    if name not in ("Lesson", "make"):
        raise AttributeError(f"module 'keras_ref.lesson' has no attribute {name!r}")
    from keras_ref.lesson import lesson as records

    return getattr(records, name)
