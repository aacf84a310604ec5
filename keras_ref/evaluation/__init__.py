"""A Keras object as a pure float64 function of its weights and inputs. Whatever it touches is restored."""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
