"""Layers, one family per file: base.py holds their base class, and `forward` is the definition of a layer."""
