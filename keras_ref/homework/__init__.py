"""Homework: a student's NumPy network beside Keras with the same weights, and beside slopes by nudging."""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
