"""The losses, one family a file. `base.py` holds the reduction that all of them share."""
