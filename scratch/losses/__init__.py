"""Losses, one family per file: base.py holds their base class and the reduction that all losses share."""
