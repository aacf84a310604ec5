"""Where Keras exports what the registry of scratch calls a layer, a loss, …"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

#: {kind of the registry: module of Keras}; activations are functions, given by name, and have no place here
HOMES: Mapping[str, Any] = {
    "layer": keras.layers,
    "loss": keras.losses,
    "optimizer": keras.optimizers,
    "schedule": keras.optimizers.schedules,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}
