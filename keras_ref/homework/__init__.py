"""Homework: a student's NumPy network beside Keras with the same weights, and beside slopes by nudging."""
