"""The public verbs: each puts evaluation, translation and comparison together."""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
