"""Traced computations: their operations, how these round, and how they are called."""
