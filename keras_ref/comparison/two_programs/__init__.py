"""Two programs with the same weights: their values, gradients and updates, and where they part."""
