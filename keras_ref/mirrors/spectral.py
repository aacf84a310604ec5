"""Spectral normalization holds a layer, as the wrappers do."""

from __future__ import annotations

from keras_ref.mirrors import mirrors
from keras_ref.mirrors.wrappers import holding

mirrors("SpectralNormalization")(holding)
