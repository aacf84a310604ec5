"""SpectralNormalization: it holds a layer, and is mirrored as the wrappers are."""

from __future__ import annotations

from keras_ref.translation.exceptions import mirrors
from keras_ref.translation.exceptions.wrappers import holding

mirrors("SpectralNormalization")(holding)
