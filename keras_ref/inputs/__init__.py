"""What a check is given: targets, call arguments, validated or drawn data."""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
