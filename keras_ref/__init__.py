"""Keras beside it: mirrored models, autodiff, comparison."""
