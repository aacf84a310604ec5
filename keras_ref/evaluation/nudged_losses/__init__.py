"""Losses at many nudged points at once."""
