"""Importing TensorFlow, which takes seconds: on a terminal under a progress bar, whose clock goes on meanwhile."""

from __future__ import annotations

from keras_ref.reports.terminal import make_console, make_ticker, show_progress


def start_tensorflow() -> None:
    """Import TensorFlow, with nothing of what it logs meanwhile."""
    with show_progress(make_console()) as bar:
        make_ticker(bar, "loading TensorFlow")
        from keras_ref.inputs.targets import import_quietly

        import_quietly()
