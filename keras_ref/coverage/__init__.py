"""What Keras exports, what of it has a NumPy twin, and what is compared.

table.py       the rows: names that Keras exports, against inventory.toml and the registry of scratch
examples.py    one small example of a definition against Keras
processes.py   the examples in processes of their own, so that a crash costs one of them
printing.py    the tables in a terminal
"""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
