"""Spectral normalization holds a layer, as the wrappers do."""

from __future__ import annotations

from keras_ref.translation.exceptions import mirrors
from keras_ref.translation.exceptions.wrappers import holding

mirrors("SpectralNormalization")(holding)
