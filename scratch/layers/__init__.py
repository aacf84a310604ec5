"""The layers, one family a file. `base.py` holds what every layer is; a layer's law is its `forward`."""
