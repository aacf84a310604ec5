"""STFTSpectrogram: a window that is given as an array is a tuple in scratch."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from keras_ref.translation.exceptions import reflects
from scratch.layers.signal import STFTSpectrogram


@reflects("STFTSpectrogram")
def spectrogram(keras_layer: Any) -> STFTSpectrogram:
    """The specification of a Keras STFTSpectrogram."""
    config = keras_layer.get_config()
    values = {field.name: config[field.name] for field in fields(STFTSpectrogram)}
    window = values["window"]
    known = window is None or isinstance(window, str)
    return STFTSpectrogram(**values | {"window": window if known else tuple(np.asarray(window).tolist())})
