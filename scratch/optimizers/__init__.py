"""The optimizers, one family a file. `base.py` holds the order of a step, which all of them share."""
