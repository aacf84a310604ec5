"""Entry by entry: the slopes of single entries, their verdicts, and the points beside them."""
