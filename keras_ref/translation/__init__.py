"""scratch to Keras and back: specifications, weights, random draws, known departures."""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
