"""Two gradients with their errors become a verdict. The allowed difference is derived here and nowhere else."""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
