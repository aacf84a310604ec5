"""The public verbs: each puts evaluation, translation and comparison together."""
