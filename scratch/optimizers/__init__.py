"""Optimizers, one family per file: base.py holds their base class and the order of a step, which all share."""
